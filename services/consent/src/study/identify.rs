//! An operator is told whose a pseudonym is: she hears of it in the same commit.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Micros, PurposeCode, Refusal, Slot, StudyId};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use super::known::not_active;
use crate::directory::Directory;
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::rows::DataKeyRow;

/// IdentifySubject, once it is found who she is.
pub struct Identify {
    /// Who asks.
    pub caller: Caller,
    /// Who she is.
    pub account: AccountId,
    /// Of which study.
    pub study: StudyId,
    /// What it rests on.
    pub legal_basis: String,
    /// When the study's key is destroyed, if that is known: it may come while this waits.
    pub destroy: Option<Micros>,
    /// Whether her account is deleted.
    pub directory: Arc<dyn Directory>,
}

/// Whether nothing of her is told any more: her account is deleted, or her key destroyed.
pub fn is_gone(directory: &dyn Directory, account: AccountId, key: Option<&DataKeyRow>) -> bool {
    let destroyed = key.is_some_and(|key| key.wrapped.is_empty());
    destroyed || directory.deleted().iter().any(|(gone, _)| *gone == account)
}

impl Command for Identify {
    /// Her account, and the event that tells of it.
    type Answer = [u8; 32];

    const NAME: &'static str = "study.identify";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<DataKeyRow>(self.account.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<[u8; 32], Refusal> {
        let key = view.get::<DataKeyRow>(self.account.as_bytes());
        if is_gone(self.directory.as_ref(), self.account, key.as_ref()) {
            return Err(policy::unavailable(&self.caller));
        }
        if self.destroy.is_some_and(|at| at <= view.now()) {
            return Err(not_active());
        }
        let study = self.study.name();
        // No party: its sponsor would read there whom the study knows.
        let kind = "study.subject_identified";
        let mut draft = Draft::new(kind, Action::Read, RetentionClass::Access, &self.caller).object(study.clone());
        let payload = draft.payload();
        payload.subject = self.account.name();
        payload.purpose = PurposeCode::Dsrch.number();
        self.legal_basis.clone_into(&mut payload.legal_basis);
        let told = draft.emit(view);
        let mut answer = [0; 32];
        answer[..16].copy_from_slice(self.account.as_bytes());
        answer[16..].copy_from_slice(told.id.as_bytes());
        let her = Recipients::new().person(Some(self.account));
        let kind = Kind::StudySubjectIdentified;
        notify(view, told, kind, &study, &her, Some(self.account));
        Ok(answer)
    }

    fn outcome(&self, answer: &[u8; 32]) -> Vec<u8> {
        answer.to_vec()
    }
}
