//! Policies on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_kernel::{AccountId, PurposeCode, Reason, Refusal, Violations};

use super::{optional_participant, participant, scope, stamp};
use crate::lookup::{ContextKey, Lookup};
use crate::rows::{self, ExcludedRow, PolicyRow, account, broken, etag};
use crate::standing::create::Wanted;
use crate::standing::{Effect, State};
use crate::vault::Ring;

/// HIPs, and exclusions, of one policy.
const SOURCES: usize = 20;

/// Care contexts of one policy.
const CONTEXTS: usize = 100;

/// A policy to make, for `account`.
///
/// # Errors
/// FIELD_INVALID with all violations; POLICY_PURPOSE, SOURCE_REQUIRED or HIP_REQUIRED if nothing else is wrong.
pub fn parse(request: &api::CreatePolicyRequest, subject: AccountId, lookup: &Lookup) -> Result<Wanted, Refusal> {
    let mut v = Violations::new();
    let effect = effect(&mut v, request.effect);
    let hiu = optional_participant(&mut v, "hiu", &request.hiu);
    let hips = hips(&mut v, "hips", &request.hips);
    let excluded = excluded(&mut v, "excluded", &request.excluded);
    let purposes = purposes(&mut v, &request.purposes);
    references(&mut v, &request.care_context_references);
    let bound = request
        .scope
        .as_ref()
        .map(|sent| scope::parse(&mut v, "scope", Some(sent)));
    match effect {
        Some(Effect::Approve) => check_approve(&mut v, request),
        Some(Effect::Deny) => check_deny(&mut v, request),
        None => {}
    }
    v.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    let mut bound = bound.map(|parts| parts.whole().ok_or_else(missing)).transpose()?;
    if bound.as_ref().is_some_and(|scope| !may_be_approved(scope.purpose)) {
        let why = "only CAREMGT and PATRQT can be approved beforehand";
        return Err(alone(Reason::PolicyPurpose, "scope.purpose.code", why));
    }
    if nothing_is_left(&hips, &excluded) {
        return Err(alone(Reason::SourceRequired, "excluded", "leave at least one source"));
    }
    let references = named(request);
    let keys = keys(&hips, &references, subject, lookup)?;
    let mut care_contexts = Vec::new();
    match &mut bound {
        Some(scope) => scope.care_contexts = keys.into_iter().collect(),
        None => care_contexts = keys.iter().map(|key| key.to_vec()).collect(),
    }
    let content = PolicyRow {
        effect: effect.ok_or_else(missing)?.number(),
        hiu: hiu.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        hips,
        scope: bound.as_ref().map(Into::into),
        excluded,
        purposes,
        care_contexts,
        ..PolicyRow::default()
    };
    Ok(Wanted { content, references })
}

/// What care contexts it names, whichever way.
fn named(request: &api::CreatePolicyRequest) -> Vec<String> {
    let scope = request.scope.iter().flat_map(|scope| &scope.care_contexts);
    let of_scope = scope.map(|context| &context.care_context_reference);
    of_scope.chain(&request.care_context_references).cloned().collect()
}

/// Their keys in order; they are one provider's.
fn keys(
    hips: &[String],
    references: &[String],
    subject: AccountId,
    lookup: &Lookup,
) -> Result<Vec<ContextKey>, Refusal> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    let [hip] = hips else {
        let why = "HIP is mandatory when care contexts are specified: name the one that holds them";
        return Err(alone(Reason::HipRequired, "hips", why));
    };
    let hip = rows::participant(hip)?;
    let key = |reference: &String| lookup.context(subject.as_bytes(), &hip, reference);
    let mut keys: Vec<_> = references.iter().map(key).collect();
    keys.sort_unstable();
    Ok(keys)
}

/// Whether a person may approve a purpose before she knows the request.
const fn may_be_approved(purpose: PurposeCode) -> bool {
    matches!(purpose, PurposeCode::Caremgt | PurposeCode::Patrqt)
}

fn alone(reason: Reason, field: &'static str, why: &'static str) -> Refusal {
    Refusal {
        reason,
        ..Refusal::field(field, why)
    }
}

fn effect(v: &mut Violations, number: i32) -> Option<Effect> {
    match api::policy::Effect::try_from(number) {
        Ok(api::policy::Effect::Approve) => Some(Effect::Approve),
        Ok(api::policy::Effect::Deny) => Some(Effect::Deny),
        _ => {
            v.add("effect", "EFFECT_APPROVE or EFFECT_DENY");
            None
        }
    }
}

fn check_approve(v: &mut Violations, request: &api::CreatePolicyRequest) {
    if request.hiu.is_empty() {
        v.add("hiu", "required of EFFECT_APPROVE: nobody approves everybody");
    }
    if request.scope.is_none() {
        v.add("scope", "required of EFFECT_APPROVE");
    }
    if !request.purposes.is_empty() {
        v.add(
            "purposes",
            "only with EFFECT_DENY; an approval has the purpose of its scope",
        );
    }
    if !request.care_context_references.is_empty() {
        v.add("care_context_references", "only with EFFECT_DENY");
    }
}

fn check_deny(v: &mut Violations, request: &api::CreatePolicyRequest) {
    if request.scope.is_some() {
        v.add("scope", "only with EFFECT_APPROVE; a denial has `purposes`");
    }
    if !request.excluded.is_empty() {
        v.add("excluded", "only with EFFECT_APPROVE");
    }
}

/// Bare ids in order.
pub fn hips(v: &mut Violations, field: &str, names: &[String]) -> Vec<String> {
    if names.len() > SOURCES {
        v.add(field.to_owned(), "at most 20");
        return Vec::new();
    }
    let parsed = names.iter().enumerate();
    let parsed: BTreeSet<_> = parsed
        .filter_map(|(n, name)| participant(v, &format!("{field}[{n}]"), name))
        .collect();
    if parsed.len() != names.len() {
        v.add(field.to_owned(), "each once");
    }
    parsed.iter().map(|id| id.as_str().to_owned()).collect()
}

/// What is left out.
pub fn excluded(v: &mut Violations, field: &str, sources: &[api::ExcludedSource]) -> Vec<ExcludedRow> {
    if sources.len() > SOURCES {
        v.add(field.to_owned(), "at most 20");
        return Vec::new();
    }
    let read = |(n, source): (usize, &api::ExcludedSource)| {
        let hip = optional_participant(v, &format!("{field}[{n}].hip"), &source.hip);
        let kinds = scope::hi_types(v, &format!("{field}[{n}].hi_types"), &source.hi_types, 0);
        ExcludedRow {
            hip: hip.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            hi_types: kinds.unwrap_or_default().iter().map(|kind| kind.number()).collect(),
        }
    };
    sources.iter().enumerate().map(read).collect()
}

fn purposes(v: &mut Violations, numbers: &[i32]) -> Vec<i32> {
    let known: BTreeSet<_> = numbers.iter().filter_map(|n| PurposeCode::from_number(*n)).collect();
    if known.len() != numbers.len() {
        v.add("purposes", "known purposes only, each once");
    }
    let mut numbers: Vec<_> = known.iter().map(|purpose| purpose.number()).collect();
    numbers.sort_unstable();
    numbers
}

fn references(v: &mut Violations, references: &[String]) {
    const FIELD: &str = "care_context_references";
    if references.len() > CONTEXTS {
        v.add(FIELD, "at most 100");
        return;
    }
    for (n, reference) in references.iter().enumerate() {
        scope::reference(v, &format!("{FIELD}[{n}]"), reference, "|");
    }
    if references.iter().collect::<BTreeSet<_>>().len() != references.len() {
        v.add(FIELD, "each once");
    }
}

/// Whether all that is included is left out again.
fn nothing_is_left(hips: &[String], excluded: &[ExcludedRow]) -> bool {
    let whole = |hip: &str| excluded.iter().any(|e| e.hi_types.is_empty() && e.hip == hip);
    whole("") || (!hips.is_empty() && hips.iter().all(|hip| whole(hip)))
}

/// A policy as its person, or an operator, sees it.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(row: &PolicyRow, ring: &Ring, revision: String) -> Result<api::Policy, Refusal> {
    let private = ring.open(&row.subject, "policy", &row.id, &row.sealed)?;
    let name = |id: &String| format!("participants/{id}");
    let subject = account(&row.subject).ok_or_else(|| broken("a policy's subject"))?;
    let bound = row.scope.as_ref().map(|scope| scope.read()).transpose()?;
    let excluded = row.excluded.iter().map(|source| api::ExcludedSource {
        hip: if source.hip.is_empty() {
            String::new()
        } else {
            name(&source.hip)
        },
        hi_types: source.hi_types.clone(),
    });
    let (in_scope, denied) = match bound {
        Some(_) => (private.care_contexts, Vec::new()),
        None => (Vec::new(), private.care_contexts),
    };
    let references = denied.into_iter().map(|context| context.care_context_reference);
    Ok(api::Policy {
        name: row.id()?.name(),
        subject: subject.name(),
        effect: row.effect,
        hiu: if row.hiu.is_empty() {
            String::new()
        } else {
            name(&row.hiu)
        },
        hips: row.hips.iter().map(name).collect(),
        scope: bound.map(|bound| scope::render(&bound, &in_scope, None)),
        excluded: excluded.collect(),
        purposes: row.purposes.clone(),
        care_context_references: references.collect(),
        state: row.state().number(),
        use_count: row.uses,
        decided_by: Some(api::Decider {
            kind: row.decider(),
            representation: rows::representation(&row.decided_under),
        }),
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
    })
}

/// The states that a list is narrowed to.
pub fn states(v: &mut Violations, numbers: &[i32]) -> Vec<State> {
    let states = super::states::<api::policy::State>(v, "states", numbers);
    states.into_iter().map(State::from_number).collect()
}
