//! Asking whether an address is free is counted: addresses are not to be listed by trying.

use std::time::Duration;

use sammati_api::identity::v1::transaction::Purpose;
use sammati_kernel::{Caller, Micros, Reason, Refusal, SessionId, Slot, TransactionId};
use sammati_store::{Command, Keys, View};

use crate::policy;
use crate::rows::{SessionRow, TransactionRow};

/// Candidates for one transaction or session; also addresses that an account asks for in a day and somebody has.
pub(super) const PROBES: i32 = 20;

/// On whose account a candidate is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asking {
    Transaction(TransactionId),
    Session(SessionId),
}

/// Counts one candidate.
#[derive(Debug)]
pub(crate) struct CountProbe {
    pub(crate) caller: Caller,
    pub(crate) asking: Asking,
}

impl CountProbe {
    pub(crate) const fn transaction(caller: Caller, id: TransactionId) -> Self {
        Self {
            caller,
            asking: Asking::Transaction(id),
        }
    }

    pub(crate) const fn session(caller: Caller, id: SessionId) -> Self {
        Self {
            caller,
            asking: Asking::Session(id),
        }
    }

    fn in_transaction(&self, id: TransactionId, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = view
            .get::<TransactionRow>(id.as_bytes())
            .ok_or_else(|| policy::unavailable(&self.caller))?;
        policy::created_by(&row, &self.caller)?;
        row.require_verified(Purpose::Enrol, view.now())?;
        row.probes = count(row.probes, row.end(), view.now())?;
        view.put(&row);
        Ok(())
    }

    fn in_session(&self, id: SessionId, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = view
            .get::<SessionRow>(id.as_bytes())
            .ok_or_else(|| policy::unavailable(&self.caller))?;
        policy::may_end(&self.caller, &row)?;
        row.probes = count(row.probes, Micros(row.expire_time), view.now())?;
        view.put(&row);
        Ok(())
    }
}

fn count(probes: i32, end: Micros, now: Micros) -> Result<i32, Refusal> {
    if probes < PROBES {
        return Ok(probes + 1);
    }
    Err(probe_limit().retry_after(end.since(now).max(Duration::from_secs(1))))
}

pub(super) fn probe_limit() -> Refusal {
    Refusal::new(Reason::ProbeLimit).saying("20 names have been asked about; choose one of the suggestions")
}

impl TransactionRow {
    /// Counts an address that she chose and somebody has. As many are told beside the candidates asked about.
    pub(crate) fn count_taken(&mut self, now: Micros) -> Result<(), Refusal> {
        if self.probes >= 2 * PROBES {
            return Err(probe_limit().retry_after(self.end().since(now).max(Duration::from_secs(1))));
        }
        self.probes += 1;
        Ok(())
    }
}

impl Command for CountProbe {
    type Answer = ();
    const NAME: &'static str = "identity.count_probe";

    fn slot(&self) -> Slot {
        match self.asking {
            Asking::Transaction(id) => id.slot(),
            Asking::Session(id) => id.slot(),
        }
    }

    fn reads(&self, keys: &mut Keys) {
        match self.asking {
            Asking::Transaction(id) => keys.row::<TransactionRow>(id.to_vec()),
            Asking::Session(id) => keys.row::<SessionRow>(id.to_vec()),
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        match self.asking {
            Asking::Transaction(id) => self.in_transaction(id, view),
            Asking::Session(id) => self.in_session(id, view),
        }
    }
}
