//! `restore`: a backup takes the database's place; what follows it is `recover`.

use std::path::Path;

use sammati_kernel::{Clock, SystemClock};
use sammati_store::{Error, Location, verbs};

use super::{Database, How, recover, say};
use crate::config::Config;
use crate::run::Service;

/// What a restore of the log means.
pub(super) const OF_THE_LOG: &str = "\
The log has no feed, so there is no epoch to open. Events that it took in after the backup are gone from it: identity and
consent send again what they still have (at least a week of it), if they are restarted now; of what they have pruned
since, relay_stuck_partitions tells. What nothing mends: an older log signs OTHER trees at sizes that it has signed
already, and whoever kept a checkpoint or a proof since the backup can show that. Restore the log's newest backup, or none.";

/// What is said when a restored database could not be recovered.
const NOT_RECOVERED: &str = "the backup is in place, but it was not recovered, and the service does not start before it was. \
    Run `recover` once this is mended";

/// Puts backups in the places of `databases`. With `has_feed` the first is marked: it is not served before its recovery.
pub(super) fn restore(databases: &[Database], from: &Path, replace: bool, has_feed: bool) -> Result<(), Error> {
    let now = SystemClock.now();
    for database in databases {
        let file = database.file(from);
        if matches!(database.location, Location::Sqlite(_)) && !file.is_file() {
            let what = format!("there is no backup {} of {}", file.display(), database.name);
            return Err(Error::File(what));
        }
    }
    for (n, database) in databases.iter().enumerate() {
        let file = database.file(from);
        let recover = has_feed && n == 0;
        let done = verbs::restore(&database.location, &file, &database.migrations, replace, recover, now)?;
        say(format_args!(
            "{}: restored from {}, {} bytes",
            database.name,
            file.display(),
            done.bytes
        ));
        if let Some(aside) = done.aside {
            let what = "the database before it is kept; to go back, move it and its -wal to their old names";
            say(format_args!("{}: {}: {what}", database.name, aside.display()));
        }
    }
    Ok(())
}

/// The last step of a restore.
pub(super) fn then<S: Service>(config: &Config<S::Settings>, how: &How, has_feed: bool) -> Result<(), Error> {
    if !has_feed {
        say(OF_THE_LOG);
        return Ok(());
    }
    recover::recover::<S>(config, how).map_err(|error| Error::File(format!("{NOT_RECOVERED}: {error}")))
}
