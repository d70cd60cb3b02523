//! Studies on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_kernel::{Micros, ParticipantId, PurposeCode, Reason, Refusal, StudyId, Violations};

use super::{TEXT, check_text, interval, participant, requester, scope, stamp, time};
use crate::notice::{self, Notices};
use crate::rows::{self, EthicsRow, MemberRow, StudyRow, etag};
use crate::study::create::Described;
use crate::study::{RunId, State};

/// HIPs of one study.
const NODES: usize = 100;

/// The largest smallest group.
const CELL: i32 = 1000;

/// References of one call.
pub const REFERENCES: usize = 1000;

/// What is described, with everything that is wrong in one answer.
///
/// # Errors
/// FIELD_INVALID; ETHICS_REQUIRED or NOTICE_MISMATCH if nothing else is wrong.
pub fn parse_create(request: &api::CreateStudyRequest, notices: &Notices) -> Result<Described, Refusal> {
    let (mut v, mut of_ethics) = (Violations::new(), Violations::new());
    check_text(&mut v, "title", &request.title, 1, TEXT);
    let ethics = ethics(&mut of_ethics, request.ethics_approval.as_ref());
    let parts = scope::parse(&mut v, "scope", request.scope.as_ref());
    if let Some(scope) = &request.scope {
        check_scope(&mut v, scope, parts.purpose);
    }
    digest(&mut v, "protocol_sha256", &request.protocol_sha256);
    let nodes = nodes(&mut v, &request.nodes);
    let investigator = requester(&mut v, "investigator", request.investigator.clone());
    if !(0..=CELL).contains(&request.min_cell) {
        v.add("min_cell", "0 to 1000");
    }
    if !request.notice.is_empty() && !notice::is_name(&request.notice) {
        v.add("notice", "must be notices/{id}, or empty for the built-in one");
    }
    if request.notice_version < 0 {
        v.add("notice_version", "1 and up, or 0 for the newest");
    }
    if v.is_empty() {
        of_ethics.check_as(Reason::EthicsRequired)?;
    } else {
        v.merge(of_ethics);
    }
    v.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    let bound = notices.bind(&request.notice, request.notice_version, "", PurposeCode::Dsrch);
    let bound = bound.ok_or_else(|| {
        let mut refusal = Refusal::field(
            "notice",
            "no notice of this name and version covers research; leave it empty",
        );
        refusal.reason = Reason::NoticeMismatch;
        refusal
    })?;
    Ok(Described {
        title: request.title.clone(),
        ethics: ethics.ok_or_else(missing)?,
        scope: parts.whole().ok_or_else(missing)?,
        protocol: request.protocol_sha256.clone(),
        nodes,
        investigator: investigator.ok_or_else(missing)?,
        min_cell: request.min_cell,
        notice: bound,
    })
}

fn ethics(v: &mut Violations, approval: Option<&api::EthicsApproval>) -> Option<EthicsRow> {
    let Some(approval) = approval else {
        v.add(
            "ethics_approval",
            "required: which committee, its number, the document's digest, until when",
        );
        return None;
    };
    check_text(v, "ethics_approval.body", &approval.body, 1, TEXT);
    check_text(v, "ethics_approval.number", &approval.number, 1, 64);
    digest(v, "ethics_approval.sha256", &approval.sha256);
    let until = time(v, "ethics_approval.until_time", approval.until_time.as_ref())?;
    Some(EthicsRow {
        body: approval.body.clone(),
        number: approval.number.clone(),
        sha256: approval.sha256.clone(),
        until: until.0,
    })
}

fn check_scope(v: &mut Violations, scope: &sammati_api::types::v1::Scope, purpose: Option<PurposeCode>) {
    if purpose.is_some_and(|purpose| purpose != PurposeCode::Dsrch) {
        v.add("scope.purpose.code", "DSRCH: nothing else is research");
    }
    if !scope.care_contexts.is_empty() {
        v.add("scope.care_contexts", "none: a study knows nobody's");
    }
    if scope.bind_requester {
        v.add(
            "scope.bind_requester",
            "false: a node decides for all who work on the study",
        );
    }
}

fn nodes(v: &mut Violations, names: &[String]) -> Vec<ParticipantId> {
    if names.is_empty() || names.len() > NODES {
        v.add("nodes", "at least 1, at most 100");
        return Vec::new();
    }
    let named = names.iter().enumerate();
    let nodes: Vec<_> = named
        .filter_map(|(n, name)| participant(v, &format!("nodes[{n}]"), name))
        .collect();
    if nodes.iter().collect::<BTreeSet<_>>().len() != nodes.len() {
        v.add("nodes", "each once");
    }
    nodes
}

fn digest(v: &mut Violations, field: &'static str, text: &str) {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 64 || !text.bytes().all(hex) {
        v.add(field, "64 hexadecimal digits in lower case");
    }
}

/// References of patients, each once.
///
/// # Errors
/// BATCH_LIMIT.
pub fn references(v: &mut Violations, references: &[String]) -> Result<(), Refusal> {
    if references.len() > REFERENCES {
        let mut refusal = Refusal::field("patient_references", "at most 1000 in one call");
        refusal.reason = Reason::BatchLimit;
        return Err(refusal);
    }
    if references.is_empty() {
        v.add("patient_references", "at least one");
    }
    for (n, text) in references.iter().enumerate() {
        scope::reference(v, &format!("patient_references[{n}]"), text, "");
    }
    if references.iter().collect::<BTreeSet<_>>().len() != references.len() {
        v.add("patient_references", "each once");
    }
    Ok(())
}

/// A language, known or not.
pub fn language(v: &mut Violations, text: &str) {
    let tag = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if text.len() > 35 || !text.bytes().all(tag) {
        v.add("language", "BCP 47, as hi; empty for en");
    }
}

/// A run.
pub fn run(v: &mut Violations, text: &str) -> Option<RunId> {
    let run = text.parse().ok();
    if run.is_none() {
        v.add("run", "a UUIDv7 in lower case");
    }
    run
}

/// The name of a study that there may be.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn name_of(id: &[u8]) -> Result<String, Refusal> {
    if id.is_empty() {
        return Ok(String::new());
    }
    Ok(rows::study_id(id)?.name())
}

/// A study as everybody reads it who may.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(row: &StudyRow, now: Micros, revision: String) -> Result<api::Study, Refusal> {
    let id: StudyId = row.id()?;
    let state = row.state_at(now);
    let closed = if state == State::Closed && row.closed == 0 {
        row.ethics.until
    } else {
        row.closed
    };
    let name = |id: &String| format!("participants/{id}");
    Ok(api::Study {
        name: id.name(),
        sponsor: name(&row.sponsor),
        title: row.title.clone(),
        ethics_approval: Some(api::EthicsApproval {
            body: row.ethics.body.clone(),
            number: row.ethics.number.clone(),
            sha256: row.ethics.sha256.clone(),
            until_time: stamp(row.ethics.until),
        }),
        scope: Some(scope::render(&row.scope.read()?, &[], None)),
        protocol_sha256: row.protocol.clone(),
        nodes: row.nodes.iter().map(name).collect(),
        min_cell: row.min_cell,
        investigator: Some(row.investigator.clone()),
        notice: Some(row.notice.clone()),
        state: state.number(),
        pseudonym_key_id: row.key_id.clone(),
        activate_time: stamp(row.activated),
        close_time: stamp(closed),
        key_destroy_time: row.destroy().and_then(|at| stamp(at.0)),
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
    })
}

/// What is told of one member; her reference to her node alone.
pub fn member(row: &MemberRow, reference: Option<String>) -> api::CohortMember {
    let permits = row.permits();
    let outcome = if permits {
        api::decision::Outcome::Permit
    } else {
        api::decision::Outcome::Deny
    };
    api::CohortMember {
        pseudonym: row.pseudonym.clone(),
        patient_reference: reference.unwrap_or_default(),
        outcome: outcome.into(),
        reason: row.reason,
        version: row.version,
        erase_time: stamp(row.erase),
        hi_types: row.hi_types.clone(),
        record_range: permits.then(|| interval(row.from, row.to)),
        r#use: (row.r#use != 0).then_some(row.r#use),
    }
}
