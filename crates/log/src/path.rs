//! The paths of `c2sp.org/tlog-tiles` below a log's prefix: `checkpoint`, `tile/<L>/<N>[.p/<W>]` and
//! `tile/entries/<N>[.p/<W>]`.

use crate::entries::EntriesId;
use crate::tile::{FULL, TileId};
use crate::{Error, text};

/// The longest path that names anything.
const MAX_PATH: usize = 64;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// The newest checkpoint.
    Checkpoint,
    /// A hash tile.
    Tile(TileId),
    /// An entry bundle.
    Entries(EntriesId),
}

impl Resource {
    /// Reads a path below the log's prefix, without a slash before it; each thing has one spelling only.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what no log serves.
    pub fn parse(path: &str) -> Result<Self, Error> {
        if path == "checkpoint" {
            Ok(Self::Checkpoint)
        } else if path.starts_with("tile/entries/") {
            EntriesId::parse_path(path).map(Self::Entries)
        } else {
            TileId::parse_path(path).map(Self::Tile)
        }
    }
}

/// `<N>[.p/<W>]`: the index in groups of three digits, and the width unless it is full.
pub(crate) fn format(index: u64, width: u16) -> String {
    let mut digits = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        digits = format!("x{:03}/{digits}", rest % 1000);
        rest /= 1000;
    }
    if width == FULL {
        digits
    } else {
        format!("{digits}.p/{width}")
    }
}

/// The inverse of [`format()`]; accepts that one spelling only.
pub(crate) fn parse(text: &str) -> Option<(u64, u16)> {
    if text.len() > MAX_PATH {
        return None;
    }
    let (groups, width) = match text.split_once(".p/") {
        Some((groups, width)) => (groups, u16::try_from(text::decimal(width)?).ok()?),
        None => (text, FULL),
    };
    let mut index = 0_u64;
    for group in groups.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    (format(index, width) == text).then_some((index, width))
}
