//! A1: whoever mirrors the log over plain HTTP, with code that is not ours, gets the tree that was signed.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::proof_service_server::ProofService;
use sammati_audit::http;
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_log::checkpoint::{Checkpoint, open};
use sha2::{Digest, Sha256};
use tlog_tiles::{Error, Hash, TileHashReader, TileReader, check_record, check_tree, prove_record, prove_tree};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Audit, everywhere, of, said, some_event};
use crate::http::{Got, get};

/// Serves the log; the token stops it.
async fn serve(audit: &Audit) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    tokio::spawn(http::serve(Arc::clone(&audit.log), listener, stop.clone()));
    (address, stop)
}

/// Appends so many events.
async fn grow(audit: &Audit, events: u64) {
    for from in (0..events).step_by(250) {
        let n = 250.min(events - from);
        let events = (0..n).map(|n| some_event((n % 5) as u8)).collect();
        audit.append_unsigned(events).await.unwrap();
    }
}

/// The tiles of the log as `tlog_tiles` reads and authenticates them.
struct Remote {
    address: SocketAddr,
    read: RefCell<usize>,
}

impl TileReader for Remote {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let one = |tile: &tlog_tiles::Tile| {
            // The path of Go's checksum database names the height too.
            let path = tile.path().replacen("tile/8/", "/tile/", 1);
            let got = get(self.address, &path);
            assert_eq!(got.status, 200, "{path}");
            got.body
        };
        *self.read.borrow_mut() += tiles.len();
        Ok(tiles.iter().map(one).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

/// RFC 6962 §2.1 as it is written.
fn naive(leaves: &[Vec<u8>]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => Sha256::digest([&[0], leaf.as_slice()].concat()).into(),
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(k);
            Sha256::digest([&[1], naive(left).as_slice(), naive(right).as_slice()].concat()).into()
        }
    }
}

/// The paths of a log of `size` leaves at one level, by the formulas of the specification.
fn widths(size: usize, level: u32) -> Vec<(String, usize)> {
    let hashes = size / 256_usize.pow(level);
    let full = (0..hashes / 256).map(|n| (format!("{n:03}"), 256));
    let partial = Some((format!("{:03}.p/{}", hashes / 256, hashes % 256), hashes % 256));
    full.chain(partial.filter(|(_, width)| *width > 0)).collect()
}

/// All leaves, decoded by the letter of the specification.
fn leaves(address: SocketAddr, size: usize) -> Vec<Vec<u8>> {
    let mut leaves = Vec::new();
    for (name, width) in widths(size, 0) {
        let got = get(address, &format!("/tile/entries/{name}"));
        assert_eq!(
            (got.status, got.header("content-type")),
            (200, "application/octet-stream")
        );
        let (mut rest, before) = (&got.body[..], leaves.len());
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            leaves.push(rest[2..2 + length].to_vec());
            rest = &rest[2 + length..];
        }
        assert_eq!(leaves.len() - before, width, "{name}");
    }
    leaves
}

fn signed(audit: &Audit, got: &Got) -> Checkpoint {
    assert_eq!(
        (got.status, got.header("content-type")),
        (200, "text/plain; charset=utf-8")
    );
    open(std::str::from_utf8(&got.body).unwrap(), &[audit.verifier()]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a_mirror_makes_the_tree_again() {
    for audit in everywhere().await {
        let (address, stop) = serve(&audit).await;
        assert_eq!(
            get(address, "/checkpoint").status,
            404,
            "nothing is signed for a reader"
        );
        let mut before: Option<Checkpoint> = None;
        for more in [1, 254, 1, 1, 443] {
            grow(&audit, more).await;
            audit.log.newest().await.unwrap();
            let checkpoint = signed(&audit, &get(address, "/checkpoint"));
            let size = checkpoint.size() as usize;
            let (root, leaves) = (checkpoint.root().0, leaves(address, size));
            let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
            leaves.iter().for_each(|leaf| tree.push(leaf.clone()));
            assert_eq!(tree.root().as_bytes().as_slice(), root, "ct-merkle, {size} leaves");
            assert_eq!(naive(&leaves), root, "RFC 6962 as it is written, {size} leaves");

            for level in 0..2 {
                for (name, width) in widths(size, level) {
                    let got = get(address, &format!("/tile/{level}/{name}"));
                    assert_eq!((got.status, got.body.len()), (200, width * 32), "{level}/{name}");
                    assert!(got.header("cache-control").contains("immutable"));
                    let first = name[..3].parse::<usize>().unwrap() * 256;
                    let span = 256_usize.pow(level);
                    for (at, hash) in got.body.chunks(32).enumerate() {
                        let under = (first + at) * span..(first + at + 1) * span;
                        assert_eq!(naive(&leaves[under]), hash, "{level}/{name} {at}");
                    }
                }
            }

            let remote = Remote {
                address,
                read: RefCell::default(),
            };
            let reader = TileHashReader::new(size as u64, Hash(root), &remote);
            for index in [0, size / 2, size - 1] {
                let hash = tlog_tiles::record_hash(&leaves[index]);
                let proof = prove_record(size as u64, index as u64, &reader).unwrap();
                check_record(&proof, size as u64, Hash(root), index as u64, hash).unwrap();
            }
            if let Some(before) = before {
                let proof = prove_tree(size as u64, before.size(), &reader).unwrap();
                check_tree(&proof, size as u64, Hash(root), before.size(), Hash(before.root().0)).unwrap();
            }
            assert!(size == 1 || *remote.read.borrow() > 0);
            before = Some(checkpoint);
        }
        // A tile that has filled up is still served as narrow as it was signed once.
        for (path, bytes) in [("/tile/0/000.p/255", 255 * 32), ("/tile/0/001.p/1", 32)] {
            assert_eq!(get(address, path).body.len(), bytes, "{path}");
        }
        stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_nothing_is_served_beyond_what_was_signed() {
    for audit in everywhere().await {
        let (address, stop) = serve(&audit).await;
        grow(&audit, 300).await;
        audit.log.newest().await.unwrap();
        grow(&audit, 300).await;
        for (path, status) in [
            ("/tile/0/000", 200),
            ("/tile/0/001.p/44", 200),
            ("/tile/0/001.p/45", 404),
            ("/tile/0/001", 404),
            ("/tile/1/000.p/1", 200),
            ("/tile/1/000.p/2", 404),
            ("/tile/2/000.p/1", 404),
            ("/tile/entries/001.p/44", 200),
            ("/tile/entries/001.p/45", 404),
            ("/tile/entries/002.p/1", 404),
            ("/tile/0/0", 404),
            ("/tile/0/x000/000", 404),
            ("/tile/data/000", 404),
            ("/", 404),
            ("/../checkpoint", 404),
            ("/sammati.test/audit/2026h2/tile/0/000", 200),
            ("/audit/2026h2/checkpoint", 200),
            ("/audit/2026h1/checkpoint", 404),
        ] {
            let got = get(address, path);
            assert_eq!(got.status, status, "{path}");
            assert_eq!(got.header("cache-control") == "no-store", status == 404, "{path}");
        }
        stop.cancel();
        let tile = |tile| audit::GetTileRequest {
            log: audit.log.name(),
            tile: Some(tile),
        };
        let hashes = |level, index, width| {
            tile(audit::get_tile_request::Tile::HashTile(audit::HashTile {
                level,
                index,
                width,
            }))
        };
        let bundle = |index, width| {
            tile(audit::get_tile_request::Tile::EntryBundle(audit::EntryBundle {
                index,
                width,
            }))
        };
        let ask = async |request| said(audit.rpc.get_tile(of(Caller::ANYONE, request)).await);
        let found = ask(hashes(0, 1, 44)).await.unwrap();
        assert_eq!((found.path.as_str(), found.content.len()), ("tile/0/001.p/44", 44 * 32));
        assert_eq!(ask(hashes(0, 0, 0)).await.unwrap().path, "tile/0/000");
        assert_eq!(ask(bundle(1, 44)).await.unwrap().path, "tile/entries/001.p/44");
        for beyond in [
            hashes(0, 1, 45),
            hashes(0, 1, 0),
            hashes(5, 0, 1),
            bundle(1, 45),
            bundle(1 << 54, 1),
        ] {
            assert_eq!(ask(beyond).await.unwrap_err().reason, Reason::TileUnknown);
        }
        let fields = |refused: Refusal| {
            refused
                .violations
                .iter()
                .map(|v| v.field.to_string())
                .collect::<Vec<_>>()
        };
        let refused = ask(hashes(8, -1, 257)).await.unwrap_err();
        assert_eq!(
            fields(refused),
            ["hash_tile.level", "hash_tile.index", "hash_tile.width"]
        );
        let refused = ask(bundle(i64::MAX, 1)).await.unwrap_err();
        assert_eq!(fields(refused), ["entry_bundle.index"]);
    }
}
