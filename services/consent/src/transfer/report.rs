//! Saying what came of a transfer: each end its own word, both kept.

use std::collections::BTreeSet;

use sammati_api::audit::v1::Counts;
use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::transfer_context::Status;
use sammati_api::consent::v1::transfer_report::Outcome;
use sammati_api::consent::v1::{TransferContext, TransferReport};
use sammati_kernel::{Caller, Fact, Reason, Refusal, Slot, TransferId};
use sammati_server::event::timestamp;
use sammati_store::{Command, Keys, View};

use super::{State, Verb, draft, give_back};
use crate::consent;
use crate::lookup::{ContextKey, Lookup};
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::rows::{self, CareContextRow, ConsentRow, TransferRow, broken};
use crate::vault::{Vault, seal};

/// ReportTransfer.
pub struct ReportTransfer {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub transfer: TransferId,
    /// What it says.
    pub report: TransferReport,
    /// The etag that was read.
    pub etag: String,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals what names care contexts.
    pub vault: Vault,
}

/// Who reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Hip,
    Hiu,
}

impl Command for ReportTransfer {
    type Answer = TransferRow;

    const NAME: &'static str = "transfer.report";

    fn slot(&self) -> Slot {
        self.transfer.slot()
    }

    fn bytes(&self) -> usize {
        1024 + prost::Message::encoded_len(&self.report)
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransferRow>(self.transfer.to_vec());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if let Some(row) = loaded.get::<TransferRow>(self.transfer.as_bytes()) {
            keys.row::<ConsentRow>(row.consent.clone());
            keys.group::<TransferRow>("open", row.consent.clone());
            Vault::reads(keys, &row.subject);
            for context in &self.report.contexts {
                if let Ok(key) = self.key(&row, context) {
                    keys.row::<CareContextRow>(key);
                }
            }
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<TransferRow, Refusal> {
        let row = policy::may_report(&self.caller, self.row(view))?;
        let mut consent = view
            .get::<ConsentRow>(&row.consent)
            .ok_or_else(|| broken("a transfer's consent"))?;
        let wrote = consent::catch_up(view, &mut consent)?;
        let mut row = self.row(view).unwrap_or(row);
        rows::check_etag(&self.etag, row.version)?;
        let end = self.end(&row)?;
        self.check_delivered()?;
        let before = row.state();
        let to = before.after(self.verb()).filter(|_| kept(&mut row, end).is_empty());
        let Some(to) = to else {
            let refused = conflict(before);
            return Err(if wrote { refused.recorded() } else { refused });
        };
        self.check_contexts(view, &row, &consent)?;
        let sealed = self.sealed(view, &row, end)?;
        *kept(&mut row, end) = sealed;
        row.settle(to, view.now());
        view.put(&row);
        self.tell(view, &row, &mut consent, end, before)?;
        Ok(row)
    }

    fn outcome(&self, answer: &TransferRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl ReportTransfer {
    fn row(&self, view: &View<'_>) -> Option<TransferRow> {
        view.get::<TransferRow>(self.transfer.as_bytes())
    }

    fn key(&self, row: &TransferRow, context: &TransferContext) -> Result<ContextKey, Refusal> {
        let hip = rows::participant(&row.hip)?;
        let key = self.lookup.context(&row.subject, &hip, &context.care_context_reference);
        Ok(key)
    }

    fn verb(&self) -> Verb {
        match self.report.outcome() {
            Outcome::Transferred => Verb::ReportTransferred,
            Outcome::Received => Verb::ReportReceived,
            Outcome::Failed | Outcome::Unspecified => Verb::ReportFailed,
        }
    }

    /// Whose word this is; of one that is both ends, the giver's where either may speak.
    fn end(&self, row: &TransferRow) -> Result<End, Refusal> {
        let (gives, receives) = (policy::is(&self.caller, &row.hip), policy::is(&self.caller, &row.hiu));
        match self.verb() {
            Verb::ReportTransferred if gives => Ok(End::Hip),
            Verb::ReportReceived if receives => Ok(End::Hiu),
            Verb::ReportFailed if gives => Ok(End::Hip),
            Verb::ReportFailed => Ok(End::Hiu),
            _ => Err(Refusal::field(
                "report.outcome",
                "OUTCOME_TRANSFERRED is the HIP's word, OUTCOME_RECEIVED the HIU's, OUTCOME_FAILED either's",
            )),
        }
    }

    fn delivered(&self) -> usize {
        let delivered = |context: &&TransferContext| context.status() == Status::Delivered;
        self.report.contexts.iter().filter(delivered).count()
    }

    fn check_delivered(&self) -> Result<(), Refusal> {
        if self.verb() == Verb::ReportFailed || self.delivered() > 0 {
            return Ok(());
        }
        Err(Refusal::field(
            "report.contexts",
            "at least one with STATUS_DELIVERED; where nothing was delivered, report OUTCOME_FAILED",
        ))
    }

    /// Nobody reports about what is not hers there, or is not granted: by the grant that it was opened under. Of one that
    /// was changed since there is no telling any more; the word about what flowed before must still be taken.
    fn check_contexts(&self, view: &View<'_>, row: &TransferRow, consent: &ConsentRow) -> Result<(), Refusal> {
        let granted = if row.grant_version == consent.grant_version {
            consent.scope.read()?.care_contexts
        } else {
            BTreeSet::new()
        };
        for (n, context) in self.report.contexts.iter().enumerate() {
            let key = self.key(row, context)?;
            let linked = view.get::<CareContextRow>(&key).is_some();
            if !linked || !(granted.is_empty() || granted.contains(&key)) {
                return Err(Refusal::new(Reason::ContextUnknown)
                    .saying(
                        "a care context of the report is not linked to her there, or not in the consent; leave it out",
                    )
                    .with(Fact::Position, n));
            }
        }
        Ok(())
    }

    fn sealed(&self, view: &mut View<'_>, row: &TransferRow, end: End) -> Result<Vec<u8>, Refusal> {
        let key = self.vault.key(view, &row.subject)?;
        let report = TransferReport {
            report_time: Some(timestamp(view.now())),
            ..self.report.clone()
        };
        seal(&key, view, end.field(), &row.id, &report)
    }

    fn tell(
        &self,
        view: &mut View<'_>,
        row: &TransferRow,
        consent: &mut ConsentRow,
        end: End,
        before: State,
    ) -> Result<(), Refusal> {
        let event = match self.verb() {
            Verb::ReportTransferred => "data.disclosed",
            Verb::ReportReceived => "data.received",
            _ => "data.failed",
        };
        let mut draft = draft(event, Action::Update, &self.caller, row)?;
        draft.payload().counts = Some(Counts {
            records: i64::try_from(self.delivered()).unwrap_or(i64::MAX),
            bytes: self.report.bytes,
            ..Counts::default()
        });
        let told = draft.emit(view);
        let other = match end {
            End::Hip => &row.hiu,
            End::Hiu => &row.hip,
        };
        let other = Recipients::new().participant(other);
        notify(
            view,
            told,
            Kind::TransferReported,
            &row.id()?.name(),
            &other,
            rows::account(&row.subject),
        );
        if self.gives_back(end, before) {
            give_back(view, row, consent, &self.caller, told)?;
        }
        Ok(())
    }

    /// Whether the use comes back: nothing was delivered, and he says so who would know. A receiver could have had the
    /// records once the giver took the transfer on; on its word alone a limit would be none.
    fn gives_back(&self, end: End, before: State) -> bool {
        let would_know = before == State::Requested || (end == End::Hip && before == State::Acknowledged);
        self.verb() == Verb::ReportFailed && self.delivered() == 0 && would_know
    }
}

impl End {
    const fn field(self) -> &'static str {
        match self {
            Self::Hip => HIP_REPORT,
            Self::Hiu => HIU_REPORT,
        }
    }
}

/// Under what the HIP's report is sealed.
pub const HIP_REPORT: &str = "hip report";

/// Under what the HIU's report is sealed.
pub const HIU_REPORT: &str = "hiu report";

const fn kept(row: &mut TransferRow, end: End) -> &mut Vec<u8> {
    match end {
        End::Hip => &mut row.hip_report,
        End::Hiu => &mut row.hiu_report,
    }
}

fn conflict(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying("the transfer is over, was not taken on yet, or you have reported before; read it again")
        .with(Fact::State, state.as_str())
}
