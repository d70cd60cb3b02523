//! RFC 6962 and tlog-tiles as they are written, over a list of leaves: slow, and short enough to be read.

use sha2::{Digest, Sha256};

pub(crate) type Hash = [u8; 32];

/// The largest power of two below `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// MTH, section 2.1.
pub(crate) fn root(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => Sha256::digest(b"").into(),
        [leaf] => Sha256::new().chain_update([0]).chain_update(leaf).finalize().into(),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            let node = Sha256::new().chain_update([1]).chain_update(root(left));
            node.chain_update(root(right)).finalize().into()
        }
    }
}

/// PATH, section 2.1.1.
pub(crate) fn path(leaf: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut found, other) = match leaf < at {
        true => (path(leaf, left), right),
        false => (path(leaf - at, right), left),
    };
    found.push(root(other));
    found
}

/// PROOF, section 2.1.2.
pub(crate) fn consistency(first: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
    subproof(first, leaves, true)
}

fn subproof(first: usize, leaves: &[Vec<u8>], is_known: bool) -> Vec<Hash> {
    if first == leaves.len() {
        return if is_known { Vec::new() } else { vec![root(leaves)] };
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut found, other) = match first <= at {
        true => (subproof(first, left, is_known), right),
        false => (subproof(first - at, right, false), left),
    };
    found.push(root(other));
    found
}

/// The hashes of a tile, of so many subtrees of 256^level leaves.
pub(crate) fn tile(level: u32, index: usize, width: usize, leaves: &[Vec<u8>]) -> Vec<u8> {
    let span = 256_usize.pow(level);
    let subtrees = leaves.chunks(span).skip(index * 256).take(width);
    subtrees.flat_map(root).collect()
}

/// An entry bundle: each leaf behind its length.
pub(crate) fn bundle(index: usize, width: usize, leaves: &[Vec<u8>]) -> Vec<u8> {
    let entries = leaves.iter().skip(index * 256).take(width);
    let entry = |leaf: &Vec<u8>| [&u16::try_from(leaf.len()).unwrap().to_be_bytes(), leaf.as_slice()].concat();
    entries.flat_map(entry).collect()
}
