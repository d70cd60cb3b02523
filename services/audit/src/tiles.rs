//! Tiles: the hashes and leaves of the signed tree as `c2sp.org/tlog-tiles` cuts them. They never change, and are read
//! beside the lane that appends.

use sammati_kernel::{Reason, Refusal};
use sammati_log::entries::{self, EntriesId};
use sammati_log::hash::leaf_hash;
use sammati_log::tile::{HEIGHT, Tile, TileId};
use sammati_log::{Error, Hash32};
use sammati_store::Reader;

use crate::log::Log;
use crate::rows::{LeafRow, LogRow, SLOT, TileRow};
use crate::tree::Tree;

impl Log {
    /// The hashes of a tile, one after the other.
    ///
    /// # Errors
    /// `TILE_UNKNOWN` when the signed tree has not got that far, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn tile(&self, id: TileId) -> Result<Vec<u8>, Refusal> {
        let read = self.store.snapshot(move |r| {
            let log = head(r)?;
            if beyond(&log, id.level(), id.index(), id.width()) {
                return Ok(None);
            }
            Ok(Some(hashes(r, &log, id)?))
        });
        match read.await?.ok_or_else(|| unknown(id.path()))? {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.freeze(format!("{} cannot be read: {error}", id.path())).await),
        }
    }

    /// The leaves of an entry bundle, each behind its length.
    ///
    /// # Errors
    /// As [`Self::tile`].
    pub async fn entries(&self, id: EntriesId) -> Result<Vec<u8>, Refusal> {
        let read = self.store.snapshot(move |r| {
            let log = head(r)?;
            if beyond(&log, 0, id.index(), id.width()) {
                return Ok(None);
            }
            let keys: Vec<_> = id.leaves().map(|index| (SLOT, index.to_be_bytes().to_vec())).collect();
            let rows = r.many::<LeafRow>(&keys)?;
            let signed = match TileId::new(0, id.index(), id.width()) {
                Ok(tile) => hashes(r, &log, tile)?,
                Err(error) => Err(error),
            };
            Ok(Some((rows, signed)))
        });
        let (rows, signed) = read.await?.ok_or_else(|| unknown(id.path()))?;
        let mut leaves: Vec<_> = rows.into_iter().map(|row| row.record).collect();
        leaves.sort_unstable_by_key(|leaf| leaf.index);
        // A leaf that was changed is not given away as what was signed.
        let hashed: Vec<u8> = leaves.iter().flat_map(|leaf| leaf_hash(&leaf.leaf).0).collect();
        let sound = signed.is_ok_and(|signed| signed == hashed);
        let bundle = entries::encode(leaves.iter().map(|leaf| &leaf.leaf)).ok();
        match bundle.filter(|_| sound) {
            Some(bundle) => Ok(bundle),
            None => Err(self
                .freeze(format!("a leaf of {} is missing or was changed", id.path()))
                .await),
        }
    }
}

fn head(r: &mut Reader<'_>) -> Result<LogRow, sammati_store::Error> {
    Ok(r.get::<LogRow>(SLOT, LogRow::KEY)?
        .map(|row| row.record)
        .unwrap_or_default())
}

/// Whether the tree as it was signed last has not got that far.
fn beyond(log: &LogRow, level: u8, index: u64, width: u16) -> bool {
    let hashes = log.signed.unwrap_or(0) >> (HEIGHT * level);
    // A tile's place fits a size: it was checked when its name was read.
    index * u64::from(sammati_log::tile::FULL) + u64::from(width) > hashes
}

/// From its table once the tile is full, and else from the head: a narrower tile is the beginning of a wider one.
fn hashes(r: &mut Reader<'_>, log: &LogRow, id: TileId) -> Result<Result<Vec<u8>, Error>, sammati_store::Error> {
    let full = r.get::<TileRow>(SLOT, &TileRow::key_of(id.level(), id.index()))?;
    let tile = match full {
        Some(row) => Some(row.record),
        None => Tree::of(log).ok().and_then(|tree| tree.open(id.level(), id.index())),
    };
    let missing = || Error::Damaged {
        why: "it is not there in this width".to_owned(),
    };
    let end = usize::from(id.width()) * Hash32::LEN;
    let bytes = tile
        .as_ref()
        .and_then(|tile| tile.hashes.get(..end))
        .ok_or_else(missing);
    Ok(bytes
        .and_then(|bytes| Tile::decode(id, bytes))
        .map(|tile| tile.encode()))
}

fn unknown(path: String) -> Refusal {
    Refusal::new(Reason::TileUnknown)
        .about("sammati.audit.v1.Tile", path)
        .saying("the signed tree has no such tile; GetCheckpoint says how large it is")
}
