//! Parts of a log, each verified alone: by the library on logs of every shape, and by the verifier from ZIP files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use sammati_log::archive::{Frame, MAX_PART, Part};
use sammati_log::entries::encode;
use sammati_log::tile::{Tile, TileId};
use sammati_log::{Error, Hash32};
use serde_json::Value;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::cli::{code, said, verify};
use crate::fixture::{Log, leaf, signer};

fn tile(log: &Log, id: TileId) -> Tile {
    let first = id.index() * 256;
    let hashes = (first..first + u64::from(id.width())).map(|at| log.hashes[&(8 * id.level(), at)]);
    Tile::new(id.level(), id.index(), hashes.collect()).unwrap()
}

fn frame(log: &Log, part: &Part) -> Vec<Tile> {
    part.frame().unwrap().into_iter().map(|id| tile(log, id)).collect()
}

fn made(log: &Log, part: &Part) -> Vec<Tile> {
    let made = part.entries().map(|id| TileId::new(0, id.index(), id.width()).unwrap());
    made.map(|id| tile(log, id)).collect()
}

/// On both sides of where a tile, a level and a part fill up.
#[test]
fn a2_a_part_alone_leads_to_the_root() {
    let log = Log::of(70_000);
    for size in [
        1_u64, 255, 256, 257, 600, 65_535, 65_536, 65_537, 65_792, 66_000, 70_000,
    ] {
        let root = log.roots[size as usize];
        for leaves in [256, 1024, MAX_PART] {
            let firsts = [0, size / 2, size.saturating_sub(1)].map(|at| at / leaves * leaves);
            for first in firsts {
                let part = Part::new(size, first..(first + leaves).min(size)).unwrap();
                let tiles = frame(&log, &part);
                let proved = Frame::new(&part, root, tiles.clone()).unwrap();
                let own = made(&log, &part);
                for own in &own {
                    proved.verify(own).unwrap();
                }
                // The whole of it names each tile once.
                let all = part.tiles().unwrap();
                assert!(
                    all.is_sorted() && own.iter().all(|own| all.contains(&own.id())),
                    "{part:?}"
                );
                let own = own.last().unwrap();
                let mut hashes = own.hashes().to_vec();
                hashes[0].0[0] ^= 1;
                let bent = Tile::new(0, own.id().index(), hashes).unwrap();
                assert!(matches!(proved.verify(&bent), Err(Error::Unlike { .. })), "{part:?}");
                let other = Frame::new(&part, Hash32([7; 32]), tiles).unwrap_err();
                assert!(matches!(other, Error::RootDiffers { .. }), "{part:?}: {other}");
            }
        }
    }
}

/// Whatever hash of whatever tile is another one, and whatever tile is missing.
#[test]
fn a2_no_tile_of_a_part_can_be_changed() {
    let log = Log::of(66_400);
    for (size, leaves) in [(66_400, 0..MAX_PART), (66_400, MAX_PART..66_400), (600, 256..512)] {
        let part = Part::new(size, leaves).unwrap();
        let (root, tiles, own) = (log.roots[size as usize], frame(&log, &part), made(&log, &part));
        let holds = |tiles: Vec<Tile>| {
            let frame = Frame::new(&part, root, tiles)?;
            own.iter().try_for_each(|own| frame.verify(own))
        };
        holds(tiles.clone()).unwrap();
        for at in 0..tiles.len() {
            let mut fewer = tiles.clone();
            let tile = fewer.remove(at);
            assert!(holds(fewer.clone()).is_err(), "without {}", tile.id().path());
            for hash in [0, tile.hashes().len() / 2, tile.hashes().len() - 1] {
                let mut hashes = tile.hashes().to_vec();
                hashes[hash].0[31] ^= 1;
                let mut bent = fewer.clone();
                bent.push(Tile::new(tile.id().level(), tile.id().index(), hashes).unwrap());
                assert!(holds(bent).is_err(), "hash {hash} of {}", tile.id().path());
            }
        }
    }
}

#[test]
fn a_part_is_whole_bundles_of_the_log() {
    for (size, leaves) in [
        (600, 0..0),
        (600, 1..256),
        (600, 0..300),
        (100_000, 0..65_792),
        (600, 512..512),
    ] {
        let refused = Part::new(size, leaves.clone()).unwrap_err();
        assert!(matches!(refused, Error::Malformed { .. }), "{leaves:?}: {refused}");
    }
    for (size, leaves) in [(600, 512..601), (600, 768..1024), (0, 0..0)] {
        let refused = Part::new(size, leaves.clone()).unwrap_err();
        assert!(
            matches!(refused, Error::IndexBeyondTree { .. }),
            "{leaves:?}: {refused}"
        );
    }
    assert_eq!(Part::new(600, 512..600).unwrap().leaves(), &(512..600));
}

/// The files of a part.
fn files(log: &Log, size: u64, part: &Part) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("README.txt".to_owned(), b"of a log".to_vec()),
        ("checkpoint".to_owned(), log.note(size).into_bytes()),
        ("vkeys".to_owned(), format!("{}\n", signer().vkey()).into_bytes()),
    ];
    files.extend(
        part.tiles()
            .unwrap()
            .into_iter()
            .map(|id| (id.path(), tile(log, id).encode())),
    );
    files.extend(
        part.entries()
            .map(|id| (id.path(), encode(id.leaves().map(leaf)).unwrap())),
    );
    files
}

fn zipped(folder: &TempDir, name: &str, files: &[(String, Vec<u8>)]) -> String {
    let path = folder.path().join(name);
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    for (name, bytes) in files {
        zip.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

/// The parts of a log of `size`, as ZIP files.
fn archived(folder: &TempDir, log: &Log, size: u64, leaves: u64) -> Vec<String> {
    let parts = (0..size.div_ceil(leaves)).map(|n| {
        let part = Part::new(size, n * leaves..((n + 1) * leaves).min(size)).unwrap();
        zipped(folder, &format!("{size}-{n}.zip"), &files(log, size, &part))
    });
    parts.collect()
}

fn run(rest: &[&str]) -> (i32, String) {
    let vkey = signer().vkey();
    let output = verify(&[&["archive", "--vkey", &vkey], rest].concat(), b"");
    (code(&output), said(&output))
}

#[test]
fn a2_parts_are_checked_alone_and_together() {
    let (log, work) = (Log::of(1300), tempfile::tempdir().unwrap());
    let parts = archived(&work, &log, 1300, 512);
    let [one, two, three] = &parts[..] else {
        panic!("{parts:?}")
    };
    let (status, text) = run(&[three, one, two]);
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("verified: all leaves and 7 tiles make log "), "{text}");
    let (status, text) = run(&["--partial", two]);
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("verified: leaves 512 to 1023 lead to log "), "{text}");
    assert!(text.contains("; not here: leaves 0 to 511, 1024 to 1299"), "{text}");
    // A log that is not whole is no verified log, unless that will do.
    let (status, text) = run(&[one, three]);
    assert_eq!(status, 3, "{text}");
    assert!(
        text.contains("leaves 512 to 1023 are not here; leaves 0 to 511, 1024 to 1299 lead to"),
        "{text}"
    );
    let (status, text) = run(&["--json", "--partial", one, one]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["verified"]), (0, &true.into()), "{text}");
    assert_eq!(
        (&answer["leaves"][0]["first"], &answer["leaves"][0]["last"]),
        (&0.into(), &511.into())
    );
    assert_eq!(
        (&answer["missing"][0]["first"], &answer["missing"][0]["last"]),
        (&512.into(), &1299.into())
    );

    // Unpacked into one folder they are the log.
    let folder = work.path().join("log");
    for (at, part) in parts.iter().enumerate() {
        ZipArchive::new(File::open(part).unwrap())
            .unwrap()
            .extract(&folder)
            .unwrap();
        let expected = if at < 2 { 3 } else { 0 };
        assert_eq!(run(&[folder.to_str().unwrap()]).0, expected);
        assert_eq!(run(&["--partial", folder.to_str().unwrap()]).0, 0);
    }
    assert_eq!(run(&[folder.to_str().unwrap(), two]).0, 0);
}

#[test]
fn a2_parts_of_two_trees_make_no_log() {
    let (log, work) = (Log::of(1300), tempfile::tempdir().unwrap());
    let parts = archived(&work, &log, 1300, 1024);
    let early = archived(&work, &log, 1200, 1024);
    let (status, text) = run(&[&parts[0], &early[1]]);
    assert_eq!(status, 3, "{text}");
    assert!(
        text.contains("at 1200 leaves") && text.contains("at 1300 leaves"),
        "{text}"
    );
    // The same key signed another tree of that size.
    let mut other = Log::of(0);
    for index in 0..1300 {
        let completed = other.edge.append(sammati_log::hash::leaf_hash(&leaf(index + 1)));
        let completed = completed.into_iter().map(|(level, at, hash)| ((level, at), hash));
        other.hashes.extend(completed);
        other.roots.push(other.edge.root());
    }
    let part = Part::new(1300, 1024..1300).unwrap();
    let mut split = files(&other, 1300, &part);
    for (path, bytes) in &mut split {
        if path.starts_with("tile/entries/") {
            let id = part.entries().find(|id| id.path() == *path).unwrap();
            *bytes = encode(id.leaves().map(|index| leaf(index + 1))).unwrap();
        }
    }
    let split = zipped(&work, "split.zip", &split);
    assert_eq!(run(&["--partial", &split]).0, 0);
    let (status, text) = run(&[&parts[0], &split]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("two different roots"), "{text}");
}

/// A byte of each file of a part is another one: in what is packed anew, and in the ZIP file itself.
#[test]
fn a2_no_byte_of_a_part_can_be_changed() {
    let (log, work) = (Log::of(1300), tempfile::tempdir().unwrap());
    let part = Part::new(1300, 256..768).unwrap();
    let good = files(&log, 1300, &part);
    for at in 0..good.len() {
        let (path, bytes) = &good[at];
        let mut bad = good.clone();
        bad.remove(at);
        let (status, text) = run(&["--partial", &zipped(&work, "bad.zip", &bad)]);
        match path.as_str() {
            "README.txt" | "vkeys" => assert_eq!(status, 0, "{text}"),
            // A bundle of the two less is a smaller part.
            path if path.starts_with("tile/entries/") => assert!(text.contains("not here"), "{text}"),
            _ => assert_eq!(status, 3, "without {path}: {text}"),
        }
        for byte in [0, bytes.len() / 2, bytes.len() - 2] {
            let mut bad = good.clone();
            bad[at].1[byte] ^= 1;
            let (status, text) = run(&["--partial", &zipped(&work, "bad.zip", &bad)]);
            match path.as_str() {
                // What is said to people proves nothing.
                "README.txt" => assert_eq!(status, 0, "{text}"),
                // What is no note any more cannot be checked.
                "checkpoint" => assert!([1, 3].contains(&status), "{byte}: {text}"),
                _ => assert_eq!(status, 1, "byte {byte} of {path}: {text}"),
            }
        }
    }
    let whole = fs::read(zipped(&work, "good.zip", &good)).unwrap();
    let bent = work.path().join("bent.zip");
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&bent, bytes).unwrap();
        let (status, text) = run(&["--partial", bent.to_str().unwrap()]);
        // As the time of a file, which nothing depends on; or a bundle has another name, and then it is not here.
        let found = status != 0 || !text.contains("leaves 256 to 767 lead");
        assert!(found || unpacked(&bent) == good, "byte {at} of {}: {text}", whole.len());
    }
}

fn unpacked(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut zip = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let count = zip.len();
    let one = |at| {
        let mut file = zip.by_index(at).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        (file.name().to_owned(), bytes)
    };
    (0..count).map(one).collect()
}

#[test]
fn a_key_that_is_not_trusted_is_told() {
    let (log, work) = (Log::of(300), tempfile::tempdir().unwrap());
    let part = Part::new(300, 0..300).unwrap();
    let mut files = files(&log, 300, &part);
    let other = crate::fixture::signer_from_seed("log.example/other", &[4; 32]).vkey();
    files[2].1 = format!("{other}\n").into_bytes();
    let (status, text) = run(&[&zipped(&work, "other.zip", &files)]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("vkeys: no key that is trusted is among them"), "{text}");
}

#[test]
fn a_file_that_is_no_part_is_not_believed() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("part.zip");
    fs::write(&file, "no part").unwrap();
    let (status, text) = run(&[file.to_str().unwrap()]);
    assert_eq!(status, 3, "{text}");
    assert!(text.contains("it is no folder, and as a ZIP file: "), "{text}");
    assert_eq!(run(&[&zipped(&work, "empty.zip", &[])]).0, 3);
    let (log, part) = (Log::of(300), Part::new(300, 0..300).unwrap());
    let mut more = files(&log, 300, &part);
    more.push(("tile/0/0".to_owned(), b"more".to_vec()));
    let (status, text) = run(&[&zipped(&work, "more.zip", &more)]);
    assert_eq!(
        (status, text.contains("no archive of a log has such a file")),
        (1, true),
        "{text}"
    );
    // As many bytes as nothing of a log has.
    let large = [("README.txt".to_owned(), vec![0; sammati_log::entries::MAX_BUNDLE + 1])];
    let (status, text) = run(&[&zipped(&work, "large.zip", &large)]);
    assert_eq!((status, text.contains("README.txt: more than")), (3, true), "{text}");
}
