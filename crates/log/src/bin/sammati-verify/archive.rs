//! A whole log: every leaf is hashed again, every tile made again, and the root is the one that was signed.

use std::io::{IsTerminal, Write};

use sammati_log::edge::RightEdge;
use sammati_log::entries::{self, EntriesId, MAX_BUNDLE};
use sammati_log::hash::leaf_hash;
use sammati_log::subject::Chains;
use sammati_log::tile::{FULL, Tile, grow};
use serde_json::json;

use crate::input::{Answer, Failure};
use crate::source::Source;
use crate::tiles::Tiles;
use crate::trust::Keys;
use crate::{describe, facts};

/// Checks the log at `source`.
pub(crate) fn check(source: &Source, keys: &Keys<'_>) -> Answer {
    let tiles = Tiles::newest(source, keys)?;
    let checkpoint = tiles.checkpoint();
    let (mut edge, mut open, mut seen) = (RightEdge::empty(), Vec::new(), 0_u64);
    let mut progress = Progress::of(checkpoint.size());
    let mut chains = Chains::default();
    for id in entries::all(checkpoint.size()) {
        let (held, bytes) = fetch(source, id)?;
        let leaves = entries::decode(held, &bytes).map_err(|error| Failure::refuted(&held.path(), error))?;
        let mut hashes = Vec::with_capacity(leaves.len());
        for (index, leaf) in id.leaves().zip(leaves) {
            chains
                .take(index, leaf)
                .map_err(|error| Failure::from(error).about(&held.path()))?;
            hashes.push(leaf_hash(leaf));
        }
        let completed = edge.extend(hashes);
        for made in grow(&mut open, &completed)? {
            if made.id().is_full() {
                seen += compare(&tiles, &made)?;
            }
        }
        progress.at(&id);
    }
    for made in &open {
        seen += compare(&tiles, made)?;
    }
    progress.end();
    if edge.root() != checkpoint.root() {
        let why = format!(
            "its {} leaves make the root {}, and {} was signed",
            edge.size(),
            edge.root(),
            checkpoint.root()
        );
        return Err(Failure::refuted("the log", why));
    }
    let sentence = format!("all leaves and {seen} tiles make {}", describe(checkpoint));
    Ok((sentence, json!({"checkpoint": facts(checkpoint), "tiles": seen})))
}

/// The bundle of this name. A partial one may be gone once it is full: then it is the beginning of the full one.
fn fetch(source: &Source, id: EntriesId) -> Result<(EntriesId, Vec<u8>), Failure> {
    let full = EntriesId::new(id.index(), FULL)?;
    for held in [id, full] {
        if let Some(bytes) = source.fetch(&held.path(), MAX_BUNDLE)? {
            return Ok((held, bytes));
        }
    }
    Err(Failure::unusable(&id.path(), "the log has not got it"))
}

/// Holds the tile that the log has against the one that the leaves make.
fn compare(tiles: &Tiles<'_>, made: &Tile) -> Result<u64, Failure> {
    if tiles.tile(made.id())? == *made {
        return Ok(1);
    }
    Err(Failure::refuted(&made.id().path(), "it is not what the leaves make"))
}

/// Tells on standard error how far it is: each percent, where somebody looks, and else each tenth.
struct Progress {
    size: u64,
    told: u64,
    step: u64,
}

impl Progress {
    /// Silent for a small log.
    fn of(size: u64) -> Self {
        let step = if std::io::stderr().is_terminal() { 1 } else { 10 };
        Self {
            size,
            told: if size < 1 << 16 { 100 } else { 0 },
            step,
        }
    }

    fn at(&mut self, id: &EntriesId) {
        let percent = id.leaves().end.saturating_mul(100) / self.size.max(1);
        if percent >= self.told + self.step {
            self.told = percent;
            let end = if self.step == 1 { '\r' } else { '\n' };
            let _ = write!(std::io::stderr(), "{percent} % of {} leaves{end}", self.size);
        }
    }

    fn end(&self) {
        if self.size >= 1 << 16 && self.step == 1 {
            let _ = writeln!(std::io::stderr());
        }
    }
}
