//! A refresh token is good once: each refresh makes the next generation, and one that comes back was stolen.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{Caller, Micros, Reason, Refusal, SessionId, Slot};
use sammati_store::{Command, Keys, View};

use super::open::may_log_in;
use super::{end, told};
use crate::policy;
use crate::rows::{AccountRow, SessionRow};

/// Spends the refresh token of `generation`.
#[derive(Debug)]
pub(crate) struct Refresh {
    pub(crate) caller: Caller,
    pub(crate) session: SessionId,
    pub(crate) generation: i64,
    /// The account that it is about, as read before; it never changes.
    pub(crate) account: Vec<u8>,
}

/// The generation that came of it, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotated {
    pub(crate) generation: i64,
    pub(crate) made: Micros,
}

impl Rotated {
    fn to_bytes(self) -> Vec<u8> {
        [self.generation.to_be_bytes(), self.made.0.to_be_bytes()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (generation, made) = bytes.split_at_checked(8)?;
        let generation = i64::from_be_bytes(generation.try_into().ok()?);
        Some(Self {
            generation,
            made: Micros(i64::from_be_bytes(made.try_into().ok()?)),
        })
    }
}

impl Command for Refresh {
    type Answer = Rotated;
    const NAME: &'static str = "identity.refresh_session";

    fn slot(&self) -> Slot {
        self.session.slot()
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<SessionRow>(self.session.to_vec());
        keys.row::<AccountRow>(self.account.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Rotated, Refusal> {
        let now = view.now();
        let mut row = view
            .get::<SessionRow>(self.session.as_bytes())
            .ok_or(Reason::RefreshExpired)?;
        policy::app_of(&row, &self.caller)?;
        if !row.is_live(now) || self.generation > row.generation {
            return Err(expired());
        }
        if self.generation < row.generation {
            end(&mut row, "identity.session_reuse_detected", &self.caller, view);
            return Err(reused().recorded());
        }
        let account = view.get::<AccountRow>(&self.account).ok_or(Reason::RefreshExpired)?;
        may_log_in(account.state())?;
        row.generation += 1;
        row.version += 1;
        row.update_time = now.0;
        view.put(&row);
        told("identity.session_refreshed", Action::Update, &row, &self.caller).emit(view);
        Ok(Rotated {
            generation: row.generation,
            made: now,
        })
    }

    fn outcome(&self, rotated: &Rotated) -> Vec<u8> {
        rotated.to_bytes()
    }
}

/// A spent token came back with its own request id, but too late to be a retry.
#[derive(Debug)]
pub(crate) struct EndReused {
    pub(crate) caller: Caller,
    pub(crate) session: SessionId,
}

impl Command for EndReused {
    type Answer = ();
    const NAME: &'static str = "identity.end_reused_session";

    fn slot(&self) -> Slot {
        self.session.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<SessionRow>(self.session.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = view
            .get::<SessionRow>(self.session.as_bytes())
            .ok_or(Reason::RefreshExpired)?;
        policy::app_of(&row, &self.caller)?;
        if row.is_live(view.now()) {
            end(&mut row, "identity.session_reuse_detected", &self.caller, view);
        }
        Err(reused().recorded())
    }
}

/// The whole family is gone.
fn reused() -> Refusal {
    Refusal::new(Reason::RefreshReused)
        .saying("this refresh token was used before, so the session has ended in case it was stolen; log in again")
}

pub(crate) fn expired() -> Refusal {
    Refusal::new(Reason::RefreshExpired).saying("the session has ended; log in again")
}
