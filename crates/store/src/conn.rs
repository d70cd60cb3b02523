//! A connection to either database, and how one is opened.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::task::Poll;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection, result::QueryResult};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::BlockOn;
use futures::future::maybe_done;

use crate::error::Error;
use crate::postgres::{Diesel, Purpose, Server, ThreadRuntime};

/// Postgres behind diesel's synchronous face; lives on a thread of its own, never on a runtime's.
pub struct PgConn {
    conn: Diesel,
    /// The one that drives `conn`.
    runtime: ThreadRuntime,
    one_partition: bool,
    /// The statements that lock heads and are prepared by now.
    pub(crate) prepared_locks: BTreeSet<&'static str>,
}

impl PgConn {
    /// What diesel's statements run on.
    #[doc(hidden)]
    pub const fn diesel(&mut self) -> &mut Diesel {
        &mut self.conn
    }

    /// As [`AnyConn::keeps_to_one_partition`].
    pub(crate) const fn keeps_to_one_partition(&self) -> bool {
        self.one_partition
    }

    /// What `ask` makes is sent before any of it is waited for, so that all of it is one way to the server and back; each
    /// statement has a snapshot of its own, as ever. They arrive in their order, but that one which is not prepared yet may
    /// arrive after the others: it is prepared first, which is a way of its own. Of several failures that is told which is
    /// not the consequence of another.
    pub(crate) fn at_once<'c, T, F>(&'c self, ask: impl FnOnce(&'c AsyncPgConnection) -> Vec<F>) -> QueryResult<Vec<T>>
    where
        F: Future<Output = QueryResult<T>>,
    {
        let (mut answers, mut failed) = (Vec::new(), None);
        for answer in self.runtime.block_on(in_turn(ask(&self.conn))) {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) if failed.as_ref().is_none_or(is_consequence) => failed = Some(error),
                Err(_) => {}
            }
        }
        failed.map_or(Ok(answers), Err)
    }
}

/// The outputs of all. Each is begun after the one before it, which `join_all` does not promise.
async fn in_turn<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut all: Vec<_> = futures.into_iter().map(|future| Box::pin(maybe_done(future))).collect();
    poll_fn(|context| {
        let mut waits = false;
        for future in &mut all {
            waits |= future.as_mut().poll(context).is_pending();
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    all.iter_mut()
        .filter_map(|future| future.as_mut().take_output())
        .collect()
}

/// Whether a statement failed only because one before it in its transaction had.
fn is_consequence(error: &diesel::result::Error) -> bool {
    matches!(error, diesel::result::Error::DatabaseError(_, info) if info.message().contains("current transaction is aborted"))
}

/// Either database.
#[expect(clippy::large_enum_variant, reason = "there are a handful, each owned by a thread")]
pub enum AnyConn {
    /// PostgreSQL 15 or later.
    Pg(PgConn),
    /// The bundled SQLite.
    Sqlite(SqliteConnection),
}

/// The same body for both databases, type-checked for each.
#[macro_export]
macro_rules! on_conn {
    ($conn:expr, |$c:ident| $body:expr) => {
        match $conn {
            $crate::AnyConn::Pg(pg) => {
                let $c = pg.diesel();
                $body
            }
            $crate::AnyConn::Sqlite($c) => $body,
        }
    };
}

impl AnyConn {
    /// How rows are spelled here, where that is not the database's own way.
    pub(crate) const fn keeps_to_one_partition(&self) -> bool {
        matches!(
            self,
            Self::Pg(PgConn {
                one_partition: true,
                ..
            })
        )
    }
}

/// Where the data is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A file; its folder must exist.
    Sqlite(PathBuf),
    /// A URL, and the certificate that signs the server's, if TLS is wanted.
    Postgres {
        /// `postgres://user@host:port/database`
        url: String,
        /// PEM of the certificate authority. Without it the connection is plain: loopback and Unix sockets only.
        root: Option<PathBuf>,
        /// The password, when the URL has none.
        password: Option<sammati_kernel::Secret<String>>,
        /// Whether each transaction keeps to one partition, for a database that is divided over several servers (Citus).
        ///
        /// A batch then takes commands of one partition only, and its statements name that partition, so that all of it
        /// runs on one server. What is elsewhere are claims and request ids, which live where their own hash says: with
        /// such rows the commit is one in two phases, and other servers may see its parts at different times, or wait
        /// for them. That changes nothing that is decided:
        ///
        /// - A repeat of a request takes the head's lock first, so it waits while the effect is prepared. It may see the
        ///   effect before the request row; then its own insert of that row waits until the first is resolved, misses,
        ///   and everything is decided again, now with the row.
        /// - Another body under the same request id elsewhere meets the row, or waits at its insert: it is refused
        ///   either way.
        /// - A claim that is prepared makes a second claimer wait at its insert, which misses once the first holds.
        ///   A claim that is seen before what its owner did names an owner who is not found yet.
        /// - An answer is given after every server was told to commit and answered. If one is lost to the coordinator
        ///   between the two phases it serves its part only when it is back and Citus has resolved it
        ///   (`citus.recover_2pc_interval`): its heads are locked until then, and what is read there without a lock is
        ///   from before. A server that the coordinator cannot reach must therefore serve nobody else.
        one_partition: bool,
    },
}

impl Location {
    /// `sqlite:path` or `postgres://…`.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres {
                url: url.to_owned(),
                root: None,
                password: None,
                one_partition: false,
            });
        }
        Err("database.url is sqlite:<file> or postgres://<user>@<host>/<database>".to_owned())
    }

    /// With each transaction kept to one partition, where that is a choice.
    #[must_use]
    pub fn keeping_to_one_partition(mut self, keep: bool) -> Self {
        if let Self::Postgres { one_partition, .. } = &mut self {
            *one_partition = keep;
        }
        self
    }

    /// Whether a transaction must keep to one partition.
    pub(crate) const fn keeps_to_one_partition(&self) -> bool {
        matches!(
            self,
            Self::Postgres {
                one_partition: true,
                ..
            }
        )
    }

    /// Whether this process alone writes it.
    pub const fn is_embedded(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// A connection that only looks: it takes no lock and makes no file, and another process may serve meanwhile.
    pub(crate) fn look(&self) -> Result<AnyConn, Error> {
        let Self::Sqlite(path) = self else {
            return self.connect_for(Purpose::Look);
        };
        let shown = path.display();
        let path = std::path::absolute(path).map_err(|e| Error::File(format!("{shown}: {e}")))?;
        std::fs::metadata(&path).map_err(|e| Error::File(format!("cannot read {shown}: {e}")))?;
        let mut conn = SqliteConnection::establish(&read_only(&path))
            .map_err(|e| Error::Connect(format!("{shown}: {e}; may this user read it and write its folder?")))?;
        conn.batch_execute("PRAGMA busy_timeout=10000; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16384;")?;
        Ok(AnyConn::Sqlite(conn))
    }

    /// A new connection, with the settings that the store relies on.
    ///
    /// # Errors
    /// When the database is away or does not let us in.
    pub fn connect(&self) -> Result<AnyConn, Error> {
        self.connect_for(Purpose::Work)
    }

    pub(crate) fn connect_for(&self, purpose: Purpose) -> Result<AnyConn, Error> {
        match self {
            Self::Sqlite(path) => sqlite(path).map(AnyConn::Sqlite),
            Self::Postgres { one_partition, .. } => {
                let Some(server) = self.server() else {
                    return Err(Error::Broken("a server without a URL".into()));
                };
                let (conn, runtime) = server.connect(purpose)?;
                Ok(AnyConn::Pg(PgConn {
                    conn,
                    runtime,
                    one_partition: *one_partition,
                    prepared_locks: BTreeSet::new(),
                }))
            }
        }
    }

    /// Refuses a way to Postgres that shares sessions between clients; before anything is read or written over it.
    pub(crate) fn expect_sessions(&self, purpose: Purpose) -> Result<(), Error> {
        self.server().map_or(Ok(()), |server| server.expect_sessions(purpose))
    }

    fn server(&self) -> Option<Server<'_>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres {
                url, root, password, ..
            } => Some(Server::of(url, root.as_deref(), password.as_ref())),
        }
    }
}

/// The URI by which SQLite opens a file for reading alone.
fn read_only(path: &Path) -> String {
    let mut uri = "file://".to_owned();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri + "?mode=ro"
}

/// How long a statement waits for others.
pub(crate) const BUSY_TIMEOUT: &str = "PRAGMA busy_timeout=10000";

fn sqlite(path: &Path) -> Result<SqliteConnection, Error> {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).map_err(|e| Error::Connect(e.to_string()))?;
    // FULL: a commit returns when it is on the disk; those of the lane alone do not wait (`durable`). secure_delete: what
    // is gone is overwritten. A thread of its own moves the WAL into the file (`checkpoint`); a commit does so only when
    // that thread falls far behind.
    conn.batch_execute(BUSY_TIMEOUT)?;
    conn.batch_execute(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; \
         PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=16384;",
    )?;
    Ok(conn)
}
