//! What guards one identifier against guessing, as it is kept.

use sammati_store::{Record, Table};

/// Counts by keyed hash of a mobile or Aadhaar number, or by account.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct GuardRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) subject: Vec<u8>,
    /// When OTPs were sent within the last day, oldest first.
    #[prost(int64, repeated, tag = "2")]
    pub(crate) sends: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) blocks: Vec<PurposeBlock>,
    /// The day that passwords and taken addresses are counted for, in days since 1970 by Indian time.
    #[prost(int64, tag = "4")]
    pub(crate) day: i64,
    /// Passwords tried on that day since the last right one.
    #[prost(int32, tag = "5")]
    pub(crate) passwords: i32,
    /// Addresses asked for on that day that somebody had.
    #[prost(int32, tag = "6")]
    pub(crate) taken: i32,
    /// PINs tried on that day since the last right one, or since it was set.
    #[prost(int32, tag = "20")]
    pub(crate) pins: i32,
}

/// The blocks of one purpose.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PurposeBlock {
    #[prost(int32, tag = "1")]
    pub(crate) purpose: i32,
    /// When blocks began within the last day, oldest first.
    #[prost(int64, repeated, tag = "2")]
    pub(crate) began: Vec<i64>,
    /// When the last one ends.
    #[prost(int64, tag = "3")]
    pub(crate) until: i64,
    /// Whether the last one is for abuse.
    #[prost(bool, tag = "4")]
    pub(crate) abuse: bool,
}

impl Record for GuardRow {
    const TABLE: Table = Table {
        name: "guard",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.subject.clone()
    }
}
