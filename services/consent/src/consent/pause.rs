//! Suspending a consent for a while, and taking it up again.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, ConsentId, Micros, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{State, Verb, advance, draft, stop, tell_both};
use crate::policy;
use crate::representative;
use crate::rows::{self, ConsentRow, TransferRow};

/// PauseConsent.
pub struct PauseConsent {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub consent: ConsentId,
    /// When it is in force again by itself.
    pub resume: Option<Micros>,
    /// The etag that was read.
    pub etag: String,
}

impl Command for PauseConsent {
    type Answer = ();

    const NAME: &'static str = "consent.pause";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = policy::hers(&self.caller, view.get::<ConsentRow>(self.consent.as_bytes()))?;
        representative::within(&self.caller, row.scope.purpose(), [row.hip.as_str(), &row.hiu])?;
        rows::check_etag(&self.etag, row.version)?;
        advance(view, &mut row, Verb::Pause)?;
        if self.resume.is_some_and(|at| at <= view.now() || at.0 >= row.expire) {
            return Err(Refusal::field(
                "resume_time",
                "in the future and before the consent's effective_expire_time, or unset to wait for ResumeConsent",
            ));
        }
        pause(view, &mut row, &self.caller, self.resume, "")
    }
}

/// Pauses a consent that is GRANTED, because of the event `cause` if there is one. Needs the group of its open transfers.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub(crate) fn pause(
    view: &mut View<'_>,
    row: &mut ConsentRow,
    caller: &Caller,
    resume: Option<Micros>,
    cause: &str,
) -> Result<(), Refusal> {
    row.state = State::Paused.number();
    row.resume = resume.map_or(0, |at| at.0);
    row.touch(view.now());
    view.put(row);
    let told = draft("consent.paused", Action::Update, caller, row)?
        .because_of(cause)
        .emit(view);
    tell_both(view, row, Kind::ConsentPaused, told)?;
    stop(view, row, caller, told)
}

/// Takes up a consent that is PAUSED, as of `at`.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub(crate) fn resume(view: &mut View<'_>, row: &mut ConsentRow, caller: &Caller, at: Micros) -> Result<(), Refusal> {
    row.state = State::Granted.number();
    row.resume = 0;
    row.touch(view.now());
    view.put(row);
    let told = draft("consent.resumed", Action::Update, caller, row)?
        .occurred(at)
        .emit(view);
    tell_both(view, row, Kind::ConsentResumed, told)
}

/// ResumeConsent.
pub struct ResumeConsent {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub consent: ConsentId,
    /// The etag that was read.
    pub etag: String,
}

impl Command for ResumeConsent {
    type Answer = ();

    const NAME: &'static str = "consent.resume";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = policy::hers(&self.caller, view.get::<ConsentRow>(self.consent.as_bytes()))?;
        representative::within(&self.caller, row.scope.purpose(), [row.hip.as_str(), &row.hiu])?;
        representative::lasts(&self.caller, row.expire)?;
        rows::check_etag(&self.etag, row.version)?;
        advance(view, &mut row, Verb::Resume)?;
        let now = view.now();
        resume(view, &mut row, &self.caller, now)
    }
}
