//! Requests are decided again as they were.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::CallerKind;
use sammati_kernel::{ConsentRequestId, Refusal, Slot};
use sammati_server::event::system;
use sammati_store::{Command, Keys, View};

use super::Became;
use crate::notification::notify;
use crate::request::cancel::Grounds;
use crate::request::{self, Verb};
use crate::rows::RequestRow;

/// Denies a request that she denied before, or cancels one that its asker cancelled.
pub(super) struct RequestAgain {
    pub(super) request: ConsentRequestId,
    pub(super) verb: Verb,
    /// The event that tells of it.
    pub(super) lost: String,
}

impl Command for RequestAgain {
    type Answer = Became;

    const NAME: &'static str = "consent.request_again";

    fn slot(&self) -> Slot {
        self.request.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RequestRow>(self.request.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Became, Refusal> {
        let Some(mut row) = view.get::<RequestRow>(self.request.as_bytes()) else {
            return Ok(Became::Lost);
        };
        request::expire(view, &mut row)?;
        let Some(state) = row.state().after(self.verb) else {
            return Ok(Became::Left);
        };
        row.settle(state, view.now());
        match self.verb {
            Verb::Cancel => {
                let grounds = Grounds {
                    cause: &self.lost,
                    ..Grounds::default()
                };
                request::cancel::cancel(view, &row, &system("consent"), grounds)?;
            }
            _ => self.deny(view, row)?,
        }
        Ok(Became::Retaken)
    }
}

impl RequestAgain {
    fn deny(&self, view: &mut View<'_>, mut row: RequestRow) -> Result<(), Refusal> {
        row.decided_by = CallerKind::Person.into();
        view.put(&row);
        let told = request::draft("consent.denied", Action::Update, &system("consent"), &row)?;
        let told = told.because_of(&self.lost).emit(view);
        let (asker, name) = (request::asker(&row), self.request.name());
        let kind = Kind::ConsentRequestDenied;
        notify(view, told, kind, &name, &asker, request::subject(&row));
        Ok(())
    }
}
