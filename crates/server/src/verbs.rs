//! What else can the binary do than serve? The operator's verbs, alike for all services.

mod lost;
mod recover;
mod restore;

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sammati_store::verbs::{self, Known, More, Remark};
use sammati_store::{EmbeddedMigrations, Location};

use crate::config::{Config, ConfigError, DatabaseConfig};
use crate::doctor;
use crate::run::Service;

pub use recover::Again;

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
    /// Put a backup in the database's place, and recover it. SQLite only; the service must be stopped
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
        /// How it is recovered.
        #[command(flatten)]
        how: How,
    },
    /// After a restore or a failover that lost commits: open a new epoch of the feed, ask the audit log what was lost, and
    /// take back again what was taken back. Harmless when nothing was lost, and when done twice. On SQLite the service
    /// must be stopped
    Recover {
        /// Where the configuration is.
        #[command(flatten)]
        at: At,
        /// How it is recovered.
        #[command(flatten)]
        how: How,
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
    /// Write what audit's log signed last as static files, which `sammati-verify archive` checks without any service. The
    /// service may run meanwhile
    Archive {
        /// Where the configuration is.
        #[command(flatten)]
        at: At,
        /// The folder, new or empty
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Check configuration, secrets, certificates, database, clock, disk and peers, and say what to do. Ends with 0 if
    /// nothing FAILs
    Doctor {
        /// Where the configuration is.
        #[command(flatten)]
        at: At,
    },
}

/// How a database is recovered.
#[derive(Debug, Clone, clap::Args)]
pub struct How {
    /// Who does it, for the log: your name as colleagues know it
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Do not ask the audit log, which is gone for good. Consents that were taken back since are then in force AGAIN, ended
    /// sessions live, and an address that was given away since can be given to another: nobody can tell which
    #[arg(long)]
    pub without_log: bool,
}

impl Verb {
    fn config(&self) -> &Path {
        let (Self::Migrate { at }
        | Self::Backup { at, .. }
        | Self::Restore { at, .. }
        | Self::Recover { at, .. }
        | Self::Fsck { at, .. }
        | Self::Archive { at, .. }
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
    /// Whether its first database has a feed that goes to the audit log.
    pub has_feed: bool,
    /// What `doctor` says beside what it looks at itself.
    pub remarks: Vec<(&'static str, Remark)>,
    /// The same, of what it has to read for that.
    pub looks: Option<Looks>,
}

/// Looks, and says what it found. It blocks.
pub type Looks = Box<dyn FnOnce() -> Vec<(&'static str, Remark)>>;

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
    /// What writes it as static files that can be checked without it.
    pub archive: Option<Archive>,
    /// As `sammati_store::Options::time_only_orders`.
    pub time_only_orders: bool,
}

/// Writes a database into a folder; says in a sentence what was written.
pub type Archive = fn(&Location, &Path) -> Result<String, sammati_store::Error>;

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
            archive: None,
            time_only_orders: false,
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
    let loaded = loaded.and_then(|config| {
        config.expect_peers(S::PEERS)?;
        Ok((S::keeps(&config)?, config))
    });
    let (keeps, config) = match loaded {
        Ok(loaded) => loaded,
        Err(error) if matches!(verb, Verb::Doctor { .. }) => return doctor::not_loaded(&error),
        Err(error) => {
            complain(format_args!("{}: {error}", S::NAME));
            return ExitCode::from(2);
        }
    };
    if let Verb::Doctor { .. } = verb {
        return doctor::run(&config, keeps);
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
        Verb::Restore { from, replace, how, .. } => {
            let done = restore::restore(&databases, from, *replace, keeps.has_feed);
            done.and_then(|()| restore::then::<S>(&config, how, keeps.has_feed))
        }
        Verb::Recover { how, .. } if keeps.has_feed => recover::recover::<S>(&config, how),
        Verb::Recover { .. } => {
            say(restore::OF_THE_LOG);
            Ok(())
        }
        Verb::Archive { to, .. } => archive(&databases, to),
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

fn archive(databases: &[Database], to: &Path) -> Result<(), sammati_store::Error> {
    let log = databases
        .iter()
        .find_map(|database| Some((database, database.archive?)));
    let Some((database, archive)) = log else {
        let what = "it keeps no log: `sammati audit archive` is what there is";
        return Err(sammati_store::Error::File(what.to_owned()));
    };
    let done = archive(&database.location, to)?;
    say(format_args!("{}: {done}", database.name));
    say(
        "Check it with `sammati-verify archive --vkey <key>`; take the key from where you trusted it, not from `vkeys` beside it.",
    );
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
            database.more.as_ref(),
            &mut tell,
        ) {
            Ok(summary) => {
                disagreements += summary.disagreements;
                let verbs::Summary {
                    partitions,
                    events,
                    rows,
                    unchecked,
                    indexes,
                    disagreements,
                } = summary;
                say(format_args!(
                    "{name}: {partitions} partitions, {events} events, {rows} rows, {disagreements} disagreements"
                ));
                tell_indexes(name, indexes);
                if unchecked > 0 {
                    say(format_args!(
                        "{name}: {unchecked} of the rows were written by a release without check values; of these a change is \
                         found only where something else tells of it"
                    ));
                }
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

/// Says whether the indexes of a database are among what was checked.
fn tell_indexes(name: &str, indexes: verbs::Indexes) {
    match indexes {
        verbs::Indexes::Compared => {}
        verbs::Indexes::InPart(skipped) => say(format_args!(
            "{name}: {skipped} of its indexes were NOT checked: it would have taken too long. Run \
             pg_amcheck --heapallindexed on its database"
        )),
        verbs::Indexes::Not => say(format_args!(
            "{name}: its indexes were NOT checked: as a superuser, in its database, CREATE EXTENSION amcheck and GRANT EXECUTE \
             ON FUNCTION bt_index_check(regclass, boolean) to the role of the service; or run pg_amcheck --heapallindexed"
        )),
    }
}

/// A line for people; nobody may be reading.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
