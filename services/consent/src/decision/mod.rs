//! May this happen, now? One pure function over ordered rules; whoever asks, by whatever method, gets its answer.

pub mod authorize;
pub mod denials;
pub mod question;
pub mod record;
pub mod uses;

use std::time::Duration;

use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::{AccessMode, AccountId, ConsentId, Micros, ParticipantId, PurposeCode, Refusal, Role};

pub use question::{Asker, Question};

use crate::consent::State;
use crate::lookup::ContextKey;
use crate::rows::ConsentRow;
use crate::scope::Scope;
use uses::{Left, Uses};

/// How long a permit may be relied on before it is asked again.
pub const RECHECK: Duration = Duration::from_secs(60);

/// A consent as the rules see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// Its id.
    pub id: ConsentId,
    /// The person.
    pub subject: AccountId,
    /// Who gives.
    pub hip: ParticipantId,
    /// Who receives.
    pub hiu: ParticipantId,
    /// What is granted.
    pub scope: Scope,
    /// The version of the grant.
    pub version: i32,
    /// As written; the clock may have gone on.
    pub state: State,
    /// When it was granted.
    pub granted: Micros,
    /// From when on it permits nothing.
    pub expire: Micros,
    /// While paused: from when on it is in force again.
    pub resume: Option<Micros>,
    /// What took its place.
    pub successor: Option<ConsentId>,
    /// Whether the HIP has acknowledged.
    pub acknowledged: bool,
    /// Uses so far.
    pub uses: Uses,
    /// The professional's registration: type, value, system.
    pub user: [String; 3],
}

impl TryFrom<&ConsentRow> for Granted {
    type Error = Refusal;

    fn try_from(row: &ConsentRow) -> Result<Self, Refusal> {
        let (hip, hiu) = row.parties()?;
        let user = row.requester.identifier.clone().unwrap_or_default();
        Ok(Self {
            id: row.id()?,
            subject: row.subject()?,
            hip,
            hiu,
            scope: row.scope.read()?,
            version: row.grant_version,
            state: row.state(),
            granted: Micros(row.granted),
            expire: Micros(row.expire),
            resume: row.resumes().then_some(Micros(row.resume)),
            successor: ConsentId::from_slice(&row.successor),
            acknowledged: row.hip_acknowledged != 0,
            uses: Uses::of(row),
            user: [user.r#type, user.value, user.system],
        })
    }
}

impl Granted {
    /// Whether this participant is named in it.
    pub fn is_party(&self, id: &ParticipantId) -> bool {
        *id == self.hip || *id == self.hiu
    }

    /// Whether it is paused at `now`.
    pub fn is_paused(&self, now: Micros) -> bool {
        self.state == State::Paused && self.resume.is_none_or(|at| now < at)
    }

    /// What uses are left at `now`.
    pub fn left(&self, now: Micros) -> Left {
        self.uses.left(&self.scope, self.granted, now)
    }

    fn is_limited(&self) -> bool {
        self.scope.max_uses > 0 || self.scope.frequency.is_limit()
    }
}

/// What the rules ask of the world, all of it in memory.
pub trait Facts {
    /// Whether a participant is active in this role.
    fn is_active_as(&self, id: &ParticipantId, role: Role) -> bool;
    /// Whether an account is ACTIVE.
    fn is_active(&self, account: AccountId) -> bool;
    /// Whether a care context is linked.
    fn is_linked(&self, key: &ContextKey) -> bool;
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// GRANTED, or why not.
    pub reason: Reason,
    /// The rule that failed; 0: none.
    pub rule: i32,
    /// The consent that decided: its place among the candidates.
    pub by: Option<usize>,
    /// When to ask again, if that is known.
    pub retry: Option<Micros>,
}

impl Verdict {
    /// Whether it may happen.
    pub fn permits(&self) -> bool {
        self.reason == Reason::Granted
    }

    const fn denied(rule: i32, reason: Reason) -> Self {
        Self {
            reason,
            rule,
            by: None,
            retry: None,
        }
    }
}

/// Decides. `candidates` are the consent that was named, or all of one person between one requester and one provider;
/// two are never added up.
pub fn decide(question: &Question, facts: &impl Facts, candidates: &[&Granted], now: Micros) -> Verdict {
    // A stranger learns nothing of a consent, not even by which rule fails.
    let mut order: Vec<usize> = (0..candidates.len())
        .filter(|i| question.may_know(candidates[*i]))
        .collect();
    if question
        .requester
        .as_ref()
        .is_some_and(|id| !may_ask(facts, id, question.purpose))
    {
        return Verdict::denied(2, Reason::RequesterNotActive);
    }
    if question
        .provider
        .as_ref()
        .is_some_and(|id| !facts.is_active_as(id, Role::Hip))
    {
        return Verdict::denied(3, Reason::ProviderNotActive);
    }
    // Not limited in uses first, then the one that lives longest, then the elder.
    order.sort_by_key(|i| {
        (
            candidates[*i].is_limited(),
            std::cmp::Reverse(candidates[*i].expire),
            candidates[*i].id,
        )
    });
    let mut furthest = Verdict::denied(4, Reason::NoConsent);
    for place in order {
        let judged = judge(question, facts, candidates[place], now);
        let verdict = match judged {
            Ok(()) => Verdict {
                reason: Reason::Granted,
                rule: 0,
                by: Some(place),
                retry: None,
            },
            Err((rule, reason)) => Verdict {
                by: Some(place),
                retry: retry(reason, candidates[place], now),
                ..Verdict::denied(rule, reason)
            },
        };
        if verdict.permits() {
            return verdict;
        }
        if furthest.by.is_none() || verdict.rule > furthest.rule {
            furthest = verdict;
        }
    }
    furthest
}

/// The rules for one consent, in order; the first that fails.
fn judge(question: &Question, facts: &impl Facts, consent: &Granted, now: Micros) -> Result<(), (i32, Reason)> {
    parties(question, facts, consent)?;
    state(facts, consent, now)?;
    scope(question, facts, consent)?;
    let bound = consent.scope.bind_requester && question.user.as_ref() != Some(&consent.user);
    rule(18, !bound, Reason::UserMismatch)?;
    // A HIP that asks has thereby acknowledged.
    let asks_to_receive = question.asker.is(&consent.hiu) && !question.asker.is(&consent.hip);
    rule(
        19,
        !asks_to_receive || consent.acknowledged,
        Reason::ProviderNotAcknowledged,
    )?;
    let left = consent.left(now);
    rule(20, question.has_use || left.total != Some(0), Reason::UseLimitReached)?;
    rule(
        21,
        question.has_use || left.window_left != Some(0),
        Reason::FrequencyExceeded,
    )
}

fn parties(question: &Question, facts: &impl Facts, consent: &Granted) -> Result<(), (i32, Reason)> {
    // What the question leaves open is what the consent says; what it names was looked at before any consent was.
    let named = question.requester.is_some() && question.purpose.is_some();
    let requester = question.requester.as_ref().unwrap_or(&consent.hiu);
    let purpose = question.purpose.unwrap_or(consent.scope.purpose);
    rule(
        2,
        named || may_ask(facts, requester, Some(purpose)),
        Reason::RequesterNotActive,
    )?;
    rule(
        3,
        question.provider.is_some() || facts.is_active_as(&consent.hip, Role::Hip),
        Reason::ProviderNotActive,
    )?;
    rule(
        5,
        question.requester.as_ref().is_none_or(|id| *id == consent.hiu),
        Reason::RequesterMismatch,
    )?;
    rule(
        5,
        question.provider.as_ref().is_none_or(|id| *id == consent.hip),
        Reason::ProviderMismatch,
    )
}

/// Rules 7 and 12 keep their numbers: nothing can block or study yet.
fn state(facts: &impl Facts, consent: &Granted, now: Micros) -> Result<(), (i32, Reason)> {
    rule(6, facts.is_active(consent.subject), Reason::SubjectInactive)?;
    rule(8, consent.state != State::Revoked, Reason::ConsentRevoked)?;
    rule(9, consent.state != State::Superseded, Reason::ConsentSuperseded)?;
    rule(
        10,
        consent.state != State::Expired && now < consent.expire,
        Reason::ConsentExpired,
    )?;
    rule(11, !consent.is_paused(now), Reason::ConsentPaused)
}

fn scope(question: &Question, facts: &impl Facts, consent: &Granted) -> Result<(), (i32, Reason)> {
    let granted = &consent.scope;
    rule(
        13,
        question.purpose.is_none_or(|purpose| purpose == granted.purpose),
        Reason::PurposeNotGranted,
    )?;
    rule(
        14,
        question
            .access_mode
            .is_none_or(|mode| granted.access_mode.includes(mode)),
        Reason::AccessModeNotGranted,
    )?;
    rule(
        15,
        question.hi_types.is_subset(&granted.hi_types),
        Reason::HiTypeNotGranted,
    )?;
    rule(
        16,
        granted.record_range.contains(question.record_range),
        Reason::RecordRangeNotGranted,
    )?;
    let named = |key: &ContextKey| granted.care_contexts.is_empty() || granted.care_contexts.contains(key);
    let held = question
        .care_contexts
        .iter()
        .all(|key| named(key) && facts.is_linked(key));
    rule(17, held, Reason::CareContextNotGranted)
}

const fn rule(number: i32, holds: bool, reason: Reason) -> Result<(), (i32, Reason)> {
    if holds { Ok(()) } else { Err((number, reason)) }
}

/// Whether a participant is active in a role that may ask for `purpose`; for `None`, as any that asks.
fn may_ask(facts: &impl Facts, id: &ParticipantId, purpose: Option<PurposeCode>) -> bool {
    let fits = |role: Role| match purpose {
        Some(purpose) => purpose.may_be_asked_by(role),
        None => PurposeCode::ALL.iter().any(|purpose| purpose.may_be_asked_by(role)),
    };
    Role::ALL
        .into_iter()
        .any(|role| fits(role) && facts.is_active_as(id, role))
}

fn retry(reason: Reason, consent: &Granted, now: Micros) -> Option<Micros> {
    let at = match reason {
        Reason::FrequencyExceeded => consent.left(now).next_window,
        Reason::ConsentPaused => consent.resume,
        _ => None,
    };
    at.filter(|at| *at < consent.expire)
}

/// By when to ask again, for a permit.
pub fn recheck(consent: &Granted, now: Micros) -> Micros {
    let left = consent.left(now);
    consent
        .expire
        .min(now.plus(RECHECK))
        .min(left.window_end.unwrap_or(Micros(i64::MAX)))
}

/// Whether what is received must not be kept.
pub fn no_store(consent: &Granted) -> bool {
    consent.scope.access_mode != AccessMode::Store
}

#[cfg(test)]
mod tests;
