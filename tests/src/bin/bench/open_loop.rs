//! Open loop: calls are sent when they are due, whether or not earlier ones were answered, as callers who do not know of
//! each other would. The generator measures itself too: what it sent late or not at all says where it was the limit.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::measure::{Failure, f64_of};

/// No more calls than this are on their way at once: what is due beyond is not sent, and counted.
const IN_FLIGHT: usize = 16 * 1024;

/// How often the generator looks what is due.
const TICK: Duration = Duration::from_millis(1);

/// How late the last hundredth may be sent before the generator is said to be the limit.
const LATE: Duration = Duration::from_millis(20);

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    /// How long it took, from the first that was due to the last answer.
    pub(crate) time: Duration,
    /// Calls that were due.
    pub(crate) due: usize,
    /// Calls that were not sent, since too many were on their way.
    pub(crate) unsent: usize,
    /// How late each was sent.
    lag: Vec<Duration>,
    /// How long the served ones took, from when they were sent.
    served: Vec<Duration>,
    /// How long it took to say no.
    refused: Vec<Duration>,
    /// Refusals that do not say when to come back.
    pub(crate) silent: usize,
    /// What else was answered: neither served nor RESOURCE_EXHAUSTED.
    pub(crate) others: BTreeMap<String, usize>,
}

/// What became of one call.
struct Call {
    lag: Duration,
    took: Duration,
    answer: Result<(), Status>,
}

impl Flood {
    /// Served per second.
    pub(crate) fn served_rate(&self) -> f64 {
        rate(self.served.len(), self.time)
    }

    /// Refused per second.
    pub(crate) fn refused_rate(&self) -> f64 {
        rate(self.refused.len(), self.time)
    }

    /// Half of the served, and all but a hundredth, took at most this.
    pub(crate) fn served(&self) -> [Duration; 2] {
        [percentile(&self.served, 50), percentile(&self.served, 99)]
    }

    /// The same of the refused.
    pub(crate) fn refused(&self) -> [Duration; 2] {
        [percentile(&self.refused, 50), percentile(&self.refused, 99)]
    }

    /// How late all but a hundredth were sent at most.
    pub(crate) fn lag(&self) -> Duration {
        percentile(&self.lag, 99)
    }

    /// Whether the generator, not the service, was the limit.
    pub(crate) fn is_generators(&self) -> bool {
        self.unsent > 0 || self.lag() > LATE
    }

    fn add(&mut self, call: Call) {
        self.lag.push(call.lag);
        match call.answer {
            Ok(()) => self.served.push(call.took),
            Err(status) if status.code() == Code::ResourceExhausted => {
                self.refused.push(call.took);
                let told = status
                    .get_error_details()
                    .retry_info()
                    .is_some_and(|info| info.retry_delay.is_some());
                self.silent += usize::from(!told);
            }
            Err(status) => {
                let what = format!("{:?} {}", status.code(), status.message());
                *self.others.entry(what).or_default() += 1;
            }
        }
    }

    fn sort(&mut self) {
        for all in [&mut self.lag, &mut self.served, &mut self.refused] {
            all.sort_unstable();
        }
    }
}

/// Sends `per_second` calls for `time` and waits for all answers. `call` is given the number of the call.
pub(crate) async fn flood<F, Fut>(per_second: f64, time: Duration, call: F) -> Result<Flood, Failure>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Status>> + Send,
{
    let (sender, mut answers) = mpsc::unbounded_channel();
    let counting = tokio::spawn(async move {
        let mut flood = Flood::default();
        while let Some(call) = answers.recv().await {
            flood.add(call);
        }
        flood
    });
    let flying = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let (mut due, mut unsent) = (0, 0);
    while begun.elapsed() < time {
        let now_due = count(per_second * begun.elapsed().as_secs_f64());
        for n in due..now_due {
            if flying.fetch_add(1, Ordering::Relaxed) >= IN_FLIGHT {
                flying.fetch_sub(1, Ordering::Relaxed);
                unsent += 1;
                continue;
            }
            let at = begun + Duration::from_secs_f64(f64_of(n) / per_second);
            let (call, sender, flying) = (call.clone(), sender.clone(), Arc::clone(&flying));
            tokio::spawn(async move {
                let sent = Instant::now();
                let answer = call(n).await;
                flying.fetch_sub(1, Ordering::Relaxed);
                let lag = sent.saturating_duration_since(at);
                drop(sender.send(Call {
                    lag,
                    took: sent.elapsed(),
                    answer,
                }));
            });
        }
        due = due.max(now_due);
        sleep(TICK).await;
    }
    drop(sender);
    let mut flood = counting.await?;
    flood.sort();
    Ok(Flood {
        time: begun.elapsed(),
        due,
        unsent,
        ..flood
    })
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = sorted.len() * percent / 100;
    sorted.get(at).or(sorted.last()).copied().unwrap_or_default()
}

fn rate(count: usize, time: Duration) -> f64 {
    f64_of(count) / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of calls, not negative"
)]
const fn count(of: f64) -> usize {
    of as usize
}
