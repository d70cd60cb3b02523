//! What a command sees while it decides: the rows it asked for, as the batch has them by now, and a place for changes.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use sammati_kernel::{Id, IdKind, Micros, Refusal, Seed, Slot};

use crate::check;
use crate::keys::ClaimKey;
use crate::later::Later;
use crate::table::{self, Raw, Record, Table};

/// A table's name and a partition.
type Place = (&'static str, i64);

/// A table's name, a column's, and a partition.
type GroupPlace = (&'static str, &'static str, i64);

/// The keys of the rows that have a value in a column.
type Members = HashMap<Vec<u8>, Vec<Vec<u8>>>;

/// A row in the batch: as loaded, then as changed.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) table: Table,
    /// As loaded; 0 when there was none.
    pub(crate) version: i64,
    pub(crate) format: i64,
    pub(crate) body: Option<Vec<u8>>,
    /// The look-up values, once it was changed here.
    pub(crate) changed: Option<Vec<table::Cell>>,
    /// Which of them are others than as loaded, a bit for each column: as far as the body tells, and where that is asked for.
    pub(crate) moved: u32,
}

impl Row {
    const fn absent(table: Table) -> Self {
        Self {
            table,
            version: 0,
            format: 0,
            body: None,
            changed: None,
            moved: 0,
        }
    }

    /// Which look-up values a change moves.
    fn moved_by(&self, change: &Change) -> u32 {
        let loaded = || (change.look_up)(self.body.as_deref()?);
        let before = self.changed.clone().or_else(loaded).unwrap_or_default();
        let differ = before.iter().zip(&change.cells).enumerate();
        let differ = differ.filter(|(_, (old, new))| old != new);
        differ.fold(0, |moved, (column, _)| moved | 1 << column)
    }
}

/// Everything a batch loaded, with the changes of the commands decided so far.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Whether it is noted which look-up values a change moves: who writes rows wants to know.
    pub(crate) notes_moves: bool,
    pub(crate) rows: HashMap<Place, BTreeMap<Vec<u8>, Row>>,
    groups: HashMap<GroupPlace, Members>,
    claims: BTreeMap<ClaimKey, Option<Vec<u8>>>,
    pub(crate) claimed: BTreeMap<ClaimKey, Vec<u8>>,
}

impl Loaded {
    /// Notes that a key was asked for; without a row it stays absent.
    pub(crate) fn asked(&mut self, table: Table, partition: i64, id: Vec<u8>) {
        self.rows
            .entry((table.name, partition))
            .or_default()
            .entry(id)
            .or_insert_with(|| Row::absent(table));
    }

    pub(crate) fn asked_group(&mut self, table: Table, column: &'static str, partition: i64, value: Vec<u8>) {
        self.groups
            .entry((table.name, column, partition))
            .or_default()
            .entry(value)
            .or_default();
    }

    pub(crate) fn found(&mut self, table: Table, raw: Raw) {
        let row = Row {
            table,
            version: raw.version,
            format: raw.format,
            body: Some(raw.body),
            ..Row::absent(table)
        };
        self.rows
            .entry((table.name, raw.partition))
            .or_default()
            .insert(raw.id, row);
    }

    pub(crate) fn found_in_group(&mut self, table: Table, column: &'static str, value: Vec<u8>, raw: Raw) {
        let group = self
            .groups
            .entry((table.name, column, raw.partition))
            .or_default()
            .entry(value)
            .or_default();
        group.push(raw.id.clone());
        self.found(table, raw);
    }

    pub(crate) fn asked_claim(&mut self, key: ClaimKey, owner: Option<Vec<u8>>) {
        self.claims.insert(key, owner);
    }

    /// Takes over what one command changed.
    pub(crate) fn apply(&mut self, partition: i64, changes: Changes) {
        for ((table, id), change) in changes.rows {
            self.join_groups(table, partition, &id, &change.cells);
            let rows = self.rows.entry((table.name, partition)).or_default();
            let row = rows.entry(id).or_insert_with(|| Row::absent(table));
            if self.notes_moves && row.version > 0 && !table.columns.is_empty() {
                row.moved |= row.moved_by(&change);
            }
            row.format = change.format;
            row.body = Some(change.body);
            row.changed = Some(change.cells);
        }
        self.claimed.extend(changes.claims);
    }

    fn join_groups(&mut self, table: Table, partition: i64, id: &[u8], cells: &[table::Cell]) {
        for (column, cell) in table.columns.iter().zip(cells) {
            let Some(value) = cell.bytes() else { continue };
            let groups = self.groups.get_mut(&(table.name, column.name, partition));
            if let Some(group) = groups.and_then(|g| g.get_mut(value))
                && !group.iter().any(|known| known == id)
            {
                group.push(id.to_vec());
            }
        }
    }
}

/// What one command changes, until it is known whether that is kept.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    rows: BTreeMap<(Table, Vec<u8>), Change>,
    claims: BTreeMap<ClaimKey, Vec<u8>>,
    pub(crate) events: Vec<NewEvent>,
    /// What is left to be done once the batch is decided.
    pub(crate) later: Vec<Later>,
}

impl Changes {
    /// Whether it makes new rows alone, which nobody could have looked up, and takes nothing that is unique.
    pub(crate) fn is_new_to(&self, loaded: &Loaded, partition: i64) -> bool {
        let is_known = |(table, id): &(Table, Vec<u8>)| {
            let rows = loaded.rows.get(&(table.name, partition));
            !table.columns.is_empty() || rows.is_some_and(|rows| rows.contains_key(id))
        };
        self.claims.is_empty() && self.later.is_empty() && !self.rows.keys().any(is_known)
    }
}

#[derive(Debug)]
struct Change {
    format: i64,
    body: Vec<u8>,
    cells: Vec<table::Cell>,
    /// The look-up values of what was encoded before.
    look_up: fn(&[u8]) -> Option<Vec<table::Cell>>,
}

/// An event to be appended to the feed in the same commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id, a UUIDv7.
    pub id: [u8; 16],
    /// The subject whose cached state it ends.
    pub subject: Option<Vec<u8>>,
    /// The event, as its consumers read it: a `sammati.audit.v1.Event` without `source`.
    pub body: Vec<u8>,
}

/// What a command sees and changes.
pub struct View<'a> {
    loaded: &'a Loaded,
    changes: Changes,
    slot: Slot,
    partition: i64,
    now: Micros,
    next: i64,
    seed: &'a Seed,
    /// Which part of what its command left for later it is for.
    part: Option<usize>,
    /// Set when the command breaks the store's rules: it is refused then, whatever it answers.
    fault: Cell<Option<&'static str>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(loaded: &'a Loaded, slot: Slot, partition: i64, now: Micros, next: i64, seed: &'a Seed) -> Self {
        Self {
            loaded,
            changes: Changes::default(),
            slot,
            partition,
            now,
            next,
            seed,
            part: None,
            fault: Cell::new(None),
        }
    }

    /// For what a command left for later, its `part`th: positions in the feed are not known there.
    pub(crate) fn later_part(
        nothing: &'a Loaded,
        slot: Slot,
        partition: i64,
        now: Micros,
        seed: &'a Seed,
        part: usize,
    ) -> Self {
        Self {
            part: Some(part),
            ..Self::new(nothing, slot, partition, now, 0, seed)
        }
    }

    pub(crate) fn into_changes(self) -> Changes {
        self.changes
    }

    pub(crate) const fn fault(&self) -> Option<&'static str> {
        self.fault.get()
    }

    /// The time of this batch: the same for all that is decided in it, and never before what the partition has seen.
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// The command's own randomness.
    pub const fn seed(&self) -> &Seed {
        self.seed
    }

    /// The command's slot.
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// The number of the partition that is locked.
    pub const fn partition(&self) -> i64 {
        self.partition
    }

    /// A new id in this command's slot; `label` tells several of one kind apart.
    pub fn id<K: IdKind>(&self, label: &str) -> Id<K> {
        self.seed.id(label, self.now, self.slot)
    }

    /// The record with this key, as the batch has it by now.
    pub fn get<R: Record>(&self, key: &[u8]) -> Option<R> {
        if let Some(change) = self.changes.rows.get(&(R::TABLE, key.to_vec())) {
            return self.read(&change.body);
        }
        let rows = self.loaded.rows.get(&(R::TABLE.name, self.partition));
        let Some(row) = rows.and_then(|rows| rows.get(key)) else {
            self.fault.set(Some("a row was read that was not asked for"));
            return None;
        };
        row.body.as_deref().and_then(|body| self.read(body))
    }

    /// Whether the record with this key was asked for: a command may leave out what it knows that it need not read.
    pub fn is_loaded<R: Record>(&self, key: &[u8]) -> bool {
        let rows = self.loaded.rows.get(&(R::TABLE.name, self.partition));
        rows.is_some_and(|rows| rows.contains_key(key))
    }

    /// The same for a group.
    pub fn is_group_loaded<R: Record>(&self, column: &'static str, value: &[u8]) -> bool {
        let groups = self.loaded.groups.get(&(R::TABLE.name, column, self.partition));
        groups.is_some_and(|groups| groups.contains_key(value))
    }

    /// The records of a group that was asked for, in the order of their keys.
    pub fn group<R: Record>(&self, column: &'static str, value: &[u8]) -> Vec<R> {
        let groups = self.loaded.groups.get(&(R::TABLE.name, column, self.partition));
        let Some(known) = groups.and_then(|g| g.get(value)) else {
            self.fault.set(Some("a group was read that was not asked for"));
            return Vec::new();
        };
        let Some(at) = R::TABLE.columns.iter().position(|c| c.name == column) else {
            self.fault
                .set(Some("a group was read by a column that its table does not have"));
            return Vec::new();
        };
        let mut keys = known.clone();
        keys.extend(
            self.changes
                .rows
                .keys()
                .filter(|(t, _)| *t == R::TABLE)
                .map(|(_, id)| id.clone()),
        );
        keys.sort();
        keys.dedup();
        keys.retain(|id| self.is_member(R::TABLE, at, value, id));
        keys.iter().filter_map(|id| self.get::<R>(id)).collect()
    }

    /// Whether a row that may have changed since it was loaded still has this look-up value.
    fn is_member(&self, table: Table, column: usize, value: &[u8], id: &[u8]) -> bool {
        if let Some(change) = self.changes.rows.get(&(table, id.to_vec())) {
            return change.cells[column].bytes() == Some(value);
        }
        let rows = self.loaded.rows.get(&(table.name, self.partition));
        let changed = rows.and_then(|rows| rows.get(id)).and_then(|row| row.changed.as_ref());
        changed.is_none_or(|cells| cells[column].bytes() == Some(value))
    }

    /// Creates the record or replaces it.
    pub fn put<R: Record>(&mut self, record: &R) {
        let (id, cells) = (record.key(), record.cells());
        let rows = self.loaded.rows.get(&(R::TABLE.name, self.partition));
        let row = rows.and_then(|rows| rows.get(&id));
        if row.is_some_and(|row| row.format > R::FORMAT) {
            self.fault
                .set(Some("a row of a newer format must not be rewritten by older code"));
        }
        if cells.len() != R::TABLE.columns.len() {
            self.fault.set(Some("a record's cells do not fit its table"));
        }
        let change = Change {
            format: R::FORMAT,
            body: check::body(record, &id, row.map_or(0, |row| row.version) + 1),
            cells,
            look_up: |body| R::decode(body).ok().map(|record| record.cells()),
        };
        self.changes.rows.insert((R::TABLE, id), change);
    }

    /// The id for the next event of this command. It is told to those who asked, who are not told where she is about whom
    /// they did.
    pub fn next_event_id(&self) -> [u8; 16] {
        let n = self.changes.events.len();
        let label = match self.part {
            None => format!("event {n}"),
            Some(part) => format!("later {part} event {n}"),
        };
        let id: Id<AnyEvent> = self.seed.placeless_id(&label, self.now);
        *id.as_bytes()
    }

    /// Leaves `work` to be done once all commands of the batch are decided, beside what others left, and before it commits.
    /// It sees no rows; it makes new ones that nobody else in the batch can know of, in tables without look-up columns, and
    /// events, which come after those of the batch. What it would refuse must be refused before.
    pub fn later(&mut self, work: impl FnOnce(&mut View<'_>) -> Result<(), Refusal> + Send + 'static) {
        self.changes.later.push(Later::new(work));
    }

    /// Appends an event; tells the position it will have in the partition's feed.
    pub fn emit(&mut self, event: NewEvent) -> i64 {
        self.changes.events.push(event);
        self.next + i64::try_from(self.changes.events.len()).unwrap_or(i64::MAX) - 1
    }

    /// Who owns a claim that was asked for.
    pub fn claimed(&self, key: &ClaimKey) -> Option<Vec<u8>> {
        if let Some(owner) = self.changes.claims.get(key).or_else(|| self.loaded.claimed.get(key)) {
            return Some(owner.clone());
        }
        match self.loaded.claims.get(key) {
            Some(owner) => owner.clone(),
            None => {
                self.fault.set(Some("a claim was read that was not asked for"));
                None
            }
        }
    }

    /// Takes a claim that was absent. If somebody else commits it first, everything is decided again.
    pub fn claim(&mut self, key: ClaimKey, owner: impl Into<Vec<u8>>) {
        if self.claimed(&key).is_some() {
            self.fault.set(Some("a claim was taken that somebody has"));
        }
        self.changes.claims.insert(key, owner.into());
    }

    fn read<R: Record>(&self, body: &[u8]) -> Option<R> {
        let record = R::decode(body);
        if record.is_err() {
            self.fault.set(Some("a stored record cannot be read"));
        }
        record.ok()
    }
}

/// Marks the ids of events: UUIDv7 like all others, without a resource name of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AnyEvent;

impl IdKind for AnyEvent {
    const COLLECTION: &'static str = "events";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Column;

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    struct Owned {
        #[prost(bytes = "vec", tag = "1")]
        owner: Vec<u8>,
        #[prost(int64, tag = "2")]
        due: i64,
        #[prost(int64, tag = "3")]
        uses: i64,
    }

    impl Record for Owned {
        const TABLE: Table = Table {
            name: "owned",
            columns: &[Column::bytes("owner"), Column::int("due")],
        };

        fn key(&self) -> Vec<u8> {
            b"key".to_vec()
        }

        fn cells(&self) -> Vec<table::Cell> {
            vec![self.owner.clone().into(), self.due.into()]
        }
    }

    fn loaded(notes_moves: bool) -> Loaded {
        let mut loaded = Loaded {
            notes_moves,
            ..Loaded::default()
        };
        let record = Owned {
            owner: b"she".to_vec(),
            due: 5,
            uses: 0,
        };
        let raw = Raw {
            partition: 0,
            id: record.key(),
            version: 1,
            format: 1,
            body: prost::Message::encode_to_vec(&record),
        };
        loaded.found(Owned::TABLE, raw);
        loaded
    }

    /// One command after another, each of which makes a change.
    fn moved(mut loaded: Loaded, changes: &[fn(&mut Owned)]) -> u32 {
        for change in changes {
            let seed = Seed::from_bytes([1; 32]);
            let mut view = View::new(&loaded, Slot::new(0), 0, Micros(1), 0, &seed);
            let mut row = view.get::<Owned>(b"key").unwrap();
            change(&mut row);
            view.put(&row);
            let changes = view.into_changes();
            loaded.apply(0, changes);
        }
        loaded.rows[&("owned", 0)][b"key".as_slice()].moved
    }

    #[test]
    fn a_change_tells_which_look_up_values_it_moves() {
        let uses: fn(&mut Owned) = |row| row.uses += 1;
        let due: fn(&mut Owned) = |row| row.due += 1;
        let owner: fn(&mut Owned) = |row| row.owner = b"he".to_vec();
        assert_eq!(moved(loaded(true), &[uses]), 0);
        assert_eq!(moved(loaded(true), &[uses, due, uses]), 0b10);
        assert_eq!(moved(loaded(true), &[due, owner]), 0b11, "of all commands of a batch");
        assert_eq!(moved(loaded(false), &[due]), 0, "where nobody asks");
    }
}
