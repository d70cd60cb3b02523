//! Calls over mTLS through the whole server stack: an empty one, and a check.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_api::consent::v1::{self as consent, decision};
use sammati_consent::Consent;
use sammati_tests::caller::{Bearer, Wire, channel};

use crate::goal::Goal;
use crate::hollow::Bare;
use crate::measure::{CALLERS, Contender, Failure, Pace, interleave, rate};
use crate::summary::Summary;
use crate::system::{self, HOLLOW, SECOND, System};

/// People whose consents are asked about, one each.
const PEOPLE: usize = 32;

/// Questions in one message, messages on one stream, and streams or batches at once.
const MESSAGE: usize = 100;
const MESSAGES: usize = 10;
const STREAMS: usize = 4;

/// `rpc.bare`, `rpc.empty…` and `consent.check…`, `consent.batch…`, `consent.stream…`, `consent.explain…`.
pub(crate) async fn run(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    let embedded = Subject::new(System::start::<Consent>(system::sqlite(), 1).await?).await?;
    let served = match system::postgres() {
        Some(database) => Some(Subject::new(System::start::<Consent>(database, 2).await?).await?),
        None => {
            eprintln!("SKIPPED: consent.check.postgres: no Postgres to be had");
            None
        }
    };
    checks(pace, summary, &embedded, served.as_ref()).await?;
    decisions(pace, summary, &embedded).await?;
    for subject in [Some(embedded), served].into_iter().flatten() {
        subject.stop().await;
    }
    Ok(())
}

async fn checks(
    pace: Pace,
    summary: &mut Summary,
    embedded: &Subject,
    served: Option<&Subject>,
) -> Result<(), Failure> {
    let mut contenders = vec![
        embedded.empty(pace.time),
        bare(&embedded.system.story.addresses.folder, pace.time).await?,
        embedded.check("rpc.empty_handler", &[HOLLOW], pace.time),
        embedded.check("consent.check.sqlite", &[0], pace.time),
    ];
    if let Some(served) = served {
        contenders.push(served.check("consent.check.postgres", &[0], pace.time));
        contenders.push(served.check("consent.check.postgres.two_replicas", &[0, SECOND], pace.time));
        contenders.push(both(&embedded.system, &served.system, pace.time));
    }
    let measured = interleave(pace.rounds, &mut contenders).await?;
    if let [empty, others @ ..] = &measured[..] {
        summary.alone(empty, "1/s");
        others.iter().for_each(|other| summary.compared(other, "1/s", empty));
    }
    if let [.., replicas, both] = &measured[..]
        && served.is_some()
    {
        // Two connections share no reads and writes, whoever is at their other ends.
        summary.ratio(replicas, both);
    }
    summary.goal("consent.check.sqlite", Goal::AtLeast(0.90));
    summary.goal("consent.check.sqlite.p99", Goal::AtMost(1.5));
    summary.goal("consent.check.postgres.two_replicas", Goal::AtLeast(0.75));
    Ok(())
}

/// Many decisions in one call, on streams, and explained.
async fn decisions(pace: Pace, summary: &mut Summary, embedded: &Subject) -> Result<(), Failure> {
    let mut contenders = [
        embedded.check("consent.check.sqlite.alone", &[0], pace.time),
        embedded.batch("consent.batch.sqlite", pace.time),
        embedded.stream("consent.stream.sqlite", pace.time),
        embedded.explain("consent.explain.sqlite", pace.time),
    ];
    if let [check, batch, stream, explain] = &interleave(pace.rounds, &mut contenders).await?[..] {
        summary.alone(check, "decisions/s");
        summary.compared(batch, "decisions/s", check);
        summary.compared(stream, "decisions/s", check);
        summary.compared(explain, "1/s", check);
    }
    Ok(())
}

/// A system with people who consented.
struct Subject {
    system: Arc<System>,
    questions: Arc<[consent::CheckAccessRequest]>,
}

impl Subject {
    async fn new(system: System) -> Result<Self, Failure> {
        let system = Arc::new(system);
        let consents = system::consents(&system.story, &system.relays(), PEOPLE).await?;
        let questions: Vec<_> = consents.iter().map(|name| system.story.question(name)).collect();
        Ok(Self {
            system,
            questions: questions.into(),
        })
    }

    async fn stop(self) {
        if let Some(system) = Arc::into_inner(self.system) {
            system.stop().await;
        }
    }

    fn clinic(&self, replica: usize) -> DecisionServiceClient<Wire> {
        DecisionServiceClient::new(self.system.story.clinic.consent_at(replica))
    }

    fn empty(&self, time: Duration) -> Contender {
        empty(&self.system, time)
    }

    /// A question to these of the consent services, each caller to one of them; a real one must permit.
    fn check(&self, name: &str, replicas: &[usize], time: Duration) -> Contender {
        let clients: Arc<[_]> = replicas.iter().map(|n| self.clinic(*n)).collect();
        let (hollow, questions) = (replicas == [HOLLOW], Arc::clone(&self.questions));
        Contender::new(name, move || {
            let (clients, questions) = (Arc::clone(&clients), Arc::clone(&questions));
            rate(CALLERS, time, move |caller| {
                let mut client = clients[caller % clients.len()].clone();
                let question = questions[caller % questions.len()].clone();
                async move {
                    let decision = client.check_access(question).await?.into_inner();
                    let permits = decision.outcome() == decision::Outcome::Permit;
                    if permits || hollow {
                        Ok(())
                    } else {
                        Err(format!("refused: {decision:?}").into())
                    }
                }
            })
        })
    }

    /// As many questions as a message of a stream has, about everybody in turn.
    fn message(&self) -> Vec<consent::CheckAccessRequest> {
        self.questions.iter().cycle().take(MESSAGE).cloned().collect()
    }

    /// Many questions in each call.
    fn batch(&self, name: &str, time: Duration) -> Contender {
        let client = self.clinic(0);
        let message = consent::BatchCheckAccessRequest {
            checks: self.message(),
            consistency: None,
        };
        Contender::new(name, move || {
            let (client, message) = (client.clone(), message.clone());
            let calls = rate(STREAMS, time, move |_| {
                let (mut client, message) = (client.clone(), message.clone());
                async move {
                    let decisions = client.batch_check_access(message).await?.into_inner().decisions;
                    all_permit(decisions.iter())
                }
            });
            async move { Ok(calls.await?.times(f64::from(u32::try_from(MESSAGE)?))) }
        })
    }

    /// A stream for each call: several messages, all on their way at once.
    fn stream(&self, name: &str, time: Duration) -> Contender {
        let client = self.clinic(0);
        let checks = self.message().into_iter().zip(0..);
        let checks = checks.map(|(check, seq)| consent::NumberedCheck {
            seq,
            check: Some(check),
        });
        let message = consent::StreamCheckAccessRequest {
            checks: checks.collect(),
            consistency: None,
        };
        Contender::new(name, move || {
            let (client, message) = (client.clone(), message.clone());
            let calls = rate(STREAMS, time, move |_| {
                let (mut client, message) = (client.clone(), message.clone());
                async move {
                    let asked = futures::stream::iter(vec![message; MESSAGES]);
                    let mut answers = client.stream_check_access(asked).await?.into_inner();
                    while let Some(answer) = answers.message().await? {
                        all_permit(
                            answer
                                .decisions
                                .iter()
                                .filter_map(|numbered| numbered.decision.as_ref()),
                        )?;
                    }
                    Ok(())
                }
            });
            async move { Ok(calls.await?.times(f64::from(u32::try_from(MESSAGE * MESSAGES)?))) }
        })
    }

    /// Every rule told.
    fn explain(&self, name: &str, time: Duration) -> Contender {
        let (client, questions) = (self.clinic(0), Arc::clone(&self.questions));
        Contender::new(name, move || {
            let (client, questions) = (client.clone(), Arc::clone(&questions));
            rate(CALLERS, time, move |caller| {
                let mut client = client.clone();
                let request = consent::ExplainAccessRequest {
                    check: Some(questions[caller % questions.len()].clone()),
                    ..Default::default()
                };
                async move {
                    client.explain_access(request).await?;
                    Ok(())
                }
            })
        })
    }
}

fn all_permit<'a>(mut decisions: impl Iterator<Item = &'a consent::Decision>) -> Result<(), Failure> {
    match decisions.find(|decision| decision.outcome() != decision::Outcome::Permit) {
        None => Ok(()),
        Some(refused) => Err(format!("refused: {refused:?}").into()),
    }
}

/// An empty message to a handler that does nothing.
pub(crate) fn empty(system: &System, time: Duration) -> Contender {
    empties("rpc.empty", [hollow(system)].into(), time)
}

/// The same, half of the callers at each of two such servers.
fn both(one: &System, other: &System, time: Duration) -> Contender {
    empties("rpc.empty.two_servers", [hollow(one), hollow(other)].into(), time)
}

/// The same at a server that is tonic's and nothing else: what all layers of ours cost.
pub(crate) async fn bare(folder: &Path, time: Duration) -> Result<Contender, Failure> {
    let server = Bare::start(folder).await?;
    let channel = channel(folder, Some("clinic"), &server.url)?;
    let client = DecisionServiceClient::new(Wire::new(channel, Bearer::default()));
    Ok(empties("rpc.bare", [client].into(), time).keeping(server))
}

fn hollow(system: &System) -> DecisionServiceClient<Wire> {
    DecisionServiceClient::new(system.story.clinic.consent_at(HOLLOW))
}

fn empties(name: &str, clients: Arc<[DecisionServiceClient<Wire>]>, time: Duration) -> Contender {
    Contender::new(name, move || {
        let clients = Arc::clone(&clients);
        rate(CALLERS, time, move |caller| {
            let mut client = clients[caller % clients.len()].clone();
            async move {
                client.check_access(consent::CheckAccessRequest::default()).await?;
                Ok(())
            }
        })
    })
}
