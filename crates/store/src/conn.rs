//! A connection to either database, and how one is opened.

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::{AsyncConnectionWrapper, BlockOn};
use tokio::runtime::Runtime;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::Error;

/// Postgres behind diesel's synchronous face; lives on a thread of its own, never on a runtime's.
pub struct PgConn {
    conn: AsyncConnectionWrapper<AsyncPgConnection, ThreadRuntime>,
    one_partition: bool,
}

impl PgConn {
    /// What diesel's statements run on.
    #[doc(hidden)]
    pub const fn diesel(&mut self) -> &mut AsyncConnectionWrapper<AsyncPgConnection, ThreadRuntime> {
        &mut self.conn
    }
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
            return self.connect();
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
        match self {
            Self::Sqlite(path) => sqlite(path).map(AnyConn::Sqlite),
            Self::Postgres {
                url,
                root,
                password,
                one_partition,
            } => {
                let conn = postgres(url, root.as_deref(), password.as_ref())?;
                let one_partition = *one_partition;
                Ok(AnyConn::Pg(PgConn { conn, one_partition }))
            }
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

fn sqlite(path: &Path) -> Result<SqliteConnection, Error> {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).map_err(|e| Error::Connect(e.to_string()))?;
    // FULL: a commit is on the disk before it is answered. secure_delete: what is gone is overwritten. A thread of its
    // own moves the WAL into the file (`checkpoint`); a commit does so only when that thread falls far behind.
    conn.batch_execute(
        "PRAGMA busy_timeout=10000; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; \
         PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=16384;",
    )?;
    Ok(conn)
}

/// The runtime that drives one Postgres connection: `block_on` must drive the very runtime its driver task lives on.
pub struct ThreadRuntime(Arc<Runtime>);

thread_local! { static NEXT: RefCell<Option<Arc<Runtime>>> = const { RefCell::new(None) }; }

impl BlockOn for ThreadRuntime {
    fn block_on<F: Future>(&self, f: F) -> F::Output {
        self.0.block_on(f)
    }

    fn get_runtime() -> Self {
        Self(
            NEXT.with(|next| next.borrow_mut().take())
                .unwrap_or_else(current_thread),
        )
    }
}

#[expect(
    clippy::expect_used,
    reason = "a process that cannot make an epoll handle cannot go on"
)]
fn current_thread() -> Arc<Runtime> {
    Arc::new(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime"),
    )
}

fn postgres(
    url: &str,
    root: Option<&Path>,
    password: Option<&sammati_kernel::Secret<String>>,
) -> Result<AsyncConnectionWrapper<AsyncPgConnection, ThreadRuntime>, Error> {
    let mut config: tokio_postgres::Config = url
        .parse()
        .map_err(|_| Error::Connect("the database URL cannot be read".into()))?;
    if let Some(password) = password {
        config.password(password.expose());
    }
    config.connect_timeout(Duration::from_secs(5));
    // A server that is cut off is found out long before TCP gives up: what waits for it is told in time.
    config.keepalives_idle(Duration::from_secs(5));
    config.keepalives_interval(Duration::from_secs(2));
    config.keepalives_retries(3);
    config.tcp_user_timeout(Duration::from_secs(10));
    config.application_name("sammati");
    let runtime = current_thread();
    let inner = runtime.block_on(async {
        match root {
            Some(root) => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require);
                let (client, driver) = config
                    .connect(MakeRustlsConnect::new(tls(root)?))
                    .await
                    .map_err(pg_error)?;
                AsyncPgConnection::try_from_client_and_connection(client, driver)
                    .await
                    .map_err(|e| Error::Connect(e.to_string()))
            }
            None => {
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                let (client, driver) = config.connect(tokio_postgres::NoTls).await.map_err(pg_error)?;
                AsyncPgConnection::try_from_client_and_connection(client, driver)
                    .await
                    .map_err(|e| Error::Connect(e.to_string()))
            }
        }
    })?;
    NEXT.with(|next| *next.borrow_mut() = Some(runtime));
    let mut conn = AsyncConnectionWrapper::from(inner);
    // The statements join small sets of keys with large tables: without these the planner likes to read whole tables,
    // and to make the same plan anew for each batch.
    conn.batch_execute(
        "SET synchronous_commit=on; SET enable_hashjoin=off; SET enable_mergejoin=off; SET enable_seqscan=off; \
         SET jit=off; SET plan_cache_mode=force_generic_plan; SET statement_timeout='20s'; SET lock_timeout='15s'; \
         SET idle_in_transaction_session_timeout='30s';",
    )?;
    // What diesel tells of some failures is their text alone. An ordinary role may not choose its language: then the
    // server's own must be English, as it is by default.
    if conn.batch_execute("SET lc_messages='C'").is_err() {
        tracing::debug!("this role may not set lc_messages; the server's must be C or English");
    }
    Ok(conn)
}

fn pg_error(error: tokio_postgres::Error) -> Error {
    use std::error::Error as _;
    let cause = error.source().map(|s| format!(": {s}")).unwrap_or_default();
    Error::Connect(format!("{error}{cause}"))
}

fn tls(root: &Path) -> Result<rustls::ClientConfig, Error> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let bad = |why: String| Error::Connect(format!("{}: {why}", root.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).map_err(|e| bad(e.to_string()))? {
        roots
            .add(certificate.map_err(|e| bad(e.to_string()))?)
            .map_err(|e| bad(e.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
