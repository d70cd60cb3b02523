//! Sealing again: an event is sealed before the lock, under keys whose end may begin before its commit. Such a one is not
//! taken: the erasure of a person clears what was there when it began, and what came after it would stay; and a month's key
//! goes before what is taken in later may go.

use sammati_api::audit::v1::{Leaf, Payload};
use sammati_kernel::{Micros, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use crate::keyring::{self, Gone};
use crate::log::Log;
use crate::rows::{ErasureRow, LogRow, SLOT};

/// How often the same events are sealed: each time something has ended again.
const MOST: usize = 10;

/// What an append is refused with that was sealed under a key that has ended, or will too early. Sent again it is sealed anew.
pub(crate) fn late() -> Refusal {
    Refusal::new(Reason::StorageUnavailable)
        .saying("the key that an event was sealed under ended before the event was in the log; send it again")
}

/// How often events were sealed.
#[derive(Debug, Default)]
pub(crate) struct Sealings(usize);

impl Sealings {
    /// Whether they were sealed before.
    pub(crate) const fn is_again(&self) -> bool {
        self.0 > 0
    }

    /// Whether they are sealed again after this refusal.
    pub(crate) fn another_after(&mut self, refusal: &Refusal) -> bool {
        self.0 += 1;
        self.0 < MOST && *refusal == late()
    }
}

impl Log {
    /// Destroys the keys of these leaves whose end has begun, so that they are sealed under the next ones; tells the time by
    /// which they are taken in. An erasure destroys its key itself, but may have broken off before it came to it; and a
    /// restore may have brought one back.
    pub(crate) async fn ready_to_seal(&self, leaves: &[(Leaf, &Payload)]) -> Result<Micros, Refusal> {
        let about = leaves.iter().filter(|(leaf, _)| !leaf.subject_tag.is_empty());
        let mut keys: Vec<_> = about.map(|(leaf, _)| (SLOT, keyring::subject_key_of(leaf))).collect();
        keys.sort_unstable();
        keys.dedup();
        let rows = match keys.is_empty() {
            true => Vec::new(),
            false => self.store.read(move |r| r.many::<ErasureRow>(&keys)).await?,
        };
        for row in rows {
            let Some(end) = row.record.end() else { continue };
            let gone = Gone {
                generation: end.generation,
                at: Micros(end.at),
                basis: &end.basis,
            };
            self.keyring.destroy(&row.record.key, gone).await?;
        }
        self.store.apply(TellTime).await
    }
}

/// Tells the log's time, which a clock that was set back is behind.
struct TellTime;

impl Command for TellTime {
    type Answer = Micros;
    const NAME: &'static str = "audit.tell_time";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Micros, Refusal> {
        let newest = view.get::<LogRow>(LogRow::KEY).map_or(0, |log| log.accept_time);
        Ok(view.now().max(Micros(newest)))
    }
}
