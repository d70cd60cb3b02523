//! Explanations, and who can see what, on the wire.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::explain_access_request::{Basis, Hypothetical};
use sammati_kernel::{Caller, Micros, ParticipantId, Refusal, Violations};
use sammati_server::event::{micros, timestamp};

use super::decision::{Asked, parse as parse_check};
use super::{interval, legal_basis, participant, scope};
use crate::consent::State;
use crate::decision::explain::{Judged, Part};
use crate::decision::{Granted, Verdict};
use crate::scope::Scope;

/// What she supposes that she gave.
pub struct Supposed {
    /// Who would give.
    pub hip: ParticipantId,
    /// Who would receive.
    pub hiu: ParticipantId,
    /// What.
    pub scope: Scope,
    /// The references of its care contexts.
    pub references: Vec<String>,
}

/// The question, well formed, and an operator's ground.
///
/// # Errors
/// As [`parse_check`]; FIELD_INVALID for anything else.
pub fn parse(message: &api::ExplainAccessRequest, caller: &Caller) -> Result<(Asked, String), Refusal> {
    let mut v = Violations::new();
    legal_basis(&mut v, caller, &message.legal_basis);
    let asked = match &message.check {
        None => {
            v.add("check", "required: the question");
            None
        }
        Some(check) => {
            if check.consistency.is_some() {
                v.add("check.consistency", "left out: an explanation always sees everything");
            }
            if check.signed {
                v.add(
                    "check.signed",
                    "left out: an explanation is no decision, and not signed",
                );
            }
            match parse_check(check, caller) {
                Ok(asked) => Some(asked),
                Err(refusal) if refusal.violations.is_empty() => return Err(refusal),
                Err(refusal) => {
                    let found = refusal.violations.iter();
                    found.for_each(|f| v.add(format!("check.{}", f.field), f.description.clone()));
                    None
                }
            }
        }
    };
    match &message.basis {
        Some(Basis::AsOfTime(at)) if micros(at).is_none() => {
            v.add("as_of_time", "a time of the years 1 to 9999, nanos from 0 to 999999999");
        }
        Some(Basis::Hypothetical(grant)) => {
            grants(&mut v, grant);
        }
        _ => {}
    }
    v.check()?;
    let asked = asked.ok_or(sammati_kernel::Reason::FieldInvalid)?;
    Ok((asked, message.legal_basis.clone()))
}

fn grants(v: &mut Violations, grant: &Hypothetical) -> Option<Supposed> {
    let hip = participant(v, "hypothetical.hip", &grant.hip);
    let hiu = participant(v, "hypothetical.hiu", &grant.hiu);
    let scope = scope::parse(v, "hypothetical.scope", grant.scope.as_ref()).whole();
    let contexts = grant.scope.iter().flat_map(|scope| &scope.care_contexts);
    Some(Supposed {
        hip: hip?,
        hiu: hiu?,
        scope: scope?,
        references: contexts.map(|c| c.care_context_reference.clone()).collect(),
    })
}

/// What she supposes.
///
/// # Errors
/// FIELD_INVALID.
pub fn supposed(grant: &Hypothetical) -> Result<Supposed, Refusal> {
    let mut v = Violations::new();
    let supposed = grants(&mut v, grant);
    v.check()?;
    supposed.ok_or_else(|| sammati_kernel::Reason::FieldInvalid.into())
}

/// The time to explain for: now or later.
///
/// # Errors
/// FIELD_INVALID.
pub fn time(at: &prost_types::Timestamp, now: Micros) -> Result<Micros, Refusal> {
    let at = micros(at).filter(|at| *at >= now);
    at.ok_or_else(|| Refusal::field("as_of_time", "now or later: what was decided before is in the log"))
}

/// The verdict and the rules it rests on.
pub fn render(verdict: &Verdict, parts: &[Part], candidates: &[&Granted]) -> api::ExplainAccessResponse {
    let permits = verdict.permits();
    let outcome = |permits: bool| {
        if permits {
            api::decision::Outcome::Permit
        } else {
            api::decision::Outcome::Deny
        }
        .into()
    };
    let of = |part: &Part| {
        let place = part.place?;
        let failed = part.failed();
        Some(api::explain_access_response::Candidate {
            consent: candidates[place].id.name(),
            version: candidates[place].version,
            chosen: verdict.by == Some(place),
            outcome: outcome(failed.is_none()),
            reason: failed
                .map_or(api::decision::Reason::Granted, |judged| judged.reason)
                .into(),
            rules: part.rules.iter().map(rule).collect(),
        })
    };
    let question = parts.iter().find(|part| part.place.is_none());
    api::ExplainAccessResponse {
        outcome: outcome(permits),
        reason: verdict.reason.into(),
        rule: verdict.rule,
        question_rules: question.iter().flat_map(|part| &part.rules).map(rule).collect(),
        candidates: parts.iter().filter_map(of).collect(),
        ..Default::default()
    }
}

fn rule(judged: &Judged) -> api::explain_access_response::Rule {
    api::explain_access_response::Rule {
        number: judged.rule,
        holds: judged.holds,
        reason: judged.reason.into(),
        asked: judged.asked.clone(),
        found: judged.found.clone(),
    }
}

/// Who can see what by one consent.
pub fn grantee(granted: &Granted, now: Micros) -> api::Grantee {
    let scope = &granted.scope;
    let state = if granted.is_paused(now) {
        State::Paused
    } else {
        State::Granted
    };
    api::Grantee {
        consent: granted.id.name(),
        hiu: granted.hiu.name(),
        hip: granted.hip.name(),
        purpose: scope.purpose.number(),
        hi_types: scope.hi_types.iter().map(|t| t.number()).collect(),
        access_mode: scope.access_mode.number(),
        record_range: Some(interval(scope.record_range.from.0, scope.record_range.to.0)),
        state: state.number(),
        effective_expire_time: Some(timestamp(granted.expire)),
        resume_time: granted.resume.filter(|_| state == State::Paused).map(timestamp),
        uses_left: granted.left(now).smaller(),
    }
}
