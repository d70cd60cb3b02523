//! Where another log stands, as its database says: the one before, for the one that waits for its end; and the one that
//! waits, for the one before. Each reads the other's, and writes nothing but its own.

use sammati_kernel::Micros;
use sammati_store::{Error, Location, verbs};

use crate::rows::{HoldRow, LogRow, MIGRATIONS, PARTITION};
use crate::succession::SuccessionRow;

/// For how long a log that was seen to wait is taken to be there still, microseconds.
const FRESH: i64 = 60_000_000;

/// What a database says of its log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Its head; none before it has begun.
    pub(crate) log: Option<LogRow>,
    /// That it is sealed.
    pub(crate) sealed: Option<SuccessionRow>,
    /// Which one it follows.
    pub(crate) follows: Option<SuccessionRow>,
    /// For which one it waits, or did.
    pub(crate) waits: Option<SuccessionRow>,
}

impl Standing {
    /// Reads it. It blocks.
    ///
    /// # Errors
    /// When the database cannot be read, or is of another release.
    pub(crate) fn read(location: &Location) -> Result<Self, Error> {
        verbs::read(location, &MIGRATIONS, |looking| {
            Ok(Self {
                log: looking.get::<LogRow>(PARTITION, LogRow::KEY)?,
                sealed: looking.get::<SuccessionRow>(PARTITION, SuccessionRow::SEALED)?,
                follows: looking.get::<SuccessionRow>(PARTITION, SuccessionRow::FOLLOWS)?,
                waits: looking.get::<SuccessionRow>(PARTITION, SuccessionRow::WAITS)?,
            })
        })
    }

    /// The same, beside what else runs.
    ///
    /// # Errors
    /// As a sentence.
    pub(crate) async fn of(location: &Location) -> Result<Self, String> {
        let location = location.clone();
        let read = tokio::task::spawn_blocking(move || Self::read(&location)).await;
        read.map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }
}

/// How many legal holds are in force in the log in a database. It blocks.
///
/// # Errors
/// When the database cannot be read, or is of another release.
pub(crate) fn holds(location: &Location) -> Result<usize, Error> {
    let all = verbs::read(location, &MIGRATIONS, |looking| looking.all::<HoldRow>(PARTITION))?;
    Ok(all.iter().filter(|hold| hold.lifted == 0).count())
}

/// The log that is to go on where another one ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has begun, `logs/{id}`.
    Begun(String),
    /// It waits for the end, and can take events at once.
    Waits,
    /// Nothing would go on, and why.
    Nobody(String),
}

impl Next {
    /// What `standing` says to the log with this origin.
    pub(crate) fn of(standing: &Standing, origin: &str, now: Micros) -> Self {
        let of_this = |row: &Option<SuccessionRow>| row.as_ref().is_some_and(|row| row.other == origin);
        match (&standing.log, &standing.waits) {
            (Some(log), _) if of_this(&standing.follows) => Self::Begun(format!("logs/{}", log.id)),
            (Some(log), _) => Self::Nobody(format!(
                "the log {} in the database that service.followed_by names does not follow this one",
                log.origin
            )),
            (None, None) => Self::Nobody(
                "no log waits in the database that service.followed_by names: start it, with this one's database as \
                 service.follows"
                    .to_owned(),
            ),
            (None, Some(row)) if row.other != origin => Self::Nobody(format!(
                "the log that service.followed_by names waits for {}",
                row.other
            )),
            (None, Some(row)) if now.0 - row.at > FRESH => Self::Nobody(format!(
                "the log that is to follow was seen last at {}: is it running?",
                crate::half_year::shown(Micros(row.at))
            )),
            (None, Some(_)) => Self::Waits,
        }
    }

    /// Looks into its database. It blocks.
    pub(crate) fn look(location: Option<&Location>, origin: &str, now: Micros) -> Self {
        let Some(location) = location else {
            return Self::Nobody("service.followed_by names no log that goes on".to_owned());
        };
        match Standing::read(location) {
            Ok(standing) => Self::of(&standing, origin, now),
            Err(error) => Self::Nobody(format!("the database that service.followed_by names: {error}")),
        }
    }
}
