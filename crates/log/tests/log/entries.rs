//! Entry bundles, and the paths that a log serves.

use proptest::prelude::*;
use sammati_log::Fault;
use sammati_log::entries::{EntriesId, MAX_ENTRY, all, decode, encode};
use sammati_log::path::Resource;

#[test]
fn paths_are_spelled_as_specified() {
    let path = |index, width| EntriesId::new(index, width).unwrap().path();
    assert_eq!(path(1_234_067, 256), "tile/entries/x001/x234/067");
    assert_eq!(path(0, 8), "tile/entries/000.p/8");
    for bad in [
        "tile/entries/67",
        "tile/entries/067.p/256",
        "tile/entries/067.p/0",
        "tile/entries/",
        "tile/entries/x000/067",
        "tile/entries/067.p/8/",
        "entries/067",
    ] {
        assert_eq!(EntriesId::parse_path(bad).unwrap_err().fault(), Fault::Input, "{bad}");
    }
    assert_eq!(Resource::parse("checkpoint").unwrap(), Resource::Checkpoint);
    let (tile, entries) = ("tile/1/000.p/3", "tile/entries/000");
    assert!(matches!(Resource::parse(tile), Ok(Resource::Tile(id)) if id.path() == tile));
    assert!(matches!(Resource::parse(entries), Ok(Resource::Entries(id)) if id.path() == entries));
    for bad in [
        "",
        "/checkpoint",
        "checkpoint/",
        "tile",
        "tile/0",
        "tile/-1/000",
        "tile/data/000",
    ] {
        assert!(Resource::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_bundle_ends_where_its_leaves_do() {
    let id = EntriesId::new(3, 2).unwrap();
    assert_eq!(id.leaves(), 768..770);
    let bytes = encode([&b"ab"[..], b""]).unwrap();
    assert_eq!(bytes, [0, 2, b'a', b'b', 0, 0]);
    assert_eq!(decode(id, &bytes).unwrap(), [&b"ab"[..], b""]);
    for cut in 0..bytes.len() {
        assert_eq!(decode(id, &bytes[..cut]).unwrap_err().fault(), Fault::Store, "{cut}");
    }
    for more in [&[0][..], &[0, 0], &[9, 9]] {
        let refused = decode(id, &[&bytes[..], more].concat()).unwrap_err();
        assert!(refused.to_string().contains("goes on behind its leaves"), "{refused}");
    }
    assert!(encode([vec![0; MAX_ENTRY]]).is_ok());
    assert_eq!(encode([vec![0; MAX_ENTRY + 1]]).unwrap_err().fault(), Fault::Input);
}

#[test]
fn the_bundles_of_a_log_hold_each_leaf_once() {
    for size in [0, 1, 255, 256, 257, 70_000] {
        let held: Vec<_> = all(size).flat_map(|id| id.leaves()).collect();
        assert!(held.into_iter().eq(0..size), "{size}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..=256)) {
        let id = EntriesId::new(7, leaves.len() as u16).unwrap();
        let bytes = encode(&leaves).unwrap();
        prop_assert_eq!(decode(id, &bytes).unwrap(), leaves);
    }

    /// Whatever comes: an answer, and of what is taken there is one spelling only.
    #[test]
    fn a_path_has_one_spelling(path in "(tile/)?(entries|[0-9]{1,2})/[x0-9/]{1,20}(\\.p/[0-9]{1,4})?") {
        match Resource::parse(&path) {
            Ok(Resource::Tile(id)) => prop_assert_eq!(id.path(), path),
            Ok(Resource::Entries(id)) => prop_assert_eq!(id.path(), path),
            Ok(Resource::Checkpoint) => prop_assert_eq!("checkpoint", path),
            Err(error) => prop_assert_eq!(error.fault(), Fault::Input),
        }
    }

    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), index in any::<u64>(), width in any::<u16>()) {
        if let Ok(id) = EntriesId::new(index, width) {
            let _ = decode(id, &bytes);
        }
    }
}
