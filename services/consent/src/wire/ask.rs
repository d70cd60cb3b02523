//! What is asked, on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::types::v1::NoticeRef;
use sammati_kernel::{
    AbhaAddress, Caller, HiType, Micros, ParticipantId, PurposeCode, Reason, Refusal, Role, Violations,
};

use super::request::HIPS;
use super::{notice, optional_name, participant, requester, scope, time};
use crate::notice::Notices;
use crate::request::ask::{Ask, Faults, Times};
use crate::rows::NoticeRow;

/// What is asked, with everything that is wrong in one answer. Whether the times are right is for the command to say,
/// so that a repeat is told what came of it; `now` only adds what else is wrong with what is refused anyway.
///
/// # Errors
/// SCOPE_INVALID or FIELD_INVALID; PURPOSE_NOT_REQUESTABLE, HIP_REQUIRED or NOTICE_MISMATCH if nothing else is wrong.
pub fn parse_ask(
    request: &api::CreateConsentRequestRequest,
    caller: &Caller,
    notices: (&Notices, Option<&NoticeRow>),
    now: Micros,
) -> Result<Ask, Refusal> {
    let hiu = crate::policy::participant(caller)?.clone();
    let mut v = Violations::new();
    let patient =
        AbhaAddress::parse(&request.patient).map_err(|why| v.add("patient", format!("Invalid ABHA Address: {why}")));
    let hips = hips(&mut v, &request.hips);
    let professional = requester(&mut v, "requester", request.requester.clone());
    let expire = request.expire_time.as_ref();
    let expire = expire.and_then(|at| time(&mut v, "expire_time", Some(at)));
    let renews = optional_name(&mut v, "renews", &request.renews);
    let named = check_notice(&mut v, request);
    let mut of_scope = Violations::new();
    let parts = scope::parse(&mut of_scope, "scope", request.scope.as_ref());
    let times = Times {
        record_range: parts.record_range,
        erase: parts.erase_time,
        expire,
    };
    let mut faults = Faults::default();
    faults.merge(Reason::FieldInvalid, v);
    faults.merge(Reason::ScopeInvalid, of_scope);
    check_asker(&mut faults, caller, parts.purpose);
    check_source(&mut faults, request);
    let notice = parts.purpose.filter(|_| named);
    let hi_types = parts.hi_types.clone().unwrap_or_default();
    let notice = notice.and_then(|purpose| bind(&mut faults, notices, request, (&hiu, purpose, &hi_types)));
    if !faults.is_empty() {
        times.check(&mut faults, now);
    }
    faults.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    Ok(Ask {
        hiu,
        patient: patient.map_err(|()| missing())?.folded(),
        hips,
        requester: professional.ok_or_else(missing)?,
        scope: parts.whole().ok_or_else(missing)?,
        care_contexts: request.scope.clone().unwrap_or_default().care_contexts,
        notice: notice.ok_or_else(missing)?,
        expire,
        renews,
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

/// Whether the purpose may be asked for, and by the roles of the session.
fn check_asker(faults: &mut Faults, caller: &Caller, purpose: Option<PurposeCode>) {
    const FIELD: &str = "scope.purpose.code";
    let Some(purpose) = purpose else { return };
    let mut roles = Role::ALL.into_iter().filter(|role| caller.has_role(*role));
    if !purpose.is_requestable() {
        let why = "cannot be asked for by a consent request";
        faults.add(Reason::PurposeNotRequestable, FIELD, why);
    } else if !roles.any(|role| purpose.may_be_asked_by(role)) {
        faults.add(Reason::ScopeInvalid, FIELD, "none of your session's roles may ask for this purpose: a HIU asks for care, public health and payment; her own app or locker for PATRQT");
    }
}

/// Care contexts are one provider's.
fn check_source(faults: &mut Faults, request: &api::CreateConsentRequestRequest) {
    let named = request.scope.as_ref().is_some_and(|s| !s.care_contexts.is_empty());
    // A renewal is for the provider of the consent it renews.
    let one = request.hips.len() == 1 || (request.hips.is_empty() && !request.renews.is_empty());
    if named && !one {
        let why = "HIP is mandatory when care contexts are specified: name the one that holds them";
        faults.add(Reason::HipRequired, "hips", why);
    }
}

/// Whether the notice is named well; whether there is one is said by [`bind`].
fn check_notice(v: &mut Violations, request: &api::CreateConsentRequestRequest) -> bool {
    let name = request.notice.is_empty() || crate::notice::is_name(&request.notice);
    if !name {
        v.add("notice", "must be notices/{id}, or empty for the built-in one");
    }
    if request.notice_version < 0 {
        v.add("notice_version", "1 and up, or 0 for the newest");
    }
    // A language that is not known is no mistake: she is shown English.
    super::check_language(v, &request.language);
    name && request.notice_version >= 0
}

fn bind(
    faults: &mut Faults,
    (notices, published): (&Notices, Option<&NoticeRow>),
    request: &api::CreateConsentRequestRequest,
    (hiu, purpose, hi_types): (&ParticipantId, PurposeCode, &BTreeSet<HiType>),
) -> Option<NoticeRef> {
    let (version, language) = (request.notice_version, &request.language);
    let bound = if published.is_some() {
        notice::bind(published, &hiu.name(), version, language, (purpose, hi_types))
    } else {
        notices.bind(&request.notice, version, language, purpose).ok_or(
            "there is no notice of this name and version that covers the purpose; leave it empty for the built-in one",
        )
    };
    bound
        .map_err(|why| faults.add(Reason::NoticeMismatch, "notice", why))
        .ok()
}
