//! Is it her password? argon2id in a bounded pool: a login costs 19 MiB and a core for some milliseconds.

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as B64;
use sammati_kernel::{Key, Reason, Refusal, Secret, Seed};
use tokio::sync::Semaphore;

use crate::vault::broken;

/// Memory in KiB, passes and lanes of new hashes.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

/// The most characters of a password.
pub(crate) const MAX_CHARACTERS: usize = 128;

/// Hashes and verifies, as many at a time as there are cores, with as many again waiting for each.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    cores: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// What a comparison found.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) matches: bool,
    /// A hash of today's cost, where the one it was compared with is older and it matches.
    pub(crate) upgrade: Option<String>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            waiting: Arc::new(Semaphore::new(cores * 8)),
        }
    }

    /// The PHC string of a new password.
    pub(crate) async fn hash(&self, password: Secret<String>) -> Result<String, Refusal> {
        self.work(move || hash(&password)).await
    }

    /// Compares with a PHC string; without one it takes as long, and does not match.
    pub(crate) async fn compare(&self, password: Secret<String>, phc: Option<String>) -> Result<Compared, Refusal> {
        self.work(move || compare(&password, phc.as_deref())).await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let overloaded = || Refusal::new(Reason::Overloaded).retry_after(Duration::from_secs(1));
        let waiting = Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|_| overloaded())?;
        let core = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(|_| overloaded())?;
        let done = tokio::task::spawn_blocking(move || {
            let _held = (waiting, core);
            work()
        });
        done.await.map_err(|_| broken("a password task died"))?
    }
}

fn hash(password: &Secret<String>) -> Result<String, Refusal> {
    let seed = Seed::draw().map_err(|_| broken("the system has no randomness to give"))?;
    let salt = &seed.bytes("salt")[..16];
    let out = derive(password, salt, COST)?;
    let (m, t, p) = COST;
    Ok(format!(
        "$argon2id$v=19$m={m},t={t},p={p}${}${}",
        B64.encode(salt),
        B64.encode(out)
    ))
}

fn compare(password: &Secret<String>, phc: Option<&str>) -> Result<Compared, Refusal> {
    let Some(phc) = phc else {
        derive(password, &[0; 16], COST)?;
        return Ok(Compared {
            matches: false,
            upgrade: None,
        });
    };
    let (cost, salt, expected) = parse(phc).ok_or_else(|| broken("a stored password hash cannot be read"))?;
    let out = derive(password, &salt, cost)?;
    // Compared as hashes under a key that nobody knows, so that the time tells nothing.
    let blind = Key::generate().map_err(|_| broken("the system has no randomness to give"))?;
    let matches = blind.mac("password", &out) == blind.mac("password", &expected);
    let upgrade = (matches && cost != COST).then(|| hash(password)).transpose()?;
    Ok(Compared { matches, upgrade })
}

fn derive(password: &Secret<String>, salt: &[u8], (m, t, p): (u32, u32, u32)) -> Result<[u8; 32], Refusal> {
    let params = Params::new(m, t, p, Some(32)).map_err(|_| broken("impossible argon2 parameters"))?;
    let mut out = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.expose().as_bytes(), salt, &mut out)
        .map_err(|_| broken("argon2 failed"))?;
    Ok(out)
}

/// `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
#[expect(clippy::type_complexity, reason = "the three parts of a PHC string")]
pub(crate) fn parse(phc: &str) -> Option<((u32, u32, u32), Vec<u8>, Vec<u8>)> {
    let mut parts = phc.strip_prefix("$argon2id$v=19$")?.split('$');
    let mut cost = parts
        .next()?
        .split(',')
        .zip(["m=", "t=", "p="])
        .map(|(text, name)| text.strip_prefix(name)?.parse().ok());
    let cost = (cost.next()??, cost.next()??, cost.next()??);
    let salt = B64.decode(parts.next()?).ok()?;
    let hash = B64.decode(parts.next()?).ok()?;
    parts.next().is_none().then_some((cost, salt, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_hash_alone_and_an_old_hash_is_renewed() {
        let right: Secret<String> = "Gulmohar#27".to_owned().into();
        let wrong: Secret<String> = "Gulmohar#28".to_owned().into();
        let phc = hash(&right).unwrap();
        let found = compare(&right, Some(&phc)).unwrap();
        assert!(found.matches && found.upgrade.is_none());
        assert!(!compare(&wrong, Some(&phc)).unwrap().matches);
        assert!(!compare(&right, None).unwrap().matches);
        let cheap = (8, 1, 1);
        let old = format!(
            "$argon2id$v=19$m=8,t=1,p=1${}${}",
            B64.encode([7; 16]),
            B64.encode(derive(&right, &[7; 16], cheap).unwrap())
        );
        let renewed = compare(&right, Some(&old)).unwrap().upgrade.unwrap();
        assert!(renewed.contains("m=19456,t=2,p=1") && compare(&right, Some(&renewed)).unwrap().matches);
        assert!(compare(&wrong, Some(&old)).unwrap().upgrade.is_none());
    }
}
