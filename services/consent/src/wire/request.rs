//! Consent requests on the wire.

use std::collections::BTreeSet;
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{AbhaAddress, Caller, Micros, ParticipantId, PurposeCode, Reason, Refusal, Violations};

use super::{check_text, optional_participant, participant, requester, scope, stamp, time};
use crate::artefact::Audience;
use crate::notice::Notices;
use crate::request::approve::Grant;
use crate::request::create::Ask;
use crate::rows::{RequestRow, consent_id, etag, time as maybe};
use crate::scope::Scope;
use crate::vault::Ring;

/// HIPs of one request.
const HIPS: usize = 20;

/// The shortest and the longest window.
const WINDOW: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(30 * 24 * 3600));

/// What is asked, with everything that is wrong in one answer.
///
/// # Errors
/// SCOPE_INVALID, FIELD_INVALID, PURPOSE_NOT_REQUESTABLE, HIP_REQUIRED or NOTICE_MISMATCH.
pub fn parse_ask(
    request: &api::CreateConsentRequestRequest,
    caller: &Caller,
    notices: &Notices,
    now: Micros,
) -> Result<Ask, Refusal> {
    let hiu = crate::policy::participant(caller)?.clone();
    let mut v = Violations::new();
    let patient =
        AbhaAddress::parse(&request.patient).map_err(|why| v.add("patient", format!("Invalid ABHA Address: {why}")));
    let hips = hips(&mut v, &request.hips);
    let professional = requester(&mut v, "requester", request.requester.clone());
    let expire = window(&mut v, request.expire_time.as_ref(), now);
    check_notice(&mut v, request);
    let mut of_scope = Violations::new();
    let parsed = scope::parse(&mut of_scope, "scope", request.scope.as_ref());
    if let Some((scope, _)) = &parsed {
        scope::check_times(&mut of_scope, "scope", scope, now);
        check_asker(&mut of_scope, caller, scope.purpose);
    }
    let reason = if of_scope.is_empty() {
        Reason::FieldInvalid
    } else {
        Reason::ScopeInvalid
    };
    v.merge(of_scope);
    v.check_as(reason)?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    let (scope, care_contexts) = parsed.ok_or_else(missing)?;
    check_rules(&scope, &care_contexts, &hips)?;
    let notice = notices.bind(&request.notice, request.notice_version, &request.language, &scope)?;
    Ok(Ask {
        hiu,
        patient: patient.map_err(|()| missing())?.folded(),
        hips,
        requester: professional.ok_or_else(missing)?,
        scope,
        care_contexts,
        notice,
        expire,
    })
}

fn hips(v: &mut Violations, names: &[String]) -> Vec<ParticipantId> {
    if names.len() > HIPS {
        v.add("hips", "at most 20");
        return Vec::new();
    }
    let hips: Vec<_> = names
        .iter()
        .enumerate()
        .filter_map(|(n, name)| participant(v, &format!("hips[{n}]"), name))
        .collect();
    if hips.iter().collect::<BTreeSet<_>>().len() != hips.len() {
        v.add("hips", "each once");
    }
    hips
}

fn window(v: &mut Violations, expire: Option<&prost_types::Timestamp>, now: Micros) -> Option<i64> {
    let at = time(v, "expire_time", Some(expire?))?;
    if !(now.plus(WINDOW.0)..=now.plus(WINDOW.1)).contains(&at) {
        v.add("expire_time", "1 hour to 30 days from now, or unset for 7 days");
    }
    Some(at.0)
}

/// Whether the session acts in a role that may ask for the purpose. What nobody may ask for has a reason of its own.
fn check_asker(v: &mut Violations, caller: &Caller, purpose: PurposeCode) {
    let may = sammati_kernel::Role::ALL
        .into_iter()
        .any(|role| caller.has_role(role) && purpose.may_be_asked_by(role));
    if purpose.is_requestable() && !may {
        v.add("scope.purpose.code", "none of your session's roles may ask for this purpose: a HIU asks for care, public health and payment; her own app or locker for PATRQT");
    }
}

fn check_rules(scope: &Scope, care_contexts: &[types::CareContextRef], hips: &[ParticipantId]) -> Result<(), Refusal> {
    if !scope.purpose.is_requestable() {
        let mut refusal = Refusal::field("scope.purpose.code", "cannot be asked for by a consent request");
        refusal.reason = Reason::PurposeNotRequestable;
        return Err(refusal);
    }
    if !care_contexts.is_empty() && hips.len() != 1 {
        let mut refusal = Refusal::field(
            "hips",
            "HIP is mandatory when care contexts are specified: name the one that holds them",
        );
        refusal.reason = Reason::HipRequired;
        return Err(refusal);
    }
    Ok(())
}

/// What she gives.
pub fn parse_grants(v: &mut Violations, grants: &[api::approve_consent_request_request::Grant]) -> Vec<Grant> {
    if grants.len() > HIPS {
        v.add("grants", "at most 20");
        return Vec::new();
    }
    let mut parsed = Vec::with_capacity(grants.len());
    for (n, grant) in grants.iter().enumerate() {
        let hip = participant(v, &format!("grants[{n}].hip"), &grant.hip);
        let scope = grant
            .scope
            .as_ref()
            .map(|s| scope::parse(v, &format!("grants[{n}].scope"), Some(s)));
        if let Some(hip) = hip {
            parsed.push(Grant {
                hip,
                scope: scope.flatten(),
            });
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

/// The notice that is asked for; whether there is one is said later.
fn check_notice(v: &mut Violations, request: &api::CreateConsentRequestRequest) {
    if !request.notice.is_empty() && !crate::notice::is_name(&request.notice) {
        v.add("notice", "must be notices/{id}, or empty for the built-in one");
    }
    if request.notice_version < 0 {
        v.add("notice_version", "1 and up, or 0 for the newest");
    }
    // A language that is not known is no mistake: she is shown English.
    let tag = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if request.language.len() > 35 || !request.language.bytes().all(tag) {
        v.add("language", "BCP 47, as hi; empty for en");
    }
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

/// What a caller sees of a request. A participant sees no account, and no consent but its own: the asker is a party of
/// all of them.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(
    row: &RequestRow,
    ring: &Ring,
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
        scope: Some(scope::render(&row.scope.read()?, &private.care_contexts, to)),
        notice: Some(row.notice.clone()),
        expire_time: stamp(row.expire),
        state: state.number(),
        decide_time: maybe(decided).and_then(|at| stamp(at.0)),
        deny_reason: denied.text,
        decided_by: (row.decided_by != 0).then_some(api::Decider { kind: row.decided_by }),
        consents: row.consents.iter().map(consent).collect::<Result<_, _>>()?,
        narrowed: row.narrowed,
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
    })
}
