//! A representation is accepted, activated, ended.

use sammati_api::audit::v1::Actor;
use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::representation::EndReason;
use sammati_api::types::v1::CallerKind;
use sammati_kernel::{
    AccountId, Caller, Micros, Reason, Refusal, RepresentationId, RepresentationKind, SessionId, Slot,
};
use sammati_server::event::system;
use sammati_store::{Command, Keys, Reader, Record, Store, View};

use super::{OBJECT_WITHIN, State, conflict, told};
use crate::rows::{EvidenceRow, RepresentationRow, SessionRow, check_etag};
use crate::{policy, session};

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// The representative takes it on.
    Accept,
    /// An operator puts a nominee in force.
    Activate,
    /// Somebody ends it.
    End,
    /// Its time ends.
    Expire,
}

impl Verb {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [Self::Accept, Self::Activate, Self::End, Self::Expire];
}

/// Moves a representation.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) caller: Caller,
    pub(crate) id: RepresentationId,
    pub(crate) etag: String,
    pub(crate) verb: Verb,
    /// What an activation rests on.
    pub(crate) evidence: Option<EvidenceRow>,
    /// What tells of it, if it is done again after a restore.
    pub(crate) cause: Option<Lost>,
}

/// An event that a restore lost.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) event_id: String,
    /// Whoever did it, if the log still knows.
    pub(crate) actor: Option<Actor>,
    /// Whether another event caused it, and not its actor.
    pub(crate) caused: bool,
    /// When it happened.
    pub(crate) at: Micros,
}

impl Lost {
    /// Why a representation ended by it. A service ends one by the clock, with the account of one of the two, or because an
    /// event lost before told so: then it is not known who wanted it.
    fn reason(&self, row: &RepresentationRow) -> EndReason {
        let Some(actor) = &self.actor else {
            return EndReason::Unspecified;
        };
        let account = AccountId::parse_name(&actor.id);
        match actor.kind() {
            CallerKind::Operator => EndReason::Operator,
            CallerKind::Service if !self.caused && row.due().is_some_and(|due| self.at.0 >= due) => EndReason::Time,
            CallerKind::Service if !self.caused => EndReason::Account,
            _ if account.is_some() && account == row.principal() => EndReason::Principal,
            _ if account.is_some() && account == row.representative() => EndReason::Representative,
            _ => EndReason::Unspecified,
        }
    }
}

/// Whether `caller` is one of the two.
pub(crate) fn party(caller: &Caller, row: &RepresentationRow) -> bool {
    let account = caller.account();
    account.is_some() && (account == row.principal() || account == row.representative())
}

impl Command for Move {
    /// The sessions that ended by it.
    type Answer = Vec<SessionId>;
    const NAME: &'static str = "identity.move_representation";

    fn slot(&self) -> Slot {
        self.id.slot()
    }

    fn is_essential(&self) -> bool {
        matches!(self.verb, Verb::End | Verb::Expire)
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RepresentationRow>(self.id.to_vec());
        keys.group::<SessionRow>("live", self.id.name());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Vec<SessionId>, Refusal> {
        let now = view.now();
        let row = view.get::<RepresentationRow>(self.id.as_bytes());
        let mut row = row
            .filter(|row| self.may(row))
            .ok_or_else(|| policy::unavailable(&self.caller))?;
        check_etag(&self.etag, row.version)?;
        if self.verb == Verb::Expire {
            return Ok(match row.due() {
                Some(due) if now.0 >= due => self.end(&mut row, Micros(due), view),
                _ => Vec::new(),
            });
        }
        let kind = row.mandate.as_ref().and_then(|m| m.kind());
        let state = row.state_at(now);
        let next = state.after(self.verb, kind == Some(RepresentationKind::Nominee));
        let next = next.ok_or_else(|| conflict(state))?;
        if next == State::Ended {
            return Ok(self.end(&mut row, now, view));
        }
        row.state = next.number();
        let event = if self.verb == Verb::Accept {
            row.accept_time = now.0;
            row.effective_time = if next == State::Active { now.0 } else { 0 };
            "identity.representation_accepted"
        } else {
            row.effective_time = now.plus(OBJECT_WITHIN).0;
            row.evidence.clone_from(&self.evidence);
            "identity.representation_activated"
        };
        row.touch(now);
        view.put(&row);
        let mut draft = told(event, Action::Update, &row, &self.caller);
        if let Some(evidence) = &self.evidence {
            evidence.kind.clone_into(&mut draft.payload().legal_basis);
        }
        draft.emit(view);
        Ok(Vec::new())
    }
}

impl Move {
    /// Who may do it: the object rule.
    fn may(&self, row: &RepresentationRow) -> bool {
        let is_representative = self.caller.account().is_some() && self.caller.account() == row.representative();
        match self.verb {
            Verb::Accept => is_representative,
            Verb::End if self.caller == system("identity") => true,
            // A guardian protects also from what his ward wants, and is not his ward's to dismiss.
            Verb::End if row.is_guardianship() => self.caller.is_operator() || is_representative,
            Verb::End => self.caller.is_operator() || party(&self.caller, row),
            // By the gate an operator, and by the sweep the clock.
            Verb::Activate | Verb::Expire => true,
        }
    }

    fn end(&self, row: &mut RepresentationRow, at: Micros, view: &mut View<'_>) -> Vec<SessionId> {
        let account = self.caller.account();
        let cause = self.cause.as_ref().map_or("", |lost| lost.event_id.as_str());
        let reason = match (&self.cause, self.verb) {
            (Some(lost), _) => lost.reason(row),
            (None, Verb::Expire) => EndReason::Time,
            _ if account.is_some() && account == row.principal() => EndReason::Principal,
            _ if account.is_some() => EndReason::Representative,
            _ if self.caller == system("identity") => EndReason::Account,
            _ => EndReason::Operator,
        };
        let now = view.now();
        row.state = State::Ended.number();
        row.end_reason = reason.into();
        row.touch(now);
        view.put(row);
        told("identity.representation_ended", Action::Delete, row, &self.caller)
            .occurred(at)
            .because_of(cause)
            .emit(view);
        let mut ended = Vec::new();
        for mut session in view.group::<SessionRow>("live", self.id.name().as_bytes()) {
            if session.end_time == 0 {
                session::end_because(&mut session, "identity.session_revoked", &self.caller, cause, view);
                ended.extend(session.id());
            }
        }
        ended
    }
}

/// How many are ended in one go.
const BATCH: i64 = 1000;

/// Ends what is over by now. Readers do not wait for it, and any replica may do it.
pub(crate) async fn expire(store: &Store) -> Result<(), Refusal> {
    let now = store.clock().now();
    let due = store
        .read(move |r: &mut Reader<'_>| r.due::<RepresentationRow>("due", now.0, BATCH))
        .await?;
    let runs = due.into_iter().filter_map(|stored| {
        let id = stored.record.id()?;
        Some(store.apply(Move {
            caller: system("identity"),
            id,
            etag: String::new(),
            verb: Verb::Expire,
            evidence: None,
            cause: None,
        }))
    });
    let done = futures::future::join_all(runs).await;
    done.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
}

/// Ends whatever stands on an account that is deleted: who acts for her, and for whom she acts.
pub(crate) async fn end_of_account(store: &Store, account: AccountId) -> Result<(), Refusal> {
    for column in ["principal", "representative"] {
        let mut before: Option<Vec<u8>> = None;
        loop {
            let from = before.take();
            let page = store
                .read(move |r| r.page::<RepresentationRow>(column, account.as_bytes(), from.as_deref(), BATCH))
                .await?;
            let rows: Vec<_> = page.into_iter().map(|stored| stored.record).collect();
            for id in rows
                .iter()
                .filter(|row| row.state() != State::Ended)
                .filter_map(RepresentationRow::id)
            {
                let end = Move {
                    caller: system("identity"),
                    id,
                    etag: String::new(),
                    verb: Verb::End,
                    evidence: None,
                    cause: None,
                };
                match store.apply(end).await {
                    // It ended meanwhile.
                    Err(refusal) if refusal.reason != Reason::StateConflict => return Err(refusal),
                    _ => {}
                }
            }
            match rows.last().filter(|_| rows.len() as i64 >= BATCH) {
                Some(last) => before = Some(last.key()),
                None => break,
            }
        }
    }
    Ok(())
}
