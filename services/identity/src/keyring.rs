//! With which keys are tokens signed and verified?

use chrono::{NaiveDate, NaiveTime};
use prost_types::Timestamp;
use sammati_api::identity::v1::{SigningKey as ApiKey, signing_key};
use sammati_kernel::Micros;
use sammati_kernel::jws::{PublicKey, SigningKey};
use sammati_server::event::timestamp;
use sammati_server::{ConfigError, Secrets};

/// The key that signs, those that will, and those that signed before.
#[derive(Debug)]
pub struct KeyRing {
    active: SigningKey,
    next: Vec<Verifying>,
    retired: Vec<Verifying>,
}

/// A key that only verifies, and the day in its file's name.
#[derive(Debug)]
struct Verifying {
    key: PublicKey,
    day: Option<NaiveDate>,
}

/// The file of the key that signs.
pub(crate) const ACTIVE: &str = "token_key.pem";

/// How the names of files of keys that will sign begin, as `token_key.next-2026-12-01.pem`: not before that day.
const NEXT: &str = "token_key.next";

/// How the names of files of keys that sign no more begin, as `token_key.retired-2026-12-01.pem`: not after that day.
const RETIRED: &str = "token_key.retired";

impl KeyRing {
    /// One that signs, and those that signed before, the newest first.
    pub fn new(active: SigningKey, retired: Vec<PublicKey>) -> Self {
        Self {
            active,
            next: Vec::new(),
            retired: retired.into_iter().map(|key| Verifying { key, day: None }).collect(),
        }
    }

    /// Reads `token_key.pem`, and every file beside it whose name begins with `token_key.next` or `token_key.retired`.
    ///
    /// # Errors
    /// Which file, and what it must hold.
    pub fn load(secrets: &Secrets) -> Result<Self, ConfigError> {
        Ok(Self {
            active: secrets.signing_key(ACTIVE)?,
            next: verifying(secrets, NEXT)?,
            retired: verifying(secrets, RETIRED)?,
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
        let mut others = self.next.iter().chain(&self.retired);
        others.find(|other| other.key.kid == kid).map(|other| other.key.clone())
    }

    /// All of them as the contract has them, newest first, each once.
    pub(crate) fn list(&self) -> Vec<ApiKey> {
        let next = self.next.iter().map(|next| ApiKey {
            not_before_time: next.day.map(midnight),
            ..shown(&next.key, signing_key::State::Next)
        });
        let active = shown(&self.active.public(), signing_key::State::Active);
        let retired = self.retired.iter().map(|retired| ApiKey {
            expire_time: retired.day.and_then(|day| day.succ_opt()).map(midnight),
            ..shown(&retired.key, signing_key::State::Retired)
        });
        let next = next.filter(|next| next.kid != active.kid).collect::<Vec<_>>();
        next.into_iter().chain([active]).chain(retired).collect()
    }
}

/// The keys in files whose names begin with `prefix`, the last by name first.
fn verifying(secrets: &Secrets, prefix: &str) -> Result<Vec<Verifying>, ConfigError> {
    let entries = secrets.directory.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    let read = |name: &String| {
        Ok(Verifying {
            key: secrets.signing_key(name)?.public(),
            day: day_in(name, prefix),
        })
    };
    names.iter().map(read).collect()
}

/// The day in `{prefix}-{day}.pem`, if there is one.
fn day_in(name: &str, prefix: &str) -> Option<NaiveDate> {
    let day = name.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(".pem")?;
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()
}

fn midnight(day: NaiveDate) -> Timestamp {
    timestamp(Micros::from_seconds(day.and_time(NaiveTime::MIN).and_utc().timestamp()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;

    #[test]
    fn a_key_is_accepted_before_it_signs_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets {
            directory: Some(folder.path().to_owned()),
        };
        let make = |name: &str| {
            let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            std::fs::write(folder.path().join(name), der.as_ref()).unwrap();
            SigningKey::from_pkcs8(der.as_ref()).unwrap().kid().to_owned()
        };
        let (old, new) = (make("token_key.pem"), make("token_key.next-2026-12-01.pem"));
        let seen = |ring: &KeyRing| {
            let day = |time: Option<Timestamp>| time.map(|t| t.seconds);
            ring.list()
                .into_iter()
                .map(|k| (k.kid.clone(), k.state(), day(k.not_before_time), day(k.expire_time)))
                .collect::<Vec<_>>()
        };
        use signing_key::State::{Active, Next, Retired};
        let announced = KeyRing::load(&secrets).unwrap();
        let december = 1_796_083_200;
        assert_eq!(
            seen(&announced),
            [
                (new.clone(), Next, Some(december), None),
                (old.clone(), Active, None, None)
            ]
        );
        // What the other replica signs after it switched is good here.
        assert!(announced.find(&new).is_some() && announced.active().kid() == old);
        let path = |name: &str| folder.path().join(name);
        std::fs::rename(path("token_key.pem"), path("token_key.retired-2026-12-01.pem")).unwrap();
        std::fs::copy(path("token_key.next-2026-12-01.pem"), path("token_key.pem")).unwrap();
        let switched = KeyRing::load(&secrets).unwrap();
        assert_eq!(
            seen(&switched),
            [
                (new.clone(), Active, None, None),
                (old.clone(), Retired, None, Some(december + 86_400))
            ]
        );
        assert!(switched.find(&old).is_some() && switched.active().kid() == new);
    }
}
