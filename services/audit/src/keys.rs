//! Which keys sign: the one that signs now, the one before it while readers change over, and all that ever signed.

use sammati_kernel::{Reason, Refusal, Slot};
use sammati_log::checkpoint::{Sign, Signer};
use sammati_store::{Command, Keys, Reader, View};

use crate::log::OpenError;
use crate::rows::{LogKeyRow, LogRow, SLOT};

/// The most keys that a log has had; more are no sign of care.
const MOST: usize = 256;

/// The keys of a log that can sign, the present one first.
pub(crate) struct LogKeys(Vec<Box<dyn Sign>>);

impl LogKeys {
    /// The present key, and the one before it if it signs too.
    ///
    /// # Errors
    /// When one is unusable.
    pub(crate) fn of(origin: &str, der: &[u8], previous: Option<&[u8]>) -> Result<Self, OpenError> {
        let mut all: Vec<Box<dyn Sign>> = vec![Box::new(Signer::from_pkcs8(origin, der)?)];
        if let Some(previous) = previous {
            all.push(Box::new(Signer::from_pkcs8(origin, previous)?));
        }
        Ok(Self(all))
    }

    /// Those who sign.
    pub(crate) fn signers(&self) -> Vec<&dyn Sign> {
        self.0.iter().map(AsRef::as_ref).collect()
    }

    /// The present verifier key.
    pub(crate) fn vkey(&self) -> String {
        self.0.first().map(|key| key.verifier().vkey()).unwrap_or_default()
    }

    /// Whether the key that `history` ends with is replaced by the present one; as a sentence why that cannot be.
    pub(crate) fn replace(&self, history: &[LogKeyRow]) -> Result<bool, OpenError> {
        let (now, last) = (
            self.vkey(),
            history.last().map(|row| row.vkey.as_str()).unwrap_or_default(),
        );
        let known = |vkey: &str| history.iter().any(|row| row.vkey == vkey);
        let before = self.0.get(1).map(|key| key.verifier().vkey());
        if let Some(before) = &before
            && !known(before)
        {
            return Err(OpenError::Other(format!(
                "log_key.previous.pem is {before}, which never signed this log"
            )));
        }
        if now == last {
            return Ok(false);
        }
        if known(&now) {
            return Err(OpenError::Other(format!(
                "log_key.pem is {now}, which {last} has replaced"
            )));
        }
        if before.as_deref() == Some(last) {
            return Ok(true);
        }
        Err(OpenError::Other(format!(
            "this log is signed by {last}, and log_key.pem is another key; to replace it, put the old one beside it as \
             log_key.previous.pem"
        )))
    }
}

/// All keys that ever signed, the first first.
pub(crate) fn history(r: &mut Reader<'_>) -> Result<Vec<LogKeyRow>, sammati_store::Error> {
    let first = r
        .get::<LogRow>(SLOT, LogRow::KEY)?
        .map(|row| row.record)
        .unwrap_or_default();
    let mut all = vec![LogKeyRow {
        number: 0,
        vkey: first.vkey,
        after: 0,
    }];
    let keys: Vec<_> = (1..=MOST).map(|n| (SLOT, LogKeyRow::key_of(n as u64))).collect();
    let mut later: Vec<_> = r.many::<LogKeyRow>(&keys)?.into_iter().map(|row| row.record).collect();
    later.sort_unstable_by_key(|row| row.number);
    all.append(&mut later);
    Ok(all)
}

/// Records that another key signs from now on; before its first signature.
#[derive(Clone)]
pub(crate) struct Replace {
    pub(crate) number: u64,
    pub(crate) vkey: String,
}

impl Command for Replace {
    /// Whether it is new.
    type Answer = bool;
    const NAME: &'static str = "audit.replace_key";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
        keys.row::<LogKeyRow>(LogKeyRow::key_of(self.number));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        // Another replica may have been quicker, with the same key: then it is there.
        match view.get::<LogKeyRow>(&LogKeyRow::key_of(self.number)) {
            Some(known) if known.vkey == self.vkey => return Ok(false),
            Some(_) => return Err(Reason::EventConflict.into()),
            None => {}
        }
        let after = view.get::<LogRow>(LogRow::KEY).and_then(|log| log.signed).unwrap_or(0);
        view.put(&LogKeyRow {
            number: self.number,
            vkey: self.vkey.clone(),
            after,
        });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stores;

    #[tokio::test(flavor = "multi_thread")]
    async fn a2_replicas_with_two_keys_do_not_both_sign() {
        for (_database, store) in stores(|| crate::rows::MIGRATIONS) {
            let replace = |vkey: &str| Replace {
                number: 1,
                vkey: vkey.to_owned(),
            };
            assert_eq!(store.apply(replace("one")).await, Ok(true));
            assert_eq!(store.apply(replace("one")).await, Ok(false), "the same again");
            let refused = store.apply(replace("other")).await.unwrap_err();
            assert_eq!(refused.reason, Reason::EventConflict);
        }
    }
}
