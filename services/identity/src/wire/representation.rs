//! Representations on the wire.

use std::collections::BTreeSet;
use std::time::Duration;

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::representation::{EndReason, Kind};
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Fact, Micros, ParticipantId, Power, Reason, Refusal, RepresentationKind, Violations};
use sammati_server::event::timestamp;

use super::request::told;
use crate::representation::{DELEGATE_AT_MOST, State};
use crate::rows::{EvidenceRow, Mandate, RepresentationRow, etag};

/// How many participants a delegate may be held to.
const PARTICIPANTS: usize = 20;

/// How long anybody may be appointed: a court's word may say less.
const AT_MOST: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// What a delegate never gets: with the account or the rights all could be taken over.
const NOT_DELEGABLE: [Power; 2] = [Power::ManageAccount, Power::Rights];

/// What an operator is told who names no document.
const NO_EVIDENCE: &str = "required: its type, and the SHA-256 of the document";

/// What is proposed, as it was sent.
pub(crate) struct Proposal {
    pub(crate) kind: RepresentationKind,
    pub(crate) mandate: Mandate,
    pub(crate) period: Option<Duration>,
    pub(crate) evidence: Option<EvidenceRow>,
}

/// Reads it; the end is set once it is known when it begins.
pub(crate) fn proposal(
    v: &mut Violations,
    caller: &Caller,
    request: &api::CreateRepresentationRequest,
) -> Option<Proposal> {
    let kind = kind(v, caller.is_operator(), request.kind);
    let powers = powers(v, &request.powers);
    let period = period(v, kind, request.period.as_ref());
    let limits = request.limits.clone().unwrap_or_default();
    if request.limits.is_some() && kind.is_some_and(|kind| kind != RepresentationKind::Delegate) {
        v.add("limits", "only a delegate is held to limits; leave them out");
    }
    let purposes = purposes(v, &limits.purposes);
    let participants = participants(v, &limits.participants);
    let evidence = match &request.evidence {
        Some(given) if caller.is_operator() => evidence(v, caller, given),
        Some(_) => {
            v.add("evidence", "not for a person: her word is enough");
            None
        }
        None => {
            // By itself it is a refusal of its own; beside others it is named with them.
            if caller.is_operator() && !v.is_empty() {
                v.add("evidence", NO_EVIDENCE);
            }
            None
        }
    };
    let kind = kind?;
    let mandate = Mandate {
        kind: kind.number(),
        powers,
        ends: 0,
        purposes,
        participants,
    };
    Some(Proposal {
        kind,
        mandate,
        period,
        evidence,
    })
}

/// Refuses what a delegate must not have, and a guardian without evidence: what is well-formed, and still not to be.
pub(crate) fn may_propose(caller: &Caller, proposal: &Proposal) -> Result<(), Refusal> {
    if caller.is_operator() && proposal.evidence.is_none() {
        return Err(no_evidence());
    }
    let delegate = proposal.kind == RepresentationKind::Delegate;
    let held = |power: &&Power| proposal.mandate.powers.contains(&power.number());
    match NOT_DELEGABLE.iter().find(held).filter(|_| delegate) {
        None => Ok(()),
        Some(power) => Err(Refusal::new(Reason::PowerNotDelegable)
            .saying(format!(
                "a delegate is not given {}; DECIDE, REVOKE and READ can be",
                power.as_str()
            ))
            .with(Fact::Field, "powers")),
    }
}

/// Required where an operator says it.
pub(crate) fn no_evidence() -> Refusal {
    Refusal {
        reason: Reason::EvidenceRequired,
        ..Refusal::field("evidence", NO_EVIDENCE)
    }
}

fn kind(v: &mut Violations, operator: bool, number: i32) -> Option<RepresentationKind> {
    use RepresentationKind::{Delegate, DisabilityGuardian, Guardian, Nominee};
    let kind = RepresentationKind::from_number(number);
    let (mine, allowed) = if operator {
        (
            [Guardian, DisabilityGuardian],
            "KIND_GUARDIAN or KIND_DISABILITY_GUARDIAN",
        )
    } else {
        (
            [Nominee, Delegate],
            "KIND_NOMINEE or KIND_DELEGATE; a guardian is registered by an operator",
        )
    };
    let kind = kind.filter(|kind| mine.contains(kind));
    if kind.is_none() {
        v.add("kind", format!("must be {allowed}"));
    }
    kind
}

/// READ comes with each of the others.
fn powers(v: &mut Violations, numbers: &[i32]) -> Vec<i32> {
    let given: BTreeSet<Power> = numbers.iter().filter_map(|n| Power::from_number(*n)).collect();
    if given.is_empty() || given.len() != numbers.len() {
        v.add(
            "powers",
            "at least 1 of POWER_READ, _DECIDE, _REVOKE, _MANAGE_ACCOUNT, _RIGHTS, each once",
        );
    }
    let all: BTreeSet<Power> = given.into_iter().chain([Power::Read]).collect();
    all.into_iter().map(Power::number).collect()
}

fn period(
    v: &mut Violations,
    kind: Option<RepresentationKind>,
    given: Option<&prost_types::Duration>,
) -> Option<Duration> {
    use RepresentationKind::{Delegate, DisabilityGuardian};
    let most = match kind {
        Some(Delegate) | None => DELEGATE_AT_MOST,
        Some(_) => AT_MOST,
    };
    let Some(given) = given else {
        if kind == Some(Delegate) {
            v.add("period", "required of a delegate: at most 31536000 s");
        }
        return None;
    };
    let seconds = u64::try_from(given.seconds).ok().filter(|_| given.nanos == 0);
    let period = seconds.map(Duration::from_secs).filter(|p| !p.is_zero() && *p <= most);
    if period.is_none() {
        v.add("period", format!("must be whole seconds, 1 to {}", most.as_secs()));
    } else if !matches!(kind, Some(Delegate | DisabilityGuardian) | None) {
        v.add(
            "period",
            "only for a delegate or the guardian of a person with a disability",
        );
    }
    period
}

fn purposes(v: &mut Violations, numbers: &[i32]) -> Vec<i32> {
    let known: BTreeSet<i32> = numbers.iter().copied().filter(|n| (1..=6).contains(n)).collect();
    if known.len() != numbers.len() {
        v.add("limits.purposes", "purposes of PurposeCode, each once");
    }
    known.into_iter().collect()
}

fn participants(v: &mut Violations, names: &[String]) -> Vec<String> {
    let known: BTreeSet<String> = names
        .iter()
        .filter_map(|name| ParticipantId::parse_name(name).ok())
        .map(|id| id.as_str().to_owned())
        .collect();
    if known.len() != names.len() || names.len() > PARTICIPANTS {
        v.add("limits.participants", "at most 20 of participants/{id}, each once");
    }
    known.into_iter().collect()
}

/// A document that the caller looked at.
pub(crate) fn evidence(v: &mut Violations, caller: &Caller, given: &api::Evidence) -> Option<EvidenceRow> {
    let word = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    told(v, "evidence.type", &given.r#type, 1, 64);
    if !given.r#type.bytes().all(word) {
        v.add("evidence.type", "must be capitals, digits and underscores");
    }
    if given.sha256.len() != 32 {
        v.add("evidence.sha256", "required: the SHA-256 of the document, 32 bytes");
    }
    Some(EvidenceRow {
        kind: given.r#type.clone(),
        sha256: given.sha256.clone(),
        checked_by: caller.id(),
    })
}

/// A representation, as `caller` may see it.
pub(crate) fn representation(row: &RepresentationRow, caller: &Caller, now: Micros) -> api::Representation {
    let at = |time: i64| Some(timestamp(Micros(time)));
    let set = |time: i64| (time != 0).then(|| timestamp(Micros(time)));
    let mandate = row.mandate.clone().unwrap_or_default();
    let state = row.state_at(now);
    let lapsed = state != row.state();
    // The principal learns who it is from who accepts, not from whom she asked for.
    let shown = caller.is_operator() || caller.account() == row.representative() || row.accept_time != 0;
    let limits = types_limits(&mandate);
    let kind = Kind::try_from(mandate.kind).unwrap_or_default();
    let evidence = row.evidence.as_ref().filter(|_| caller.is_operator());
    let end_reason = if lapsed { EndReason::Time.into() } else { row.end_reason };
    api::Representation {
        name: row.name(),
        principal: row.principal().map(|id| id.name()).unwrap_or_default(),
        representative: row
            .representative()
            .filter(|_| shown)
            .map(|id| id.name())
            .unwrap_or_default(),
        kind: kind.into(),
        powers: mandate.powers,
        end_time: set(mandate.ends),
        limits,
        evidence: evidence.map(|e| api::Evidence {
            r#type: e.kind.clone(),
            sha256: e.sha256.clone(),
            checked_by: e.checked_by.clone(),
        }),
        state: state.number(),
        effective_time: set(row.effective_time).filter(|_| state == State::Active),
        end_reason,
        create_time: at(row.create_time),
        update_time: at(row.update_time),
        etag: etag(row.version),
    }
}

fn types_limits(mandate: &Mandate) -> Option<api::Limits> {
    let any = mandate.purposes.is_empty() && mandate.participants.is_empty();
    (!any).then(|| api::Limits {
        purposes: mandate
            .purposes
            .iter()
            .filter_map(|n| types::PurposeCode::try_from(*n).ok())
            .map(i32::from)
            .collect(),
        participants: mandate
            .participants
            .iter()
            .map(|id| format!("participants/{id}"))
            .collect(),
    })
}
