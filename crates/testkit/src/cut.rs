//! A line to Postgres that can be cut: where it hurts, around a COMMIT or anywhere in a transaction, or altogether for a while.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

/// As a [`Cut`]: after the server did it, its answer never comes, and the connection stays open.
const SWALLOWED: u8 = 3;

/// The session setting by which a commit is on the disk before it is answered, and one of the same length that is not.
const DURABLE: &[u8] = b"SET synchronous_commit=on; ";
const LOSSY: &[u8] = b"SET synchronous_commit=off;";

/// Stands between a store and a server. Ends with the process.
#[derive(Debug)]
pub struct Line {
    folder: TempDir,
    user: String,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    next: AtomicU8,
    inside: Inside,
    held: Arc<Holder>,
    is_down: AtomicBool,
    makes_lossy: bool,
    calls: AtomicU64,
    /// Nothing comes back over the connections up to this one.
    silent: AtomicU64,
    ways: AtomicU64,
    carried: Mutex<Vec<Weak<dyn Socket>>>,
}

impl Line {
    /// A line to the server that `Database::url` or `Postgres::url` names, without TLS.
    ///
    /// # Panics
    /// When that is no URL of a server.
    pub fn to(server_url: &str) -> Self {
        Self::with(server_url, false)
    }

    /// The same, but that every session it carries gives durability up: its commits are answered before they are on the
    /// disk. For the control of a test that must notice it.
    ///
    /// # Panics
    /// When that is no URL of a server.
    pub fn without_durability(server_url: &str) -> Self {
        Self::with(server_url, true)
    }

    fn with(server_url: &str, makes_lossy: bool) -> Self {
        let (_, rest) = server_url.split_once("://").expect("a URL");
        let place = rest.split('/').next().unwrap_or_default();
        let (user, host) = place.rsplit_once('@').unwrap_or(("postgres", place));
        let (host, port) = host.rsplit_once(':').unwrap_or((host, "5432"));
        let (user, host, port) = (user.to_owned(), host.replace("%2F", "/"), port.to_owned());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
        let state = Arc::new(State {
            makes_lossy,
            ..State::default()
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let number = shared.calls.fetch_add(1, Ordering::SeqCst) + 1;
                if shared.is_down.load(Ordering::SeqCst) {
                    continue;
                }
                // A server that is away looks like one: the connection ends.
                if let Ok(server) = connect(&host, &port) {
                    carry(Arc::new(client), server, number, &shared);
                }
            }
        });
        Self { folder, user, state }
    }

    /// The URL of `database` over this line.
    pub fn url(&self, database: &str) -> String {
        let encoded = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://{}@{encoded}/{database}", self.user)
    }

    /// How often somebody connected, whether or not the server was there.
    pub fn calls(&self) -> u64 {
        self.state.calls.load(Ordering::SeqCst)
    }

    /// How many messages the transaction sent that last sent its COMMIT, that included. What is sent before an answer is
    /// waited for is one: so often it went to the server and back.
    pub fn ways(&self) -> u64 {
        self.state.ways.load(Ordering::SeqCst)
    }

    /// Cuts the connection that next sends a COMMIT.
    pub fn cut_next_commit(&self, cut: Cut) {
        self.state.next.store(cut as u8, Ordering::SeqCst);
    }

    /// Lets the next COMMIT through and nothing back over its connection, which stays open.
    pub fn swallow_next_commit(&self) {
        self.state.next.store(SWALLOWED, Ordering::SeqCst);
    }

    /// Lets nothing back over the connections that there are, which stay open, as behind a firewall that forgot them. New ones
    /// are as they should be.
    pub fn swallow_all(&self) {
        let last = self.state.calls.load(Ordering::SeqCst);
        self.state.silent.store(last, Ordering::SeqCst);
    }

    /// Whether the cut that was asked for is still to come.
    pub fn is_whole(&self) -> bool {
        self.state.next.load(Ordering::SeqCst) != 0
    }

    /// Asks for no cut any more.
    pub fn cut_no_commit(&self) {
        self.state.next.store(0, Ordering::SeqCst);
    }

    /// Cuts the connection whose transaction next sends its `n`th message, BEGIN being the 0th; or asks for no such cut.
    pub fn cut_inside(&self, at: Option<(usize, Cut)>) {
        self.state.inside.ask(at);
    }

    /// Holds every answer of the server until the value is dropped.
    pub fn hold_answers(&self) -> Held {
        self.state.held.hold()
    }

    /// Cuts every connection; new ones end at once until [`Self::mend`].
    pub fn cut_all(&self) {
        self.state.is_down.store(true, Ordering::SeqCst);
        let mut carried = self.state.carried.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in carried.drain(..).filter_map(|socket| socket.upgrade()) {
            socket.close();
        }
    }

    /// Carries new connections again.
    pub fn mend(&self) {
        self.state.is_down.store(false, Ordering::SeqCst);
    }
}

/// One end of a connection; used by two threads at a time.
trait Socket: std::fmt::Debug + Send + Sync {
    fn take(&self, buffer: &mut [u8]) -> std::io::Result<usize>;
    fn give(&self, bytes: &[u8]) -> std::io::Result<()>;
    fn close(&self);
}

macro_rules! socket {
    ($stream:ty) => {
        impl Socket for $stream {
            fn take(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buffer)
            }

            fn give(&self, bytes: &[u8]) -> std::io::Result<()> {
                (&*self).write_all(bytes)
            }

            fn close(&self) {
                let _ = self.shutdown(Shutdown::Both);
            }
        }
    };
}

socket!(UnixStream);
socket!(TcpStream);

fn connect(host: &str, port: &str) -> std::io::Result<Arc<dyn Socket>> {
    if host.starts_with('/') {
        let path = format!("{host}/.s.PGSQL.{port}");
        UnixStream::connect(path).map(|socket| Arc::new(socket) as _)
    } else {
        TcpStream::connect(format!("{host}:{port}")).map(|socket| Arc::new(socket) as _)
    }
}

/// One connection, two threads; `lost` is set when the answer must not come through any more.
fn carry(client: Arc<dyn Socket>, server: Arc<dyn Socket>, number: u64, state: &Arc<State>) {
    {
        let mut carried = state.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.retain(|socket| socket.strong_count() > 0);
        carried.extend([&client, &server].map(Arc::downgrade));
        // It may have gone down since it was looked at.
        if state.is_down.load(Ordering::SeqCst) {
            return;
        }
    }
    let lost = Arc::new(AtomicU8::new(0));
    let (from, to, seen, there) = (
        Arc::clone(&client),
        Arc::clone(&server),
        Arc::clone(&lost),
        Arc::clone(state),
    );
    std::thread::spawn(move || {
        let mut message = None;
        copy(from.as_ref(), to.as_ref(), |sent| {
            if there.makes_lossy {
                give_up_durability(sent);
            }
            let cut = there.cut(&mut message, sent);
            // Whose answer was swallowed gets none any more.
            if seen.load(Ordering::SeqCst) != SWALLOWED {
                seen.store(cut, Ordering::SeqCst);
            }
            if cut == Cut::Before as u8 { Way::End } else { Way::On }
        });
    });
    let back = Arc::clone(state);
    std::thread::spawn(move || {
        copy(server.as_ref(), client.as_ref(), |_| {
            back.held.pass();
            match lost.load(Ordering::SeqCst) {
                SWALLOWED => Way::Nowhere,
                0 if number <= back.silent.load(Ordering::SeqCst) => Way::Nowhere,
                0 => Way::On,
                _ => Way::End,
            }
        });
    });
}

impl State {
    /// Whether the connection is cut at what is being sent, and how.
    fn cut(&self, message: &mut Option<usize>, sent: &[u8]) -> u8 {
        let commits = sent.windows(7).any(|text| text == b"COMMIT\0");
        let next = if commits {
            self.next.swap(0, Ordering::SeqCst)
        } else {
            0
        };
        let cut = self.inside.cut(message, sent);
        if let Some(number) = message.filter(|_| commits) {
            self.ways.store(number as u64 + 1, Ordering::SeqCst);
        }
        cut.map_or(next, |cut| cut as u8)
    }
}

/// A session is set up by one short message, which comes in one piece.
fn give_up_durability(sent: &mut [u8]) {
    let at = sent.windows(DURABLE.len()).position(|text| text == DURABLE);
    if let Some(at) = at {
        sent[at..at + LOSSY.len()].copy_from_slice(LOSSY);
    }
}

/// What becomes of bytes.
enum Way {
    On,
    /// They are lost, and nobody is told.
    Nowhere,
    /// They are lost, and the connection with them.
    End,
}

/// Carries bytes until an end.
fn copy(from: &dyn Socket, to: &dyn Socket, mut way: impl FnMut(&mut [u8]) -> Way) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(n) = from.take(&mut buffer) {
        let goes_on = n > 0
            && match way(&mut buffer[..n]) {
                Way::On => to.give(&buffer[..n]).is_ok(),
                Way::Nowhere => true,
                Way::End => false,
            };
        if !goes_on {
            break;
        }
    }
    from.close();
    to.close();
}
