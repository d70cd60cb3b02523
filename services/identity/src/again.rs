//! After a restore: what ended stays ended, and what was given away for ever is given to nobody else.
//!
//! Sessions end again, those too whose refresh was lost: the token that was spent for it would be good again. Passwords
//! that were replaced are removed. Participants that were suspended are suspended. Numbers, addresses and assertions that
//! were used are claimed by nobody. What only keeps a person from having two accounts (her reference at the e-KYC agency,
//! her mobile) is free again: her account is lost, and she enrols anew.

use std::collections::BTreeMap;

use sammati_api::audit::v1::event::Action;
use sammati_api::audit::v1::{Leaf, Payload};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Micros, ParticipantId, Reason, Refusal, RepresentationId, SessionId, Slot};
use sammati_server::Again;
use sammati_server::event::{Draft, micros, system};
use sammati_store::{ClaimKey, Command, Keys, Store, View};

use crate::participant::{Change, What};
use crate::representation::{Lost, Move, Verb};
use crate::rows::{AccountRow, Credential, ParticipantRow, SessionRow};
use crate::{account, session};

/// Does again what the log proves.
///
/// # Errors
/// When storage fails.
pub(crate) async fn again(again: Again) -> Result<Vec<String>, Refusal> {
    let (store, mut lines, mut kept) = (&again.store, Vec::new(), 0);
    // What a participant was last: suspended at that time, or active.
    let mut last: BTreeMap<String, Option<(Micros, String)>> = BTreeMap::new();
    for (header, payload) in again.events() {
        kept += keep(store, header, payload).await?;
        let (name, at) = (payload.resource.clone(), time(header));
        match header.event_type.as_str() {
            "identity.session_revoked" | "identity.session_reuse_detected" | "identity.session_refreshed" => {
                let done = end(store, header, &name).await?;
                lines.extend(done.then(|| format!("{name} was ended or refreshed, and is ended")));
            }
            "identity.credential_set" => {
                let pin = payload
                    .changed_fields
                    .iter()
                    .any(|field| field == Credential::Pin.as_str());
                let credential = if pin { Credential::Pin } else { Credential::Password };
                let done = forget(store, header, &name, credential).await?;
                let what = credential.as_str();
                let line = || format!("{name} was given another {what}, and has none until it is set again");
                lines.extend(done.then(line));
            }
            "identity.deleted" => {
                let done = delete(store, header, &name).await?;
                lines.extend(done.then(|| format!("{name} was deleted, and is so again")));
            }
            "identity.representation_ended" => {
                let done = end_representation(store, header, payload, &name).await?;
                lines.extend(done.then(|| format!("{name} was ended, and is so again")));
            }
            "identity.representation_proposed"
            | "identity.representation_accepted"
            | "identity.representation_activated" => lines.push(format!(
                "{name} was proposed, accepted or activated, and is as it was BEFORE: do it again"
            )),
            "identity.participant_suspended" => drop(last.insert(name, Some((at, payload.legal_basis.clone())))),
            "identity.participant_activated" => drop(last.insert(name, None)),
            "identity.participant_updated" => lines.push(format!(
                "{name} was changed ({}), and is as it was BEFORE: change it again, keys first",
                payload.changed_fields.join(", ")
            )),
            "identity.participant_created" => {
                lines.push(format!("{name} was registered, and is not: register it again"))
            }
            "identity.enrolled" => lines.push(format!(
                "{name} was enrolled, and is not: she enrols again, with another number"
            )),
            _ => {}
        }
    }
    for (name, suspended) in last {
        let Some((at, reason)) = suspended else { continue };
        if suspend(store, &name, at, reason).await? {
            lines.push(format!("{name} was suspended, and is so again"));
        }
    }
    if kept > 0 {
        lines.push(format!(
            "{kept} numbers, addresses and assertions that were given away stay taken"
        ));
    }
    Ok(lines)
}

fn time(header: &Leaf) -> Micros {
    header.occurred_time.as_ref().and_then(micros).unwrap_or_default()
}

async fn keep(store: &Store, header: &Leaf, payload: &Payload) -> Result<usize, Refusal> {
    let claims: Vec<ClaimKey> = payload
        .claims
        .iter()
        .filter_map(|key| key.as_slice().try_into().ok())
        .collect();
    let lost = header.event_id.clone();
    match claims.first() {
        Some(_) => store.apply(KeepClaims { claims, lost }).await,
        None => Ok(0),
    }
}

async fn end(store: &Store, header: &Leaf, name: &str) -> Result<bool, Refusal> {
    let lost = header.event_id.clone();
    match SessionId::parse_name(name) {
        Some(session) => store.apply(EndAgain { session, lost }).await,
        None => Ok(false),
    }
}

async fn forget(store: &Store, header: &Leaf, name: &str, credential: Credential) -> Result<bool, Refusal> {
    let (at, lost) = (time(header), header.event_id.clone());
    match AccountId::parse_name(name) {
        Some(account) => {
            let forget = Forget {
                account,
                credential,
                at,
                lost,
            };
            store.apply(forget).await
        }
        None => Ok(false),
    }
}

/// Deletes an account that was deleted; the time of grace is counted from then. Tells whether there was anything to do.
async fn delete(store: &Store, header: &Leaf, name: &str) -> Result<bool, Refusal> {
    let Some(account) = AccountId::parse_name(name) else {
        return Ok(false);
    };
    let delete = account::Delete {
        caller: system("identity"),
        account,
        etag: String::new(),
        legal_basis: String::new(),
        again: Some((header.event_id.clone(), time(header))),
    };
    match store.apply(delete).await {
        Ok(_) => Ok(true),
        // Its enrolment is lost too, or it is deleted.
        Err(refusal)
            if matches!(
                refusal.reason,
                Reason::NotAvailable | Reason::NotFound | Reason::StateConflict
            ) =>
        {
            Ok(false)
        }
        Err(refusal) => Err(refusal),
    }
}

async fn end_representation(store: &Store, header: &Leaf, payload: &Payload, name: &str) -> Result<bool, Refusal> {
    let Some(id) = RepresentationId::parse_name(name) else {
        return Ok(false);
    };
    let again = Move {
        caller: system("identity"),
        id,
        etag: String::new(),
        verb: Verb::End,
        evidence: None,
        cause: Some(Lost {
            event_id: header.event_id.clone(),
            actor: payload.actor.clone(),
            caused: !header.causation_event_id.is_empty(),
            at: time(header),
        }),
    };
    match store.apply(again).await {
        Ok(_) => Ok(true),
        // It has ended, or was never there: there is nothing to take away.
        Err(refusal) if matches!(refusal.reason, Reason::StateConflict | Reason::NotAvailable) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Suspends a participant that was suspended at `at` and not changed since.
async fn suspend(store: &Store, name: &str, at: Micros, reason: String) -> Result<bool, Refusal> {
    let Ok(id) = ParticipantId::parse_name(name) else {
        return Ok(false);
    };
    let key = id.as_str().as_bytes().to_vec();
    let slot = Slot::of_participant(id.as_str());
    let row = store.read(move |r| r.get::<ParticipantRow>(slot, &key)).await?;
    if row.is_none_or(|row| row.record.update_time > at.0) {
        return Ok(false);
    }
    let change = Change {
        caller: system("identity"),
        id,
        etag: String::new(),
        what: What::Suspend(reason),
    };
    let holder = change.id.name();
    match store.apply(change).await {
        Ok(()) => {
            session::end_all(store, &system("identity"), slot, holder).await?;
            Ok(true)
        }
        // It is not active: there is nothing to take away.
        Err(refusal) if refusal.reason == Reason::StateConflict => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Claims for nobody what nobody may have again. Tells how many.
#[derive(Debug)]
struct KeepClaims {
    claims: Vec<ClaimKey>,
    /// The event that tells of it.
    lost: String,
}

impl Command for KeepClaims {
    type Answer = usize;
    const NAME: &'static str = "identity.keep_claims";

    fn slot(&self) -> Slot {
        self.claims.first().map_or(Slot::new(0), Slot::of_hash)
    }

    fn reads(&self, keys: &mut Keys) {
        self.claims.iter().for_each(|claim| keys.claim(*claim));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<usize, Refusal> {
        let mut kept = Vec::new();
        for claim in &self.claims {
            if view.claimed(claim).is_none() {
                view.claim(*claim, Vec::new());
                kept.push(*claim);
            }
        }
        if !kept.is_empty() {
            let class = RetentionClass::General;
            Draft::new("identity.claims_kept", Action::Create, class, &system("identity"))
                .because_of(&self.lost)
                .claims(kept.iter().map(|claim| claim.to_vec()))
                .emit(view);
        }
        Ok(kept.len())
    }
}

/// Ends a session. Tells whether it was live.
#[derive(Debug)]
struct EndAgain {
    session: SessionId,
    lost: String,
}

impl Command for EndAgain {
    type Answer = bool;
    const NAME: &'static str = "identity.end_again";

    fn slot(&self) -> Slot {
        self.session.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<SessionRow>(self.session.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let row = view.get::<SessionRow>(self.session.as_bytes());
        let Some(mut row) = row.filter(|row| row.is_live(view.now())) else {
            return Ok(false);
        };
        session::end_because(
            &mut row,
            "identity.session_revoked",
            &system("identity"),
            &self.lost,
            view,
        );
        Ok(true)
    }
}

/// Removes a password or PIN that was replaced or removed at `at`. Tells whether there was one.
#[derive(Debug)]
struct Forget {
    account: AccountId,
    credential: Credential,
    at: Micros,
    lost: String,
}

impl Command for Forget {
    type Answer = bool;
    const NAME: &'static str = "identity.forget_credential";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.account.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let row = view.get::<AccountRow>(self.account.as_bytes());
        // One that she set since is her later wish.
        let one = self.credential;
        let old = row.filter(|row| !row.hash_of(one).is_empty() && row.set_time(one) < self.at.0);
        let Some(mut row) = old else { return Ok(false) };
        row.set_credential(one, &[], (&[], self.at), view.now());
        row.touch(view.now());
        view.put(&row);
        let told = account::told("identity.credential_set", Action::Update, &row, &system("identity"));
        let mut told = told.because_of(&self.lost);
        told.payload().changed_fields.push(one.as_str().to_owned());
        told.emit(view);
        Ok(true)
    }
}
