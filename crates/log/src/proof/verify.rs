//! The checks that a reader runs, after RFC 9162 §2.1.3.2 and §2.1.4.2. But for the hash of a node they share no
//! code with the prover.

use crate::error::check_size;
use crate::hash::{EMPTY_ROOT, node_hash};
use crate::{Error, Hash32};

/// Checks that a leaf is at `index` (zero-based) of the tree with this size and root.
///
/// # Errors
/// [`Error::LeafNotCovered`], [`Error::ProofTooShort`], [`Error::ProofTooLong`], [`Error::RootDiffers`].
pub fn verify_inclusion(leaf_hash: Hash32, index: u64, size: u64, path: &[Hash32], root: Hash32) -> Result<(), Error> {
    check_size(size)?;
    if index >= size {
        return Err(Error::LeafNotCovered { index, size });
    }
    let mut at = Climb {
        node: index,
        last: size - 1,
        got: path.len(),
    };
    let mut computed = leaf_hash;
    for &sibling in path {
        computed = if at.step()? {
            node_hash(sibling, computed)
        } else {
            node_hash(computed, sibling)
        };
    }
    at.finish()?;
    if computed == root {
        Ok(())
    } else {
        Err(Error::RootDiffers {
            size,
            computed,
            stated: root,
        })
    }
}

/// Checks that the tree of `first` leaves with `root1` is the beginning of that of `second` with `root2`.
///
/// # Errors
/// [`Error::SizesReversed`], [`Error::SplitView`], [`Error::ProofTooShort`], [`Error::ProofTooLong`],
/// [`Error::Inconsistent`].
pub fn verify_consistency(first: u64, second: u64, root1: Hash32, root2: Hash32, path: &[Hash32]) -> Result<(), Error> {
    check_size(second)?;
    if first > second {
        return Err(Error::SizesReversed { first, second });
    }
    if first == 0 || first == second {
        return verify_trivial(first, second, root1, root2, path);
    }
    // A first tree that is one complete subtree is where the climb begins, and is not in the path.
    let (start, rest) = match path.split_first() {
        _ if first.is_power_of_two() => (root1, path),
        Some((start, rest)) => (*start, rest),
        None => return Err(Error::ProofTooShort { got: 0 }),
    };
    let mut at = Climb {
        node: first - 1,
        last: second - 1,
        got: path.len(),
    };
    let complete = at.node.trailing_ones();
    at.node >>= complete;
    at.last >>= complete;
    let (mut earlier, mut later) = (start, start);
    for &hash in rest {
        if at.step()? {
            earlier = node_hash(hash, earlier);
            later = node_hash(hash, later);
        } else {
            later = node_hash(later, hash);
        }
    }
    at.finish()?;
    same_root("earlier", first, earlier, root1)?;
    same_root("later", second, later, root2)
}

/// The cases that need no hashes: an empty first tree, and equal sizes.
fn verify_trivial(first: u64, second: u64, root1: Hash32, root2: Hash32, path: &[Hash32]) -> Result<(), Error> {
    if !path.is_empty() {
        return Err(Error::ProofTooLong { got: path.len() });
    }
    if first == second && root1 != root2 {
        return Err(Error::SplitView {
            size: first,
            first: root1,
            second: root2,
        });
    }
    if first == 0 {
        same_root("earlier", 0, EMPTY_ROOT, root1)
    } else {
        Ok(())
    }
}

fn same_root(which: &'static str, size: u64, computed: Hash32, stated: Hash32) -> Result<(), Error> {
    if computed == stated {
        Ok(())
    } else {
        Err(Error::Inconsistent {
            which,
            size,
            computed,
            stated,
        })
    }
}

/// The way from a node up to the root.
struct Climb {
    /// Position of the node within its level.
    node: u64,
    /// Position of the last node of the level.
    last: u64,
    /// Hashes in the whole path, for the error.
    got: usize,
}

impl Climb {
    /// One hash upwards; says whether that hash is the left neighbour.
    fn step(&mut self) -> Result<bool, Error> {
        if self.last == 0 {
            return Err(Error::ProofTooLong { got: self.got });
        }
        let is_left = self.node & 1 == 1 || self.node == self.last;
        if is_left && self.node & 1 == 0 {
            // A last node without a neighbour stands for itself until it has one. It is not node 0, for
            // then the level would be the root.
            let alone = self.node.trailing_zeros();
            self.node >>= alone;
            self.last >>= alone;
        }
        self.node >>= 1;
        self.last >>= 1;
        Ok(is_left)
    }

    /// The path must end at the root.
    const fn finish(&self) -> Result<(), Error> {
        if self.last == 0 {
            Ok(())
        } else {
            Err(Error::ProofTooShort { got: self.got })
        }
    }
}
