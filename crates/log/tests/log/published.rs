//! I6: roots and proofs are those that others published for the same leaves, and every alteration that they published of a
//! proof is refused. Where the vectors are from stands beside them (`tests/rfc6962`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sammati_log::edge::RightEdge;
use sammati_log::hash::{EMPTY_ROOT, leaf_hash};
use sammati_log::proof::{consistency, inclusion, verify_consistency, verify_inclusion};
use sammati_log::{Error, Hash32};
use serde_json::Value;

use crate::fixture::Log;

const VECTORS: &str = include_str!("../rfc6962/vectors.json");

/// What is published as a hash that is random.
const RANDOM: &str = "q6yroAAAAAAAAAAAAAAAAAAAAAAAAAAAAGAGHgASNFY=";

/// A question with the parts as they came: some are no hashes.
#[derive(Debug, Clone)]
struct Asked {
    /// Index and size, or the two sizes.
    numbers: [u64; 2],
    /// The hash of the leaf and the root, or the two roots.
    hashes: [Vec<u8>; 2],
    proof: Vec<Vec<u8>>,
}

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn decode(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}

fn all(part: &str, numbers: [&str; 2], hashes: [&str; 2]) -> Vec<Asked> {
    let vectors = vectors();
    let one = |of: &Value| Asked {
        numbers: numbers.map(|name| of[name].as_u64().unwrap()),
        hashes: hashes.map(|name| decode(&of[name])),
        proof: of["proof"].as_array().unwrap().iter().map(decode).collect(),
    };
    vectors[part].as_array().unwrap().iter().map(one).collect()
}

fn inclusions(part: &str) -> Vec<Asked> {
    all(part, ["index", "size"], ["leaf", "root"])
}

fn consistencies(part: &str) -> Vec<Asked> {
    all(part, ["size1", "size2"], ["root1", "root2"])
}

impl Asked {
    fn path(&self) -> Result<Vec<Hash32>, Error> {
        self.proof.iter().map(|hash| Hash32::from_slice(hash)).collect()
    }

    fn included(&self) -> Result<(), Error> {
        let ([index, size], [leaf, root]) = (self.numbers, &self.hashes);
        let (leaf, root) = (Hash32::from_slice(leaf)?, Hash32::from_slice(root)?);
        verify_inclusion(leaf, index, size, &self.path()?, root)
    }

    fn consistent(&self) -> Result<(), Error> {
        let ([size1, size2], [root1, root2]) = (self.numbers, &self.hashes);
        let (root1, root2) = (Hash32::from_slice(root1)?, Hash32::from_slice(root2)?);
        verify_consistency(size1, size2, root1, root2, &self.path()?)
    }

    /// The same, changed.
    fn but(&self, name: &str, change: impl FnOnce(&mut Self)) -> (String, Self) {
        let mut changed = self.clone();
        change(&mut changed);
        (name.to_owned(), changed)
    }

    /// What is done to the numbers and the proof of either kind, as it is named where it is published; `bit` of each hash is
    /// flipped in turn.
    fn altered(&self, [of_first, of_second]: [&str; 2], bit: u8) -> Vec<(String, Self)> {
        let mut altered = vec![
            self.but(&format!("{of_first} - 1"), |q| {
                q.numbers[0] = q.numbers[0].wrapping_sub(1)
            }),
            self.but(&format!("{of_first} + 1"), |q| q.numbers[0] += 1),
            self.but(&format!("{of_first} ^ 2"), |q| q.numbers[0] ^= 2),
            self.but(&format!("{of_second} * 2"), |q| q.numbers[1] *= 2),
            self.but(&format!("{of_second} / 2"), |q| q.numbers[1] /= 2),
            self.but("trailing garbage", |q| q.proof.push(Vec::new())),
            self.but("preceding garbage", |q| q.proof.insert(0, Vec::new())),
        ];
        for at in 0..self.proof.len() {
            let name = format!("modified proof[{at}] bit {bit}");
            altered.push(self.but(&name, |q| q.proof[at][0] ^= 1 << bit));
        }
        if !self.proof.is_empty() {
            altered.push(self.but("removed component, truncated proof", |q| drop(q.proof.pop())));
            let random = STANDARD.decode(RANDOM).unwrap();
            altered.push(self.but("inserted component", |q| q.proof.insert(1, random)));
            altered.push(self.but("preceding proof[0]", |q| q.proof.insert(0, q.proof[0].clone())));
        }
        for at in 0..2 {
            let name = ["leaf or root1", "root, root2"][at];
            let hash = &self.hashes[at];
            altered.push(self.but(&format!("trailing {name}"), |q| q.proof.push(hash.clone())));
            altered.push(self.but(&format!("preceding {name}"), |q| q.proof.insert(0, hash.clone())));
            for wrong in [b"WrongRoot".to_vec(), Vec::new(), EMPTY_ROOT.0.to_vec()] {
                altered.push(self.but(&format!("wrong {name}, empty root"), |q| q.hashes[at] = wrong));
            }
            let random = STANDARD.decode(RANDOM).unwrap();
            altered.push(self.but(&format!("random {name}"), |q| q.hashes[at] = random));
        }
        altered
    }
}

/// The tree of the leaves that the vectors are of.
fn log() -> (Vec<Vec<u8>>, Log) {
    let vectors = vectors();
    let unhex = |text: &Value| {
        let digits = text.as_str().unwrap().as_bytes().as_chunks::<2>().0;
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.iter().map(byte).collect::<Vec<u8>>()
    };
    let leaves: Vec<_> = vectors["leaves"].as_array().unwrap().iter().map(unhex).collect();
    let log = Log::with(leaves.iter().map(|leaf| leaf_hash(leaf)));
    (leaves, log)
}

#[test]
fn i6_roots_and_proofs_are_the_published_ones() {
    let (leaves, log) = log();
    assert_eq!(RightEdge::empty().root(), EMPTY_ROOT);
    for asked in inclusions("inclusion") {
        asked.included().unwrap();
        let ([index, size], [leaf, root]) = (asked.numbers, &asked.hashes);
        assert_eq!(leaf_hash(&leaves[index as usize]).0.as_slice(), leaf);
        assert_eq!(log.roots[size as usize].0.as_slice(), root);
        assert_eq!(inclusion(index, size, &log.hashes).unwrap(), asked.path().unwrap());
    }
    for asked in consistencies("consistency") {
        asked.consistent().unwrap();
        let [size1, size2] = asked.numbers;
        let roots = asked.numbers.map(|size| log.roots[size as usize].0.to_vec());
        assert_eq!(roots, asked.hashes);
        let path = consistency(size1, size2, &log.hashes).unwrap();
        assert_eq!(path, asked.path().unwrap());
    }
}

#[test]
fn i6_what_is_published_as_wrong_is_refused() {
    for asked in inclusions("refused_inclusion") {
        asked.included().unwrap_err();
    }
    for asked in consistencies("refused_consistency") {
        asked.consistent().unwrap_err();
    }
    for proof in inclusions("inclusion") {
        for (name, altered) in proof.altered(["leafIdx", "treeSize"], 3) {
            assert!(altered.included().is_err(), "{name} of {proof:?}");
        }
    }
    // Published of proofs between trees that differ: of one tree with itself every alteration that keeps both is true.
    for proof in consistencies("consistency").into_iter().skip(1) {
        let mut altered = proof.altered(["size1", "size2"], 4);
        altered.push(proof.but("swapped roots", |q| q.hashes.swap(0, 1)));
        altered.push(proof.but("empty proof", |q| q.proof.clear()));
        for (name, altered) in altered {
            assert!(altered.consistent().is_err(), "{name} of {proof:?}");
        }
    }
}
