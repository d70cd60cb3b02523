//! What is read, and why the answer is not "verified".

use std::fs::File;
use std::io::{self, Read};

use sammati_log::{Error, Fault};
use serde_json::{Value, json};

use super::source::Source;

/// The largest key or proof file that is read.
pub(crate) const MAX_SMALL: usize = 64 * 1024;

/// The verdict in a sentence and as facts, or why there is none.
pub(crate) type Answer = Result<(String, Value), Failure>;

/// Why the answer is not "verified".
#[derive(Debug)]
pub(crate) struct Failure {
    /// Which input it is about, or nothing.
    pub(crate) what: String,
    why: String,
    fault: Fault,
}

impl Failure {
    /// Something is missing or cannot be read.
    pub(crate) fn unusable(what: &str, why: impl ToString) -> Self {
        Self::of(what, why, Fault::Input)
    }

    /// The command line is not good.
    pub(crate) fn usage(what: &str, why: impl ToString) -> Self {
        Self::of(what, why, Fault::Caller)
    }

    /// It does not verify.
    pub(crate) fn refuted(what: &str, why: impl ToString) -> Self {
        Self::of(what, why, Fault::Evidence)
    }

    fn of(what: &str, why: impl ToString, fault: Fault) -> Self {
        Self {
            what: what.to_owned(),
            why: why.to_string(),
            fault,
        }
    }

    /// About this input.
    pub(crate) fn about(self, what: &str) -> Self {
        Self {
            what: what.to_owned(),
            ..self
        }
    }

    /// Within this source, if there may be others.
    pub(crate) fn within(self, source: &Source) -> Self {
        let Some(file) = source.file() else { return self };
        let what = match self.what.as_str() {
            "" => file.to_owned(),
            what => format!("{file}: {what}"),
        };
        Self { what, ..self }
    }

    /// What was to prove it is not usable; that says nothing of what was to be proved.
    pub(crate) fn unproven(self) -> Self {
        Self {
            fault: Fault::Input,
            ..self
        }
    }

    pub(crate) const fn is_refuted(&self) -> bool {
        matches!(self.fault, Fault::Evidence)
    }

    pub(crate) const fn exit_code(&self) -> u8 {
        match self.fault {
            Fault::Evidence => 1,
            Fault::Caller => 2,
            Fault::Input | Fault::Store | Fault::Key => 3,
        }
    }

    pub(crate) fn sentence(&self) -> String {
        let verdict = if self.is_refuted() {
            "does not verify"
        } else {
            "cannot be checked"
        };
        if self.what.is_empty() {
            format!("{verdict}: {}", self.why)
        } else {
            format!("{verdict}: {}: {}", self.what, self.why)
        }
    }

    pub(crate) fn facts(&self) -> Value {
        json!({"verified": false, "fault": self.fault.as_str(), "reason": self.sentence()})
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of("", &error, error.fault())
    }
}

pub(crate) fn read_text(file: &str, limit: usize) -> Result<String, Failure> {
    text(file, read(file, limit)?)
}

pub(crate) fn text(what: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| Failure::unusable(what, error))
}

pub(crate) fn read(file: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    let bytes = if file == "-" {
        read_at_most(io::stdin().lock(), limit)
    } else {
        File::open(file).and_then(|open| read_at_most(open, limit))
    };
    let bytes = bytes.map_err(|error| Failure::unusable(file, error))?;
    if bytes.len() > limit {
        return Err(Failure::unusable(file, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads one byte more than allowed, to tell a file at the limit from one beyond it.
pub(crate) fn read_at_most(source: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
