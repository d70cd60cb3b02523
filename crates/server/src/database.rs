//! Where does it keep things? `[database]`, and what is not allowed there: passwords, and plaintext over a network.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sammati_kernel::Key;
use sammati_store::verbs::Needs;
use sammati_store::{Budget, Location, Options};
use serde::Deserialize;

use crate::config::{ConfigError, read};

/// What must be free on the disk of an SQLite file, unless the configuration says otherwise: room for what takes away.
const DISK_FLOOR: u64 = 128 << 20;

/// `[database]`. The store opens it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:{path}` or `postgres://{user}@{host}:{port}/{database}`, without a password.
    pub url: String,
    /// Writing connections; absent: 1 for SQLite, 2 for Postgres. A lane takes all that has gathered in one transaction, and
    /// while one waits for its commit the other decides; more make smaller batches, each of which waits for a disk.
    pub lanes: Option<usize>,
    /// Reading connections, made when first needed; absent: 2 for SQLite, 8 for Postgres. Beside them Postgres has one that
    /// confirms for all checks at once: a replica opens `lanes + readers + 1` connections.
    pub readers: Option<usize>,
    /// How the subjects are divided, a power of two, fixed for the life of a database; absent: 4 for SQLite, 64 for
    /// Postgres.
    pub partitions: Option<u16>,
    /// For Postgres that is divided over several servers (Citus; `deploy/sql/citus.sql`): a transaction then keeps to one
    /// partition, so that all of it runs on one server. Elsewhere it only makes smaller batches.
    #[serde(default)]
    pub one_partition_per_transaction: bool,
    /// The most bytes the database may take; absent: no bound. Beyond it callers' writes are refused, while what takes
    /// away or protects, as a revoke, goes on. SQLite counts what is in use in its file, Postgres its files.
    pub disk_budget_bytes: Option<u64>,
    /// The fewest bytes that must be free on the disk of an SQLite file for callers' writes; absent: 128 MiB.
    pub disk_floor_bytes: Option<u64>,
    /// The authority of Postgres's certificate, PEM. With it the connection is TLS and verified; without it plain.
    pub root_certificate: Option<PathBuf>,
    /// A file with the password of Postgres's user.
    pub password_file: Option<PathBuf>,
    /// Where a deposed primary cannot be fenced: each confirmation commits something, which a synchronous standby must follow
    /// in before a check is answered. Postgres with `synchronous_standby_names` alone.
    #[serde(default)]
    pub confirm_by_write: bool,
    /// Whether to be ready although a standby follows that commits do not wait for: a failover to it loses what was
    /// acknowledged.
    #[serde(default)]
    pub allow_asynchronous_standby: bool,
    /// `server.insecure_plaintext`.
    #[serde(skip)]
    pub(crate) insecure_plaintext: bool,
    /// Where relative paths start.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

impl DatabaseConfig {
    /// The password, if it has a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn password(&self) -> Result<Option<sammati_kernel::Secret<String>>, ConfigError> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let text = read(path, "database.password_file")?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned().into()))
    }

    /// How the store opens it; `key` seals what the store seals.
    ///
    /// # Errors
    /// When the URL is not good or the password's file cannot be read.
    pub fn options(&self, key: Key) -> Result<Options, ConfigError> {
        self.options_at(&self.url, key)
    }

    /// The same for another database on the same server, or another file.
    ///
    /// # Errors
    /// When the URL is not good or the password's file cannot be read.
    pub fn options_at(&self, url: &str, key: Key) -> Result<Options, ConfigError> {
        let mut options = Options::new(self.location_at(url)?, key);
        options.lanes = self.lanes.unwrap_or(options.lanes);
        options.readers = self.readers.or(options.readers);
        options.confirm_by_write = self.confirm_by_write;
        options.allow_asynchronous_standby = self.allow_asynchronous_standby;
        options.partitions = self.partitions;
        options.budget = self.budget();
        Ok(options)
    }

    /// How much room a database may take.
    pub fn budget(&self) -> Budget {
        let free = self.disk_floor_bytes.unwrap_or(DISK_FLOOR);
        Budget {
            bytes: self.disk_budget_bytes,
            free: self.url.starts_with("sqlite:").then_some(free),
        }
    }

    /// What a doctor holds a server against.
    pub(crate) fn needs(&self) -> Needs {
        Needs {
            connections: self.lanes.unwrap_or(2) + self.readers.unwrap_or(8) + 1,
            confirm_by_write: self.confirm_by_write,
            allow_asynchronous_standby: self.allow_asynchronous_standby,
        }
    }

    /// The URL of another database, whose file starts from where all paths of the configuration do.
    pub fn anchored(&self, url: &str) -> String {
        anchored(&self.folder, url)
    }

    /// Where another database on the same server, or another file, is.
    ///
    /// # Errors
    /// When the URL is not good or the password's file cannot be read.
    pub fn location_at(&self, url: &str) -> Result<Location, ConfigError> {
        self.check_url(url).map_err(ConfigError)?;
        let mut location = Location::parse(url).map_err(ConfigError)?;
        if let Location::Postgres { root, password, .. } = &mut location {
            root.clone_from(&self.root_certificate);
            *password = self.password()?;
        }
        Ok(location.keeping_to_one_partition(self.one_partition_per_transaction))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_url(&self.url)?;
        if self
            .partitions
            .is_some_and(|n| !n.is_power_of_two() || n > sammati_kernel::SLOTS)
        {
            return Err("database.partitions must be a power of two, at most 4096".to_owned());
        }
        if self.one_partition_per_transaction && self.url.starts_with("sqlite:") {
            return Err("database.one_partition_per_transaction is for Postgres; take it out".to_owned());
        }
        if self.disk_floor_bytes.is_some() && !self.url.starts_with("sqlite:") {
            return Err(
                "database.disk_floor_bytes is for SQLite: the disk of a server is not seen from here".to_owned(),
            );
        }
        if self.lanes == Some(0) {
            return Err("database.lanes must be at least 1".to_owned());
        }
        if self.readers == Some(0) {
            return Err("database.readers must be at least 1".to_owned());
        }
        if self.url.starts_with("sqlite:") && (self.confirm_by_write || self.allow_asynchronous_standby) {
            return Err(
                "database.confirm_by_write and database.allow_asynchronous_standby are for Postgres: SQLite has no standby"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn check_url(&self, url: &str) -> Result<(), String> {
        if url.starts_with("sqlite:") {
            return Ok(());
        }
        let server = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .map(Server::of)
            .ok_or("database.url must be sqlite:{path} or postgres://{user}@{host}:{port}/{database}")?;
        if server.has_password() {
            return Err(
                "database.url must not hold a password; put it in a file and name it in database.password_file"
                    .to_owned(),
            );
        }
        let (fits, then) = match self.root_certificate {
            Some(_) => (
                "require",
                "with database.root_certificate the connection is TLS and verified",
            ),
            None => ("disable", "without database.root_certificate the connection is plain"),
        };
        if let Some(mode) = server.setting("sslmode").find(|mode| *mode != fits) {
            return Err(format!(
                "database.url says sslmode={mode}, but {then}; take sslmode out"
            ));
        }
        if self.root_certificate.is_some() || self.insecure_plaintext {
            return Ok(());
        }
        server.hosts().find(|host| !is_here(host)).map_or(Ok(()), |host| {
            Err(format!(
                "database.url leads to {host} in plain text over the network; name the authority of its certificate in \
                 database.root_certificate, or set server.insecure_plaintext = true"
            ))
        })
    }
}

/// `url`, if it is a file's, with the file as seen from `folder`.
pub(crate) fn anchored(folder: &Path, url: &str) -> String {
    let file = url.strip_prefix("sqlite:");
    file.map_or_else(
        || url.to_owned(),
        |file| format!("sqlite:{}", folder.join(file).display()),
    )
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// What a Postgres URL says behind its scheme: `{user}@{hosts}/{database}?{settings}`.
struct Server<'a> {
    user: &'a str,
    hosts: &'a str,
    settings: &'a str,
}

impl<'a> Server<'a> {
    fn of(rest: &'a str) -> Self {
        let (place, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next().unwrap_or_default();
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        Self { user, hosts, settings }
    }

    fn has_password(&self) -> bool {
        self.user.contains(':') || self.setting("password").next().is_some()
    }

    fn setting(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let settings = self.settings.split('&').filter_map(|one| one.split_once('='));
        settings.filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All that it may connect to, without ports.
    fn hosts(&self) -> impl Iterator<Item = &'a str> {
        let named = self.hosts.split(',').map(|host| match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        });
        let set = self.setting("host").chain(self.setting("hostaddr"));
        named
            .chain(set.flat_map(|hosts| hosts.split(',')))
            .filter(|host| !host.is_empty())
    }
}

/// Whether nobody but this machine hears what is said to `host`: a socket's folder, or loopback.
fn is_here(host: &str) -> bool {
    let folder = host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f");
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    folder || host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{LOOPBACK, parse};

    fn error(url: &str, rest: &str) -> Option<String> {
        let database = format!("[database]\nurl = \"{url}\"\n{rest}");
        parse(LOOPBACK, &database).err().map(|error| error.0)
    }

    #[test]
    fn one_partition_per_transaction_is_for_postgres() {
        let setting = "one_partition_per_transaction = true";
        assert_eq!(error("postgres://u@127.0.0.1/x", setting), None);
        assert!(error("sqlite:var/x.db", setting).unwrap().contains("for Postgres"));
    }

    #[test]
    fn a_floor_is_for_a_disk_that_can_be_seen_and_a_budget_for_both() {
        assert_eq!(
            error("sqlite:var/x.db", "disk_floor_bytes = 0\ndisk_budget_bytes = 1"),
            None
        );
        assert_eq!(error("postgres://u@127.0.0.1/x", "disk_budget_bytes = 1"), None);
        let refused = error("postgres://u@127.0.0.1/x", "disk_floor_bytes = 1").unwrap();
        assert!(refused.contains("for SQLite"), "{refused}");
    }

    const ROOT: &str = "root_certificate = \"ca.crt\"";

    #[test]
    fn a_password_in_the_url_is_refused() {
        for url in ["postgres://u:secret@db/x", "postgres://u@db/x?password=secret"] {
            let error = error(url, ROOT).unwrap();
            assert!(error.contains("password_file") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_database_elsewhere_is_not_spoken_to_in_plain_text() {
        for url in [
            "postgres://u@db:5432/x",
            "postgresql://db/x",
            "postgres://u@10.0.0.1/x",
            "postgres://u@[2001:db8::1]:5432/x",
            "postgres://u@127.0.0.1,db:5432/x",
            "postgres:///x?host=db",
            "postgres://u@localhost/x?hostaddr=10.0.0.1",
            "postgres://u@localhost.example.com/x",
        ] {
            let what = error(url, "").unwrap_or_else(|| panic!("{url} is let through"));
            assert!(
                what.contains("root_certificate") && what.contains("insecure_plaintext"),
                "{what}"
            );
            assert_eq!(error(url, ROOT), None);
            let mesh = format!("{LOOPBACK}\ninsecure_plaintext = true");
            assert!(parse(&mesh, &format!("[database]\nurl = \"{url}\"")).is_ok());
        }
        for url in [
            "postgres://u@127.0.0.1:5432/x",
            "postgres://u@localhost/x",
            "postgres://u@[::1]:5432/x",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/x",
            "postgres:///x?host=/var/run/postgresql",
        ] {
            assert_eq!(error(url, ""), None);
        }
    }

    #[test]
    fn what_only_a_server_can_do_is_refused_for_a_file() {
        for key in ["confirm_by_write", "allow_asynchronous_standby"] {
            let rest = format!("{key} = true");
            assert!(error("sqlite:x.db", &rest).is_some_and(|what| what.contains(key)));
            assert_eq!(error("postgres://u@localhost/x", &rest), None);
        }
        assert!(error("sqlite:x.db", "readers = 0").is_some_and(|what| what.contains("database.readers")));
    }

    #[test]
    fn an_sslmode_that_would_not_be_followed_is_refused() {
        for (mode, rest) in [
            ("require", ""),
            ("prefer", ""),
            ("verify-full", ""),
            ("disable", ROOT),
            ("prefer", ROOT),
        ] {
            let error = error(&format!("postgres://u@127.0.0.1/x?sslmode={mode}"), rest).unwrap();
            assert!(
                error.contains(&format!("sslmode={mode}")) && error.contains("root_certificate"),
                "{error}"
            );
        }
        assert_eq!(error("postgres://u@127.0.0.1/x?sslmode=disable", ""), None);
        assert_eq!(error("postgres://u@db/x?sslmode=require", ROOT), None);
    }
}
