//! I15: no parser panics, whatever comes, and what one takes it writes back as it was. Inputs begin as the published
//! vectors and are bent: that goes deeper into a format than noise does.

use std::fs;

use proptest::prelude::*;
use proptest::sample::Index;
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Checkpoint, Verifier, open};
use sammati_log::cosignature::{Witness, cosignatures, split_note};
use sammati_log::edge::RightEdge;
use sammati_log::entries::{self, EntriesId};
use sammati_log::path::Resource;
use sammati_log::proof::{format_path, parse_path};
use sammati_log::tile::{Tile, TileId};
use sammati_log::witness::AddCheckpoint;
use sammati_log::{Fault, Hash32};

use crate::fixture::{leaf, signer};
use crate::vectors::path;
use crate::witness::witness;

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

/// Everything that reads bytes from outside.
fn read_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    let keys = [signer().verifier().clone()];
    let witnesses = [witness().witness().clone()];
    if let Ok(edge) = RightEdge::decode(bytes) {
        prop_assert_eq!(edge.encode(), bytes);
    }
    let width = u16::try_from(bytes.len() / 32).unwrap_or(1).clamp(1, 256);
    if let Ok(tile) = Tile::decode(TileId::new(0, 0, width).unwrap(), bytes) {
        prop_assert_eq!(tile.encode(), bytes);
    }
    for width in [1, 5, 256] {
        if let Ok(leaves) = entries::decode(EntriesId::new(0, width).unwrap(), bytes) {
            prop_assert_eq!(entries::encode(leaves).unwrap(), bytes);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Ok(());
    };
    if let Ok(checkpoint) = open(text, &keys) {
        // Nobody but the key's holder makes one, and all that it signed are vectors.
        prop_assert!([300, 1000].contains(&checkpoint.size()));
    }
    if let Ok(checkpoint) = Checkpoint::parse_body(text) {
        prop_assert!(text.starts_with(&checkpoint.body()));
    }
    if let Some((body, lines)) = split_note(text)
        && let Ok(found) = cosignatures(body, lines, &witnesses)
    {
        prop_assert!(found.is_empty() || body.contains("\n1000\n"));
    }
    if let Ok(key) = Verifier::parse(text.trim_end()) {
        prop_assert_eq!(key.vkey(), text.trim_end());
    }
    if let Ok(key) = Witness::parse(text.trim_end()) {
        prop_assert_eq!(key.vkey(), text.trim_end());
    }
    if let Ok(bundle) = text.parse::<Bundle>() {
        prop_assert_eq!(bundle.to_string(), text);
        let _ = bundle.verify(sammati_log::hash::leaf_hash(&leaf(777)), &keys);
    }
    if let Ok(request) = text.parse::<AddCheckpoint>() {
        prop_assert_eq!(request.to_string(), text);
        for known in [None, Some((300, Hash32([0; 32])))] {
            prop_assert!(request.judge(known, &keys).is_err() || known.is_none());
        }
    }
    if let Ok(hashes) = parse_path(text) {
        prop_assert_eq!(format_path(&hashes), text);
    }
    match Resource::parse(text) {
        Ok(Resource::Checkpoint) => prop_assert_eq!(text, "checkpoint"),
        Ok(Resource::Tile(id)) => prop_assert_eq!(id.path(), text),
        Ok(Resource::Entries(id)) => prop_assert_eq!(id.path(), text),
        Err(error) => prop_assert_eq!(error.fault(), Fault::Input),
    }
    Ok(())
}

#[test]
fn the_seeds_are_read() {
    for seed in seeds() {
        read_all(&seed).unwrap();
    }
}

proptest! {
    // More by PROPTEST_CASES; a failure is kept beside this file and tried first from then on.
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn i15_no_parser_panics(which in any::<Index>(), bends in prop::collection::vec(bend(), 1..6)) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let bytes = SEEDS.with(|seeds| bent(seeds, which, &bends));
        read_all(&bytes)?;
    }
}
