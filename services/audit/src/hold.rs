//! Legal holds: set and lifted, each recorded in the log in the same commit.

use sammati_api::audit::v1::event;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Id, IdKind, Reason, Refusal, Seed, Slot};
use sammati_server::event::{Draft, timestamp};
use sammati_store::{Command, Keys, Outcome, RequestKey, View};

use crate::append::Append;
use crate::erase::grounds;
use crate::log::{Log, Own};
use crate::rows::{HoldRow, SLOT};

/// Marks the ids of holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hold;

impl IdKind for Hold {
    const COLLECTION: &'static str = "legalHolds";
}

/// The id of a hold.
pub(crate) type HoldId = Id<Hold>;

impl Log {
    /// A hold.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn hold(&self, id: HoldId) -> Result<Option<HoldRow>, Refusal> {
        let row = self.store.read(move |r| r.get::<HoldRow>(SLOT, id.as_bytes())).await?;
        Ok(row.map(|row| row.record))
    }

    /// The holds in force, newest first, below an id.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn holds(&self, below: Option<Vec<u8>>, most: usize) -> Result<Vec<HoldRow>, Refusal> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self
            .store
            .read(move |r| r.page::<HoldRow>("active", &HoldRow::ACTIVE, below.as_deref(), most))
            .await?;
        Ok(rows.into_iter().map(|row| row.record).collect())
    }

    /// Sets or lifts a hold; a repeat is answered with it as it is.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`, and those of a request id.
    pub(crate) async fn run_hold<C: Command<Answer = HoldRow>>(
        &self,
        command: C,
        key: RequestKey,
    ) -> Result<HoldRow, Refusal> {
        match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(row) => {
                self.has_grown(0);
                Ok(row)
            }
            Outcome::Known(id) => {
                let id = HoldId::from_slice(&id).ok_or(Reason::Internal)?;
                Ok(self.hold(id).await?.ok_or(Reason::Internal)?)
            }
        }
    }

    /// The record of what is done to a hold.
    async fn told(&self, what: &str, caller: &Caller, row: &HoldRow, basis: &str) -> Result<Append, Refusal> {
        let now = self.store.clock().now();
        let seed = Seed::draw().map_err(|_| Reason::Internal)?;
        let name = HoldId::from_slice(&row.id).map(|id| id.name()).unwrap_or_default();
        let mut draft = Draft::new(what, event::Action::Update, RetentionClass::Admin, caller).resource(&name, 0);
        basis.clone_into(&mut draft.payload().legal_basis);
        draft.finish();
        let mut event = draft.event;
        event.event_id = seed.id::<Own>("hold", now, SLOT).to_string();
        event.occurred_time = Some(timestamp(now));
        self.own_entry(event, row.subject.clone()).await
    }
}

/// Sets a hold.
pub(crate) struct Set {
    row: HoldRow,
    append: Append,
}

impl Set {
    /// A new hold by `caller`, with its record.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn new(
        log: &Log,
        caller: &Caller,
        subject: Vec<u8>,
        classes: Vec<i32>,
        basis: &str,
    ) -> Result<Self, Refusal> {
        let now = log.store.clock().now();
        let seed = Seed::draw().map_err(|_| Reason::Internal)?;
        let row = HoldRow {
            id: seed.id::<Hold>("legal hold", now, SLOT).to_vec(),
            subject,
            classes,
            basis: grounds(caller, basis).1,
            set: now.0,
            lifted: 0,
        };
        let append = log.told("audit.legal_hold_set", caller, &row, basis).await?;
        Ok(Self { row, append })
    }
}

impl Command for Set {
    type Answer = HoldRow;
    const NAME: &'static str = "audit.set_legal_hold";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.append.reads(keys);
        keys.row::<HoldRow>(self.row.id.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<HoldRow, Refusal> {
        self.append.decide(view)?;
        view.put(&self.row);
        Ok(self.row.clone())
    }

    fn outcome(&self, row: &HoldRow) -> Vec<u8> {
        row.id.clone()
    }
}

/// Lifts a hold; one that is lifted stays so, and nothing is recorded.
pub(crate) struct Lift {
    id: Vec<u8>,
    append: Append,
}

impl Lift {
    /// Of this hold, by `caller`, with its record.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn new(log: &Log, caller: &Caller, row: &HoldRow, basis: &str) -> Result<Self, Refusal> {
        let append = log.told("audit.legal_hold_lifted", caller, row, basis).await?;
        Ok(Self {
            id: row.id.clone(),
            append,
        })
    }
}

impl Command for Lift {
    type Answer = HoldRow;
    const NAME: &'static str = "audit.lift_legal_hold";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.append.reads(keys);
        keys.row::<HoldRow>(self.id.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<HoldRow, Refusal> {
        let mut row = view.get::<HoldRow>(&self.id).ok_or(Reason::NotFound)?;
        if row.lifted == 0 {
            self.append.decide(view)?;
            row.lifted = view.now().0;
            view.put(&row);
        }
        Ok(row)
    }

    fn outcome(&self, row: &HoldRow) -> Vec<u8> {
        row.id.clone()
    }
}
