//! What the encrypted part must look like.

use sammati_api::audit::v1 as audit;
use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, ConsentId, ParticipantId, RepresentationId, SessionId};

use super::{Judge, MAX_NAME, WITHHELD, is_hex, is_name, is_uuid_v7, is_word};

/// The most entries of a list of names.
const MAX_LIST: usize = 100;

/// The most entries of a list of words.
const MAX_WORDS: usize = 16;

/// The most characters of an operator's name.
const MAX_OPERATOR: usize = 64;

/// The most characters of a sealed revision.
const MAX_REVISION: usize = 512;

pub(super) fn check(payload: &mut audit::Payload, judge: &mut Judge<'_>) {
    check_actor(payload.actor.get_or_insert_default(), judge);
    if let Some(behalf) = &mut payload.on_behalf_of {
        judge.must(
            RepresentationId::parse_name(&behalf.representation).is_some(),
            "payload.on_behalf_of.representation",
            &mut behalf.representation,
            "representations/{id}",
        );
    }
    check_names(payload, judge);
    judge.ask(
        types::PurposeCode::try_from(payload.purpose).is_ok(),
        "payload.purpose",
        "a purpose of the exchange",
    );
    let basis = &mut payload.legal_basis;
    judge.must(
        basis.chars().count() <= MAX_NAME && !basis.chars().any(char::is_control),
        "payload.legal_basis",
        basis,
        "at most 255 characters, none a control character",
    );
    judge.must(
        matches!(payload.artefact_sha256.len(), 0 | 32),
        "payload.artefact_sha256",
        &mut payload.artefact_sha256,
        "32 bytes",
    );
    if let Some(notice) = &mut payload.notice {
        check_notice(notice, judge);
    }
    if let Some(decision) = &mut payload.decision {
        check_decision(decision, judge);
    }
    check_numbers(payload, judge);
    if let Some(client) = &mut payload.client {
        check_client(client, judge);
    }
    let is_hash = |claim: &Vec<u8>| claim.len() == 32;
    judge.list(
        ("payload.claims", MAX_LIST),
        &mut payload.claims,
        is_hash,
        "at most 100, each 32 bytes",
    );
    if let Some(cut) = &mut payload.cut {
        check_cut(cut, judge);
    }
}

fn check_cut(cut: &mut audit::Cut, judge: &mut Judge<'_>) {
    let epoch = &mut cut.epoch;
    judge.must(*epoch >= 1, "payload.cut.epoch", epoch, "1 and up");
    let next = &mut cut.next_position;
    judge.must(*next >= 0, "payload.cut.next_position", next, "0 and up");
    let chain = &mut cut.chain;
    judge.must(chain.len() == 32, "payload.cut.chain", chain, "32 bytes");
    let operator = &mut cut.operator;
    judge.must(
        !operator.is_empty() && operator.chars().count() <= MAX_OPERATOR && is_name(operator),
        "payload.cut.operator",
        operator,
        "required: who ran recover, at most 64 characters",
    );
}

fn check_actor(actor: &mut audit::Actor, judge: &mut Judge<'_>) {
    judge.ask(
        types::CallerKind::try_from(actor.kind).is_ok_and(|kind| kind as i32 != 0),
        "payload.actor.kind",
        "required: the kind of caller",
    );
    judge.must(
        !actor.id.is_empty() && is_name(&actor.id),
        "payload.actor.id",
        &mut actor.id,
        "required: who did it, at most 255 characters",
    );
    judge.must(
        actor.session.is_empty() || SessionId::parse_name(&actor.session).is_some(),
        "payload.actor.session",
        &mut actor.session,
        "sessions/{id}",
    );
    let known = |role: &i32| types::ParticipantRole::try_from(*role).is_ok_and(|role| role as i32 != 0);
    judge.ask(
        actor.roles.iter().all(known),
        "payload.actor.roles",
        "roles of a participant, each of them known",
    );
    let field = ("payload.actor.roles", MAX_WORDS);
    judge.list(field, &mut actor.roles, |_| true, "at most 16 roles");
    let is_factor = |factor: &String| !factor.is_empty() && is_word(factor);
    judge.list(
        ("payload.actor.factors", MAX_WORDS),
        &mut actor.factors,
        is_factor,
        "at most 16, each a word in capitals, as \"MOBILE_OTP\"",
    );
}

fn check_names(payload: &mut audit::Payload, judge: &mut Judge<'_>) {
    let subject = &mut payload.subject;
    judge.must(
        subject.is_empty() || AccountId::parse_name(subject).is_some(),
        "payload.subject",
        subject,
        "accounts/{id}",
    );
    judge.must(
        is_name(&payload.resource),
        "payload.resource",
        &mut payload.resource,
        "a resource name, at most 255 characters",
    );
    let is_ref = |name: &String| !name.is_empty() && is_name(name);
    judge.list(
        ("payload.object_refs", MAX_LIST),
        &mut payload.object_refs,
        is_ref,
        "at most 100 names",
    );
    let consent = &mut payload.consent;
    judge.must(
        consent.is_empty() || ConsentId::parse_name(consent).is_some(),
        "payload.consent",
        consent,
        "consents/{id}",
    );
    judge.list(
        ("payload.changed_fields", MAX_LIST),
        &mut payload.changed_fields,
        is_ref,
        "at most 100 names",
    );
}

fn check_notice(notice: &mut types::NoticeRef, judge: &mut Judge<'_>) {
    judge.must(
        notice.notice.starts_with("notices/") && is_name(&notice.notice),
        "payload.notice.notice",
        &mut notice.notice,
        "notices/{id}",
    );
    judge.must(
        notice.version >= 1,
        "payload.notice.version",
        &mut notice.version,
        "1 and up",
    );
    let tag = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let language = &mut notice.language;
    judge.must(
        language == WITHHELD || (2..=35).contains(&language.len()) && language.bytes().all(tag),
        "payload.notice.language",
        language,
        "a BCP 47 tag, as \"hi\"",
    );
    judge.must(
        notice.sha256.len() == 64 && is_hex(&notice.sha256),
        "payload.notice.sha256",
        &mut notice.sha256,
        "64 lower-case hexadecimal digits",
    );
}

fn check_decision(decision: &mut audit::DecisionRecord, judge: &mut Judge<'_>) {
    judge.must(
        is_uuid_v7(&decision.id),
        "payload.decision.id",
        &mut decision.id,
        "must be a UUIDv7 in lower case",
    );
    let sealed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let revision = &mut decision.revision;
    judge.must(
        revision.len() <= MAX_REVISION && revision.bytes().all(sealed),
        "payload.decision.revision",
        revision,
        "a revision as it was answered, base64url",
    );
    judge.must(
        (0..=1000).contains(&decision.rule),
        "payload.decision.rule",
        &mut decision.rule,
        "the number of a rule, 0 for none",
    );
    judge.ask(
        decision.checked.is_some(),
        "payload.decision.checked",
        "required: what was asked",
    );
    if let Some(checked) = &mut decision.checked {
        check_scope(checked, judge);
    }
}

fn check_scope(scope: &mut types::Scope, judge: &mut Judge<'_>) {
    judge.ask(
        scope.hi_types.iter().all(|t| types::HiType::try_from(*t).is_ok()),
        "payload.decision.checked.hi_types",
        "kinds of health record, each of them known",
    );
    judge.list(
        ("payload.decision.checked.hi_types", MAX_LIST),
        &mut scope.hi_types,
        |_| true,
        "at most 100",
    );
    let texts = scope.purpose.iter().flat_map(|p| [&p.text, &p.ref_uri]);
    let plain = texts.into_iter().all(|text| is_name(text));
    judge.must(
        plain,
        "payload.decision.checked.purpose",
        &mut scope.purpose,
        "texts of at most 255 characters",
    );
    let is_context = |context: &types::CareContextRef| {
        [
            &context.patient_reference,
            &context.care_context_reference,
            &context.display,
        ]
        .into_iter()
        .all(|text| is_name(text))
    };
    judge.list(
        ("payload.decision.checked.care_contexts", MAX_LIST),
        &mut scope.care_contexts,
        is_context,
        "at most 100, each text at most 255 characters",
    );
}

fn check_numbers(payload: &mut audit::Payload, judge: &mut Judge<'_>) {
    judge.must(
        payload.resource_version >= 0,
        "payload.resource_version",
        &mut payload.resource_version,
        "0 and up",
    );
    judge.must(
        payload.consent_version >= 0,
        "payload.consent_version",
        &mut payload.consent_version,
        "0 and up",
    );
    if let Some(counts) = &mut payload.counts {
        for (field, count) in [
            ("payload.counts.records", &mut counts.records),
            ("payload.counts.bytes", &mut counts.bytes),
            ("payload.counts.repeats", &mut counts.repeats),
        ] {
            judge.must(*count >= 0, field, count, "0 and up");
        }
    }
}

fn check_client(client: &mut audit::Client, judge: &mut Judge<'_>) {
    let network = &mut client.network;
    judge.must(
        network.is_empty() || is_network(network),
        "payload.client.network",
        network,
        "a network of /24 or shorter, or of /48 or shorter in IPv6, as \"203.0.113.0/24\"",
    );
    judge.must(
        client.app.is_empty() || client.app == WITHHELD || ParticipantId::parse_name(&client.app).is_ok(),
        "payload.client.app",
        &mut client.app,
        "participants/{id}",
    );
}

/// Whether `text` is a network and not a single host.
fn is_network(text: &str) -> bool {
    use std::net::IpAddr;
    let Some((address, length)) = text.split_once('/') else {
        return text == WITHHELD;
    };
    let length: Result<u8, _> = length.parse();
    match (address.parse(), length) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 24,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 48,
        _ => false,
    }
}
