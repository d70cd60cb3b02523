//! A log that is started before the one that it follows has ended: it waits, and says so in its own database. The one before
//! looks there, and is not sealed by the clock before somebody waits.

use std::time::Duration;

use sammati_kernel::{Refusal, Slot};
use sammati_store::{Command, Keys, Location, Store, View};

use crate::half_year;
use crate::log::OpenError;
use crate::rows::{LogRow, SLOT};
use crate::standing::Standing;
use crate::succession::SuccessionRow;

/// How often it looks, and says that it waits.
const EVERY: Duration = Duration::from_secs(5);

/// How often once the half-year of the log before is nearly over: nobody takes events between its end and this one's begin.
const SOON: Duration = Duration::from_secs(1);

/// What nearly is, microseconds.
const NEAR: i64 = 60_000_000;

/// A log that may have to wait.
pub struct Waiting {
    store: Store,
    before: Location,
}

/// Why it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// As a sentence without its subject.
    pub why: String,
    /// Whether the half-year of the log before is nearly over.
    pub soon: bool,
}

/// Says that a log waits for the one with this origin.
struct Say {
    origin: String,
}

impl Command for Say {
    type Answer = ();
    const NAME: &'static str = "audit.wait";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
        keys.row::<SuccessionRow>(SuccessionRow::WAITS);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        // Another replica may have begun it.
        if view.get::<LogRow>(LogRow::KEY).is_none() {
            let at = view.now().0;
            view.put(&SuccessionRow::waits(&self.origin, at));
        }
        Ok(())
    }
}

impl Waiting {
    /// The log in `store`, which follows the one in the database `before`.
    pub const fn new(store: Store, before: Location) -> Self {
        Self { store, before }
    }

    /// Looks once: `None` when it can begin, or has. A log that has said that it waits does not begin because the one before
    /// is frozen: that one may be mended, and then both would take the same events.
    ///
    /// # Errors
    /// When one of the databases cannot be read, or there is no log before.
    pub async fn look(&self) -> Result<Option<Wait>, OpenError> {
        let read = self.store.read(|r| {
            let log = r.get::<LogRow>(SLOT, LogRow::KEY)?;
            let waits = r.get::<SuccessionRow>(SLOT, SuccessionRow::WAITS)?;
            Ok::<_, sammati_store::Error>((log.is_some(), waits.is_some()))
        });
        let (has_begun, has_waited) = read.await.map_err(OpenError::Head)?;
        if has_begun {
            return Ok(None);
        }
        let other = |why: String| OpenError::Other(format!("service.follows: {why}"));
        let before = Standing::of(&self.before).await.map_err(other)?;
        let log = before
            .log
            .ok_or_else(|| other("there is no log in that database".to_owned()))?;
        let is_frozen = !log.frozen.is_empty();
        if before.sealed.is_some() || (is_frozen && !has_waited) {
            return Ok(None);
        }
        if is_frozen {
            let why = format!(
                "waits for {}, which is frozen: put its newest state back; if that is gone for good, start this log on an \
                 empty database, and it goes on where that one stands",
                log.origin
            );
            return Ok(Some(Wait { why, soon: false }));
        }
        let origin = log.origin.clone();
        self.store.apply(Say { origin }).await.map_err(OpenError::Head)?;
        let now = self.store.clock().now();
        Ok(Some(Wait {
            why: format!("waits for {} to be sealed", log.origin),
            soon: half_year::end(&log.id).is_some_and(|end| now.0 >= end.0 - NEAR),
        }))
    }

    /// Waits until it can begin; `say` is told why it cannot yet.
    ///
    /// # Errors
    /// Those of the first look: what is wrong from the beginning does not become right.
    pub async fn until_it_can_begin(&self, say: impl Fn(&str)) -> Result<(), OpenError> {
        let mut wait = self.look().await?;
        let mut said = String::new();
        while let Some(Wait { why, soon }) = wait {
            if said != why {
                tracing::info!(why, "this log has not begun yet");
                say(&why);
                said.clone_from(&why);
            }
            tokio::time::sleep(if soon { SOON } else { EVERY }).await;
            wait = match self.look().await {
                Ok(wait) => wait,
                Err(error) => Some(Wait {
                    why: format!("waits, and cannot look at the log before: {error}"),
                    soon,
                }),
            };
        }
        Ok(())
    }
}
