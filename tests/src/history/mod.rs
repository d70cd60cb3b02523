//! Was it as if everything had happened one after another? Records what was asked of a consent, when, and what was
//! answered, and searches for an order that explains all answers.
//!
//! A history is a list of [`Operation`]s about one consent and the request it came from; [`check`] holds it against
//! [`Model`]. Whoever drives a system collects one list for each consent, with a [`Recorder`] or by hand.

mod check;
mod model;
mod record;
#[cfg(test)]
mod tests;
pub mod told;

use std::time::Duration;

pub use check::{Violation, check};
pub use model::{Answer, Consent, Model, Request, What, Why};
pub use record::Recorder;

/// One call, as its client saw it. Times are since some instant that all operations of a history share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Before the call was sent.
    pub start: Duration,
    /// After its answer had come; `None`: there was none, and it happens at any time after its start, or never.
    pub end: Option<Duration>,
    /// What was asked.
    pub what: What,
    /// What was answered; `None` with `end`.
    pub answer: Option<Answer>,
}

impl Operation {
    /// Answered.
    pub const fn answered(start: Duration, end: Duration, what: What, answer: Answer) -> Self {
        Self {
            start,
            end: Some(end),
            what,
            answer: Some(answer),
        }
    }

    /// Without an answer.
    pub const fn unknown(start: Duration, what: What) -> Self {
        Self {
            start,
            end: None,
            what,
            answer: None,
        }
    }
}
