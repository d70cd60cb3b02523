//! A line to Postgres that can be cut: around a COMMIT, where it hurts, or altogether for a while.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

/// The session setting by which a commit is on the disk before it is answered, and one of the same length that is not.
const DURABLE: &[u8] = b"SET synchronous_commit=on; ";
const LOSSY: &[u8] = b"SET synchronous_commit=off;";

/// Stands between a store and a throwaway server. Ends with the process.
#[derive(Debug)]
pub struct Line {
    folder: TempDir,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    next: AtomicU8,
    is_down: AtomicBool,
    makes_lossy: bool,
    carried: Mutex<Vec<Weak<UnixStream>>>,
}

impl Line {
    /// A line to the server that `Database::url` or `Postgres::url` names: one on a Unix socket.
    ///
    /// # Panics
    /// When the server is not on a Unix socket.
    pub fn to(server_url: &str) -> Self {
        Self::with(server_url, false)
    }

    /// The same, but that every session it carries gives durability up: its commits are answered before they are on the
    /// disk. For the control of a test that must notice it.
    ///
    /// # Panics
    /// When the server is not on a Unix socket.
    pub fn without_durability(server_url: &str) -> Self {
        Self::with(server_url, true)
    }

    fn with(server_url: &str, makes_lossy: bool) -> Self {
        let encoded = server_url
            .strip_prefix("postgres://postgres@")
            .expect("a throwaway server");
        let host = encoded.split('/').next().unwrap_or_default().replace("%2F", "/");
        let server = PathBuf::from(host).join(".s.PGSQL.5432");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
        let state = Arc::new(State {
            makes_lossy,
            ..State::default()
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.is_down.load(Ordering::SeqCst) {
                    continue;
                }
                // A server that is away looks like one: the connection ends.
                let Ok(server) = UnixStream::connect(&server) else {
                    continue;
                };
                carry(client, server, &shared);
            }
        });
        Self { folder, state }
    }

    /// The URL of `database` over this line.
    pub fn url(&self, database: &str) -> String {
        let encoded = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{encoded}/{database}")
    }

    /// Cuts the connection that next sends a COMMIT.
    pub fn cut_next_commit(&self, cut: Cut) {
        self.state.next.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether the cut that was asked for is still to come.
    pub fn is_whole(&self) -> bool {
        self.state.next.load(Ordering::SeqCst) != 0
    }

    /// Asks for no cut any more.
    pub fn cut_no_commit(&self) {
        self.state.next.store(0, Ordering::SeqCst);
    }

    /// Cuts every connection; new ones end at once until [`Self::mend`].
    pub fn cut_all(&self) {
        self.state.is_down.store(true, Ordering::SeqCst);
        let mut carried = self.state.carried.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in carried.drain(..).filter_map(|stream| stream.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Carries new connections again.
    pub fn mend(&self) {
        self.state.is_down.store(false, Ordering::SeqCst);
    }
}

/// One connection, two threads; `lost` is set when the answer must not come through any more.
fn carry(client: UnixStream, server: UnixStream, state: &Arc<State>) {
    let lost = Arc::new(AtomicU8::new(0));
    let (client, server) = (Arc::new(client), Arc::new(server));
    {
        let mut carried = state.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.retain(|stream| stream.strong_count() > 0);
        carried.extend([&client, &server].map(Arc::downgrade));
        // It may have gone down since it was looked at.
        if state.is_down.load(Ordering::SeqCst) {
            return;
        }
    }
    let (from, to, seen, state) = (client.clone(), server.clone(), Arc::clone(&lost), Arc::clone(state));
    std::thread::spawn(move || {
        copy(&from, &to, |sent| {
            if state.makes_lossy {
                give_up_durability(sent);
            }
            let commits = sent.windows(7).any(|text| text == b"COMMIT\0");
            let cut = if commits {
                state.next.swap(0, Ordering::SeqCst)
            } else {
                0
            };
            seen.store(cut, Ordering::SeqCst);
            cut != Cut::Before as u8
        });
    });
    std::thread::spawn(move || copy(&server, &client, |_| lost.load(Ordering::SeqCst) == 0));
}

/// A session is set up by one short message, which comes in one piece.
fn give_up_durability(sent: &mut [u8]) {
    let at = sent.windows(DURABLE.len()).position(|text| text == DURABLE);
    if let Some(at) = at {
        sent[at..at + LOSSY.len()].copy_from_slice(LOSSY);
    }
}

/// Carries bytes until an end, or until `passes` says no.
fn copy(mut from: &UnixStream, mut to: &UnixStream, passes: impl Fn(&mut [u8]) -> bool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || !passes(&mut buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
