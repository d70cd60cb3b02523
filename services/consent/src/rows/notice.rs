//! Notices that somebody published, as they are kept. The words of a version stand in a row of their own: lists and requests
//! read without them.

use sammati_api::consent::v1::NoticeText;
use sammati_kernel::{NoticeId, Refusal};
use sammati_store::{Cell, Column, Record, Table};

/// Whom the notices of operators belong to, in the look-up column.
pub const OF_OPERATORS: &str = "operators";

/// In the look-up column of all notices.
pub const LISTED: [u8; 1] = [1];

/// A notice: whose it is, and its versions.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NoticeRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// `participants/{id}`; empty: an operator published it, for everybody.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// When it was retired; 0: it is not.
    #[prost(int64, tag = "3")]
    pub retired: i64,
    /// When it last changed.
    #[prost(int64, tag = "4")]
    pub updated: i64,
    /// 1, and one more with each version and when it is retired.
    #[prost(int64, tag = "5")]
    pub version: i64,
    /// Its versions, from 1.
    #[prost(message, repeated, tag = "6")]
    pub versions: Vec<NoticeVersionRow>,
}

/// One version, without its words. It never changes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NoticeVersionRow {
    /// `PurposeCode` numbers, in order.
    #[prost(int32, repeated, tag = "1")]
    pub purposes: Vec<i32>,
    /// `HiType` numbers, in order.
    #[prost(int32, repeated, tag = "2")]
    pub items: Vec<i32>,
    /// The languages it is written in.
    #[prost(string, repeated, tag = "3")]
    pub languages: Vec<String>,
    /// 64 hexadecimal digits.
    #[prost(string, tag = "4")]
    pub sha256: String,
    /// When it was published.
    #[prost(int64, tag = "5")]
    pub created: i64,
}

/// The words of one version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NoticeTextsRow {
    /// The notice's id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub notice: Vec<u8>,
    /// The version, from 1.
    #[prost(uint32, tag = "2")]
    pub number: u32,
    /// In the order in which they were given.
    #[prost(message, repeated, tag = "3")]
    pub texts: Vec<NoticeText>,
}

impl NoticeRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<NoticeId, Refusal> {
        super::id(&self.id)
    }

    /// The version with this number, 0 for the newest, and its number.
    pub fn numbered(&self, number: i32) -> Option<(i32, &NoticeVersionRow)> {
        let newest = i32::try_from(self.versions.len()).ok()?;
        let number = if number == 0 { newest } else { number };
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        Some((number, self.versions.get(at)?))
    }
}

impl Record for NoticeRow {
    const TABLE: Table = Table {
        name: "notice",
        columns: &[Column::bytes("owner"), Column::bytes("listed")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let owner = if self.owner.is_empty() {
            OF_OPERATORS
        } else {
            &self.owner
        };
        vec![owner.into(), LISTED.to_vec().into()]
    }
}

impl NoticeTextsRow {
    /// The key of a version's words.
    pub fn key_of(notice: &[u8], number: i32) -> Vec<u8> {
        [notice, &number.to_be_bytes()].concat()
    }
}

impl Record for NoticeTextsRow {
    const TABLE: Table = Table {
        name: "notice_texts",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        [self.notice.as_slice(), &self.number.to_be_bytes()].concat()
    }
}
