//! Cosignatures, and what a witness answers to each request.

use proptest::prelude::*;
use sammati_log::Fault;
use sammati_log::checkpoint::{MAX_NOTE, Verifier, open};
use sammati_log::cosignature::{Cosigner, Witness, cosignatures, split_note};
use sammati_log::hash::EMPTY_ROOT;
use sammati_log::proof::consistency;
use sammati_log::witness::{AddCheckpoint, Rejected};

use crate::fixture::{Log, ORIGIN, PKCS8, signer, signer_from_seed};

pub(crate) const NAME: &str = "witness.example/vectors";
pub(crate) const TIME: u64 = 1_795_305_600;

pub(crate) fn cosigner(name: &str, seed: &[u8; 32]) -> Cosigner {
    Cosigner::from_pkcs8(name, &[&PKCS8[..], seed].concat()).unwrap()
}

pub(crate) fn witness() -> Cosigner {
    cosigner(NAME, b"sammati witness, a fixed seed...")
}

fn keys() -> Vec<Verifier> {
    vec![signer().verifier().clone()]
}

fn request(log: &Log, old: u64, size: u64) -> AddCheckpoint {
    AddCheckpoint {
        old,
        proof: consistency(old, size, &log.hashes).unwrap(),
        note: log.note(size),
    }
}

#[test]
fn a_cosignature_verifies_over_its_text_alone() {
    let note = Log::of(7).note(7);
    let (text, own) = split_note(&note).unwrap();
    let line = witness().cosign(text, TIME);
    let key = witness().witness().clone();
    assert_eq!(key.verify(text, &line).unwrap(), Some(TIME));
    assert_eq!(Witness::parse(&key.vkey()).unwrap(), key);
    // The note with its cosignature is still the log's; each ignores the other's line.
    assert_eq!(open(&format!("{note}{line}"), &keys()).unwrap().size(), 7);
    assert_eq!(key.verify(text, own).unwrap(), None);
    let found = cosignatures(text, &format!("{own}{line}{line}"), std::slice::from_ref(&key)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].time, found[0].line.as_str()), (TIME, line.as_str()));
    // Another text, another time, a changed byte.
    let refused = key.verify(&text.replace("\n7\n", "\n8\n"), &line).unwrap_err();
    assert_eq!(refused.fault(), Fault::Evidence);
    let (head, base64) = line.trim_end().rsplit_once(' ').unwrap();
    let flip = |c: char| if c == 'A' { 'B' } else { 'A' };
    for at in 6..base64.len() - 3 {
        let mut changed: Vec<char> = base64.chars().collect();
        changed[at] = flip(changed[at]);
        let line = format!("{head} {}\n", changed.into_iter().collect::<String>());
        assert_eq!(key.verify(text, &line).unwrap_err().fault(), Fault::Evidence, "{at}");
    }
    // A key of the same name, or of a log, is another.
    let other = cosigner(NAME, &[9; 32]).witness().clone();
    assert_eq!(other.verify(text, &line).unwrap(), None);
    assert!(Witness::parse(&signer().vkey()).is_err());
    assert!(Verifier::parse(&key.vkey()).is_err());
}

#[test]
fn a_witness_answers_as_specified() {
    let (log, fork) = (Log::of(300), Log::of(299));
    let status = |known: Option<u64>, request: &AddCheckpoint| {
        let known = known.map(|size| (size, log.roots[size as usize]));
        request.judge(known, &keys()).err().map(|rejected| rejected.status())
    };
    assert_eq!(status(None, &request(&log, 0, 300)), None);
    assert_eq!(status(None, &request(&log, 0, 0)), None);
    assert_eq!(status(Some(0), &request(&log, 0, 300)), None);
    assert_eq!(status(Some(120), &request(&log, 120, 300)), None);
    assert_eq!(status(Some(300), &request(&log, 300, 300)), None);
    // Not where the witness is.
    for (known, old) in [(None, 120), (Some(120), 0), (Some(120), 119), (Some(300), 120)] {
        assert_eq!(status(known, &request(&log, old, 300)), Some(409), "{known:?} {old}");
    }
    assert_eq!(
        request(&log, 120, 120).judge(Some((300, log.roots[300])), &keys()),
        Err(Rejected::Conflict(300))
    );
    // Another root of the same size.
    let known = Some((300, fork.roots[299]));
    assert_eq!(
        request(&log, 300, 300).judge(known, &keys()),
        Err(Rejected::Conflict(300))
    );
    // That convicts the log, and nothing else that is refused does.
    assert!(request(&log, 300, 300).forks(known, &keys()));
    assert!(request(&log, 0, 300).forks(known, &keys()), "wherever it begins");
    assert!(!request(&log, 0, 300).forks(Some((300, log.roots[300])), &keys()));
    assert!(!request(&log, 0, 120).forks(known, &keys()));
    assert!(!request(&log, 300, 300).forks(None, &keys()));
    assert!(!request(&log, 300, 300).forks(known, &[]), "what it did not sign");
    // Another history.
    let known = Some((120, log.roots[121]));
    assert_eq!(request(&log, 120, 300).judge(known, &keys()).unwrap_err().status(), 422);
    let mut long = request(&log, 0, 300);
    long.proof.push(EMPTY_ROOT);
    assert_eq!(status(None, &long), Some(422));
    let mut changed = request(&log, 120, 300);
    changed.proof[0] = EMPTY_ROOT;
    assert_eq!(status(Some(120), &changed), Some(422));
    // Older than it says.
    let mut reversed = request(&log, 120, 300);
    reversed.old = 301;
    assert_eq!(status(Some(120), &reversed), Some(400));
    // By another key, or by none.
    let mut forged = request(&log, 120, 300);
    forged.note = forged.note.replace("\n300\n", "\n299\n");
    assert_eq!(status(Some(120), &forged), Some(403));
    let other = vec![signer_from_seed(ORIGIN, &[8; 32]).verifier().clone()];
    let refused = request(&log, 0, 300).judge(None, &other).unwrap_err();
    assert_eq!(refused.status(), 403);
}

/// Extension lines are no concern of a witness, and part of what it signs.
#[test]
fn extension_lines_are_cosigned_as_they_are() {
    let note = Log::of(3).note(3);
    let (text, _) = split_note(&note).unwrap();
    let extended = signer().sign_note(&format!("{text}an extension\n")).unwrap();
    let request = AddCheckpoint {
        old: 0,
        proof: Vec::new(),
        note: extended,
    };
    let accepted = request.judge(None, &keys()).unwrap();
    assert_eq!(
        (accepted.text, accepted.checkpoint.size()),
        (format!("{text}an extension\n"), 3)
    );
}

#[test]
fn a_request_is_written_as_specified() {
    let log = Log::of(300);
    let one = request(&log, 120, 300);
    let text = one.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        (lines[0], lines[1].len(), lines[one.proof.len() + 1]),
        ("old 120", 44, "")
    );
    assert!(text.ends_with(&one.note));
    assert_eq!(text.parse::<AddCheckpoint>().unwrap(), one);
    assert_eq!(one.origin(), ORIGIN);
    for bad in [
        "",
        "old 1",
        "old 01\n\n",
        "old -1\n\n",
        "new 1\n\n",
        "old 1\nAAAA\n\n",
        "old 1\n",
        &format!("old 1\n{}\n", log.roots[1]),
        &text.replace("old 120", "old  120"),
        &format!("old 1\n{}\n", format!("{}\n", log.roots[1]).repeat(64)),
        &"x".repeat(2 * MAX_NOTE),
    ] {
        assert_eq!(
            bad.parse::<AddCheckpoint>().unwrap_err().fault(),
            Fault::Input,
            "{bad:.40}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(old in any::<u64>(), hashes in prop::collection::vec(any::<[u8; 32]>(), 0..=63), note in "[ -~]{1,40}\n([ -~]{1,9}\n){0,4}\n[ -~]{0,9}") {
        let request = AddCheckpoint { old, proof: hashes.into_iter().map(Into::into).collect(), note };
        prop_assert_eq!(request.to_string().parse::<AddCheckpoint>().unwrap(), request);
    }

    #[test]
    fn reading_never_panics(text in "(old [0-9]{0,3}\n)?([A-Za-z0-9+/=]{44}\n){0,3}(\n)?(\\PC{0,20}\n){0,5}(\n)?(\u{2014} \\PC{0,40}\n)?") {
        if let Ok(request) = text.parse::<AddCheckpoint>() {
            let _ = request.judge(Some((3, EMPTY_ROOT)), &keys());
        }
        let _ = witness().witness().verify("text\n", &text);
    }
}
