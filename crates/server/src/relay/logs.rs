//! Which log takes the events: the one that is there, or the one that goes on where that one ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sammati_api::audit::v1::ListLogsRequest;
use sammati_api::audit::v1::log::State;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_kernel::{Reason, Refusal};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::channel::Channel;

/// For how long an answer holds: all partitions ask at once.
const FRESH: Duration = Duration::from_millis(200);

/// How long a log may take to answer. One that waits for the other to end takes connections, and answers nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// The logs that the events may go to, the oldest first.
#[derive(Clone)]
pub(super) struct Logs {
    all: Vec<LogServiceClient<Channel>>,
    found: Arc<Found>,
}

#[derive(Default)]
struct Found {
    /// Which of them takes events, as far as we know.
    at: AtomicUsize,
    /// When that was asked.
    asked: Mutex<Option<Instant>>,
}

impl Logs {
    /// The one behind `channel`.
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            all: vec![LogServiceClient::new(channel)],
            found: Arc::default(),
        }
    }

    /// And the one that goes on.
    pub(super) fn extend(&mut self, next: Option<Channel>) {
        self.all.extend(next.map(LogServiceClient::new));
    }

    /// The one that takes events.
    pub(super) fn current(&self) -> LogServiceClient<Channel> {
        let at = self.found.at.load(Ordering::Relaxed);
        self.all[at.min(self.all.len() - 1)].clone()
    }

    /// Asks which one takes events, if there are several. It is the first that says so: a log begins only after the one before
    /// has ended, and one that does not follow another is none that goes on. If none says so it stays the one that it was.
    pub(super) async fn look(&self) {
        if self.all.len() == 1 {
            return;
        }
        let mut asked = self.found.asked.lock().await;
        if asked.is_some_and(|asked| asked.elapsed() < FRESH) {
            return;
        }
        for (at, log) in self.all.iter().enumerate() {
            if takes_events(log.clone(), at > 0).await {
                let before = self.found.at.swap(at, Ordering::Relaxed);
                if before != at {
                    tracing::info!(log = at, before, "another audit log takes the events from now on");
                }
                break;
            }
        }
        *asked = Some(Instant::now());
    }

    /// What a refusal comes to: that a log is sealed is no more than that it is away, if another one is to go on.
    pub(super) fn after(&self, refusal: Refusal) -> Refusal {
        match refusal.reason {
            Reason::LogSealed if self.all.len() > 1 => Refusal::new(Reason::StorageUnavailable)
                .saying("the audit log is sealed, and the one at peers.audit_next is not known yet to take events"),
            _ => refusal,
        }
    }
}

async fn takes_events(mut log: LogServiceClient<Channel>, follows: bool) -> bool {
    let asked = timeout(PATIENCE, log.list_logs(ListLogsRequest::default())).await;
    let Ok(Ok(answer)) = asked else { return false };
    let logs = answer.into_inner().logs;
    logs.iter()
        .any(|log| log.state() == State::Active && !(follows && log.predecessor.is_empty()))
}
