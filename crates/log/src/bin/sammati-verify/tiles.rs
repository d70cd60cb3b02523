//! Proofs that are made here, from tiles: each is verified against the signed root, so the tiles need not be believed.

use std::cell::RefCell;
use std::collections::HashMap;

use sammati_log::checkpoint::{Checkpoint, MAX_NOTE};
use sammati_log::proof::{Plan, verify_consistency, verify_inclusion};
use sammati_log::tile::{self, Tile, TileId, TileSet};
use sammati_log::{Error, Hash32};

use super::input::{Failure, text};
use super::source::Source;
use super::trust::Keys;

/// Tiles that are kept while a log is read through: the newest of each level, and a few more.
const KEPT: usize = 64;

/// The tiles of a log as they are under one checkpoint.
pub(crate) struct Tiles<'a> {
    source: &'a Source,
    checkpoint: Checkpoint,
    kept: RefCell<HashMap<TileId, Tile>>,
}

impl<'a> Tiles<'a> {
    /// Under this checkpoint.
    pub(crate) fn of(source: &'a Source, checkpoint: Checkpoint) -> Self {
        Self {
            source,
            checkpoint,
            kept: RefCell::default(),
        }
    }

    /// Under the newest checkpoint of the log.
    pub(crate) fn newest(source: &'a Source, keys: &Keys<'_>) -> Result<Self, Failure> {
        let note = newest(source)?;
        Ok(Self::of(source, keys.open("checkpoint", &note)?))
    }

    pub(crate) const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub(crate) const fn source(&self) -> &'a Source {
        self.source
    }

    /// Verifies that the leaf at `index` has this hash.
    pub(crate) fn inclusion(&self, index: u64, leaf: Hash32) -> Result<(), Failure> {
        let (size, root) = (self.checkpoint.size(), self.checkpoint.root());
        if index >= size {
            let why = format!("leaf {index} is asked for, and it has {size}");
            return Err(Failure::unusable("the log", why));
        }
        let path = self.build(&Plan::inclusion(index, size)?)?;
        Ok(verify_inclusion(leaf, index, size, &path, root)?)
    }

    /// Verifies that the log continues `earlier`. Nobody signed the tiles: only those that make the root that was signed tell
    /// what was before.
    pub(crate) fn continues(&self, earlier: &Checkpoint) -> Result<(), Failure> {
        let (first, second) = (earlier.size(), self.checkpoint.size());
        if second < first {
            // A cache may serve it, or the log was set back: only time tells.
            let why = format!("it is older than what was kept: {second} leaves, after {first}");
            return Err(Failure::unusable("checkpoint", why));
        }
        let (stated, root) = (earlier.root(), self.checkpoint.root());
        if first == second {
            return Ok(verify_consistency(first, second, stated, root, &[])?);
        }
        let before = self.build(&Plan::root(first)?)?;
        let path = self.build(&Plan::consistency(first, second)?)?;
        for computed in before {
            verify_consistency(first, second, computed, root, &path)
                .map_err(|error| Failure::from(error).about("the tiles").unproven())?;
            if computed != stated {
                let (which, size) = ("earlier", first);
                return Err(Error::Inconsistent {
                    which,
                    size,
                    computed,
                    stated,
                }
                .into());
            }
        }
        Ok(())
    }

    /// One tile, not verified.
    pub(crate) fn tile(&self, id: TileId) -> Result<Tile, Failure> {
        if let Some(tile) = self.kept.borrow().get(&id) {
            return Ok(tile.clone());
        }
        let tile = self.fetch(id)?;
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= KEPT {
            kept.retain(|other, _| other.level() > 0);
            if kept.len() >= KEPT {
                kept.clear();
            }
        }
        kept.insert(id, tile.clone());
        Ok(tile)
    }

    /// A partial tile may be gone once it is full: then its beginning is taken from the full one.
    fn fetch(&self, id: TileId) -> Result<Tile, Failure> {
        let limit = usize::from(tile::FULL) * Hash32::LEN;
        let full = TileId::new(id.level(), id.index(), tile::FULL);
        let width = usize::from(id.width()) * Hash32::LEN;
        let bytes = match self.source.fetch(&id.path(), limit)? {
            Some(bytes) => bytes,
            None => {
                let full = full.ok().filter(|full| *full != id);
                let fetched = full
                    .map(|full| self.source.fetch(&full.path(), limit))
                    .transpose()?
                    .flatten();
                let bytes = fetched.ok_or_else(|| Failure::unusable(&id.path(), "the log has not got it"))?;
                bytes.get(..width).map(<[u8]>::to_vec).unwrap_or(bytes)
            }
        };
        Tile::decode(id, &bytes).map_err(|error| Failure::refuted(&id.path(), error))
    }

    fn build(&self, plan: &Plan) -> Result<Vec<Hash32>, Failure> {
        let ids = tile::holding(&plan.needs(), self.checkpoint.size())?;
        let tile = |id| self.tile(id).map_err(Failure::unproven);
        let tiles: TileSet = ids.into_iter().map(tile).collect::<Result<_, _>>()?;
        plan.build(&tiles).map_err(|error: Error| error.into())
    }
}

/// The newest checkpoint of a log, as it is served.
pub(crate) fn newest(source: &Source) -> Result<String, Failure> {
    let bytes = source.fetch("checkpoint", MAX_NOTE)?;
    text(
        "checkpoint",
        bytes.ok_or_else(|| Failure::unusable("checkpoint", "the log has none"))?,
    )
}
