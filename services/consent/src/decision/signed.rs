//! A permit that can be handed on: what its signature says.

use sammati_api::consent::v1 as api;
use sammati_kernel::{HiType, Micros, Refusal};
use serde_json::{Value, json};

use super::record::{Decided, reason_text};
use crate::artefact::iso;
use crate::scope::Range;
use crate::subject::Held;
use crate::wire::decision::Asked;

/// The `typ` of a signed decision.
pub const TYP: &str = "access-decision+jwt";

/// How long it is good for: as long as a permit may be relied on at most.
const LIFE: i64 = 60_000_000;

/// What is said of a permit: all that may happen, between whom, and until when; not about whom.
///
/// # Errors
/// INTERNAL for a time that no calendar has.
pub fn claims(
    manager: &str,
    decision: &api::Decision,
    decided: &Decided,
    held: &Held,
    asked: &Asked,
) -> Result<Value, Refusal> {
    let (question, consent) = (&asked.question, &held.granted);
    let at = Micros(decided.at);
    let until = Micros(decided.recheck.min(decided.at + LIFE));
    let (kinds, range): (Vec<HiType>, Range) = if decided.is_reduced() {
        let kinds = decided.hi_types.iter().filter_map(|n| HiType::from_number(*n));
        let (from, to) = (Micros(decided.from), Micros(decided.to));
        (kinds.collect(), Range { from, to })
    } else {
        (question.hi_types.iter().copied().collect(), question.record_range)
    };
    let mut claims = json!({
        "iss": manager,
        "aud": consent.hip.name(),
        "iat": at.seconds(),
        "nbf": at.seconds(),
        "exp": until.seconds(),
        "outcome": "PERMIT",
        "reason": reason_text(decided.reason()),
        "recorded": !decided.id.is_empty(),
        "consent_id": consent.id.to_string(),
        "version": decided.version,
        "requester": consent.hiu.name(),
        "provider": consent.hip.name(),
        "purpose": question.purpose.map(|purpose| purpose.code()),
        "access_mode": question.access_mode.map(|mode| mode.as_str()),
        "hi_types": kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
        "record_range": { "from": iso(range.from)?, "to": iso(range.to)? },
    });
    if !decided.id.is_empty() {
        claims["jti"] = decided.id.clone().into();
    }
    if let Some([kind, value, system]) = &question.user {
        claims["user"] = json!({ "type": kind, "value": value, "system": system });
    }
    if let Some(contexts) = contexts(decision, held, asked) {
        claims["care_contexts"] = contexts.into();
    }
    if let Some(owed) = &decision.obligations {
        claims["obligations"] = json!({
            "erase_by": iso(consent.expire)?,
            "recheck_by": iso(Micros(decided.recheck))?,
            "no_store": owed.no_store,
            "no_onward_sharing": owed.no_onward_sharing,
            "show_break_glass_banner": owed.show_break_glass_banner,
        });
    }
    Ok(claims)
}

/// The references of the care contexts that may be seen; `None` for all that the consent covers, where it names none.
fn contexts(decision: &api::Decision, held: &Held, asked: &Asked) -> Option<Vec<String>> {
    let left = decision.part.as_ref().map(|part| part.care_contexts.clone());
    let named = left.unwrap_or_else(|| asked.references.clone());
    if !named.is_empty() {
        return Some(named);
    }
    let granted = held
        .care_contexts
        .iter()
        .map(|context| context.care_context_reference.clone());
    Some(granted.collect::<Vec<_>>()).filter(|granted| !granted.is_empty())
}
