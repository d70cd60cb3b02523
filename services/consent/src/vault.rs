//! What is personal at rest: sealed under a key of the person's, which is wrapped under the key-encryption key.

use std::collections::HashMap;
use std::fmt;

use prost::Message;
use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{Key, Reason, Refusal, Slot};
use sammati_store::{Error, Keys, Reader, View};

use crate::rows::{DataKeyRow, broken};

/// Wraps and unwraps data keys.
#[derive(Debug, Clone)]
pub struct Vault(Key);

/// The personal part of a request, a consent or a link.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Private {
    /// The ABHA address, in lower case.
    #[prost(string, tag = "1")]
    pub patient: String,
    /// Care contexts that are named.
    #[prost(message, repeated, tag = "2")]
    pub care_contexts: Vec<CareContextRef>,
    /// Words of hers, or a reference.
    #[prost(string, tag = "3")]
    pub text: String,
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[private]")
    }
}

impl Vault {
    /// Wraps under a key derived from `kek`.
    pub fn new(kek: &Key) -> Self {
        Self(kek.derive("data keys"))
    }

    /// What a command must read to seal or open anything of `owner`'s.
    pub fn reads(keys: &mut Keys, owner: &[u8]) {
        keys.row::<DataKeyRow>(owner);
    }

    /// The data key of `owner`, made if there is none.
    ///
    /// # Errors
    /// INTERNAL when the stored one does not unwrap.
    pub fn key(&self, view: &mut View<'_>, owner: &[u8]) -> Result<Key, Refusal> {
        if let Some(row) = view.get::<DataKeyRow>(owner) {
            if row.wrapped.is_empty() {
                // Her account is deleted and her key destroyed: nothing more is kept of her.
                return Err(Reason::NotAvailable.into());
            }
            return self.unwrap(&row);
        }
        let key = Key::from_bytes(view.seed().bytes("data key"));
        let wrapped = self
            .0
            .seal_with(nonce(view, "data key nonce"), owner, key.bytes())
            .map_err(|_| broken("a data key"))?;
        view.put(&DataKeyRow {
            owner: owner.to_vec(),
            wrapped,
        });
        Ok(key)
    }

    /// The key in a row.
    ///
    /// # Errors
    /// INTERNAL when it does not unwrap: another key-encryption key, or a damaged row.
    pub fn unwrap(&self, row: &DataKeyRow) -> Result<Key, Refusal> {
        let bytes = self
            .0
            .open(&row.owner, &row.wrapped)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map(Key::from_bytes).ok_or_else(|| broken("a data key"))
    }

    /// The data keys of several owners at once.
    ///
    /// # Errors
    /// When the database fails.
    pub fn load(reader: &mut Reader<'_>, owners: &[(Slot, Vec<u8>)]) -> Result<Vec<DataKeyRow>, Error> {
        Ok(reader
            .many::<DataKeyRow>(owners)?
            .into_iter()
            .map(|stored| stored.record)
            .collect())
    }

    /// Unwraps what [`Self::load`] read.
    ///
    /// # Errors
    /// As [`Self::unwrap`].
    pub fn ring(&self, rows: &[DataKeyRow]) -> Result<Ring, Refusal> {
        let one = |row: &DataKeyRow| match row.wrapped.is_empty() {
            true => Ok((row.owner.clone(), None)),
            false => Ok((row.owner.clone(), Some(self.unwrap(row)?))),
        };
        Ok(Ring(rows.iter().map(one).collect::<Result<_, Refusal>>()?))
    }
}

/// Data keys by owner; `None` is one that was destroyed.
#[derive(Debug, Clone, Default)]
pub struct Ring(HashMap<Vec<u8>, Option<Key>>);

impl Ring {
    /// A ring with one key.
    pub fn of(owner: &[u8], key: Key) -> Self {
        Self(HashMap::from([(owner.to_vec(), Some(key))]))
    }

    /// Opens what is sealed under `owner`'s key. Nothing sealed opens to nothing, and so does what was sealed under a key
    /// that is destroyed.
    ///
    /// # Errors
    /// INTERNAL when the key is missing or does not fit.
    pub fn open(&self, owner: &[u8], what: &str, id: &[u8], sealed: &[u8]) -> Result<Private, Refusal> {
        self.open_as(owner, what, id, sealed).map(Option::unwrap_or_default)
    }

    /// Opens any message; `None` where nothing was sealed.
    ///
    /// # Errors
    /// INTERNAL when the key is missing or does not fit.
    pub fn open_as<M: Message + Default>(
        &self,
        owner: &[u8],
        what: &str,
        id: &[u8],
        sealed: &[u8],
    ) -> Result<Option<M>, Refusal> {
        if sealed.is_empty() {
            return Ok(None);
        }
        match self.0.get(owner).ok_or_else(|| broken("a missing data key"))? {
            Some(key) => open_as(key, what, id, sealed).map(Some),
            None => Ok(None),
        }
    }
}

/// Seals `private` into the field `what` of the row `id`. The nonce comes from the command's seed and names the place,
/// so that no two values of a command share one.
///
/// # Errors
/// INTERNAL; it cannot fail for what fits into a message.
pub fn seal<M: Message>(key: &Key, view: &View<'_>, what: &str, id: &[u8], private: &M) -> Result<Vec<u8>, Refusal> {
    let place = aad(what, id);
    let mut label = b"seal ".to_vec();
    label.extend_from_slice(&place);
    let label = label.iter().map(|byte| char::from(*byte)).collect::<String>();
    key.seal_with(nonce(view, &label), &place, &private.encode_to_vec())
        .map_err(|_| broken("a value to seal"))
}

/// Opens what [`seal`] made.
///
/// # Errors
/// INTERNAL when the key or the place does not fit.
pub fn open(key: &Key, what: &str, id: &[u8], sealed: &[u8]) -> Result<Private, Refusal> {
    open_as(key, what, id, sealed)
}

/// The same of any message.
///
/// # Errors
/// INTERNAL when the key or the place does not fit.
pub fn open_as<M: Message + Default>(key: &Key, what: &str, id: &[u8], sealed: &[u8]) -> Result<M, Refusal> {
    let plain = key
        .open(&aad(what, id), sealed)
        .ok_or_else(|| broken("a sealed value"))?;
    M::decode(plain.as_slice()).map_err(|_| broken("a sealed value"))
}

fn aad(what: &str, id: &[u8]) -> Vec<u8> {
    [what.as_bytes(), b"\0", id].concat()
}

fn nonce(view: &View<'_>, label: &str) -> [u8; 12] {
    let bytes = view.seed().bytes(label);
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&bytes[..12]);
    nonce
}
