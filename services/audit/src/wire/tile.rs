//! `GetTileRequest`: a hash tile or an entry bundle.

use sammati_api::audit::v1::GetTileRequest;
use sammati_api::audit::v1::get_tile_request::Tile;
use sammati_kernel::{Refusal, Violations};
use sammati_log::entries::EntriesId;
use sammati_log::tile::{FULL, LEVELS, TileId};

use super::{done, log_name};

/// What is asked of `GetTile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Hashes of the tree.
    Hashes(TileId),
    /// Leaves.
    Leaves(EntriesId),
}

/// Reads a `GetTileRequest`.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn which_tile(request: &GetTileRequest) -> Result<Asked, Refusal> {
    let mut wrong = Violations::new();
    log_name(&request.log, &mut wrong);
    let asked = match &request.tile {
        None => wrong.keep("hash_tile", Err("set hash_tile or entry_bundle")),
        Some(Tile::HashTile(tile)) => {
            let level = u8::try_from(tile.level).ok().filter(|level| *level < LEVELS);
            let level = wrong.keep("hash_tile.level", level.ok_or("0 to 7"));
            let place = place(
                ("hash_tile.index", tile.index),
                ("hash_tile.width", tile.width),
                &mut wrong,
            );
            level.zip(place).and_then(|(level, (index, width))| {
                let id = TileId::new(level, index, width).map(Asked::Hashes);
                wrong.keep("hash_tile.index", id.map_err(|_| "no log has a tile there"))
            })
        }
        Some(Tile::EntryBundle(bundle)) => {
            let (index, width) = (
                ("entry_bundle.index", bundle.index),
                ("entry_bundle.width", bundle.width),
            );
            place(index, width, &mut wrong).and_then(|(index, width)| {
                let id = EntriesId::new(index, width).map(Asked::Leaves);
                wrong.keep("entry_bundle.index", id.map_err(|_| "no log has a bundle there"))
            })
        }
    };
    done(wrong, asked)
}

fn place(
    (index_field, index): (&'static str, i64),
    (width_field, width): (&'static str, i32),
    wrong: &mut Violations,
) -> Option<(u64, u16)> {
    let index = wrong.keep(index_field, u64::try_from(index).map_err(|_| "0 and up"));
    let width = match width {
        0 => Some(FULL),
        width => u16::try_from(width).ok().filter(|width| *width <= FULL),
    };
    index.zip(wrong.keep(width_field, width.ok_or("0 to 256")))
}
