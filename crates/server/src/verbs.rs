//! What else can the binary do than serve? The operator's verbs, alike for all services.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sammati_kernel::{Clock, SystemClock};
use sammati_store::verbs::{self, Known, More};
use sammati_store::{EmbeddedMigrations, Location};

use crate::config::{Config, ConfigError, DatabaseConfig};
use crate::doctor;
use crate::run::Service;

/// Where the configuration is.
#[derive(Debug, Clone, clap::Args)]
pub struct At {
    /// The configuration that the service is started with
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What an operator does beside serving.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// Bring the schema up to date and end. Serving does so by itself; on SQLite the service must be stopped
    Migrate {
        /// Where the configuration is.
        #[command(flatten)]
        at: At,
    },
    /// Copy the database to a new file, while the service goes on serving. SQLite only
    Backup {
        /// Where the configuration is.
        #[command(flatten)]
        at: At,
        /// The copy; nothing is overwritten. audit writes a second one, FILE.payload-keys: keep that one apart
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a backup in the database's place. SQLite only; the service must be stopped
    Restore {
        /// Where the configuration is.
        #[command(flatten)]
        at: At,
        /// What backup made. audit wants FILE.payload-keys beside it
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Move a database that is there aside, to its name with .replaced- and the time
        #[arg(long)]
        replace: bool,
    },
    /// Check that the database agrees with itself, changing nothing. Ends with 0 if it does, 1 if not, 2 if it cannot say
    Fsck {
        /// Where the configuration is.
        #[command(flatten)]
        at: At,
        /// Check this backup instead. audit's payload keys are read from FILE.payload-keys
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Check configuration, secrets, certificates, database, clock, disk and peers, and say what to do. Ends with 0 if
    /// nothing FAILs
    Doctor {
        /// Where the configuration is.
        #[command(flatten)]
        at: At,
    },
}

impl Verb {
    fn config(&self) -> &Path {
        let (Self::Migrate { at }
        | Self::Backup { at, .. }
        | Self::Restore { at, .. }
        | Self::Fsck { at, .. }
        | Self::Doctor { at }) = self;
        &at.config
    }
}

/// What a service keeps: its databases, and the files it wants in the folder of its secrets.
#[derive(Default)]
pub struct Keeps {
    /// In the order in which they are saved.
    pub databases: Vec<Database>,
    /// Files of 32-byte keys.
    pub keys: Vec<&'static str>,
    /// Files of Ed25519 keys.
    pub signing_keys: Vec<String>,
}

/// A database of a service.
pub struct Database {
    /// What it is called when several are spoken of.
    pub name: &'static str,
    /// What follows the file's name in a backup; empty for the first.
    pub suffix: &'static str,
    /// Where it is.
    pub location: Location,
    /// Partitions of a new one.
    pub partitions: Option<u16>,
    /// Its schema.
    pub migrations: EmbeddedMigrations,
    /// Its tables beside the store's own.
    pub tables: Vec<Known>,
    /// What else can be made again from it.
    pub more: Option<More>,
}

impl Database {
    /// The one that `[database]` names.
    ///
    /// # Errors
    /// When the password's file cannot be read.
    pub fn of(
        config: &DatabaseConfig,
        name: &'static str,
        migrations: EmbeddedMigrations,
        tables: Vec<Known>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            name,
            suffix: "",
            location: config.location_at(&config.url)?,
            partitions: config.partitions,
            migrations,
            tables,
            more: None,
        })
    }

    /// The name of its file in a backup called `file`.
    fn file(&self, file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(self.suffix);
        PathBuf::from(name)
    }
}

/// Does what `verb` says: 0 when it is done, 2 for a bad configuration, and as the verb says otherwise.
pub fn operate<S: Service>(verb: &Verb) -> ExitCode {
    // An error means that it is installed already: there is only one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let loaded = Config::<S::Settings>::load(verb.config());
    let loaded = loaded.and_then(|config| Ok((S::keeps(&config)?, config)));
    let (keeps, config) = match loaded {
        Ok(loaded) => loaded,
        Err(error) if matches!(verb, Verb::Doctor { .. }) => return doctor::not_loaded(&error),
        Err(error) => {
            complain(format_args!("{}: {error}", S::NAME));
            return ExitCode::from(2);
        }
    };
    if let Verb::Doctor { .. } = verb {
        return doctor::run(&config, &keeps);
    }
    if keeps.databases.is_empty() {
        complain(format_args!(
            "{} keeps nothing in a database: there is nothing to do",
            S::NAME
        ));
        return ExitCode::from(1);
    }
    let databases = keeps.databases;
    let done = match verb {
        Verb::Migrate { .. } => migrate(databases),
        Verb::Backup { to, .. } => backup(&databases, to),
        Verb::Restore { from, replace, .. } => restore(S::NAME, &databases, from, *replace),
        Verb::Fsck { file, .. } => return fsck(databases, file.as_deref()),
        Verb::Doctor { .. } => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{}: {error}", S::NAME));
            ExitCode::from(1)
        }
    }
}

fn migrate(databases: Vec<Database>) -> Result<(), sammati_store::Error> {
    for Database {
        name,
        location,
        partitions,
        migrations,
        ..
    } in databases
    {
        let applied = verbs::migrate(&location, partitions, migrations)?;
        if applied.is_empty() {
            say(format_args!("{name}: the schema is up to date, nothing was to do"));
        } else {
            say(format_args!("{name}: applied {}", applied.join(", ")));
        }
    }
    Ok(())
}

fn backup(databases: &[Database], to: &Path) -> Result<(), sammati_store::Error> {
    // Before the first is written: half a backup is none.
    for database in databases {
        let file = database.file(to);
        if file.try_exists().unwrap_or(true) {
            let what = format!(
                "{} is there already, and nothing is overwritten; name another file",
                file.display()
            );
            return Err(sammati_store::Error::File(what));
        }
    }
    for database in databases {
        let file = database.file(to);
        let bytes = verbs::backup(&database.location, &file)?;
        say(format_args!(
            "{}: saved in {}, {bytes} bytes",
            database.name,
            file.display()
        ));
    }
    say("Keep it on another machine. `fsck --file` checks it.");
    Ok(())
}

/// What a restore means as long as it does not open a new epoch.
const MEANS: &str = "\
Know this before you start it. Whatever was committed after the backup is undone: consents that were revoked since are
granted again, and calls that are repeated are done again.
Positions of the feed that were used since the backup will be USED AGAIN, with other events, for a restore does not open a
new epoch yet. The audit log has the first ones: it refuses the others, and the relay of those partitions stands
(metric relay_stuck_partitions) with nothing that lets it go on. Consumers that are further have caches that are wrong, and
revisions that clients hold name what is not there.
None of this happens if nothing was committed after the backup was made.";

/// The same for the log itself.
const MEANS_FOR_THE_LOG: &str = "\
Know this before you start it. Events that the log took in after the backup are gone from it, and it will sign OTHER trees
at sizes that it has signed already: whoever kept a checkpoint or a proof since the backup can show that the log contradicts
itself, and nothing mends that. Services that have relayed further are refused (metric relay_stuck_partitions), and what they
have pruned since cannot be sent again.
None of this happens if the log took in nothing after the backup was made.";

fn restore(service: &str, databases: &[Database], from: &Path, replace: bool) -> Result<(), sammati_store::Error> {
    let now = SystemClock.now();
    for database in databases {
        let file = database.file(from);
        if matches!(database.location, Location::Sqlite(_)) && !file.is_file() {
            let what = format!("there is no backup {} of {}", file.display(), database.name);
            return Err(sammati_store::Error::File(what));
        }
    }
    for database in databases {
        let file = database.file(from);
        let done = verbs::restore(&database.location, &file, &database.migrations, replace, now)?;
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
    say(if service == "audit" { MEANS_FOR_THE_LOG } else { MEANS });
    Ok(())
}

fn fsck(databases: Vec<Database>, file: Option<&Path>) -> ExitCode {
    let mut disagreements = 0;
    for database in databases {
        let name = database.name;
        let location = match file {
            Some(file) => Location::Sqlite(database.file(file)),
            None => database.location,
        };
        let mut tell = |found: &verbs::Disagreement| say(format_args!("{name}: {found}"));
        match verbs::fsck(
            &location,
            &database.migrations,
            &database.tables,
            database.more,
            &mut tell,
        ) {
            Ok(summary) => {
                disagreements += summary.disagreements;
                let verbs::Summary {
                    partitions,
                    events,
                    rows,
                    disagreements,
                } = summary;
                say(format_args!(
                    "{name}: {partitions} partitions, {events} events, {rows} rows, {disagreements} disagreements"
                ));
            }
            Err(error) => {
                complain(format_args!("{name}: cannot be checked: {error}"));
                return ExitCode::from(2);
            }
        }
    }
    if disagreements > 0 {
        say("Stop the service, keep the database as it is and a copy of it, and find out what changed it.");
    }
    ExitCode::from(u8::from(disagreements > 0))
}

/// A line for people; nobody may be reading.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
