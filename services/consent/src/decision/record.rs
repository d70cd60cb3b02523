//! How is a decision told and kept? Its event, and what a repeat needs to tell it again.

use sammati_api::audit::v1::{DecisionRecord, event};
use sammati_api::consent::v1::decision::Reason;
use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, Caller, Micros, PurposeCode};
use sammati_server::event::{Draft, timestamp};

use super::reduce::Permitted;
use super::{Granted, Question, Verdict};

/// What a repeat needs to tell a decision again, and the answer of an authorize.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Decided {
    /// The event that records it.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `Decision.Reason`.
    #[prost(enumeration = "Reason", tag = "2")]
    pub reason: i32,
    /// For when it was decided.
    #[prost(int64, tag = "3")]
    pub at: i64,
    /// The consent that decided and may be shown; empty: none.
    #[prost(bytes = "vec", tag = "4")]
    pub consent: Vec<u8>,
    /// Which use it took; 0: none.
    #[prost(int64, tag = "5")]
    pub r#use: i64,
    /// Uses left after it; `None` without a limit.
    #[prost(int64, optional, tag = "6")]
    pub left: Option<i64>,
    /// When the window ends; 0 without one.
    #[prost(int64, tag = "7")]
    pub window_end: i64,
    /// When to ask again; 0 if that is not known.
    #[prost(int64, tag = "8")]
    pub retry: i64,
    /// By when to ask again after a permit.
    #[prost(int64, tag = "9")]
    pub recheck: i64,
    /// How fresh identity's facts were.
    #[prost(int64, tag = "10")]
    pub identity_as_of: i64,
    /// The revision it was decided on.
    #[prost(string, tag = "11")]
    pub revision: String,
    /// The version of the consent that decided.
    #[prost(int32, tag = "12")]
    pub version: i32,
    /// What a reduced permit leaves: kinds of record.
    #[prost(int32, repeated, tag = "13")]
    pub hi_types: Vec<i32>,
    /// Of the dates the first.
    #[prost(int64, tag = "14")]
    pub from: i64,
    /// And the first after.
    #[prost(int64, tag = "15")]
    pub to: i64,
    /// Of the care contexts that were named, as keyed hashes.
    #[prost(bytes = "vec", repeated, tag = "16")]
    pub contexts: Vec<Vec<u8>>,
}

impl Decided {
    /// Whether only a part of what was asked may happen.
    pub fn is_reduced(&self) -> bool {
        self.reason() == Reason::GrantedReduced
    }

    /// Notes which part that is.
    pub fn reduce(&mut self, part: &Permitted) {
        self.hi_types = part.hi_types.iter().map(|t| t.number()).collect();
        (self.from, self.to) = (part.record_range.from.0, part.record_range.to.0);
        self.contexts = part.care_contexts.iter().map(|key| key.to_vec()).collect();
    }
}

/// `NO_CONSENT` and the like, as events and refusals write it.
pub fn reason_text(reason: Reason) -> &'static str {
    reason.as_str_name().trim_start_matches("REASON_")
}

/// The event of a decision.
pub fn draft(
    caller: &Caller,
    question: &Question,
    subject: Option<AccountId>,
    by: Option<&Granted>,
    verdict: &Verdict,
) -> Draft {
    let class = if by.is_some() {
        types::RetentionClass::Consent
    } else {
        types::RetentionClass::Access
    };
    let kind = if verdict.permits() {
        "access.authorized"
    } else {
        "access.denied"
    };
    let mut draft = Draft::new(kind, event::Action::Execute, class, caller);
    if !verdict.permits() {
        draft = draft.refused(event::Outcome::Serious, reason_text(verdict.reason));
    }
    // Whom she blocks is no party to the event that says so: it would read there what it is not told.
    // Nor is a sponsor: it would read there whom its study knows.
    let in_study = by.is_some_and(|c| c.study.is_some()) || question.purpose == Some(PurposeCode::Dsrch);
    let tells = verdict.reason != Reason::BlockedBySubject && !in_study;
    let requester = question.requester.iter().chain(by.map(|c| &c.hiu)).filter(|_| tells);
    let provider = question.provider.iter().chain(by.map(|c| &c.hip));
    for id in requester.chain(provider) {
        let known = draft.payload().object_refs.contains(&id.name());
        if !known {
            draft = draft.participant(id);
        }
    }
    if let Some(study) = by.and_then(|c| c.study) {
        draft = draft.object(study.name());
    }
    let payload = draft.payload();
    payload.subject = subject.map(|account| account.name()).unwrap_or_default();
    payload.purpose = question
        .purpose
        .or(by.map(|c| c.scope.purpose))
        .map_or(0, PurposeCode::number);
    if let Some(consent) = by {
        payload.consent = consent.id.name();
        payload.consent_version = consent.version;
    }
    draft
}

/// What the event keeps of the decision itself: no care contexts, which are personal.
pub fn record(id: &str, revision: &str, rule: i32, question: &Question) -> DecisionRecord {
    let purpose = question.purpose.map(|p| types::Purpose {
        code: p.number(),
        ..Default::default()
    });
    let range = question.record_range;
    let checked = types::Scope {
        purpose,
        hi_types: question.hi_types.iter().map(|t| t.number()).collect(),
        access_mode: question.access_mode.map_or(0, sammati_kernel::AccessMode::number),
        record_range: Some(types::TimeRange {
            from: Some(timestamp(range.from)),
            to: Some(timestamp(range.to)),
        }),
        ..Default::default()
    };
    DecisionRecord {
        id: id.to_owned(),
        revision: revision.to_owned(),
        rule,
        checked: Some(checked),
    }
}

/// A verdict as it is told, before its event has an id.
pub fn decided(verdict: &Verdict, by: Option<&Granted>, now: Micros, identity_as_of: Micros) -> Decided {
    let left = by.map(|consent| consent.left(now));
    Decided {
        id: String::new(),
        reason: verdict.reason.into(),
        at: now.0,
        consent: by.map(|consent| consent.id.to_vec()).unwrap_or_default(),
        r#use: 0,
        left: left.and_then(|left| left.smaller()),
        window_end: left.and_then(|left| left.window_end).map_or(0, |at| at.0),
        retry: verdict.retry.map_or(0, |at| at.0),
        recheck: by
            .filter(|_| verdict.permits())
            .map_or(0, |consent| super::recheck(consent, now).0),
        identity_as_of: identity_as_of.0,
        version: by.map_or(0, |consent| consent.version),
        ..Decided::default()
    }
}
