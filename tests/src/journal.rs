//! What clients were told. Every answer is in a file before it counts; a call whose outcome is unknown is there as such,
//! and again when the same request id was answered.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::time::Instant;

use crate::story::Failure;

/// What a client called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Somebody is enrolled.
    Enrol,
    /// A consent is asked for.
    Ask,
    /// She gives it.
    Approve,
    /// She does not.
    Deny,
    /// She takes it back.
    Revoke,
    /// A use is taken.
    Authorize,
    /// It is asked whether one could be.
    Check,
    /// Events are appended to the log.
    Append,
}

/// What it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done; what came of it.
    Done(String),
    /// It is refused, for this reason.
    Refused(String),
    /// Nobody knows whether it is done; why not.
    Unknown(String),
}

/// One call on one object: when it began and ended, in microseconds since the journal began, and its answer. A call that
/// was repeated until it was answered began with the first try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The cycle.
    pub cycle: usize,
    /// What it is about: a consent's request, a person, or an event.
    pub object: String,
    /// What was called for.
    pub op: Op,
    /// The request id; empty for what has none.
    pub request_id: String,
    /// When it began.
    pub start: u64,
    /// When it was answered.
    pub end: u64,
    /// The answer.
    pub answer: Answer,
}

/// The file, one JSON object a line.
pub struct Journal {
    file: Mutex<File>,
    began: Instant,
}

impl Journal {
    /// A new one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let file = Mutex::new(File::create(path)?);
        let began = Instant::now();
        Ok(Self { file, began })
    }

    /// Microseconds since it began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes a call down; afterwards it counts.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(&self, call: &Call) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        // One write to the file itself: what it holds is whole, whatever becomes of this process.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.write_all(&line)?)
    }
}
