//! How is it kept? The records of the log, all in its one partition.

mod erasure;

use prost::Message;
use sammati_api::audit::v1::Leaf;
use sammati_kernel::Slot;
use sammati_log::Hash32;
use sammati_log::cosignature::Witness;
use sammati_log::hash::leaf_hash;
use sammati_store::verbs::Known;
use sammati_store::{Cell, Column, EmbeddedMigrations, Reader, Record, Table, embed_migrations};

pub use erasure::{Booking, Done, ErasureRow, HoldRow, Running};

pub use crate::posting::PostingRow;
use crate::posting::{Reach, Tag, Walk};
use crate::succession::SuccessionRow;

/// The tables of the log.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/log");

/// The tables of the key database.
pub const KEY_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/keys");

/// The tables of the log as fsck reads them.
pub fn log_tables() -> Vec<Known> {
    vec![
        Known::of::<LogRow>(),
        Known::of::<LeafRow>(),
        Known::of::<PostingRow>(),
        Known::of::<SourceRow>(),
        Known::of::<SubjectRow>(),
        Known::of::<TileRow>(),
        Known::of::<CheckpointRow>(),
        Known::of::<ErasureRow>(),
        Known::of::<HoldRow>(),
        Known::of::<CosignatureRow>(),
        Known::of::<LogKeyRow>(),
        Known::of::<SuccessionRow>(),
    ]
}

/// The tables of the key database as fsck reads them.
pub fn key_tables() -> Vec<Known> {
    vec![Known::of::<PayloadKeyRow>()]
}

/// A log is one partition: everything of it is in this slot.
pub const SLOT: Slot = Slot::new(0);

/// The partition that it is.
pub(crate) const PARTITION: i64 = 0;

/// Rows of one query.
const CHUNK: usize = 256;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// The head of the log.
#[derive(Clone, PartialEq, Message)]
pub struct LogRow {
    /// As in `logs/{id}`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The origin line of its checkpoints.
    #[prost(string, tag = "2")]
    pub origin: String,
    /// The public key it was begun with.
    #[prost(string, tag = "3")]
    pub vkey: String,
    /// Why it takes nothing any more; empty while it is active.
    #[prost(string, tag = "4")]
    pub frozen: String,
    /// `sammati_log::edge::RightEdge`, encoded: size and the roots of the complete subtrees.
    #[prost(bytes = "vec", tag = "5")]
    pub edge: Vec<u8>,
    /// The hash tiles that are not full yet.
    #[prost(message, repeated, tag = "6")]
    pub open: Vec<TileRow>,
    /// When the newest leaf was taken in, microseconds.
    #[prost(int64, tag = "7")]
    pub accept_time: i64,
    /// The largest size a checkpoint was signed at.
    #[prost(uint64, optional, tag = "8")]
    pub signed: Option<u64>,
    /// How many runs of 256 leaves have postings.
    #[prost(uint64, tag = "9")]
    pub posted: u64,
    /// Up to which run the merges of postings are done.
    #[prost(uint64, tag = "10")]
    pub merged: u64,
    /// How often leaves were cleared: postings made of what they were before are not taken.
    #[prost(uint64, tag = "11")]
    pub cleared: u64,
}

impl LogRow {
    /// The key of the only row.
    pub const KEY: &'static [u8] = b"log";

    /// How far the postings have come.
    pub(crate) const fn reach(&self) -> Reach {
        Reach {
            posted: self.posted,
            merged: self.merged,
        }
    }
}

impl Record for LogRow {
    const TABLE: Table = Table {
        name: "log",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        Self::KEY.to_vec()
    }
}

/// A leaf with what lies beside it.
#[derive(Clone, PartialEq, Message)]
pub struct LeafRow {
    /// Its index.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// The bytes that are hashed: an encoded `Leaf`.
    #[prost(bytes = "vec", tag = "2")]
    pub leaf: Vec<u8>,
    /// The payload, sealed.
    #[prost(bytes = "vec", tag = "4")]
    pub payload: Vec<u8>,
    /// A keyed hash of the event as it was sent: the same id with another body is a conflict.
    #[prost(bytes = "vec", tag = "5")]
    pub digest: Vec<u8>,
    /// Whom and what the payload names, as keyed hashes.
    #[prost(bytes = "vec", tag = "7")]
    pub names: Vec<u8>,
}

/// What somebody or something that is named in a payload is there: several at once, as bits.
pub(crate) mod role {
    /// Who did it.
    pub(crate) const ACTOR: u8 = 1;
    /// What it was done to.
    pub(crate) const RESOURCE: u8 = 2;
    /// The consent it belongs to.
    pub(crate) const CONSENT: u8 = 4;
    /// A participant in it.
    pub(crate) const PARTY: u8 = 8;
}

/// The keyed hash of a name.
pub(crate) type Name = [u8; 8];

/// What of a leaf's header its look-ups need.
#[derive(Clone, PartialEq, Message)]
struct Keys {
    #[prost(string, tag = "2")]
    event_id: String,
    #[prost(message, optional, tag = "9")]
    occurred_time: Option<prost_types::Timestamp>,
    #[prost(string, tag = "11")]
    trace_id: String,
    #[prost(bytes = "vec", tag = "17")]
    subject_tag: Vec<u8>,
}

/// The same, where only the id is wanted.
#[derive(Clone, PartialEq, Message)]
struct EventId {
    #[prost(string, tag = "2")]
    event_id: String,
}

impl LeafRow {
    /// The key of the leaf at `index`.
    pub fn key_of(index: u64) -> Vec<u8> {
        index.to_be_bytes().to_vec()
    }

    /// The leaf, decoded. Its bytes are ours, so they decode; a damaged row reads as an empty header and fails its proof.
    pub fn header(&self) -> Leaf {
        Leaf::decode(self.leaf.as_slice()).unwrap_or_default()
    }

    /// The hash of the leaf.
    pub fn hash(&self) -> Hash32 {
        leaf_hash(&self.leaf)
    }

    /// Whether the payload names `name` in this role.
    pub(crate) fn names(&self, name: Name, role: u8) -> bool {
        self.named().any(|(roles, known)| known == name && roles & role != 0)
    }

    fn named(&self) -> impl Iterator<Item = (u8, Name)> {
        let (named, _) = self.names.as_chunks::<9>();
        named.iter().map(|[roles, name @ ..]| (*roles, *name))
    }

    /// What it is found by, each once.
    pub(crate) fn postings(&self) -> Vec<Tag> {
        let keys = Keys::decode(self.leaf.as_slice()).unwrap_or_default();
        let mut tags: Vec<_> = self.named().filter_map(|(_, name)| Tag::of(&name)).collect();
        tags.extend(Tag::of(&keys.subject_tag));
        tags.extend(Tag::of_trace(&keys.trace_id));
        tags.push(Tag::of_day(day(keys.occurred_time.as_ref())));
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// The day it occurred on, counted from 1970.
    pub fn day(header: &Leaf) -> i64 {
        day(header.occurred_time.as_ref())
    }

    /// The day of a time in microseconds.
    pub const fn day_of(micros: i64) -> i64 {
        micros.div_euclid(DAY)
    }
}

fn day(time: Option<&prost_types::Timestamp>) -> i64 {
    time.and_then(sammati_server::event::micros)
        .map_or(0, |time| LeafRow::day_of(time.0))
}

impl Record for LeafRow {
    const TABLE: Table = Table {
        name: "leaf",
        columns: &[Column::bytes("event_id")],
    };

    fn key(&self) -> Vec<u8> {
        Self::key_of(self.index)
    }

    fn cells(&self) -> Vec<Cell> {
        let keys = EventId::decode(self.leaf.as_slice()).unwrap_or_default();
        vec![event_key(&keys.event_id).into()]
    }
}

/// The look-up value of an event's id.
pub fn event_key(id: &str) -> Vec<u8> {
    uuid::Uuid::try_parse(id)
        .map(|id| id.as_bytes().to_vec())
        .unwrap_or_default()
}

/// How far one partition of a service's feed has come.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SourceRow {
    /// The service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The epoch of its feed.
    #[prost(int64, tag = "2")]
    pub epoch: i64,
    /// The partition of its feed.
    #[prost(int32, tag = "3")]
    pub partition: i32,
    /// The position that is expected next.
    #[prost(int64, tag = "4")]
    pub next: i64,
    /// The chain hash before it.
    #[prost(bytes = "vec", tag = "5")]
    pub chain: Vec<u8>,
}

impl SourceRow {
    /// By what all epochs of one partition are found.
    pub fn feed(service: &str, partition: i32) -> Vec<u8> {
        format!("{service}/{partition}").into_bytes()
    }
}

impl Record for SourceRow {
    const TABLE: Table = Table {
        name: "source",
        columns: &[Column::bytes("feed")],
    };

    fn key(&self) -> Vec<u8> {
        format!("{}/{}/{}", self.service, self.epoch, self.partition).into_bytes()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![Self::feed(&self.service, self.partition).into()]
    }
}

/// The newest event of one subject.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SubjectRow {
    /// The subject's tag.
    #[prost(bytes = "vec", tag = "1")]
    pub tag: Vec<u8>,
    /// How many events there are.
    #[prost(int64, tag = "2")]
    pub seq: i64,
    /// The index of the newest.
    #[prost(uint64, tag = "3")]
    pub last: u64,
}

impl Record for SubjectRow {
    const TABLE: Table = Table {
        name: "subject",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.tag.clone()
    }
}

/// The index of the newest event of a subject by the look-up, which the chain of its leaves does not rest on. In a snapshot.
///
/// # Errors
/// When the database fails.
pub fn newest_of_subject(r: &mut Reader<'_>, tag: &[u8]) -> Result<Option<u64>, sammati_store::Error> {
    let (walk, mut below) = (Walk::begin(r)?, u64::MAX);
    let Some(posting) = Tag::of(tag) else { return Ok(None) };
    loop {
        let rows = walk.rows(r, posting, below, CHUNK)?;
        let Some(last) = rows.last() else { return Ok(None) };
        below = last.index;
        if let Some(row) = rows.iter().find(|row| row.header().subject_tag == tag) {
            return Ok(Some(row.index));
        }
    }
}

/// A hash tile, full in its table, partial in the head.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TileRow {
    /// Tile level.
    #[prost(uint32, tag = "1")]
    pub level: u32,
    /// Position within the level.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Its hashes, one after the other.
    #[prost(bytes = "vec", tag = "3")]
    pub hashes: Vec<u8>,
}

impl TileRow {
    /// The key of a full tile.
    pub fn key_of(level: u8, index: u64) -> Vec<u8> {
        [&[level], index.to_be_bytes().as_slice()].concat()
    }
}

impl Record for TileRow {
    const TABLE: Table = Table {
        name: "tile",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        Self::key_of(u8::try_from(self.level).unwrap_or(u8::MAX), self.index)
    }
}

/// What was signed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CheckpointRow {
    /// The size of the tree.
    #[prost(uint64, tag = "1")]
    pub size: u64,
    /// Its root.
    #[prost(bytes = "vec", tag = "2")]
    pub root: Vec<u8>,
    /// The signed note.
    #[prost(string, tag = "3")]
    pub note: String,
}

impl Record for CheckpointRow {
    const TABLE: Table = Table {
        name: "checkpoint",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.size.to_be_bytes().to_vec()
    }
}

/// A key that replaced the one before it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LogKeyRow {
    /// How many were before it.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The verifier key.
    #[prost(string, tag = "2")]
    pub vkey: String,
    /// The size that was signed last when it came; what is larger it signs.
    #[prost(uint64, tag = "3")]
    pub after: u64,
}

impl LogKeyRow {
    /// Its key.
    pub fn key_of(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }
}

impl Record for LogKeyRow {
    const TABLE: Table = Table {
        name: "log_key",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        Self::key_of(self.number)
    }
}

/// What a witness signed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CosignatureRow {
    /// The size of the checkpoint.
    #[prost(uint64, tag = "1")]
    pub size: u64,
    /// The witness.
    #[prost(string, tag = "2")]
    pub witness: String,
    /// The id of its key.
    #[prost(uint32, tag = "3")]
    pub key_id: u32,
    /// When, by its own clock, seconds since 1970.
    #[prost(uint64, tag = "4")]
    pub time: u64,
    /// The signature line, with its newline.
    #[prost(string, tag = "5")]
    pub line: String,
}

impl CosignatureRow {
    /// The look-up value of a witness's key.
    pub fn witness_key(witness: &Witness) -> Vec<u8> {
        Self::key_value(witness.key_id(), witness.name())
    }

    /// Whether it is of this key.
    pub fn is_of(&self, witness: &Witness) -> bool {
        (self.key_id, self.witness.as_str()) == (witness.key_id(), witness.name())
    }

    fn key_value(key_id: u32, name: &str) -> Vec<u8> {
        [&key_id.to_be_bytes(), name.as_bytes()].concat()
    }
}

impl Record for CosignatureRow {
    const TABLE: Table = Table {
        name: "cosignature",
        columns: &[Column::bytes("size"), Column::bytes("witness")],
    };

    fn key(&self) -> Vec<u8> {
        [
            self.size.to_be_bytes().as_slice(),
            &Self::key_value(self.key_id, &self.witness),
        ]
        .concat()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![
            self.size.to_be_bytes().as_slice().into(),
            Self::key_value(self.key_id, &self.witness).as_slice().into(),
        ]
    }
}

/// A wrapped key of payloads.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PayloadKeyRow {
    /// What it is the key of.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The key under the key-encryption key; empty once it was destroyed.
    #[prost(bytes = "vec", tag = "2")]
    pub wrapped: Vec<u8>,
    /// How many keys of this name were before it.
    #[prost(int64, tag = "3")]
    pub generation: i64,
    /// When the last of them was; 0 if none was.
    #[prost(int64, tag = "4")]
    pub destroyed: i64,
    /// On what ground.
    #[prost(string, tag = "5")]
    pub basis: String,
    /// Keys of the generations just before it, the oldest first: they open, and seal nothing any more. One that a restore of
    /// this database lost is empty.
    #[prost(message, repeated, tag = "6")]
    pub retired: Vec<RetiredKey>,
}

/// A key that is not destroyed yet, and seals nothing any more.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RetiredKey {
    /// How many of its name were before it.
    #[prost(int64, tag = "1")]
    pub generation: i64,
    /// The key under the key-encryption key.
    #[prost(bytes = "vec", tag = "2")]
    pub wrapped: Vec<u8>,
}

impl PayloadKeyRow {
    /// The value of the column of those of which one was destroyed.
    pub(crate) const GONE: [u8; 1] = [1];

    /// How many keys of its name are destroyed: the first ones.
    pub(crate) fn gone(&self) -> i64 {
        self.generation - i64::try_from(self.retired.len()).unwrap_or(i64::MAX)
    }

    /// The keys that live, each with its generation, the present one last.
    pub(crate) fn live(&self) -> impl Iterator<Item = (i64, &[u8])> {
        let retired = self.retired.iter().map(|key| (key.generation, key.wrapped.as_slice()));
        let present = (self.generation, self.wrapped.as_slice());
        retired
            .chain(std::iter::once(present))
            .filter(|(_, wrapped)| !wrapped.is_empty())
    }

    /// The present key seals no more, if there is one: the next one is of the next generation.
    pub(crate) fn retire(&mut self) {
        self.retired.push(RetiredKey {
            generation: self.generation,
            wrapped: std::mem::take(&mut self.wrapped),
        });
        self.generation += 1;
    }
}

impl Record for PayloadKeyRow {
    const TABLE: Table = Table {
        name: "payload_key",
        columns: &[Column::bytes("gone")],
    };
    /// Code that knows of no retired keys would lose them with the first row that it writes.
    const FORMAT: i64 = 2;

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![(self.gone() > 0).then(|| Self::GONE.to_vec()).into()]
    }
}
