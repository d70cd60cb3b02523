//! Questions and decisions on the wire.

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, ConsentId, Key, Micros, ParticipantId, PurposeCode, Reason, Refusal, Violations};
use sammati_server::event::timestamp;
use sammati_store::Revision;

use super::{Person, optional_participant, scope, stamp};
use crate::artefact::Audience;
use crate::decision::record::Decided;
use crate::decision::{Asker, Question, no_store};
use crate::subject::Held;

/// What a question is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// One consent.
    Consent(ConsentId),
    /// A person, between two participants.
    Person(Person),
}

impl Target {
    /// A stable text, to fold equal denials.
    pub fn text(&self) -> String {
        match self {
            Self::Consent(id) => id.name(),
            Self::Person(person) => person.text(),
        }
    }
}

/// A question with its target and the references of its care contexts, which are hashed once the provider is known.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The target.
    pub target: Target,
    /// The question, without care contexts.
    pub question: Question,
    /// The references of the care contexts.
    pub references: Vec<String>,
    /// Whether a permit is signed.
    pub signed: bool,
}

/// A question, well formed.
///
/// # Errors
/// FIELD_INVALID with all violations; NOT_AVAILABLE for a participant that is neither requester nor provider.
pub fn parse(request: &api::CheckAccessRequest, caller: &Caller) -> Result<Asked, Refusal> {
    use api::check_access_request::Target as T;
    let mut v = Violations::new();
    let target = match &request.target {
        Some(T::Consent(text)) => super::name(&mut v, "consent", text).map(Target::Consent),
        Some(T::Subject(identifier)) => super::person(&mut v, "subject", Some(identifier)).map(Target::Person),
        None => {
            v.add("target", "required: consent, or subject");
            None
        }
    };
    let requester = optional_participant(&mut v, "requester", &request.requester);
    let provider = optional_participant(&mut v, "provider", &request.provider);
    let user = request
        .user
        .clone()
        .and_then(|user| super::requester(&mut v, "user", Some(user)));
    let purpose = PurposeCode::from_number(request.purpose);
    if purpose.is_none() {
        v.add("purpose", "required: a known purpose");
    }
    let access_mode = scope::access_mode(&mut v, "access_mode", request.access_mode);
    let hi_types = scope::hi_types(&mut v, "hi_types", &request.hi_types, 1);
    let record_range = super::range(&mut v, "record_range", request.record_range.as_ref());
    check_contexts(&mut v, &request.care_contexts);
    let stale = matches!(
        request.consistency,
        Some(api::check_access_request::Consistency::AtLeast(_))
    );
    if request.signed && stale {
        v.add("signed", "not with at_least: only what sees every change is signed");
    }
    let by_subject = matches!(request.target, Some(T::Subject(_)));
    let parties = default_parties(&mut v, caller, requester, provider, by_subject);
    v.check()?;
    let (requester, provider) = parties?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    let question = Question {
        asker: asker(caller),
        requester,
        provider,
        user: user.as_ref().map(super::registration),
        purpose,
        access_mode,
        hi_types: hi_types.ok_or_else(missing)?,
        record_range: record_range.ok_or_else(missing)?,
        care_contexts: Default::default(),
        has_use: false,
        allow_reduced: request.allow_reduced,
    };
    let references = request
        .care_contexts
        .iter()
        .map(|c| c.care_context_reference.clone())
        .collect();
    Ok(Asked {
        target: target.ok_or_else(missing)?,
        question,
        references,
        signed: request.signed,
    })
}

/// Questions of one call.
pub const BATCH: usize = 500;

/// Several questions of one call, without a consistency of their own; `field` names one of them, with `[]` for its index.
///
/// # Errors
/// BATCH_LIMIT; what [`parse`] refuses, with the index.
pub fn parse_all(checks: &[&api::CheckAccessRequest], field: &str, caller: &Caller) -> Result<Vec<Asked>, Refusal> {
    let list = field.split('[').next().unwrap_or_default().to_owned();
    if checks.len() > BATCH {
        return Err(Refusal {
            reason: Reason::BatchLimit,
            ..Refusal::field(list, "at most 500 in one message")
        });
    }
    let (mut v, mut all, mut other) = (Violations::new(), Vec::with_capacity(checks.len()), None);
    if checks.is_empty() {
        v.add(list, "at least one question");
    }
    for (n, check) in checks.iter().enumerate() {
        let at = || field.replacen("[]", &format!("[{n}]"), 1);
        if check.consistency.is_some() {
            v.add(
                format!("{}.consistency", at()),
                "left out: it is that of the whole message",
            );
        }
        if check.signed {
            v.add(
                format!("{}.signed", at()),
                "left out: ask by itself what is to be signed",
            );
        }
        match parse(check, caller) {
            Ok(asked) => all.push(asked),
            Err(refusal) if refusal.violations.is_empty() => {
                other.get_or_insert(refusal.saying(format!("{}: neither its requester nor its provider is you", at())));
            }
            Err(refusal) => {
                let found = refusal.violations.iter();
                found.for_each(|f| v.add(format!("{}.{}", at(), f.field), f.description.clone()));
            }
        }
    }
    v.check()?;
    other.map_or(Ok(all), Err)
}

/// How fresh an answer must be.
pub enum Consistency {
    /// It sees everything that returned before; only true can be asked for.
    Full(bool),
    /// It sees a revision, or more.
    AtLeast(String),
}

macro_rules! consistency { ($($message:ident)*) => { $(
    impl From<&api::$message::Consistency> for Consistency {
        fn from(consistency: &api::$message::Consistency) -> Self {
            match consistency {
                api::$message::Consistency::FullyConsistent(full) => Self::Full(*full),
                api::$message::Consistency::AtLeast(revision) => Self::AtLeast(revision.clone()),
            }
        }
    }
)* } }

consistency! { check_access_request batch_check_access_request stream_check_access_request }

/// How fresh the caller wants it: at least a revision, or, without one, everything that returned before the check began.
///
/// # Errors
/// FIELD_INVALID.
pub fn wanted(key: &Key, consistency: Option<Consistency>) -> Result<Option<Revision>, Refusal> {
    match consistency {
        None | Some(Consistency::Full(true)) => Ok(None),
        Some(Consistency::Full(false)) => Err(Refusal::field("fully_consistent", "true, or left out")),
        Some(Consistency::AtLeast(text)) => Revision::open(key, &text)
            .map(Some)
            .ok_or_else(|| Refusal::field("at_least", "a revision from an earlier answer")),
    }
}

/// An authorize is the same question.
pub fn as_check(request: api::AuthorizeAccessRequest) -> api::CheckAccessRequest {
    use api::authorize_access_request::Target as A;
    use api::check_access_request::Target as T;
    api::CheckAccessRequest {
        target: request.target.map(|target| match target {
            A::Consent(name) => T::Consent(name),
            A::Subject(identifier) => T::Subject(identifier),
        }),
        requester: request.requester,
        provider: request.provider,
        user: request.user,
        purpose: request.purpose,
        access_mode: request.access_mode,
        hi_types: request.hi_types,
        record_range: request.record_range,
        care_contexts: request.care_contexts,
        allow_reduced: request.allow_reduced,
        signed: request.signed,
        consistency: None,
    }
}

/// Who asks, as the rules see it.
pub fn asker(caller: &Caller) -> Asker {
    match (caller.participant(), caller.account()) {
        (Some(id), _) => Asker::Participant(id.clone()),
        (None, Some(account)) => Asker::Person(account),
        (None, None) => Asker::Service,
    }
}

/// References only: the receiver was never told the provider's patient reference, so it may leave that out.
fn check_contexts(v: &mut Violations, contexts: &[types::CareContextRef]) {
    let filled: Vec<_> = contexts
        .iter()
        .map(|context| {
            let patient_reference = if context.patient_reference.is_empty() {
                "-".to_owned()
            } else {
                context.patient_reference.clone()
            };
            types::CareContextRef {
                patient_reference,
                ..context.clone()
            }
        })
        .collect();
    scope::contexts(v, "care_contexts", &filled);
}

type Parties = (Option<ParticipantId>, Option<ParticipantId>);

/// Rule 0, for participants: the caller is one of the two, and is the one that is left out.
fn default_parties(
    v: &mut Violations,
    caller: &Caller,
    requester: Option<ParticipantId>,
    provider: Option<ParticipantId>,
    by_subject: bool,
) -> Result<Parties, Refusal> {
    let parties = match (caller.participant(), requester, provider) {
        (Some(me), Some(r), Some(p)) if *me != r && *me != p => return Err(Reason::NotAvailable.into()),
        (Some(me), Some(r), None) if *me != r => (Some(r), Some(me.clone())),
        (Some(me), None, Some(p)) if *me != p => (Some(me.clone()), Some(p)),
        (_, r, p) => (r, p),
    };
    if by_subject && parties.0.is_none() {
        v.add("requester", "required with subject: who will look");
    }
    if by_subject && parties.1.is_none() {
        v.add("provider", "required with subject: who holds the records");
    }
    Ok(parties)
}

/// What a caller is told. `held` is the consent that decided, if the caller may know of it; `part` what it leaves of the
/// question, if that is not all.
pub fn render(
    decided: &Decided,
    held: Option<&Held>,
    part: Option<api::decision::Part>,
    caller: &Caller,
    revision: String,
) -> api::Decision {
    use api::decision::Reason as Why;
    let granted = held.map(|held| &held.granted);
    let permits = matches!(decided.reason(), Why::Granted | Why::GrantedReduced);
    // Of a repeat the consent is shown as it is now: what another version grants was not decided on.
    let shown = held.filter(|held| held.granted.version == decided.version);
    let to = granted.and_then(|consent| super::consent::reader(caller, consent.hip.as_str()));
    api::Decision {
        outcome: if permits {
            api::decision::Outcome::Permit
        } else {
            api::decision::Outcome::Deny
        }
        .into(),
        reason: decided.reason,
        decision_id: decided.id.clone(),
        decide_time: stamp(decided.at),
        revision,
        identity_as_of_time: stamp(decided.identity_as_of),
        consent: granted.map(|consent| consent.id.name()).unwrap_or_default(),
        version: granted.map_or(0, |_| decided.version),
        granted: shown.map(|held| scope::render(&held.granted.scope, &held.care_contexts, to)),
        obligations: held.filter(|_| permits).map(|held| obligations(held, decided, to)),
        r#use: (decided.r#use != 0).then_some(decided.r#use),
        uses_left: decided.left,
        window_end_time: stamp(decided.window_end),
        retry_time: stamp(decided.retry),
        successor: granted
            .filter(|_| decided.reason() == api::decision::Reason::ConsentSuperseded)
            .and_then(|consent| consent.successor)
            .map(|id| id.name())
            .unwrap_or_default(),
        part,
        jws: String::new(),
    }
}

fn obligations(held: &Held, decided: &Decided, to: Option<Audience>) -> api::Obligations {
    api::Obligations {
        erase_by_time: Some(timestamp(held.granted.expire)),
        recheck_by_time: Some(timestamp(Micros(decided.recheck))),
        no_store: no_store(&held.granted),
        no_onward_sharing: true,
        report_transfer: to.is_some(),
        show_break_glass_banner: held.granted.scope.purpose == PurposeCode::Btg,
    }
}
