//! The keys that artefacts are signed with.

use sammati_kernel::Micros;
use sammati_kernel::jws::{PublicKey, SigningKey};

/// A signing key and when it signs.
#[derive(Debug)]
pub struct ArtefactKey {
    /// The pair. A key that signs no more is kept: signatures are made of committed bytes each time they are read.
    pub key: SigningKey,
    /// It signs nothing new before; `None`: not known.
    pub not_before: Option<Micros>,
    /// It signs nothing new from then on; `None` for the one that signs now.
    pub expire: Option<Micros>,
}

/// The keys that artefacts are and were signed with.
#[derive(Debug)]
pub struct ArtefactKeys {
    active: ArtefactKey,
    retired: Vec<ArtefactKey>,
}

impl ArtefactKeys {
    /// `active` signs; `retired` verify for ever, newest first.
    pub const fn new(active: ArtefactKey, retired: Vec<ArtefactKey>) -> Self {
        Self { active, retired }
    }

    /// One key, since ever.
    pub const fn of(key: SigningKey) -> Self {
        Self::new(
            ArtefactKey {
                key,
                not_before: None,
                expire: None,
            },
            Vec::new(),
        )
    }

    /// All of them, newest first, with whether each signs now.
    pub fn known(&self) -> impl Iterator<Item = (&ArtefactKey, bool)> {
        std::iter::once((&self.active, true)).chain(self.retired.iter().map(|key| (key, false)))
    }

    /// The key that signs now.
    pub const fn active(&self) -> &SigningKey {
        &self.active.key
    }

    /// The public key with this id, if artefacts or link tokens were ever signed with it.
    pub fn find(&self, kid: &str) -> Option<PublicKey> {
        self.signing(kid).map(SigningKey::public)
    }

    /// The JWS of a signing input that was made for the key `kid`.
    pub fn sign(&self, kid: &str, input: &str) -> Option<String> {
        self.signing(kid).map(|key| key.sign_input(input))
    }

    fn signing(&self, kid: &str) -> Option<&SigningKey> {
        self.known().map(|(known, _)| &known.key).find(|key| key.kid() == kid)
    }
}
