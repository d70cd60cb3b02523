//! How is it kept? The records of the log, all in its one partition.

mod erasure;

use prost::Message;
use sammati_api::audit::v1::Leaf;
use sammati_kernel::Slot;
use sammati_store::verbs::Known;
use sammati_store::{Cell, Column, EmbeddedMigrations, Reader, Record, Table, embed_migrations};

pub(crate) use erasure::{clear, read_to_clear};
pub use erasure::{Done, ErasureRow, HoldRow, Running};

/// The tables of the log.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/log");

/// The tables of the key database.
pub const KEY_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/keys");

/// The tables of the log as fsck reads them.
pub fn log_tables() -> Vec<Known> {
    vec![
        Known::of::<LogRow>(),
        Known::of::<LeafRow>(),
        Known::of::<MentionRow>(),
        Known::of::<SourceRow>(),
        Known::of::<SubjectRow>(),
        Known::of::<TileRow>(),
        Known::of::<CheckpointRow>(),
        Known::of::<ErasureRow>(),
        Known::of::<HoldRow>(),
    ]
}

/// The tables of the key database as fsck reads them.
pub fn key_tables() -> Vec<Known> {
    vec![Known::of::<PayloadKeyRow>()]
}

/// A log is one partition: everything of it is in this slot.
pub const SLOT: Slot = Slot::new(0);

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
}

impl LogRow {
    /// The key of the only row.
    pub const KEY: &'static [u8] = b"log";
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
    /// Their hash.
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
    /// The payload, sealed.
    #[prost(bytes = "vec", tag = "4")]
    pub payload: Vec<u8>,
    /// A keyed hash of the event as it was sent: the same id with another body is a conflict.
    #[prost(bytes = "vec", tag = "5")]
    pub digest: Vec<u8>,
    /// Keyed hashes of what it can be looked up by.
    #[prost(message, required, tag = "6")]
    pub tags: Tags,
}

/// Keyed hashes of the ids in a payload; empty for what is not in it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Tags {
    /// Of the actor.
    #[prost(bytes = "vec", tag = "1")]
    pub actor: Vec<u8>,
    /// Of the resource.
    #[prost(bytes = "vec", tag = "2")]
    pub resource: Vec<u8>,
    /// Of the consent.
    #[prost(bytes = "vec", tag = "3")]
    pub consent: Vec<u8>,
    /// Of each participant that it names.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub parties: Vec<Vec<u8>>,
}

impl LeafRow {
    /// The leaf, decoded. Its bytes are ours, so they decode; a damaged row reads as an empty header and fails its proof.
    pub fn header(&self) -> Leaf {
        Leaf::decode(self.leaf.as_slice()).unwrap_or_default()
    }

    /// The day it occurred on, counted from 1970.
    pub fn day(header: &Leaf) -> i64 {
        let time = header.occurred_time.as_ref().and_then(sammati_server::event::micros);
        time.map_or(0, |t| t.0.div_euclid(DAY))
    }

    /// The day of a time in microseconds.
    pub const fn day_of(micros: i64) -> i64 {
        micros.div_euclid(DAY)
    }
}

impl Record for LeafRow {
    const TABLE: Table = Table {
        name: "leaf",
        columns: &[
            Column::bytes("event_id"),
            Column::bytes("subject"),
            Column::bytes("consent"),
            Column::bytes("resource"),
            Column::bytes("actor"),
            Column::bytes("trace"),
            Column::bytes("day"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.index.to_be_bytes().to_vec()
    }

    fn cells(&self) -> Vec<Cell> {
        let header = self.header();
        vec![
            event_key(&header.event_id).into(),
            some(&header.subject_tag),
            some(&self.tags.consent),
            some(&self.tags.resource),
            some(&self.tags.actor),
            some(header.trace_id.as_bytes()),
            Self::day(&header).to_be_bytes().as_slice().into(),
        ]
    }
}

fn some(bytes: &[u8]) -> Cell {
    Cell::Bytes((!bytes.is_empty()).then(|| bytes.to_vec()))
}

/// The look-up value of an event's id.
pub fn event_key(id: &str) -> Vec<u8> {
    uuid::Uuid::try_parse(id)
        .map(|id| id.as_bytes().to_vec())
        .unwrap_or_default()
}

/// One participant that an event names.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MentionRow {
    /// Keyed hash of the participant.
    #[prost(bytes = "vec", tag = "1")]
    pub party: Vec<u8>,
    /// The leaf.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Whether the payload that named it is erased: then it is found no more.
    #[prost(bool, tag = "3")]
    pub erased: bool,
}

impl MentionRow {
    /// Its key: in the order of the leaves for one participant.
    pub fn key_of(party: &[u8], index: u64) -> Vec<u8> {
        [party, &index.to_be_bytes()].concat()
    }
}

impl Record for MentionRow {
    const TABLE: Table = Table {
        name: "mention",
        columns: &[Column::bytes("party")],
    };

    fn key(&self) -> Vec<u8> {
        Self::key_of(&self.party, self.index)
    }

    fn cells(&self) -> Vec<Cell> {
        vec![(!self.erased).then(|| self.party.clone()).into()]
    }
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

/// The index of the newest event of a subject by the look-up, which the chain of its leaves does not rest on.
///
/// # Errors
/// When the database fails.
pub fn newest_of_subject(r: &mut Reader<'_>, tag: &[u8]) -> Result<Option<u64>, sammati_store::Error> {
    let newest = r.page::<LeafRow>("subject", tag, None, 1)?;
    Ok(newest.first().map(|row| row.record.index))
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

/// A wrapped key of payloads.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PayloadKeyRow {
    /// What it is the key of.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The key under the key-encryption key; empty once it was destroyed.
    #[prost(bytes = "vec", tag = "2")]
    pub wrapped: Vec<u8>,
    /// How many keys of this name were destroyed before it.
    #[prost(int64, tag = "3")]
    pub generation: i64,
}

impl Record for PayloadKeyRow {
    const TABLE: Table = Table {
        name: "payload_key",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }
}
