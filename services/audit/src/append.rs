//! Appending: one command assigns indexes, extends the tree and advances the source, all or nothing.

use prost::Message;
use sammati_api::audit::v1::{EventSource, Leaf};
use sammati_kernel::{Fact, Micros, Reason, Refusal, Slot};
use sammati_log::hash::leaf_hash;
use sammati_server::event::timestamp;
use sammati_store::{Command, Keys, Record, View};

use crate::rows::{LeafRow, LogRow, MentionRow, SLOT, SourceRow, SubjectRow, Tags, event_key};
use crate::tree::{Tree, frozen};

/// An event that is ready to be appended: checked, sealed, hashed for look-up.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The leaf, without what is known only under the lock.
    pub header: Leaf,
    /// Its payload, sealed.
    pub payload: Vec<u8>,
    /// A keyed hash of the event as it was sent.
    pub digest: Vec<u8>,
    /// What it is looked up by.
    pub tags: Tags,
}

/// Where a relayed stretch stands in its feed. Its chain hashes were computed, not believed.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The service.
    pub service: String,
    /// The epoch of its feed.
    pub epoch: i64,
    /// The partition of its feed.
    pub partition: i32,
    /// The position of the first entry.
    pub first: i64,
    /// The chain hash before each entry, and the one after the last: one more than there are entries.
    pub chains: Vec<Vec<u8>>,
}

impl Stretch {
    /// The row of its partition in `epoch`, as it begins.
    fn row(&self, epoch: i64) -> SourceRow {
        SourceRow {
            service: self.service.clone(),
            epoch,
            partition: self.partition,
            next: 0,
            chain: vec![0; 32],
        }
    }

    /// The rows that are read at once: its own, and the first epoch's, which old code wrote.
    fn reads(&self, keys: &mut Keys) {
        for epoch in [1, self.epoch] {
            keys.row::<SourceRow>(self.row(epoch).key());
        }
    }

    /// In case the log has nothing of its epoch, those of all others.
    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if loaded.get::<SourceRow>(&self.row(self.epoch).key()).is_none() {
            keys.group::<SourceRow>("feed", SourceRow::feed(&self.service, self.partition));
        }
    }

    /// Where the log stands in this partition and epoch. A new epoch begins at most where the log stands in the one
    /// before, or below: a restore may have lost events that the log has, and the chain there is then the feed's word.
    fn source(&self, view: &View<'_>) -> SourceRow {
        if let Some(own) = view.get::<SourceRow>(&self.row(self.epoch).key()) {
            return own;
        }
        let others = view.group::<SourceRow>("feed", &SourceRow::feed(&self.service, self.partition));
        let first = view.get::<SourceRow>(&self.row(1).key());
        let before = others.into_iter().chain(first).filter(|row| row.epoch < self.epoch);
        let mut source = before
            .max_by_key(|row| row.epoch)
            .unwrap_or_else(|| self.row(self.epoch));
        if source.epoch != self.epoch && self.first < source.next {
            source.next = self.first;
            source.chain = self.chains.first().cloned().unwrap_or_default();
        }
        source.epoch = self.epoch;
        source
    }

    /// How many of its entries the log has, by position.
    ///
    /// # Errors
    /// `FEED_GAP` when events are missing before it, `EVENT_CONFLICT` when its past is not the one that the log knows.
    fn known(&self, source: &SourceRow) -> Result<usize, Refusal> {
        let Ok(known) = usize::try_from(source.next - self.first) else {
            return Err(Refusal::new(Reason::FeedGap)
                .saying("events of this partition are missing before this stretch; send from expected_position on")
                .with(Fact::ExpectedPosition, source.next));
        };
        match self.chains.get(known) {
            Some(chain) if *chain != source.chain => Err(Refusal::new(Reason::EventConflict)
                .saying("the log knows another history of this partition; the source was restored or changed")
                .with(Fact::Position, source.next)),
            _ => Ok(known),
        }
    }
}

/// Appends all of `entries` or none.
#[derive(Debug)]
pub(crate) struct Append {
    /// In order.
    pub entries: Vec<Entry>,
    /// Where they come from, if from a feed.
    pub stretch: Option<Stretch>,
}

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its index.
    pub index: u64,
    /// Its leaf hash.
    pub hash: [u8; 32],
    /// When it was taken in.
    pub accepted: Micros,
}

/// Where all of them are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// One for each entry.
    pub placed: Vec<Placed>,
    /// For a stretch: the position that is expected next.
    pub next_position: i64,
}

impl Command for Append {
    type Answer = Appended;
    const NAME: &'static str = "audit.append";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn bytes(&self) -> usize {
        let entries = self.entries.iter();
        1024 + entries.map(|entry| 1024 + entry.payload.len()).sum::<usize>()
    }

    /// An event is never given up for room: who tells them sheds before.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
        for entry in &self.entries {
            keys.group::<LeafRow>("event_id", event_key(&entry.header.event_id));
            if !entry.header.subject_tag.is_empty() {
                keys.row::<SubjectRow>(entry.header.subject_tag.clone());
            }
        }
        if let Some(stretch) = &self.stretch {
            stretch.reads(keys);
        }
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if let Some(stretch) = &self.stretch {
            stretch.then(loaded, keys);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Appended, Refusal> {
        let mut log = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        if !log.frozen.is_empty() {
            return Err(frozen());
        }
        let mut placed = self.find(view)?;
        let next_position = self.advance(view, &placed)?;
        let new = placed.iter().filter(|p| p.is_none()).count();
        if new > 0 {
            self.add(view, &mut log, &mut placed)?;
            view.put(&log);
        }
        let placed = placed.into_iter().flatten().collect();
        Ok(Appended { placed, next_position })
    }
}

impl Append {
    /// Where the entries are that the log has already, by event id.
    fn find(&self, view: &View<'_>) -> Result<Vec<Option<Placed>>, Refusal> {
        let mut found = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let known = view
                .group::<LeafRow>("event_id", &event_key(&entry.header.event_id))
                .pop();
            found.push(known.map(|row| entry.same_as(&row)).transpose()?);
        }
        Ok(found)
    }

    /// Moves the source on. What lies before the position it expects must be in the log, what lies after must not.
    fn advance(&self, view: &mut View<'_>, placed: &[Option<Placed>]) -> Result<i64, Refusal> {
        let Some(stretch) = &self.stretch else { return Ok(0) };
        let mut source = stretch.source(view);
        let known = stretch.known(&source)?;
        if let Some(at) = placed
            .iter()
            .enumerate()
            .position(|(at, place)| place.is_some() != (at < known))
        {
            let sent = self.entries.get(at).map_or("", |entry| &entry.header.event_id);
            return Err(Refusal::new(Reason::EventConflict)
                .saying("the log has another event at this position, or this event at another")
                .with(Fact::EventId, sent));
        }
        if known < self.entries.len() {
            source.next = stretch
                .first
                .saturating_add(i64::try_from(self.entries.len()).unwrap_or(i64::MAX));
            source.chain = stretch.chains.last().cloned().unwrap_or_default();
            view.put(&source);
        }
        Ok(source.next)
    }

    /// Appends the entries that have no place yet.
    fn add(&self, view: &mut View<'_>, log: &mut LogRow, placed: &mut [Option<Placed>]) -> Result<(), Refusal> {
        let mut tree = Tree::of(log).map_err(damaged)?;
        log.accept_time = log.accept_time.max(view.now().0);
        let accepted = Micros(log.accept_time);
        let mut hashes = Vec::with_capacity(placed.len());
        for (entry, place) in self.entries.iter().zip(placed).filter(|(_, place)| place.is_none()) {
            let index = tree.size() + hashes.len() as u64;
            let row = entry.row(index, accepted, chain(view, entry, index));
            let hash = leaf_hash(&row.leaf);
            hashes.push(hash);
            view.put(&LeafRow {
                hash: hash.0.to_vec(),
                ..row
            });
            for party in &entry.tags.parties {
                view.put(&MentionRow {
                    party: party.clone(),
                    index,
                    erased: false,
                });
            }
            *place = Some(Placed {
                index,
                hash: hash.0,
                accepted,
            });
        }
        for full in tree.extend(hashes).map_err(damaged)? {
            view.put(&full);
        }
        tree.store(log);
        Ok(())
    }
}

impl Entry {
    /// Its place, if `row` is the same event.
    fn same_as(&self, row: &LeafRow) -> Result<Placed, Refusal> {
        if row.digest != self.digest {
            return Err(Refusal::new(Reason::EventConflict)
                .saying("this event id is in the log with another body; an event is never changed, send a new one")
                .with(Fact::EventId, &self.header.event_id)
                .with(Fact::KnownDigest, hex(&row.digest))
                .with(Fact::SentDigest, hex(&self.digest)));
        }
        let accepted = row
            .header()
            .accept_time
            .as_ref()
            .and_then(sammati_server::event::micros);
        let hash = row.hash.as_slice().try_into().map_err(|_| Reason::Internal)?;
        Ok(Placed {
            index: row.index,
            hash,
            accepted: accepted.unwrap_or_default(),
        })
    }

    /// The row, with the leaf encoded once and for ever; its hash is put in by whoever appends it.
    fn row(&self, index: u64, accepted: Micros, subject: (i64, Option<u64>)) -> LeafRow {
        let header = Leaf {
            accept_time: Some(timestamp(accepted)),
            subject_seq: subject.0,
            subject_prev: subject.1.and_then(|prev| i64::try_from(prev).ok()),
            ..self.header.clone()
        };
        LeafRow {
            index,
            leaf: header.encode_to_vec(),
            hash: Vec::new(),
            payload: self.payload.clone(),
            digest: self.digest.clone(),
            tags: self.tags.clone(),
        }
    }
}

/// The place of an event among those of its subject, and the index of the one before.
fn chain(view: &mut View<'_>, entry: &Entry, index: u64) -> (i64, Option<u64>) {
    let tag = &entry.header.subject_tag;
    if tag.is_empty() {
        return (0, None);
    }
    let before = view.get::<SubjectRow>(tag);
    let seq = before.as_ref().map_or(0, |row| row.seq) + 1;
    view.put(&SubjectRow {
        tag: tag.clone(),
        seq,
        last: index,
    });
    (seq, before.map(|row| row.last))
}

/// The source of a leaf: the service, and its position if it was relayed.
pub(crate) fn source(service: &str, stretch: Option<&Stretch>, at: usize) -> EventSource {
    let mut source = EventSource {
        service: service.to_owned(),
        ..EventSource::default()
    };
    if let Some(stretch) = stretch {
        source.epoch = stretch.epoch;
        source.partition = stretch.partition;
        source.position = stretch.first.saturating_add(i64::try_from(at).unwrap_or(i64::MAX));
    }
    source
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "reads well in map_err")]
fn damaged(error: sammati_log::Error) -> Refusal {
    tracing::error!(%error, "the head of the log is damaged; nothing can be appended");
    frozen()
}
