//! Proofs against ct-merkle and tlog_tiles, which were written by others, and against every kind of change.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use proptest::prelude::*;
use sammati_log::hash::{EMPTY_ROOT, leaf_hash};
use sammati_log::proof::{
    HashReader, Plan, consistency, format_path, inclusion, parse_path, root, verify_consistency, verify_inclusion,
};
use sammati_log::{Error, Fault, Hash32, MAX_SIZE};
use sha2::Sha256;

use crate::fixture::{Log, leaf};

fn their_tree(size: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    (0..size).for_each(|index| tree.push(leaf(index)));
    tree
}

fn bytes(path: &[Hash32]) -> Vec<u8> {
    path.iter().flat_map(|hash| hash.0).collect()
}

fn theirs(path: &[Hash32]) -> Vec<tlog_tiles::Hash> {
    path.iter().map(|hash| tlog_tiles::Hash(hash.0)).collect()
}

fn flipped(hash: Hash32, bit: usize) -> Hash32 {
    let mut hash = hash;
    hash.0[bit / 8 % 32] ^= 1 << (bit % 8);
    hash
}

/// A reader that has every hash, and none of them real.
struct Anything;

impl HashReader for Anything {
    fn read(&self, _: u8, _: u64) -> Result<Hash32, Error> {
        Ok(EMPTY_ROOT)
    }
}

#[test]
fn all_proofs_of_small_trees_verify() {
    let log = Log::of(70);
    for size in 1..=70 {
        for index in 0..size {
            let path = inclusion(index, size, &log.hashes).unwrap();
            let leaf = leaf_hash(&leaf(index));
            verify_inclusion(leaf, index, size, &path, log.roots[size as usize]).unwrap();
        }
        for first in 0..=size {
            let path = consistency(first, size, &log.hashes).unwrap();
            let (root1, root2) = (log.roots[first as usize], log.roots[size as usize]);
            verify_consistency(first, size, root1, root2, &path).unwrap();
        }
    }
}

#[test]
fn a_proof_fits_no_other_place_or_size() {
    let log = Log::of(33);
    for size in 1..=33_u64 {
        for index in 0..size {
            let path = inclusion(index, size, &log.hashes).unwrap();
            for other in (0..33).filter(|other| *other != index) {
                let leaf = leaf_hash(&leaf(index));
                let claim = verify_inclusion(leaf, other, size, &path, log.roots[size as usize]);
                assert!(claim.is_err(), "leaf {index} as {other} of {size}");
            }
        }
        for first in 1..size {
            let path = consistency(first, size, &log.hashes).unwrap();
            let (root1, root2) = (log.roots[first as usize], log.roots[size as usize]);
            for other in (1..size).filter(|other| *other != first) {
                let claim = verify_consistency(other, size, root1, root2, &path);
                assert!(claim.is_err(), "{first} as {other} of {size}");
            }
        }
    }
}

#[test]
fn what_does_not_exist_is_the_callers_fault() {
    assert_eq!(Plan::inclusion(3, 3).unwrap_err().fault(), Fault::Caller);
    assert_eq!(Plan::inclusion(0, u64::MAX).unwrap_err().fault(), Fault::Caller);
    assert_eq!(Plan::consistency(4, 3).unwrap_err().fault(), Fault::Caller);
    assert_eq!(Plan::consistency(4, u64::MAX).unwrap_err().fault(), Fault::Caller);
    let nothing = std::collections::HashMap::new();
    assert_eq!(inclusion(0, 2, &nothing).unwrap_err().fault(), Fault::Store);
}

#[test]
fn equal_sizes_with_different_roots_are_a_split_view() {
    let log = Log::of(4);
    let error = verify_consistency(4, 4, log.roots[4], log.roots[3], &[]).unwrap_err();
    assert_eq!(
        error,
        Error::SplitView {
            size: 4,
            first: log.roots[4],
            second: log.roots[3]
        }
    );
    verify_consistency(4, 4, log.roots[4], log.roots[4], &[]).unwrap();
    assert!(verify_consistency(0, 4, log.roots[1], log.roots[4], &[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn inclusion_agrees_with_others(size in 1_u64..3000, at in any::<u64>(), bit in any::<usize>()) {
        let index = at % size;
        let (log, tree) = (Log::of(size), their_tree(size));
        let root = log.edge.root();
        let path = inclusion(index, size, &log.hashes).unwrap();
        prop_assert_eq!(tree.root(), RootHash::new(root.0.into(), size));
        let their_proof = tree.prove_inclusion(index as usize);
        prop_assert_eq!(their_proof.as_bytes(), bytes(&path));
        let our_proof = InclusionProof::<Sha256>::from_bytes(bytes(&path));
        tree.root().verify_inclusion(&leaf(index), index, &our_proof).unwrap();
        let hash = leaf_hash(&leaf(index));
        let (t, h) = (tlog_tiles::Hash(root.0), tlog_tiles::Hash(hash.0));
        tlog_tiles::check_record(&theirs(&path), size, t, index, h).unwrap();
        verify_inclusion(hash, index, size, &path, root).unwrap();
        // One changed bit anywhere refuses it.
        verify_inclusion(flipped(hash, bit), index, size, &path, root).unwrap_err();
        verify_inclusion(hash, index, size, &path, flipped(root, bit)).unwrap_err();
        for changed in 0..path.len() {
            let mut path = path.clone();
            path[changed] = flipped(path[changed], bit);
            let error = verify_inclusion(hash, index, size, &path, root).unwrap_err();
            prop_assert_eq!(error.fault(), Fault::Evidence);
        }
        // So does a hash too many or too few.
        let longer = [&path[..], &[root]].concat();
        verify_inclusion(hash, index, size, &longer, root).unwrap_err();
        if let Some((_, shorter)) = path.split_last() {
            verify_inclusion(hash, index, size, shorter, root).unwrap_err();
        }
    }

    #[test]
    fn consistency_agrees_with_others(second in 2_u64..3000, at in any::<u64>(), bit in any::<usize>()) {
        let first = 1 + at % (second - 1);
        let (log, tree) = (Log::of(second), their_tree(second));
        let (root1, root2) = (log.roots[first as usize], log.edge.root());
        let path = consistency(first, second, &log.hashes).unwrap();
        let their_proof = tree.prove_consistency((second - first) as usize);
        prop_assert_eq!(their_proof.as_bytes(), bytes(&path));
        let our_proof = ConsistencyProof::<Sha256>::try_from_bytes(bytes(&path)).unwrap();
        let early = RootHash::<Sha256>::new(root1.0.into(), first);
        tree.root().verify_consistency(&early, &our_proof).unwrap();
        let (t, h) = (tlog_tiles::Hash(root2.0), tlog_tiles::Hash(root1.0));
        tlog_tiles::check_tree(&theirs(&path), second, t, first, h).unwrap();
        verify_consistency(first, second, root1, root2, &path).unwrap();
        verify_consistency(first, second, flipped(root1, bit), root2, &path).unwrap_err();
        verify_consistency(first, second, root1, flipped(root2, bit), &path).unwrap_err();
        for changed in 0..path.len() {
            let mut path = path.clone();
            path[changed] = flipped(path[changed], bit);
            let error = verify_consistency(first, second, root1, root2, &path).unwrap_err();
            prop_assert_eq!(error.fault(), Fault::Evidence);
        }
        let longer = [&path[..], &[root1]].concat();
        verify_consistency(first, second, root1, root2, &longer).unwrap_err();
        verify_consistency(first, second, root1, root2, &path[..path.len() - 1]).unwrap_err();
    }

    #[test]
    fn roots_are_recomputed_from_the_hashes_kept(size in 0_u64..3000) {
        let log = Log::of(size);
        prop_assert_eq!(root(size, &log.hashes).unwrap(), log.edge.root());
    }

    #[test]
    fn needs_are_exactly_what_is_read(size in 1_u64..3000, at in any::<u64>()) {
        let log = Log::of(size);
        let some = at % size;
        for plan in [Plan::inclusion(some, size).unwrap(), Plan::consistency(some, size).unwrap()] {
            let needs = plan.needs();
            let only = |without: Option<usize>| -> std::collections::HashMap<_, _> {
                let kept = needs.iter().enumerate().filter(|(n, _)| Some(*n) != without);
                kept.map(|(_, need)| (*need, log.hashes[need])).collect()
            };
            prop_assert_eq!(plan.build(&only(None)), plan.build(&log.hashes));
            for without in 0..needs.len() {
                prop_assert!(plan.build(&only(Some(without))).is_err());
            }
        }
    }

    /// Sizes up to the largest: bounded work, no overflow, and the lengths that others expect.
    #[test]
    fn huge_trees_do_no_harm(a in 1..=MAX_SIZE, b in 1..=MAX_SIZE) {
        let (first, second) = (a.min(b), a.max(b));
        let index = first - 1;
        let path = inclusion(index, second, &Anything).unwrap();
        prop_assert!(path.len() <= 63);
        let wrong = verify_inclusion(EMPTY_ROOT, index, second, &path, EMPTY_ROOT);
        let is_root_differs = matches!(wrong, Err(Error::RootDiffers { .. }));
        prop_assert!(is_root_differs || second == 1);
        let path = consistency(first, second, &Anything).unwrap();
        prop_assert!(path.len() <= 64);
        let wrong = verify_consistency(first, second, EMPTY_ROOT, EMPTY_ROOT, &path);
        prop_assert_eq!(matches!(wrong, Err(Error::Inconsistent { .. })), first != second);
    }

    #[test]
    fn any_path_is_judged_without_panic(
        a in any::<u64>(), b in any::<u64>(), length in 0_usize..130, byte in any::<u8>(),
    ) {
        let path = vec![Hash32([byte; 32]); length];
        let _ = verify_inclusion(EMPTY_ROOT, a, b, &path, EMPTY_ROOT);
        let _ = verify_consistency(a, b, EMPTY_ROOT, EMPTY_ROOT, &path);
    }

    #[test]
    fn path_text_round_trips(hashes in prop::collection::vec(any::<[u8; 32]>(), 0..=64)) {
        let path: Vec<_> = hashes.into_iter().map(Hash32).collect();
        prop_assert_eq!(parse_path(&format_path(&path)).unwrap(), path);
    }

    #[test]
    fn path_text_never_panics(text in "[A-Za-z0-9+/=\n]{0,200}") {
        if let Ok(path) = parse_path(&text) {
            prop_assert_eq!(format_path(&path), text);
        }
    }
}
