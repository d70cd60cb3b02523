//! Parts of a log that verify by themselves: some of its leaves, and the tiles that lead from them to the root that was
//! signed. Whoever has a part and the checkpoint needs no other part to check it.

use std::ops::Range;

use crate::entries::{self, EntriesId};
use crate::error::check_size;
use crate::proof::{self, HashReader, subtrees};
use crate::tile::{self, FULL, HEIGHT, LEVELS, Tile, TileId, TileSet};
use crate::{Error, Hash32};

/// Leaves that a part has at most: those under one full tile of level 1.
pub const MAX_PART: u64 = (FULL as u64) * (FULL as u64);

/// Neighbouring leaves of a log of one size, in whole bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    size: u64,
    leaves: Range<u64>,
}

impl Part {
    /// These leaves of a log of `size`. They begin with a bundle, end with one or with the log, and are no more than
    /// [`MAX_PART`].
    ///
    /// # Errors
    /// [`Error::IndexBeyondTree`], [`Error::TooLarge`], [`Error::Malformed`].
    pub fn new(size: u64, leaves: Range<u64>) -> Result<Self, Error> {
        check_size(size)?;
        let Range { start, end } = leaves;
        if start >= size || end > size {
            let index = start.max(end.saturating_sub(1));
            return Err(Error::IndexBeyondTree { index, size });
        }
        let whole = |at: u64| at.is_multiple_of(u64::from(FULL));
        if start >= end || end - start > MAX_PART || !whole(start) || !(whole(end) || end == size) {
            let why = format!("leaves {start} to before {end} of {size} are no whole bundles, or too many");
            return Err(Error::malformed("part", why));
        }
        Ok(Self { size, leaves })
    }

    /// The leaves, by their indexes.
    #[must_use]
    pub const fn leaves(&self) -> &Range<u64> {
        &self.leaves
    }

    /// The bundles that hold them.
    pub fn entries(&self) -> impl Iterator<Item = EntriesId> + use<> {
        entries::within(self.size, self.leaves.clone())
    }

    /// All hash tiles of the part, in ascending order: on each level those over its leaves, and the right edge.
    ///
    /// # Errors
    /// None is known: what a part is made of its log has.
    pub fn tiles(&self) -> Result<Vec<TileId>, Error> {
        // The right edge makes the root.
        let mut needs = subtrees(0, self.size);
        for level in 0..LEVELS {
            let hashes = self.size >> (HEIGHT * level);
            let over = |leaf: u64| leaf >> (HEIGHT * level);
            let last = over(self.leaves.end - 1).min(hashes.saturating_sub(1));
            // None where the leaves are at the right edge and have no hash of their own on this level.
            let tiles = over(self.leaves.start) / u64::from(FULL)..=last / u64::from(FULL);
            let first = |tile: u64| (HEIGHT * level, tile * u64::from(FULL));
            needs.extend(tiles.map(first).filter(|(_, hash)| *hash < hashes));
        }
        tile::holding(&needs, self.size)
    }

    /// The tiles that must be there before a leaf of the part can be judged: all but those that a full bundle makes itself.
    ///
    /// # Errors
    /// As [`Part::tiles`].
    pub fn frame(&self) -> Result<Vec<TileId>, Error> {
        let mut tiles = self.tiles()?;
        tiles.retain(|tile| tile.level() > 0 || !tile.is_full());
        Ok(tiles)
    }
}

/// The tiles above a part's bundles, proved to lead to the root that was signed.
#[derive(Debug, Clone)]
pub struct Frame(TileSet);

impl Frame {
    /// Of the tiles that [`Part::frame`] names: those at the right edge make `root`, and each full one makes the hash that the
    /// one above has of it.
    ///
    /// # Errors
    /// [`Error::RootDiffers`], [`Error::Unlike`] if they do not; [`Error::MissingHash`] if one is missing.
    pub fn new(part: &Part, root: Hash32, tiles: Vec<Tile>) -> Result<Self, Error> {
        let full: Vec<_> = tiles
            .iter()
            .filter_map(|tile| tile.above().map(|above| (tile.id(), above)))
            .collect();
        let frame = Self(tiles.into_iter().collect());
        let computed = proof::root(part.size, &frame.0)?;
        if computed != root {
            let (size, stated) = (part.size, root);
            return Err(Error::RootDiffers { size, computed, stated });
        }
        full.into_iter()
            .try_for_each(|(id, above)| frame.holds(id, above).map(drop))?;
        Ok(frame)
    }

    /// Verifies that the leaves of a bundle of the part are those of the log: `made` is the tile of their hashes.
    ///
    /// # Errors
    /// [`Error::Unlike`] if they are not; [`Error::MissingHash`] if the bundle is of another part.
    pub fn verify(&self, made: &Tile) -> Result<(), Error> {
        match made.above() {
            Some(above) => self.holds(made.id(), above),
            // It is at the right edge: each of its hashes was proved.
            None => {
                let first = made.id().index() * u64::from(FULL);
                let proved = (first..).take(made.hashes().len()).map(|index| self.0.read(0, index));
                let proved = proved.collect::<Result<Vec<_>, _>>()?;
                (proved == made.hashes()).then_some(()).ok_or_else(|| unlike(made.id()))
            }
        }
    }

    /// Whether the tile above has this hash of a full tile.
    fn holds(&self, id: TileId, hash: Hash32) -> Result<(), Error> {
        match self.0.read(HEIGHT * (id.level() + 1), id.index())? == hash {
            true => Ok(()),
            false => Err(unlike(id)),
        }
    }
}

fn unlike(id: TileId) -> Error {
    Error::Unlike { what: id.path() }
}
