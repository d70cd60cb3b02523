//! How many calls may be in work, so that none of them waits long? As many as are answered in the time that a call may
//! take, by Little's law; found anew ten times a second.
//!
//! A count alone bounds memory, not time: 500 calls in front of a database that answers 2,000 a second are a quarter of
//! a second. How long a call takes when nothing waits is not known beforehand, for some ask another service: so the
//! bound is on what the quickest tenth of a second of the last minute took, several times over, and never less than
//! what nobody minds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Calls that take no longer than this on the average are never too many.
const WITHIN: Duration = Duration::from_millis(7);

/// Nor are those that take no more times than this of what they take at best.
const TIMES: u32 = 4;

/// What is let in before anything is known of how long it takes. More only once that many were quick: the first moment of
/// a flood is not to be a second's work.
const FIRST: usize = 512;

/// How long calls are counted until the bound is found anew.
const WINDOW: Duration = Duration::from_millis(100);

/// How many windows the best is remembered for: a minute.
const REMEMBERED: usize = 600;

/// How long nothing was in work until what is known of how long it takes is of no use: then as many are let in as at first.
const REST: Duration = Duration::from_secs(1);

/// Fewer are never let in, however long they take: what is slow may be somebody else, and a batch needs its calls.
const FEWEST: usize = 64;

/// The bound on the calls of one class, between [`FEWEST`] and what is configured.
pub(crate) struct Pace {
    /// What is let in before anything is known.
    first: usize,
    most: usize,
    now: AtomicUsize,
    born: Instant,
    /// When the last call left, in nanoseconds since `born`: since then nothing is in work, if nothing is.
    left: AtomicU64,
    /// Whether anything was refused since the bound was last found.
    refused: AtomicBool,
    window: Mutex<Window>,
}

/// What was answered since the bound was last found.
struct Window {
    begun: Instant,
    calls: u32,
    taken: Duration,
    /// The most that were in work at once.
    peak: usize,
    /// How long nothing was in work.
    rested: Duration,
    /// The averages of the windows before.
    averages: VecDeque<Duration>,
}

impl Pace {
    /// For calls whose time tells how many there is time for.
    pub(crate) fn new(most: usize) -> Self {
        Self::beginning(FIRST.min(most), most)
    }

    /// For what is never answered: no time of it will ever raise the bound, so it is `most` from the first on.
    pub(crate) fn fixed(most: usize) -> Self {
        Self::beginning(most, most)
    }

    fn beginning(first: usize, most: usize) -> Self {
        let born = Instant::now();
        Self {
            first,
            most,
            now: AtomicUsize::new(first),
            born,
            left: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            window: Mutex::new(Window {
                begun: born,
                calls: 0,
                taken: Duration::ZERO,
                peak: 0,
                rested: Duration::ZERO,
                averages: VecDeque::new(),
            }),
        }
    }

    /// How many may be in work now.
    pub(crate) fn most(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// How many would be let in at `now`, when `in_work` are in work.
    pub(crate) fn most_at(&self, now: Instant, in_work: usize) -> usize {
        if in_work == 0 && self.resting(now) >= REST {
            self.first
        } else {
            self.most()
        }
    }

    /// A call leaves at `now`, whatever became of it. Told before it is no longer counted: so whoever finds none in work
    /// knows since when.
    pub(crate) fn leaves(&self, now: Instant) {
        self.left.fetch_max(self.since_born(now), Ordering::Release);
    }

    /// A call came at `now`, when none was in work. What was known before a long rest is of no use; a short one tells nothing
    /// of how many calls there is time for.
    pub(crate) fn begins(&self, now: Instant) {
        let rested = self.resting(now);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if rested < REST {
            window.rested += rested;
            return;
        }
        self.refused.store(false, Ordering::Relaxed);
        self.now.store(self.first, Ordering::Relaxed);
        if window.calls > 0 {
            window.averaged();
        }
        window.begin(now);
    }

    /// For how long nothing is in work at `now`, if nothing is.
    fn resting(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.since_born(now).saturating_sub(self.left.load(Ordering::Acquire)))
    }

    fn since_born(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }

    /// One was one too many.
    pub(crate) fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// One of `in_work` was answered at `now`, `taken` after it had come.
    pub(crate) fn answered(&self, now: Instant, taken: Duration, in_work: usize) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.calls += 1;
        window.taken += taken;
        window.peak = window.peak.max(in_work);
        let lasted = now.saturating_duration_since(window.begun);
        if lasted >= WINDOW {
            let refused = self.refused.swap(false, Ordering::Relaxed);
            let found = window.bound(lasted, refused, self.most(), self);
            self.now.store(found, Ordering::Relaxed);
            window.begin(now);
        }
    }
}

impl Window {
    /// How long its calls took on the average, which is remembered.
    fn averaged(&mut self) -> Duration {
        let average = self.taken / self.calls.max(1);
        if self.averages.len() == REMEMBERED {
            self.averages.pop_front();
        }
        self.averages.push_back(average);
        average
    }

    /// The bound to come, after `bound`.
    fn bound(&mut self, lasted: Duration, refused: bool, bound: usize, &Pace { first, most, .. }: &Pace) -> usize {
        let average = self.averaged();
        let lasted = lasted.saturating_sub(self.rested);
        let best = self.averages.iter().min().copied().unwrap_or(average);
        let allowed = WITHIN.max(best * TIMES);
        let used = refused || self.peak > bound / 2;
        if average > allowed && used {
            in_time(self.calls, lasted, allowed).clamp(FEWEST.min(most), most)
        } else if average < allowed / 2 {
            // What nobody asks for stays unknown.
            let enough = if used { most } else { first };
            bound.saturating_mul(2).min(enough).max(bound)
        } else {
            bound
        }
    }

    fn begin(&mut self, now: Instant) {
        self.begun = now;
        self.calls = 0;
        self.taken = Duration::ZERO;
        self.peak = 0;
        self.rested = Duration::ZERO;
    }
}

/// How many of `calls` in `lasted` are answered in `allowed`.
fn in_time(calls: u32, lasted: Duration, allowed: Duration) -> usize {
    let many = u128::from(calls) * allowed.as_micros() / lasted.as_micros().max(1);
    usize::try_from(many).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `calls` that take `millis` each are answered within the next window, of as many in work as that comes to.
    fn window(pace: &Pace, at: &mut Instant, calls: u32, millis: u64) {
        let in_work = in_time(calls, WINDOW, Duration::from_millis(millis));
        for _ in 1..calls {
            pace.answered(*at, Duration::from_millis(millis), in_work);
        }
        *at += WINDOW;
        pace.answered(*at, Duration::from_millis(millis), in_work);
    }

    #[test]
    fn a_queue_becomes_as_long_as_is_answered_in_time_and_long_again() {
        let (pace, mut at) = (Pace::new(1024), Instant::now());
        window(&pace, &mut at, 10, 1);
        assert_eq!(pace.most(), FIRST, "nothing waits");
        // 20,000 a second, each after 50 ms: 1,000 wait, where 7 ms have room for 140.
        window(&pace, &mut at, 2000, 50);
        assert_eq!(pace.most(), 140);
        window(&pace, &mut at, 2000, 7);
        assert_eq!(pace.most(), 140);
        window(&pace, &mut at, 4000, 3);
        assert_eq!(pace.most(), 280);
        window(&pace, &mut at, 100, 4);
        assert_eq!(pace.most(), 280);
        window(&pace, &mut at, 10, 1);
        assert_eq!(pace.most(), FIRST, "what is not asked for is no more than at first");
    }

    #[test]
    fn after_a_flood_and_a_rest_as_many_are_let_in_as_at_first() {
        let (pace, mut at) = (Pace::new(1024), Instant::now());
        window(&pace, &mut at, 10, 1);
        window(&pace, &mut at, 2000, 50);
        assert_eq!(pace.most(), 140);
        // The flood ends within a window: these are the last of it, and then nobody comes for an hour.
        pace.refused();
        for left in (1..=150).rev() {
            pace.leaves(at);
            pace.answered(at, Duration::from_millis(50), left);
        }
        let rest = at + Duration::from_secs(3600);
        assert_eq!((pace.most_at(rest, 1), pace.most_at(rest, 0)), (140, FIRST));
        pace.begins(rest);
        assert_eq!(pace.most(), FIRST, "at once, not when something was answered");
        at = rest + WINDOW;
        pace.answered(at, Duration::from_millis(50), FIRST);
        assert_eq!(pace.most(), FEWEST, "from then on the time that calls take tells");
        // Nor is more let in for what was quick before a rest.
        window(&pace, &mut at, 15_000, 1);
        window(&pace, &mut at, 30_000, 1);
        window(&pace, &mut at, 60_000, 1);
        window(&pace, &mut at, 90_000, 1);
        assert_eq!(pace.most(), 1024);
        pace.leaves(at);
        at += Duration::from_secs(2);
        pace.begins(at);
        assert_eq!(pace.most(), FIRST);
    }

    #[test]
    fn a_short_rest_does_not_make_the_calls_before_it_look_slower() {
        let (pace, mut at) = (Pace::new(1024), Instant::now());
        window(&pace, &mut at, 10, 1);
        // Nothing for 49 ms; 4,000 within 50 ms; a rest of half a second.
        pace.leaves(at);
        pace.begins(at + Duration::from_millis(49));
        at += WINDOW - Duration::from_millis(1);
        pace.refused();
        for left in (1..=4000).rev() {
            pace.leaves(at);
            pace.answered(at, Duration::from_millis(50), left);
        }
        pace.begins(at + Duration::from_millis(500));
        pace.answered(at + Duration::from_millis(502), Duration::from_millis(2), 1);
        assert_eq!(pace.most(), 538, "of 4,001 in the 52 ms in which there was work");
    }

    #[test]
    fn one_who_has_his_share_and_asks_for_more_does_not_lift_the_bound() {
        let (pace, mut at) = (Pace::new(1024), Instant::now());
        window(&pace, &mut at, 10, 2);
        window(&pace, &mut at, 200, 250);
        assert_eq!(pace.most(), FEWEST);
        // A peer may have half of it: never more than 32 are in work, and it is the bound that keeps them so few.
        for _ in 0..10 {
            pace.refused();
            window(&pace, &mut at, 95, 33);
            assert_eq!(pace.most(), FEWEST);
        }
    }

    #[test]
    fn calls_that_do_not_wait_for_each_other_are_never_too_many() {
        let (pace, mut at) = (Pace::new(1024), Instant::now());
        window(&pace, &mut at, 10, 2);
        for _ in 0..10 {
            window(&pace, &mut at, 2, 3000);
            assert_eq!(pace.most(), FIRST);
        }
    }

    #[test]
    fn what_is_slow_by_nature_is_not_cut_down_for_it() {
        let (pace, mut at) = (Pace::new(1024), Instant::now());
        // Each asks somebody who takes 500 ms, however few they are.
        for _ in 0..10 {
            window(&pace, &mut at, 60, 500);
        }
        assert_eq!(pace.most(), 1024);
    }

    #[test]
    fn who_becomes_slow_is_first_cut_down_and_then_known_for_it() {
        let (pace, mut at) = (Pace::new(1024), Instant::now());
        window(&pace, &mut at, 10, 2);
        window(&pace, &mut at, 60, 500);
        assert_eq!(pace.most(), FEWEST);
        for _ in 0..REMEMBERED + 4 {
            window(&pace, &mut at, 60, 500);
        }
        assert_eq!(pace.most(), 1024);
    }

    #[test]
    fn a_bound_that_is_configured_low_stays() {
        let (pace, mut at) = (Pace::new(2), Instant::now());
        window(&pace, &mut at, 10, 2);
        window(&pace, &mut at, 400, 5000);
        assert_eq!(pace.most(), 2);
    }
}
