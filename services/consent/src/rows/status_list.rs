//! Status lists as they are kept: how many of their entries are given. What an entry says stands at its consent.

use sammati_store::{Cell, Column, Record, Table};

/// See the contract's `StatusList`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatusListRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Entries that consents have.
    #[prost(uint32, tag = "2")]
    pub given: u32,
}

impl Record for StatusListRow {
    const TABLE: Table = Table {
        name: "status_list",
        columns: &[Column::bytes("open")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![self.open().into()]
    }
}
