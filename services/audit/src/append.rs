//! Appending: one command assigns indexes, extends the tree and advances the source, all or nothing.

use std::sync::Arc;

use sammati_api::audit::v1::EventSource;
use sammati_kernel::{Fact, Micros, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, Record, Store, View};

use crate::entry::{Accepted, Entry};
use crate::erase::Ended;
use crate::keyring;
use crate::rows::{ErasureRow, LeafRow, LogRow, SLOT, SourceRow, SubjectRow};
use crate::sealing::late;
use crate::seen::Seen;
use crate::succession::{SuccessionRow, sealed};
use crate::tree::{Tree, frozen};

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
    /// How many entries it has.
    pub fn entries(&self) -> usize {
        self.chains.len().saturating_sub(1)
    }

    /// The source of its entries, in order.
    fn sources(&self) -> impl Iterator<Item = EventSource> {
        (self.first..).take(self.entries()).map(|position| EventSource {
            service: self.service.clone(),
            epoch: self.epoch,
            partition: self.partition,
            position,
        })
    }

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

    /// Moves its source on. What lies before the position it expects must be in the log, what lies after must not.
    fn advance(&self, view: &mut View<'_>, entries: &[Entry], placed: &[Option<Placed>]) -> Result<i64, Refusal> {
        let mut source = self.source(view);
        let known = self.known(&source)?;
        let mut places = placed.iter().enumerate();
        if let Some((at, _)) = places.find(|(at, place)| place.is_some() != (*at < known)) {
            let sent = entries.get(at).map_or("", |entry| &entry.event_id);
            return Err(Refusal::new(Reason::EventConflict)
                .saying("the log has another event at this position, or this event at another")
                .with(Fact::EventId, sent));
        }
        if known < entries.len() {
            source.next = self
                .first
                .saturating_add(i64::try_from(entries.len()).unwrap_or(i64::MAX));
            source.chain = self.chains.last().cloned().unwrap_or_default();
            view.put(&source);
        }
        Ok(source.next)
    }
}

/// Appends all of `entries` or none.
#[derive(Debug)]
pub(crate) struct Append {
    /// In order.
    pub entries: Vec<Entry>,
    /// Where they come from, if from a feed: each partition once, one stretch's entries after the other's.
    pub stretches: Arc<Vec<Stretch>>,
    /// What need not be read.
    pub known: Arc<Known>,
}

/// What is known without reading: it spares an append most of what it would look for.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Whose keys may have ended.
    pub ended: Ended,
    /// Which events may be there.
    pub seen: Seen,
}

impl Known {
    /// Begins with what is in the log in `store`.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn read(&self, store: &Store) -> Result<(), Refusal> {
        self.ended.read(store).await?;
        self.seen.read(store).await
    }
}

/// Does `what`, and appends the event that says so if it did something: both or neither.
pub(crate) struct Told<C> {
    /// Answers whether it did something.
    pub what: C,
    /// The event.
    pub append: Append,
}

impl<C: Command<Answer = bool>> Command for Told<C> {
    /// Where the event is.
    type Answer = Option<Appended>;
    const NAME: &'static str = C::NAME;

    fn slot(&self) -> Slot {
        SLOT
    }

    fn bytes(&self) -> usize {
        self.what.bytes() + self.append.bytes()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.what.reads(keys);
        self.append.reads(keys);
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        self.what.then(loaded, keys);
        self.append.then(loaded, keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Self::Answer, Refusal> {
        match self.what.decide(view)? {
            true => self.append.decide(view).map(Some),
            false => Ok(None),
        }
    }
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
    /// For each stretch: the position that is expected next.
    pub next_positions: Vec<i64>,
}

impl Appended {
    /// The size of the smallest tree that has all of them.
    pub(crate) fn size(&self) -> u64 {
        self.placed.iter().map(|placed| placed.index + 1).max().unwrap_or(0)
    }
}

impl Command for Append {
    type Answer = Appended;
    const NAME: &'static str = "audit.append";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn bytes(&self) -> usize {
        let entries = self.entries.iter();
        1024 + entries.map(Entry::bytes).sum::<usize>()
    }

    /// An event is never given up for room: who tells them sheds before.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
        keys.row::<SuccessionRow>(SuccessionRow::SEALED);
        for entry in &self.entries {
            if !self.known.seen.is_new(entry.key()) {
                keys.group::<LeafRow>("event_id", entry.key());
            }
            if !entry.subject.is_empty() {
                keys.row::<SubjectRow>(entry.subject.clone());
            }
            if !entry.subject.is_empty() && self.known.ended.may_have(&entry.sealed_under) {
                keys.row::<ErasureRow>(entry.sealed_under.clone());
            }
        }
        self.stretches.iter().for_each(|stretch| stretch.reads(keys));
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        self.stretches.iter().for_each(|stretch| stretch.then(loaded, keys));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Appended, Refusal> {
        let mut log = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        if !log.frozen.is_empty() {
            return Err(frozen());
        }
        let mut placed = self.find(view)?;
        let next_positions = self.advance(view, &placed)?;
        let new = placed.iter().filter(|p| p.is_none()).count();
        let end = view.get::<SuccessionRow>(SuccessionRow::SEALED);
        if let Some(end) = end.filter(|_| new > 0 && !self.entries.iter().all(|entry| entry.is_own)) {
            return Err(sealed(&end));
        }
        if new > 0 {
            self.add(view, &mut log, &mut placed)?;
            view.put(&log);
        }
        let placed = placed.into_iter().flatten().collect();
        Ok(Appended { placed, next_positions })
    }
}

impl Append {
    /// Where the entries are that the log has already, by event id.
    fn find(&self, view: &View<'_>) -> Result<Vec<Option<Placed>>, Refusal> {
        let mut found = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let known = match view.is_group_loaded::<LeafRow>("event_id", entry.key()) {
                true => view.group::<LeafRow>("event_id", entry.key()).pop(),
                // It is new, and whoever brings it again in this batch looks for it.
                false => None,
            };
            found.push(known.map(|row| entry.same_as(&row)).transpose()?);
        }
        Ok(found)
    }

    /// Moves the sources on; tells what each expects then.
    fn advance(&self, view: &mut View<'_>, placed: &[Option<Placed>]) -> Result<Vec<i64>, Refusal> {
        let (mut entries, mut placed, mut next) = (&self.entries[..], placed, Vec::new());
        for stretch in self.stretches.iter() {
            let count = stretch.entries().min(entries.len());
            let (own, others) = entries.split_at(count);
            let (here, rest) = placed.split_at(count);
            next.push(stretch.advance(view, own, here)?);
            (entries, placed) = (others, rest);
        }
        Ok(next)
    }

    /// Appends the entries that have no place yet.
    fn add(&self, view: &mut View<'_>, log: &mut LogRow, placed: &mut [Option<Placed>]) -> Result<(), Refusal> {
        let mut tree = Tree::of(log).map_err(damaged)?;
        log.accept_time = log.accept_time.max(view.now().0);
        let accepted = Micros(log.accept_time);
        let (month, time) = (keyring::month(accepted), Accepted::at(accepted));
        let mut hashes = Vec::with_capacity(placed.len());
        for (entry, place) in self.entries.iter().zip(placed).filter(|(_, place)| place.is_none()) {
            // The clearing of her rows goes by what was there when it began: nothing comes after it under the key of before.
            let erasure = match view.is_loaded::<ErasureRow>(&entry.sealed_under) {
                true => view.get::<ErasureRow>(&entry.sealed_under),
                // What ends one marks it before it is loaded itself: until then there is none.
                false => None,
            };
            if entry.is_late(erasure.as_ref(), &month) {
                return Err(late());
            }
            let index = tree.size() + hashes.len() as u64;
            let row = entry.row(index, &time, chain(view, entry, index));
            let hash = row.hash();
            hashes.push(hash);
            view.put(&row);
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

/// The place of an event among those of its subject, and the index of the one before.
fn chain(view: &mut View<'_>, entry: &Entry, index: u64) -> (i64, Option<u64>) {
    let tag = &entry.subject;
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

/// The sources of the leaves of a call: their places in the feed, or the service alone where they were sent directly.
pub(crate) fn sources(service: &str, stretches: &[Stretch]) -> impl Iterator<Item = EventSource> {
    let direct = EventSource {
        service: service.to_owned(),
        ..EventSource::default()
    };
    stretches
        .iter()
        .flat_map(Stretch::sources)
        .chain(std::iter::repeat(direct))
}

#[expect(clippy::needless_pass_by_value, reason = "reads well in map_err")]
fn damaged(error: sammati_log::Error) -> Refusal {
    tracing::error!(%error, "the head of the log is damaged; nothing can be appended");
    frozen()
}
