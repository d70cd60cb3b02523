//! The tree of the log as its head row keeps it: the right edge, and the hash tiles that are not full yet.

use sammati_kernel::{Reason, Refusal};
use sammati_log::edge::RightEdge;
use sammati_log::tile::{self, Tile, TileId, TileSet};
use sammati_log::{Error, Hash32};
use sammati_store::Reader;

use crate::rows::{LogRow, SLOT, TileRow};

/// A tree that can grow.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    edge: RightEdge,
    open: Vec<Tile>,
}

impl Tree {
    /// As the head has it.
    ///
    /// # Errors
    /// What contradicts itself in the row.
    pub(crate) fn of(row: &LogRow) -> Result<Self, Error> {
        let edge = if row.edge.is_empty() {
            RightEdge::empty()
        } else {
            RightEdge::decode(&row.edge)?
        };
        let open = row.open.iter().map(from_row).collect::<Result<_, _>>()?;
        Ok(Self { edge, open })
    }

    /// Leaves in it.
    pub(crate) const fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Its root.
    pub(crate) fn root(&self) -> Hash32 {
        self.edge.root()
    }

    /// Appends leaves; returns the tiles that became full.
    ///
    /// # Errors
    /// When the head's edge and tiles do not fit together.
    pub(crate) fn extend(&mut self, leaves: impl IntoIterator<Item = Hash32>) -> Result<Vec<TileRow>, Error> {
        let completed = self.edge.extend(leaves);
        let grown = tile::grow(&mut self.open, &completed)?;
        Ok(grown.iter().filter(|tile| tile.id().is_full()).map(to_row).collect())
    }

    /// A tile at the right edge, which is not full yet.
    pub(crate) fn open(&self, level: u8, index: u64) -> Option<TileRow> {
        let at = |tile: &&Tile| tile.id().level() == level && tile.id().index() == index;
        self.open.iter().find(at).map(to_row)
    }

    /// Puts it into the head.
    pub(crate) fn store(&self, row: &mut LogRow) {
        row.edge = self.edge.encode();
        row.open = self.open.iter().map(to_row).collect();
    }

    /// The hashes `needs` names, from the head and from the tiles of its snapshot: one query.
    ///
    /// # Errors
    /// When the database fails; inside, what is missing or damaged.
    pub(crate) fn load(
        &self,
        reader: &mut Reader<'_>,
        needs: &[(u8, u64)],
    ) -> Result<Result<TileSet, Error>, sammati_store::Error> {
        let ids = match tile::holding(needs, self.size()) {
            Ok(ids) => ids,
            Err(error) => return Ok(Err(error)),
        };
        let (full, partial): (Vec<TileId>, Vec<TileId>) = ids.into_iter().partition(TileId::is_full);
        let keys: Vec<_> = full
            .iter()
            .map(|id| (SLOT, TileRow::key_of(id.level(), id.index())))
            .collect();
        let stored = reader.many::<TileRow>(&keys)?;
        let open = self
            .open
            .iter()
            .filter(|tile| partial.contains(&tile.id()))
            .cloned()
            .map(Ok);
        Ok(stored.iter().map(|s| from_row(&s.record)).chain(open).collect())
    }
}

fn to_row(tile: &Tile) -> TileRow {
    let id = tile.id();
    TileRow {
        level: id.level().into(),
        index: id.index(),
        hashes: tile.encode(),
    }
}

fn from_row(row: &TileRow) -> Result<Tile, Error> {
    let (hashes, rest) = row.hashes.as_chunks::<{ Hash32::LEN }>();
    if !rest.is_empty() {
        return Err(Error::Damaged {
            why: "a tile with half a hash".to_owned(),
        });
    }
    let level = u8::try_from(row.level).unwrap_or(u8::MAX);
    Tile::new(level, row.index, hashes.iter().copied().map(Hash32).collect())
}

/// What a caller is told when the log contradicts itself. Nothing is taken and nothing signed until an operator looked.
pub(crate) fn frozen() -> Refusal {
    Refusal::new(Reason::LogFrozen).saying(
        "the log contradicts itself and was frozen: nothing is taken and nothing signed; \
         keep your proofs and checkpoints and tell the operator",
    )
}
