//! Subscriptions on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{
    AbhaAddress, Caller, HiType, Micros, ParticipantId, PurposeCode, Reason, Refusal, Role, SubscriptionId, Violations,
};
use sammati_server::event::timestamp;

use super::standing::{excluded, hips};
use super::{name, participant, range, scope, stamp, time};
use crate::rows::{self, SourcesRow, SubscriptionRow, etag, time as maybe};
use crate::vault::Ring;

/// A subscription to ask for, well formed.
pub struct Wanted {
    /// The address, in lower case.
    pub patient: String,
    /// What for.
    pub purpose: PurposeCode,
    /// What about.
    pub asked: SourcesRow,
}

/// A subscription to ask for.
///
/// # Errors
/// FIELD_INVALID with all violations; PURPOSE_NOT_REQUESTABLE if nothing else is wrong.
pub fn parse(request: &api::CreateSubscriptionRequest, caller: &Caller) -> Result<Wanted, Refusal> {
    let mut v = Violations::new();
    let patient = address(&mut v, &request.patient);
    let purpose = PurposeCode::from_number(request.purpose);
    if purpose.is_none() {
        v.add("purpose", "a known purpose");
    }
    let asked = sources(&mut v, request.sources.as_ref());
    v.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    let purpose = purpose.ok_or_else(missing)?;
    let mut roles = Role::ALL.into_iter().filter(|role| caller.has_role(*role));
    if !purpose.is_requestable() || !roles.any(|role| purpose.may_be_asked_by(role)) {
        return Err(Refusal {
            reason: Reason::PurposeNotRequestable,
            ..Refusal::field("purpose", "none that your session's roles may ask for")
        });
    }
    Ok(Wanted {
        patient: patient.ok_or_else(missing)?,
        purpose,
        asked: asked.ok_or_else(missing)?,
    })
}

fn address(v: &mut Violations, text: &str) -> Option<String> {
    let address = AbhaAddress::parse(text).map_err(|why| v.add("patient", format!("Invalid ABHA Address: {why}")));
    address.ok().map(|address| address.folded())
}

/// What a subscription is about.
pub fn sources(v: &mut Violations, sent: Option<&api::SubscribedSources>) -> Option<SourcesRow> {
    let Some(sent) = sent else {
        v.add("sources", "required");
        return None;
    };
    let known = |n: &&i32| matches!(api::SubscriptionCategory::try_from(**n), Ok(c) if i32::from(c) != 0);
    let categories: BTreeSet<_> = sent.categories.iter().filter(known).copied().collect();
    if sent.categories.is_empty() || categories.len() != sent.categories.len() {
        v.add("sources.categories", "at least one known category, each once");
    }
    let hi_types = scope::hi_types(v, "sources.hi_types", &sent.hi_types, 1);
    let hips = hips(v, "sources.hips", &sent.hips);
    let excluded = excluded(v, "sources.excluded", &sent.excluded);
    let period = range(v, "sources.period", sent.period.as_ref());
    let (hi_types, period) = (hi_types?, period?);
    Some(SourcesRow {
        categories: categories.into_iter().collect(),
        hips,
        hi_types: hi_types.iter().map(|kind| kind.number()).collect(),
        from: period.from.0,
        to: period.to.0,
        excluded,
    })
}

/// Which subscription, and what she gives of it.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_given(
    text: &str,
    sent: Option<&api::SubscribedSources>,
    required: bool,
) -> Result<(SubscriptionId, Option<SourcesRow>), Refusal> {
    let mut v = Violations::new();
    let id = name(&mut v, "name", text);
    let given = if required || sent.is_some() {
        sources(&mut v, sent)
    } else {
        None
    };
    v.check()?;
    Ok((id.ok_or(Reason::FieldInvalid)?, given))
}

/// A locker to set up.
pub struct Locker {
    /// The locker.
    pub locker: ParticipantId,
    /// Her address, in lower case.
    pub patient: String,
    /// From where.
    pub hips: Vec<String>,
    /// What.
    pub hi_types: Vec<HiType>,
    /// Until when.
    pub expire: Micros,
}

/// A locker to set up.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_locker(request: &api::SetupLockerRequest) -> Result<Locker, Refusal> {
    let mut v = Violations::new();
    let locker = participant(&mut v, "locker", &request.locker);
    let patient = address(&mut v, &request.patient);
    let hips = hips(&mut v, "hips", &request.hips);
    let hi_types = scope::hi_types(&mut v, "hi_types", &request.hi_types, 1);
    let expire = time(&mut v, "expire_time", request.expire_time.as_ref());
    v.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    Ok(Locker {
        locker: locker.ok_or_else(missing)?,
        patient: patient.ok_or_else(missing)?,
        hips,
        hi_types: hi_types.ok_or_else(missing)?.into_iter().collect(),
        expire: expire.ok_or_else(missing)?,
    })
}

fn render_sources(row: &SourcesRow) -> api::SubscribedSources {
    let name = |id: &String| format!("participants/{id}");
    let excluded = row.excluded.iter().map(|source| api::ExcludedSource {
        hip: if source.hip.is_empty() {
            String::new()
        } else {
            name(&source.hip)
        },
        hi_types: source.hi_types.clone(),
    });
    api::SubscribedSources {
        categories: row.categories.clone(),
        hips: row.hips.iter().map(name).collect(),
        hi_types: row.hi_types.clone(),
        period: Some(types::TimeRange {
            from: Some(timestamp(Micros(row.from))),
            to: Some(timestamp(Micros(row.to))),
        }),
        excluded: excluded.collect(),
    }
}

/// What a caller sees of a subscription: a participant no account.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(
    row: &SubscriptionRow,
    ring: &Ring,
    caller: &Caller,
    now: Micros,
    revision: String,
) -> Result<api::Subscription, Refusal> {
    let private = ring.open(&row.owner, "subscription", &row.id, &row.sealed)?;
    let account = crate::subscription::subject(row).filter(|_| caller.participant().is_none());
    let state = row.state_at(now);
    let requested = row.state() == crate::subscription::State::Requested;
    let lapsed = requested && state != row.state();
    let decided = if lapsed { row.expire } else { row.decided };
    Ok(api::Subscription {
        name: row.id()?.name(),
        patient: private.patient,
        subject: account.map(|account| account.name()).unwrap_or_default(),
        holder: format!("participants/{}", row.holder),
        purpose: row.purpose,
        asked: Some(render_sources(&row.asked)),
        given: row.given.as_ref().map(render_sources),
        state: state.number(),
        locker: row.locker,
        expire_time: stamp(row.expire).filter(|_| requested),
        decide_time: maybe(decided).map(timestamp),
        decided_by: (row.decided_by != 0).then(|| api::Decider {
            kind: row.decided_by,
            representation: rows::representation(&row.decided_under),
        }),
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
    })
}
