//! How is personal data kept? Sealed under a data key of the person, which is wrapped by the key-encryption key.

use prost::Message;
use sammati_kernel::{Key, Reason, Refusal, Seed};

use crate::rows::DataKeyRow;

/// The key-encryption key.
#[derive(Debug, Clone)]
pub(crate) struct Vault(Key);

/// One person's key, in memory while a call needs it.
#[derive(Debug, Clone)]
pub(crate) struct DataKey {
    /// Its id, 16 random bytes.
    pub(crate) id: Vec<u8>,
    key: Key,
}

/// What is sealed, so that one sealed thing is not taken for another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sealed {
    Address,
    Number,
    Password,
    Pin,
    Portrait,
    Profile,
    Target,
}

impl Sealed {
    const fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Number => "number",
            Self::Password => "password",
            Self::Pin => "pin",
            Self::Portrait => "portrait",
            Self::Profile => "profile",
            Self::Target => "target",
        }
    }
}

impl Vault {
    pub(crate) const fn new(kek: Key) -> Self {
        Self(kek)
    }

    /// A new data key, and the row that keeps it.
    pub(crate) fn create(&self) -> Result<(DataKey, DataKeyRow), Refusal> {
        let key = Key::generate().map_err(|_| no_randomness())?;
        let id = Seed::draw().map_err(|_| no_randomness())?.bytes("data key")[..16].to_vec();
        let wrapped = self.0.seal(&id, key.bytes()).map_err(|_| no_randomness())?;
        Ok((DataKey { id: id.clone(), key }, DataKeyRow { id, wrapped }))
    }

    /// The data key in a row.
    pub(crate) fn open(&self, row: &DataKeyRow) -> Result<DataKey, Refusal> {
        let bytes = self
            .0
            .open(&row.id, &row.wrapped)
            .and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| broken("a data key does not open; is the file kek the right one?"))?;
        Ok(DataKey {
            id: row.id.clone(),
            key: Key::from_bytes(bytes),
        })
    }
}

impl DataKey {
    /// Seals with a random nonce.
    pub(crate) fn seal(&self, what: Sealed, plain: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.key
            .seal(what.label().as_bytes(), plain)
            .map_err(|_| no_randomness())
    }

    /// Seals a message.
    pub(crate) fn seal_message(&self, what: Sealed, message: &impl Message) -> Result<Vec<u8>, Refusal> {
        self.seal(what, &message.encode_to_vec())
    }

    /// Seals within a command, with a nonce from its seed. The nonce depends on the plaintext too: a command that
    /// decides again may decide something else.
    pub(crate) fn seal_by(&self, seed: &Seed, what: Sealed, plain: &[u8]) -> Result<Vec<u8>, Refusal> {
        let nonce = Key::from_bytes(seed.bytes("nonce")).mac(what.label(), plain);
        let mut short = [0; 12];
        short.copy_from_slice(&nonce[..12]);
        self.key
            .seal_with(short, what.label().as_bytes(), plain)
            .map_err(|_| no_randomness())
    }

    /// Opens what was sealed.
    pub(crate) fn open(&self, what: Sealed, sealed: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.key
            .open(what.label().as_bytes(), sealed)
            .ok_or_else(|| broken("sealed data does not open under its data key"))
    }

    /// Opens text.
    pub(crate) fn open_text(&self, what: Sealed, sealed: &[u8]) -> Result<String, Refusal> {
        String::from_utf8(self.open(what, sealed)?).map_err(|_| broken("sealed text is not text"))
    }

    /// Opens a message; the empty one where nothing was sealed.
    pub(crate) fn open_message<M: Message + Default>(&self, what: Sealed, sealed: &[u8]) -> Result<M, Refusal> {
        if sealed.is_empty() {
            return Ok(M::default());
        }
        M::decode(self.open(what, sealed)?.as_slice()).map_err(|_| broken("a sealed message cannot be read"))
    }
}

fn no_randomness() -> Refusal {
    broken("the system has no randomness to give")
}

/// A fault of ours: told to the log, not to the caller.
pub(crate) fn broken(what: &str) -> Refusal {
    tracing::error!(what, "internal error");
    Reason::Internal.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_as_what_it_is_and_under_its_key_alone() {
        let vault = Vault::new(Key::from_bytes([1; 32]));
        let (key, row) = vault.create().unwrap();
        let (other, _) = vault.create().unwrap();
        let sealed = key.seal(Sealed::Number, b"91").unwrap();
        assert_eq!(vault.open(&row).unwrap().open(Sealed::Number, &sealed).unwrap(), b"91");
        assert!(key.open(Sealed::Address, &sealed).is_err());
        assert!(other.open(Sealed::Number, &sealed).is_err());
        assert!(Vault::new(Key::from_bytes([2; 32])).open(&row).is_err());
    }
}
