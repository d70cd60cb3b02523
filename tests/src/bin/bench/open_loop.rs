//! Open loop: calls are sent when they are due, whether or not earlier ones were answered, as callers who do not know of
//! each other would, and none of them tries again. How long one took is counted from when it was due. The generator
//! measures itself too: what it sent late or not at all says where it was the limit.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use prost::bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Status;
use tonic_types::StatusExt;

use crate::line::{Answer, Line, code};
use crate::measure::{Failure, f64_of};

/// How often the generator looks what is due.
const TICK: Duration = Duration::from_millis(1);

/// How late the last hundredth may be sent before the generator is said to be the limit: no longer than what is looked for,
/// which is a few times of an unloaded call.
const LATE: Duration = Duration::from_millis(5);

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    /// How long it took, from the first that was due to the last answer.
    pub(crate) time: Duration,
    /// Calls that were due.
    pub(crate) due: usize,
    /// Calls that were not sent, since as many were open as the service allows.
    pub(crate) unsent: usize,
    /// How late each was sent.
    lag: Vec<Duration>,
    /// How long the served ones took, from when they were due.
    served: Vec<Duration>,
    /// How long it took to hear a no.
    refused: Vec<Duration>,
    /// Refusals that do not say when to come back.
    pub(crate) silent: usize,
    /// What else was answered: neither served nor RESOURCE_EXHAUSTED.
    pub(crate) others: BTreeMap<String, usize>,
    /// Details of a refusal that were read and found to say when to come back: others like it need not be read.
    told: Option<HeaderValue>,
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

    fn add(&mut self, Answer { took, status }: Answer) {
        let answer = match status {
            Ok(answer) => answer,
            Err(error) => return self.other(error),
        };
        match code(&answer).map(HeaderValue::as_bytes) {
            Some(b"0") => self.served.push(took),
            Some(b"8") => {
                self.refused.push(took);
                self.silent += usize::from(!self.tells(&answer));
            }
            _ => self.other(Status::from_header_map(&answer).map_or_else(
                || "no status".to_owned(),
                |status| format!("{:?} {}", status.code(), status.message()),
            )),
        }
    }

    fn other(&mut self, what: String) {
        *self.others.entry(what).or_default() += 1;
    }

    /// Whether a refusal says when to come back.
    fn tells(&mut self, answer: &HeaderMap) -> bool {
        let details = answer.get("grpc-status-details-bin");
        if details.is_some() && details == self.told.as_ref() {
            return true;
        }
        let retry = Status::from_header_map(answer).and_then(|status| status.get_error_details().retry_info().cloned());
        let tells = retry.is_some_and(|retry| retry.retry_delay.is_some());
        if tells {
            self.told = details.cloned();
        }
        tells
    }

    fn join(&mut self, other: Self) {
        self.due += other.due;
        self.unsent += other.unsent;
        self.silent += other.silent;
        self.lag.extend(other.lag);
        self.served.extend(other.served);
        self.refused.extend(other.refused);
        for (what, count) in other.others {
            *self.others.entry(what).or_default() += count;
        }
    }

    fn sort(&mut self) {
        for all in [&mut self.lag, &mut self.served, &mut self.refused] {
            all.sort_unstable();
        }
    }
}

/// When calls are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rhythm {
    /// So many a second, come what may.
    Open(f64),
    /// The next one when one was answered, by so many callers.
    Closed(usize),
}

/// Calls over all `lines` for `time` and waits for the answers; `message` is given the number of the call.
pub(crate) async fn flood<F>(lines: Vec<Line>, rhythm: Rhythm, time: Duration, message: F) -> Result<Flood, Failure>
where
    F: Fn(usize) -> Bytes + Clone + Send + Sync + 'static,
{
    let count = lines.len();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (place, line) in lines.into_iter().enumerate() {
        let share = Share {
            place,
            count,
            begun,
            time,
        };
        tasks.spawn(share.call(line, rhythm, message.clone()));
    }
    let mut flood = Flood::default();
    while let Some(task) = tasks.join_next().await {
        flood.join(task??);
    }
    flood.sort();
    flood.time = begun.elapsed();
    Ok(flood)
}

/// What one line calls: every `count`th call, from `place` on.
struct Share {
    place: usize,
    count: usize,
    begun: Instant,
    time: Duration,
}

impl Share {
    async fn call<F: Fn(usize) -> Bytes>(self, mut line: Line, rhythm: Rhythm, message: F) -> Result<Flood, Failure> {
        let mut flood = Flood::default();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut sent = 0;
        loop {
            let over = self.begun.elapsed() >= self.time;
            let next = sent + answers_to_come(rhythm, self.count, line.flying());
            flood.due = self.due(rhythm, next, over, flood.due);
            while !over && sent < flood.due {
                let n = self.place + sent * self.count;
                let (at, now) = (self.at(rhythm, n), Instant::now());
                if !line.call(at, || message(n)) {
                    break;
                }
                flood.lag.push(now.saturating_duration_since(at));
                sent += 1;
            }
            if over && line.flying() == 0 {
                break;
            }
            tokio::select! {
                answers = line.answers() => answers?.into_iter().for_each(|answer| flood.add(answer)),
                _ = tick.tick(), if !over => {}
            }
        }
        flood.unsent = flood.due - sent;
        Ok(flood)
    }

    /// How many of this line are due by now.
    fn due(&self, rhythm: Rhythm, next: usize, over: bool, before: usize) -> usize {
        match rhythm {
            _ if over => before,
            Rhythm::Open(per_second) => {
                let all = count(per_second * self.begun.elapsed().as_secs_f64());
                (all + self.count - 1).saturating_sub(self.place) / self.count
            }
            Rhythm::Closed(_) => next,
        }
    }

    /// When the `n`th call of all is due.
    fn at(&self, rhythm: Rhythm, n: usize) -> Instant {
        match rhythm {
            // The first after one interval: then it is the first of those that are due.
            Rhythm::Open(per_second) => self.begun + Duration::from_secs_f64(f64_of(n + 1) / per_second),
            Rhythm::Closed(_) => Instant::now(),
        }
    }
}

/// How many of a line's callers wait for nothing.
fn answers_to_come(rhythm: Rhythm, lines: usize, flying: usize) -> usize {
    match rhythm {
        Rhythm::Open(_) => 0,
        Rhythm::Closed(callers) => callers.div_ceil(lines).saturating_sub(flying),
    }
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
