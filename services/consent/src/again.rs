//! After a restore: what she took back is taken back again, and uses that were taken stay taken.

use ring::digest::{SHA256, digest};
use sammati_api::audit::v1::event::Action;
use sammati_api::audit::v1::{Leaf, Payload};
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::CallerKind;
use sammati_kernel::{ConsentId, ConsentRequestId, Micros, NoticeId, Reason, Refusal, Slot};
use sammati_server::Again;
use sammati_server::event::{micros, system};
use sammati_store::{ClaimKey, Command, Keys, View};

use crate::consent::{self, Ending};
use crate::decision::uses::Uses;
use crate::notice::publish::RetireNotice;
use crate::notification::{Recipients, notify};
use crate::request;
use crate::rows::{self, ConsentRow, RequestRow, TransferRow};

/// Does again what the log proves. Of what ended by time alone nothing need be done: it ends again.
///
/// # Errors
/// When storage fails.
pub(crate) async fn again(again: Again) -> Result<Vec<String>, Refusal> {
    let mut lines = Vec::new();
    for (header, payload) in again.events() {
        let (lost, resource) = (header.event_id.clone(), payload.resource.as_str());
        let (done, what) = match header.event_type.as_str() {
            "consent.withdrawn" => (
                withdraw(&again, lost, resource).await?,
                "was withdrawn, and is so again",
            ),
            // A pause that was over before the end was lost with its end.
            "consent.paused" if is_paused(&again, resource) => {
                (pause(&again, lost, resource).await?, "was paused, and is so again")
            }
            "consent.modified" => (
                pause(&again, lost, resource).await?,
                "was narrowed, and to what is lost: it is paused, until she narrows it anew and resumes it",
            ),
            "consent.superseded" => (
                supersede(&again, lost, resource).await?,
                "gave its place to a renewal, and has ended again",
            ),
            "consent.request_cancelled" => (
                cancel(&again, lost, resource).await?,
                "was withdrawn by its asker, and is so again",
            ),
            "consent.denied" => (deny(&again, lost, resource).await?, "was denied, and is so again"),
            "notice.retired" => (retire(&again, lost, resource).await?, "was retired, and is so again"),
            "notice.published" => (true, "got a version that is LOST: publish it again"),
            "consent.step_up_set" => (
                true,
                "was set, and is as it was BEFORE: she sets again what needs her PIN",
            ),
            "rights.opened" => (true, "was opened, and is LOST: she asks again"),
            "rights.answered" | "rights.closed" => {
                (true, "was answered or closed, and is as it was BEFORE: do it again")
            }
            "access.authorized" => {
                use_up(&again, header, payload).await?;
                continue;
            }
            _ => continue,
        };
        if done {
            lines.push(format!("{resource} {what}"));
        }
    }
    Ok(lines)
}

async fn withdraw(again: &Again, lost: String, name: &str) -> Result<bool, Refusal> {
    match ConsentId::parse_name(name) {
        Some(consent) => again.store.apply(WithdrawAgain { consent, lost }).await,
        None => Ok(false),
    }
}

async fn retire(again: &Again, lost: String, name: &str) -> Result<bool, Refusal> {
    let Some(notice) = NoticeId::parse_name(name) else {
        return Ok(false);
    };
    let retire = RetireNotice {
        caller: system("consent"),
        notice,
        etag: String::new(),
        cause: lost,
    };
    match again.store.apply(retire).await {
        Ok(()) => Ok(true),
        // It is retired, or its publishing was lost too: there is nothing to take away.
        Err(refusal) if matches!(refusal.reason, Reason::StateConflict | Reason::NotAvailable) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

async fn deny(again: &Again, lost: String, name: &str) -> Result<bool, Refusal> {
    match ConsentRequestId::parse_name(name) {
        Some(request) => again.store.apply(DenyAgain { request, lost }).await,
        None => Ok(false),
    }
}

/// Whether the last that the log has of a pause is its beginning.
fn is_paused(again: &Again, name: &str) -> bool {
    let of = again.events().filter(|(_, payload)| payload.resource == name);
    let mut last = false;
    for (header, _) in of {
        match header.event_type.as_str() {
            "consent.paused" => last = true,
            "consent.resumed" => last = false,
            _ => {}
        }
    }
    last
}

async fn pause(again: &Again, lost: String, name: &str) -> Result<bool, Refusal> {
    match ConsentId::parse_name(name) {
        Some(consent) => again.store.apply(PauseAgain { consent, lost }).await,
        None => Ok(false),
    }
}

async fn supersede(again: &Again, lost: String, name: &str) -> Result<bool, Refusal> {
    match ConsentId::parse_name(name) {
        Some(consent) => again.store.apply(SupersedeAgain { consent, lost }).await,
        None => Ok(false),
    }
}

async fn cancel(again: &Again, lost: String, name: &str) -> Result<bool, Refusal> {
    match ConsentRequestId::parse_name(name) {
        Some(request) => again.store.apply(CancelAgain { request, lost }).await,
        None => Ok(false),
    }
}

async fn use_up(again: &Again, header: &Leaf, payload: &Payload) -> Result<(), Refusal> {
    let at = header.occurred_time.as_ref().and_then(micros).unwrap_or_default();
    let lost = header.event_id.clone();
    match ConsentId::parse_name(&payload.consent) {
        Some(consent) => again.store.apply(UseAgain { consent, at, lost }).await,
        None => Ok(()),
    }
}

/// Takes a consent back that she took back before. Tells whether there was anything to do.
struct WithdrawAgain {
    consent: ConsentId,
    /// The event that tells of it.
    lost: String,
}

impl Command for WithdrawAgain {
    type Answer = bool;

    const NAME: &'static str = "consent.withdraw_again";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        // Its grant may be lost too: then there is nothing to take back.
        let Some(mut row) = view.get::<ConsentRow>(self.consent.as_bytes()) else {
            return Ok(false);
        };
        if consent::expire(view, &mut row)? {
            return Ok(false);
        }
        let Some(state) = row.state().after(consent::Verb::Revoke) else {
            return Ok(false);
        };
        let at = view.now();
        row.revoked = at.0;
        let ending = Ending {
            state,
            event: "consent.withdrawn",
            kind: Kind::ConsentRevoked,
            caller: &system("consent"),
            at,
            legal_basis: "",
            cause: &self.lost,
        };
        consent::end(view, &mut row, &ending)?;
        Ok(true)
    }
}

/// Pauses a consent that she paused or narrowed before, until she resumes it. Tells whether there was anything to do.
struct PauseAgain {
    consent: ConsentId,
    lost: String,
}

impl Command for PauseAgain {
    type Answer = bool;

    const NAME: &'static str = "consent.pause_again";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let Some(mut row) = view.get::<ConsentRow>(self.consent.as_bytes()) else {
            return Ok(false);
        };
        if consent::expire(view, &mut row)? || row.state().after(consent::Verb::Pause).is_none() {
            return Ok(false);
        }
        consent::pause::pause(view, &mut row, &system("consent"), None, &self.lost)?;
        Ok(true)
    }
}

/// Ends a consent whose renewal is lost: it had ended. Tells whether there was anything to do.
struct SupersedeAgain {
    consent: ConsentId,
    lost: String,
}

impl Command for SupersedeAgain {
    type Answer = bool;

    const NAME: &'static str = "consent.supersede_again";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let Some(mut row) = view.get::<ConsentRow>(self.consent.as_bytes()) else {
            return Ok(false);
        };
        if consent::expire(view, &mut row)? {
            return Ok(false);
        }
        let Some(state) = row.state().after(consent::Verb::Supersede) else {
            return Ok(false);
        };
        let ending = Ending {
            state,
            event: "consent.superseded",
            kind: Kind::ConsentSuperseded,
            caller: &system("consent"),
            at: view.now(),
            legal_basis: "",
            cause: &self.lost,
        };
        consent::end(view, &mut row, &ending)?;
        Ok(true)
    }
}

/// Cancels a request that its asker cancelled before. Tells whether there was anything to do.
struct CancelAgain {
    request: ConsentRequestId,
    lost: String,
}

impl Command for CancelAgain {
    type Answer = bool;

    const NAME: &'static str = "consent.cancel_again";

    fn slot(&self) -> Slot {
        self.request.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RequestRow>(self.request.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let Some(mut row) = view.get::<RequestRow>(self.request.as_bytes()) else {
            return Ok(false);
        };
        request::expire(view, &mut row)?;
        let Some(state) = row.state().after(request::Verb::Cancel) else {
            return Ok(false);
        };
        row.settle(state, view.now());
        request::cancel::cancel(view, &row, &system("consent"), &self.lost)?;
        Ok(true)
    }
}

/// Denies a request that she denied before. Tells whether there was anything to do.
struct DenyAgain {
    request: ConsentRequestId,
    lost: String,
}

impl Command for DenyAgain {
    type Answer = bool;

    const NAME: &'static str = "consent.deny_again";

    fn slot(&self) -> Slot {
        self.request.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RequestRow>(self.request.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let Some(mut row) = view.get::<RequestRow>(self.request.as_bytes()) else {
            return Ok(false);
        };
        request::expire(view, &mut row)?;
        let Some(state) = row.state().after(request::Verb::Deny) else {
            return Ok(false);
        };
        row.settle(state, view.now());
        row.decided_by = CallerKind::Person.into();
        view.put(&row);
        let told = request::draft("consent.denied", Action::Update, &system("consent"), &row)?;
        let told = told.because_of(&self.lost).emit(view);
        let asker = Recipients::new().participant(&row.hiu);
        let name = self.request.name();
        notify(
            view,
            told,
            Kind::ConsentRequestDenied,
            &name,
            &asker,
            request::subject(&row),
        );
        Ok(true)
    }
}

/// Counts a use that was taken, once. One that was given back is not: that only takes away.
struct UseAgain {
    consent: ConsentId,
    /// When it was taken.
    at: Micros,
    lost: String,
}

impl UseAgain {
    /// That it was counted.
    fn claim(&self) -> ClaimKey {
        let hash = digest(&SHA256, format!("use again\n{}", self.lost).as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(hash.as_ref());
        key
    }
}

impl Command for UseAgain {
    type Answer = ();

    const NAME: &'static str = "consent.use_again";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.claim(self.claim());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<ConsentRow>(self.consent.as_bytes());
        let Some(mut row) = row.filter(|row| row.state().is_open()) else {
            return Ok(());
        };
        if view.claimed(&self.claim()).is_some() {
            return Ok(());
        }
        view.claim(self.claim(), row.id.clone());
        let uses = Uses::of(&row);
        let window = uses.left(&row.scope.read()?, Micros(row.granted), self.at).window;
        uses.take_in(window).write(&mut row);
        row.updated = view.now().0;
        view.put(&row);
        let told = consent::about("data.use_consumed", Action::Update, &system("consent"), &row)?;
        told.because_of(&self.lost)
            .subject(rows::account(&row.subject).ok_or_else(|| rows::broken("a consent's subject"))?)
            .emit(view);
        Ok(())
    }
}
