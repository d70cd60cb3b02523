//! Small parts that the text formats share.

use crate::{Error, Hash32};

/// Hashes a path may have: more than any tree of [`crate::MAX_SIZE`] needs.
pub(crate) const MAX_PATH: usize = 64;

/// A decimal number without sign or leading zeroes.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

/// One base64 hash per line, each line ended by a newline.
pub(crate) fn parse_path(what: &'static str, text: &str) -> Result<Vec<Hash32>, Error> {
    let mut path = Vec::new();
    for line in text.split_inclusive('\n') {
        if path.len() == MAX_PATH {
            return Err(Error::malformed(what, format!("more than {MAX_PATH} hashes")));
        }
        let hash = line
            .strip_suffix('\n')
            .ok_or_else(|| Error::malformed(what, "the last line does not end in a newline"))?;
        path.push(
            hash.parse()
                .map_err(|error| Error::malformed(what, format!("hash {}: {error}", path.len() + 1)))?,
        );
    }
    Ok(path)
}

/// The inverse of [`parse_path`].
pub(crate) fn format_path(path: &[Hash32]) -> String {
    path.iter().map(|hash| format!("{hash}\n")).collect()
}
