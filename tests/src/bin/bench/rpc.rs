//! Calls over mTLS through the whole server stack: an empty one, and a check.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_api::consent::v1::{self as consent, decision};
use sammati_consent::Consent;
use sammati_tests::caller::Wire;

use crate::goal::Goal;
use crate::measure::{CALLERS, Contender, Failure, Pace, interleave, rate};
use crate::summary::Summary;
use crate::system::{self, HOLLOW, SECOND, System};

/// People whose consents are asked about, one each.
const PEOPLE: usize = 32;

/// `rpc.empty` and `consent.check…`.
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
        embedded.check("rpc.empty_handler", &[HOLLOW], pace.time),
        embedded.check("consent.check.sqlite", &[0], pace.time),
    ];
    if let Some(served) = served {
        contenders.push(served.check("consent.check.postgres", &[0], pace.time));
        contenders.push(served.check("consent.check.postgres.two_replicas", &[0, SECOND], pace.time));
    }
    let measured = interleave(pace.rounds, &mut contenders).await?;
    if let [empty, others @ ..] = &measured[..] {
        summary.alone(empty, "1/s");
        others.iter().for_each(|other| summary.compared(other, "1/s", empty));
    }
    summary.goal("consent.check.sqlite", Goal::AtLeast(0.90));
    summary.goal("consent.check.sqlite.p99", Goal::AtMost(1.5));
    summary.goal("consent.check.postgres.two_replicas", Goal::AtLeast(0.75));
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
        let consents = system::consents(&system.story, PEOPLE).await?;
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
}

/// An empty message to a handler that does nothing.
pub(crate) fn empty(system: &System, time: Duration) -> Contender {
    let client = DecisionServiceClient::new(system.story.clinic.consent_at(HOLLOW));
    Contender::new("rpc.empty", move || {
        let client = client.clone();
        rate(CALLERS, time, move |_| {
            let mut client = client.clone();
            async move {
                client.check_access(consent::CheckAccessRequest::default()).await?;
                Ok(())
            }
        })
    })
}
