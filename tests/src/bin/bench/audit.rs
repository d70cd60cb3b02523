//! The log over mTLS: appends, each durable, indexed and included when it is answered; proofs and lists by how many leaves
//! there are; and what an event takes on the disk, until its log is sealed and after.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::get_proof_request::Event;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::retention_service_client::RetentionServiceClient;
use sammati_api::audit::v1::{self as audit, event};
use sammati_api::types::v1 as types;
use sammati_consent::Consent;
use sammati_kernel::{AccountId, Clock, ConsentId, Micros, SLOTS, Seed, Slot, SystemClock, TransactionId};
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::Verifier;
use sammati_log::hash::leaf_hash;
use sammati_tests::caller::Wire;
use sammati_tests::story::Who;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::disk::Disk;
use crate::goal::Goal;
use crate::measure::{CALLERS, Contender, Failure, Pace, f64_of, interleave, rate, work_off};
use crate::rpc;
use crate::summary::Summary;
use crate::system::{self, System};

/// Events in one call of `audit.append.batched`, and how many such calls are on their way.
const BATCH: (usize, usize) = (256, 8);

/// Streams at once, messages of each that are on their way, and events in one.
const STREAMS: (usize, usize, usize) = (4, 16, 64);

/// Events a second on two cores, one by one and together. They are no ratios, so a slow machine misses them: what an append is
/// beside an empty call of the same run is told with them.
const GOALS: (f64, f64) = (10_000.0, 50_000.0);

/// Who asks for proofs, and reads lists, at once.
const READERS: usize = 4;

/// Persons that events are about.
const PERSONS: usize = 20_000;

/// How many proofs are verified.
const VERIFIED: usize = 64;

/// `audit.append…`, `audit.proof…`, `audit.list…` and `audit.disk…`.
pub(crate) async fn run(pace: Pace, leaves: &[usize], summary: &mut Summary) -> Result<(), Failure> {
    let appending = Subject::new().await?;
    appends(pace, summary, &appending).await?;
    drop(appending.stop().await?);
    for leaves in leaves {
        let full = Subject::new().await?;
        full.fill(*leaves, summary).await?;
        full.proofs(*leaves, pace, summary).await?;
        let files = full.system.log_files();
        let archived = full.archive().await?;
        let folder = full.stop().await?;
        tokio::task::spawn_blocking(move || Disk::of(&files, archived))
            .await??
            .tell(*leaves, summary);
        drop(folder);
    }
    Ok(())
}

async fn appends(pace: Pace, summary: &mut Summary, subject: &Subject) -> Result<(), Failure> {
    let mut contenders = [
        rpc::empty(&subject.system, pace.time),
        rpc::bare(&subject.system.story.addresses.folder, pace.time).await?,
        subject.append("audit.append", CALLERS, 1, pace.time),
        subject.append("audit.append.batched", BATCH.1, BATCH.0, pace.time),
        subject.stream("audit.append.streamed", pace.time),
    ];
    if let [empty, bare, append, batched, streamed] = &interleave(pace.rounds, &mut contenders).await?[..] {
        summary.alone(empty, "1/s");
        summary.compared(bare, "1/s", empty);
        for (one, least) in [(append, GOALS.0), (batched, GOALS.1), (streamed, GOALS.1)] {
            summary.alone(one, "events/s");
            summary.goal(&one.name, Goal::AtLeast(least));
            summary.ratio(one, empty);
            summary.ratio(one, bare);
        }
    }
    for contender in &mut contenders[..4] {
        let cost = contender.cost().await?;
        summary.value(&format!("{}.cpu", contender.name()), cost, "µs each");
    }
    Ok(())
}

/// A system whose log is written to and read.
struct Subject {
    system: Arc<System>,
    service: LogServiceClient<Wire>,
    next: Arc<AtomicUsize>,
}

impl Subject {
    async fn new() -> Result<Self, Failure> {
        let system = Arc::new(System::start::<Consent>(system::sqlite(), 1).await?);
        // The consent service as a caller, by its certificate.
        let service = Who::new(&system.story.addresses, Some("consent"))?;
        Ok(Self {
            service: LogServiceClient::new(service.audit()),
            next: Arc::default(),
            system,
        })
    }

    async fn stop(self) -> Result<TempDir, Failure> {
        let system = Arc::into_inner(self.system).ok_or("the system is still in use")?;
        Ok(system.stop_keeping().await)
    }

    /// `callers` append `size` events a call.
    fn append(&self, name: &str, callers: usize, size: usize, time: Duration) -> Contender {
        let (client, next) = (self.service.clone(), Arc::clone(&self.next));
        Contender::new(name, move || {
            let (client, next) = (client.clone(), Arc::clone(&next));
            let calls = rate(callers, time, move |_| {
                let (client, next) = (client.clone(), Arc::clone(&next));
                async move { send(client, events(&next, size)?).await }
            });
            async move { Ok(calls.await?.times(f64_of(size))) }
        })
    }

    /// Some streams send as fast as they are answered.
    fn stream(&self, name: &str, time: Duration) -> Contender {
        let (client, next) = (self.service.clone(), Arc::clone(&self.next));
        let (streams, window, size) = STREAMS;
        Contender::new(name, move || {
            let streams: Vec<_> = (0..streams)
                .map(|_| Stream::new(client.clone(), Arc::clone(&next), size))
                .collect();
            let calls = rate(streams.len() * window, time, move |caller| {
                let stream = streams[caller % streams.len()].clone();
                async move { stream.send().await }
            });
            async move { Ok(calls.await?.times(f64_of(size))) }
        })
    }

    /// Appends until there are about so many leaves.
    async fn fill(&self, leaves: usize, summary: &mut Summary) -> Result<(), Failure> {
        let (client, next) = (self.service.clone(), Arc::clone(&self.next));
        let calls = work_off(BATCH.1, vec![BATCH.0; leaves.div_ceil(BATCH.0)], move |size| {
            let (client, next) = (client.clone(), Arc::clone(&next));
            async move { send(client, events(&next, size)?).await }
        });
        let rate = calls.await?.times(f64_of(BATCH.0)).rate;
        summary.value(&format!("audit.fill.{leaves}"), rate, "events/s");
        Ok(())
    }

    /// Seals the log, and takes its archive: how many bytes the files of its parts have.
    async fn archive(&self) -> Result<usize, Failure> {
        let log = self.system.story.log().await?.name;
        let operator = &self.system.story.operator;
        let seal = audit::SealLogRequest {
            log: log.clone(),
            successor: "logs/next".to_owned(),
        };
        LogServiceClient::new(operator.audit()).seal_log(seal).await?;
        let request = audit::ExportArchiveRequest {
            log,
            ..audit::ExportArchiveRequest::default()
        };
        let mut archives = RetentionServiceClient::new(operator.audit());
        let mut pieces = archives.export_archive(request).await?.into_inner();
        let mut bytes = 0;
        while let Some(piece) = pieces.message().await? {
            bytes += piece.content.len();
        }
        Ok(bytes)
    }

    /// Proofs of leaves drawn from all; lists by consents that have one event each.
    async fn proofs(&self, leaves: usize, pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
        let log = self.system.story.log().await?;
        let proofs = ProofServiceClient::new(self.system.story.operator.audit());
        let lists = LogServiceClient::new(self.system.story.operator.audit());
        let (name, time) = (log.name, pace.time);
        let proof = {
            let (proofs, name) = (proofs.clone(), name.clone());
            move || {
                let (proofs, name) = (proofs.clone(), name.clone());
                rate(READERS, time, move |_| {
                    let (proofs, name) = (proofs.clone(), name.clone());
                    async move { prove(proofs, name, draw(leaves)?).await.map(drop) }
                })
            }
        };
        let list = move || {
            let lists = lists.clone();
            rate(READERS, time, move |_| {
                let mut lists = lists.clone();
                async move {
                    let (subject, consent) = about(draw(leaves)?);
                    let request = audit::ListEventsRequest {
                        subject: subject.name(),
                        consent: consent.name(),
                        ..audit::ListEventsRequest::default()
                    };
                    match lists.list_events(request).await?.into_inner().events.len() {
                        0 => Err("an event is not listed".into()),
                        _ => Ok(()),
                    }
                }
            })
        };
        let mut contenders = [
            Contender::new(format!("audit.proof.{leaves}"), proof),
            Contender::new(format!("audit.list.{leaves}"), list),
        ];
        for measured in interleave(pace.rounds, &mut contenders).await? {
            summary.alone(&measured, "1/s");
        }
        summary.goal(&format!("audit.proof.{leaves}.p99"), Goal::AtMost(5000.0));
        let verifier = [Verifier::parse(&log.vkey)?];
        let mut proved = Vec::with_capacity(VERIFIED);
        for _ in 0..VERIFIED {
            proved.push(prove(proofs.clone(), name.clone(), draw(leaves)?).await?);
        }
        let begun = Instant::now();
        for proof in &proved {
            let bundle: Bundle = proof.proof.parse()?;
            bundle.verify(leaf_hash(&proof.leaf), &verifier)?;
        }
        let each = begun.elapsed().as_secs_f64() * 1e6 / f64_of(proved.len());
        summary.value(&format!("audit.proof.{leaves}.verify"), each, "µs");
        Ok(())
    }
}

/// One stream of events; who sends waits for the acknowledgement of what was sent.
#[derive(Clone)]
struct Stream {
    messages: mpsc::UnboundedSender<(Vec<audit::Event>, oneshot::Sender<()>)>,
    next: Arc<AtomicUsize>,
    size: usize,
}

impl Stream {
    fn new(client: LogServiceClient<Wire>, next: Arc<AtomicUsize>, size: usize) -> Self {
        let (messages, waiting) = mpsc::unbounded_channel();
        tokio::spawn(run_stream(client, waiting));
        Self { messages, next, size }
    }

    async fn send(self) -> Result<(), Failure> {
        let (done, acknowledged) = oneshot::channel();
        let events = events(&self.next, self.size)?;
        self.messages.send((events, done)).map_err(|_| "the stream has ended")?;
        Ok(acknowledged.await?)
    }
}

/// Sends what comes, and wakes who sent it when it is acknowledged; when it ends, who waits is told by that.
async fn run_stream(
    mut client: LogServiceClient<Wire>,
    mut waiting: mpsc::UnboundedReceiver<(Vec<audit::Event>, oneshot::Sender<()>)>,
) -> Result<(), Failure> {
    let (sender, mut sent) = mpsc::unbounded_channel();
    let (messages, outgoing) = mpsc::unbounded_channel();
    let feeding = tokio::spawn(async move {
        let mut client_seq = 0;
        while let Some((events, done)) = waiting.recv().await {
            client_seq += 1;
            let message = audit::StreamEventsRequest { client_seq, events };
            if sender.send((client_seq, done)).is_err() || messages.send(message).is_err() {
                return;
            }
        }
    });
    let outgoing = UnboundedReceiverStream::new(outgoing);
    let mut answers = client.stream_events(outgoing).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        while let Ok((seq, done)) = sent.try_recv() {
            // Whoever waited may have stopped waiting.
            let _ = done.send(());
            if seq == answer.acknowledged_seq {
                break;
            }
        }
    }
    feeding.abort();
    Ok(())
}

async fn send(mut client: LogServiceClient<Wire>, events: Vec<audit::Event>) -> Result<(), Failure> {
    let request = audit::AppendEventsRequest {
        batch: Some(Batch::Direct(audit::DirectEvents { events })),
        ..audit::AppendEventsRequest::default()
    };
    client.append_events(request).await?;
    Ok(())
}

async fn prove(
    mut client: ProofServiceClient<Wire>,
    log: String,
    index: usize,
) -> Result<audit::InclusionProof, Failure> {
    let request = audit::GetProofRequest {
        log,
        event: Some(Event::Index(i64::try_from(index)?)),
        ..audit::GetProofRequest::default()
    };
    Ok(client.get_proof(request).await?.into_inner())
}

fn draw(below: usize) -> Result<usize, Failure> {
    let seed = Seed::draw().map_err(|_| "the system has no randomness")?;
    Ok(usize::try_from(seed.below("leaf", u64::try_from(below)?))?)
}

/// Whom the event `n` is about, and which consent: a consent has one event, a person has many.
fn about(n: usize) -> (AccountId, ConsentId) {
    let slot = Slot::new(u16::try_from(n % PERSONS % usize::from(SLOTS)).unwrap_or_default());
    let tail = |n: usize| u64::try_from(n).unwrap_or_default().to_be_bytes();
    (
        AccountId::new(Micros::ZERO, slot, tail(n % PERSONS)),
        ConsentId::new(Micros::ZERO, slot, tail(n)),
    )
}

/// The next events: grants, as the consent service tells them.
fn events(next: &AtomicUsize, count: usize) -> Result<Vec<audit::Event>, Failure> {
    let seed = Seed::draw().map_err(|_| "the system has no randomness")?;
    let now = SystemClock.now();
    let first = next.fetch_add(count, Ordering::Relaxed);
    let one = |n: usize| {
        let (subject, consent) = about(n);
        let id: TransactionId = seed.id(&n.to_string(), now, subject.slot());
        let actor = audit::Actor {
            kind: types::CallerKind::Person.into(),
            id: subject.name(),
            ..Default::default()
        };
        let payload = audit::Payload {
            actor: Some(actor),
            subject: subject.name(),
            resource: consent.name(),
            resource_version: 1,
            object_refs: vec!["participants/hospital".to_owned(), "participants/clinic".to_owned()],
            ..Default::default()
        };
        audit::Event {
            schema_version: 1,
            event_id: id.to_string(),
            event_type: "consent.granted".to_owned(),
            action: event::Action::Create.into(),
            outcome: event::Outcome::Success.into(),
            class: types::RetentionClass::Consent.into(),
            occurred_time: Some(sammati_server::event::timestamp(now)),
            resource_type: "consents".to_owned(),
            payload: Some(payload),
            ..Default::default()
        }
    };
    Ok((first..first + count).map(one).collect())
}
