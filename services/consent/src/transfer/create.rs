//! Opening a transfer: the decision of an authorize, the use it takes and the word to the HIP, in one commit.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Micros, PurposeCode, Reason, Refusal, Slot, TransferId};
use sammati_store::{Command, Keys, View};

use super::key_material::Key;
use super::{ACKNOWLEDGE_WITHIN, MAX_OPEN, State, draft};
use crate::decision::authorize::{Deciding, Settled, refusal};
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::rows::{ConsentRow, TransferRow, broken};
use crate::wire::transfer::origin;

/// CreateTransfer.
pub struct CreateTransfer {
    /// The decision.
    pub deciding: Deciding,
    /// Where to push.
    pub push_uri: String,
    /// The origin of that.
    pub origin: String,
    /// The receiver's key.
    pub key: Key,
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

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        self.deciding.then(loaded, keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<TransferRow, Refusal> {
        self.key.check_life(view.now())?;
        self.check_origin()?;
        let settled = self.deciding.settle(view)?;
        let Settled {
            decided,
            verdict,
            consent,
            ..
        } = &settled;
        if !verdict.permits() {
            return Err(refusal(verdict, decided, view.now()).recorded());
        }
        let consent = consent.as_ref().ok_or_else(|| broken("a permit without a consent"))?;
        check_open(view, consent)?;
        self.open(view, consent, &settled)
    }

    fn outcome(&self, answer: &TransferRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl CreateTransfer {
    /// The push address must lie on an origin that the receiver registered: records go nowhere else.
    fn check_origin(&self) -> Result<(), Refusal> {
        self.deciding.directory.fresh()?;
        let me = self
            .deciding
            .directory
            .participant(policy::participant(&self.deciding.caller)?);
        let mut registered = me.iter().flat_map(|party| &party.transfer_origins);
        if registered.any(|uri| origin(uri).as_ref() == Some(&self.origin)) {
            return Ok(());
        }
        Err(Refusal::new(Reason::PushUriNotRegistered).saying(
            "push_uri is on no origin that is registered for you; use one that is, or ask the operator to add it",
        ))
    }

    fn open(&self, view: &mut View<'_>, consent: &ConsentRow, settled: &Settled) -> Result<TransferRow, Refusal> {
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
            key_content: self.key.content.clone(),
            key_expire: self.key.expire.0,
            state: State::Requested.number(),
            r#use: settled.decided.r#use,
            window: settled.window,
            expire: now.plus(ACKNOWLEDGE_WITHIN).0,
            created: now.0,
            updated: now.0,
            version: 1,
            purpose: consent.scope.purpose().map_or(0, PurposeCode::number),
            ..TransferRow::default()
        };
        view.put(&row);
        let mut draft = draft("data.requested", Action::Create, &self.deciding.caller, &row)?;
        settled.decided.id.clone_into(&mut draft.event.causation_event_id);
        let told = draft.emit(view);
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

/// At most so many at once; those whose time is over were expired before.
fn check_open(view: &View<'_>, consent: &ConsentRow) -> Result<(), Refusal> {
    let open = view.group::<TransferRow>("open", &consent.id);
    if open.len() < MAX_OPEN {
        return Ok(());
    }
    let first = open.iter().map(|row| row.expire).min().unwrap_or(view.now().0);
    Err(Refusal::new(Reason::OpenLimit)
        .saying("32 transfers under this consent are open; wait until one is done or expires")
        .retry_after(Micros(first).since(view.now())))
}
