//! Claims make a thing unique across subjects: only the insert decides, and whoever misses decides again.

use crate::table::{Record, Table};

/// Who owns what was claimed. Never deleted: a key is not given twice.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ClaimRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) owner: Vec<u8>,
}

impl Record for ClaimRow {
    const TABLE: Table = Table {
        name: "claim",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}
