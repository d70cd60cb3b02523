//! An account and what is sealed of it, as they are kept.

use sammati_api::identity::v1 as api;
use sammati_api::types::v1::ConsentStamp;
use sammati_kernel::{AccountId, Micros};
use sammati_store::{Cell, Column, Record, Table};

use crate::vault::Sealed;

/// A person's account. What is personal in it is sealed under her data key.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AccountRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
    /// `account::State` of the contract.
    #[prost(int32, tag = "3")]
    pub(crate) state: i32,
    /// Her data key.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) key: Vec<u8>,
    /// Her ABHA number's 14 digits, sealed.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) number: Vec<u8>,
    /// A sealed [`Profile`].
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) profile: Vec<u8>,
    /// Her addresses, the default one first.
    #[prost(message, repeated, tag = "7")]
    pub(crate) addresses: Vec<AddressRow>,
    #[prost(message, optional, tag = "8")]
    pub(crate) consent: Option<ConsentStamp>,
    #[prost(int64, tag = "9")]
    pub(crate) create_time: i64,
    #[prost(int64, tag = "10")]
    pub(crate) update_time: i64,
    /// The PHC string of her password, sealed; empty without one.
    #[prost(bytes = "vec", tag = "11")]
    pub(crate) password: Vec<u8>,
    /// When the proof was consumed that set or removed the password last. (12 is not used any more.)
    #[prost(int64, tag = "13")]
    pub(crate) credential_time: i64,
    /// When it was deleted; 0 before.
    #[prost(int64, tag = "14")]
    pub(crate) delete_time: i64,
    /// When what is personal in it is destroyed.
    #[prost(int64, tag = "15")]
    pub(crate) purge_time: i64,
    /// Whether that is done.
    #[prost(bool, tag = "16")]
    pub(crate) purged: bool,
    /// Whether audit was asked to erase her events.
    #[prost(bool, tag = "17")]
    pub(crate) erase_asked: bool,
    /// Whether its representations have ended since it was deleted.
    #[prost(bool, tag = "18")]
    pub(crate) alone: bool,
    /// What is to be done since it was deleted failed, and is tried again from then on; 0: it did not.
    #[prost(int64, tag = "19")]
    pub(crate) retry_time: i64,
    /// The PHC string of her PIN, sealed; empty without one.
    #[prost(bytes = "vec", tag = "30")]
    pub(crate) pin: Vec<u8>,
    /// When the proof was consumed that set or removed the PIN last.
    #[prost(int64, tag = "31")]
    pub(crate) pin_time: i64,
    /// When all of her sessions were ended last: what was proved before opens none. Code that does not know of it may drop
    /// it, for it lets such a proof pass anyway.
    #[prost(int64, tag = "32")]
    pub(crate) sessions_from: i64,
    /// The transactions that were consumed at `credential_time` and have changed the password. Several may be, in one batch.
    #[prost(bytes = "vec", repeated, tag = "33")]
    pub(crate) password_proofs: Vec<Vec<u8>>,
    /// The same of `pin_time` and the PIN.
    #[prost(bytes = "vec", repeated, tag = "34")]
    pub(crate) pin_proofs: Vec<Vec<u8>>,
}

/// What she sets herself, and proves herself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    Password,
    Pin,
}

impl Credential {
    /// The one that a factor asks for.
    pub(crate) const fn of(factor: api::Factor) -> Option<Self> {
        match factor {
            api::Factor::Password => Some(Self::Password),
            api::Factor::Pin => Some(Self::Pin),
            _ => None,
        }
    }

    /// As events name it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Pin => "pin",
        }
    }

    /// What it is sealed as.
    pub(crate) const fn sealed(self) -> Sealed {
        match self {
            Self::Password => Sealed::Password,
            Self::Pin => Sealed::Pin,
        }
    }
}

/// One of her addresses.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct AddressRow {
    /// Its claim.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) claim: Vec<u8>,
    /// The folded address, sealed.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) address: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub(crate) preferred: bool,
    #[prost(int64, tag = "4")]
    pub(crate) create_time: i64,
}

/// What e-KYC told. Sealed.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Profile {
    #[prost(message, optional, tag = "1")]
    pub(crate) names: Option<api::PersonName>,
    #[prost(message, optional, tag = "2")]
    pub(crate) birth: Option<api::BirthDate>,
    /// `Gender` of the contract.
    #[prost(int32, tag = "3")]
    pub(crate) gender: i32,
    /// 10 digits, or empty.
    #[prost(string, tag = "4")]
    pub(crate) mobile: String,
}

/// The larger part of it. Sealed.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Portrait {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) photo: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) postal: Option<api::PostalAddress>,
}

/// A sealed [`Portrait`], by the data key it is sealed under.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PortraitRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) sealed: Vec<u8>,
}

/// A data key, wrapped by the key-encryption key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct DataKeyRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) wrapped: Vec<u8>,
}

impl AccountRow {
    pub(crate) fn id(&self) -> Option<AccountId> {
        AccountId::from_slice(&self.id)
    }

    /// The resource name.
    pub(crate) fn name(&self) -> String {
        self.id().map(|id| id.name()).unwrap_or_default()
    }

    pub(crate) fn state(&self) -> api::account::State {
        api::account::State::try_from(self.state).unwrap_or_default()
    }

    /// The sealed hash of a credential; empty without one.
    pub(crate) const fn hash_of(&self, credential: Credential) -> &Vec<u8> {
        match credential {
            Credential::Password => &self.password,
            Credential::Pin => &self.pin,
        }
    }

    /// The same, to be changed.
    pub(crate) const fn hash_mut(&mut self, credential: Credential) -> &mut Vec<u8> {
        match credential {
            Credential::Password => &mut self.password,
            Credential::Pin => &mut self.pin,
        }
    }

    /// Sets a credential, or with an empty hash removes it, by a transaction that was consumed at `consumed`. What was proved
    /// before opens no session any more.
    pub(crate) fn set_credential(
        &mut self,
        credential: Credential,
        hash: &[u8],
        (transaction, consumed): (&[u8], Micros),
        now: Micros,
    ) {
        *self.hash_mut(credential) = hash.to_vec();
        let (time, proofs) = match credential {
            Credential::Password => (&mut self.credential_time, &mut self.password_proofs),
            Credential::Pin => (&mut self.pin_time, &mut self.pin_proofs),
        };
        if *time != consumed.0 {
            proofs.clear();
        }
        *time = consumed.0;
        proofs.push(transaction.to_vec());
        self.sessions_from = now.0;
    }

    /// Whether nothing is to be changed by a transaction that was consumed at `consumed`: it has changed the credential, or
    /// what is newer has.
    pub(crate) fn has_settled(&self, credential: Credential, (transaction, consumed): (&[u8], Micros)) -> bool {
        let proofs = match credential {
            Credential::Password => &self.password_proofs,
            Credential::Pin => &self.pin_proofs,
        };
        let time = self.set_time(credential);
        // Without proofs older code has changed it: then one of that time is the one that did.
        let known = || proofs.is_empty() || proofs.iter().any(|proof| proof == transaction);
        consumed.0 < time || (consumed.0 == time && known())
    }

    /// When a credential was set or removed last.
    pub(crate) const fn set_time(&self, credential: Credential) -> i64 {
        match credential {
            Credential::Password => self.credential_time,
            Credential::Pin => self.pin_time,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state() == api::account::State::Active
    }

    /// When there is something to do here for an account that was deleted.
    fn due(&self) -> Option<i64> {
        let waits = self.state() == api::account::State::Deleted && !self.purged;
        let stage = if self.alone { self.purge_time } else { self.delete_time };
        waits.then(|| stage.max(self.retry_time))
    }

    /// When audit is to be asked to erase its events: what waits for audit keeps nothing else waiting.
    pub(crate) fn asks(&self) -> Option<i64> {
        let waits = self.state() == api::account::State::Deleted && self.purged && !self.erase_asked;
        waits.then(|| self.purge_time.max(self.retry_time))
    }
}

impl Record for AccountRow {
    const TABLE: Table = Table {
        name: "account",
        columns: &[Column::bytes("inactive"), Column::int("due"), Column::int("asks")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::Bytes((!self.is_active()).then(|| vec![1])),
            Cell::Int(self.due()),
            Cell::Int(self.asks()),
        ]
    }
}

impl PortraitRow {
    /// The one under this key with nothing in it.
    pub(crate) fn empty(key: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            sealed: Vec::new(),
        }
    }
}

impl Record for PortraitRow {
    const TABLE: Table = Table {
        name: "portrait",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

impl Record for DataKeyRow {
    const TABLE: Table = Table {
        name: "data_key",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[profile]")
    }
}

impl std::fmt::Debug for Portrait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[portrait]")
    }
}
