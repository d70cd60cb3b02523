//! What a table is to the store: a name, a fixed beginning, and the columns its service looks things up by.
//!
//! Every table begins `partition BIGINT, id BYTEA, version BIGINT, format BIGINT, body BYTEA` with the primary key
//! `(partition, id)`. The body is the whole record as one protobuf message, and ends with a check value; the columns after
//! it repeat what is looked up. Loads therefore never depend on a service's columns, and all tables go through the same statements.

use std::cmp::Ordering;

use diesel::sql_types::{BigInt, Binary};

/// A table by name, with its look-up columns in order. Its name is what it is: batches sort and compare tables all the time,
/// and never look at columns for it.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name in SQL.
    pub name: &'static str,
    /// The columns after `body`.
    pub columns: &'static [Column],
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Table {}

impl PartialOrd for Table {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Table {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(other.name)
    }
}

/// A look-up column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name in SQL.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

impl Column {
    /// A nullable `BYTEA` column.
    pub const fn bytes(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Bytes,
        }
    }

    /// A nullable `BIGINT` column.
    pub const fn int(name: &'static str) -> Self {
        Self { name, kind: Kind::Int }
    }
}

/// The two types that stored look-up values have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `BYTEA`: ids, hashes, names.
    Bytes,
    /// `BIGINT`: times in microseconds, states, counts.
    Int,
}

/// One value on its way into a statement; `None` is NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// A `BYTEA`.
    Bytes(Option<Vec<u8>>),
    /// A `BIGINT`.
    Int(Option<i64>),
}

impl Cell {
    /// Whether it is not NULL.
    pub(crate) const fn is_there(&self) -> bool {
        matches!(self, Self::Bytes(Some(_)) | Self::Int(Some(_)))
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(Some(b)) => Some(b),
            _ => None,
        }
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Cell {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<Vec<u8>> for Cell {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<&[u8]> for Cell {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Bytes(Some(value.as_bytes().to_vec()))
    }
}

impl From<Option<Vec<u8>>> for Cell {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}

/// A message that is kept as a row.
pub trait Record: prost::Message + Default + Clone + 'static {
    /// Where it is kept.
    const TABLE: Table;

    /// The format this code writes. A row of a higher format is read, never rewritten: prost drops what it does not
    /// know, and a dropped restriction would widen a consent.
    const FORMAT: i64 = 1;

    /// Its key within the partition. Never changes.
    fn key(&self) -> Vec<u8>;

    /// The values of the table's look-up columns, in their order.
    fn cells(&self) -> Vec<Cell> {
        Vec::new()
    }
}

/// A row as it is loaded: any table, any service.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Raw {
    #[diesel(sql_type = BigInt)]
    pub(crate) partition: i64,
    #[diesel(sql_type = Binary)]
    pub(crate) id: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    pub(crate) version: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) format: i64,
    #[diesel(sql_type = Binary)]
    pub(crate) body: Vec<u8>,
}
