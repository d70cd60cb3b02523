//! With which keys are tokens signed and verified?

use std::path::Path;

use sammati_api::identity::v1::{SigningKey as ApiKey, signing_key};
use sammati_kernel::jws::{PublicKey, SigningKey};
use sammati_server::{ConfigError, Secrets};

/// The key that signs, and those that signed before.
#[derive(Debug)]
pub struct KeyRing {
    active: SigningKey,
    retired: Vec<PublicKey>,
}

/// The file of the key that signs.
const ACTIVE: &str = "token_key.pem";

/// How the names of files of keys that sign no more begin, as `token_key.retired-2026.pem`.
const RETIRED: &str = "token_key.retired";

impl KeyRing {
    /// One that signs, and those that signed before, the newest first.
    pub const fn new(active: SigningKey, retired: Vec<PublicKey>) -> Self {
        Self { active, retired }
    }

    /// Reads `token_key.pem`, and every file beside it whose name begins with `token_key.retired`.
    ///
    /// # Errors
    /// Which file, and what it must hold.
    pub fn load(secrets: &Secrets) -> Result<Self, ConfigError> {
        let active = secrets.signing_key(ACTIVE)?;
        let mut names = secrets.directory.as_deref().map_or_else(Vec::new, retired_files);
        names.sort_unstable_by(|a, b| b.cmp(a));
        let retired = names
            .iter()
            .map(|name| secrets.signing_key(name).map(|key| key.public()));
        Ok(Self {
            active,
            retired: retired.collect::<Result<_, _>>()?,
        })
    }

    /// The key that signs.
    pub(crate) const fn active(&self) -> &SigningKey {
        &self.active
    }

    /// The key named `kid`.
    pub(crate) fn find(&self, kid: &str) -> Option<PublicKey> {
        if self.active.kid() == kid {
            return Some(self.active.public());
        }
        self.retired.iter().find(|key| key.kid == kid).cloned()
    }

    /// All of them as the contract has them, newest first.
    pub(crate) fn list(&self) -> Vec<ApiKey> {
        let first = shown(&self.active.public(), signing_key::State::Active);
        let rest = self.retired.iter().map(|key| shown(key, signing_key::State::Retired));
        std::iter::once(first).chain(rest).collect()
    }
}

fn retired_files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(RETIRED))
        .collect()
}

fn shown(key: &PublicKey, state: signing_key::State) -> ApiKey {
    // As the kernel writes a JWK, with the algorithm besides.
    let jwk = key.to_jwk().replacen('{', r#"{"alg":"EdDSA","#, 1);
    ApiKey {
        kid: key.kid.clone(),
        jwk,
        state: state.into(),
        not_before_time: None,
        expire_time: None,
    }
}
