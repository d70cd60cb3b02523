//! Rights requests on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::close_rights_request_request::Outcome;
use sammati_api::consent::v1::rights_request::Kind;
use sammati_kernel::{AbhaAddress, Caller, Micros, ParticipantId, Reason, Refusal, RightsRequestId, Violations};
use sammati_server::event::timestamp;

use super::{TEXT, check_text, optional_participant, time};
use crate::rights::act::What;
use crate::rights::{State, Verb};
use crate::rows::{self, Answered, KeptRow, RightsRow};
use crate::vault::Ring;

/// The longest words.
const WORDS: usize = 2000;

/// The most things that one is about, and that are kept.
const ABOUT: usize = 20;
const KEPT: usize = 50;

/// What she asks.
#[derive(Debug)]
pub struct Asked {
    /// `Kind` of the contract.
    pub kind: i32,
    /// Of whom; `None`: of us.
    pub against: Option<ParticipantId>,
    /// An address of hers, in lower case; empty without one.
    pub patient: String,
}

/// Reads it, with everything that is wrong in one answer.
///
/// # Errors
/// FIELD_INVALID.
pub fn parse_ask(message: &api::CreateRightsRequestRequest) -> Result<Asked, Refusal> {
    let mut v = Violations::new();
    if !matches!(Kind::try_from(message.kind), Ok(kind) if kind != Kind::Unspecified) {
        v.add(
            "kind",
            "required: KIND_GRIEVANCE, KIND_ACCESS, KIND_CORRECTION or KIND_ERASURE",
        );
    }
    let against = optional_participant(&mut v, "against", &message.against);
    let patient = patient(&mut v, &message.patient, !message.against.is_empty());
    check_words(&mut v, &message.text);
    if message.about.len() > ABOUT {
        v.add("about", "at most 20");
    } else {
        for (n, name) in message.about.iter().enumerate().filter(|(_, name)| !is_name(name)) {
            let why = if name.is_empty() {
                "not empty"
            } else {
                "a resource's name, as consents/{id}"
            };
            v.add(format!("about[{n}]"), why);
        }
        if message.about.iter().collect::<BTreeSet<_>>().len() != message.about.len() {
            v.add("about", "each once");
        }
    }
    v.check()?;
    Ok(Asked {
        kind: message.kind,
        against,
        patient,
    })
}

/// By what the participant knows her.
fn patient(v: &mut Violations, address: &str, required: bool) -> String {
    if address.is_empty() && !required {
        return String::new();
    }
    let parsed = AbhaAddress::parse(address);
    let folded = parsed.map(|address| address.folded());
    folded.unwrap_or_else(|why| {
        v.add(
            "patient",
            format!("an ABHA address of hers, required with against: {why}"),
        );
        String::new()
    })
}

/// Her words may have paragraphs.
fn check_words(v: &mut Violations, text: &str) {
    let one_line = text.replace('\n', " ");
    check_text(v, "text", if text.trim().is_empty() { "" } else { &one_line }, 1, WORDS);
}

/// `collection/id`, or an event's `logs/{log}/events/{index}`.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !part.is_empty() && part.bytes().all(word)
    };
    let parts = name.split('/').count();
    name.len() <= 255 && (parts == 2 || parts == 4) && name.split('/').all(plain)
}

/// An answer.
///
/// # Errors
/// FIELD_INVALID.
pub fn parse_answer(message: &api::AnswerRightsRequestRequest) -> Result<(RightsRequestId, What), Refusal> {
    let mut v = Violations::new();
    let id = super::name(&mut v, "name", &message.name);
    check_words(&mut v, &message.text);
    let kept = message.erasure.as_ref().map(|erasure| kept(&mut v, &erasure.kept));
    v.check()?;
    Ok((
        id.ok_or(Reason::FieldInvalid)?,
        What::Answer(message.text.clone(), kept),
    ))
}

fn kept(v: &mut Violations, given: &[api::KeptData]) -> Vec<KeptRow> {
    if given.len() > KEPT {
        v.add("erasure.kept", "at most 50");
        return Vec::new();
    }
    let mut all = Vec::with_capacity(given.len());
    for (n, one) in given.iter().enumerate() {
        let field = |name: &str| format!("erasure.kept[{n}].{name}");
        check_text(v, &field("what"), &one.what, 1, TEXT);
        check_text(v, &field("law"), &one.law, 1, TEXT);
        let until = time(v, &field("until_time"), one.until_time.as_ref());
        all.push(KeptRow {
            what: one.what.clone(),
            law: one.law.clone(),
            until: until.unwrap_or_default().0,
        });
    }
    all
}

/// Whether the answer will do.
///
/// # Errors
/// FIELD_INVALID.
pub fn parse_close(message: &api::CloseRightsRequestRequest) -> Result<(RightsRequestId, What), Refusal> {
    let mut v = Violations::new();
    let id = super::name(&mut v, "name", &message.name);
    let verb = match Outcome::try_from(message.outcome) {
        Ok(Outcome::Satisfied) => Verb::Close,
        Ok(Outcome::ToBoard) => Verb::Escalate,
        _ => {
            v.add("outcome", "required: OUTCOME_SATISFIED or OUTCOME_TO_BOARD");
            Verb::Close
        }
    };
    v.check()?;
    Ok((id.ok_or(Reason::FieldInvalid)?, What::Close(verb)))
}

/// The states of a list.
pub fn states(v: &mut Violations, numbers: &[i32]) -> Vec<State> {
    let states = super::states::<api::rights_request::State>(v, "states", numbers);
    states.into_iter().map(State::from_number).collect()
}

/// As the contract has it, by the clock of now.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(
    row: &RightsRow,
    ring: &Ring,
    caller: &Caller,
    now: Micros,
    revision: String,
) -> Result<api::RightsRequest, Refusal> {
    let at = |time: i64| rows::time(time).map(timestamp);
    let hers = ring.open(&row.subject, "rights text", &row.id, &row.text)?;
    let state = row.state_at(now);
    let answer = row.answer.as_ref().map(|answer| {
        let sealed = ring.open_as::<Answered>(&row.subject, "rights answer", &row.id, &answer.sealed)?;
        let Answered { text, kept } = sealed.unwrap_or_default();
        let erasure = (row.kind == i32::from(Kind::Erasure)).then(|| api::Erasure {
            kept: kept.into_iter().map(shown).collect(),
        });
        Ok::<_, Refusal>(api::RightsAnswer {
            text,
            erasure,
            answered_by: answer.by.clone(),
            answer_time: at(answer.at),
        })
    });
    // What time has done is told whether it is written or not.
    let lapsed = state == State::Escalated && row.state() == State::Open;
    // Participants know her by her address, not by her account.
    let subject = if caller.participant().is_some() {
        String::new()
    } else {
        row.subject()?.name()
    };
    Ok(api::RightsRequest {
        name: row.id()?.name(),
        subject,
        kind: row.kind,
        against: row.against.clone(),
        patient: hers.patient,
        text: hers.text,
        about: row.about.clone(),
        state: state.number(),
        due_time: at(row.due),
        answer: answer.transpose()?,
        close_time: at(if lapsed { row.due } else { row.closed }),
        representation: rows::representation(&row.asked_under),
        create_time: at(row.created),
        update_time: at(row.updated),
        etag: rows::etag(row.version),
        revision,
    })
}

fn shown(kept: KeptRow) -> api::KeptData {
    api::KeptData {
        what: kept.what,
        law: kept.law,
        until_time: Some(timestamp(Micros(kept.until))),
    }
}
