//! The feed: every event, gap-free and in commit order per partition; and revisions, which name a place in it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use diesel::sql_types::{BigInt, Binary, Nullable};
use sammati_kernel::Key;

use crate::shared::Head;

/// An event as it stands in the feed.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub struct FeedEvent {
    /// Its partition.
    #[diesel(sql_type = BigInt)]
    pub partition: i64,
    /// Its place, from 0, without gaps.
    #[diesel(sql_type = BigInt)]
    pub position: i64,
    /// The epoch it was written in.
    #[diesel(sql_type = BigInt)]
    pub epoch: i64,
    /// When it was recorded, microseconds since 1970.
    #[diesel(sql_type = BigInt)]
    pub time: i64,
    /// Its id, 16 bytes.
    #[diesel(sql_type = Binary)]
    pub event_id: Vec<u8>,
    /// The subject whose state it changed.
    #[diesel(sql_type = Nullable<Binary>)]
    pub subject: Option<Vec<u8>>,
    /// The hash chain after it.
    #[diesel(sql_type = Binary)]
    pub chain: Vec<u8>,
    /// The event itself, as its command wrote it.
    #[diesel(sql_type = Binary)]
    pub body: Vec<u8>,
}

/// A place in the feed of one partition: whoever has seen it has seen every event before `next`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The partition.
    pub partition: i64,
    /// Its epoch.
    pub epoch: i64,
    /// The position that the next event had or will have.
    pub next: i64,
    /// The hash chain over all before it.
    pub chain: Vec<u8>,
}

impl Revision {
    pub(crate) fn of(partition: i64, head: &Head) -> Self {
        Self {
            partition,
            epoch: head.epoch,
            next: head.next,
            chain: head.chain.clone(),
        }
    }

    /// As text that means nothing to whoever carries it.
    pub fn seal(&self, key: &Key) -> String {
        let mut plain = Vec::with_capacity(24 + self.chain.len());
        for number in [self.partition, self.epoch, self.next] {
            plain.extend_from_slice(&number.to_be_bytes());
        }
        plain.extend_from_slice(&self.chain);
        key.derive("revision")
            .seal(b"revision", &plain)
            .map(|sealed| B64.encode(sealed))
            .unwrap_or_default()
    }

    /// Reads what [`Self::seal`] made; `None` for anything else.
    pub fn open(key: &Key, text: &str) -> Option<Self> {
        let plain = key.derive("revision").open(b"revision", &B64.decode(text).ok()?)?;
        let number = |n: usize| Some(i64::from_be_bytes(plain.get(n * 8..n * 8 + 8)?.try_into().ok()?));
        let chain = plain.get(24..)?.to_vec();
        Some(Self {
            partition: number(0)?,
            epoch: number(1)?,
            next: number(2)?,
            chain,
        })
    }

    /// Whether a partition whose head is `head` has reached this revision in its epoch.
    pub const fn is_reached_by(&self, head: &Head) -> bool {
        head.epoch == self.epoch && head.next >= self.next
    }
}
