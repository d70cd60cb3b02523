//! Connecting, but not in a hot loop: while the database is away one tries at a time, with growing pauses, and whoever
//! else wants a connection is told at once what the last try met.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::postgres::Purpose;
use crate::{AnyConn, Location};

/// The longest pause: a server that is back is found within it.
const LONGEST: Duration = Duration::from_millis(500);

/// Where a store gets its connections.
pub(crate) struct Dial {
    location: Location,
    failing: Mutex<Option<Failing>>,
}

struct Failing {
    failures: u32,
    /// Nobody tries before then; `None` while somebody does.
    until: Option<Instant>,
    why: String,
}

impl Dial {
    pub(crate) const fn new(location: Location) -> Self {
        Self {
            location,
            failing: Mutex::new(None),
        }
    }

    /// Whether this process alone writes the database.
    pub(crate) const fn is_embedded(&self) -> bool {
        self.location.is_embedded()
    }

    /// As [`Location::keeps_to_one_partition`].
    pub(crate) const fn keeps_to_one_partition(&self) -> bool {
        self.location.keeps_to_one_partition()
    }

    /// The file of an embedded database.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.location {
            Location::Sqlite(path) => Some(path),
            Location::Postgres { .. } => None,
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the database is away or does not let us in, or was so a moment ago.
    pub(crate) fn connect(&self) -> Result<AnyConn, Error> {
        self.connect_for(Purpose::Work)
    }

    /// A new connection for confirmations.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(crate) fn connect_to_confirm(&self) -> Result<AnyConn, Error> {
        self.connect_for(Purpose::Confirm)
    }

    fn connect_for(&self, purpose: Purpose) -> Result<AnyConn, Error> {
        self.guard(Instant::now, || self.location.connect_for(purpose))
    }

    fn guard<T>(&self, now: impl Fn() -> Instant, connect: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let failures = self.enter(now())?;
        let tried = catch_unwind(AssertUnwindSafe(connect));
        let tried = tried.unwrap_or_else(|_| Err(Error::Broken("connecting panicked".into())));
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match &tried {
            Ok(_) => *failing = None,
            Err(error) => {
                let failures = failures + 1;
                tracing::warn!(%error, failures, "cannot connect");
                *failing = Some(Failing {
                    failures,
                    until: Some(now() + pause(failures)),
                    why: reason(error),
                });
            }
        }
        tried
    }

    /// Lets one through that may try; tells how many tries have failed. While none has, all may.
    fn enter(&self, now: Instant) -> Result<u32, Error> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = failing.as_mut() else { return Ok(0) };
        match known.until {
            Some(until) if until <= now => {
                known.until = None;
                Ok(known.failures)
            }
            _ => Err(Error::Connect(known.why.clone())),
        }
    }
}

/// 25 ms doubling to [`LONGEST`].
fn pause(failures: u32) -> Duration {
    (Duration::from_millis(25) * (1 << failures.min(6).saturating_sub(1))).min(LONGEST)
}

fn reason(error: &Error) -> String {
    match error {
        Error::Connect(why) => why.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn away() -> Result<(), Error> {
        Err(Error::Connect("nobody is there".into()))
    }

    #[test]
    fn while_nobody_answers_one_tries_now_and_then_and_the_rest_are_told_at_once() {
        let dial = Dial::new(Location::parse("postgres://nowhere/x").unwrap());
        let (began, passed, tries) = (Instant::now(), Cell::new(Duration::ZERO), Cell::new(0_u32));
        let now = || began + passed.get();
        let pass = |time| passed.set(passed.get() + time);
        while passed.get() < Duration::from_secs(60) {
            for _ in 0..100 {
                let refusal = dial.guard(now, || {
                    tries.set(tries.get() + 1);
                    away()
                });
                assert_eq!(
                    refusal.unwrap_err().to_string(),
                    "cannot connect to the database: nobody is there"
                );
            }
            pass(Duration::from_millis(5));
        }
        assert!((118..=126).contains(&tries.get()), "{} tries in a minute", tries.get());
        // Somebody who tries is waited for by nobody.
        pass(LONGEST);
        let two = || assert!(dial.guard(now, || Ok(())).is_err(), "two try at once");
        dial.guard(now, || {
            two();
            Ok(())
        })
        .unwrap();
        assert!(dial.guard(now, || Ok(())).is_ok(), "back, and no pause is left");
        // A panic is a failure like another, not the end of all tries.
        assert!(dial.guard(now, || -> Result<(), Error> { panic!("as asked") }).is_err());
        pass(LONGEST);
        assert!(dial.guard(now, || Ok(())).is_ok());
    }
}
