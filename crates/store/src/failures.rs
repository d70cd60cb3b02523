//! How a batch failed so far: may it be run again, and what are its callers told if not?

use crate::error::Error;

/// How often a batch is run again before its callers are told that storage is unavailable.
const RERUNS: u32 = 10;

/// How often a batch that is too slow is run again before the command that may be too slow for all is looked for, and that one
/// alone before it is refused: each time it has kept the lane for as long as a statement may take.
const SLOW_RERUNS: u32 = 2;

/// The failures of one batch that will pass.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    all: u32,
    /// Of these, for a statement took too long.
    slow: u32,
    /// Whether one was a commit whose outcome nobody told.
    unknown: bool,
}

impl Failures {
    /// How many there were.
    pub(crate) const fn count(&self) -> u32 {
        self.all
    }

    /// Whether something of the batch may be committed.
    pub(crate) const fn may_be_done(&self) -> bool {
        self.unknown
    }

    /// Whether the batch is run again after `error`, which is one more then.
    pub(crate) fn again_after(&mut self, error: &Error) -> bool {
        let slow = error.is_slow();
        if !error.is_passing() || self.all == RERUNS || slow && self.slow == SLOW_RERUNS {
            return false;
        }
        self.all += 1;
        self.slow += u32::from(slow);
        // The request rows tell, at the next attempt, what had been done.
        self.unknown |= matches!(error, Error::CommitUnknown(_));
        true
    }

    /// What is told of a batch that is not run again after `error`. Which command is at fault is not looked for where a commit
    /// may have been done: each half would take its time anew, and find no better what it was.
    pub(crate) fn end(&self, error: Error) -> Error {
        if self.unknown {
            Error::CommitUnknown(diesel::result::Error::QueryBuilderError(error.to_string().into()))
        } else {
            error
        }
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::{DatabaseErrorKind, Error as Diesel};

    use super::*;

    fn said(text: &str) -> Diesel {
        Diesel::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()))
    }

    fn slow() -> Error {
        said("canceling statement due to statement timeout").into()
    }

    fn held() -> Error {
        said("canceling statement due to lock timeout").into()
    }

    fn swallowed() -> Error {
        Error::CommitUnknown(said("connection closed"))
    }

    /// How often a batch that fails so each time is run again.
    fn reruns(failures: &mut Failures, error: fn() -> Error) -> usize {
        (0..100).take_while(|_| failures.again_after(&error())).count()
    }

    #[test]
    fn what_is_too_slow_after_a_swallowed_commit_is_given_up_soon_and_its_outcome_stays_unknown() {
        let mut failures = Failures::default();
        assert!(failures.again_after(&swallowed()) && failures.may_be_done());
        assert_eq!(reruns(&mut failures, slow), 2);
        let told = failures.end(slow());
        assert!(matches!(told, Error::CommitUnknown(_)), "{told}");
        assert!(!told.is_of_one_command(), "nor is it halved");
        assert!(told.to_string().contains("statement timeout"), "{told}");
    }

    #[test]
    fn what_is_too_slow_is_run_again_twice_however_else_it_failed_before() {
        let mut failures = Failures::default();
        for _ in 0..3 {
            assert!(failures.again_after(&held()));
        }
        assert_eq!(reruns(&mut failures, slow), 2);
        assert!(failures.end(slow()).is_of_one_command(), "so that it is looked for");
        assert!(
            failures.again_after(&held()),
            "and what is not slow is not bounded by it"
        );
        assert_eq!(failures.count(), 6);
    }

    #[test]
    fn what_will_pass_is_run_again_ten_times_and_what_will_not_never() {
        let mut failures = Failures::default();
        assert_eq!(reruns(&mut failures, || said("no such table: head").into()), 0);
        assert_eq!(reruns(&mut failures, held), 10);
        assert!(!failures.again_after(&swallowed()) && !failures.may_be_done());
        assert!(matches!(failures.end(swallowed()), Error::CommitUnknown(_)));
    }
}
