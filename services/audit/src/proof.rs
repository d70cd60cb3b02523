//! Proving: every proof is verified here before it is given away. One that fails means that a stored row was changed.

use std::collections::{BTreeSet, HashMap};

use sammati_kernel::{Fact, Reason, Refusal};
use sammati_log::bundle::Bundle;
use sammati_log::hash::leaf_hash;
use sammati_log::proof::{Plan, root, verify_consistency, verify_inclusion};
use sammati_log::{Error, Hash32};
use sammati_store::Reader;

use crate::log::Log;
use crate::rows::{CheckpointRow, LeafRow, LogRow, SLOT};
use crate::tree::Tree;

/// A leaf and the proof that it is in the tree of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The bytes that are hashed.
    pub leaf: Vec<u8>,
    /// Index, path and checkpoint.
    pub bundle: Bundle,
}

impl Log {
    /// Proves that each of the leaves `indexes` is in the tree of `checkpoint`, from one snapshot.
    ///
    /// # Errors
    /// `INDEX_BEYOND_TREE`, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn prove_inclusion(
        &self,
        indexes: &[u64],
        checkpoint: &CheckpointRow,
    ) -> Result<Vec<Inclusion>, Refusal> {
        let plans = indexes.iter().map(|index| Plan::inclusion(*index, checkpoint.size));
        let Ok(plans) = plans.collect::<Result<Vec<_>, _>>() else {
            return Err(beyond(checkpoint.size));
        };
        let keys: Vec<_> = indexes
            .iter()
            .map(|index| (SLOT, index.to_be_bytes().to_vec()))
            .collect();
        let read = self.store.snapshot(move |r| {
            let rows = r.many::<LeafRow>(&keys)?;
            let leaves: HashMap<_, _> = rows
                .into_iter()
                .map(|row| (row.record.index, row.record.leaf))
                .collect();
            let needs: BTreeSet<_> = plans.iter().flat_map(Plan::needs).collect();
            let needs: Vec<_> = needs.into_iter().collect();
            let paths = with_tiles(r, &needs, |tiles| {
                Ok(plans.iter().map(|plan| plan.build(tiles)).collect())
            })?;
            Ok((leaves, paths))
        });
        let (mut leaves, paths) = read.await?;
        let proved = paths.and_then(|paths: Vec<_>| {
            let one = |(index, path): (&u64, Result<Vec<Hash32>, Error>)| {
                inclusion(*index, leaves.remove(index).unwrap_or_default(), path?, checkpoint)
            };
            indexes.iter().zip(paths).map(one).collect::<Result<Vec<_>, _>>()
        });
        match proved {
            Ok(proved) => Ok(proved),
            Err(error) => Err(self
                .freeze(format!("one of leaves {indexes:?} has no proof: {error}"))
                .await),
        }
    }

    /// Proves that the tree of `checkpoint` begins with the first `first` leaves.
    ///
    /// # Errors
    /// `INDEX_BEYOND_TREE`, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn prove_consistency(&self, first: u64, checkpoint: &CheckpointRow) -> Result<Vec<Hash32>, Refusal> {
        let size = checkpoint.size;
        let Ok(plan) = Plan::consistency(first, size) else {
            return Err(beyond(size));
        };
        let read = self.store.snapshot(move |r| {
            let path = path(r, &plan)?;
            let signed = r
                .get(SLOT, &first.to_be_bytes())?
                .map(|row: sammati_store::Stored<CheckpointRow>| row.record.root);
            Ok((path, root_of(r, first)?, signed))
        });
        let (path, computed, signed) = read.await?;
        let proved = path.and_then(|path| {
            let before = signed.map_or(computed, |root| Hash32::from_slice(&root))?;
            let whole = Hash32::from_slice(&checkpoint.root)?;
            verify_consistency(first, size, before, whole, &path).map(|()| path)
        });
        match proved {
            Ok(path) => Ok(path),
            Err(error) => Err(self
                .freeze(format!("{first} and {size} leaves are not one history: {error}"))
                .await),
        }
    }
}

/// The proof of one leaf, verified.
fn inclusion(index: u64, leaf: Vec<u8>, path: Vec<Hash32>, checkpoint: &CheckpointRow) -> Result<Inclusion, Error> {
    let whole = Hash32::from_slice(&checkpoint.root)?;
    verify_inclusion(leaf_hash(&leaf), index, checkpoint.size, &path, whole)?;
    let bundle = Bundle {
        index,
        path,
        checkpoint_note: checkpoint.note.clone(),
        extra: Vec::new(),
    };
    Ok(Inclusion { leaf, bundle })
}

/// A proof from the tiles of one snapshot.
fn path(r: &mut Reader<'_>, plan: &Plan) -> Result<Result<Vec<Hash32>, Error>, sammati_store::Error> {
    with_tiles(r, &plan.needs(), |tiles| plan.build(tiles))
}

/// The root of the first `size` leaves, from the complete subtrees that they are made of: one for each bit of `size`.
fn root_of(r: &mut Reader<'_>, size: u64) -> Result<Result<Hash32, Error>, sammati_store::Error> {
    let levels = (0..63_u8).filter(|level| (size >> level) & 1 == 1);
    let needs: Vec<_> = levels.map(|level| (level, (size >> level) - 1)).collect();
    with_tiles(r, &needs, |tiles| root(size, tiles))
}

fn with_tiles<T>(
    r: &mut Reader<'_>,
    needs: &[(u8, u64)],
    make: impl FnOnce(&sammati_log::tile::TileSet) -> Result<T, Error>,
) -> Result<Result<T, Error>, sammati_store::Error> {
    let log = r
        .get::<LogRow>(SLOT, LogRow::KEY)?
        .map(|row| row.record)
        .unwrap_or_default();
    let tree = match Tree::of(&log) {
        Ok(tree) => tree,
        Err(error) => return Ok(Err(error)),
    };
    Ok(tree.load(r, needs)?.and_then(|tiles| make(&tiles)))
}

/// There is no such leaf in the tree of this size.
pub(crate) fn beyond(size: u64) -> Refusal {
    Refusal::new(Reason::IndexBeyondTree)
        .saying("the tree has fewer leaves than that; tree_size says how many it has")
        .with(Fact::TreeSize, size)
}
