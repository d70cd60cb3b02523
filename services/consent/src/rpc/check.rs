//! A check: the question answered from memory, after a confirmation that began when it arrived.

use std::collections::HashSet;
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::check_access_request::Consistency;
use sammati_kernel::{AccountId, Caller, ParticipantId, Reason, Refusal, Role, Slot};
use sammati_store::Revision;

use super::Core;
use crate::decision::{Asker, Facts, Granted, Verdict, decide, record};
use crate::directory::Directory;
use crate::lookup::ContextKey;
use crate::place::Place;
use crate::policy;
use crate::subject::{Held, Subject};
use crate::wire::Person;
use crate::wire::decision::{Asked, Target, parse, render};

/// How old the last confirmation may be for an answer that need not be newer than a revision.
const CONFIRMED: Duration = Duration::from_secs(5);

/// What a check found in memory.
struct Found {
    slot: Slot,
    subject: Option<AccountId>,
    linked: HashSet<ContextKey>,
    candidates: Vec<Held>,
}

impl Core {
    pub(super) async fn check(
        &self,
        caller: &Caller,
        message: &api::CheckAccessRequest,
    ) -> Result<api::Decision, Refusal> {
        let wanted = self.wanted(message.consistency.as_ref());
        let (mut asked, wanted) = Refusal::both(parse(message, caller), wanted)?;
        self.directory.fresh()?;
        self.confirm(wanted).await?;
        let found = self.look(caller, &mut asked).await?;
        let now = self.now();
        let facts = Remembered {
            directory: self.directory.as_ref(),
            linked: &found.linked,
        };
        let candidates: Vec<&Granted> = found.candidates.iter().map(|held| &held.granted).collect();
        let verdict = decide(&asked.question, &facts, &candidates, now);
        let by = verdict.by.map(|place| &found.candidates[place]);
        let mut decided = record::decided(&verdict, by.map(|held| &held.granted), now, self.directory.as_of());
        let revision = self.revision(found.slot);
        if !verdict.permits() {
            decided.id = self.note(caller, &asked, &found, by, &verdict, &revision).await?;
        }
        Ok(render(&decided, by, caller, revision))
    }

    /// How fresh the caller wants it: at least a revision, or, without one, everything that returned before the check
    /// began.
    fn wanted(&self, consistency: Option<&Consistency>) -> Result<Option<Revision>, Refusal> {
        match consistency {
            None | Some(Consistency::FullyConsistent(true)) => Ok(None),
            Some(Consistency::FullyConsistent(false)) => Err(Refusal::field("fully_consistent", "true, or left out")),
            Some(Consistency::AtLeast(text)) => Revision::open(self.store.key(), text)
                .map(Some)
                .ok_or_else(|| Refusal::field("at_least", "a revision from an earlier answer")),
        }
    }

    async fn confirm(&self, wanted: Option<Revision>) -> Result<(), Refusal> {
        let Some(wanted) = wanted else {
            return self.store.confirm().await;
        };
        let recent = self.now().since(self.store.confirmed_at()) <= CONFIRMED;
        if recent && self.store.has_applied(&wanted) {
            return Ok(());
        }
        self.store.confirm().await?;
        if self.store.has_applied(&wanted) {
            return Ok(());
        }
        // A revision of an epoch that is over names what may never have happened.
        let slot = Slot::new(u16::try_from(wanted.partition).unwrap_or_default());
        if self.store.head(slot).is_some_and(|head| head.epoch != wanted.epoch) {
            return Err(Refusal::new(Reason::PositionUnknown)
                .saying("the service was restored since this revision; ask without at_least, and keep the newer one"));
        }
        Err(Reason::StorageUnavailable.into())
    }

    async fn look(&self, caller: &Caller, asked: &mut Asked) -> Result<Found, Refusal> {
        match asked.target.clone() {
            Target::Consent(id) => {
                let Some(parties) = self.subjects.parties(id).await? else {
                    return nothing(caller, asked, id.slot());
                };
                if asked.question.asker == Asker::Person(parties.subject) || caller.account().is_none() {
                    self.hash(asked, parties.subject.as_bytes(), &parties.hip);
                    let subject = self.subjects.get(parties.subject).await?;
                    let candidates = self.subjects.consent(&subject, id).await?.into_iter().collect();
                    // A stranger's question concerns nobody: it learns nothing, and her log names her as tried.
                    return Ok(Found {
                        slot: id.slot(),
                        subject: Some(parties.subject),
                        linked: subject.linked.clone(),
                        candidates,
                    });
                }
                nothing(caller, asked, id.slot())
            }
            Target::Person(person) => {
                let account = match (&person, &asked.question.asker) {
                    // She proved who she is.
                    (Person::Account(her), Asker::Person(me)) if her == me => Some(*me),
                    _ => self.find(&person).await?,
                };
                let hers = matches!((&asked.question.asker, account), (Asker::Person(me), Some(her)) if *me == her);
                if caller.account().is_some() && !hers {
                    return Err(policy::unavailable(caller));
                }
                let Some(account) = account else {
                    return nothing(caller, asked, self.callers_slot(caller));
                };
                let (requester, provider) = parties(asked)?;
                self.hash(asked, account.as_bytes(), &provider);
                let pair = self.lookup.parties(account.as_bytes(), &provider, &requester);
                let subject = self.subjects.get(account).await?;
                let candidates = self.between(account, &subject, (provider, requester), pair).await?;
                Ok(Found {
                    slot: account.slot(),
                    subject: Some(account),
                    linked: subject.linked.clone(),
                    candidates,
                })
            }
        }
    }

    async fn between(
        &self,
        account: AccountId,
        subject: &Subject,
        parties: (ParticipantId, ParticipantId),
        pair: [u8; 32],
    ) -> Result<Vec<Held>, Refusal> {
        self.subjects.between(account, subject, &parties, pair).await
    }

    /// Hashes the care contexts of a question for the provider that holds them.
    pub(super) fn hash(&self, asked: &mut Asked, owner: &[u8], hip: &ParticipantId) {
        let keys = asked
            .references
            .iter()
            .map(|reference| self.lookup.context(owner, hip, reference));
        asked.question.care_contexts = keys.collect();
    }

    /// Where a question about nobody is recorded.
    pub(super) fn callers_slot(&self, caller: &Caller) -> Slot {
        caller.account().map_or_else(
            || Slot::of_participant(caller.id().trim_start_matches("participants/")),
            |account| account.slot(),
        )
    }

    /// The place of a question about nobody.
    pub(super) fn nobody(&self, caller: &Caller) -> Place {
        Place {
            slot: self.callers_slot(caller),
            owner: Vec::new(),
            subject: None,
        }
    }

    /// Records a denial behind the answer, equal ones of a minute as one; tells the id of its event.
    async fn note(
        &self,
        caller: &Caller,
        asked: &Asked,
        found: &Found,
        by: Option<&Held>,
        verdict: &Verdict,
        revision: &str,
    ) -> Result<String, Refusal> {
        let kind = (caller.id(), asked.target.text(), verdict.reason.into());
        let by = by.map(|held| &held.granted);
        let (id, full) = self.denials.note(kind, found.slot, self.now(), |id| {
            let mut draft = record::draft(caller, &asked.question, found.subject, by, verdict);
            draft.payload().decision = Some(record::record(id, revision, verdict.rule, &asked.question));
            draft
        })?;
        if full {
            self.denials.flush(&self.store, true).await;
        }
        Ok(id)
    }
}

/// No such consent, or nobody: a denial to participants and services; a person may only ask about herself.
fn nothing(caller: &Caller, asked: &mut Asked, slot: Slot) -> Result<Found, Refusal> {
    if caller.account().is_some() {
        return Err(policy::unavailable(caller));
    }
    asked.question.care_contexts.clear();
    Ok(Found {
        slot,
        subject: None,
        linked: HashSet::new(),
        candidates: Vec::new(),
    })
}

/// Requester and provider, which a question about a person names.
pub(super) fn parties(asked: &Asked) -> Result<(ParticipantId, ParticipantId), Refusal> {
    let named = asked.question.requester.clone().zip(asked.question.provider.clone());
    named.ok_or_else(|| Reason::FieldInvalid.into())
}

/// Facts of identity and of the subject, all from memory.
struct Remembered<'a> {
    directory: &'a dyn Directory,
    linked: &'a HashSet<ContextKey>,
}

impl Facts for Remembered<'_> {
    fn is_active_as(&self, id: &ParticipantId, role: Role) -> bool {
        self.directory.is_active_as(id, role)
    }

    fn is_active(&self, account: AccountId) -> bool {
        self.directory.is_active(account)
    }

    fn is_linked(&self, key: &ContextKey) -> bool {
        self.linked.contains(key)
    }
}
