//! What can go wrong between a command and its commit.

use diesel::result::{DatabaseErrorKind, Error as Diesel};
use sammati_kernel::{Reason, Refusal};

/// A failure of storage. Its text is for the log; callers get a [`Refusal`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection could not be made.
    #[error("cannot connect to the database: {0}")]
    Connect(String),
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Database(#[from] Diesel),
    /// The commit was sent and its answer did not arrive.
    #[error("the outcome of a commit is unknown: {0}")]
    CommitUnknown(Diesel),
    /// A claim that was absent when loaded belongs to somebody by now: load and decide again.
    #[error("a claim was taken meanwhile")]
    ClaimTaken,
    /// A row was not as loaded although its partition was locked: a bug, or somebody writes beside the store.
    #[error("a row was not as loaded: {0}")]
    Missed(String),
    /// A record or a command broke the store's rules.
    #[error("the store's own rule broke: {0}")]
    Broken(String),
    /// The clock of this process and the database's are more than a second apart.
    #[error("this machine's clock is {0} ms from the database's; set it by NTP")]
    ClockSkew(i64),
    /// What was committed is later than this process's clock, by more than replicas are ever apart.
    #[error(
        "the newest commit is {0} s ahead of this machine's clock: if the clock is slow, set it by NTP; if it was fast when \
         that was committed, wait for so long, or bring back a backup from before"
    )]
    Ahead(u64),
    /// The server only reads: a standby, or a primary that was deposed.
    #[error("the database server only reads: it is a standby, or was the primary once")]
    OnlyReads,
    /// The server, or the way to it, is not one that can be relied on.
    #[error("the database server cannot be relied on: {0}")]
    Unfit(String),
    /// A new epoch was opened, and what was lost before it is not done again yet.
    #[error(
        "the database was restored, and its recovery has not come to its end: what was taken back since the backup could be \
         in force again. Run the verb recover; it says what is in its way"
    )]
    Unfinished,
    /// The schema is not one that this binary serves.
    #[error("{0}")]
    Schema(String),
    /// Something about files: the lock, the folder.
    #[error("{0}")]
    File(String),
}

/// What SQLite says of a file that somebody else holds: SQLITE_BUSY, SQLITE_PROTOCOL.
const LOCKED: [&str; 2] = ["database is locked", "locking protocol"];

impl Error {
    /// Whether the same batch may well succeed when run again.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::ClaimTaken | Self::CommitUnknown(_) | Self::Connect(_) | Self::ClockSkew(_) => true,
            // Another server may stand there in a moment.
            Self::OnlyReads | Self::Unfit(_) => true,
            // It takes as long as somebody needs to run it.
            Self::Unfinished | Self::Ahead(_) => false,
            Self::Database(error) => is_passing(error),
            Self::Missed(_) | Self::Broken(_) | Self::Schema(_) | Self::File(_) => false,
        }
    }

    /// Whether one command of the batch may be at fault, so that the rest should go without it.
    pub(crate) fn is_of_one_command(&self) -> bool {
        self.is_slow()
            || !(self.is_passing() || self.is_of_the_disk() || matches!(self, Self::Unfinished | Self::Ahead(_)))
    }

    /// Whether one command of the batch may be what takes so long that the rest never commits.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self, Self::Database(Diesel::DatabaseError(_, info)) if info.message().contains("statement timeout"))
    }

    /// Whether SQLite did not get at its file for as long as it waits, for somebody else holds it.
    pub(crate) fn is_locked(&self) -> bool {
        let Self::Database(Diesel::DatabaseError(_, info)) = self else {
            return false;
        };
        LOCKED.iter().any(|sign| info.message().contains(sign))
    }

    /// Whether the disk takes nothing at the moment: then no part of a batch fares better than the whole.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        let Self::Database(Diesel::DatabaseError(_, info)) = self else {
            return false;
        };
        let text = info.message();
        text.contains("disk is full") || text.contains("readonly database") || text.contains("No space left on device")
    }

    /// Whether this process's clock is not to be decided by.
    pub(crate) const fn is_of_the_clock(&self) -> bool {
        matches!(self, Self::ClockSkew(_) | Self::Ahead(_))
    }

    /// Whether the connection is of no more use.
    pub(crate) fn lost_connection(&self) -> bool {
        match self {
            Self::Connect(_) | Self::CommitUnknown(_) | Self::OnlyReads | Self::Unfit(_) => true,
            Self::Database(error) => lost(error),
            _ => false,
        }
    }

    /// What a caller is told.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::CommitUnknown(_) => Reason::CommitUnknown.into(),
            Self::Missed(_) | Self::Broken(_) => Reason::Internal.into(),
            Self::Database(error) if breaks_a_rule(error) => Reason::Internal.into(),
            _ => Reason::StorageUnavailable.into(),
        }
    }
}

/// Whether the schema refuses what was written: a bug of ours, not a fault of the database.
const fn breaks_a_rule(error: &Diesel) -> bool {
    use DatabaseErrorKind as Kind;
    let Diesel::DatabaseError(kind, _) = error else {
        return false;
    };
    matches!(
        kind,
        Kind::CheckViolation | Kind::NotNullViolation | Kind::UniqueViolation | Kind::ForeignKeyViolation
    )
}

fn lost(error: &Diesel) -> bool {
    match error {
        // A server that only reads was the primary once: another connection may find the new one.
        Diesel::DatabaseError(
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::ReadOnlyTransaction,
            _,
        )
        | Diesel::BrokenTransactionManager => true,
        Diesel::DatabaseError(_, info) => {
            let text = info.message();
            text.contains("connection closed")
                || text.contains("terminating connection")
                || text.contains("error communicating")
        }
        _ => false,
    }
}

fn is_passing(error: &Diesel) -> bool {
    lost(error)
        || match error {
            Diesel::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => true,
            Diesel::DatabaseError(_, info) => {
                let text = info.message();
                [
                    "deadlock detected",
                    LOCKED[0],
                    LOCKED[1],
                    "timeout",
                    "starting up",
                    "shutting down",
                    "recovery",
                    "too many clients",
                ]
                .iter()
                .any(|sign| text.contains(sign))
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Error {
        Error::Database(Diesel::DatabaseError(
            DatabaseErrorKind::Unknown,
            Box::new(text.to_owned()),
        ))
    }

    #[test]
    fn a_file_that_somebody_holds_is_free_again_in_a_moment() {
        for text in ["database is locked", "locking protocol"] {
            let error = said(text);
            assert!(error.is_locked() && error.is_passing(), "{text}");
            assert!(!error.is_of_one_command() && !error.lost_connection(), "{text}");
        }
        assert!(!said("no such table: head").is_locked());
    }
}
