//! `StreamEvents`: many calls of AppendEvents in one.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use sammati_api::audit::v1 as audit;
use sammati_kernel::{Caller, Refusal, Violations};
use sammati_server::error;
use tonic::{Status, Streaming};

use super::Rpc;
use super::log::placed_event;
use crate::policy;
use crate::wire;

/// Messages that are on their way at a time. No more are read, so that HTTP/2 holds the sender back.
const WINDOW: usize = 32;

/// Answers on their way to the caller.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<audit::StreamEventsResponse, Status>> + Send>>;

impl Rpc {
    /// Appends what comes, and answers in its order, until something is refused.
    pub(super) fn append_all(self, caller: Caller, sent: Streaming<audit::StreamEventsRequest>) -> Answers {
        let mut before = None;
        let appended = sent.map(move |message| {
            let (rpc, caller) = (self.clone(), caller.clone());
            let expected: Option<i64> = before.map(|seq: i64| seq.saturating_add(1));
            if let Ok(message) = &message {
                before = Some(message.client_seq);
            }
            // By itself, whether or not the answers are read: what stood still while it waits in a line, as for a connection,
            // would keep everybody behind it waiting too.
            let begun = message
                .map(|message| tokio::spawn(async move { rpc.append_message(&caller, message, expected).await }));
            async move {
                let ended = begun?.await;
                let answer = ended.map_err(|_| error::internal("the append of a message ended"))?;
                answer.map_err(error::status)
            }
        });
        let mut ended = false;
        let answers = appended
            .buffered(WINDOW)
            .ready_chunks(WINDOW)
            .map(answers)
            .flat_map(futures::stream::iter);
        Box::pin(answers.take_while(move |answer| {
            // The refusal is the last that is told.
            let goes_on = !std::mem::replace(&mut ended, answer.is_err());
            std::future::ready(goes_on)
        }))
    }

    async fn append_message(
        &self,
        caller: &Caller,
        message: audit::StreamEventsRequest,
        expected: Option<i64>,
    ) -> Result<audit::StreamEventsResponse, Refusal> {
        let service = policy::appender(caller, None)?;
        let mut wrong = Violations::new();
        if message.client_seq < 1 || expected.is_some_and(|seq| seq != message.client_seq) {
            wrong.add(
                "client_seq",
                "1 and up: any in the first message of a stream, then one more with each",
            );
        }
        let (batch, ()) = Refusal::both(wire::direct_events(message.events, "events"), wrong.check())?;
        let appended = self.log.append(service, &batch.events, Vec::new()).await?;
        let ids = batch.events.into_iter().map(|received| received.event.event_id);
        Ok(audit::StreamEventsResponse {
            acknowledged_seq: message.client_seq,
            events: ids
                .zip(&appended.placed)
                .map(|(id, placed)| placed_event(id, placed))
                .collect(),
            log: self.log.name(),
        })
    }
}

/// What is ready at once, as one answer, and the refusal after it.
fn answers(
    ready: Vec<Result<audit::StreamEventsResponse, Status>>,
) -> Vec<Result<audit::StreamEventsResponse, Status>> {
    let mut told: Vec<Result<audit::StreamEventsResponse, Status>> = Vec::with_capacity(2);
    for answer in ready {
        match (told.last_mut(), answer) {
            (Some(Ok(last)), Ok(mut next)) => {
                last.acknowledged_seq = next.acknowledged_seq;
                last.events.append(&mut next.events);
            }
            (_, Err(refused)) => {
                told.push(Err(refused));
                break;
            }
            (_, answer) => told.push(answer),
        }
    }
    told
}
