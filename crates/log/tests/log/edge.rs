//! The right edge: its root is the naive root, and its encoding accepts nothing but itself.

use proptest::prelude::*;
use sammati_log::edge::RightEdge;
use sammati_log::hash::{EMPTY_ROOT, leaf_hash};
use sammati_log::{Fault, Hash32};

use crate::fixture::{Log, leaf, naive_root};

/// From RFC 6962 test vectors: the empty tree and the empty leaf.
#[test]
fn known_hashes() {
    let hex = |hash: Hash32| hash.0.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(hex(EMPTY_ROOT), empty);
    assert_eq!(hex(RightEdge::empty().root()), empty);
    let leaf = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    assert_eq!(hex(leaf_hash(b"")), leaf);
}

#[test]
fn every_root_of_a_growing_tree_is_the_naive_one() {
    let leaves: Vec<_> = (0..300).map(leaf).collect();
    let log = Log::of(300);
    for size in 0..=300 {
        assert_eq!(log.roots[size].0, naive_root(&leaves[..size]), "size {size}");
    }
}

#[test]
fn an_append_returns_each_completed_subtree_once() {
    let size = 1000_u64;
    let log = Log::of(size);
    let expected: u64 = (0..10).map(|level| size >> level).sum();
    assert_eq!(log.hashes.len() as u64, expected);
    for (&(level, index), hash) in &log.hashes {
        let leaves: Vec<_> = (index << level..(index + 1) << level).map(leaf).collect();
        assert_eq!(hash.0, naive_root(&leaves), "level {level} index {index}");
    }
}

#[test]
fn a_wrong_number_of_hashes_is_damage() {
    let error = RightEdge::from_parts(3, vec![EMPTY_ROOT]).unwrap_err();
    assert_eq!(error.fault(), Fault::Store);
    assert!(RightEdge::from_parts(u64::MAX, vec![EMPTY_ROOT; 64]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_large_root_is_the_naive_one(size in 300_u64..4000) {
        let leaves: Vec<_> = (0..size).map(leaf).collect();
        let mut edge = RightEdge::empty();
        edge.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
        prop_assert_eq!(edge.root().0, naive_root(&leaves));
    }

    #[test]
    fn an_edge_goes_on_after_decoding(size in 0_u64..600, more in 0_u64..40) {
        let log = Log::of(size + more);
        let early = RightEdge::load(size, &log.hashes).unwrap();
        let mut again = RightEdge::decode(&early.encode()).unwrap();
        prop_assert_eq!(&again, &early);
        again.extend((size..size + more).map(|index| leaf_hash(&leaf(index))));
        prop_assert_eq!(again, log.edge);
    }

    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(edge) = RightEdge::decode(&bytes) {
            prop_assert_eq!(edge.encode(), bytes);
        }
    }
}
