//! An export in each of its words, and everything that can be done to one of its lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use sammati_log::cosignature::split_note;
use sammati_log::subject::Proved;
use serde_json::{Value, json};

use crate::cli::{code, said, verify};
use crate::fixture::signer;
use crate::subject::People;
use crate::witness::{TIME, witness};

/// The fields of a leaf that matter here.
#[derive(Clone, PartialEq, Message)]
struct Leaf {
    #[prost(string, tag = "2")]
    event_id: String,
    #[prost(string, tag = "4")]
    event_type: String,
}

fn log() -> People {
    let leaf = |n: usize| Leaf {
        event_id: format!("event {n}"),
        event_type: "access.denied".to_owned(),
    };
    People::with((0..9).map(|n| leaf(n).encode_to_vec()).collect())
}

fn native(proved: &Proved) -> Value {
    let leaf = Leaf::decode(proved.leaf.as_slice()).unwrap();
    json!({
        "event": {"header": {"eventId": leaf.event_id, "eventType": leaf.event_type}},
        "leaf": STANDARD.encode(&proved.leaf),
        "proof": proved.bundle.to_string(),
    })
}

fn fhir(proved: &Proved) -> Value {
    let leaf = Leaf::decode(proved.leaf.as_slice()).unwrap();
    let proof = STANDARD.encode(proved.bundle.to_string());
    json!({
        "resourceType": "AuditEvent",
        "id": leaf.event_id,
        "extension": [
            {"url": "https://x.example/log-proof", "valueAttachment": {"data": proof}},
            {"url": "https://x.example/log-leaf", "valueBase64Binary": STANDARD.encode(&proved.leaf)},
            {"url": "https://x.example/event-type", "valueCode": leaf.event_type},
        ],
    })
}

fn ocsf(proved: &Proved) -> Value {
    let leaf = Leaf::decode(proved.leaf.as_slice()).unwrap();
    json!({
        "class_uid": 6003,
        "metadata": {"uid": leaf.event_id, "event_code": leaf.event_type},
        "unmapped": {"leaf": STANDARD.encode(&proved.leaf), "tlog_proof": proved.bundle.to_string()},
    })
}

fn lines(lines: &[Value]) -> Vec<u8> {
    lines
        .iter()
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .into_bytes()
}

fn judged(file: &[u8]) -> (i32, String) {
    let output = verify(&["export", "--vkey", &signer().vkey(), "-"], file);
    (code(&output), said(&output))
}

#[test]
fn a2_each_line_of_an_export_is_checked_in_any_of_its_words() {
    let people = log();
    for spelled in [native, fhir, ocsf] {
        // In no order that matters, with gaps, and with what all events of one person end with.
        let mut file: Vec<_> = [2, 8, 3].map(|n| spelled(&people.proved(n, 9))).into();
        file.push(json!({"subjectHead": {"note": "n", "checkpoint": "c"}}));
        let (code, said) = judged(&lines(&file));
        assert_eq!(code, 0, "{said}");
        assert!(
            said.starts_with("verified: 3 events, each once, are in log log.example/sammati/vectors at 9"),
            "{said}"
        );
    }
    let output = verify(
        &["export", "--json", "--vkey", &signer().vkey(), "-"],
        &lines(&[ocsf(&people.proved(0, 7))]),
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&answer["events"], &answer["checkpoint"]["size"]),
        (&1.into(), &7.into())
    );
}

#[test]
fn a2_a_line_that_is_changed_is_named() {
    let people = log();
    let spelled = [native, fhir, ocsf];
    let good = |n: usize| spelled[n % 3](&people.proved(n, 9));
    let refused = |changed: Value, why: &str| {
        let (code, said) = judged(&lines(&[good(1), changed]));
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("line 2") && said.contains(why), "{said}, not {why}");
    };
    for spelled in spelled {
        let mut other = people.proved(2, 9);
        other.leaf = people.leaves[3].clone();
        refused(spelled(&other), "leaf and proof lead to root");
        let mut other = people.proved(2, 9);
        other.bundle.index = 3;
        refused(spelled(&other), "lead to root");
        refused(spelled(&people.proved(2, 8)), "export all with one tree_size");
        refused(
            spelled(&people.proved(1, 9)),
            "event 1 of the log stands in the file twice",
        );
        // Another key.
        let text = spelled(&people.proved(2, 9)).to_string();
        let renamed: Value = serde_json::from_str(&text.replacen("event 2", "event 7", 1)).unwrap();
        refused(
            renamed,
            "the line tells of event \"event 7\", its leaf is of \"event 2\"",
        );
        let retold: Value = serde_json::from_str(&text.replacen("access.denied", "access.authorized", 1)).unwrap();
        refused(retold, "the line tells of type \"access.authorized\"");
    }
    // A signature that is not the log's.
    let output = verify(
        &["export", "--vkey", &witness().witness().vkey(), "-"],
        &lines(&[good(0)]),
    );
    assert_ne!(code(&output), 0, "{}", said(&output));
}

#[test]
fn what_is_no_export_is_not_judged() {
    let people = log();
    let mut without = native(&people.proved(0, 9));
    without["leaf"].take();
    for (file, why) in [
        (Vec::new(), "there is no event in it"),
        (b"\n\n".to_vec(), "there is no event in it"),
        (b"{\n".to_vec(), "line 1"),
        (lines(&[without]), "it has no leaf"),
        (lines(&[json!({"resourceType": "AuditEvent"})]), "it has no log-proof"),
        (lines(&[json!({"class_uid": 6003})]), "it has no unmapped.leaf"),
    ] {
        let (code, said) = judged(&file);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(why), "{said}, not {why}");
    }
    // Bytes of a line that breaks off are no line.
    let mut file = lines(&[native(&people.proved(0, 9))]);
    file.truncate(file.len() - 20);
    assert_eq!(judged(&file).0, 3);
}

/// Between two calls witnesses may have signed: the tree is the same.
#[test]
fn a2_an_export_asks_for_cosignatures() {
    let people = log();
    let cosigned = |n: usize| {
        let mut proved = people.proved(n, 9);
        let line = witness().cosign(split_note(&proved.bundle.checkpoint_note).unwrap().0, TIME);
        proved.bundle.checkpoint_note.push_str(&line);
        native(&proved)
    };
    let (key, own) = (signer().vkey(), witness().witness().vkey());
    let asked = ["export", "--vkey", &key, "--witness", &own, "-"];
    let output = verify(&asked, &lines(&[cosigned(0), cosigned(1)]));
    assert_eq!(code(&output), 0, "{}", said(&output));
    let mixed = lines(&[native(&people.proved(0, 9)), cosigned(1)]);
    assert_eq!(code(&verify(&asked, &mixed)), 1);
    assert_eq!(judged(&mixed).0, 0);
}
