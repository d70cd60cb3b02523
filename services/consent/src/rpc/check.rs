//! A check: the question answered from memory, after a confirmation that began when it arrived.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_kernel::{AccountId, Caller, Micros, ParticipantId, Reason, Refusal, Role, Slot, StudyId};
use sammati_store::Revision;

use super::Core;
use crate::artefact::canonical;
use crate::decision::{Asker, Facts, Granted, Verdict, decide, record, reduce, signed};
use crate::directory::Directory;
use crate::lookup::ContextKey;
use crate::place::Place;
use crate::policy;
use crate::standing::Block;
use crate::study::known::ActiveUntil;
use crate::subject::{Held, Subject};
use crate::wire::Person;
use crate::wire::decision::{Asked, Consistency, Target, parse, render, wanted};

/// How old the last confirmation may be for an answer that need not be newer than a revision.
const CONFIRMED: Duration = Duration::from_secs(5);

/// What the checks of one call have seen: each person once, so that all that is asked about her rests on one state.
#[derive(Default)]
pub(super) struct Seen {
    /// Where a partition stood in this process before anything in it was looked at.
    revisions: BTreeMap<i64, String>,
    subjects: BTreeMap<AccountId, Arc<Subject>>,
    persons: BTreeMap<String, Option<AccountId>>,
}

/// What a check found in memory.
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) subject: Option<AccountId>,
    pub(super) hers: Option<Arc<Subject>>,
    pub(super) candidates: Vec<Arc<Held>>,
    pub(super) revision: String,
    /// Until when the studies are active that these were given to.
    pub(super) studies: ActiveUntil,
}

impl Core {
    pub(super) async fn check(
        &self,
        caller: &Caller,
        message: &api::CheckAccessRequest,
    ) -> Result<api::Decision, Refusal> {
        let wanted = wanted(self.store.key(), message.consistency.as_ref().map(Consistency::from));
        let (asked, wanted) = Refusal::both(parse(message, caller), wanted)?;
        self.directory.fresh()?;
        self.confirm(wanted).await?;
        self.answer(caller, asked, &mut Seen::default()).await
    }

    /// Answers one question from memory, which is confirmed.
    pub(super) async fn answer(
        &self,
        caller: &Caller,
        mut asked: Asked,
        seen: &mut Seen,
    ) -> Result<api::Decision, Refusal> {
        let mut found = self.look(caller, &mut asked, seen).await?;
        self.studied(&mut found).await?;
        let now = self.now();
        let facts = self.remembered(&found);
        let candidates: Vec<&Granted> = found.candidates.iter().map(|held| &held.granted).collect();
        let verdict = decide(&asked.question, &facts, &candidates, now);
        let by = verdict.by.map(|place| found.candidates[place].as_ref());
        let granted = by.map(|held| &held.granted);
        let reduced = granted.filter(|_| verdict.is_reduced());
        let reduced = reduced.map(|granted| reduce::permitted(&asked.question, &facts, granted));
        let mut decided = record::decided(&verdict, granted, now, self.directory.as_of());
        if let Some(reduced) = reduced {
            decided.reduce(&reduced);
        }
        if !verdict.permits() {
            decided.id = self.note(caller, &asked, &found, by, &verdict).await?;
        }
        let part = self.part(&decided, by, &asked);
        // Where she is, whose answer rests on none of her consents, is not told: nobody is at the asker's.
        let hidden = by.is_none() && matches!(asked.target, Target::Person(_));
        let revision = if hidden {
            self.seen_at(seen, self.callers_slot(caller))
        } else {
            found.revision
        };
        let decision = render(&decided, by, part, caller, revision);
        self.sign(decision, &decided, by, &asked)
    }

    /// Signs a permit, if that is asked for.
    pub(super) fn sign(
        &self,
        mut decision: api::Decision,
        decided: &record::Decided,
        held: Option<&Held>,
        asked: &Asked,
    ) -> Result<api::Decision, Refusal> {
        if asked.signed
            && decision.outcome() == api::decision::Outcome::Permit
            && let Some(held) = held
        {
            let claims = signed::claims(&self.manager, &decision, decided, held, asked)?;
            let key = self.keys.active();
            let input = key.signing_input(signed::TYP, canonical(&claims).as_bytes());
            decision.jws = key.sign_input(&input);
        }
        Ok(decision)
    }

    pub(super) fn remembered<'a>(&'a self, found: &'a Found) -> Remembered<'a> {
        Remembered {
            directory: self.directory.as_ref(),
            linked: found.hers.as_ref().map(|subject| &subject.linked),
            blocks: found.hers.as_ref().map_or(&[][..], |subject| subject.blocks.as_slice()),
            studies: &found.studies,
        }
    }

    /// Looks up the studies that what was found was given to.
    pub(super) async fn studied(&self, found: &mut Found) -> Result<(), Refusal> {
        let studies = found.candidates.iter().filter_map(|held| held.granted.study);
        let studies: Vec<_> = studies.collect();
        found.studies = self.studies.active_until(studies).await?;
        Ok(())
    }

    pub(super) async fn confirm(&self, wanted: Option<Revision>) -> Result<(), Refusal> {
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

    pub(super) async fn look(&self, caller: &Caller, asked: &mut Asked, seen: &mut Seen) -> Result<Found, Refusal> {
        match asked.target.clone() {
            Target::Consent(id) => {
                let revision = self.seen_at(seen, id.slot());
                let Some(parties) = self.subjects.parties(id).await? else {
                    return nothing(caller, asked, id.slot(), revision);
                };
                if asked.question.asker == Asker::Person(parties.subject) || caller.account().is_none() {
                    self.hash(asked, parties.subject.as_bytes(), &parties.hip);
                    let subject = self.her(seen, parties.subject).await?;
                    let candidates = self.subjects.consent(&subject, id).await?.into_iter().collect();
                    // A stranger's question concerns nobody: it learns nothing, and her log names her as tried.
                    return Ok(Found {
                        slot: id.slot(),
                        subject: Some(parties.subject),
                        hers: Some(subject),
                        candidates,
                        revision,
                        studies: ActiveUntil::new(),
                    });
                }
                nothing(caller, asked, id.slot(), revision)
            }
            Target::Person(person) => {
                let account = self.meant(&person, asked, seen).await?;
                let hers = matches!((&asked.question.asker, account), (Asker::Person(me), Some(her)) if *me == her);
                if caller.account().is_some() && !hers {
                    return Err(policy::unavailable(caller));
                }
                let Some(account) = account else {
                    let slot = self.callers_slot(caller);
                    let revision = self.seen_at(seen, slot);
                    return nothing(caller, asked, slot, revision);
                };
                let (requester, provider) = parties(asked)?;
                self.hash(asked, account.as_bytes(), &provider);
                let pair = self.lookup.parties(account.as_bytes(), &provider, &requester);
                let revision = self.seen_at(seen, account.slot());
                let subject = self.her(seen, account).await?;
                let between = (provider, requester);
                let candidates = self.subjects.between(account, &subject, &between, pair).await?;
                Ok(Found {
                    slot: account.slot(),
                    subject: Some(account),
                    hers: Some(subject),
                    candidates,
                    revision,
                    studies: ActiveUntil::new(),
                })
            }
        }
    }

    /// Whom a question means. She proved who she is; anybody else is looked up, once a call.
    async fn meant(&self, person: &Person, asked: &Asked, seen: &mut Seen) -> Result<Option<AccountId>, Refusal> {
        if let (Person::Account(her), Asker::Person(me)) = (person, &asked.question.asker)
            && her == me
        {
            return Ok(Some(*me));
        }
        if let Some(known) = seen.persons.get(&person.text()) {
            return Ok(*known);
        }
        let found = self.find(person).await?;
        seen.persons.insert(person.text(), found);
        Ok(found)
    }

    /// The revision that a call's answers about a slot rest on: taken before the first of them looks.
    fn seen_at(&self, seen: &mut Seen, slot: Slot) -> String {
        let partition = self.store.partitions().of(slot);
        let revision = seen.revisions.entry(partition);
        revision.or_insert_with(|| self.revision(slot)).clone()
    }

    async fn her(&self, seen: &mut Seen, account: AccountId) -> Result<Arc<Subject>, Refusal> {
        if let Some(subject) = seen.subjects.get(&account) {
            return Ok(Arc::clone(subject));
        }
        let subject = self.subjects.get(account).await?;
        seen.subjects.insert(account, Arc::clone(&subject));
        Ok(subject)
    }

    /// Hashes the care contexts of a question for the provider that holds them.
    pub(super) fn hash(&self, asked: &mut Asked, owner: &[u8], hip: &ParticipantId) {
        let keys = asked
            .references
            .iter()
            .map(|reference| self.lookup.context(owner, hip, reference));
        asked.question.care_contexts = keys.collect();
    }

    /// What a reduced permit leaves, in the words of the question.
    pub(super) fn part(
        &self,
        decided: &record::Decided,
        held: Option<&Held>,
        asked: &Asked,
    ) -> Option<api::decision::Part> {
        let granted = &held.filter(|_| decided.is_reduced())?.granted;
        let is_left = |reference: &&String| {
            let key = self.lookup.context(granted.subject.as_bytes(), &granted.hip, reference);
            decided.contexts.iter().any(|left| *left == key)
        };
        let left = asked.references.iter().filter(is_left);
        Some(api::decision::Part {
            hi_types: decided.hi_types.clone(),
            record_range: Some(crate::wire::interval(decided.from, decided.to)),
            care_contexts: left.cloned().collect(),
        })
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
    ) -> Result<String, Refusal> {
        let kind = (caller.id(), asked.target.text(), verdict.reason.into());
        let by = by.map(|held| &held.granted);
        let (id, full) = self.denials.note(kind, found.slot, self.now(), |id| {
            let mut draft = record::draft(caller, &asked.question, found.subject, by, verdict);
            let decision = record::record(id, &found.revision, verdict.rule, &asked.question);
            draft.payload().decision = Some(decision);
            draft
        })?;
        if full {
            self.denials.flush(&self.store, true).await;
        }
        Ok(id)
    }
}

/// No such consent, or nobody: a denial to participants and services; a person may only ask about herself.
fn nothing(caller: &Caller, asked: &mut Asked, slot: Slot, revision: String) -> Result<Found, Refusal> {
    if caller.account().is_some() {
        return Err(policy::unavailable(caller));
    }
    asked.question.care_contexts.clear();
    Ok(Found {
        slot,
        subject: None,
        hers: None,
        candidates: Vec::new(),
        revision,
        studies: ActiveUntil::new(),
    })
}

/// Requester and provider, which a question about a person names.
pub(super) fn parties(asked: &Asked) -> Result<(ParticipantId, ParticipantId), Refusal> {
    let named = asked.question.requester.clone().zip(asked.question.provider.clone());
    named.ok_or_else(|| Reason::FieldInvalid.into())
}

/// Facts of identity and of the subject, all from memory.
pub(super) struct Remembered<'a> {
    directory: &'a dyn Directory,
    linked: Option<&'a HashSet<ContextKey>>,
    blocks: &'a [Block],
    studies: &'a ActiveUntil,
}

impl Facts for Remembered<'_> {
    fn is_active_as(&self, id: &ParticipantId, role: Role) -> bool {
        self.directory.is_active_as(id, role)
    }

    fn is_active(&self, account: AccountId) -> bool {
        self.directory.is_active(account)
    }

    fn is_linked(&self, key: &ContextKey) -> bool {
        self.linked.is_some_and(|linked| linked.contains(key))
    }

    fn blocks(&self) -> &[Block] {
        self.blocks
    }

    fn active_until(&self, study: StudyId) -> Option<Micros> {
        self.studies.get(&study).copied()
    }
}
