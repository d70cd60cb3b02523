//! What `sammati-verify` reads: ZIP files, lines of exports, lists of events, and answers of HTTP servers.

use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sammati_log::archive::Part;
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Checkpoint, Signer, Verifier, sign};
use sammati_log::edge::RightEdge;
use sammati_log::hash::leaf_hash;
use sammati_log::tile::{Tile, TileId};
use sammati_log::{Hash32, entries, proof};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use self::verifier::source::{Source, answer};
use self::verifier::subject::Given;
use self::verifier::trust::Keys;
use self::verifier::zipped::Zipped;
use self::verifier::{archive, export};
use super::Family;

/// The program itself: it links none of the services, and none of them links it.
#[expect(dead_code, reason = "only what reads is used here")]
#[path = "../../../crates/log/src/bin/sammati-verify/main.rs"]
mod verifier;

pub(super) const FAMILY: Family = Family {
    name: "archive",
    read,
    seeds,
};

/// The most bytes of an answer.
const LIMIT: usize = 1000;

fn read(bytes: &[u8]) {
    zip(bytes);
    if let Ok(Some(body)) = answer(bytes, LIMIT) {
        assert!(body.len() <= LIMIT);
        assert!(body.is_empty() || bytes.windows(body.len()).any(|window| window == body));
    }
    let _ = Given::read(bytes, 1 << 20);
    lines(bytes);
}

/// An archive that verifies has the log's leaves, whatever else was done to its bytes; if it is whole, all of them.
fn zip(bytes: &[u8]) {
    let Ok(zipped) = Zipped::of("part.zip", Cursor::new(bytes.to_vec())) else {
        return;
    };
    let source = [Source::Zip(zipped)];
    let is_whole = archive::check(&source, false, &LOG.keys()).is_ok();
    if is_whole || archive::check(&source, true, &LOG.keys()).is_ok() {
        for (path, leaves) in LOG.bundles() {
            let fits = match source[0].fetch(&path, leaves.len()) {
                Ok(Some(read)) => read == leaves,
                Ok(None) => !is_whole,
                Err(_) => false,
            };
            assert!(fits, "{path}");
        }
    }
}

fn lines(mut bytes: &[u8]) {
    let (mut seen, keys) = (export::Seen::default(), LOG.keys());
    while let Ok(Some(line)) = export::next(&mut bytes) {
        assert!(line.len() <= export::MAX_LINE);
        if seen.take(&line, &keys, "line").is_err() {
            return;
        }
    }
}

const ORIGIN: &str = "log.example/sammati/fuzzed";
const SIZE: u64 = 300;

/// A log, and what is signed of it.
struct Log {
    vkey: String,
    hashes: HashMap<(u8, u64), Hash32>,
    note: String,
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let der = [super::tokens::PKCS8.as_slice(), &[7; 32]].concat();
    let signer = Signer::from_pkcs8(ORIGIN, &der).expect("a key");
    let (mut edge, mut hashes) = (RightEdge::empty(), HashMap::new());
    for index in 0..SIZE {
        let completed = edge.append(leaf_hash(&leaf(index))).into_iter();
        hashes.extend(completed.map(|(level, index, hash)| ((level, index), hash)));
    }
    let checkpoint = Checkpoint::new(ORIGIN, SIZE, edge.root()).expect("a checkpoint");
    Log {
        vkey: signer.vkey(),
        hashes,
        note: sign(&checkpoint, &signer).expect("a note"),
    }
});

/// A leaf that names its event, as an export does.
fn leaf(index: u64) -> Vec<u8> {
    let (id, kind) = (format!("event-{index}"), "consent.granted");
    let field = |tag: u8, text: &str| [&[tag, u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    [field(0x12, &id), field(0x22, kind)].concat()
}

impl Log {
    fn keys(&self) -> Keys<'static> {
        Keys {
            verifiers: vec![Verifier::parse(&self.vkey).expect("a key")],
            origin: None,
            witnesses: Vec::new(),
            required: 0,
        }
    }

    fn bundles(&self) -> Vec<(String, Vec<u8>)> {
        let all = entries::all(SIZE);
        all.map(|id| (id.path(), entries::encode(id.leaves().map(leaf)).expect("a bundle")))
            .collect()
    }

    fn tile(&self, id: TileId) -> Tile {
        let first = id.index() * 256;
        let hashes = (first..first + u64::from(id.width())).map(|n| self.hashes[&(8 * id.level(), n)]);
        Tile::new(id.level(), id.index(), hashes.collect()).expect("a tile")
    }

    /// The ZIP file of the only part, packed or not.
    fn zip(&self, options: SimpleFileOptions) -> Vec<u8> {
        let part = Part::new(SIZE, 0..SIZE).expect("a part");
        let tiles = part.tiles().expect("its tiles").into_iter();
        let mut files = vec![
            ("checkpoint".to_owned(), self.note.clone().into_bytes()),
            ("vkeys".to_owned(), format!("{}\n", self.vkey).into_bytes()),
        ];
        files.extend(tiles.map(|id| (id.path(), self.tile(id).encode())));
        files.extend(self.bundles());
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            zip.start_file(name, options).expect("a file");
            zip.write_all(&bytes).expect("its bytes");
        }
        zip.finish().expect("a ZIP file").into_inner()
    }

    /// A line of an export, of each of its forms.
    fn lines(&self, index: u64) -> [String; 2] {
        let path = proof::inclusion(index, SIZE, &self.hashes).expect("a proof");
        let bundle = Bundle {
            extra: Vec::new(),
            index,
            path,
            checkpoint_note: self.note.clone(),
        };
        let (leaf, proof) = (BASE64.encode(leaf(index)), bundle.to_string());
        let (id, kind) = (format!("event-{index}"), "consent.granted");
        [
            serde_json::json!({"event": {"header": {"eventId": id, "eventType": kind}}, "leaf": leaf, "proof": proof}),
            serde_json::json!({"class_uid": 1, "metadata": {"uid": id, "event_code": kind},
                "unmapped": {"leaf": leaf, "tlog_proof": proof}}),
        ]
        .map(|line| line.to_string())
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let [native, ocsf] = LOG.lines(7);
    let page = format!(r#"{{"events":[{native}],"subjectHead":{{"note":"a","checkpoint":"b"}}}}"#);
    let http = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: identity\r\n\r\nbody".to_owned();
    let two = format!("{native}\n{}\n", LOG.lines(299)[1]);
    let mut seeds = vec![LOG.zip(stored), LOG.zip(SimpleFileOptions::default())];
    seeds.extend([native, ocsf, two, page, http].map(String::into_bytes));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_verify() {
        for bytes in seeds().into_iter().take(2) {
            let zipped = Zipped::of("part.zip", Cursor::new(bytes)).ok().unwrap();
            assert!(archive::check(&[Source::Zip(zipped)], false, &LOG.keys()).is_ok());
        }
        let (mut seen, keys) = (export::Seen::default(), LOG.keys());
        for line in LOG.lines(7).iter().take(1).chain(&LOG.lines(8)[1..]) {
            assert!(seen.take(line.as_bytes(), &keys, "line").is_ok(), "{line}");
        }
    }
}
