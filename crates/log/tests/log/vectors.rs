//! The published vectors: what this crate makes of the fixed seed is, byte for byte, what lies in
//! `tests/vectors`, so a change of a format cannot slip through.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Verifier, open};
use sammati_log::cosignature::{Witness, cosignatures, split_note};
use sammati_log::hash::leaf_hash;
use sammati_log::proof::{consistency, format_path, parse_path, verify_consistency};
use sammati_log::witness::AddCheckpoint;

use crate::fixture::{Log, leaf, signer};
use crate::witness::{TIME, witness};

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Leaf 777 of 1 000, and the growth from 300 leaves to 1 000.
fn made() -> [(&'static str, Vec<u8>); 11] {
    let log = Log::of(1000);
    let proof = format_path(&consistency(300, 1000, &log.hashes).unwrap());
    let (text, line) = (log.note(1000), cosigned(&log, 1000));
    let mut bundle = log.bundle(777, 1000);
    bundle.checkpoint_note.push_str(&line);
    let request = AddCheckpoint {
        old: 300,
        proof: consistency(300, 1000, &log.hashes).unwrap(),
        note: text.clone(),
    };
    [
        ("witness.vkey", format!("{}\n", witness().witness().vkey()).into_bytes()),
        ("checkpoint-1000.cosignature", line.clone().into_bytes()),
        ("checkpoint-1000.cosigned.note", format!("{text}{line}").into_bytes()),
        ("leaf-777.cosigned.tlog-proof", bundle.to_string().into_bytes()),
        ("300-to-1000.add-checkpoint", request.to_string().into_bytes()),
        ("log.vkey", format!("{}\n", signer().vkey()).into_bytes()),
        ("checkpoint-300.note", log.note(300).into_bytes()),
        ("checkpoint-1000.note", log.note(1000).into_bytes()),
        ("leaf-777.bin", leaf(777)),
        ("leaf-777.tlog-proof", log.bundle(777, 1000).to_string().into_bytes()),
        ("300-to-1000.consistency", proof.into_bytes()),
    ]
}

/// The witness's line for the checkpoint of the first `size` leaves.
fn cosigned(log: &Log, size: u64) -> String {
    let note = log.note(size);
    let (text, _) = split_note(&note).unwrap();
    witness().cosign(text, TIME)
}

/// Nothing of this crate made them: the same bytes come from the specifications alone, in another language.
#[test]
fn the_published_files_are_what_the_specifications_give() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("python3")
        .arg(path("make.py"))
        .arg(folder.path())
        .output()
        .expect("python3, which scripts/machine.sh installs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(files.len(), self::made().len());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(fs::read(&file).unwrap(), fs::read(path(name)).unwrap(), "{name}");
    }
}

#[test]
fn the_published_files_are_what_the_seed_gives() {
    for (name, bytes) in made() {
        // Set once to publish new vectors; without it they are only compared.
        if std::env::var_os("SAMMATI_WRITE_VECTORS").is_some() {
            fs::write(path(name), &bytes).unwrap();
        }
        assert_eq!(fs::read(path(name)).unwrap(), bytes, "{name}");
    }
}

#[test]
fn the_published_files_verify() {
    let keys = [Verifier::parse(read("log.vkey").trim_end()).unwrap()];
    let early = open(&read("checkpoint-300.note"), &keys).unwrap();
    let late = open(&read("checkpoint-1000.note"), &keys).unwrap();
    assert_eq!((early.size(), late.size()), (300, 1000));
    let witness = [Witness::parse(read("witness.vkey").trim_end()).unwrap()];
    let note = read("checkpoint-1000.cosigned.note");
    let (text, lines) = split_note(&note).unwrap();
    assert_eq!(cosignatures(text, lines, &witness).unwrap()[0].time, TIME);
    assert_eq!(open(&note, &keys).unwrap(), late);
    let request: AddCheckpoint = read("300-to-1000.add-checkpoint").parse().unwrap();
    request.judge(Some((300, early.root())), &keys).unwrap();
    let bundle: Bundle = read("leaf-777.tlog-proof").parse().unwrap();
    let leaf = leaf_hash(&fs::read(path("leaf-777.bin")).unwrap());
    assert_eq!(bundle.verify(leaf, &keys).unwrap(), late);
    let proof = parse_path(&read("300-to-1000.consistency")).unwrap();
    verify_consistency(300, 1000, early.root(), late.root(), &proof).unwrap();
}
