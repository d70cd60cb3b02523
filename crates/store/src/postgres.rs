//! How a connection to Postgres is made: within a bound, believed by its certificate, and fit to be relied on.

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::{AsyncConnectionWrapper, BlockOn};
use sammati_kernel::{Secret, Seed};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{CancelToken, Client, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::Error;
use crate::refused;

/// Postgres behind diesel's synchronous face; lives on a thread of its own, never on a runtime's.
pub(crate) type Diesel = AsyncConnectionWrapper<AsyncPgConnection, ThreadRuntime>;

/// How long a server may take until a connection to it can be used.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a statement may go unanswered: longer than the server lets one run. Then the server or the way to it hangs.
const PATIENCE: Duration = Duration::from_secs(25);

/// The same for a confirmation, which reads a few rows.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// How long is tried to tell a server that nobody waits for a statement any more.
const FAREWELL: Duration = Duration::from_secs(1);

// A call may take half a minute in all: what silence takes of it leaves time to find out what became of a commit.
const _: () = assert!(PATIENCE.as_secs() + FAREWELL.as_secs() <= 27);

/// The statements join small sets of keys with large tables: without these the planner likes to read whole tables, and to
/// make the same plan anew for each batch.
const SETTINGS: &str = "SET synchronous_commit=on; SET enable_hashjoin=off; SET enable_mergejoin=off; \
     SET enable_seqscan=off; SET jit=off; SET plan_cache_mode=force_generic_plan; SET statement_timeout='20s'; \
     SET lock_timeout='15s'; SET idle_in_transaction_session_timeout='30s';";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Commands and reads. The server must take writes.
    Work,
    /// Confirmations: the same, and answered soon.
    Confirm,
    /// Looking at a server, whatever it is.
    Look,
}

/// A server and a database on it.
#[derive(Clone, Copy)]
pub(crate) struct Server<'a> {
    url: &'a str,
    root: Option<&'a Path>,
    password: Option<&'a Secret<String>>,
}

impl<'a> Server<'a> {
    pub(crate) const fn of(url: &'a str, root: Option<&'a Path>, password: Option<&'a Secret<String>>) -> Self {
        Self { url, root, password }
    }

    /// A connection with the settings that the store relies on, and the runtime that drives it.
    pub(crate) fn connect(&self, purpose: Purpose) -> Result<(Diesel, ThreadRuntime), Error> {
        let dialled = self.dialled(purpose)?;
        let runtime = current_thread()?;
        let line;
        let conn = match runtime.block_on(within(dialled.settled(purpose))) {
            Ok((conn, its)) => {
                line = Some(its);
                conn
            }
            Err(error) => {
                // A name that is still being looked up is not waited for.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let runtime = ThreadRuntime(Arc::new(Driven { runtime, line }));
        NEXT.with(|next| *next.borrow_mut() = Some(runtime.clone()));
        Ok((Diesel::from(conn), runtime))
    }

    /// Refuses what hands one session's settings to another, as a pooler does that shares its connections between
    /// transactions: prepared statements and settings would be of no use there, or somebody else's.
    pub(crate) fn expect_sessions(&self, purpose: Purpose) -> Result<(), Error> {
        let dialled = self.dialled(purpose)?;
        current_thread()?.block_on(within(async {
            let (first, second) = (dialled.open().await?, dialled.open().await?);
            for round in 0..3 {
                // While a transaction of the second holds whatever it was given, the first gets the same as before only
                // if that is its own.
                let mark = mark(round)?;
                let ask = "SELECT coalesce(current_setting('sammati.session',true),'')";
                let set = format!("SET sammati.session='{mark}'");
                tell(&first.client, &set).await?;
                // One that shares them between statements refuses a transaction.
                if let Err(error) = second.client.batch_execute("BEGIN").await {
                    return Err(match error.as_db_error() {
                        Some(_) => Error::Unfit(refused::POOLER.to_owned()),
                        None => failed(&error),
                    });
                }
                let theirs = one(&second.client, ask).await?;
                let ours = one(&first.client, ask).await?;
                tell(&second.client, "ROLLBACK").await?;
                if ours != mark || theirs == mark {
                    return Err(Error::Unfit(refused::POOLER.to_owned()));
                }
            }
            Ok(())
        }))
    }

    fn dialled(&self, purpose: Purpose) -> Result<Dialled, Error> {
        let unread = |_| Error::Connect("the database URL cannot be read".into());
        let mut config: tokio_postgres::Config = self.url.parse().map_err(unread)?;
        if let Some(password) = self.password {
            config.password(password.expose());
        }
        // An address of several that is silent leaves time for the next.
        config.connect_timeout(CONNECT / 2);
        // A server that is cut off is found out long before TCP gives up: what waits for it is told in time.
        config.keepalives_idle(Duration::from_secs(5));
        config.keepalives_interval(Duration::from_secs(2));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(10));
        config.application_name("sammati");
        if purpose != Purpose::Look {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let tls = self.root.map(tls).transpose()?.map(MakeRustlsConnect::new);
        config.ssl_mode(if tls.is_some() {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        Ok(Dialled {
            root: self.root.map(Path::to_owned),
            config,
            tls,
        })
    }
}

/// A server as it is spoken to.
struct Dialled {
    root: Option<PathBuf>,
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
}

/// A session, and the task that carries what it says.
struct Session {
    client: Client,
    driver: AbortHandle,
}

impl Dialled {
    async fn open(&self) -> Result<Session, Error> {
        let opened = match &self.tls {
            Some(tls) => self
                .config
                .connect(tls.clone())
                .await
                .map(|(client, connection)| Session {
                    client,
                    driver: tokio::spawn(drive(connection)).abort_handle(),
                }),
            None => self.config.connect(NoTls).await.map(|(client, connection)| Session {
                client,
                driver: tokio::spawn(drive(connection)).abort_handle(),
            }),
        };
        opened.map_err(|error| Error::Connect(refused::why(&error, self.root.as_deref())))
    }

    /// A session that can be relied on.
    async fn settled(&self, purpose: Purpose) -> Result<(AsyncPgConnection, Line), Error> {
        let Session { client, driver } = self.open().await?;
        tell(&client, SETTINGS).await?;
        // What diesel tells of some failures is their text alone. An ordinary role may not choose its language: then the
        // server's own must be English.
        if client.batch_execute("SET lc_messages='C'").await.is_err() && purpose != Purpose::Look {
            let language = one(&client, "SHOW lc_messages").await?;
            if !is_english(&language) {
                return Err(Error::Unfit(refused::language(&language)));
            }
        }
        let line = Line {
            driver,
            patience: if purpose == Purpose::Confirm {
                CONFIRMATION
            } else {
                PATIENCE
            },
            // A commit that waits for a standby must not be told to wait no more: it would be done without.
            cancel: (purpose != Purpose::Work).then(|| (client.cancel_token(), self.tls.clone())),
        };
        let conn = AsyncPgConnection::try_from(client).await;
        Ok((conn.map_err(|e| Error::Connect(e.to_string()))?, line))
    }
}

/// Whether the store can read messages in this language.
pub(crate) fn is_english(language: &str) -> bool {
    language.is_empty()
        || ["C", "POSIX", "en_", "English"]
            .iter()
            .any(|good| language.starts_with(good))
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the database ended");
    }
}

/// Whoever is asked for a connection and says nothing is away.
async fn within<T>(connecting: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let silent = |_| Error::Connect(format!("no answer within {} s", CONNECT.as_secs()));
    timeout(CONNECT, connecting).await.map_err(silent)?
}

/// Without a prepared statement, which a pooler may not know again.
async fn tell(client: &Client, sql: &str) -> Result<(), Error> {
    client.batch_execute(sql).await.map_err(|error| failed(&error))
}

async fn one(client: &Client, sql: &str) -> Result<String, Error> {
    let answer = client.simple_query(sql).await.map_err(|error| failed(&error))?;
    let row = answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(row.and_then(|row| row.get(0).map(str::to_owned)).unwrap_or_default())
}

fn failed(error: &tokio_postgres::Error) -> Error {
    Error::Connect(refused::why(error, None))
}

fn mark(round: u64) -> Result<String, Error> {
    let seed = Seed::draw().map_err(|_| Error::File("the system has no randomness".into()))?;
    let bytes = seed.below("session", u64::MAX);
    Ok(format!("{round}-{bytes:x}"))
}

/// The runtime that drives one connection: `block_on` must drive the very runtime its driver lives on.
#[derive(Clone)]
pub struct ThreadRuntime(Arc<Driven>);

struct Driven {
    runtime: Runtime,
    line: Option<Line>,
}

/// What can be done when nothing comes back.
struct Line {
    driver: AbortHandle,
    patience: Duration,
    cancel: Option<(CancelToken, Option<MakeRustlsConnect>)>,
}

thread_local! { static NEXT: RefCell<Option<ThreadRuntime>> = const { RefCell::new(None) }; }

impl BlockOn for ThreadRuntime {
    /// A server that hangs keeps its connections and answers nothing: when patience ends, the connection does, and whoever
    /// waited is told that it did.
    fn block_on<F: Future>(&self, f: F) -> F::Output {
        let Driven { runtime, line } = self.0.as_ref();
        runtime.block_on(async {
            let mut f = pin!(f);
            let Some(line) = line else { return f.await };
            match timeout(line.patience, &mut f).await {
                Ok(output) => output,
                Err(_) => {
                    line.cut().await;
                    f.await
                }
            }
        })
    }

    #[expect(
        clippy::expect_used,
        reason = "the trait has no room for an error; a process that cannot make an epoll handle cannot go on"
    )]
    fn get_runtime() -> Self {
        let next = NEXT.with(|next| next.borrow_mut().take());
        next.unwrap_or_else(|| {
            Self(Arc::new(Driven {
                runtime: current_thread().expect("a runtime"),
                line: None,
            }))
        })
    }
}

impl Line {
    async fn cut(&self) {
        tracing::warn!(patience = ?self.patience, "the database does not answer: giving a connection up");
        self.driver.abort();
        let Some((token, tls)) = &self.cancel else { return };
        let told = async {
            match tls {
                Some(tls) => token.cancel_query(tls.clone()).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        drop(timeout(FAREWELL, told).await);
    }
}

fn current_thread() -> Result<Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::File(format!("cannot make a runtime: {e}")))
}

fn tls(root: &Path) -> Result<rustls::ClientConfig, Error> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let bad = |why: String| Error::Connect(format!("database.root_certificate {}: {why}", root.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).map_err(|e| bad(e.to_string()))? {
        roots
            .add(certificate.map_err(|e| bad(e.to_string()))?)
            .map_err(|e| bad(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
