//! Bundles: the text is the specification's, it round-trips, and no changed byte proves anything.

use proptest::prelude::*;
use sammati_log::bundle::Bundle;
use sammati_log::hash::leaf_hash;
use sammati_log::{Fault, Hash32};

use crate::fixture::{Log, leaf, signer};

fn parse(text: &str) -> Result<Bundle, sammati_log::Error> {
    text.parse()
}

#[test]
fn the_text_is_as_specified() {
    let hash = Hash32([0; 32]);
    let checkpoint_note = "origin\n2\nroot\n\n\u{2014} origin sig\n".to_owned();
    let mut bundle = Bundle {
        index: 1,
        path: vec![hash],
        checkpoint_note,
        extra: b"xy".to_vec(),
    };
    let rest = "origin\n2\nroot\n\n\u{2014} origin sig\n";
    let expected = format!("c2sp.org/tlog-proof@v1\nextra eHk=\nindex 1\n{hash}\n\n{rest}");
    assert_eq!(bundle.to_string(), expected);
    bundle.extra.clear();
    bundle.path.clear();
    assert_eq!(bundle.to_string(), format!("c2sp.org/tlog-proof@v1\nindex 1\n\n{rest}"));
    assert_eq!(parse(&bundle.to_string()).unwrap(), bundle);
}

#[test]
fn no_changed_byte_proves_anything() {
    let (log, key) = (Log::of(7), [signer().verifier().clone()]);
    for index in [0, 3, 6] {
        let text = log.bundle(index, 7).to_string();
        let leaf = leaf(index);
        parse(&text).unwrap().verify(leaf_hash(&leaf), &key).unwrap();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(changed) else {
                    continue;
                };
                let verified = parse(&changed).and_then(|b| b.verify(leaf_hash(&leaf), &key));
                assert!(verified.is_err(), "leaf {index} byte {at} bit {bit}: {changed}");
            }
        }
        for at in 0..leaf.len() {
            let mut changed = leaf.clone();
            changed[at] ^= 1;
            let verified = parse(&text).unwrap().verify(leaf_hash(&changed), &key);
            assert_eq!(verified.unwrap_err().fault(), Fault::Evidence);
        }
    }
}

#[test]
fn malformed_texts_are_refused() {
    let good = Log::of(7).bundle(3, 7).to_string();
    let hash = Hash32([0; 32]);
    for bad in [
        String::new(),
        good.replace("proof@v1", "proof@v2"),
        good.replace("index 3", "index 03"),
        good.replace("index 3", "index +3"),
        good.replace("index 3", "index 18446744073709551616"),
        good.replace("index 3\n", ""),
        good.replace("index 3", "extra \nindex 3"),
        good.replace("index 3", "extra !\nindex 3"),
        good.replace("index 3", "extra YQ==\nextra YQ==\nindex 3"),
        good.replace('\n', "\r\n"),
        good.replace("index 3\n", &format!("index 3\n{}", format!("{hash}\n").repeat(65))),
        good.replace("\n\n", "\n"),
        good.repeat(2000),
    ] {
        assert_eq!(parse(&bad).unwrap_err().fault(), Fault::Input, "{bad:.60}");
    }
}

proptest! {
    #[test]
    fn texts_round_trip(
        index in any::<u64>(), path in prop::collection::vec(any::<[u8; 32]>(), 0..=64),
        checkpoint_note in "\\PC{0,80}", extra in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let path = path.into_iter().map(Hash32).collect();
        let bundle = Bundle { index, path, checkpoint_note, extra };
        prop_assert_eq!(parse(&bundle.to_string()).unwrap(), bundle);
    }

    #[test]
    fn parsing_never_panics(text in "\\PC{0,80}", rest in "[extraind 0-9A-F+/=\n]{0,160}") {
        let _ = parse(&text);
        for text in [format!("c2sp.org/tlog-proof@v1\n{rest}"), format!("c2sp.org/tlog-proof@v1\nindex 1\n{rest}")] {
            if let Ok(bundle) = parse(&text) {
                prop_assert_eq!(bundle.to_string(), text);
            }
        }
    }
}
