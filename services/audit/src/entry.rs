//! An event that is ready to be appended: checked, sealed, hashed for look-up, and encoded but for what only the lock tells.

use prost::Message;
use sammati_api::audit::v1::Leaf;
use sammati_kernel::{Fact, Micros, Reason, Refusal, hex};
use sammati_server::event::timestamp;

use crate::append::Placed;
use crate::keyring;
use crate::log::SERVICE;
use crate::rows::{ErasureRow, LeafRow, event_key};

/// An event on its way into the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its producer's id.
    pub(crate) event_id: String,
    /// The tag of its subject; empty without one.
    pub(crate) subject: Vec<u8>,
    /// The name of the subject's key that it is sealed under.
    pub(crate) sealed_under: Vec<u8>,
    /// Which of that name.
    generation: i64,
    /// The month whose key it is sealed under.
    month: String,
    key: Vec<u8>,
    /// The leaf up to its `accept_time`, and what follows upon that.
    leaf: [Vec<u8>; 2],
    payload: Vec<u8>,
    digest: Vec<u8>,
    names: Vec<u8>,
    /// Whether the log tells it of itself.
    pub(crate) is_own: bool,
}

impl Entry {
    /// The leaf `header` with its `payload`, sealed. `digest` is a keyed hash of the event as it was sent, `names` what it
    /// is looked up by.
    pub(crate) fn new(header: &Leaf, payload: Vec<u8>, digest: Vec<u8>, names: Vec<u8>) -> Self {
        // prost writes fields in the order of their numbers: `accept_time` is the tenth.
        let after = Leaf {
            trace_id: header.trace_id.clone(),
            txn_id: header.txn_id.clone(),
            causation_event_id: header.causation_event_id.clone(),
            resource_type: header.resource_type.clone(),
            payload_hash: header.payload_hash.clone(),
            key_id: header.key_id.clone(),
            subject_tag: header.subject_tag.clone(),
            ..Leaf::default()
        };
        let (mut before, after) = (header.encode_to_vec(), after.encode_to_vec());
        before.truncate(before.len() - after.len());
        Self {
            event_id: header.event_id.clone(),
            subject: header.subject_tag.clone(),
            sealed_under: keyring::subject_key_of(header),
            generation: keyring::generation(header),
            month: keyring::month_of(header).to_owned(),
            key: event_key(&header.event_id),
            leaf: [before, after],
            payload,
            digest,
            names,
            is_own: header.source.as_ref().is_some_and(|source| source.service == SERVICE),
        }
    }

    /// By what the log finds whether it has it.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it was sealed too early: the subject's key is destroyed since, or being destroyed, or the month's goes before
    /// what is taken in this month may go.
    pub(crate) fn is_late(&self, erasure: Option<&ErasureRow>, month: &str) -> bool {
        let end = erasure.and_then(ErasureRow::end);
        self.month.as_str() < month || end.is_some_and(|end| end.generation >= self.generation)
    }

    /// How many bytes it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        512 + self.leaf.iter().map(Vec::len).sum::<usize>() + self.payload.len()
    }

    /// Its row at `index`, with the leaf encoded once and for ever. `subject` are its place among the events of its subject,
    /// and the index of the one before.
    pub(crate) fn row(&self, index: u64, accepted: Micros, subject: (i64, Option<u64>)) -> LeafRow {
        let time = Leaf {
            accept_time: Some(timestamp(accepted)),
            ..Leaf::default()
        };
        let place = Leaf {
            subject_seq: subject.0,
            subject_prev: subject.1.and_then(|prev| i64::try_from(prev).ok()),
            ..Leaf::default()
        };
        let [before, after] = &self.leaf;
        let mut leaf = Vec::with_capacity(before.len() + after.len() + 40);
        leaf.extend_from_slice(before);
        // A vector grows as it is written to.
        leaf.append(&mut time.encode_to_vec());
        leaf.extend_from_slice(after);
        leaf.append(&mut place.encode_to_vec());
        LeafRow {
            index,
            leaf,
            payload: self.payload.clone(),
            digest: self.digest.clone(),
            names: self.names.clone(),
        }
    }

    /// Its place, if `row` is the same event.
    ///
    /// # Errors
    /// `EVENT_CONFLICT` when it is another under the same id.
    pub(crate) fn same_as(&self, row: &LeafRow) -> Result<Placed, Refusal> {
        // Rows of the first schema have a longer one, which begins alike.
        if !row.digest.starts_with(&self.digest) {
            return Err(Refusal::new(Reason::EventConflict)
                .saying("this event id is in the log with another body; an event is never changed, send a new one")
                .with(Fact::EventId, &self.event_id)
                .with(Fact::KnownDigest, hex(&row.digest))
                .with(Fact::SentDigest, hex(&self.digest)));
        }
        let accepted = row
            .header()
            .accept_time
            .as_ref()
            .and_then(sammati_server::event::micros);
        Ok(Placed {
            index: row.index,
            hash: row.hash().0,
            accepted: accepted.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use sammati_api::audit::v1::EventSource;

    use super::*;

    /// A row of the first schema has the whole of the hash of which later ones keep the beginning.
    #[test]
    fn a1_what_older_code_appended_is_the_same_event() {
        let header = Leaf::default();
        let entry = Entry::new(&header, Vec::new(), vec![7; 16], Vec::new());
        let row = |digest| LeafRow {
            digest,
            ..entry.row(3, Micros(1), (0, None))
        };
        for same in [vec![7; 16], [[7; 16], [9; 16]].concat()] {
            assert_eq!(entry.same_as(&row(same)).unwrap().index, 3);
        }
        for other in [vec![8; 16], [[8; 16], [7; 16]].concat(), vec![7; 15], Vec::new()] {
            assert_eq!(entry.same_as(&row(other)).unwrap_err().reason, Reason::EventConflict);
        }
    }

    /// The leaf is what prost makes of the whole of it, whatever of it is empty.
    #[test]
    fn a_leaf_in_pieces_is_the_leaf() {
        let full = Leaf {
            schema_version: 1,
            event_id: "019ab0c2-0000-7000-8000-000000000001".to_owned(),
            source: Some(EventSource {
                service: "consent".to_owned(),
                epoch: 1,
                partition: 2,
                position: 3,
            }),
            event_type: "consent.granted".to_owned(),
            action: 1,
            outcome: 1,
            reason_code: "X".to_owned(),
            class: 2,
            occurred_time: Some(timestamp(Micros(1_234_567))),
            accept_time: None,
            trace_id: "a".repeat(32),
            txn_id: "transfers/x".to_owned(),
            causation_event_id: "c".to_owned(),
            resource_type: "consents".to_owned(),
            payload_hash: vec![1; 32],
            key_id: "k".to_owned(),
            subject_tag: vec![2; 32],
            subject_seq: 0,
            subject_prev: None,
        };
        let some = Leaf {
            event_id: full.event_id.clone(),
            ..Leaf::default()
        };
        for header in [full, some] {
            let entry = Entry::new(&header, Vec::new(), Vec::new(), Vec::new());
            for (seq, prev) in [(0, None), (1, None), (7, Some(0)), (8, Some(1_000_000))] {
                let whole = Leaf {
                    accept_time: Some(timestamp(Micros(99))),
                    subject_seq: seq,
                    subject_prev: prev.and_then(|prev| i64::try_from(prev).ok()),
                    ..header.clone()
                };
                assert_eq!(entry.row(5, Micros(99), (seq, prev)).leaf, whole.encode_to_vec());
            }
        }
    }
}
