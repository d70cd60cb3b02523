//! The formats of the log: notes, tiles, bundles, proofs, paths, and what a witness is asked.

use std::sync::LazyLock;

use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Checkpoint, Verifier, open};
use sammati_log::cosignature::{Witness, cosignatures, split_note};
use sammati_log::edge::RightEdge;
use sammati_log::entries::{self, EntriesId};
use sammati_log::hash::leaf_hash;
use sammati_log::path::Resource;
use sammati_log::proof::{format_path, parse_path};
use sammati_log::subject::{Chains, Head};
use sammati_log::tile::{Tile, TileId};
use sammati_log::witness::AddCheckpoint;
use sammati_log::{Fault, Hash32};

use super::{Family, texts};

pub(super) const FAMILY: Family = Family {
    name: "log",
    read,
    seeds,
};

/// A published vector.
macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("../../../crates/log/tests/vectors/", $name))
    };
}

static KEYS: LazyLock<[Verifier; 1]> =
    LazyLock::new(|| [Verifier::parse(vector!("log.vkey").trim_end()).expect("a key")]);
static WITNESSES: LazyLock<[Witness; 1]> =
    LazyLock::new(|| [Witness::parse(vector!("witness.vkey").trim_end()).expect("a key")]);

fn read(bytes: &[u8]) {
    binary(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        notes(text, &*KEYS, &*WITNESSES);
        texts_of(text, &*KEYS);
    }
}

fn binary(bytes: &[u8]) {
    if let Ok(edge) = RightEdge::decode(bytes) {
        assert_eq!(edge.encode(), bytes);
    }
    let width = u16::try_from(bytes.len() / 32).unwrap_or(1).clamp(1, 256);
    if let Ok(tile) = Tile::decode(TileId::new(0, 0, width).expect("a tile"), bytes) {
        assert_eq!(tile.encode(), bytes);
    }
    for width in [1, 5, 256] {
        if let Ok(leaves) = entries::decode(EntriesId::new(0, width).expect("a bundle"), bytes) {
            assert_eq!(entries::encode(leaves).expect("they were encoded"), bytes);
        }
    }
    let _ = Chains::default().take(0, bytes);
}

fn notes(text: &str, keys: &[Verifier], witnesses: &[Witness]) {
    if let Ok(checkpoint) = open(text, keys) {
        // Nobody but the key's holder makes one, and all that it signed are vectors.
        assert!([300, 1000].contains(&checkpoint.size()));
    }
    let _ = Head::open(text, keys);
    if let Ok(checkpoint) = Checkpoint::parse_body(text) {
        assert!(text.starts_with(&checkpoint.body()));
    }
    if let Some((body, lines)) = split_note(text)
        && let Ok(found) = cosignatures(body, lines, witnesses)
    {
        assert!(found.is_empty() || body.contains("\n1000\n"));
    }
    if let Ok(key) = Verifier::parse(text.trim_end()) {
        assert_eq!(key.vkey(), text.trim_end());
    }
    if let Ok(key) = Witness::parse(text.trim_end()) {
        assert_eq!(key.vkey(), text.trim_end());
    }
}

fn texts_of(text: &str, keys: &[Verifier]) {
    if let Ok(bundle) = text.parse::<Bundle>() {
        assert_eq!(bundle.to_string(), text);
        let _ = bundle.verify(leaf_hash(vector!("leaf-777.bin").as_bytes()), keys);
    }
    if let Ok(request) = text.parse::<AddCheckpoint>() {
        assert_eq!(request.to_string(), text);
        for known in [None, Some((300, Hash32([0; 32])))] {
            assert!(request.judge(known, keys).is_err() || known.is_none());
            let _ = request.forks(known, keys);
        }
    }
    if let Ok(hashes) = parse_path(text) {
        assert_eq!(format_path(&hashes), text);
    }
    match Resource::parse(text) {
        Ok(Resource::Checkpoint) => assert_eq!(text, "checkpoint"),
        Ok(Resource::Tile(id)) => assert_eq!(id.path(), text),
        Ok(Resource::Entries(id)) => assert_eq!(id.path(), text),
        Err(error) => assert_eq!(error.fault(), Fault::Input),
    }
}

/// The published vectors, and the binary formats.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        vector!("300-to-1000.add-checkpoint"),
        vector!("300-to-1000.consistency"),
        vector!("checkpoint-1000.cosignature"),
        vector!("checkpoint-1000.cosigned.note"),
        vector!("checkpoint-1000.note"),
        vector!("checkpoint-300.note"),
        vector!("leaf-777.bin"),
        vector!("leaf-777.cosigned.tlog-proof"),
        vector!("leaf-777.tlog-proof"),
        vector!("log.vkey"),
        vector!("witness.vkey"),
        "tile/0/x001/x234/067.p/8",
        "tile/entries/000",
        "checkpoint",
    ]);
    let leaf = |index: u64| format!("leaf {index} of the vectors").into_bytes();
    seeds.push(entries::encode((0..5).map(leaf)).expect("a bundle"));
    let mut edge = RightEdge::empty();
    edge.extend((0..77).map(|index| leaf_hash(&leaf(index))));
    seeds.push(edge.encode());
    seeds
}
