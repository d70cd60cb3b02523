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

/// One of those who are compared: each run tells its rate per second.
pub(crate) struct Contender {
    name: &'static str,
    run: Box<dyn FnMut() -> BoxFuture<'static, Result<f64, Failure>>>,
}

impl Contender {
    /// Called `name`.
    pub(crate) fn new<F, Fut>(name: &'static str, mut run: F) -> Self
    where
        F: FnMut() -> Fut + 'static,
        Fut: Future<Output = Result<f64, Failure>> + Send + 'static,
    {
        Self {
            name,
            run: Box::new(move || Box::pin(run())),
        }
    }
}

/// The rates of one contender, round by round.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Its name.
    pub(crate) name: &'static str,
    rates: Vec<f64>,
}

impl Measured {
    /// The middle rate.
    pub(crate) fn median(&self) -> f64 {
        median(self.rates.clone())
    }

    /// The middle of the quotients of each round.
    pub(crate) fn against(&self, other: &Self) -> f64 {
        median(
            self.rates
                .iter()
                .zip(&other.rates)
                .map(|(mine, theirs)| mine / theirs)
                .collect(),
        )
    }
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
        name: contender.name,
        rates: Vec::new(),
    };
    let mut all: Vec<_> = contenders.iter().map(empty).collect();
    for round in 0..=rounds {
        for (contender, measured) in contenders.iter_mut().zip(&mut all) {
            let rate = (contender.run)()
                .await
                .map_err(|error| format!("{}: {error}", contender.name))?;
            if round > 0 {
                measured.rates.push(rate);
            }
        }
    }
    Ok(all)
}

/// Closed loop: `callers` call again and again; tells the calls per second that ended within `time`.
pub(crate) async fn rate<F, Fut>(callers: usize, time: Duration, call: F) -> Result<f64, Failure>
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
            let mut done = 0_u32;
            loop {
                call(caller).await?;
                let now = Instant::now();
                if now >= until {
                    return Ok::<u32, Failure>(done);
                }
                done += u32::from(now >= from);
            }
        });
    }
    let mut done = 0.0;
    while let Some(task) = tasks.join_next().await {
        done += f64::from(task??);
    }
    Ok(done / time.as_secs_f64())
}

/// `callers` work off `items`; tells how many per second from the first call to the last answer.
pub(crate) async fn work_off<T, F, Fut>(callers: usize, items: Vec<T>, call: F) -> Result<f64, Failure>
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
            for item in share {
                call(item).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(f64::from(u32::try_from(count)?) / begun.elapsed().as_secs_f64())
}
