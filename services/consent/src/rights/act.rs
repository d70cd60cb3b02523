//! Who was asked answers, and she says whether that will do.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{Caller, Refusal, RightsRequestId, Slot};
use sammati_store::{Command, Keys, View};

use super::{Verb, against, conflict, draft, expire, tell};
use crate::notification::Recipients;
use crate::policy;
use crate::rows::{self, AnswerRow, Answered, KeptRow, RightsRow};
use crate::vault::{Vault, seal};

/// What is said or decided.
#[derive(Debug, Clone)]
pub enum What {
    /// Who was asked answers: the words, and of an ERASURE what is kept.
    Answer(String, Option<Vec<KeptRow>>),
    /// She closes it, by this verb.
    Close(Verb),
}

/// AnswerRightsRequest and CloseRightsRequest.
pub struct ActOnRights {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub request: RightsRequestId,
    /// What.
    pub what: What,
    /// The etag that was read.
    pub etag: String,
    /// Seals the answer.
    pub vault: Vault,
}

impl Command for ActOnRights {
    type Answer = ();

    const NAME: &'static str = "rights.act";

    fn slot(&self) -> Slot {
        self.request.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RightsRow>(self.request.to_vec());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if let Some(row) = loaded.get::<RightsRow>(self.request.as_bytes()) {
            Vault::reads(keys, &row.subject);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<RightsRow>(self.request.as_bytes());
        let mut row = match self.what {
            What::Answer(..) => policy::may_answer_rights(&self.caller, row)?,
            What::Close(_) => policy::may_close_rights(&self.caller, row)?,
        };
        rows::check_etag(&self.etag, row.version)?;
        if expire(view, &mut row)? {
            return Err(conflict(row.state()).recorded());
        }
        let verb = match self.what {
            What::Answer(..) => Verb::Answer,
            What::Close(verb) => verb,
        };
        let to = row.state().after(verb).ok_or_else(|| conflict(row.state()))?;
        let (event, who) = match &self.what {
            What::Answer(text, kept) => {
                self.answer(view, &mut row, text, kept.as_ref())?;
                ("rights.answered", Recipients::new().person(Some(row.subject()?)))
            }
            What::Close(Verb::Escalate) => {
                row.closed = view.now().0;
                ("rights.escalated", against(&row).operators())
            }
            What::Close(_) => {
                row.closed = view.now().0;
                ("rights.closed", against(&row))
            }
        };
        row.settle(to, view.now());
        view.put(&row);
        let told = draft(event, Action::Update, &self.caller, &row)?.emit(view);
        tell(view, told, &row, &who)
    }
}

impl ActOnRights {
    /// An ERASURE is told what stays, if only that nothing does; nothing else is.
    fn answer(
        &self,
        view: &mut View<'_>,
        row: &mut RightsRow,
        text: &str,
        kept: Option<&Vec<KeptRow>>,
    ) -> Result<(), Refusal> {
        let erasure = row.kind == super::ERASURE;
        if erasure != kept.is_some() {
            let why = if erasure {
                "required of an ERASURE: what law keeps and until when; with no entries if nothing is kept"
            } else {
                "only of an ERASURE"
            };
            return Err(Refusal::field("erasure", why));
        }
        let key = self.vault.key(view, &row.subject)?;
        let answered = Answered {
            text: text.to_owned(),
            kept: kept.cloned().unwrap_or_default(),
        };
        row.answer = Some(AnswerRow {
            sealed: seal(&key, view, "rights answer", &row.id, &answered)?,
            by: self.caller.id(),
            at: view.now().0,
        });
        Ok(())
    }
}
