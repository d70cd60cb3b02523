//! Rates, taken in interleaved rounds: A B A B …, so that what else the machine does meets all alike.

use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Why a measurement ended early.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How many callers call at once, unless an entry says otherwise.
pub(crate) const CALLERS: usize = 64;

/// How long things are measured for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Rounds that count; one more goes before them.
    pub(crate) rounds: usize,
    /// Of one contender in one round, after a fifth of it to warm up.
    pub(crate) time: Duration,
}

/// What one run of a contender came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Per second.
    pub(crate) rate: f64,
    /// How long half of the calls, and all but a hundredth, took at most, in microseconds; where calls were timed.
    pub(crate) latency: Option<[f64; 2]>,
}

impl Sample {
    /// Each call counts for `n`.
    pub(crate) fn times(self, n: f64) -> Self {
        Self {
            rate: self.rate * n,
            ..self
        }
    }

    fn of(rate: f64, mut calls: Vec<Duration>) -> Self {
        calls.sort_unstable();
        let micros = |at: usize| calls.get(at).map_or(0.0, |call| call.as_secs_f64() * 1e6);
        let latency = [micros(calls.len() / 2), micros(calls.len() * 99 / 100)];
        Self {
            rate,
            latency: (!calls.is_empty()).then_some(latency),
        }
    }
}

impl From<f64> for Sample {
    fn from(rate: f64) -> Self {
        Self { rate, latency: None }
    }
}

/// One of those who are compared.
pub(crate) struct Contender {
    name: String,
    run: Box<dyn FnMut() -> BoxFuture<'static, Result<Sample, Failure>>>,
}

impl Contender {
    /// Called `name`.
    pub(crate) fn new<F, Fut, S>(name: impl Into<String>, mut run: F) -> Self
    where
        F: FnMut() -> Fut + 'static,
        Fut: Future<Output = Result<S, Failure>> + Send + 'static,
        S: Into<Sample>,
    {
        Self {
            name: name.into(),
            run: Box::new(move || {
                let run = run();
                Box::pin(async move { Ok(run.await?.into()) })
            }),
        }
    }

    /// The same, and `kept` lives as long.
    pub(crate) fn keeping<K: 'static>(self, kept: K) -> Self {
        let mut run = self.run;
        Self {
            name: self.name,
            run: Box::new(move || {
                let _kept = &kept;
                run()
            }),
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs it once, and tells what one call took of the processors, clients and services together, in microseconds.
    pub(crate) async fn cost(&mut self) -> Result<f64, Failure> {
        let (before, begun) = (processor_time()?, Instant::now());
        let sample = (self.run)().await?;
        let calls = sample.rate * begun.elapsed().as_secs_f64();
        Ok((processor_time()? - before).as_secs_f64() * 1e6 / calls)
    }
}

/// What this process has had of the processors.
fn processor_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_ascii_whitespace();
    // Its own and the kernel's for it, in hundredths of a second.
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The samples of one contender, round by round.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Its name.
    pub(crate) name: String,
    samples: Vec<Sample>,
}

impl Measured {
    /// The middle rate.
    pub(crate) fn median(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.rate).collect())
    }

    /// The middle of the quotients of each round.
    pub(crate) fn against(&self, other: &Self) -> f64 {
        self.quotient(other, |sample| Some(sample.rate))
    }

    /// The middle latencies of half of the calls and of all but a hundredth, where calls were timed.
    pub(crate) fn latency(&self) -> Option<[f64; 2]> {
        let all: Option<Vec<_>> = self.samples.iter().map(|sample| sample.latency).collect();
        let all = all.filter(|all| !all.is_empty())?;
        Some([0, 1].map(|n| median(all.iter().map(|latency| latency[n]).collect())))
    }

    /// The same of the latency that all but a hundredth keep within.
    pub(crate) fn p99_against(&self, other: &Self) -> f64 {
        self.quotient(other, |sample| sample.latency.map(|latency| latency[1]))
    }

    fn quotient(&self, other: &Self, of: impl Fn(&Sample) -> Option<f64>) -> f64 {
        let rounds = self.samples.iter().zip(&other.samples);
        median(
            rounds
                .filter_map(|(mine, theirs)| Some(of(mine)? / of(theirs)?))
                .collect(),
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 of anything here")]
pub(crate) const fn f64_of(n: usize) -> f64 {
    n as f64
}

/// The middle; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Runs all contenders in turn, round after round. The first round is not counted.
pub(crate) async fn interleave(rounds: usize, contenders: &mut [Contender]) -> Result<Vec<Measured>, Failure> {
    let empty = |contender: &Contender| Measured {
        name: contender.name.clone(),
        samples: Vec::new(),
    };
    let mut all: Vec<_> = contenders.iter().map(empty).collect();
    for round in 0..=rounds {
        for (contender, measured) in contenders.iter_mut().zip(&mut all) {
            let sample = (contender.run)()
                .await
                .map_err(|error| format!("{}: {error}", contender.name))?;
            if round > 0 {
                measured.samples.push(sample);
            }
        }
    }
    Ok(all)
}

/// Closed loop: `callers` call again and again; tells the calls per second that ended within `time`.
pub(crate) async fn rate<F, Fut>(callers: usize, time: Duration, call: F) -> Result<Sample, Failure>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    let from = Instant::now() + time / 5;
    let until = from + time;
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let call = call.clone();
        tasks.spawn(async move {
            let mut done = Vec::new();
            loop {
                let begun = Instant::now();
                call(caller).await?;
                let now = Instant::now();
                if now >= until {
                    return Ok::<_, Failure>(done);
                }
                if now >= from {
                    done.push(now - begun);
                }
            }
        });
    }
    let mut done = Vec::new();
    while let Some(task) = tasks.join_next().await {
        done.append(&mut task??);
    }
    Ok(Sample::of(f64_of(done.len()) / time.as_secs_f64(), done))
}

/// `callers` work off `items`; tells how many per second from the first call to the last answer.
pub(crate) async fn work_off<T, F, Fut>(callers: usize, items: Vec<T>, call: F) -> Result<Sample, Failure>
where
    T: Send + 'static,
    F: Fn(T) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    let mut shares: Vec<Vec<T>> = (0..callers).map(|_| Vec::new()).collect();
    let count = items.len();
    for (n, item) in items.into_iter().enumerate() {
        shares[n % callers].push(item);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for share in shares {
        let call = call.clone();
        tasks.spawn(async move {
            let mut done = Vec::with_capacity(share.len());
            for item in share {
                let begun = Instant::now();
                call(item).await?;
                done.push(begun.elapsed());
            }
            Ok::<_, Failure>(done)
        });
    }
    let mut done = Vec::with_capacity(count);
    while let Some(task) = tasks.join_next().await {
        done.append(&mut task??);
    }
    let rate = f64_of(count) / begun.elapsed().as_secs_f64();
    Ok(Sample::of(rate, done))
}
