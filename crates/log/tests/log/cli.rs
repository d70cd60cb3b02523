//! The verifier as its user meets it: arguments, files, exit status and the sentence.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use sammati_log::cosignature::split_note;
use sammati_log::subject::Proved;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Log, signer};
use crate::subject::People;
use crate::vectors::path;
use crate::witness::{TIME, cosigner, witness};

/// Runs the verifier to its end.
pub(crate) fn verify(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sammati-verify"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse its arguments and be gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn vector(name: &str) -> String {
    path(name).to_str().unwrap().to_owned()
}

pub(crate) fn saved(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let file: PathBuf = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    Path::to_str(&file).unwrap().to_owned()
}

#[test]
fn the_vectors_verify() {
    let (key, old) = (vector("log.vkey"), vector("checkpoint-300.note"));
    let (new, growth) = (vector("checkpoint-1000.note"), vector("300-to-1000.consistency"));
    let (leaf, proof) = (vector("leaf-777.bin"), vector("leaf-777.tlog-proof"));
    let output = verify(&["checkpoint", "--vkey", &key, &old], b"");
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert!(said(&output).starts_with("verified: log log.example/sammati/vectors at 300 leaves"));
    let output = verify(&["inclusion", "--vkey", &key, "--leaf", &leaf, &proof], b"");
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert!(said(&output).starts_with("verified: the leaf is number 777 of log "));
    let both = ["--old", &old, "--new", &new, "--proof", &growth];
    let output = verify(&[&["consistency", "--vkey", &key][..], &both].concat(), b"");
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert!(said(&output).starts_with("verified: the first 300 leaves are unchanged in log "));
}

#[test]
fn json_says_the_same() {
    let (key, leaf, proof) = (signer().vkey(), vector("leaf-777.bin"), vector("leaf-777.tlog-proof"));
    let output = verify(&["--json", "inclusion", "--vkey", &key, "--leaf", &leaf, &proof], b"");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &answer["verified"]), (0, &Value::Bool(true)));
    assert_eq!(
        (&answer["index"], &answer["checkpoint"]["size"]),
        (&777.into(), &1000.into())
    );
    let output = verify(&["inclusion", "--json", "--vkey", &key, "--leaf", &proof, &proof], b"");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &answer["verified"]), (1, &Value::Bool(false)));
    assert_eq!(answer["fault"], "evidence");
    assert!(
        answer["reason"]
            .as_str()
            .unwrap()
            .starts_with("does not verify: leaf and proof lead to root ")
    );
}

/// One byte changed in any hash of the proof, in the leaf, or in the checkpoint: status 1 and a reason.
#[test]
fn a_changed_byte_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (key, leaf) = (vector("log.vkey"), vector("leaf-777.bin"));
    let proof = fs::read_to_string(path("leaf-777.tlog-proof")).unwrap();
    let (start, end) = (proof.find("777\n").unwrap() + 4, proof.find("\n\n").unwrap());
    for at in (start..end).step_by(45) {
        let mut changed = proof.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let file = saved(&folder, "changed.tlog-proof", changed);
        let output = verify(&["inclusion", "--vkey", &key, "--leaf", &leaf, &file], b"");
        assert_eq!(code(&output), 1, "{}", said(&output));
        assert!(said(&output).starts_with("does not verify: leaf and proof lead to root "));
    }
    let original = vector("leaf-777.tlog-proof");
    let mut bytes = fs::read(path("leaf-777.bin")).unwrap();
    bytes[3] ^= 1;
    let file = saved(&folder, "leaf", bytes);
    assert_eq!(
        code(&verify(&["inclusion", "--vkey", &key, "--leaf", &file, &original], b"")),
        1
    );
    let note = fs::read_to_string(path("checkpoint-300.note"))
        .unwrap()
        .replace("\n300\n", "\n301\n");
    let file = saved(&folder, "note", note);
    let output = verify(&["checkpoint", "--vkey", &key, &file], b"");
    assert_eq!(code(&output), 1);
    assert!(said(&output).contains("does not fit the text"), "{}", said(&output));
    // Another index in the proof: not where the leaf is.
    for index in ["index 778", "index 1000"] {
        let file = saved(&folder, "moved", proof.replace("index 777", index));
        assert_eq!(
            code(&verify(&["inclusion", "--vkey", &key, "--leaf", &leaf, &file], b"")),
            1
        );
    }
}

#[test]
fn a_rewritten_history_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (key, growth) = (vector("log.vkey"), vector("300-to-1000.consistency"));
    let old = saved(&folder, "old", Log::of(299).note(299));
    let new = vector("checkpoint-1000.note");
    let run = |old: &str, new: &str, proof: &str| {
        verify(
            &[
                "consistency",
                "--vkey",
                &key,
                "--old",
                old,
                "--new",
                new,
                "--proof",
                proof,
            ],
            b"",
        )
    };
    assert_eq!(code(&run(&old, &new, &growth)), 1);
    let empty = saved(&folder, "empty", "");
    let output = run(&vector("checkpoint-300.note"), &new, &empty);
    assert_eq!((code(&output), said(&output).contains("too few")), (1, true));
    assert_eq!(code(&run(&new, &new, &empty)), 0);
    assert_eq!(code(&run(&new, &vector("checkpoint-300.note"), &growth)), 2);
}

#[test]
fn another_key_is_not_enough() {
    let folder = tempfile::tempdir().unwrap();
    let other = crate::fixture::signer_from_seed("log.example/other", &[9; 32]).vkey();
    let note = vector("checkpoint-300.note");
    let output = verify(&["checkpoint", "--vkey", &other, &note], b"");
    assert_eq!(code(&output), 1);
    assert!(
        said(&output).contains("not signed by log.example/other+"),
        "{}",
        said(&output)
    );
    // Beside the right one it does no harm; and the origin can be demanded.
    let own = saved(&folder, "own.vkey", signer().vkey());
    assert_eq!(
        code(&verify(&["checkpoint", "--vkey", &other, "--vkey", &own, &note], b"")),
        0
    );
    assert_eq!(
        code(&verify(&["checkpoint", "--vkey", &own, "--origin", "else", &note], b"")),
        1
    );
}

#[test]
fn standard_input_serves_once() {
    let key = vector("log.vkey");
    let note = fs::read(path("checkpoint-300.note")).unwrap();
    assert_eq!(code(&verify(&["checkpoint", "--vkey", &key, "-"], &note)), 0);
    let key = fs::read(path("log.vkey")).unwrap();
    let (old, new) = (vector("checkpoint-300.note"), vector("checkpoint-1000.note"));
    let growth = vector("300-to-1000.consistency");
    let rest = ["--old", &old, "--new", &new, "--proof", &growth];
    let arguments = [&["consistency", "--vkey", "-"][..], &rest].concat();
    assert_eq!(code(&verify(&arguments, &key)), 0);
    assert_eq!(code(&verify(&["checkpoint", "--vkey", "-", "-"], &note)), 2);
}

#[test]
fn unusable_input_is_not_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let (key, note) = (vector("log.vkey"), vector("checkpoint-300.note"));
    let binary = saved(&folder, "binary", [0xff, 0xfe]);
    let large = saved(&folder, "large", vec![b'a'; 300 * 1024]);
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    for (status, arguments) in [
        (3, vec!["checkpoint", "--vkey", &key, &missing]),
        (3, vec!["checkpoint", "--vkey", &key, &binary]),
        (3, vec!["checkpoint", "--vkey", &key, &large]),
        (3, vec!["checkpoint", "--vkey", &missing, &note]),
        (3, vec!["checkpoint", "--vkey", "a+b+c", &note]),
        (3, vec!["checkpoint", "--vkey", &note, &note]),
        (2, vec!["checkpoint", &note]),
        (2, vec!["checkpoint", "--vkey", &key]),
        (2, vec!["inclusion", "--vkey", &key, "--leaf", &note]),
        (2, vec!["inclusion", "--vkey", &key, "--leaf", &note, "--log", "."]),
        (2, vec!["consistency", "--vkey", &key, "--old", &note]),
        (
            2,
            vec!["inclusion", "--vkey", &key, "--leaf", &note, &note, "--index", "0"],
        ),
        (3, vec!["inclusion", "--vkey", &key, "--leaf", &note, &note]),
        (2, vec![]),
    ] {
        let output = verify(&arguments, b"");
        assert_eq!(code(&output), status, "{arguments:?}: {}", said(&output));
        assert!(!said(&output).is_empty());
    }
}

/// The pages of a list as grpcurl prints them.
fn pages(list: &[Proved], head: &str, size: usize) -> String {
    pages_of(list, head, &list[0].bundle.checkpoint_note, size)
}

fn pages_of(list: &[Proved], head: &str, checkpoint: &str, size: usize) -> String {
    let event = |proved: &Proved| {
        let leaf = base64::engine::general_purpose::STANDARD.encode(&proved.leaf);
        serde_json::json!({"leaf": leaf, "proof": proved.bundle.to_string()})
    };
    let mut pages: Vec<Value> = list
        .chunks(size)
        .map(|page| serde_json::json!({"events": page.iter().map(event).collect::<Vec<_>>(), "nextPageToken": "x"}))
        .collect();
    pages.push(serde_json::json!({"events": [], "subjectHead": {"note": head, "checkpoint": checkpoint}}));
    pages.iter().map(|page| format!("{page:#}\n")).collect()
}

#[test]
fn a1_subject_says_whether_these_are_all() {
    let folder = TempDir::new().unwrap();
    let people = People::of(&[1, 2, 1, 1, 2, 1]);
    let (list, key) = (people.list(1, 6), signer().vkey());
    let head = people.head(1, 6).sign(&signer()).unwrap();
    let all = saved(&folder, "all", pages(&list, &head, 3));
    let output = verify(&["subject", "--vkey", &key, &all], b"");
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert!(said(&output).starts_with("verified: all 4 events of the subject in log "));
    let part = [&list[..1], &list[2..]].concat();
    let output = verify(
        &["subject", "--json", "--vkey", &key, "-"],
        pages(&part, &head, 3).as_bytes(),
    );
    assert_eq!(code(&output), 1, "{}", said(&output));
    assert!(
        said(&output).contains("event 3 of the subject: its leaf is number 3 of the log"),
        "{}",
        said(&output)
    );
    // What was stated before.
    let old = saved(&folder, "old", people.head(1, 4).sign(&signer()).unwrap());
    let output = verify(&["subject", "--vkey", &key, "--since", &old, &all], b"");
    assert_eq!(code(&output), 0, "{}", said(&output));
    let fewer = People::of(&[1, 2, 2, 2, 2, 1]);
    let head = fewer.head(1, 6).sign(&signer()).unwrap();
    let fewer = saved(&folder, "fewer", pages(&fewer.list(1, 6), &head, 3));
    let output = verify(&["subject", "--vkey", &key, &fewer], b"");
    assert_eq!(code(&output), 0, "{}", said(&output));
    let output = verify(&["subject", "--vkey", &key, "--since", &old, &fewer], b"");
    assert_eq!(code(&output), 1, "{}", said(&output));
    // A list that breaks off cannot be judged.
    let output = verify(&["subject", "--vkey", &key, "-"], b"{\"events\": []}");
    assert_eq!(code(&output), 3, "{}", said(&output));
}

/// A list is of a tree that the witnesses saw, and of the log that was asked for.
#[test]
fn a2_subject_asks_for_origin_and_cosignatures() {
    let folder = TempDir::new().unwrap();
    let people = People::of(&[1, 2, 1, 1, 2, 1]);
    let (list, key) = (people.list(1, 6), signer().vkey());
    let head = people.head(1, 6).sign(&signer()).unwrap();
    let note = &list[0].bundle.checkpoint_note;
    let (text, _) = split_note(note).unwrap();
    let cosigned = format!("{note}{}", witness().cosign(text, TIME));
    let plain = saved(&folder, "plain", pages(&list, &head, 3));
    let seen = saved(&folder, "seen", pages_of(&list, &head, &cosigned, 3));
    let own = witness().witness().vkey();
    let other = cosigner("w.example/2", &[3; 32]).witness().vkey();
    let earlier = people.list(1, 4)[0].bundle.checkpoint_note.clone();
    let earlier = saved(&folder, "earlier", pages_of(&list, &head, &earlier, 3));
    let none = saved(&folder, "none", pages_of(&list, &head, "", 3));
    for (status, rest) in [
        (0, vec![plain.as_str()]),
        (0, vec!["--witness", &own, &seen]),
        (1, vec!["--witness", &own, &plain]),
        (1, vec!["--witness", &own, "--witness", &other, &seen]),
        (
            0,
            vec!["--witness", &own, "--witness", &other, "--cosignatures", "1", &seen],
        ),
        (0, vec!["--origin", crate::fixture::ORIGIN, &plain]),
        (1, vec!["--origin", "log.example/other", &plain]),
        (1, vec![&earlier]),
        (3, vec![&none]),
    ] {
        let output = verify(&[&["subject", "--vkey", &key], &rest[..]].concat(), b"");
        assert_eq!(code(&output), status, "{rest:?}: {}", said(&output));
    }
}
