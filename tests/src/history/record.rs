//! Keeps what was called, as it ends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Operation, What};

/// The history of one consent, while it is made.
#[derive(Debug)]
pub struct Recorder {
    zero: Instant,
    kept: Mutex<Vec<Operation>>,
}

impl Recorder {
    /// An empty history that begins now.
    #[expect(clippy::new_without_default, reason = "a default would hide that it reads the time")]
    pub fn new() -> Self {
        Self {
            zero: Instant::now(),
            kept: Mutex::default(),
        }
    }

    /// The time in this history.
    pub fn now(&self) -> Duration {
        self.zero.elapsed()
    }

    /// Calls, and keeps what was answered. `None`: whether it happened is not known.
    pub async fn call(&self, what: What, call: impl AsyncFnOnce() -> Option<Answer>) -> Option<Answer> {
        let start = self.now();
        let answer = call().await;
        self.keep(match answer {
            Some(answer) => Operation::answered(start, self.now(), what, answer),
            None => Operation::unknown(start, what),
        });
        answer
    }

    /// Keeps an operation that was timed elsewhere.
    pub fn keep(&self, operation: Operation) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    /// The consent's time is over at `end`, give or take `about`.
    pub fn ends(&self, end: Duration, about: Duration) {
        let (near, over) = (end.saturating_sub(about), end + about);
        self.keep(Operation::answered(near, near, What::EndNears, Answer::Passed));
        self.keep(Operation::answered(over, over, What::End, Answer::Passed));
    }

    /// All that was kept.
    pub fn history(&self) -> Vec<Operation> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
