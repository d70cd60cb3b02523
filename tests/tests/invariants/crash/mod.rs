//! `kill -9` of real processes under load: nothing acknowledged is missing, the log verifies, the relay catches up.

mod deciding;
mod enrolling;
pub(crate) mod log;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sammati_kernel::{Seed, SystemClock};
use sammati_tests::story::{Story, reason};
use sammati_tests::system::{Processes, Setting};
use tonic::{Code, Status};

use crate::worlds::settings;

/// In each set-up; half of them while people enrol, half while they decide.
const KILLS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a1_c1_n1_o1_nothing_acknowledged_is_lost_by_20_kills_under_load() {
    for setting in settings() {
        survive(setting, KILLS / 2).await;
    }
}

async fn survive(setting: Setting, kills: usize) {
    let replicas = setting.replicas;
    let mut system = Killed::start(setting).await;
    let first = log::checkpoint(&system.story().await).await;
    let enrolled = enrolling::under_kills(&mut system, kills).await;
    let asked = deciding::under_kills(&mut system, &enrolled, replicas, kills).await;
    // Tokens live five minutes.
    let story = system.story().await;
    enrolling::check(&story, &enrolled).await;
    deciding::check(&story, &asked).await;
    log::check(&story, first).await;
    system.processes.stop().await;
}

/// The processes, and whose turn it is to be killed.
struct Killed {
    processes: Processes,
    names: Vec<String>,
    next: usize,
}

impl Killed {
    async fn start(setting: Setting) -> Self {
        let processes = Processes::start(setting).await.unwrap();
        let mut story = Story::new(&processes.addresses, Arc::new(SystemClock)).unwrap();
        story.open().await.unwrap();
        let names: Vec<_> = processes.names().map(str::to_owned).collect();
        let next = below(names.len());
        Self { processes, names, next }
    }

    /// Everybody, with fresh tokens.
    async fn story(&self) -> Story {
        let mut story = Story::new(&self.processes.addresses, Arc::new(SystemClock)).unwrap();
        persist(async || story.renew().await).await;
        story
    }

    /// Kills one process after another, each as often as the others, and starts it again.
    async fn kill(&mut self) {
        let name = self.names[self.next % self.names.len()].clone();
        self.next += 1;
        self.processes.kill(&name).await.unwrap();
        let launched = self.processes.launch(&name).await;
        launched.unwrap_or_else(|error| panic!("after kill -9 of {name}: {error}"));
    }
}

/// A number below `n` that nobody foresees.
pub(crate) fn below(n: usize) -> usize {
    let n = u64::try_from(n).unwrap();
    usize::try_from(Seed::draw().unwrap().below("crash", n)).unwrap()
}

/// Whether a client is told to try again.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded
    ) || status.message().contains("transport")
        || reason(status) == "OVERLOADED"
}

/// Tries until there is an answer, as clients are told to.
async fn persist<T>(mut call: impl AsyncFnMut() -> Result<T, Status>) -> T {
    try_until(&mut call).await.unwrap_or_else(|status| panic!("{status:?}"))
}

/// Tries until there is an answer or a refusal that is meant.
async fn try_until<T>(call: &mut impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
    for _ in 0..600 {
        match call().await {
            Err(status) if is_passing(&status) => tokio::time::sleep(Duration::from_millis(50)).await,
            answer => return answer,
        }
    }
    panic!("nobody answered for half a minute");
}

/// Waits until `done` has reached `mark`.
pub(crate) async fn until(done: &AtomicUsize, mark: usize) {
    while done.load(Ordering::SeqCst) < mark {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
