//! What an operator or the sponsor does with a study.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{Caller, Fact, Reason, Refusal, Slot, StudyId};
use sammati_store::{Command, Keys, View};

use super::{State, Verb, announce, close, draft, expire, pseudonym};
use crate::policy;
use crate::rows::{self, StudyRow};
use crate::vault::Vault;

/// ActivateStudy and CloseStudy.
pub struct MoveStudy {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub study: StudyId,
    /// What.
    pub verb: Verb,
    /// The etag that was read.
    pub etag: String,
    /// Makes the key of the pseudonyms.
    pub vault: Vault,
}

impl Command for MoveStudy {
    type Answer = StudyRow;

    const NAME: &'static str = "study.move";

    fn slot(&self) -> Slot {
        self.study.slot()
    }

    fn is_essential(&self) -> bool {
        self.verb == Verb::Close
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<StudyRow>(self.study.to_vec());
        Vault::reads(keys, self.study.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<StudyRow, Refusal> {
        let row = view.get::<StudyRow>(self.study.as_bytes());
        let mut row = policy::may_run_study(&self.caller, row)?;
        rows::check_etag(&self.etag, row.version)?;
        if expire(view, &mut row)? {
            return Err(conflict(row.state()).recorded());
        }
        let to = row.state().after(self.verb).ok_or_else(|| conflict(row.state()))?;
        let now = view.now();
        if to == State::Closed {
            close(view, &mut row, &self.caller, now, "")?;
            return Ok(row);
        }
        if row.ethics.until <= now.0 {
            return Err(Refusal::new(Reason::EthicsExpired)
                .saying("its ethics approval is over; the sponsor must describe the study anew with another"));
        }
        row.key_id = pseudonym::key_id(&self.vault.key(view, &row.id)?);
        row.state = to.number();
        row.activated = now.0;
        row.touch(now);
        view.put(&row);
        let activated = draft("study.activated", Action::Update, &self.caller, &row)?;
        announce(view, &row, activated)?;
        Ok(row)
    }

    fn outcome(&self, answer: &StudyRow) -> Vec<u8> {
        answer.id.clone()
    }
}

fn conflict(state: State) -> Refusal {
    let why = match state {
        State::Draft => "the study is not active yet, so there is nothing to close",
        State::Active => "the study is active already",
        State::Closed => "the study is closed, for good",
    };
    Refusal::new(Reason::StateConflict)
        .saying(why)
        .with(Fact::State, state.as_str())
}
