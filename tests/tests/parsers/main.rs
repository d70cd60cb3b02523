//! No parser panics, whatever comes, and what one takes it writes back as it was. Inputs begin as examples and are bent: that
//! goes deeper into a format than noise does.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use sammati_tests::parsers::FAMILIES;

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

/// Of each family.
const CASES: u32 = 2000;

fn read_bent(name: &str) {
    let family = FAMILIES.into_iter().find(|family| family.name == name).unwrap();
    let seeds = (family.seeds)();
    for seed in &seeds {
        (family.read)(seed);
    }
    let config = ProptestConfig {
        source_file: Some(file!()),
        test_name: Some(family.name),
        ..ProptestConfig::with_cases(CASES)
    };
    let bends = (any::<Index>(), prop::collection::vec(bend(), 1..6));
    TestRunner::new(config)
        .run(&bends, |(which, bends)| {
            (family.read)(&bent(&seeds, which, &bends));
            Ok(())
        })
        .unwrap();
}

#[test]
fn bent_archives() {
    read_bent("archive");
}

#[test]
fn bent_files() {
    read_bent("files");
}

#[test]
fn bent_formats_of_the_log() {
    read_bent("log");
}

#[test]
fn bent_messages() {
    read_bent("messages");
}

#[test]
fn bent_names() {
    read_bent("names");
}

#[test]
fn bent_tokens() {
    read_bent("tokens");
}

/// Each family has its test here, and its target in `fuzz/`.
#[test]
fn every_family_is_bent_and_fuzzed() {
    let here = include_str!("main.rs");
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    for family in FAMILIES {
        assert!(
            here.contains(&format!("read_bent(\"{}\")", family.name)),
            "{}",
            family.name
        );
        assert!(
            manifest.contains(&format!("name = \"{}\"", family.name)),
            "{}",
            family.name
        );
        let target = format!("{}/../fuzz/fuzz_targets/{}.rs", env!("CARGO_MANIFEST_DIR"), family.name);
        let target = std::fs::read_to_string(target).unwrap();
        assert!(target.contains(&format!("\"{}\"", family.name)), "{}", family.name);
    }
}
