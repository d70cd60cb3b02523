//! How often may a participant call? What is above the rates of its row is refused, with when to try again. Each replica of
//! each service counts what reaches it. A call takes no lock: what a participant has used is one number, changed by
//! compare and swap.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use sammati_api::identity::v1 as api;
use sammati_kernel::{Clock, ParticipantId, Peer, Reason, Refusal};

use crate::authn::{AccessToken, TokenFacts};
use crate::authz::{Class, Rule};
use crate::config::Limits;
use crate::metrics::Metrics;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// After a rest a participant may call as often at once as in so long: twice its rate.
const BURST: i64 = 2 * SECOND;

/// How old what is known of a participant's rates may be.
const READ_AGAIN: i64 = SECOND;

/// Calls in a second; 0 as the configuration has it, and there no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Of the class check: reads and decisions, each of a batch or a stream.
    pub checks: u32,
    /// Of all others: what changes something.
    pub requests: u32,
}

impl Rates {
    /// As a participant's row has them.
    pub fn in_row(row: &api::Participant) -> Self {
        let row = row.rates.unwrap_or_default();
        let rate = |number| u32::try_from(number).unwrap_or(0);
        Self {
            checks: rate(row.checks_per_second),
            requests: rate(row.requests_per_second),
        }
    }

    /// As the configuration has them.
    pub(crate) const fn of(limits: &Limits) -> Self {
        Self {
            checks: limits.participant_checks,
            requests: limits.participant_requests,
        }
    }

    fn or(self, standing: Self) -> Self {
        let or = |own: u32, standing| if own == 0 { standing } else { own };
        Self {
            checks: or(self.checks, standing.checks),
            requests: or(self.requests, standing.requests),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    rate: &'static str,
}

const CHECKS: Refused = Refused { rate: "checks" };
const REQUESTS: Refused = Refused { rate: "requests" };

/// The participants' allowances. Clones share them.
#[derive(Clone)]
pub(crate) struct Limiter(Arc<Shared>);

struct Shared {
    base: Arc<Base>,
    /// Of each participant that called since the start. Looked into once for each token, not at each call with one.
    all: Mutex<HashMap<ParticipantId, Arc<Allowance>>>,
}

/// What an allowance is counted with.
struct Base {
    standing: Rates,
    clock: Arc<dyn Clock>,
    facts: Arc<dyn TokenFacts>,
    refused: Family<Refused, Counter>,
}

impl Limiter {
    pub(crate) fn new(standing: Rates, clock: Arc<dyn Clock>, facts: Arc<dyn TokenFacts>, metrics: &Metrics) -> Self {
        let refused = Family::<Refused, Counter>::default();
        for rate in [CHECKS, REQUESTS] {
            drop(refused.get_or_create(&rate));
        }
        let help = "Calls refused since their participant makes more in a second than its row allows, by rate";
        metrics.register("rpc_rate_limited", help, refused.clone());
        let base = Base {
            standing,
            clock,
            facts,
            refused,
        };
        Self(Arc::new(Shared {
            base: Arc::new(base),
            all: Mutex::default(),
        }))
    }

    /// Counts a call of `rule` from `peer` with this token. A call without one, as a participant's login, is that of the
    /// participant that the client's certificate names. A person's calls are her own, whatever app she makes them with, and
    /// those of services and operators nobody's.
    ///
    /// # Errors
    /// RATE_LIMITED.
    pub(crate) fn pass(&self, rule: &Rule, peer: &Peer, token: Option<&AccessToken>) -> Result<(), Refusal> {
        let by_name;
        let allowance = match (token, peer) {
            (Some(token), _) => match token.participant() {
                Some(id) => token.allowance.get_or_init(|| self.of(id)),
                None => return Ok(()),
            },
            (None, Peer::Participant(id)) => {
                by_name = self.of(id);
                &by_name
            }
            (None, _) => return Ok(()),
        };
        match rule.class {
            Class::Check => allowance.take(&allowance.checks, CHECKS, 1),
            Class::Write | Class::Login | Class::Admin => allowance.take(&allowance.requests, REQUESTS, 1),
        }
    }

    /// The participant's, whatever its token.
    fn of(&self, id: &ParticipantId) -> Arc<Allowance> {
        let mut all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(id) {
            return known.clone();
        }
        let allowance = Arc::new(Allowance::new(id.clone(), self.0.base.clone()));
        all.insert(id.clone(), allowance.clone());
        allowance
    }
}

/// What one participant may still ask.
pub struct Allowance {
    id: ParticipantId,
    base: Arc<Base>,
    checks: Bucket,
    requests: Bucket,
    /// When its rates were read last.
    read: AtomicI64,
}

impl std::fmt::Debug for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allowance")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Allowance {
    fn new(id: ParticipantId, base: Arc<Base>) -> Self {
        let allowance = Self {
            id,
            checks: Bucket::default(),
            requests: Bucket::default(),
            read: AtomicI64::new(nanos(base.clock.as_ref())),
            base,
        };
        allowance.read_rates();
        allowance
    }

    /// Counts so many checks more: of a call that asks several things, beside the one that it was counted as.
    ///
    /// # Errors
    /// RATE_LIMITED.
    pub fn more_checks(&self, more: usize) -> Result<(), Refusal> {
        self.take(&self.checks, CHECKS, i64::try_from(more).unwrap_or(i64::MAX))
    }

    fn take(&self, bucket: &Bucket, rate: Refused, calls: i64) -> Result<(), Refusal> {
        let now = nanos(self.base.clock.as_ref());
        let read = self.read.load(Ordering::Relaxed);
        let mine = || {
            self.read
                .compare_exchange(read, now, Ordering::Relaxed, Ordering::Relaxed)
        };
        if now.abs_diff(read) >= READ_AGAIN.unsigned_abs() && mine().is_ok() {
            self.read_rates();
        }
        bucket.take(now, calls).map_err(|wait| {
            self.base.refused.get_or_create(&rate).inc();
            Refusal::new(Reason::RateLimited)
                .saying("your participant makes more calls in a second than it may; wait, or ask the operator for more")
                .retry_after(wait)
        })
    }

    fn read_rates(&self) {
        let rates = self.base.facts.rates(&self.id).or(self.base.standing);
        self.checks.fill_at(rates.checks);
        self.requests.fill_at(rates.requests);
    }
}

/// What was taken, in the time in which it comes in again.
#[derive(Debug, Default)]
struct Bucket {
    /// Until then what was taken has come in again, nanoseconds since 1970.
    full: AtomicI64,
    /// In how many nanoseconds one call comes in; 0: there is no bound.
    each: AtomicI64,
}

impl Bucket {
    fn fill_at(&self, rate: u32) {
        self.each
            .store(SECOND.checked_div(rate.into()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes so many at `now`, or tells how long to wait for them. More than it ever holds are let through when it is full.
    fn take(&self, now: i64, calls: i64) -> Result<(), Duration> {
        let takes = self.each.load(Ordering::Relaxed).saturating_mul(calls).min(BURST);
        if takes <= 0 {
            return Ok(());
        }
        let end = now.saturating_add(BURST);
        // A clock that was set back finds what was taken far ahead of it: no more was taken than it holds.
        let full = self.full.load(Ordering::Relaxed);
        if full.saturating_sub(end) > SECOND {
            // Or another call has done so.
            let _ = self
                .full
                .compare_exchange(full, end, Ordering::Relaxed, Ordering::Relaxed);
        }
        let after = |full: i64| full.max(now).saturating_add(takes);
        let taken = self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
            Some(after(full)).filter(|after| *after <= end)
        });
        let wait = |full| u64::try_from(after(full) - end).unwrap_or(0);
        taken.map(drop).map_err(|full| Duration::from_nanos(wait(full)))
    }
}

fn nanos(clock: &dyn Clock) -> i64 {
    clock.now().0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use sammati_kernel::jws::PublicKey;
    use sammati_kernel::{ManualClock, Micros};

    use super::*;
    use crate::authz::Table;
    use crate::token::Claims;

    const SESSIONS: &str = "sammati.identity.v1.SessionService";

    /// Rows that say one rate.
    #[derive(Default)]
    struct Rows(AtomicU32);

    impl TokenFacts for Rows {
        fn key(&self, _: &str) -> Option<PublicKey> {
            None
        }

        fn ended(&self, _: &Claims) -> bool {
            false
        }

        fn rates(&self, id: &ParticipantId) -> Rates {
            match id.as_str() {
                "named" => Rates {
                    checks: self.0.load(Ordering::Relaxed),
                    requests: 0,
                },
                _ => Rates::default(),
            }
        }
    }

    fn limiter(standing: Rates) -> (Limiter, ManualClock, Arc<Rows>, Metrics) {
        let (clock, rows) = (
            ManualClock::at(Micros::from_seconds(1_800_000_000)),
            Arc::new(Rows::default()),
        );
        let metrics = Metrics::default();
        let limiter = Limiter::new(standing, Arc::new(clock.clone()), rows.clone(), &metrics);
        (limiter, clock, rows, metrics)
    }

    const STANDING: Rates = Rates {
        checks: 1000,
        requests: 50,
    };

    fn id(id: &str) -> ParticipantId {
        ParticipantId::parse(id).unwrap()
    }

    fn check(allowance: &Allowance) -> Result<(), Refusal> {
        allowance.more_checks(1)
    }

    fn request(allowance: &Allowance) -> Result<(), Refusal> {
        allowance.take(&allowance.requests, REQUESTS, 1)
    }

    /// How many go through, of many at once.
    fn at_once(allowance: &Allowance, one: fn(&Allowance) -> Result<(), Refusal>) -> usize {
        (0..5000).filter(|_| one(allowance).is_ok()).count()
    }

    #[test]
    fn a_participant_may_at_once_what_it_may_in_two_seconds_and_then_at_its_rate() {
        let (limiter, clock, _, metrics) = limiter(STANDING);
        let hospital = limiter.of(&id("hospital"));
        assert_eq!(at_once(&hospital, check), 2000);
        assert_eq!(at_once(&hospital, request), 100, "the two are counted apart");
        assert_eq!(at_once(&limiter.of(&id("clinic")), check), 2000, "so are participants");
        let refused = request(&hospital).unwrap_err();
        assert_eq!(
            (refused.reason, refused.retry_after),
            (Reason::RateLimited, Some(Duration::from_millis(20)))
        );
        clock.advance(Duration::from_micros(19_999));
        assert!(request(&hospital).is_err());
        clock.advance(Duration::from_micros(1));
        assert!(
            request(&hospital).is_ok() && request(&hospital).is_err(),
            "after the wait it told, and once"
        );
        clock.advance(Duration::from_secs(1));
        assert_eq!((at_once(&hospital, check), at_once(&hospital, request)), (1020, 50));
        clock.advance(Duration::from_secs(3600));
        assert_eq!(at_once(&hospital, check), 2000, "what was not used is not saved up");
        let told = metrics.text();
        let line = "sammati_rpc_rate_limited_total{rate=\"requests\"} 9853";
        assert!(told.contains(line), "{line} is not in\n{told}");
    }

    #[test]
    fn a_call_without_a_token_is_that_of_the_participant_whose_certificate_it_comes_with() {
        let (limiter, ..) = limiter(STANDING);
        let login = Table::new(&[SESSIONS])
            .unwrap()
            .rule(&format!("/{SESSIONS}/CreateParticipantSession"));
        let of = |peer: &Peer| (0..200).filter(|_| limiter.pass(&login, peer, None).is_ok()).count();
        assert_eq!(of(&Peer::Participant(id("hospital"))), 100);
        assert_eq!(of(&Peer::Participant(id("clinic"))), 100, "each by itself");
        assert!(
            request(&limiter.of(&id("hospital"))).is_err(),
            "and with its other calls"
        );
        for nobodys in [Peer::Anonymous, Peer::Service("audit".to_owned())] {
            assert_eq!(of(&nobodys), 200);
        }
    }

    #[test]
    fn its_row_goes_before_the_configuration_and_a_change_is_taken_over_in_a_second() {
        let (limiter, clock, rows, _) = limiter(STANDING);
        rows.0.store(3, Ordering::Relaxed);
        let named = limiter.of(&id("named"));
        assert_eq!(at_once(&named, check), 6);
        assert_eq!(
            at_once(&named, request),
            100,
            "of what its row does not say the configuration does"
        );
        rows.0.store(7, Ordering::Relaxed);
        clock.advance(Duration::from_secs(10));
        assert_eq!(at_once(&named, check), 14);
        assert!(Arc::ptr_eq(&named, &limiter.of(&id("named"))), "whatever its token");
    }

    #[test]
    fn where_nothing_bounds_it_all_go_through() {
        let (limiter, ..) = limiter(Rates::default());
        assert_eq!(at_once(&limiter.of(&id("hospital")), check), 5000);
    }

    #[test]
    fn many_checks_in_one_call_count_each() {
        let (limiter, clock, rows, _) = limiter(STANDING);
        let hospital = limiter.of(&id("hospital"));
        assert!((0..4).all(|_| hospital.more_checks(500).is_ok()));
        let refused = hospital.more_checks(500).unwrap_err();
        assert_eq!(refused.retry_after, Some(Duration::from_millis(500)));
        clock.advance(Duration::from_millis(500));
        assert!(hospital.more_checks(500).is_ok());
        // More than there ever is at once: when nothing else was asked.
        rows.0.store(100, Ordering::Relaxed);
        let named = limiter.of(&id("named"));
        assert!(named.more_checks(500).is_ok() && check(&named).is_err());
        clock.advance(Duration::from_millis(1999));
        assert!(named.more_checks(500).is_err());
        clock.advance(Duration::from_millis(1));
        assert!(named.more_checks(500).is_ok());
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_out() {
        let bucket = Bucket::default();
        bucket.fill_at(10);
        let now = 1_800_000_000 * SECOND;
        assert_eq!((0..30).filter(|_| bucket.take(now, 1).is_ok()).count(), 20);
        let back = now - 3600 * SECOND;
        assert_eq!(bucket.take(back, 1), Err(Duration::from_millis(100)));
        assert!(bucket.take(back + SECOND / 10, 1).is_ok() && bucket.take(back + SECOND / 10, 1).is_err());
    }

    #[test]
    fn of_calls_at_the_same_time_no_more_go_through_than_may() {
        let bucket = Bucket::default();
        bucket.fill_at(500);
        let now = 1_800_000_000 * SECOND;
        let passed: usize = thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..500).filter(|_| bucket.take(now, 1).is_ok()).count()))
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(passed, 1000);
    }
}
