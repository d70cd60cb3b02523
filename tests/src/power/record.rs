//! The record that strace wrote, call by call.

use std::collections::HashMap;
use std::path::PathBuf;

use super::image::Image;
use crate::story::Failure;
use crate::strace::{self, Stamp};

/// A call that returned.
struct Call<'a> {
    name: &'a str,
    args: Vec<&'a str>,
    /// Line in which it began.
    began: usize,
    /// Line in which it returned.
    ended: usize,
    returned: i64,
    /// What it returned is strace's, and the call itself was not made.
    injected: bool,
}

/// Tells the image of every call in the record, in the order in which they returned.
pub(super) fn replay(text: &str, image: &mut Image) -> Result<(), Failure> {
    let mut places = HashMap::new();
    let line = |n: usize| text.lines().nth(n).unwrap_or_default();
    for joined in strace::calls(text, Stamp::None) {
        let joined = joined.map_err(|n| bad(n, line(n)))?;
        let n = joined.ended;
        // The last line may be half of one: the process was killed.
        if let Some(call) = parse(&joined.call, joined.began, n) {
            apply(&call, image, &mut places).map_err(|why| format!("{why}: {}", shortened(line(n))))?;
        } else if !joined.call.contains(" = ?") && text.lines().nth(n + 1).is_some() {
            return Err(bad(n, line(n)));
        }
    }
    Ok(())
}

fn bad(n: usize, line: &str) -> Failure {
    format!("line {} of the record cannot be read: {}", n + 1, shortened(line)).into()
}

fn shortened(line: &str) -> String {
    line.chars().take(200).collect()
}

/// Everything quoted is in hex, so commas and brackets are strace's own.
fn parse(line: &str, began: usize, ended: usize) -> Option<Call<'_>> {
    let (name, rest) = line.split_once('(')?;
    let (args, result) = rest.rsplit_once(") = ").or_else(|| {
        // strace pads short lines before the result.
        let at = rest.rfind(" = ")?;
        Some((rest[..at].trim_end().strip_suffix(')')?, &rest[at + 3..]))
    })?;
    let number = result.split([' ', '<']).next()?;
    Some(Call {
        name,
        args: args.split(", ").collect(),
        began,
        ended,
        returned: number.parse().ok()?,
        injected: result.ends_with("(INJECTED)"),
    })
}

/// The position of each handle that is written without one.
type Places = HashMap<String, i64>;

fn apply(call: &Call<'_>, image: &mut Image, places: &mut Places) -> Result<(), Failure> {
    if call.returned < 0 || call.injected {
        return Ok(());
    }
    let arg = |n: usize| call.args.get(n).copied().ok_or("an argument is missing");
    let number = |n: usize| arg(n)?.parse::<i64>().map_err(|_| "an argument is no number");
    match call.name {
        "open" | "openat" | "creat" => {
            let Some(path) = path_of_result(call, arg(usize::from(call.name == "openat"))?)? else {
                return Ok(());
            };
            if !image.keeps(&path) {
                return Ok(());
            }
            let flags = call.args.join("|");
            if call.name == "creat" || flags.contains("O_CREAT") {
                image.create(&path);
            }
            if call.name == "creat" || flags.contains("O_TRUNC") {
                image.truncate(&path, 0, call.ended);
            }
        }
        "fsync" | "fdatasync" => image.sync(&handle(arg(0)?)?.1, call.began),
        "pwrite64" | "write" | "lseek" | "ftruncate" => {
            let (fd, path) = handle(arg(0)?)?;
            if !image.keeps(&path) {
                return Ok(());
            }
            match call.name {
                "ftruncate" => image.truncate(&path, usize::try_from(number(1)?)?, call.ended),
                "lseek" => drop(places.insert(fd, call.returned)),
                name => {
                    let written = usize::try_from(call.returned)?;
                    let at = if name == "pwrite64" {
                        number(3)?
                    } else {
                        let place = places.get_mut(&fd).ok_or("a write at an unknown place")?;
                        *place += call.returned;
                        *place - call.returned
                    };
                    let mut bytes = unhex(arg(1)?)?;
                    if bytes.len() < written {
                        return Err("not all that was written is recorded".into());
                    }
                    bytes.truncate(written);
                    image.write(&path, usize::try_from(at)?, bytes, call.ended);
                }
            }
        }
        "unlink" | "unlinkat" => {
            let path = text(arg(usize::from(call.name == "unlinkat"))?)?;
            image.unlink(&path);
        }
        other => {
            let touches = call.args.iter().any(|arg| match handle(arg) {
                Ok((_, path)) => image.keeps(&path),
                Err(_) => text(arg).is_ok_and(|path| image.keeps(&path)),
            });
            if touches {
                return Err(format!("{other} changes a file in a way that is not modelled").into());
            }
        }
    }
    Ok(())
}

/// The path that was opened; relative ones are none of ours.
fn path_of_result(call: &Call<'_>, name: &str) -> Result<Option<PathBuf>, Failure> {
    let _ = call;
    let path = text(name)?;
    Ok(path.is_absolute().then_some(path))
}

/// `7<\x2f…>`: the number of a handle and the path it leads to.
fn handle(arg: &str) -> Result<(String, PathBuf), Failure> {
    let (fd, path) = arg.split_once('<').ok_or("a handle without its path")?;
    let path = path.split('>').next().unwrap_or_default();
    Ok((fd.to_owned(), as_path(unhex(&format!("\"{path}\""))?)))
}

fn text(arg: &str) -> Result<PathBuf, Failure> {
    Ok(as_path(unhex(arg)?))
}

fn as_path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

/// `"\x2f\x74…"`.
fn unhex(arg: &str) -> Result<Vec<u8>, Failure> {
    let hex = arg.strip_prefix('"').and_then(|arg| arg.strip_suffix('"'));
    let hex = hex.ok_or("not a whole text")?;
    strace::unhex(hex).ok_or_else(|| "text that is not in hex".into())
}
