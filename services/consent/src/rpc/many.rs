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
        let decisions = self.answers(caller, asked, consistency).await?;
        Ok(api::BatchCheckAccessResponse { decisions })
    }

    /// Answers questions that came together, in their order, on one state of each person.
    async fn answers(
        &self,
        caller: &Caller,
        asked: Result<Vec<Asked>, Refusal>,
        consistency: Option<Consistency>,
    ) -> Result<Vec<api::Decision>, Refusal> {
        let (asked, wanted) = Refusal::both(asked, wanted(self.store.key(), consistency))?;
        self.directory.fresh()?;
        self.confirm(wanted).await?;
        let (mut seen, mut decisions) = (Seen::default(), Vec::with_capacity(asked.len()));
        for asked in asked {
            decisions.push(self.answer(caller, asked, &mut seen).await?);
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
        let decisions = self.answers(caller, asked, consistency).await.map_err(error::status)?;
        let numbered = message.checks.iter().zip(decisions);
        let numbered = numbered.map(|(check, decision)| api::NumberedDecision {
            seq: check.seq,
            decision: Some(decision),
        });
        Ok(api::StreamCheckAccessResponse {
            decisions: numbered.collect(),
        })
    }
}

impl Rpc {
    /// Answers the questions of a stream until it ends or one of its messages is refused, which ends it.
    pub fn answer(&self, caller: Caller, asked: impl Asking) -> Answers {
        let (to, answers) = unbounded_channel();
        let unanswered = Arc::new(AtomicUsize::new(0));
        // It ends with the client, and the client's stream with the connection: nothing outlives a drain.
        tokio::spawn(run(Arc::clone(&self.0), caller, asked, to, Arc::clone(&unanswered)));
        Answers { answers, unanswered }
    }
}

/// What a client sends on a stream.
pub trait Asking: Stream<Item = Result<api::StreamCheckAccessRequest, Status>> + Send + Unpin + 'static {}

impl<S: Stream<Item = Result<api::StreamCheckAccessRequest, Status>> + Send + Unpin + 'static> Asking for S {}

async fn run(
    core: Arc<Core>,
    caller: Caller,
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
                    working.push(core.numbered(&caller, message));
                }
                None => open = false,
                Some(Err(_)) => return,
            },
        }
    }
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
