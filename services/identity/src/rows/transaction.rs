//! A transaction, as it is kept.

use sammati_api::identity::v1::BoundAction;
use sammati_api::types::v1::ConsentStamp;
use sammati_kernel::TransactionId;
use sammati_store::{Cell, Column, Record, Table};

/// One proof of one thing. Who is proved stands here as a keyed hash, and sealed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TransactionRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
    /// `transaction::Purpose` of the contract.
    #[prost(int32, tag = "3")]
    pub(crate) purpose: i32,
    /// `Factor` of the contract.
    #[prost(int32, tag = "4")]
    pub(crate) factor: i32,
    /// `transaction::State` of the contract; EXPIRED is never written.
    #[prost(int32, tag = "5")]
    pub(crate) state: i32,
    /// Who created it, as `Caller::id`.
    #[prost(string, tag = "6")]
    pub(crate) creator: String,
    /// The app, if a participant created it: `participants/{id}`.
    #[prost(string, tag = "7")]
    pub(crate) app: String,
    /// The keyed hash of what is proved, or the account's id: the key of its guard.
    #[prost(bytes = "vec", tag = "8")]
    pub(crate) subject: Vec<u8>,
    /// Set when nobody was found: it looks like any other and never verifies.
    #[prost(bool, tag = "9")]
    pub(crate) decoy: bool,
    /// The account it is about, when that is one and known.
    #[prost(bytes = "vec", tag = "10")]
    pub(crate) account: Vec<u8>,
    /// The data key that its personal data is sealed under.
    #[prost(bytes = "vec", tag = "11")]
    pub(crate) key: Vec<u8>,
    /// A sealed [`Target`].
    #[prost(bytes = "vec", tag = "12")]
    pub(crate) target: Vec<u8>,
    /// The keyed hash of the OTP that we sent last.
    #[prost(bytes = "vec", tag = "13")]
    pub(crate) otp: Vec<u8>,
    /// When the last OTP was asked for.
    #[prost(int64, tag = "14")]
    pub(crate) send_time: i64,
    /// Until when the last OTP is good.
    #[prost(int64, tag = "15")]
    pub(crate) otp_end: i64,
    /// How many OTPs were asked for.
    #[prost(int32, tag = "16")]
    pub(crate) sends: i32,
    /// How many of them the e-KYC provider has acknowledged.
    #[prost(int32, tag = "17")]
    pub(crate) started: i32,
    #[prost(string, tag = "18")]
    pub(crate) provider_transaction: String,
    #[prost(message, repeated, tag = "19")]
    pub(crate) attempts: Vec<AttemptRow>,
    /// The accounts a LOGIN reaches, once VERIFIED.
    #[prost(bytes = "vec", repeated, tag = "20")]
    pub(crate) candidates: Vec<Vec<u8>>,
    #[prost(int64, tag = "21")]
    pub(crate) create_time: i64,
    #[prost(int64, tag = "22")]
    pub(crate) update_time: i64,
    #[prost(int64, tag = "23")]
    pub(crate) verify_time: i64,
    #[prost(message, optional, tag = "24")]
    pub(crate) consent: Option<ConsentStamp>,
    /// A sealed `Profile`, from e-KYC.
    #[prost(bytes = "vec", tag = "25")]
    pub(crate) profile: Vec<u8>,
    /// The keyed hash of the agency's token for the person: the claim on her.
    #[prost(bytes = "vec", tag = "26")]
    pub(crate) reference: Vec<u8>,
    /// The keyed hash of the mobile: of the target, or from e-KYC.
    #[prost(bytes = "vec", tag = "27")]
    pub(crate) mobile: Vec<u8>,
    /// How many address candidates were asked about.
    #[prost(int32, tag = "28")]
    pub(crate) probes: i32,
    /// The language of messages.
    #[prost(string, tag = "29")]
    pub(crate) language: String,
    /// Its id as others see it, which does not tell where it lives.
    #[prost(bytes = "vec", tag = "30")]
    pub(crate) veiled: Vec<u8>,
    /// The one call that a STEP_UP is for.
    #[prost(message, optional, tag = "40")]
    pub(crate) bound_to: Option<BoundAction>,
    /// When that was shown which proved it: before it was compared with anything. 0: `verify_time` is known alone.
    #[prost(int64, tag = "41")]
    pub(crate) proof_time: i64,
}

/// One attempt to prove it, counted before anything is compared.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct AttemptRow {
    #[prost(enumeration = "Verdict", tag = "1")]
    pub(crate) verdict: i32,
    /// When it was counted.
    #[prost(int64, tag = "2")]
    pub(crate) time: i64,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Verdict {
    /// Counted; whoever compares has not answered yet.
    Pending = 0,
    /// Right.
    Matched = 1,
    /// Wrong.
    Rejected = 2,
}

/// Where an OTP goes. Sealed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Target {
    /// Empty for a decoy, and where the agency sends.
    #[prost(string, tag = "1")]
    pub(crate) mobile: String,
    /// What the caller is shown.
    #[prost(string, tag = "2")]
    pub(crate) masked: String,
}

impl Record for TransactionRow {
    const TABLE: Table = Table {
        name: "txn",
        columns: &[Column::int("due")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![Cell::Int(self.holds_data().then(|| self.end().0))]
    }
}

impl TransactionRow {
    pub(crate) fn id(&self) -> Option<TransactionId> {
        TransactionId::from_slice(&self.id)
    }

    /// The resource name, as everybody but this service knows it.
    pub(crate) fn name(&self) -> String {
        TransactionId::from_slice(&self.veiled)
            .map(|id| id.name())
            .unwrap_or_default()
    }

    /// Whether it holds personal data that is not an account's.
    pub(crate) const fn holds_data(&self) -> bool {
        !self.target.is_empty() || !self.profile.is_empty()
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[target]")
    }
}
