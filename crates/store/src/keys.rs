//! What a command reads, gathered over a whole batch so that each table is asked once.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::{Record, Table};

/// A claim's key: a keyed hash of what is claimed. Its first bytes choose its partition.
pub type ClaimKey = [u8; 32];

/// A place in a table or a group: partition, and key or value.
type Place = (i64, Vec<u8>);

/// The rows, groups and claims that a batch reads.
#[derive(Debug, Default)]
pub struct Keys {
    partition: i64,
    pub(crate) rows: BTreeMap<Table, BTreeSet<Place>>,
    pub(crate) groups: BTreeMap<(Table, &'static str), BTreeSet<Place>>,
    pub(crate) claims: BTreeSet<ClaimKey>,
}

impl Keys {
    /// From here on, keys are of `partition`.
    pub(crate) const fn enter(&mut self, partition: i64) {
        self.partition = partition;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.groups.is_empty() && self.claims.is_empty()
    }

    /// The record with this key, or its absence.
    pub fn row<R: Record>(&mut self, key: impl Into<Vec<u8>>) {
        self.raw_row(R::TABLE, key.into());
    }

    pub(crate) fn raw_row(&mut self, table: Table, key: Vec<u8>) {
        self.rows.entry(table).or_default().insert((self.partition, key));
    }

    /// All records of the partition whose `column` is `value`.
    pub fn group<R: Record>(&mut self, column: &'static str, value: impl Into<Vec<u8>>) {
        self.groups
            .entry((R::TABLE, column))
            .or_default()
            .insert((self.partition, value.into()));
    }

    /// Who owns this claim, if anybody.
    pub fn claim(&mut self, key: ClaimKey) {
        self.claims.insert(key);
    }
}
