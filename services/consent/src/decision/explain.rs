//! Why? Every rule with its verdict and what was compared, from the same run that decides.

use chrono::{DateTime, SecondsFormat};
use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::{Micros, ParticipantId, PurposeCode, StudyId};

use super::{Facts, Failed, Granted, Question, Recorder, Verdict, run};
use crate::scope::Range;

/// A rule that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Its number.
    pub rule: i32,
    /// Whether it holds.
    pub holds: bool,
    /// The reason it fails for.
    pub reason: Reason,
    /// What was asked.
    pub asked: String,
    /// What there is.
    pub found: String,
}

/// The rules of the question, or of one candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The candidate's place; `None` for the question.
    pub place: Option<usize>,
    /// In order.
    pub rules: Vec<Judged>,
}

impl Part {
    /// The first rule that fails.
    pub fn failed(&self) -> Option<&Judged> {
        self.rules.iter().find(|judged| !judged.holds)
    }
}

#[derive(Default)]
struct All(Vec<Part>);

impl Recorder for All {
    const STOPS: bool = false;

    fn begin(&mut self, place: Option<usize>) {
        let rules = Vec::new();
        self.0.push(Part { place, rules });
    }

    fn rule(
        &mut self,
        rule: i32,
        holds: bool,
        reason: Reason,
        compared: impl FnOnce() -> (String, String),
    ) -> Result<(), Failed> {
        let (asked, found) = compared();
        if let Some(part) = self.0.last_mut() {
            part.rules.push(Judged {
                rule,
                holds,
                reason,
                asked,
                found,
            });
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failed> {
        match self.0.last().and_then(Part::failed) {
            Some(judged) => Err((judged.rule, judged.reason)),
            None => Ok(()),
        }
    }
}

/// Decides, and tells how: the question's part first, then each candidate that the asker may know of, in the order in
/// which they are tried.
pub fn explain(question: &Question, facts: &impl Facts, candidates: &[&Granted], now: Micros) -> (Verdict, Vec<Part>) {
    let mut all = All::default();
    let verdict = run(question, facts, candidates, now, &mut all);
    (verdict, all.0)
}

type Compared = (String, String);

pub(super) fn role(id: &ParticipantId, purpose: Option<PurposeCode>) -> Compared {
    let purpose = purpose.map_or("what is granted", |purpose| purpose.code());
    (id.name(), format!("active in a role that may ask for {purpose}"))
}

pub(super) fn provider(id: &ParticipantId) -> Compared {
    (id.name(), "active as a HIP".to_owned())
}

pub(super) fn any() -> Compared {
    ("a consent".to_owned(), "those that the asker may know of".to_owned())
}

pub(super) fn study(id: StudyId, until: Option<Micros>) -> Compared {
    let found = until.map_or_else(
        || "not active".to_owned(),
        |until| format!("active until {}", time(until)),
    );
    (id.name(), found)
}

pub(super) fn account() -> Compared {
    ("her account".to_owned(), "active".to_owned())
}

pub(super) fn blocked() -> Compared {
    ("what is asked".to_owned(), "nothing that she denies".to_owned())
}

pub(super) fn state(consent: &Granted, now: Micros) -> Compared {
    let until = consent.resume.map(|at| format!(" until {}", time(at)));
    let found = format!(
        "{}{}, until {}",
        consent.state.as_str(),
        until.unwrap_or_default(),
        time(consent.expire)
    );
    (format!("in force at {}", time(now)), found)
}

pub(super) fn purpose(question: &Question, consent: &Granted) -> Compared {
    let asked = question.purpose.map_or("as granted", |purpose| purpose.code());
    (asked.to_owned(), consent.scope.purpose.code().to_owned())
}

pub(super) fn mode(question: &Question, consent: &Granted) -> Compared {
    let asked = question.access_mode.map_or("as granted", |mode| mode.as_str());
    (asked.to_owned(), consent.scope.access_mode.as_str().to_owned())
}

pub(super) fn hi_types(question: &Question, consent: &Granted) -> Compared {
    let list = |types: &std::collections::BTreeSet<sammati_kernel::HiType>| {
        let names: Vec<_> = types.iter().map(|t| t.as_str()).collect();
        names.join(", ")
    };
    (list(&question.hi_types), list(&consent.scope.hi_types))
}

pub(super) fn ranges(question: &Question, consent: &Granted) -> Compared {
    (range(question.record_range), range(consent.scope.record_range))
}

/// How many, not which: their references are for those who may read them.
pub(super) fn contexts(question: &Question, consent: &Granted) -> Compared {
    let granted = match consent.scope.care_contexts.len() {
        0 => "all that are linked".to_owned(),
        n => format!("{n} named"),
    };
    (format!("{} named", question.care_contexts.len()), granted)
}

pub(super) fn user(question: &Question, consent: &Granted) -> Compared {
    let asked = match &question.user {
        Some(user) if *user == consent.user => "the one named in the consent",
        Some(_) => "another professional",
        None => "no professional",
    };
    let found = if consent.scope.bind_requester {
        "only the one named in the consent"
    } else {
        "any"
    };
    (asked.to_owned(), found.to_owned())
}

pub(super) fn acknowledged(consent: &Granted) -> Compared {
    let found = if consent.acknowledged {
        "the HIP has acknowledged"
    } else {
        "the HIP has not acknowledged"
    };
    ("the HIP knows of it, or asks itself".to_owned(), found.to_owned())
}

pub(super) fn left(left: Option<i64>) -> Compared {
    let found = left.map_or_else(|| "no limit".to_owned(), |left| format!("{left} left"));
    ("one use".to_owned(), found)
}

fn range(range: Range) -> String {
    format!("{} to {}", time(range.from), time(range.to))
}

fn time(at: Micros) -> String {
    let time = DateTime::from_timestamp_micros(at.0);
    time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
