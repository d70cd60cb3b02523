//! Tiles: their geometry as tlog_tiles and the specification have it, and proofs that are made from them.

use proptest::prelude::*;
use sammati_log::edge::RightEdge;
use sammati_log::hash::leaf_hash;
use sammati_log::proof::{Plan, inclusion};
use sammati_log::tile::{Tile, TileId, TileSet, changed, grow, holding};
use sammati_log::{Fault, Hash32, MAX_SIZE};

use crate::fixture::{Log, leaf};

/// All tiles of a tree of `size` leaves, grown in batches.
fn grown(size: u64, batch: usize) -> Vec<Tile> {
    let (mut edge, mut open, mut full) = (RightEdge::empty(), Vec::new(), Vec::new());
    let leaves: Vec<_> = (0..size).map(|index| leaf_hash(&leaf(index))).collect();
    for leaves in leaves.chunks(batch) {
        let before = edge.size();
        let completed = edge.extend(leaves.iter().copied());
        let tiles = grow(&mut open, &completed).unwrap();
        let mut ids: Vec<_> = tiles.iter().map(Tile::id).collect();
        ids.sort_unstable();
        assert_eq!(ids, changed(before, edge.size()).unwrap().collect::<Vec<_>>());
        full.extend(tiles.into_iter().filter(|tile| tile.id().is_full()));
    }
    full.extend(open);
    full
}

/// The example of the specification: 70 000 leaves.
#[test]
fn the_specifications_example() {
    let tiles: Vec<_> = changed(0, 70_000).unwrap().collect();
    let full = |level| tiles.iter().filter(|t| t.level() == level && t.is_full()).count();
    let partial: Vec<_> = tiles.iter().filter(|t| !t.is_full()).map(TileId::path).collect();
    assert_eq!((full(0), full(1), full(2)), (273, 1, 0));
    assert_eq!(partial, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
}

#[test]
fn paths_are_spelled_as_specified() {
    let path = |level, index, width| TileId::new(level, index, width).unwrap().path();
    assert_eq!(path(0, 1_234_067, 256), "tile/0/x001/x234/067");
    assert_eq!(path(0, 1_234_067, 8), "tile/0/x001/x234/067.p/8");
    assert_eq!(path(1, 0, 256), "tile/1/000");
    for bad in [
        "tile/0/1234",
        "tile/0/x001/67",
        "tile/0/001/067",
        "tile/0/x000/067",
        "tile/00/067",
        "tile/8/000.p/1",
        "tile/0/067.p/0",
        "tile/0/067.p/256",
        "tile/0/067.p/08",
        "tile/0/067/",
        "tile/0/+67",
        "/tile/0/067",
        "tile/entries/067",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert!(TileId::parse_path(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_tile_that_does_not_continue_is_damage() {
    let mut edge = RightEdge::empty();
    edge.append(Hash32([1; 32]));
    let completed = edge.append(Hash32([2; 32]));
    assert_eq!(grow(&mut Vec::new(), &completed).unwrap_err().fault(), Fault::Store);
    let id = TileId::new(0, 0, 2).unwrap();
    assert_eq!(Tile::decode(id, &[0; 63]).unwrap_err().fault(), Fault::Store);
}

#[test]
fn a_proof_from_the_tiles_it_names() {
    let (size, log) = (66_000, Log::of(66_000));
    let tiles = grown(size, 1000);
    for index in [0, 255, 256, 65_535, 65_536, 65_999] {
        let plan = Plan::inclusion(index, size).unwrap();
        let ids = holding(&plan.needs(), size).unwrap();
        let set: TileSet = tiles.iter().filter(|tile| ids.contains(&tile.id())).cloned().collect();
        assert_eq!(plan.build(&set).unwrap(), inclusion(index, size, &log.hashes).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn growing_in_any_batches_gives_the_same_tiles(size in 1_u64..2000, batch in 1_usize..700) {
        let mut tiles = grown(size, batch);
        tiles.sort_unstable_by_key(Tile::id);
        let ids: Vec<_> = tiles.iter().map(Tile::id).collect();
        prop_assert_eq!(ids, changed(0, size).unwrap().collect::<Vec<_>>());
        let log = Log::of(size);
        for tile in &tiles {
            for (n, hash) in tile.hashes().iter().enumerate() {
                let at = (tile.id().level() * 8, tile.id().index() * 256 + n as u64);
                prop_assert_eq!(*hash, log.hashes[&at]);
            }
            prop_assert_eq!(&Tile::decode(tile.id(), &tile.encode()).unwrap(), tile);
        }
    }

    #[test]
    fn proofs_need_no_other_tiles(size in 1_u64..3000, at in any::<u64>()) {
        let (log, some) = (Log::of(size), at % size);
        let tiles = grown(size, 3000);
        for plan in [Plan::inclusion(some, size).unwrap(), Plan::consistency(some, size).unwrap()] {
            let ids = holding(&plan.needs(), size).unwrap();
            let set: TileSet = tiles.iter().filter(|t| ids.contains(&t.id())).cloned().collect();
            prop_assert_eq!(plan.build(&set), plan.build(&log.hashes));
        }
    }

    #[test]
    fn geometry_agrees_with_tlog_tiles(old in 0_u64..200_000, more in 0_u64..200_000) {
        let theirs = tlog_tiles::Tile::new_tiles(8, old, old + more);
        let theirs: Vec<_> = theirs.iter().map(|t| t.path().replacen("tile/8/", "tile/", 1)).collect();
        let ours: Vec<_> = changed(old, old + more).unwrap().map(|id| id.path()).collect();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn names_round_trip(level in 0_u8..8, index in 0..=MAX_SIZE, width in 1_u16..=256) {
        if let Ok(id) = TileId::new(level, index >> (8 * level) >> 8, width) {
            prop_assert_eq!(TileId::parse_path(&id.path()).unwrap(), id);
        }
    }

    #[test]
    fn names_and_places_never_panic(
        text in "tile/[0-9]{1,2}/[x0-9/.p]{0,60}", level in any::<u8>(), index in any::<u64>(),
        size in any::<u64>(), width in any::<u16>(),
    ) {
        if let Ok(id) = TileId::parse_path(&text) {
            prop_assert_eq!(id.path(), text);
        }
        let _ = TileId::new(level, index, width);
        let _ = holding(&[(level, index)], size);
    }
}
