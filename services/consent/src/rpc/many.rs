//! Many checks in one call, and on one stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use sammati_api::consent::v1 as api;
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_server::error;
use sammati_server::rate::Allowance;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::Status;

use super::check::Seen;
use super::{Core, Rpc};
use crate::wire::decision::{Asked, Consistency, parse_all, wanted};

/// Checks of a stream that may be unanswered.
pub(super) const WINDOW: usize = 1024;

/// When a stream that was refused for its window may begin anew.
const AGAIN: Duration = Duration::from_secs(1);

type Answer = Result<api::StreamCheckAccessResponse, Status>;

impl Core {
    pub(super) async fn check_all(
        &self,
        caller: &Caller,
        message: &api::BatchCheckAccessRequest,
    ) -> Result<api::BatchCheckAccessResponse, Refusal> {
        let asked = parse_all(&message.checks.iter().collect::<Vec<_>>(), "checks[]", caller);
        let consistency = message.consistency.as_ref().map(Consistency::from);
        let decisions = self.answers(caller, (asked, "checks[]"), consistency, |_, decision| decision);
        let decisions = decisions.await?;
        Ok(api::BatchCheckAccessResponse { decisions })
    }

    /// Answers questions that came together in a field, in their order, on one state of each person.
    /// Each decision is told once, as `told` says it: it is long, and moving all of them again would cost.
    async fn answers<T>(
        &self,
        caller: &Caller,
        (asked, field): (Result<Vec<Asked>, Refusal>, &str),
        consistency: Option<Consistency>,
        told: impl Fn(usize, api::Decision) -> T,
    ) -> Result<Vec<T>, Refusal> {
        let (asked, wanted) = Refusal::both(asked, wanted(self.store.key(), consistency))?;
        self.directory.fresh()?;
        self.confirm(wanted).await?;
        let (mut seen, mut decisions) = (Seen::default(), Vec::with_capacity(asked.len()));
        for (n, asked) in asked.into_iter().enumerate() {
            let answer = self.answer(caller, asked, &mut seen).await;
            decisions.push(told(n, answer.map_err(|refusal| at(refusal, n, field))?));
        }
        Ok(decisions)
    }

    async fn numbered(&self, caller: &Caller, message: api::StreamCheckAccessRequest) -> Answer {
        let checks: Vec<_> = message.checks.iter().map(|numbered| numbered.check.as_ref()).collect();
        let present: Vec<_> = checks.iter().flatten().copied().collect();
        let missing = checks.iter().position(Option::is_none);
        let negative = message.checks.iter().position(|numbered| numbered.seq < 0);
        let asked = match missing {
            _ if negative.is_some() => {
                let at = negative.unwrap_or_default();
                Err(Refusal::field(format!("checks[{at}].seq"), "0 and up"))
            }
            Some(n) => Err(Refusal::field(format!("checks[{n}].check"), "required: the question")),
            None => parse_all(&present, "checks[].check", caller),
        };
        let consistency = message.consistency.as_ref().map(Consistency::from);
        let asked = (asked, "checks[].check");
        let numbered = |n: usize, decision| api::NumberedDecision {
            seq: message.checks.get(n).map_or(0, |check| check.seq),
            decision: Some(decision),
        };
        let decisions = self.answers(caller, asked, consistency, numbered).await;
        Ok(api::StreamCheckAccessResponse {
            decisions: decisions.map_err(error::status)?,
        })
    }
}

impl Rpc {
    /// Answers the questions of a stream until it ends or one of its messages is refused, which ends it.
    pub fn answer(&self, caller: Caller, asked: impl Asking) -> Answers {
        self.answer_within(None, caller, asked)
    }

    /// The same, where each question counts towards what the participant who asks may.
    pub(super) fn answer_within(
        &self,
        allowance: Option<Arc<Allowance>>,
        caller: Caller,
        asked: impl Asking,
    ) -> Answers {
        let (to, answers) = unbounded_channel();
        let unanswered = Arc::new(AtomicUsize::new(0));
        let who = (caller, allowance);
        // It ends with the client, and the client's stream with the connection: nothing outlives a drain.
        tokio::spawn(run(Arc::clone(&self.0), who, asked, to, Arc::clone(&unanswered)));
        Answers { answers, unanswered }
    }
}

/// What a client sends on a stream.
pub trait Asking: Stream<Item = Result<api::StreamCheckAccessRequest, Status>> + Send + Unpin + 'static {}

impl<S: Stream<Item = Result<api::StreamCheckAccessRequest, Status>> + Send + Unpin + 'static> Asking for S {}

async fn run(
    core: Arc<Core>,
    (caller, allowance): (Caller, Option<Arc<Allowance>>),
    mut asked: impl Asking,
    to: UnboundedSender<Answer>,
    unanswered: Arc<AtomicUsize>,
) {
    let (mut working, mut open) = (FuturesUnordered::new(), true);
    while open || !working.is_empty() {
        tokio::select! {
            biased;
            () = to.closed() => return,
            Some(answer) = working.next() => {
                let ends = Result::is_err(&answer);
                if to.send(answer).is_err() || ends {
                    return;
                }
            }
            message = asked.next(), if open => match message {
                Some(Ok(message)) => {
                    let checks = message.checks.len();
                    if unanswered.fetch_add(checks, Ordering::AcqRel) + checks > WINDOW {
                        let _ = to.send(Err(error::status(too_many())));
                        return;
                    }
                    let allowed = allowance.as_ref().map_or(Ok(()), |allowance| allowance.more_checks(checks));
                    if let Err(refusal) = allowed {
                        let _ = to.send(Err(error::status(refusal)));
                        return;
                    }
                    working.push(core.numbered(&caller, message));
                }
                None => open = false,
                Some(Err(_)) => return,
            },
        }
    }
}

/// Names the question that is refused because it is not the caller's to ask.
fn at(refusal: Refusal, n: usize, field: &str) -> Refusal {
    if refusal.reason != Reason::NotAvailable {
        return refusal;
    }
    let at = field.replacen("[]", &format!("[{n}]"), 1);
    refusal.saying(format!("{at}: it is about nothing of yours"))
}

fn too_many() -> Refusal {
    Refusal::new(Reason::StreamWindow)
        .saying("1024 checks of this stream are unanswered; read its answers before you ask more")
        .retry_after(AGAIN)
}

/// The answers of a stream, as the transport takes them.
pub struct Answers {
    answers: UnboundedReceiver<Answer>,
    unanswered: Arc<AtomicUsize>,
}

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        let next = self.answers.poll_recv(context);
        if let Poll::Ready(Some(Ok(answer))) = &next {
            self.unanswered.fetch_sub(answer.decisions.len(), Ordering::AcqRel);
        }
        next
    }
}
