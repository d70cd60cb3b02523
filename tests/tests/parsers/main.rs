//! No parser panics, whatever comes, and what one takes it writes back as it was. Inputs begin as the published
//! vectors and are bent: that goes deeper into a format than noise does.

use std::fs;

use proptest::prelude::*;
use proptest::sample::Index;
use sammati_log::edge::RightEdge;
use sammati_log::entries;

use crate::fixture::leaf;
use crate::parsers::read_all;
use crate::vectors::path;

/// What is done to an input.
#[derive(Debug, Clone)]
enum Bend {
    Flip(Index, u8),
    Cut(Index, Index),
    Insert(Index, Vec<u8>),
    Twice(Index),
    Splice(Index, Index),
}

fn bend() -> impl Strategy<Value = Bend> {
    let at = || any::<Index>();
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Bend::Flip(at, 1 << bit)),
        (at(), at()).prop_map(|(from, to)| Bend::Cut(from, to)),
        (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Bend::Insert(at, bytes)),
        (
            at(),
            prop::sample::select(vec![
                "\n",
                "\n\n",
                "\u{2014} ",
                "0",
                "-1",
                "+",
                "18446744073709551615",
                "\u{2028}"
            ])
        )
            .prop_map(|(at, text)| Bend::Insert(at, text.as_bytes().to_vec())),
        at().prop_map(Bend::Twice),
        (at(), at()).prop_map(|(file, at)| Bend::Splice(file, at)),
    ]
}

/// The published vectors, and the binary formats.
fn seeds() -> Vec<Vec<u8>> {
    let files = fs::read_dir(path("")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|file| !file.ends_with("make.py") && !file.ends_with("README.md"))
        .collect();
    files.sort();
    let mut seeds: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    seeds.push(entries::encode((0..5).map(leaf)).unwrap());
    let mut edge = RightEdge::empty();
    edge.extend((0..77).map(|index| sammati_log::hash::leaf_hash(&leaf(index))));
    seeds.push(edge.encode());
    seeds.extend(["tile/0/x001/x234/067.p/8", "tile/entries/000", "checkpoint"].map(|path| path.as_bytes().to_vec()));
    seeds
}

fn bent(seeds: &[Vec<u8>], which: Index, bends: &[Bend]) -> Vec<u8> {
    let mut bytes = which.get(seeds).clone();
    for bend in bends {
        let end = bytes.len() + 1;
        match bend {
            Bend::Flip(at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= bit;
            }
            Bend::Flip(..) => {}
            Bend::Cut(from, to) => {
                let (from, to) = (from.index(end), to.index(end));
                bytes.drain(from.min(to)..from.max(to));
            }
            Bend::Insert(at, more) => {
                let at = at.index(end);
                bytes.splice(at..at, more.iter().copied());
            }
            Bend::Twice(at) => {
                let from = at.index(end);
                let line: Vec<_> = bytes[from..].iter().copied().take(60).collect();
                bytes.splice(from..from, line);
            }
            Bend::Splice(file, at) => {
                let other = file.get(seeds);
                bytes.truncate(at.index(end));
                bytes.extend_from_slice(&other[at.index(other.len() + 1)..]);
            }
        }
    }
    bytes
}

#[test]
fn the_seeds_are_read() {
    for seed in seeds() {
        read_all(&seed);
    }
}

proptest! {
    // More by PROPTEST_CASES; a failure is kept beside this file and tried first from then on.
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_parser_panics(which in any::<Index>(), bends in prop::collection::vec(bend(), 1..6)) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let bytes = SEEDS.with(|seeds| bent(seeds, which, &bends));
        read_all(&bytes);
    }
}
