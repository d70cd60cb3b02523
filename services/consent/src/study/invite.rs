//! A node asks its patients: the call is fixed where the node lives, and each of them is asked where she lives.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::invitation::Outcome;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::NoticeRef;
use sammati_kernel::{AccountId, Caller, ConsentRequestId, Micros, ParticipantId, PurposeCode, Refusal, Slot};
use sammati_store::{Command, Error, Keys, Reader, View};

use super::known::Known;
use super::{ASK_AGAIN, RunId};
use crate::directory::Directory;
use crate::lookup::Lookup;
use crate::notification::{Recipients, notify};
use crate::request::create::WINDOW;
use crate::request::{State, draft};
use crate::rows::{LinkRow, PolicyRow, RequestRow, StudyAskRow, account};
use crate::standing::Block;
use crate::vault::{Private, Vault, seal};

/// Fixes the call, so that a repeat asks nobody twice.
pub struct BeginInvite {
    /// The node.
    pub node: ParticipantId,
}

impl Command for BeginInvite {
    type Answer = Vec<u8>;

    const NAME: &'static str = "study.invite";

    fn slot(&self) -> Slot {
        Slot::of_participant(self.node.as_str())
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<Vec<u8>, Refusal> {
        let call: RunId = view.id("invitations");
        Ok(call.to_vec())
    }

    fn outcome(&self, call: &Vec<u8>) -> Vec<u8> {
        call.clone()
    }
}

/// Whom a provider keeps under each of its references. Where that is not one person, nobody.
///
/// # Errors
/// When the database fails.
pub fn patients(reader: &mut Reader<'_>, references: &[[u8; 32]]) -> Result<Vec<Option<AccountId>>, Error> {
    let mut found = Vec::with_capacity(references.len());
    for reference in references {
        let links = reader.page::<LinkRow>("reference", reference, None, 2)?;
        let mut subjects: Vec<_> = links.iter().map(|link| &link.record.subject).collect();
        subjects.dedup();
        found.push(match subjects.as_slice() {
            [only] => account(only),
            _ => None,
        });
    }
    Ok(found)
}

/// Asks one person. Harmless when repeated.
pub struct Invite {
    /// Who asks.
    pub caller: Caller,
    /// The same.
    pub node: ParticipantId,
    /// For which study.
    pub known: Arc<Known>,
    /// Whom.
    pub account: AccountId,
    /// As whom the study will know her.
    pub pseudonym: String,
    /// As whom the node does.
    pub reference: String,
    /// The call.
    pub call: Vec<u8>,
    /// In the language that was asked for.
    pub notice: NoticeRef,
    /// Facts of identity.
    pub directory: Arc<dyn Directory>,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

impl Command for Invite {
    type Answer = Outcome;

    const NAME: &'static str = "study.ask";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<StudyAskRow>(self.key());
        keys.group::<PolicyRow>("enabled", self.account.to_vec());
        Vault::reads(keys, self.account.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Outcome, Refusal> {
        self.directory.fresh()?;
        let (now, reference) = (view.now(), self.lookup.patient(&self.node, &self.reference).to_vec());
        if let Some(before) = view.get::<StudyAskRow>(&self.key()) {
            if before.call == self.call && before.reference == reference {
                return Ok(Outcome::Accepted);
            }
            if now < Micros(before.asked).plus(ASK_AGAIN) {
                return Ok(Outcome::AskedBefore);
            }
        }
        let over = self.known.active(now).is_err();
        if over || !self.directory.is_active(self.account) || self.is_denied(view)? {
            return Ok(Outcome::Unavailable);
        }
        view.put(&StudyAskRow {
            key: self.key(),
            asked: now.0,
            call: self.call.clone(),
            reference,
        });
        self.ask(view)?;
        Ok(Outcome::Accepted)
    }
}

impl Invite {
    fn key(&self) -> Vec<u8> {
        self.lookup.asked(self.known.id, &self.node, self.account).to_vec()
    }

    fn is_denied(&self, view: &View<'_>) -> Result<bool, Refusal> {
        let blocks = Block::all(&view.group::<PolicyRow>("enabled", self.account.as_bytes()))?;
        let sponsor = crate::rows::participant(&self.known.row.sponsor)?;
        let nodes = std::slice::from_ref(&self.node);
        let mut blocks = blocks.iter();
        Ok(blocks.any(|block| block.denies(&sponsor, nodes, PurposeCode::Dsrch)))
    }

    /// As CreateConsentRequest does, but that nothing names her address and no policy grants it.
    fn ask(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let (id, now, study) = (view.id("consent request"), view.now(), &self.known.row);
        let id: ConsentRequestId = id;
        let key = self.vault.key(view, self.account.as_bytes())?;
        let private = Private {
            patient: self.pseudonym.clone(),
            care_contexts: Vec::new(),
            text: self.reference.clone(),
        };
        let row = RequestRow {
            id: id.to_vec(),
            owner: self.account.to_vec(),
            known: true,
            hiu: study.sponsor.clone(),
            hips: vec![self.node.as_str().to_owned()],
            requester: study.investigator.clone(),
            scope: study.scope.clone(),
            notice: self.notice.clone(),
            expire: now.plus(WINDOW).0.min(study.ethics.until),
            state: State::Requested.number(),
            created: now.0,
            updated: now.0,
            version: 1,
            sealed: seal(&key, view, "request", id.as_bytes(), &private)?,
            pair: self.key(),
            study: study.id.clone(),
            ..RequestRow::default()
        };
        view.put(&row);
        let asked = draft("consent.requested", Action::Create, &self.caller, &row)?;
        let told = asked.participant(&self.node).emit(view);
        let mut bound = draft("consent.notice_bound", Action::Update, &self.caller, &row)?;
        bound.payload().notice = Some(self.notice.clone());
        bound.emit(view);
        let (her, name) = (Some(self.account), id.name());
        notify(
            view,
            told,
            Kind::ConsentRequested,
            &name,
            &Recipients::new().person(her),
            her,
        );
        Ok(())
    }
}
