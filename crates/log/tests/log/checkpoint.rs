//! Signed notes: others' published ones verify, ours round-trip, and no changed byte goes unnoticed.

use proptest::prelude::*;
use sammati_log::checkpoint::{Checkpoint, MAX_NOTE, Signer, Verifier, open, open_as, sign};
use sammati_log::hash::EMPTY_ROOT;
use sammati_log::{Error, Fault, Hash32};

use crate::fixture::{Log, ORIGIN, signer, signer_from_seed};

/// The key in the examples of Go's `sumdb/note`, where its secret half is published too.
const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN_SEED: [u8; 32] = [
    0x81, 0x0a, 0x14, 0x02, 0xd5, 0x14, 0x6c, 0x8d, 0x84, 0xf2, 0x44, 0x33, 0x30, 0xf5, 0x40, 0x80, 0xeb, 0xf9, 0x8e,
    0xe1, 0x7d, 0x9c, 0x74, 0xf6, 0x25, 0x2f, 0xc5, 0xd5, 0xc7, 0x28, 0x31, 0x73,
];

/// The key of Go's checksum database, and a head of 2026 that it signed.
const SUMDB: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
const SUMDB_NOTE: &str = "go.sum database tree\n65209736\n\
    5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo=\n\n\
    \u{2014} sum.golang.org Az3grnbssgK7ubgFX36gVETtNv0U23qxyAhAMai2QUfeGa3nB/akvkMdlUErfcZz7l/R3cVtYspg3dxXABkGZZKdsQ8=\n";

fn keys() -> Vec<Verifier> {
    vec![signer().verifier().clone()]
}

#[test]
fn a_published_key_is_read_and_derived() {
    let signer = signer_from_seed("PeterNeumann", &NEUMANN_SEED);
    assert_eq!(signer.vkey(), NEUMANN);
    assert_eq!(Verifier::parse(NEUMANN).unwrap(), *signer.verifier());
    assert_eq!(signer.key_id(), 0xc74f_20a3);
    assert_eq!(format!("{signer:?}"), "Signer(PeterNeumann+c74f20a3)");
}

#[test]
fn a_published_checkpoint_verifies() {
    let sumdb = [Verifier::parse(SUMDB).unwrap()];
    let checkpoint = open_as(SUMDB_NOTE, "go.sum database tree", &sumdb).unwrap();
    assert_eq!(checkpoint.size(), 65_209_736);
    assert_eq!(
        checkpoint.root().to_string(),
        "5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo="
    );
    // Its origin is not its key's name, which only the one who says so gets.
    let error = open(SUMDB_NOTE, &sumdb).unwrap_err();
    assert!(matches!(error, Error::WrongOrigin { .. }), "{error}");
    let changed = SUMDB_NOTE.replace("65209736", "65209737");
    let error = open_as(&changed, "go.sum database tree", &sumdb).unwrap_err();
    assert!(matches!(error, Error::BadSignature { .. }), "{error}");
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let note = Log::of(5).note(5).into_bytes();
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut changed = note.clone();
            changed[at] ^= 1 << bit;
            let opened = String::from_utf8(changed).map(|note| open(&note, &keys()));
            assert!(!matches!(opened, Ok(Ok(_))), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn no_shortened_note_verifies() {
    let note = Log::of(5).note(5);
    for end in (0..note.len()).filter(|end| note.is_char_boundary(*end)) {
        assert!(open(&note[..end], &keys()).is_err(), "{end}");
    }
    assert!(open(&format!("{note}\n"), &keys()).is_err());
}

#[test]
fn others_signatures_are_passed_over_and_do_not_count() {
    let log = Log::of(5);
    let witness = signer_from_seed("witness.example", &[7; 32]);
    let checkpoint = Checkpoint::new("witness.example", 5, log.roots[5]).unwrap();
    let line = sign(&checkpoint, &witness).unwrap();
    let line = line.split_once("\n\n").unwrap().1;
    let note = format!("{}{line}", log.note(5));
    assert_eq!(open(&note, &keys()).unwrap().size(), 5);
    // The witness signed another text: known, its bad line refuses the note.
    let both = [keys().remove(0), witness.verifier().clone()];
    assert!(matches!(open(&note, &both), Err(Error::BadSignature { .. })));
    assert!(matches!(open(&log.note(5), &both[1..]), Err(Error::NotSigned { .. })));
    assert!(matches!(open(&log.note(5), &[]), Err(Error::NotSigned { .. })));
    // Another log's key cannot speak for this log.
    let body = Checkpoint::new(ORIGIN, 5, log.roots[5]).unwrap();
    assert!(matches!(sign(&body, &witness), Err(Error::WrongOrigin { .. })));
}

#[test]
fn extension_lines_are_tolerated() {
    let body = format!("log\n1\n{EMPTY_ROOT}\n");
    assert_eq!(Checkpoint::parse_body(&body).unwrap().body(), body);
    let extended = Checkpoint::parse_body(&format!("{body}anything\nmore\n")).unwrap();
    assert_eq!(extended.body(), body);
}

#[test]
fn malformed_bodies_are_refused() {
    let root = EMPTY_ROOT;
    for body in [
        String::new(),
        "log\n1\n".to_owned(),
        format!("log\n1\n{root}"),
        format!("\n1\n{root}\n"),
        format!("log\n01\n{root}\n"),
        format!("log\n+1\n{root}\n"),
        format!("log\n-1\n{root}\n"),
        format!("log\n9223372036854775808\n{root}\n"),
        format!("log\n1 \n{root}\n"),
        format!("log\n1\n{root}\n\n"),
        format!("log\n1\n{root}=\n"),
        format!("lo\tg\n1\n{root}\n"),
        format!("log\n1\n{}\n", &root.to_string()[..40]),
        format!("log\n0\n{}\n", Hash32([1; 32])),
    ] {
        let error = Checkpoint::parse_body(&body).unwrap_err();
        assert_eq!(error.fault(), Fault::Input, "{body:?}");
    }
    assert!(open(&"a".repeat(MAX_NOTE + 1), &keys()).is_err());
}

#[test]
fn malformed_keys_are_refused() {
    for at in 0..NEUMANN.len() {
        let mut changed = NEUMANN.as_bytes().to_vec();
        changed[at] ^= 1;
        let changed = String::from_utf8(changed).unwrap();
        assert!(Verifier::parse(&changed).is_err(), "{changed}");
        assert!(Verifier::parse(&NEUMANN[..at]).is_err(), "{at}");
    }
    assert!(Verifier::parse(&NEUMANN.replace("c74f20a3", "C74F20A3")).is_err());
    for (name, der) in [("log", &b"rubbish"[..]), ("log", &[])] {
        assert_eq!(Signer::from_pkcs8(name, der).unwrap_err().fault(), Fault::Key);
    }
    let good = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new());
    let good = good.unwrap();
    assert!(Signer::from_pkcs8("log.example", good.as_ref()).is_ok());
    for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b", &"a".repeat(257)] {
        assert_eq!(
            Signer::from_pkcs8(name, good.as_ref()).unwrap_err().fault(),
            Fault::Input
        );
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_opened(size in 1_u64..=i64::MAX as u64, root in any::<[u8; 32]>()) {
        let checkpoint = Checkpoint::new(ORIGIN, size, Hash32(root)).unwrap();
        let note = sign(&checkpoint, &signer()).unwrap();
        prop_assert_eq!(open(&note, &keys()).unwrap(), checkpoint);
    }

    #[test]
    fn parsers_never_panic(text in "\\PC{0,80}", lines in "[a-z0-9+/=\n\u{2014} ]{0,120}") {
        for text in [&text, &lines] {
            let _ = Verifier::parse(text);
            let _ = open(text, &keys());
            let _ = open(&format!("{text}\n\n\u{2014} log {text}\n"), &keys());
            if let Ok(checkpoint) = Checkpoint::parse_body(text) {
                prop_assert!(text.starts_with(&checkpoint.body()));
            }
        }
    }
}
