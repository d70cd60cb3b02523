//! A representative's session begins where the principal lives, so that it ends in one commit with what it rests on.

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{AccountId, Caller, Micros, Reason, Refusal, RepresentationId, SessionId, Slot};
use sammati_store::{Command, Keys, View};

use crate::rows::{AccountRow, RepresentationRow, RepresentedRow, SessionRow, TransactionRow};
use crate::session::{may_enter, may_log_in, told};

/// From login to end, for a representative: shorter than her own, since nothing but its end stops it.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The second half of a representative's login. Harmless when repeated: the session's id was fixed by the first half.
#[derive(Debug)]
pub(crate) struct OpenRepresented {
    pub(crate) caller: Caller,
    pub(crate) representation: RepresentationId,
    /// Who logged in, as read before, since he lives elsewhere. That he ends all of his sessions meanwhile is as if he did so
    /// a moment later: those in which he acts for others are not among them.
    pub(crate) representative: AccountRow,
    pub(crate) session: SessionId,
    /// The principal, as read before; it never changes.
    pub(crate) principal: AccountId,
    /// The transaction that the first half consumed, as it was VERIFIED or later: who proved what and when changes no more.
    pub(crate) transaction: TransactionRow,
}

impl Command for OpenRepresented {
    type Answer = ();
    const NAME: &'static str = "identity.open_represented_session";

    fn slot(&self) -> Slot {
        self.representation.slot()
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RepresentationRow>(self.representation.to_vec());
        keys.row::<AccountRow>(self.principal.to_vec());
        keys.row::<SessionRow>(self.session.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        if view.get::<SessionRow>(self.session.as_bytes()).is_some() {
            return Ok(());
        }
        let now = view.now();
        may_enter(&self.representative, &self.transaction)?;
        let row = view.get::<RepresentationRow>(self.representation.as_bytes());
        let row = of_representative(row, self.representative.id().ok_or(Reason::Internal)?)?;
        in_force(&row, now)?;
        self.transaction.require_proved_after(row.sessions_from)?;
        let principal = view.get::<AccountRow>(self.principal.as_bytes());
        may_log_in(principal.ok_or(Reason::NotAvailable)?.state())?;
        let mandate = row.mandate.ok_or(Reason::Internal)?;
        let end = now.plus(LIFE).0;
        let ends = if mandate.ends == 0 { end } else { end.min(mandate.ends) };
        let session = SessionRow {
            id: self.session.to_vec(),
            version: 1,
            factors: vec![self.transaction.factor],
            app: self.transaction.app.clone(),
            auth_time: self.transaction.verify_time,
            generation: 1,
            create_time: now.0,
            update_time: now.0,
            expire_time: ends,
            represented: Some(RepresentedRow {
                representation: self.representation.to_vec(),
                principal: row.principal,
                representative: row.representative,
                mandate: Some(mandate),
            }),
            ..SessionRow::default()
        };
        view.put(&session);
        told("identity.session_created", Action::Create, &session, &self.caller).emit(view);
        Ok(())
    }
}

/// Only whoever represents learns of it.
pub(crate) fn of_representative(
    row: Option<RepresentationRow>,
    account: AccountId,
) -> Result<RepresentationRow, Refusal> {
    let row = row.filter(|row| row.representative() == Some(account));
    row.ok_or_else(|| Reason::NotAvailable.into())
}

/// Whether somebody may act under it now.
pub(crate) fn in_force(row: &RepresentationRow, now: Micros) -> Result<(), Refusal> {
    if row.is_in_force(now) {
        return Ok(());
    }
    let state = row.state_at(now);
    let why = if state == super::State::Active {
        "the principal can still object; it takes effect at its effective_time"
    } else {
        "the representation is not in force"
    };
    Err(Refusal::new(Reason::RepresentationNotActive)
        .saying(why)
        .with(sammati_kernel::Fact::State, state.as_str()))
}
