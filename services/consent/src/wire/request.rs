//! Consent requests on the wire.

use std::collections::{BTreeSet, HashMap};

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Micros, ParticipantId, PurposeCode, Refusal, Violations};

use super::{check_text, optional_participant, participant, scope, stamp};
use crate::artefact::Audience;
use crate::link::fits;
use crate::request::approve::Grant;
use crate::rows::{self, CareContextRow, RequestRow, consent_id, etag, policy_id, time as maybe};
use crate::vault::Ring;

/// HIPs of one request, and grants of one approval.
pub const HIPS: usize = 20;

/// What she gives.
pub fn parse_grants(v: &mut Violations, grants: &[api::approve_consent_request_request::Grant]) -> Vec<Grant> {
    if grants.len() > HIPS {
        v.add("grants", "at most 20");
        return Vec::new();
    }
    let mut parsed = Vec::with_capacity(grants.len());
    for (n, grant) in grants.iter().enumerate() {
        let hip = participant(v, &format!("grants[{n}].hip"), &grant.hip);
        let scope = grant.scope.as_ref().and_then(|s| {
            let parts = scope::parse(v, &format!("grants[{n}].scope"), Some(s));
            Some((parts.whole()?, s.care_contexts.clone()))
        });
        if let Some(hip) = hip {
            parsed.push(Grant { hip, scope });
        }
    }
    if parsed.iter().map(|grant| &grant.hip).collect::<BTreeSet<_>>().len() != parsed.len() {
        v.add("grants", "each HIP once");
    }
    parsed
}

/// The notice as it was shown.
pub fn parse_notice(v: &mut Violations, notice: Option<types::NoticeRef>) -> types::NoticeRef {
    let Some(notice) = notice else {
        v.add("notice", "required: the notice as she was shown it");
        return types::NoticeRef::default();
    };
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !crate::notice::is_name(&notice.notice) {
        v.add("notice.notice", "must be notices/{id}");
    }
    if notice.version < 1 {
        v.add("notice.version", "1 and up");
    }
    if !crate::notice::is_language(&notice.language) {
        v.add("notice.language", "BCP 47: en or a language of the Eighth Schedule");
    }
    if notice.sha256.len() != 64 || !notice.sha256.bytes().all(hex) {
        v.add("notice.sha256", "64 lower-case hexadecimal digits");
    }
    notice
}

/// The words of a denial.
pub fn check_deny_reason(v: &mut Violations, reason: &str) {
    let allowed = |c: char| c.is_alphabetic() || is_mark(c) || matches!(c, '.' | ',' | ' ');
    if reason.chars().count() > super::TEXT || !reason.chars().all(allowed) {
        v.add(
            "reason",
            "letters of any script, full stops, commas and blanks, at most 255",
        );
    }
}

/// The vowel signs and other marks without which Indian scripts cannot be written are no letters to Unicode.
const fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036f}' | '\u{0900}'..='\u{0dff}' | '\u{1cd0}'..='\u{1cff}' | '\u{200c}' | '\u{200d}' | '\u{abe3}'..='\u{abed}')
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these states; empty: all.
    pub states: Vec<i32>,
    /// Only from this asker.
    pub hiu: Option<ParticipantId>,
    /// Only naming this HIP.
    pub hip: Option<ParticipantId>,
    /// Only for this purpose; 0: any.
    pub purpose: i32,
    /// Only created within.
    pub created: Option<crate::scope::Range>,
}

impl Filter {
    /// Of a list's request.
    pub fn parse(v: &mut Violations, request: &api::ListConsentRequestsRequest) -> Self {
        check_purpose(v, request.purpose);
        Self {
            states: super::states::<api::consent_request::State>(v, "states", &request.states),
            hiu: optional_participant(v, "hiu", &request.hiu),
            hip: optional_participant(v, "hip", &request.hip),
            purpose: request.purpose,
            created: request
                .create_range
                .as_ref()
                .and_then(|r| super::range(v, "create_range", Some(r))),
        }
    }

    /// Whether a row is in the list.
    pub fn holds(&self, row: &RequestRow, now: Micros) -> bool {
        (self.states.is_empty() || self.states.contains(&row.state_at(now).number()))
            && self.hiu.as_ref().is_none_or(|hiu| hiu.as_str() == row.hiu)
            && self
                .hip
                .as_ref()
                .is_none_or(|hip| row.hips.iter().any(|named| named == hip.as_str()))
            && (self.purpose == 0 || row.scope.purpose().is_some_and(|p| p.number() == self.purpose))
            && self
                .created
                .is_none_or(|r| r.from.0 <= row.created && row.created < r.to.0)
    }
}

/// A purpose to filter by; 0 is none.
pub fn check_purpose(v: &mut Violations, number: i32) {
    if number != 0 && PurposeCode::from_number(number).is_none() {
        v.add("purpose", "a known purpose, or none");
    }
}

/// A free text of hers or an operator's.
pub fn check_words(v: &mut Violations, field: &str, text: &str) {
    check_text(v, field, text, 0, super::TEXT);
}

/// Linked care contexts by their keys.
pub type Linked = HashMap<Vec<u8>, CareContextRow>;

/// Care contexts as they are shown to her: in the words of the provider that linked them, never in those of whoever asks.
/// Of one that is not linked, or not under the patient reference that was named, she sees that it is named.
fn shown(
    row: &RequestRow,
    named: &[types::CareContextRef],
    ring: &Ring,
    linked: &Linked,
) -> Result<Vec<types::CareContextRef>, Refusal> {
    let mut known = Vec::new();
    for key in row.scope.read()?.care_contexts {
        if let Some(context) = linked.get(key.as_slice()) {
            let private = ring.open(&row.owner, "care context", &context.key, &context.sealed)?;
            known.extend(private.care_contexts);
        }
    }
    let as_linked = |named: &types::CareContextRef| {
        let found = known.iter().find(|context| fits(named, context)).cloned();
        found.unwrap_or_else(|| types::CareContextRef {
            care_context_reference: named.care_context_reference.clone(),
            ..Default::default()
        })
    };
    Ok(named.iter().map(as_linked).collect())
}

/// What a caller sees of a request. A participant sees no account, and no consent but its own: the asker is a party of
/// all of them. Of care contexts it sees what it asked, linked or not.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(
    row: &RequestRow,
    ring: &Ring,
    linked: &Linked,
    caller: &Caller,
    now: Micros,
    revision: String,
) -> Result<api::ConsentRequest, Refusal> {
    let private = ring.open(&row.owner, "request", &row.id, &row.sealed)?;
    let denied = ring.open(&row.owner, "deny reason", &row.id, &row.deny_reason)?;
    let state = row.state_at(now);
    let decided = if state == crate::request::State::Expired {
        row.expire
    } else {
        row.decided
    };
    let name = |id: &String| format!("participants/{id}");
    let to = caller.participant().map(|_| Audience::Hiu);
    let consent = |bytes: &Vec<u8>| consent_id(bytes).map(|id| id.name());
    let care_contexts = match to {
        Some(_) => private.care_contexts,
        None => shown(row, &private.care_contexts, ring, linked)?,
    };
    Ok(api::ConsentRequest {
        name: row.id()?.name(),
        patient: private.patient,
        subject: crate::request::subject(row)
            .filter(|_| to.is_none())
            .map(|account| account.name())
            .unwrap_or_default(),
        hiu: name(&row.hiu),
        hips: row.hips.iter().map(name).collect(),
        requester: Some(row.requester.clone()),
        scope: Some(scope::render(&row.scope.read()?, &care_contexts, to)),
        notice: Some(row.notice.clone()),
        expire_time: stamp(row.expire),
        state: state.number(),
        decide_time: maybe(decided).and_then(|at| stamp(at.0)),
        deny_reason: denied.text,
        decided_by: (row.decided_by != 0).then(|| api::Decider {
            kind: row.decided_by,
            representation: rows::representation(&row.decided_under),
        }),
        consents: row.consents.iter().map(consent).collect::<Result<_, _>>()?,
        narrowed: row.narrowed,
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
        renews: if row.renews.is_empty() {
            String::new()
        } else {
            consent(&row.renews)?
        },
        policy: match row.policy.as_slice() {
            [] => String::new(),
            _ if to.is_some() => String::new(),
            id => policy_id(id)?.name(),
        },
        study: super::study::name_of(&row.study)?,
    })
}
