//! Keys of `c2sp.org/signed-note`: Ed25519 by ring, the format by `signed_note`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use signed_note::{VerificationError, Verifiers};

use crate::Error;

/// The signature type of plain Ed25519, the first byte of an encoded key.
const ED25519_TYPE: u8 = 1;
/// Bytes of an Ed25519 public key.
pub(crate) const KEY_LEN: usize = 32;
/// Longest key name; longer than any origin need be.
const MAX_NAME: usize = 256;

/// What signs checkpoints: a key in a file, or one that stays where it is and signs when asked.
pub trait Sign: Send + Sync {
    /// The public half.
    fn verifier(&self) -> &Verifier;

    /// The Ed25519 signature of a note's text.
    ///
    /// # Errors
    /// [`Error::Key`] when it cannot sign now.
    fn sign(&self, text: &[u8]) -> Result<[u8; 64], Error>;
}

impl Sign for Signer {
    fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    fn sign(&self, text: &[u8]) -> Result<[u8; 64], Error> {
        let signature = self.pair.sign(text);
        signature.as_ref().try_into().map_err(|_| Error::Key {
            why: "its signature has a strange length",
        })
    }
}

/// A text that ends in a newline, as a note that all of `signers` signed.
pub(crate) fn signed(text: &str, signers: &[&dyn Sign]) -> Result<String, Error> {
    let mut note = format!("{text}\n");
    for signer in signers {
        note.push_str(&line(text, *signer)?);
    }
    Ok(note)
}

/// The signature line of a note's text, with its newline.
fn line(text: &str, signer: &dyn Sign) -> Result<String, Error> {
    let key = signer.verifier();
    let mut line = key.key_id.to_be_bytes().to_vec();
    line.extend_from_slice(&signer.sign(text.as_bytes())?);
    Ok(format!("\u{2014} {} {}\n", key.name, STANDARD.encode(line)))
}

/// A log's signing key in memory. Shows only its name and id.
pub struct Signer {
    pair: Ed25519KeyPair,
    verifier: Verifier,
}

impl Signer {
    /// From an Ed25519 key in PKCS#8 DER, version 1 or 2. `name` is the log's origin.
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::Malformed`] for a name with spaces, `+` or control characters.
    pub fn from_pkcs8(name: &str, der: &[u8]) -> Result<Self, Error> {
        let (pair, public) = private_key(der)?;
        Ok(Self {
            verifier: Verifier::new(name, public)?,
            pair,
        })
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.verifier.name
    }

    /// The key's id, as it stands in signature lines.
    #[must_use]
    pub const fn key_id(&self) -> u32 {
        self.verifier.key_id
    }

    /// The public key as readers are given it: `<name>+<id>+<base64 key>`.
    #[must_use]
    pub fn vkey(&self) -> String {
        self.verifier.vkey()
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Signs any text that ends in a newline as a note. A checkpoint is signed by [`crate::checkpoint::sign`].
    ///
    /// # Errors
    /// [`Error::Malformed`] for a text that no note can have.
    pub fn sign_note(&self, text: &str) -> Result<String, Error> {
        let plain = |c: char| c == '\n' || !c.is_ascii_control();
        if !text.ends_with('\n') || !text.chars().all(plain) {
            let why = "a note's text ends in a newline and has no other control characters";
            return Err(Error::malformed("note", why));
        }
        signed(text, &[self])
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}+{:08x})", self.name(), self.key_id())
    }
}

/// An Ed25519 public key that somebody trusts: of a log or a witness, by the byte that says what it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey<const TYPE: u8> {
    name: String,
    key_id: u32,
    public: [u8; KEY_LEN],
}

/// The public key of a log that a reader trusts.
pub type Verifier = PublicKey<ED25519_TYPE>;

impl<const TYPE: u8> PublicKey<TYPE> {
    pub(crate) fn new(name: &str, public: [u8; KEY_LEN]) -> Result<Self, Error> {
        let plain = !name.chars().any(char::is_control) && name.len() <= MAX_NAME;
        if !plain || !signed_note::is_key_name_valid(name) {
            let why = "a key name is 1 to 256 bytes without spaces, '+' or control characters";
            return Err(Error::malformed("key name", why));
        }
        Ok(Self {
            key_id: signed_note::key_id(name, &Self::typed(&public)),
            name: name.to_owned(),
            public,
        })
    }

    /// Parses `<name>+<id as 8 hex digits>+<base64 of type and key>`.
    ///
    /// # Errors
    /// [`Error::Malformed`]: also for a key of another type, or whose id is not that of name and key.
    pub fn parse(vkey: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::malformed("verifier key", why);
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("it is not <name>+<id>+<key>"));
        };
        let key = STANDARD.decode(key).map_err(|_| bad("its key is not base64"))?;
        let (is, key) = key.split_first().ok_or_else(|| bad("its key is empty"))?;
        if *is != TYPE {
            return Err(bad(match TYPE {
                ED25519_TYPE => "its key is not an Ed25519 key of a log",
                _ => "its key is not an Ed25519 key of a witness (type 0x04)",
            }));
        }
        let public = key.try_into().map_err(|_| bad("its key is not 32 bytes long"))?;
        let parsed = Self::new(name, public)?;
        if format!("{:08x}", parsed.key_id) != id {
            return Err(bad("its id is not that of its name and key"));
        }
        Ok(parsed)
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    #[must_use]
    pub const fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The text that [`PublicKey::parse`] reads.
    #[must_use]
    pub fn vkey(&self) -> String {
        format!("{self}+{}", STANDARD.encode(Self::typed(&self.public)))
    }

    /// Whether this key signed these bytes.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        key.verify(message, signature).is_ok()
    }

    /// The key as it is hashed for its id and written: type, then key.
    fn typed(public: &[u8; KEY_LEN]) -> Vec<u8> {
        std::iter::once(TYPE).chain(*public).collect()
    }
}

/// Name and id, enough to say which key is meant.
impl<const TYPE: u8> fmt::Display for PublicKey<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}", self.name, self.key_id)
    }
}

impl signed_note::Verifier for Verifier {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.key_id
    }

    fn verify(&self, msg: &[u8], sig: &[u8]) -> bool {
        self.has_signed(msg, sig)
    }
}

/// An Ed25519 key in PKCS#8 DER, and its public half.
pub(crate) fn private_key(der: &[u8]) -> Result<(Ed25519KeyPair, [u8; KEY_LEN]), Error> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| Error::Key {
        why: "not an Ed25519 key in PKCS#8 DER",
    })?;
    let public = <[u8; KEY_LEN]>::try_from(pair.public_key().as_ref()).map_err(|_| Error::Key {
        why: "its public key has a strange length",
    })?;
    Ok((pair, public))
}

/// The keys a reader trusts, as `signed_note` asks for them.
pub(crate) struct Known<'a>(pub(crate) &'a [Verifier]);

impl Verifiers for Known<'_> {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn signed_note::Verifier, VerificationError> {
        let mut same = self.0.iter().filter(|known| known.name == name && known.key_id == id);
        let unknown = || VerificationError::UnknownKey {
            name: name.to_owned(),
            id,
        };
        let first = same.next().ok_or_else(unknown)?;
        if same.any(|other| other != first) {
            return Err(VerificationError::AmbiguousKey {
                name: name.to_owned(),
                id,
            });
        }
        Ok(first)
    }
}
