//! Discoveries on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, DiscoveryId, HiType, LinkId, Micros, ParticipantId, Reason, Refusal, Violations};
use sammati_server::event::timestamp;

use super::link::check_demographics;
use super::{Person, check_text, name, participant, person, scope, stamp, time};
use crate::discovery::State;
use crate::discovery::answer::{Answer, Challenge};
use crate::discovery::sealed;
use crate::rows::{DiscoveryRow, Known, etag, link_id};
use crate::vault::Ring;

/// Care contexts that are chosen, or announced, at once.
const CHOSEN: usize = 20;

/// Care contexts of one answer.
const FOUND: usize = 100;

/// Things by which somebody may be known.
const IDENTIFIERS: usize = 10;

/// The longest answer to a challenge.
const TOKEN: usize = 64;

/// A discovery to begin, well formed.
pub struct Wanted {
    /// Where.
    pub hip: ParticipantId,
    /// Who she says she is.
    pub who: Person,
    /// What the HIP is told of her.
    pub known: Known,
}

/// A discovery to begin.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_start(request: &api::CreateDiscoveryRequest, now: Micros) -> Result<Wanted, Refusal> {
    let mut v = Violations::new();
    let hip = participant(&mut v, "hip", &request.hip);
    let who = herself(
        &mut v,
        "",
        request.identifier.as_ref(),
        request.demographics.as_ref(),
        now,
    );
    if request.unverified_identifiers.len() > IDENTIFIERS {
        v.add("unverified_identifiers", "at most 10");
    }
    for (n, identifier) in request.unverified_identifiers.iter().take(IDENTIFIERS).enumerate() {
        let field = format!("unverified_identifiers[{n}]");
        check_kind(&mut v, format!("{field}.type"), identifier.r#type);
        check_text(&mut v, &format!("{field}.value"), &identifier.value, 1, super::TEXT);
    }
    v.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    let who = who.ok_or_else(missing)?;
    let known = Known {
        identifier: match &who {
            Person::Ask(identifier) => Some(identifier.clone()),
            Person::Account(_) => None,
        },
        demographics: request.demographics.clone(),
        unverified: request.unverified_identifiers.clone(),
        ..Known::default()
    };
    Ok(Wanted {
        hip: hip.ok_or_else(missing)?,
        who,
        known,
    })
}

/// Who she says she is: a number or an address, and what must fit it.
pub fn herself(
    v: &mut Violations,
    prefix: &str,
    identifier: Option<&types::Identifier>,
    demographics: Option<&types::Demographics>,
    now: Micros,
) -> Option<Person> {
    let who = person(v, &format!("{prefix}identifier"), identifier);
    if matches!(who, Some(Person::Account(_))) {
        v.add(format!("{prefix}identifier.account"), "an ABHA number or address");
    }
    match demographics {
        Some(demographics) => check_demographics(v, &format!("{prefix}demographics"), demographics, now),
        None => v.add(format!("{prefix}demographics"), "required"),
    }
    who
}

fn check_kind(v: &mut Violations, field: String, number: i32) {
    use api::IdentifierType as Type;
    if !matches!(Type::try_from(number), Ok(kind) if kind != Type::Unspecified) {
        v.add(field, "IDENTIFIER_TYPE_MR, _MOBILE, _ABHA_NUMBER or _ABHA_ADDRESS");
    }
}

/// References of care contexts, each once.
pub fn check_references(v: &mut Violations, references: &[String]) {
    const FIELD: &str = "care_context_references";
    if !(1..=CHOSEN).contains(&references.len()) {
        v.add(FIELD, "1 to 20");
        return;
    }
    for (n, reference) in references.iter().enumerate() {
        scope::reference(v, &format!("{FIELD}[{n}]"), reference, "|");
    }
    if references.iter().collect::<BTreeSet<_>>().len() != references.len() {
        v.add(FIELD, "each once");
    }
}

/// What a HIP announces.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_announce(request: &api::AnnounceCareContextsRequest) -> Result<(LinkId, Vec<HiType>), Refusal> {
    let mut v = Violations::new();
    let link = name(&mut v, "name", &request.name);
    check_references(&mut v, &request.care_context_references);
    let hi_types = scope::hi_types(&mut v, "hi_types", &request.hi_types, 1);
    v.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    let hi_types = hi_types.ok_or_else(missing)?.into_iter().collect();
    Ok((link.ok_or_else(missing)?, hi_types))
}

/// What a HIP answers.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_answer(request: &api::AnswerDiscoveryRequest) -> Result<(DiscoveryId, Answer), Refusal> {
    use api::answer_discovery_request::Answer as Said;
    let mut v = Violations::new();
    let discovery = name(&mut v, "name", &request.name);
    let answer = match &request.answer {
        None => {
            v.add("answer", "required: candidates, none, challenge, linked or failed");
            None
        }
        Some(Said::Candidates(found)) => Some(parse_found(&mut v, found)),
        Some(Said::None(_)) => Some(Answer::Nothing),
        Some(Said::Challenge(challenge)) => parse_challenge(&mut v, challenge).map(Answer::Challenge),
        Some(Said::Linked(_)) => Some(Answer::Linked),
        Some(Said::Failed(_)) => Some(Answer::Failed),
    };
    v.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    Ok((discovery.ok_or_else(missing)?, answer.ok_or_else(missing)?))
}

fn parse_found(v: &mut Violations, found: &api::answer_discovery_request::Candidates) -> Answer {
    if !(1..=FOUND).contains(&found.care_contexts.len()) {
        v.add("candidates.care_contexts", "1 to 100; with none, answer `none`");
    }
    let mut seen = BTreeSet::new();
    for (n, context) in found.care_contexts.iter().take(FOUND).enumerate() {
        let field = format!("candidates.care_contexts[{n}]");
        scope::reference(v, &format!("{field}.patient_reference"), &context.patient_reference, "");
        let reference = &context.care_context_reference;
        scope::reference(v, &format!("{field}.care_context_reference"), reference, "|");
        scope::check_kind(v, &field, context, true);
        if !seen.insert(reference) {
            v.add(field, "each care context once");
        }
    }
    if found.matched_by.len() > IDENTIFIERS {
        v.add("candidates.matched_by", "at most 10");
    }
    for (n, kind) in found.matched_by.iter().take(IDENTIFIERS).enumerate() {
        check_kind(v, format!("candidates.matched_by[{n}]"), *kind);
    }
    Answer::Found(found.care_contexts.clone(), found.matched_by.clone())
}

fn parse_challenge(v: &mut Violations, challenge: &api::DiscoveryChallenge) -> Option<Challenge> {
    use api::discovery_challenge::Medium;
    if !matches!(Medium::try_from(challenge.medium), Ok(medium) if medium != Medium::Unspecified) {
        v.add("challenge.medium", "MEDIUM_MOBILE or MEDIUM_EMAIL");
    }
    check_text(v, "challenge.hint", &challenge.hint, 0, 64);
    let expire = time(v, "challenge.expire_time", challenge.expire_time.as_ref());
    if !sealed::is_usable(&challenge.token_key) {
        v.add("challenge.token_key", "an X25519 public key, 32 bytes");
    }
    Some(Challenge {
        medium: challenge.medium,
        hint: challenge.hint.clone(),
        expire: expire?,
        token_key: challenge.token_key.clone(),
    })
}

/// What she chooses.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_select(request: &api::SelectCareContextsRequest) -> Result<DiscoveryId, Refusal> {
    let mut v = Violations::new();
    let discovery = name(&mut v, "name", &request.name);
    check_references(&mut v, &request.care_context_references);
    v.check()?;
    discovery.ok_or_else(|| Reason::FieldInvalid.into())
}

/// What she answers.
///
/// # Errors
/// FIELD_INVALID with all violations; never with the answer itself.
pub fn parse_confirm(request: &api::ConfirmCareContextsRequest) -> Result<DiscoveryId, Refusal> {
    let mut v = Violations::new();
    let discovery = name(&mut v, "name", &request.name);
    check_text(&mut v, "token", &request.token, 1, TOKEN);
    v.check()?;
    discovery.ok_or_else(|| Reason::FieldInvalid.into())
}

/// What a caller sees of a discovery: the HIP what it is told of her and her sealed answer, she what the HIP found.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(
    row: &DiscoveryRow,
    ring: &Ring,
    caller: &Caller,
    now: Micros,
    revision: String,
) -> Result<api::Discovery, Refusal> {
    let known: Known = ring
        .open_as(&row.subject, "discovery", &row.id, &row.sealed)?
        .unwrap_or_default();
    let (state, is_hip) = (row.state_at(now), caller.participant().is_some());
    let challenge = (row.medium != 0).then(|| api::DiscoveryChallenge {
        medium: row.medium,
        hint: known.hint,
        expire_time: Some(timestamp(Micros(row.challenge_expire))),
        token_key: row.token_key.clone(),
    });
    let answered = is_hip && state == State::Confirmed;
    let link = if row.link.is_empty() {
        String::new()
    } else {
        link_id(&row.link)?.name()
    };
    Ok(api::Discovery {
        name: row.id()?.name(),
        hip: format!("participants/{}", row.hip),
        identifier: known.identifier.filter(|_| is_hip),
        demographics: known.demographics.filter(|_| is_hip),
        unverified_identifiers: known.unverified,
        state: state.number(),
        matched_by: row.matched_by.clone(),
        candidates: known.candidates,
        selected_references: known.selected,
        challenge,
        sealed_token: if answered { row.sealed_token.clone() } else { Vec::new() },
        link,
        expire_time: stamp(row.expire),
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
    })
}
