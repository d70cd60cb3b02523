//! Taking a transfer on: the HIP's word that it will push, decided again since what was granted may have ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, ConsentId, Fact, HiType, Micros, Reason, Refusal, Slot, TransferId};
use sammati_store::{Command, Keys, View};

use super::{DONE_WITHIN, State, Verb, draft};
use crate::consent;
use crate::decision::authorize::{Candidates, Deciding, Settled, refusal};
use crate::decision::{Asker, Granted, Question};
use crate::directory::Directory;
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::rows::{self, ConsentRow, PolicyRow, TransferRow, broken};
use crate::scope::Range;

/// AcknowledgeTransfer.
pub struct AcknowledgeTransfer {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub transfer: TransferId,
    /// The etag that was read.
    pub etag: String,
    /// Facts of identity.
    pub directory: Arc<dyn Directory>,
    /// What this process knew of the partition when the call was admitted.
    pub revision: String,
}

impl Command for AcknowledgeTransfer {
    type Answer = TransferRow;

    const NAME: &'static str = "transfer.acknowledge";

    fn slot(&self) -> Slot {
        self.transfer.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransferRow>(self.transfer.to_vec());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if let Some(row) = loaded.get::<TransferRow>(self.transfer.as_bytes()) {
            keys.row::<ConsentRow>(row.consent.clone());
            keys.group::<TransferRow>("open", row.consent);
            keys.group::<PolicyRow>("enabled", row.subject);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<TransferRow, Refusal> {
        let row = policy::may_acknowledge(&self.caller, self.row(view))?;
        let mut consent = view
            .get::<ConsentRow>(&row.consent)
            .ok_or_else(|| broken("a transfer's consent"))?;
        let wrote = consent::catch_up(view, &mut consent)?;
        let mut row = self.row(view).unwrap_or(row);
        rows::check_etag(&self.etag, row.version)?;
        let Some(to) = row.state().after(Verb::Acknowledge) else {
            let refused = conflict(row.state());
            return Err(if wrote { refused.recorded() } else { refused });
        };
        let cause = self.decide_again(view, &row, &consent)?;
        row.expire = Micros(row.created).plus(DONE_WITHIN).0;
        row.settle(to, view.now());
        view.put(&row);
        let mut draft = draft("data.acknowledged", Action::Update, &self.caller, &row)?;
        draft.event.causation_event_id = cause;
        let told = draft.emit(view);
        let receiver = Recipients::new().participant(&row.hiu);
        let subject = rows::account(&row.subject);
        notify(
            view,
            told,
            Kind::TransferAcknowledged,
            &row.id()?.name(),
            &receiver,
            subject,
        );
        Ok(row)
    }

    fn outcome(&self, answer: &TransferRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl AcknowledgeTransfer {
    fn row(&self, view: &View<'_>) -> Option<TransferRow> {
        view.get::<TransferRow>(self.transfer.as_bytes())
    }

    /// Decides by the same rules as at the opening, but for the use, which it has; tells the event of the decision.
    fn decide_again(&self, view: &mut View<'_>, row: &TransferRow, consent: &ConsentRow) -> Result<String, Refusal> {
        let id: ConsentId = consent.id()?;
        let deciding = Deciding {
            slot: id.slot(),
            subject: Some(consent.subject()?),
            candidates: Candidates::Named(id),
            question: question(row, &Granted::try_from(consent)?),
            caller: self.caller.clone(),
            directory: Arc::clone(&self.directory),
            revision: self.revision.clone(),
            studies: Default::default(),
        };
        let Settled { decided, verdict, .. } = deciding.settle(view)?;
        if verdict.permits() {
            Ok(decided.id)
        } else {
            Err(refusal(&verdict, &decided, view.now()).recorded())
        }
    }
}

/// What the transfer asks for. Who will look was compared when it was opened.
fn question(row: &TransferRow, granted: &Granted) -> Question {
    let hi_types = row.hi_types.iter().filter_map(|number| HiType::from_number(*number));
    Question {
        asker: Asker::Participant(granted.hip.clone()),
        requester: Some(granted.hiu.clone()),
        provider: Some(granted.hip.clone()),
        user: Some(granted.user.clone()),
        purpose: None,
        access_mode: None,
        hi_types: hi_types.collect(),
        record_range: Range {
            from: Micros(row.from),
            to: Micros(row.to),
        },
        care_contexts: BTreeSet::new(),
        has_use: true,
        allow_reduced: false,
    }
}

fn conflict(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying("only a transfer that is REQUESTED can be taken on; read it again, and push nothing unless it is yours")
        .with(Fact::State, state.as_str())
}
