//! What strace wrote: a line for a call, or two where another thread's came between.

use std::borrow::Cow;
use std::collections::HashMap;

/// What each line begins with, after the number of its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Nothing.
    None,
    /// The time (`-ttt`).
    Time,
}

/// A call, its two lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The line in which it began, from 0.
    pub began: usize,
    /// The line in which it returned.
    pub ended: usize,
    /// When it began, as written; empty without [`Stamp::Time`].
    pub time: &'a str,
    /// `name(arguments) = result`.
    pub call: Cow<'a, str>,
}

/// The calls of a record, in the order in which they returned. An `Err` is the number of a line that cannot be joined.
pub fn calls(text: &str, stamp: Stamp) -> impl Iterator<Item = Result<Line<'_>, usize>> {
    let mut open = HashMap::new();
    text.lines().enumerate().filter_map(move |(n, line)| {
        // Numbers of threads are padded, so there may be several blanks.
        let (thread, rest) = line.trim_start().split_once(' ')?;
        let rest = rest.trim_start();
        let (time, rest) = match stamp {
            Stamp::None => ("", rest),
            Stamp::Time => rest.split_once(' ')?,
        };
        // Of the last calls of a process that was killed it is not known that they returned.
        if rest.starts_with("+++") || rest.starts_with("---") || rest.ends_with(" <detached ...>") {
            return None;
        }
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (n, time, begun));
            return None;
        }
        let Some(resumed) = rest.strip_prefix("<... ") else {
            let call = Cow::Borrowed(rest);
            return Some(Ok(Line {
                began: n,
                ended: n,
                time,
                call,
            }));
        };
        let joined = open.remove(thread).zip(resumed.split_once(" resumed>"));
        Some(joined.ok_or(n).map(|((began, time, first), (_, last))| Line {
            began,
            ended: n,
            time,
            call: Cow::Owned(format!("{first}{last}")),
        }))
    })
}

/// The bytes of `\x2f\x74…` (`-xx`), without its quotes; `None` for anything else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |piece: &[u8]| match piece {
        [b'\\', b'x', high, low] => Some((digit(*high)? << 4) | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(4).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_two_lines_is_one_call() {
        let text = "12   1.5 read(3 <unfinished ...>\n7 1.6 write(4) = 1\n12 1.7 <... read resumed>) = 2\n7 1.8 +++ exited +++\n";
        let all: Vec<_> = calls(text, Stamp::Time).map(Result::unwrap).collect();
        let told = all
            .iter()
            .map(|line| (line.began, line.ended, line.time, line.call.as_ref()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [(1, 1, "1.6", "write(4) = 1"), (0, 2, "1.5", "read(3) = 2")]
        );
        let halves: Vec<_> = calls("9 <... read resumed>) = 2\n", Stamp::None).collect();
        assert_eq!(halves, [Err(0)]);
    }

    #[test]
    fn text_is_read_in_hex_alone() {
        assert_eq!(unhex("\\x2f\\x61").unwrap(), b"/a");
        assert_eq!(unhex("").unwrap(), b"");
        for bad in ["/a", "\\x2", "\\xzz", "\\x2f\\"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
