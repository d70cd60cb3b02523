//! An opening is reviewed, or disputed.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::break_glass::Outcome;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, ConsentId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use crate::consent::{self, Ending, State, Verb};
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::rows::{self, ConsentRow, TransferRow, WordRow};
use crate::vault::{Private, Vault, seal};

/// ReviewBreakGlass.
pub struct ReviewGlass {
    /// Who says so.
    pub caller: Caller,
    /// Of what.
    pub consent: ConsentId,
    /// What.
    pub outcome: Outcome,
    /// In which words.
    pub comment: String,
    /// The etag that was read.
    pub etag: String,
    /// Her, whose key seals.
    pub subject: Vec<u8>,
    /// Seals.
    pub vault: Vault,
}

impl Command for ReviewGlass {
    type Answer = ();

    const NAME: &'static str = "consent.review_break_glass";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn is_essential(&self) -> bool {
        self.outcome == Outcome::Misuse
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
        Vault::reads(keys, &self.subject);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<ConsentRow>(self.consent.as_bytes());
        let mut row = policy::revocable(&self.caller, row)?;
        let mut glass = row
            .break_glass
            .clone()
            .ok_or_else(|| policy::unavailable(&self.caller))?;
        rows::check_etag(&self.etag, row.version)?;
        let word = if self.outcome == Outcome::Disputed {
            &mut glass.dispute
        } else {
            &mut glass.review
        };
        if word.is_some() {
            return Err(Refusal::new(Reason::ReviewDone).saying("this was said once already; read the consent for it"));
        }
        let comment = self.comment(view, &row)?;
        let is_gone = comment.is_none();
        *word = Some(WordRow {
            outcome: self.outcome.into(),
            by: self.caller.id(),
            at: view.now().0,
            comment: comment.unwrap_or_default(),
        });
        row.break_glass = Some(glass);
        row.touch(view.now());
        view.put(&row);
        let mut told = consent::draft("access.break_glass_reviewed", Action::Update, &self.caller, &row)?;
        told.payload().legal_basis = self.outcome.as_str_name().trim_start_matches("OUTCOME_").to_owned();
        let told = told.emit(view);
        let her = Some(row.subject()?);
        let recipients = Recipients::new().person(her.filter(|_| !is_gone));
        let recipients = recipients.operators().participant(&row.hiu);
        notify(
            view,
            told,
            Kind::BreakGlassReviewed,
            &self.consent.name(),
            &recipients,
            her,
        );
        if self.outcome == Outcome::Misuse {
            self.take_back(view, &mut row, &told.id.to_string())?;
        }
        Ok(())
    }
}

impl ReviewGlass {
    /// For what a comment is sealed.
    pub fn sealed_as(outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Disputed => "break glass dispute",
            _ => "break glass review",
        }
    }

    /// The comment, sealed; `None` once her account and its key are gone, for the review is due all the same.
    fn comment(&self, view: &mut View<'_>, row: &ConsentRow) -> Result<Option<Vec<u8>>, Refusal> {
        let key = match self.vault.key(view, &row.subject) {
            Err(gone) if gone.reason == Reason::NotAvailable => return Ok(None),
            key => key?,
        };
        let private = Private {
            text: self.comment.clone(),
            ..Private::default()
        };
        seal(&key, view, Self::sealed_as(self.outcome), &row.id, &private).map(Some)
    }

    fn take_back(&self, view: &mut View<'_>, row: &mut ConsentRow, cause: &str) -> Result<(), Refusal> {
        consent::catch_up(view, row)?;
        if row.state().after(Verb::Revoke).is_none() {
            return Ok(());
        }
        let at = view.now();
        row.revoked = at.0;
        let ending = Ending {
            state: State::Revoked,
            event: "consent.withdrawn",
            kind: Kind::ConsentRevoked,
            caller: &self.caller,
            at,
            legal_basis: "misuse of break-glass",
            cause,
        };
        consent::end(view, row, &ending)
    }
}
