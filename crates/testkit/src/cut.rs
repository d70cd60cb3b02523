//! A line to Postgres that can be cut where it hurts: around a COMMIT, or anywhere in a transaction.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

mod held;
mod inside;

pub use held::Held;
use held::Holder;
use inside::Inside;

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
    next: Arc<AtomicU8>,
    inside: Arc<Inside>,
    held: Arc<Holder>,
}

impl Line {
    /// A line to the server that `Database::url` or `Postgres::url` names: one on a Unix socket.
    ///
    /// # Panics
    /// When the server is not on a Unix socket.
    pub fn to(server_url: &str) -> Self {
        let encoded = server_url
            .strip_prefix("postgres://postgres@")
            .expect("a throwaway server");
        let host = encoded.split('/').next().unwrap_or_default().replace("%2F", "/");
        let server = PathBuf::from(host).join(".s.PGSQL.5432");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
        let next = Arc::new(AtomicU8::new(0));
        let cut = Arc::clone(&next);
        let held = Arc::<Holder>::default();
        let holder = Arc::clone(&held);
        let inside = Arc::<Inside>::default();
        let within = Arc::clone(&inside);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A server that is away looks like one: the connection ends.
                let Ok(server) = UnixStream::connect(&server) else {
                    continue;
                };
                carry(
                    client,
                    server,
                    Arc::clone(&cut),
                    Arc::clone(&within),
                    Arc::clone(&holder),
                );
            }
        });
        Self {
            folder,
            next,
            inside,
            held,
        }
    }

    /// The URL of `database` over this line.
    pub fn url(&self, database: &str) -> String {
        let encoded = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{encoded}/{database}")
    }

    /// Cuts the connection that next sends a COMMIT.
    pub fn cut_next_commit(&self, cut: Cut) {
        self.next.store(cut as u8, Ordering::SeqCst);
    }

    /// Cuts the connection whose transaction next sends its `n`th message, BEGIN being the 0th; or asks for no such cut.
    pub fn cut_inside(&self, at: Option<(usize, Cut)>) {
        self.inside.ask(at);
    }

    /// Holds every answer of the server until the value is dropped.
    pub fn hold_answers(&self) -> Held {
        self.held.hold()
    }

    /// Whether the cut that was asked for is still to come.
    pub fn is_whole(&self) -> bool {
        self.next.load(Ordering::SeqCst) != 0
    }
}

/// One connection, two threads; `lost` is set when the answer must not come through any more.
fn carry(client: UnixStream, server: UnixStream, next: Arc<AtomicU8>, inside: Arc<Inside>, held: Arc<Holder>) {
    let lost = Arc::new(AtomicU8::new(0));
    let (from, to, seen) = (clone(&client), clone(&server), Arc::clone(&lost));
    std::thread::spawn(move || {
        let mut message = None;
        copy(&from, &to, |sent| {
            let commits = sent.windows(7).any(|text| text == b"COMMIT\0");
            let cut = if commits { next.swap(0, Ordering::SeqCst) } else { 0 };
            let cut = inside.cut(&mut message, sent).map_or(cut, |cut| cut as u8);
            seen.store(cut, Ordering::SeqCst);
            cut != Cut::Before as u8
        });
    });
    std::thread::spawn(move || {
        copy(&server, &client, |_| {
            held.pass();
            lost.load(Ordering::SeqCst) == 0
        });
    });
}

/// Carries bytes until an end, or until `passes` says no.
fn copy(mut from: &UnixStream, mut to: &UnixStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || !passes(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn clone(stream: &UnixStream) -> UnixStream {
    stream.try_clone().expect("a file handle")
}
