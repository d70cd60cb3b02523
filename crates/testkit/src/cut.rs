//! A line to Postgres that can be cut where it hurts: around a COMMIT.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tempfile::TempDir;

/// Where the next COMMIT is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// Before the server sees it: nothing is committed.
    Before = 1,
    /// After the server did it: its answer is lost.
    After = 2,
}

/// Stands between a store and a throwaway server. Ends with the process.
#[derive(Debug)]
pub struct Line {
    folder: TempDir,
    user: String,
    next: Arc<AtomicU8>,
    calls: Arc<AtomicU64>,
}

impl Line {
    /// A line to the server that `Database::url` or `Postgres::url` names, without TLS.
    ///
    /// # Panics
    /// When that is no URL of a server.
    pub fn to(server_url: &str) -> Self {
        let (_, rest) = server_url.split_once("://").expect("a URL");
        let place = rest.split('/').next().unwrap_or_default();
        let (user, host) = place.rsplit_once('@').unwrap_or(("postgres", place));
        let (host, port) = host.rsplit_once(':').unwrap_or((host, "5432"));
        let (user, server) = (user.to_owned(), (host.replace("%2F", "/"), port.to_owned()));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
        let next = Arc::new(AtomicU8::new(0));
        let calls = Arc::new(AtomicU64::new(0));
        let (cut, called) = (Arc::clone(&next), Arc::clone(&calls));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                called.fetch_add(1, Ordering::SeqCst);
                // A server that is away looks like one: the connection ends.
                let (host, port) = &server;
                let cut = Arc::clone(&cut);
                if host.starts_with('/') {
                    let socket = UnixStream::connect(format!("{host}/.s.PGSQL.{port}"));
                    drop(socket.map(|server| carry(client, server, cut)));
                } else {
                    let socket = TcpStream::connect(format!("{host}:{port}"));
                    drop(socket.map(|server| carry(client, server, cut)));
                }
            }
        });
        Self {
            folder,
            user,
            next,
            calls,
        }
    }

    /// The URL of `database` over this line.
    pub fn url(&self, database: &str) -> String {
        let encoded = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://{}@{encoded}/{database}", self.user)
    }

    /// How often somebody connected, whether or not the server was there.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Cuts the connection that next sends a COMMIT.
    pub fn cut_next_commit(&self, cut: Cut) {
        self.next.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether the cut that was asked for is still to come.
    pub fn is_whole(&self) -> bool {
        self.next.load(Ordering::SeqCst) != 0
    }
}

/// A connection whose both directions can be used by a thread each.
trait Socket: Read + Write + Send + Sized + 'static {
    fn share(&self) -> std::io::Result<Self>;
    fn close(&self);
}

impl Socket for UnixStream {
    fn share(&self) -> std::io::Result<Self> {
        self.try_clone()
    }

    fn close(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Socket for TcpStream {
    fn share(&self) -> std::io::Result<Self> {
        self.try_clone()
    }

    fn close(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// One connection, two threads; `lost` is set when the answer must not come through any more.
fn carry(client: UnixStream, server: impl Socket, next: Arc<AtomicU8>) {
    let lost = Arc::new(AtomicU8::new(0));
    let both = (client.share(), server.share());
    let (Ok(from), Ok(to)) = both else { return };
    let seen = Arc::clone(&lost);
    std::thread::spawn(move || {
        copy(from, to, |sent| {
            let commits = sent.windows(7).any(|text| text == b"COMMIT\0");
            let cut = if commits { next.swap(0, Ordering::SeqCst) } else { 0 };
            seen.store(cut, Ordering::SeqCst);
            cut != Cut::Before as u8
        });
    });
    std::thread::spawn(move || copy(server, client, |_| lost.load(Ordering::SeqCst) == 0));
}

/// Carries bytes until an end, or until `passes` says no.
fn copy(mut from: impl Socket, mut to: impl Socket, passes: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || !passes(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    from.close();
    to.close();
}
