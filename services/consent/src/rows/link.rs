//! Links, care contexts, the count of link tokens, and data keys as they are kept.

use sammati_store::{Cell, Column, Record, Table};

/// See the contract's `Link`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinkRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// The provider, a bare id.
    #[prost(string, tag = "3")]
    pub hip: String,
    /// Keyed hash of provider and patient reference: the same reference is the same link.
    #[prost(bytes = "vec", tag = "4")]
    pub natural: Vec<u8>,
    /// The patient reference, sealed.
    #[prost(bytes = "vec", tag = "5")]
    pub sealed: Vec<u8>,
    /// When it was created.
    #[prost(int64, tag = "6")]
    pub created: i64,
    /// When care contexts were last added.
    #[prost(int64, tag = "7")]
    pub updated: i64,
    /// 1, and one more with each change.
    #[prost(int64, tag = "8")]
    pub version: i64,
    /// How many care contexts it has.
    #[prost(int64, tag = "9")]
    pub contexts: i64,
    /// The contract's `Origin`; 0 is HIP_TOKEN.
    #[prost(int32, tag = "10")]
    pub origin: i32,
}

impl Record for LinkRow {
    const TABLE: Table = Table {
        name: "link",
        columns: &[Column::bytes("subject"), Column::bytes("hip")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![super::named(&self.subject), super::named(self.hip.as_bytes())]
    }
}

/// One linked care context.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CareContextRow {
    /// The keyed hash of person, provider and reference.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// The link it belongs to.
    #[prost(bytes = "vec", tag = "3")]
    pub link: Vec<u8>,
    /// The provider, a bare id.
    #[prost(string, tag = "4")]
    pub hip: String,
    /// The `CareContextRef`, sealed.
    #[prost(bytes = "vec", tag = "5")]
    pub sealed: Vec<u8>,
    /// When it was linked.
    #[prost(int64, tag = "6")]
    pub created: i64,
    /// Its place in the link: that of its call, then that within it.
    #[prost(int64, tag = "7")]
    pub place: i64,
}

impl Record for CareContextRow {
    const TABLE: Table = Table {
        name: "care_context",
        columns: &[Column::bytes("subject"), Column::bytes("link")],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![super::named(&self.subject), super::named(&self.link)]
    }
}

/// How often one provider tried one person.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinkTryRow {
    /// Keyed hash of who tries what on whom, as [`crate::lookup::Lookup`] makes them.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// When the present day of counting began.
    #[prost(int64, tag = "2")]
    pub since: i64,
    /// Tries since.
    #[prost(int32, tag = "3")]
    pub count: i32,
    /// Until when it is blocked; 0: it is not.
    #[prost(int64, tag = "4")]
    pub blocked: i64,
}

impl Record for LinkTryRow {
    const TABLE: Table = Table {
        name: "link_try",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

/// A data key, wrapped.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DataKeyRow {
    /// Whose: the `owner` of what it seals.
    #[prost(bytes = "vec", tag = "1")]
    pub owner: Vec<u8>,
    /// The 32 bytes under the key-encryption key.
    #[prost(bytes = "vec", tag = "2")]
    pub wrapped: Vec<u8>,
}

impl Record for DataKeyRow {
    const TABLE: Table = Table {
        name: "data_key",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.owner.clone()
    }
}
