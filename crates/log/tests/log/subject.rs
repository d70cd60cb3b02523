//! Are these all? A log with the events of two people, and everything that can be taken out of one's list.

use proptest::prelude::*;
use prost::Message;
use sammati_log::Error;
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::Checkpoint;
use sammati_log::edge::RightEdge;
use sammati_log::hash::leaf_hash;
use sammati_log::proof::inclusion;
use sammati_log::subject::{Chains, Head, Proved, verify, verify_since};

use crate::fixture::{Log, ORIGIN, signer, signer_from_seed};

/// The fields of a leaf that matter here.
#[derive(Clone, PartialEq, Message)]
struct Leaf {
    #[prost(string, tag = "2")]
    event_id: String,
    #[prost(bytes = "vec", tag = "17")]
    tag: Vec<u8>,
    #[prost(int64, tag = "18")]
    seq: i64,
    #[prost(int64, optional, tag = "19")]
    prev: Option<i64>,
}

/// A log whose leaf `n` is about subject `whose[n]`.
pub(crate) struct People {
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) log: Log,
}

pub(crate) fn tag(of: u8) -> Vec<u8> {
    vec![of; 32]
}

impl People {
    pub(crate) fn of(whose: &[u8]) -> Self {
        let mut leaves = Vec::new();
        for (at, who) in whose.iter().enumerate() {
            let before: Vec<_> = (0..at).filter(|n| whose[*n] == *who).collect();
            let leaf = Leaf {
                event_id: format!("event {at}"),
                tag: tag(*who),
                seq: before.len() as i64 + 1,
                prev: before.last().map(|n| *n as i64),
            };
            leaves.push(leaf.encode_to_vec());
        }
        Self::with(leaves)
    }

    /// A log of leaves about subject 1, each with its place and link.
    pub(crate) fn linked(places: &[(i64, Option<i64>)]) -> Self {
        let leaf = |(at, (seq, prev)): (usize, &(i64, Option<i64>))| Leaf {
            event_id: format!("event {at}"),
            tag: tag(1),
            seq: *seq,
            prev: *prev,
        };
        let leaves = places.iter().enumerate().map(leaf);
        Self::with(leaves.map(|leaf| leaf.encode_to_vec()).collect())
    }

    pub(crate) fn with(leaves: Vec<Vec<u8>>) -> Self {
        let mut log = Log::of(0);
        log.edge = RightEdge::empty();
        for leaf in &leaves {
            let completed = log.edge.append(leaf_hash(leaf));
            log.hashes
                .extend(completed.into_iter().map(|(level, index, hash)| ((level, index), hash)));
            log.roots.push(log.edge.root());
        }
        Self { leaves, log }
    }

    pub(crate) fn head(&self, who: u8, size: usize) -> Head {
        let hers = self.hers(who, size);
        Head {
            tag: tag(who),
            seq: hers.len() as u64,
            index: hers.first().map(|n| *n as u64),
            checkpoint: Checkpoint::new(ORIGIN, size as u64, self.log.roots[size]).unwrap(),
        }
    }

    /// Newest first.
    fn hers(&self, who: u8, size: usize) -> Vec<usize> {
        let is_hers = |n: &usize| Leaf::decode(self.leaves[*n].as_slice()).unwrap().tag == tag(who);
        (0..size).rev().filter(is_hers).collect()
    }

    pub(crate) fn list(&self, who: u8, size: usize) -> Vec<Proved> {
        self.hers(who, size).into_iter().map(|n| self.proved(n, size)).collect()
    }

    pub(crate) fn proved(&self, index: usize, size: usize) -> Proved {
        let bundle = Bundle {
            index: index as u64,
            path: inclusion(index as u64, size as u64, &self.log.hashes).unwrap(),
            checkpoint_note: self.log.note(size as u64),
            extra: Vec::new(),
        };
        Proved {
            leaf: self.leaves[index].clone(),
            bundle,
        }
    }
}

fn judged(head: &Head, list: &[Proved]) -> Result<(), Error> {
    verify(head, list, &[signer().verifier().clone()])
}

const WHOSE: [u8; 11] = [1, 2, 1, 1, 2, 1, 3, 1, 2, 2, 1];

#[test]
fn a_complete_list_verifies_at_every_size() {
    let people = People::of(&WHOSE);
    for size in 0..=WHOSE.len() {
        for who in 1..=4 {
            let head = people.head(who, size);
            let note = head.sign(&signer()).unwrap();
            let opened = Head::open(&note, &[signer().verifier().clone()]).unwrap();
            assert_eq!(opened, head);
            judged(&opened, &people.list(who, size)).unwrap();
        }
    }
}

#[test]
fn a1_every_leaf_that_is_left_out_put_elsewhere_or_anothers_is_noticed() {
    let people = People::of(&WHOSE);
    let size = WHOSE.len();
    let (head, list) = (people.head(1, size), people.list(1, size));
    for at in 0..list.len() {
        let mut without = list.clone();
        without.remove(at);
        assert!(
            matches!(judged(&head, &without), Err(Error::Incomplete { .. })),
            "without {at}"
        );
        let mut another = list.clone();
        another[at] = people.proved(1, size);
        assert!(judged(&head, &another).is_err(), "another's at {at}");
        let mut twice = list.clone();
        twice.insert(at, list[at].clone());
        assert!(judged(&head, &twice).is_err(), "twice {at}");
        for other in 0..at {
            let mut swapped = list.clone();
            swapped.swap(at, other);
            assert!(judged(&head, &swapped).is_err(), "{at} and {other} swapped");
        }
        for byte in 0..list[at].leaf.len() {
            let mut changed = list.clone();
            changed[at].leaf[byte] ^= 1;
            assert!(judged(&head, &changed).is_err(), "byte {byte} of {at}");
        }
    }
    assert!(judged(&head, &people.list(2, size)).is_err(), "somebody else's list");
    assert!(
        judged(&head, &people.list(1, size - 1)).is_err(),
        "the list of an earlier tree"
    );
}

#[test]
fn a_head_that_was_kept_binds_the_log() {
    let people = People::of(&WHOSE);
    let size = WHOSE.len();
    let (head, list) = (people.head(1, size), people.list(1, size));
    for old in 0..=size {
        verify_since(&people.head(1, old), &head, &list).unwrap();
    }
    // The log says now that there were fewer, and signs it.
    let less = People::of(&[1, 2, 1, 2, 2, 2, 3, 2, 2, 2, 2]);
    let (fewer, shown) = (less.head(1, size), less.list(1, size));
    judged(&fewer, &shown).unwrap();
    assert!(verify_since(&head, &fewer, &shown).is_err());
    assert!(verify_since(&people.head(1, 4), &fewer, &shown).is_err());
    assert!(
        verify_since(&people.head(2, 4), &head, &list).is_err(),
        "another subject"
    );
}

/// What the log had when it stated that there was less cannot come up later.
#[test]
fn a1_what_a_kept_head_hid_is_noticed() {
    let people = People::of(&WHOSE);
    let size = WHOSE.len();
    let (head, list) = (people.head(1, size), people.list(1, size));
    // In the tree of four leaves she had three, and one was stated.
    let old = Head {
        seq: 1,
        index: Some(0),
        ..people.head(1, 4)
    };
    let refused = verify_since(&old, &head, &list).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("event 3 of the subject: the log had it already"),
        "{refused}"
    );
    // One size, two roots: both are signed.
    let mut other = people.head(1, size);
    other.checkpoint = Checkpoint::new(ORIGIN, size as u64, people.log.roots[3]).unwrap();
    assert!(matches!(
        verify_since(&other, &head, &list),
        Err(Error::SplitView { .. })
    ));
}

/// A link leads back.
#[test]
fn a1_a_chain_does_not_turn_round() {
    let people = People::linked(&[(2, Some(1)), (1, None)]);
    let list = [people.proved(0, 2), people.proved(1, 2)];
    let head = Head {
        seq: 2,
        index: Some(0),
        ..people.head(1, 2)
    };
    let refused = judged(&head, &list).unwrap_err();
    assert!(refused.to_string().contains("not before it"), "{refused}");
}

/// Read from the beginning, every place is given once.
#[test]
fn a1_a_whole_log_gives_each_place_once() {
    let walk = |people: &People| {
        let mut chains = Chains::default();
        let mut leaves = people.leaves.iter().enumerate();
        leaves.try_for_each(|(at, leaf)| chains.take(at as u64, leaf))
    };
    walk(&People::of(&WHOSE)).unwrap();
    for forked in [
        &[(1, None), (2, Some(0)), (2, Some(0))][..],
        &[(1, None), (1, None)],
        &[(2, None)],
        &[(1, Some(0))],
        &[(1, None), (2, Some(0)), (3, Some(0))],
        &[(1, None), (3, Some(0))],
        &[(1, None), (2, None)],
    ] {
        assert!(
            matches!(walk(&People::linked(forked)), Err(Error::Incomplete { .. })),
            "{forked:?}"
        );
    }
    let mut chains = Chains::default();
    assert_eq!(chains.take(0, b"no leaf of ours"), Ok(()));
    let nobody = Leaf::default().encode_to_vec();
    assert_eq!((chains.take(1, &nobody), chains.take(2, &nobody)), (Ok(()), Ok(())));
}

#[test]
fn a_head_is_no_checkpoint_and_no_checkpoint_is_a_head() {
    let people = People::of(&WHOSE);
    let keys = [signer().verifier().clone()];
    let note = people.head(1, 5).sign(&signer()).unwrap();
    assert!(sammati_log::checkpoint::open(&note, &keys).is_err());
    assert!(sammati_log::checkpoint::open_as(&note, "sammati/subject-head@v1", &keys).is_err());
    assert!(Head::open(&people.log.note(5), &keys).is_err());
    let other = signer_from_seed("log.example/other", &[7; 32]);
    assert!(people.head(1, 5).sign(&other).is_err());
    assert!(Head::open(&note, &[other.verifier().clone()]).is_err());
    for at in 0..note.len() {
        let mut bytes = note.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(changed) = String::from_utf8(bytes) {
            assert!(Head::open(&changed, &keys).is_err(), "byte {at}");
        }
    }
}

proptest! {
    #[test]
    fn parsing_a_head_never_panics(text in ".{0,300}") {
        let _ = Head::open(&text, &[signer().verifier().clone()]);
    }

    #[test]
    fn a1_any_part_of_a_list_that_is_not_all_of_it_is_refused(keep in proptest::collection::vec(any::<bool>(), 6)) {
        let people = People::of(&WHOSE);
        let (head, list) = (people.head(1, WHOSE.len()), people.list(1, WHOSE.len()));
        let part: Vec<_> = list.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(p, _)| p.clone()).collect();
        prop_assert_eq!(judged(&head, &part).is_ok(), part.len() == list.len());
    }
}
