//! Time is asked from a [`Clock`], so that a test can hold it in its hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z: the only form in which time is stored and compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// The time `seconds` after 1970.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since 1970, rounded down, as JWT claims want them.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole milliseconds since 1970, rounded down, as UUIDv7 wants them.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This time and `d`, held at the end of time.
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(d)))
    }

    /// This time less `d`, held at the beginning of time.
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(d)))
    }

    /// How long it is from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros_of(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// The time of this process, and what it makes of a database's.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Micros;

    /// The database says `reported`. A test's clock answers for the database too, so that both tell one time.
    fn database(&self, reported: Micros) -> Micros {
        reported
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Micros {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Micros(since.map_or(0, micros_of))
    }
}

/// A clock that moves when it is told to. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<AtomicI64>,
    /// How far the database's clock is ahead of this one.
    ahead: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that stands at `start`, and the database's with it.
    pub fn at(start: Micros) -> Self {
        Self {
            now: Arc::new(AtomicI64::new(start.0)),
            ahead: Arc::default(),
        }
    }

    /// Moves on by `d`.
    pub fn advance(&self, d: Duration) {
        self.now.fetch_add(micros_of(d), Ordering::SeqCst);
    }

    /// Jumps to `to`, backwards too.
    pub fn set(&self, to: Micros) {
        self.now.store(to.0, Ordering::SeqCst);
    }

    /// Lets the database's clock go `ahead` of this one, as if this machine's were slow.
    pub fn lag_behind_database(&self, ahead: Duration) {
        self.ahead.store(micros_of(ahead), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        Micros(self.now.load(Ordering::SeqCst))
    }

    fn database(&self, _: Micros) -> Micros {
        Micros(self.now().0.saturating_add(self.ahead.load(Ordering::SeqCst)))
    }
}
