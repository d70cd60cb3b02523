//! May this happen, now? One pure function over ordered rules; whoever asks, by whatever method, gets its answer.

pub mod authorize;
pub mod denials;
pub mod explain;
pub mod question;
pub mod record;
pub mod reduce;
pub mod signed;
pub mod uses;

use std::time::Duration;

use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::{AccessMode, AccountId, ConsentId, Micros, ParticipantId, PurposeCode, Refusal, Role};

pub use question::{Asker, Question};

use crate::consent::State;
use crate::lookup::ContextKey;
use crate::rows::ConsentRow;
use crate::scope::Scope;
use crate::standing::Block;
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
    /// What she denies whatever she has granted.
    fn blocks(&self) -> &[Block];
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
        matches!(self.reason, Reason::Granted | Reason::GrantedReduced)
    }

    /// Whether only a part of it may.
    pub fn is_reduced(&self) -> bool {
        self.reason == Reason::GrantedReduced
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

/// What a rule that failed says: its number and the reason.
type Failed = (i32, Reason);

/// Sees each rule as it is judged. Whoever only wants the verdict stops at the first that fails; whoever explains it goes
/// on, over the very same rules.
pub(crate) trait Recorder {
    /// Whether nothing more is judged once something permits.
    const STOPS: bool;

    /// The rules of the question come next, or those of the candidate at this place.
    fn begin(&mut self, place: Option<usize>);

    /// A rule was judged; `compared` tells what was asked and what there is.
    ///
    /// # Errors
    /// That it failed, if that is enough.
    fn rule(
        &mut self,
        number: i32,
        holds: bool,
        reason: Reason,
        compared: impl FnOnce() -> (String, String),
    ) -> Result<(), Failed>;

    /// The first rule that failed since [`Self::begin`], unless that was told at once.
    ///
    /// # Errors
    /// Which it was.
    fn end(&mut self) -> Result<(), Failed>;
}

/// Keeps nothing.
struct Silent;

impl Recorder for Silent {
    const STOPS: bool = true;

    fn begin(&mut self, _: Option<usize>) {}

    fn rule(
        &mut self,
        number: i32,
        holds: bool,
        reason: Reason,
        _: impl FnOnce() -> (String, String),
    ) -> Result<(), Failed> {
        if holds { Ok(()) } else { Err((number, reason)) }
    }

    fn end(&mut self) -> Result<(), Failed> {
        Ok(())
    }
}

/// Decides. `candidates` are the consent that was named, or all of one person between one requester and one provider;
/// two are never added up.
pub fn decide(question: &Question, facts: &impl Facts, candidates: &[&Granted], now: Micros) -> Verdict {
    run(question, facts, candidates, now, &mut Silent)
}

fn run(
    question: &Question,
    facts: &impl Facts,
    candidates: &[&Granted],
    now: Micros,
    recorder: &mut impl Recorder,
) -> Verdict {
    // A stranger learns nothing of a consent, not even by which rule fails.
    let mut order: Vec<usize> = (0..candidates.len())
        .filter(|i| question.may_know(candidates[*i]) && !is_hidden(question, facts, candidates[*i]))
        .collect();
    recorder.begin(None);
    let asked = asked(question, facts, !order.is_empty(), recorder).and_then(|()| recorder.end());
    let refused = asked.err().map(|(rule, reason)| Verdict::denied(rule, reason));
    if let Some(refused) = refused.filter(|_| stops(recorder)) {
        return refused;
    }
    // Not limited in uses first, then the one that lives longest, then the elder.
    order.sort_by_key(|i| {
        (
            candidates[*i].is_limited(),
            std::cmp::Reverse(candidates[*i].expire),
            candidates[*i].id,
        )
    });
    let (mut permit, mut furthest) = (None, Verdict::denied(4, Reason::NoConsent));
    for place in order {
        let consent = candidates[place];
        recorder.begin(Some(place));
        let judged = judge(question, facts, consent, now, recorder).and_then(|()| recorder.end());
        let verdict = match judged {
            Ok(()) => Verdict {
                reason: reduce::granted(question, facts, consent),
                rule: 0,
                by: Some(place),
                retry: None,
            },
            Err((rule, reason)) => Verdict {
                by: Some(place),
                retry: retry(reason, consent, now),
                ..Verdict::denied(rule, reason)
            },
        };
        if verdict.permits() {
            permit = permit.or(Some(verdict));
            if stops(recorder) {
                break;
            }
        } else if furthest.by.is_none() || verdict.rule > furthest.rule {
            furthest = verdict;
        }
    }
    refused.or(permit).unwrap_or(furthest)
}

const fn stops<R: Recorder>(_: &R) -> bool {
    R::STOPS
}

/// The rules about what the question names, before any consent is looked at.
fn asked(question: &Question, facts: &impl Facts, has_any: bool, r: &mut impl Recorder) -> Result<(), Failed> {
    if let Some(id) = &question.requester {
        let may = may_ask(facts, id, question.purpose);
        r.rule(2, may, Reason::RequesterNotActive, || {
            explain::role(id, question.purpose)
        })?;
    }
    if let Some(id) = &question.provider {
        let is = facts.is_active_as(id, Role::Hip);
        r.rule(3, is, Reason::ProviderNotActive, || explain::provider(id))?;
    }
    r.rule(4, has_any, Reason::NoConsent, explain::any)
}

/// The rules for one consent, in order; the first that fails.
fn judge(
    question: &Question,
    facts: &impl Facts,
    consent: &Granted,
    now: Micros,
    r: &mut impl Recorder,
) -> Result<(), Failed> {
    parties(question, facts, consent, r)?;
    let is_active = facts.is_active(consent.subject);
    r.rule(6, is_active, Reason::SubjectInactive, explain::account)?;
    let blocked = is_blocked(question, facts, consent);
    r.rule(7, !blocked, Reason::BlockedBySubject, explain::blocked)?;
    state(consent, now, r)?;
    scope(question, facts, consent, r)?;
    let bound = consent.scope.bind_requester && question.user.as_ref() != Some(&consent.user);
    r.rule(18, !bound, Reason::UserMismatch, || explain::user(question, consent))?;
    // A HIP that asks has thereby acknowledged.
    let asks_to_receive = question.asker.is(&consent.hiu) && !question.asker.is(&consent.hip);
    let heard = !asks_to_receive || consent.acknowledged;
    r.rule(19, heard, Reason::ProviderNotAcknowledged, || {
        explain::acknowledged(consent)
    })?;
    let left = consent.left(now);
    let (total, window) = (left.total, left.window_left);
    let some = |left: Option<i64>| question.has_use || left != Some(0);
    r.rule(20, some(total), Reason::UseLimitReached, || explain::left(total))?;
    r.rule(21, some(window), Reason::FrequencyExceeded, || explain::left(window))
}

fn parties(question: &Question, facts: &impl Facts, consent: &Granted, r: &mut impl Recorder) -> Result<(), Failed> {
    // What the question leaves open is what the consent says; what it names was looked at before any consent was.
    let named = question.requester.is_some() && question.purpose.is_some();
    let requester = question.requester.as_ref().unwrap_or(&consent.hiu);
    let provider = question.provider.as_ref().unwrap_or(&consent.hip);
    let purpose = Some(question.purpose.unwrap_or(consent.scope.purpose));
    let may = named || may_ask(facts, requester, purpose);
    r.rule(2, may, Reason::RequesterNotActive, || explain::role(requester, purpose))?;
    let is = question.provider.is_some() || facts.is_active_as(provider, Role::Hip);
    r.rule(3, is, Reason::ProviderNotActive, || explain::provider(provider))?;
    r.rule(5, *requester == consent.hiu, Reason::RequesterMismatch, || {
        (requester.name(), consent.hiu.name())
    })?;
    r.rule(5, *provider == consent.hip, Reason::ProviderMismatch, || {
        (provider.name(), consent.hip.name())
    })
}

/// Rule 12 keeps its number: nothing can study yet.
fn state(consent: &Granted, now: Micros, r: &mut impl Recorder) -> Result<(), Failed> {
    let state = consent.state;
    let compared = || explain::state(consent, now);
    r.rule(8, state != State::Revoked, Reason::ConsentRevoked, compared)?;
    r.rule(9, state != State::Superseded, Reason::ConsentSuperseded, compared)?;
    let lives = state != State::Expired && now < consent.expire;
    r.rule(10, lives, Reason::ConsentExpired, compared)?;
    r.rule(11, !consent.is_paused(now), Reason::ConsentPaused, compared)
}

fn scope(question: &Question, facts: &impl Facts, consent: &Granted, r: &mut impl Recorder) -> Result<(), Failed> {
    let granted = &consent.scope;
    let same = question.purpose.is_none_or(|purpose| purpose == granted.purpose);
    r.rule(13, same, Reason::PurposeNotGranted, || {
        explain::purpose(question, consent)
    })?;
    let included = question
        .access_mode
        .is_none_or(|mode| granted.access_mode.includes(mode));
    r.rule(14, included, Reason::AccessModeNotGranted, || {
        explain::mode(question, consent)
    })?;
    r.rule(
        15,
        reduce::hi_types(question, granted),
        Reason::HiTypeNotGranted,
        || explain::hi_types(question, consent),
    )?;
    r.rule(
        16,
        reduce::record_range(question, granted),
        Reason::RecordRangeNotGranted,
        || explain::ranges(question, consent),
    )?;
    r.rule(
        17,
        reduce::care_contexts(question, facts, granted),
        Reason::CareContextNotGranted,
        || explain::contexts(question, consent),
    )
}

/// Whether a policy of hers forbids it.
fn is_blocked(question: &Question, facts: &impl Facts, consent: &Granted) -> bool {
    let mut blocks = facts.blocks().iter();
    blocks.any(|block| block.forbids(consent, &question.care_contexts))
}

/// Whether the one who would look is told of this consent what a stranger is told: that she blocks him is hers to tell.
fn is_hidden(question: &Question, facts: &impl Facts, consent: &Granted) -> bool {
    let receives = question.asker.is(&consent.hiu) && !question.asker.is(&consent.hip);
    receives && is_blocked(question, facts, consent)
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
