//! Asking the logs: what they have of one person that this service sent, and the proofs of it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use futures::future::select_ok;
use sammati_api::audit::v1::get_proof_request::Event;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::subject_service_client::SubjectServiceClient;
use sammati_api::audit::v1::{GetProofRequest, ListSubjectSourceEventsRequest};
use sammati_kernel::{AccountId, Reason, Refusal};
use sammati_server::channel::Channel;
use sammati_server::error::refusal_or;
use tonic::Request;
use uuid::Uuid;

use super::{Step, Steps};

/// How long an event that was committed just now may take to the log, in seconds.
const ON_ITS_WAY: i64 = 10;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long one may take of a log that is not the one that has the newest events: what waits to go on takes connections, and
/// answers nothing.
const LITTLE_PATIENCE: Duration = Duration::from_secs(2);

/// Events of a page.
const PAGE: i32 = 1000;

/// The most bytes of an answer: a page ends at 1 MiB of payloads, and the last look may bring 3 MiB more.
const MOST_BYTES: usize = 8 << 20;

/// Events that are proved by one call.
const AT_ONCE: usize = 100;

/// The logs that hold this service's events: the one that is there, and perhaps the one that goes on. Without any, none can
/// be asked.
#[derive(Clone, Default)]
pub struct Logs(Vec<Channel>);

/// What the logs said of one person.
pub struct Asked {
    /// What was done, by what it was done to.
    pub steps: Steps,
    logs: Vec<Known>,
}

/// A log that was asked, and the tree that it answered from.
struct Known {
    channel: Channel,
    size: i64,
    checkpoint: String,
}

/// An event with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// The log it is in, `logs/{id}`.
    pub log: String,
    /// The bytes of the leaf.
    pub leaf: Vec<u8>,
    /// `c2sp.org/tlog-proof@v1`.
    pub proof: String,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} logs", self.0.len())
    }
}

impl Logs {
    /// Behind these channels.
    pub fn new(channels: impl IntoIterator<Item = Channel>) -> Self {
        Self(channels.into_iter().collect())
    }

    /// All that recorded what is kept of `account`, up to the event `until`, which is about her too.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE and others when no log that can be reached has that event.
    pub async fn ask(&self, account: AccountId, until: &str) -> Result<Asked, Refusal> {
        let holder = self.holder(until).await?;
        let mut asked = Asked {
            steps: Steps::default(),
            logs: Vec::new(),
        };
        // The one that goes on has the newer events.
        for (n, channel) in self.0.iter().enumerate().rev() {
            let patience = if n == holder { PATIENCE } else { LITTLE_PATIENCE };
            match asked.read(channel, account, patience).await {
                Ok(()) => {}
                Err(refusal) if n == holder => return Err(refusal),
                Err(refusal) => tracing::info!(
                    reason = refusal.reason.as_str(),
                    "one of the audit logs does not say what it has"
                ),
            }
        }
        Ok(asked)
    }

    /// Which log has the event `until`: what the same partition told before it is there too, or in a log before that one.
    async fn holder(&self, until: &str) -> Result<usize, Refusal> {
        if self.0.is_empty() {
            return Err(Reason::StorageUnavailable.into());
        }
        let looks = self.0.iter().enumerate().map(|(n, channel)| {
            let request = GetProofRequest {
                event: Some(Event::EventId(until.to_owned())),
                wait: Some(prost_types::Duration {
                    seconds: ON_ITS_WAY,
                    nanos: 0,
                }),
                ..GetProofRequest::default()
            };
            let mut log = ProofServiceClient::new(channel.clone());
            Box::pin(async move { log.get_proof(timed(request, PATIENCE)).await.map(|_| n) })
        });
        let found = select_ok(looks).await;
        found.map(|(n, _)| n).map_err(|status| away(&status))
    }
}

impl Asked {
    async fn read(&mut self, channel: &Channel, account: AccountId, patience: Duration) -> Result<(), Refusal> {
        let number = u8::try_from(self.logs.len()).unwrap_or(u8::MAX);
        let mut log = SubjectServiceClient::new(channel.clone()).max_decoding_message_size(MOST_BYTES);
        let mut request = ListSubjectSourceEventsRequest {
            page_size: PAGE,
            page_token: String::new(),
            subject: account.name(),
        };
        loop {
            let answer = log.list_subject_source_events(timed(request.clone(), patience)).await;
            let page = answer.map_err(|status| away(&status))?.into_inner();
            for event in &page.events {
                self.steps.take(number, event);
            }
            if page.next_page_token.is_empty() {
                self.logs.push(Known {
                    channel: channel.clone(),
                    size: page.tree_size,
                    checkpoint: page.checkpoint,
                });
                return Ok(());
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The trees that were answered from, as signed notes.
    pub fn checkpoints(&self) -> Vec<String> {
        self.logs.iter().map(|log| log.checkpoint.clone()).collect()
    }

    /// The proofs of these steps, in the trees that were answered from.
    ///
    /// # Errors
    /// When a log cannot be asked any more.
    pub async fn prove(&self, steps: impl IntoIterator<Item = Step>) -> Result<HashMap<Uuid, Proved>, Refusal> {
        let mut by_log: HashMap<u8, Vec<Uuid>> = HashMap::new();
        for step in steps {
            let ids = by_log.entry(step.log).or_default();
            if !ids.contains(&step.id) {
                ids.push(step.id);
            }
        }
        let mut proved = HashMap::new();
        for (log, ids) in by_log {
            let known = self.logs.get(usize::from(log)).ok_or(Reason::Internal)?;
            for ids in ids.chunks(AT_ONCE) {
                known.prove(ids, &mut proved).await?;
            }
        }
        Ok(proved)
    }
}

impl Known {
    async fn prove(&self, ids: &[Uuid], proved: &mut HashMap<Uuid, Proved>) -> Result<(), Refusal> {
        let request = GetProofRequest {
            tree_size: self.size,
            event_ids: ids.iter().map(Uuid::to_string).collect(),
            ..GetProofRequest::default()
        };
        let mut log = ProofServiceClient::new(self.channel.clone());
        let answer = log.get_proof(timed(request, PATIENCE)).await;
        let answer = answer.map_err(|status| away(&status))?.into_inner();
        for (id, proof) in ids.iter().zip(answer.proofs) {
            let one = Proved {
                log: answer.log.clone(),
                leaf: proof.leaf,
                proof: proof.proof,
            };
            proved.insert(*id, one);
        }
        Ok(())
    }
}

fn timed<M>(message: M, patience: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

fn away(status: &tonic::Status) -> Refusal {
    refusal_or(status, Reason::StorageUnavailable)
}
