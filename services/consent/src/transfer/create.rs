//! Opening a transfer: the decision of an authorize, the use it takes and the word to the HIP, in one commit.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Reason, Refusal, Slot, TransferId};
use sammati_store::{Command, Keys, View};

use super::{ACKNOWLEDGE_WITHIN, State, draft};
use crate::decision::authorize::{Deciding, Settled, refusal};
use crate::notification::{Recipients, notify};
use crate::rows::{ConsentRow, TransferRow, broken};

/// CreateTransfer.
pub struct CreateTransfer {
    /// The decision.
    pub deciding: Deciding,
    /// Where to push.
    pub push_uri: String,
    /// The receiver's key.
    pub key_content: String,
    /// When that expires.
    pub key_expire: i64,
}

impl Command for CreateTransfer {
    type Answer = TransferRow;

    const NAME: &'static str = "transfer.create";

    fn slot(&self) -> Slot {
        self.deciding.slot
    }

    fn reads(&self, keys: &mut Keys) {
        self.deciding.reads(keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<TransferRow, Refusal> {
        let Settled {
            decided,
            verdict,
            consent,
            window,
            ..
        } = self.deciding.settle(view)?;
        if !verdict.permits() {
            return Err(refusal(&verdict, &decided, view.now()).recorded());
        }
        let consent = consent.ok_or_else(|| broken("a permit without a consent"))?;
        if self.key_expire <= view.now().0 {
            return Err(
                Refusal::new(Reason::KeyMaterialInvalid).saying("the key has expired meanwhile; make a new one")
            );
        }
        self.open(view, &consent, decided.r#use, window)
    }

    fn outcome(&self, answer: &TransferRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl CreateTransfer {
    fn open(&self, view: &mut View<'_>, consent: &ConsentRow, r#use: i64, window: i64) -> Result<TransferRow, Refusal> {
        let id: TransferId = view.id("transfer");
        let question = &self.deciding.question;
        let granted = consent.scope.read()?.hi_types;
        let hi_types = if question.hi_types.is_empty() {
            &granted
        } else {
            &question.hi_types
        };
        let now = view.now();
        let row = TransferRow {
            id: id.to_vec(),
            consent: consent.id.clone(),
            grant_version: consent.grant_version,
            subject: consent.subject.clone(),
            hip: consent.hip.clone(),
            hiu: consent.hiu.clone(),
            hi_types: hi_types.iter().map(|t| t.number()).collect(),
            from: question.record_range.from.0,
            to: question.record_range.to.0,
            push_uri: self.push_uri.clone(),
            key_content: self.key_content.clone(),
            key_expire: self.key_expire,
            state: State::Requested.number(),
            r#use,
            window,
            expire: now.plus(ACKNOWLEDGE_WITHIN).0,
            created: now.0,
            updated: now.0,
            version: 1,
        };
        view.put(&row);
        let told = draft("data.requested", Action::Create, &self.deciding.caller, &row)?.emit(view);
        let recipients = Recipients::new().participant(&row.hip);
        notify(
            view,
            told,
            Kind::TransferRequested,
            &id.name(),
            &recipients,
            Some(consent.subject()?),
        );
        Ok(row)
    }
}
