//! Opening a log: under which name it goes on, with which keys, and after which one.

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Key, Micros, Reason, Refusal};
use sammati_log::checkpoint::Signer;
use sammati_server::event::Draft;
use sammati_store::{Location, Store};
use tokio::sync::{Mutex, watch};

use super::{Log, SERVICE};
use crate::append::Known;
use crate::half_year;
use crate::head::Begin;
use crate::keyring::Keyring;
use crate::keys::{self, LogKeys, Replace};
use crate::stats::Stats;
use crate::succession::Ended;
use crate::tags::Tagger;
use crate::witnesses::Witnesses;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its head could not be read or made.
    #[error("the head of the log cannot be opened: {}", .0.reason.as_str())]
    Head(Refusal),
    /// The signing key or the origin is not usable.
    #[error(transparent)]
    Log(#[from] sammati_log::Error),
    /// Another key or origin is configured than the log was begun with.
    #[error("{0}")]
    Other(String),
}

impl Log {
    /// Opens the log of `store`, beginning one when there is none: its origin is `prefix/{half-year}`. `der` is the
    /// signing key, `previous` the one that it replaces, `lookup` the key of its keyed hashes. With `before`, the database
    /// of a log that has ended, it goes on where that one was, under the name that its seal says.
    ///
    /// # Errors
    /// When the log was begun under another prefix, with another key or not after that one: what was signed would not verify.
    pub async fn open(
        store: Store,
        keyring: Keyring,
        prefix: &str,
        der: &[u8],
        previous: Option<&[u8]>,
        lookup: &Key,
        before: Option<Location>,
    ) -> Result<Self, OpenError> {
        let follows = before.is_some();
        let ended = Ended::before(&store, before).await?;
        // All replicas take the same name, whatever their clocks say.
        let named = ended.as_ref().and_then(Ended::named);
        let id = named.unwrap_or_else(|| half_year::of(store.clock().now()));
        let fresh = Signer::from_pkcs8(&format!("{prefix}/{id}"), der)?;
        let begin = Begin {
            id,
            origin: fresh.name().to_owned(),
            vkey: fresh.vkey(),
        };
        let mut keyring = keyring;
        if follows {
            let keys = LogKeys::of(&begin.origin, der, previous)?;
            let fresh = Self::of(store.clone(), keyring, keys, (&begin.id, &begin.origin), lookup);
            fresh.begin_after(begin.clone(), ended).await?;
            keyring = fresh.keyring;
        }
        let row = store.apply(begin).await.map_err(OpenError::Head)?;
        let keys = LogKeys::of(&row.origin, der, previous)?;
        let history = store.snapshot(keys::history).await.map_err(OpenError::Head)?;
        let replaced = keys.replace(&history)?;
        if row.origin.rsplit_once('/').map(|(begun, _)| begun) != Some(prefix) {
            return Err(OpenError::Other(format!(
                "service.origin is {prefix}, but the log was begun as {}",
                row.origin
            )));
        }
        let log = Self::of(store, keyring, keys, (&row.id, &row.origin), lookup);
        if replaced {
            log.replaced(history.len() as u64).await?;
        }
        log.known.read(&log.store).await.map_err(OpenError::Head)?;
        Ok(log)
    }

    /// Whether a log under this prefix can be signed with these keys.
    ///
    /// # Errors
    /// When not.
    pub fn check(prefix: &str, der: &[u8], previous: Option<&[u8]>) -> Result<(), OpenError> {
        LogKeys::of(&format!("{prefix}/{}", half_year::of(Micros(0))), der, previous)?;
        Ok(())
    }

    fn of(store: Store, keyring: Keyring, keys: LogKeys, (id, origin): (&str, &str), lookup: &Key) -> Self {
        let known = store.beside(Known::default);
        Self {
            store,
            keys,
            signing: Mutex::new(()),
            id: id.to_owned(),
            origin: origin.to_owned(),
            keyring,
            tags: Tagger::new(lookup, origin),
            grown: watch::channel(0).0,
            known,
            newly_signed: watch::channel(()).0,
            stats: Stats::default(),
            witnesses: Witnesses::default(),
        }
    }

    /// Another key signs from now on: durable, and in the log itself, before its first signature.
    async fn replaced(&self, number: u64) -> Result<(), OpenError> {
        let vkey = self.vkey();
        tracing::warn!(
            log = self.origin,
            vkey,
            "another key signs the log; give it to readers and witnesses"
        );
        let class = sammati_api::types::v1::RetentionClass::Admin;
        let caller = sammati_server::event::system(SERVICE);
        let action = audit::event::Action::Update;
        let draft = Draft::new("key.rotated", action, class, &caller).resource(&self.name(), 0);
        let told = self.tell(Replace { number, vkey }, draft).await;
        told.map_err(|refusal| match refusal.reason {
            Reason::EventConflict => OpenError::Other(
                "another replica was started with another log_key.pem; give all of them the same one".to_owned(),
            ),
            _ => OpenError::Head(refusal),
        })
    }
}
