//! How many decisions one processor makes, alone and in numbers: the service's own handlers over a database that was
//! filled, without sockets. What is asked is decoded, and the answer encoded, as on the wire.

use std::sync::Arc;

use futures::StreamExt;
use prost::Message;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_consent::Rpc;

use crate::goal::Goal;
use crate::growth::{Grown, by, clinic};
use crate::measure::{CALLERS, Contender, Failure, Pace, Sample, f64_of, median, rate};
use crate::summary::Summary;
use crate::system;

/// Questions in one message, messages on one stream, and calls at once.
const MESSAGE: usize = 100;
const MESSAGES: usize = 10;
const AT_ONCE: usize = 4;

/// `decide.*`, with `consents` in the database, of which the first few are asked about.
pub(crate) async fn run(pace: Pace, consents: usize, summary: &mut Summary) -> Result<(), Failure> {
    let name = format!("decide.sqlite.{consents}");
    let grown = Grown::new(&name, system::sqlite(), consents, summary).await?;
    let asked = Asked::new(&grown)?;
    for what in ["check", "batch", "stream", "explain"] {
        let asked = asked.clone();
        let mut contender = Contender::new(what, move || asked.clone().measure(what, pace));
        let mut costs = Vec::new();
        for round in 0..=pace.rounds {
            let cost = contender.cost().await?;
            if round > 0 {
                costs.push(cost);
            }
        }
        summary.value(&format!("{name}.{what}"), 1e6 / median(costs), "1/s of one");
    }
    summary.goal(&format!("{name}.stream"), Goal::AtLeast(300_000.0));
    for what in ["approve", "revoke"] {
        let mut rates = Vec::new();
        for round in 0..=pace.rounds {
            let sample = match what {
                "approve" => grown.clone().measure(what, pace.time).await?,
                _ => grown.revoke().await?,
            };
            if round > 0 {
                rates.push(sample.rate);
            }
        }
        summary.value(&format!("{name}.{what}"), median(rates), "1/s");
    }
    Ok(())
}

/// Whom to ask, and what, encoded.
#[derive(Clone)]
struct Asked {
    rpc: Rpc,
    clinic: sammati_kernel::Caller,
    questions: Arc<[Vec<u8>]>,
    batch: Arc<[u8]>,
    stream: Arc<[u8]>,
}

impl Asked {
    fn new(grown: &Grown) -> Result<Self, Failure> {
        let consents = grown.consents.iter().take(CALLERS);
        let questions: Vec<_> = consents.map(|id| grown.story.question(&id.name())).collect();
        let checks: Vec<_> = questions.iter().cycle().take(MESSAGE).cloned().collect();
        let numbered = checks.iter().cloned().zip(0..).map(|(check, seq)| api::NumberedCheck {
            seq,
            check: Some(check),
        });
        let stream = api::StreamCheckAccessRequest {
            checks: numbered.collect(),
            consistency: None,
        };
        let batch = api::BatchCheckAccessRequest {
            checks,
            consistency: None,
        };
        Ok(Self {
            rpc: grown.rpc.0.clone(),
            clinic: clinic()?,
            questions: questions.iter().map(Message::encode_to_vec).collect(),
            batch: batch.encode_to_vec().into(),
            stream: stream.encode_to_vec().into(),
        })
    }

    async fn measure(self, what: &'static str, pace: Pace) -> Result<Sample, Failure> {
        let (callers, each) = match what {
            "batch" => (AT_ONCE, MESSAGE),
            "stream" => (AT_ONCE, MESSAGE * MESSAGES),
            _ => (CALLERS, 1),
        };
        let calls = rate(callers, pace.time, move |caller| {
            let this = self.clone();
            async move {
                match what {
                    "check" => this.check(caller).await,
                    "batch" => this.batch().await,
                    "stream" => this.stream().await,
                    _ => this.explain(caller).await,
                }
            }
        });
        Ok(calls.await?.times(f64_of(each)))
    }

    fn question(&self, caller: usize) -> Result<api::CheckAccessRequest, Failure> {
        let bytes = &self.questions[caller % self.questions.len()];
        Ok(api::CheckAccessRequest::decode(bytes.as_slice())?)
    }

    async fn check(&self, caller: usize) -> Result<(), Failure> {
        let request = by(&self.clinic, self.question(caller)?);
        let decision = self.rpc.check_access(request).await?.into_inner();
        permits(&decision)?;
        encoded(&decision)
    }

    async fn batch(&self) -> Result<(), Failure> {
        let request = by(&self.clinic, api::BatchCheckAccessRequest::decode(&*self.batch)?);
        let answer = self.rpc.batch_check_access(request).await?.into_inner();
        answer.decisions.iter().try_for_each(permits)?;
        encoded(&answer)
    }

    async fn stream(&self) -> Result<(), Failure> {
        let bytes = Arc::clone(&self.stream);
        let message = move |_| {
            let message = api::StreamCheckAccessRequest::decode(&*bytes);
            message.map_err(|error| tonic::Status::internal(error.to_string()))
        };
        let asked = futures::stream::iter(0..MESSAGES).map(message);
        let mut answers = self.rpc.answer(self.clinic.clone(), asked);
        let mut answered = 0;
        while let Some(answer) = answers.next().await {
            let answer = answer?;
            let decisions = answer
                .decisions
                .iter()
                .filter_map(|numbered| numbered.decision.as_ref());
            decisions.clone().try_for_each(permits)?;
            answered += answer.decisions.len();
            encoded(&answer)?;
        }
        match answered == MESSAGE * MESSAGES {
            true => Ok(()),
            false => Err(format!("{answered} answers").into()),
        }
    }

    async fn explain(&self, caller: usize) -> Result<(), Failure> {
        let request = api::ExplainAccessRequest {
            check: Some(self.question(caller)?),
            ..Default::default()
        };
        encoded(self.rpc.explain_access(by(&self.clinic, request)).await?.get_ref())
    }
}

fn permits(decision: &api::Decision) -> Result<(), Failure> {
    match decision.outcome() {
        api::decision::Outcome::Permit => Ok(()),
        _ => Err(format!("refused: {decision:?}").into()),
    }
}

/// Encodes an answer, which the wire would take.
fn encoded(answer: &impl Message) -> Result<(), Failure> {
    match std::hint::black_box(answer.encode_to_vec()).is_empty() {
        false => Ok(()),
        true => Err("an empty answer".into()),
    }
}
