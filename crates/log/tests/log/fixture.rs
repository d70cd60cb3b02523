//! A log in memory with a fixed key, and a definition of its root that is plainly right.

use std::collections::HashMap;

use sammati_log::Hash32;
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Checkpoint, Signer, sign};
use sammati_log::edge::RightEdge;
use sammati_log::hash::{EMPTY_ROOT, leaf_hash};
use sammati_log::proof::inclusion;
use sha2::{Digest, Sha256};

/// PKCS#8 version 1 of an Ed25519 key up to its 32-byte seed (RFC 8410 §7).
pub(crate) const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

pub(crate) const ORIGIN: &str = "log.example/sammati/vectors";

pub(crate) fn signer_from_seed(name: &str, seed: &[u8; 32]) -> Signer {
    Signer::from_pkcs8(name, &[&PKCS8[..], seed].concat()).unwrap()
}

pub(crate) fn signer() -> Signer {
    signer_from_seed(ORIGIN, b"sammati log vectors, fixed seed.")
}

pub(crate) fn leaf(index: u64) -> Vec<u8> {
    format!("leaf {index} of the vectors").into_bytes()
}

/// The first `size` leaves' tree with all its completed hashes.
pub(crate) struct Log {
    pub(crate) edge: RightEdge,
    pub(crate) hashes: HashMap<(u8, u64), Hash32>,
    pub(crate) roots: Vec<Hash32>,
}

impl Log {
    pub(crate) fn of(size: u64) -> Self {
        Self::with((0..size).map(|index| leaf_hash(&leaf(index))))
    }

    /// The tree of leaves that have these hashes.
    pub(crate) fn with(leaves: impl Iterator<Item = Hash32>) -> Self {
        let mut log = Self {
            edge: RightEdge::empty(),
            hashes: HashMap::new(),
            roots: vec![EMPTY_ROOT],
        };
        for leaf in leaves {
            let completed = log.edge.append(leaf);
            log.hashes
                .extend(completed.into_iter().map(|(level, index, hash)| ((level, index), hash)));
            log.roots.push(log.edge.root());
        }
        log
    }

    /// The signed checkpoint of the first `size` leaves.
    pub(crate) fn note(&self, size: u64) -> String {
        let checkpoint = Checkpoint::new(ORIGIN, size, self.roots[size as usize]).unwrap();
        sign(&checkpoint, &signer()).unwrap()
    }

    pub(crate) fn bundle(&self, index: u64, size: u64) -> Bundle {
        let path = inclusion(index, size, &self.hashes).unwrap();
        Bundle {
            index,
            path,
            checkpoint_note: self.note(size),
            extra: Vec::new(),
        }
    }
}

/// RFC 6962 §2.1 as it is written, with another SHA-256.
pub(crate) fn naive_root(leaves: &[Vec<u8>]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => Sha256::digest([&[0], leaf.as_slice()].concat()).into(),
        _ => {
            let mut k = 1;
            while k * 2 < leaves.len() {
                k *= 2;
            }
            let (left, right) = (naive_root(&leaves[..k]), naive_root(&leaves[k..]));
            Sha256::digest([&[1], &left[..], &right[..]].concat()).into()
        }
    }
}
