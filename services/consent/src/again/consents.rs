//! Consents end again, or wait for her again.

use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{ConsentId, Refusal, Slot};
use sammati_server::event::system;
use sammati_store::{Command, Keys, View};

use super::Became;
use crate::consent::{self, Ending, State, Verb};
use crate::rows::{ConsentRow, TransferRow};

/// Does again to a consent what took away of it.
pub(super) struct ConsentAgain {
    pub(super) consent: ConsentId,
    /// A narrowing whose scope is lost pauses it.
    pub(super) verb: Verb,
    /// The event that tells of it.
    pub(super) lost: String,
}

impl Command for ConsentAgain {
    type Answer = Became;

    const NAME: &'static str = "consent.again";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Became, Refusal> {
        // Its grant may be lost too: then there is nothing to take back.
        let Some(mut row) = view.get::<ConsentRow>(self.consent.as_bytes()) else {
            return Ok(Became::Lost);
        };
        if consent::expire(view, &mut row)? {
            return Ok(Became::Left);
        }
        match self.verb {
            Verb::Revoke => {
                let at = view.now().0;
                self.end(view, row, ("consent.withdrawn", Kind::ConsentRevoked), at)
            }
            Verb::Supersede => {
                let revoked = row.revoked;
                self.end(view, row, ("consent.superseded", Kind::ConsentSuperseded), revoked)
            }
            Verb::Pause | Verb::Narrow => self.pause(view, row),
            // These give, or time does them again.
            Verb::Resume | Verb::Expire => Ok(Became::Left),
        }
    }
}

impl ConsentAgain {
    fn end(
        &self,
        view: &mut View<'_>,
        mut row: ConsentRow,
        (event, kind): (&str, Kind),
        revoked: i64,
    ) -> Result<Became, Refusal> {
        let Some(state) = row.state().after(self.verb) else {
            return Ok(Became::Left);
        };
        row.revoked = revoked;
        let ending = Ending {
            state,
            event,
            kind,
            caller: &system("consent"),
            at: view.now(),
            legal_basis: "",
            cause: &self.lost,
        };
        consent::end(view, &mut row, &ending)?;
        Ok(Became::Retaken)
    }

    /// Pauses it until she resumes it. A pause that would end by itself becomes one that does not: what it would bring back
    /// is what she has taken away since.
    fn pause(&self, view: &mut View<'_>, mut row: ConsentRow) -> Result<Became, Refusal> {
        let (state, ends) = (row.state(), row.resume != 0);
        if state == State::Granted || (state == State::Paused && ends) {
            consent::pause::pause(view, &mut row, &system("consent"), None, &self.lost)?;
            return Ok(Became::Retaken);
        }
        // That a narrowing is lost is told though there is nothing to pause: she must narrow it anew before she resumes it.
        let is_told = state == State::Paused && self.verb == Verb::Narrow;
        Ok(if is_told { Became::Retaken } else { Became::Left })
    }
}
