//! Consents and artefacts on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::break_glass::Outcome;
use sammati_kernel::{
    Caller, ConsentId, ConsentRequestId, Micros, ParticipantId, Reason, Refusal, StudyId, Violations,
};

use super::{name, optional_name, optional_participant, request, scope, stamp};
use crate::artefact::Audience;
use crate::break_glass::review::ReviewGlass;
use crate::consent::State;
use crate::decision::Granted;
use crate::rows::{self, ConsentRow, etag};
use crate::vault::Ring;

/// Consents of one revocation.
pub const REVOKE: usize = 100;

/// The consents to take back.
///
/// # Errors
/// FIELD_INVALID or BATCH_LIMIT.
pub fn parse_revoke(request: &api::RevokeConsentsRequest, caller: &Caller) -> Result<Vec<ConsentId>, Refusal> {
    if request.names.len() > REVOKE {
        let mut refusal = Refusal::field("names", "at most 100 in one call");
        refusal.reason = Reason::BatchLimit;
        return Err(refusal);
    }
    let mut v = Violations::new();
    if request.names.is_empty() {
        v.add("names", "at least one consent");
    }
    let names: Vec<ConsentId> = request
        .names
        .iter()
        .enumerate()
        .filter_map(|(n, text)| name(&mut v, &format!("names[{n}]"), text))
        .collect();
    if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        v.add("names", "each once");
    }
    request::check_words(&mut v, "reason", &request.reason);
    super::legal_basis(&mut v, caller, &request.legal_basis);
    if !request.etag.is_empty() && request.names.len() != 1 {
        v.add("etag", "only with exactly one name");
    }
    v.check()?;
    Ok(names)
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    request: Option<ConsentRequestId>,
    hip: Option<ParticipantId>,
    hiu: Option<ParticipantId>,
    states: Vec<i32>,
    purpose: i32,
    study: Option<StudyId>,
}

impl Filter {
    /// Of a list's request.
    pub fn parse(v: &mut Violations, request: &api::ListConsentsRequest) -> Self {
        request::check_purpose(v, request.purpose);
        Self {
            request: optional_name(v, "request", &request.request),
            hip: optional_participant(v, "hip", &request.hip),
            hiu: optional_participant(v, "hiu", &request.hiu),
            states: super::states::<api::consent::State>(v, "states", &request.states),
            purpose: request.purpose,
            study: optional_name(v, "study", &request.study),
        }
    }

    /// Whether a row is in the list.
    pub fn holds(&self, row: &ConsentRow, now: Micros) -> bool {
        self.request.is_none_or(|id| id.as_bytes().as_slice() == row.request)
            && self.hip.as_ref().is_none_or(|hip| hip.as_str() == row.hip)
            && self.hiu.as_ref().is_none_or(|hiu| hiu.as_str() == row.hiu)
            && (self.states.is_empty() || self.states.contains(&row.state_at(now).number()))
            && (self.purpose == 0 || row.scope.purpose().is_some_and(|p| p.number() == self.purpose))
            && self.study.is_none_or(|study| study.as_bytes().as_slice() == row.study)
    }
}

/// As whom a participant reads a consent; `None` for the person and for operators. A participant that is both giver
/// and receiver reads as the giver.
pub fn reader(caller: &Caller, hip: &str) -> Option<Audience> {
    let participant = caller.participant()?;
    Some(if participant.as_str() == hip {
        Audience::Hip
    } else {
        Audience::Hiu
    })
}

/// What is told of an emergency: why to all but the HIP, what is said of it afterwards to her and to operators.
fn glass(
    row: &ConsentRow,
    ring: &Ring,
    reason: &str,
    to: Option<Audience>,
) -> Result<Option<api::BreakGlass>, Refusal> {
    let Some(glass) = &row.break_glass else { return Ok(None) };
    let words = |word: &Option<rows::WordRow>, outcome: Outcome| match word {
        Some(word) if to.is_none() => {
            let use_ = ReviewGlass::sealed_as(outcome);
            Ok(ring.open(&row.subject, use_, &row.id, &word.comment)?.text)
        }
        _ => Ok::<_, Refusal>(String::new()),
    };
    let at = |word: &Option<rows::WordRow>| word.as_ref().and_then(|word| stamp(word.at));
    Ok(Some(api::BreakGlass {
        emergency: glass.emergency,
        reason: if to == Some(Audience::Hip) {
            String::new()
        } else {
            reason.to_owned()
        },
        review_due_time: stamp(glass.due),
        review: glass.review.as_ref().map_or(0, |word| word.outcome),
        review_time: at(&glass.review),
        review_comment: words(&glass.review, Outcome::Upheld)?,
        dispute_time: at(&glass.dispute),
        dispute: words(&glass.dispute, Outcome::Disputed)?,
    }))
}

/// What a caller sees of a consent: a participant no account, the HIP not the name of the professional.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(
    row: &ConsentRow,
    ring: &Ring,
    caller: &Caller,
    now: Micros,
    revision: String,
) -> Result<api::Consent, Refusal> {
    let private = ring.open(&row.subject, "consent", &row.id, &row.sealed)?;
    let to = reader(caller, &row.hip);
    let granted = Granted::try_from(row)?;
    let mut requester = row.requester.clone();
    if to == Some(Audience::Hip) {
        requester.name.clear();
    }
    let state = row.state_at(now);
    let ended = if state == State::Expired { row.expire } else { row.ended };
    Ok(api::Consent {
        name: row.id()?.name(),
        request: match row.request.as_slice() {
            [] => String::new(),
            id => rows::request_id(id)?.name(),
        },
        origin: row.origin.max(api::consent::Origin::Request.into()),
        break_glass: glass(row, ring, &private.text, to)?,
        patient: private.patient,
        subject: if to.is_none() {
            row.subject()?.name()
        } else {
            String::new()
        },
        hip: format!("participants/{}", row.hip),
        hiu: format!("participants/{}", row.hiu),
        requester: Some(requester),
        scope: Some(scope::render(&granted.scope, &private.care_contexts, to)),
        version: row.grant_version,
        state: state.number(),
        grant_time: stamp(row.granted),
        revoke_time: stamp(row.revoked),
        end_time: stamp(ended),
        effective_expire_time: stamp(row.expire),
        granted_by: Some(api::Decider {
            kind: row.granted_by,
            representation: rows::representation(&row.granted_under),
        }),
        notice: Some(row.notice.clone()),
        uses: Some(uses(&granted, now)),
        hip_acknowledge_time: stamp(row.hip_acknowledged),
        hiu_acknowledge_time: stamp(row.hiu_acknowledged),
        create_time: stamp(row.granted),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
        resume_time: stamp(row.resume).filter(|_| state == State::Paused && row.resumes()),
        renews: maybe(&row.renews)?,
        renewed_by: maybe(&row.successor)?,
        narrow_time: stamp(row.narrowed),
        study: super::study::name_of(&row.study)?,
    })
}

/// The name of a consent that there may be.
fn maybe(id: &[u8]) -> Result<String, Refusal> {
    if id.is_empty() {
        return Ok(String::new());
    }
    Ok(rows::consent_id(id)?.name())
}

fn uses(granted: &Granted, now: Micros) -> api::Uses {
    let left = granted.left(now);
    api::Uses {
        count: granted.uses.count,
        window_count: left.in_window,
        window_end_time: left.window_end.map(sammati_server::event::timestamp),
        left: left.smaller(),
    }
}

/// The artefact's audience on the wire.
pub const fn audience(audience: Audience) -> api::artefact::Audience {
    match audience {
        Audience::Hip => api::artefact::Audience::Hip,
        Audience::Hiu => api::artefact::Audience::Hiu,
    }
}
