//! What is kept of emergencies: with the consent what happened and what became of it, with the HIU how often it did so.

use sammati_store::{Record, Table};

/// What happened, and how it was reviewed. In a consent that was opened without her word.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BreakGlassRow {
    /// `BreakGlass.Emergency` of the contract.
    #[prost(int32, tag = "1")]
    pub emergency: i32,
    /// By when an operator reviews it.
    #[prost(int64, tag = "2")]
    pub due: i64,
    /// What an operator found; none before.
    #[prost(message, optional, tag = "3")]
    pub review: Option<WordRow>,
    /// What she, or who acts for her, says against it.
    #[prost(message, optional, tag = "4")]
    pub dispute: Option<WordRow>,
    /// When operators were reminded of the review; 0: not yet.
    #[prost(int64, tag = "5")]
    pub reminded: i64,
}

impl BreakGlassRow {
    /// When operators are to be reminded; `None` once they were, or have said what they found.
    pub fn review_due(&self) -> Option<i64> {
        (self.review.is_none() && self.reminded == 0).then_some(self.due)
    }
}

/// One word on it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WordRow {
    /// `BreakGlass.Outcome` of the contract.
    #[prost(int32, tag = "1")]
    pub outcome: i32,
    /// Who said so: the caller's name.
    #[prost(string, tag = "2")]
    pub by: String,
    /// When.
    #[prost(int64, tag = "3")]
    pub at: i64,
    /// The comment, sealed under her key.
    #[prost(bytes = "vec", tag = "4")]
    pub comment: Vec<u8>,
}

/// How often a HIU broke the glass. It lives with the HIU.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GlassCountRow {
    /// The HIU's bare id.
    #[prost(string, tag = "1")]
    pub hiu: String,
    /// The month that `count` counts, as 202611.
    #[prost(int64, tag = "2")]
    pub month: i64,
    /// Openings in it.
    #[prost(int64, tag = "3")]
    pub count: i64,
    /// Those that are still open.
    #[prost(message, repeated, tag = "4")]
    pub open: Vec<OpenGlass>,
}

/// One opening that lasts.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OpenGlass {
    /// A keyed hash of the professional.
    #[prost(bytes = "vec", tag = "1")]
    pub professional: Vec<u8>,
    /// Until when.
    #[prost(int64, tag = "2")]
    pub until: i64,
}

impl Record for GlassCountRow {
    const TABLE: Table = Table {
        name: "glass_count",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.hiu.clone().into_bytes()
    }
}
