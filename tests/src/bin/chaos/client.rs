//! A client: calls until it knows, and writes down what it was told before it counts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sammati_kernel::Seed;
use sammati_server::error::refusal_of;
use sammati_tests::journal::{Answer, Call, Journal, Op};
use sammati_tests::retry::{is_passing, until_answered};
use sammati_tests::story::{Failure, Story};
use tokio::time::{Instant, sleep};
use tonic::Status;

use crate::findings::Findings;

/// How long somebody who is not answered goes on.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the clients of one cycle share.
pub(crate) struct Clients {
    pub(crate) story: Story,
    pub(crate) replicas: usize,
    pub(crate) cycle: usize,
    pub(crate) journal: Arc<Journal>,
    /// Set when the load is over: nothing new is begun.
    pub(crate) over: AtomicBool,
    /// How many changes were acknowledged.
    pub(crate) acknowledged: AtomicUsize,
    /// How often a client did not know, and came back.
    pub(crate) unknown: AtomicUsize,
    pub(crate) findings: Mutex<Findings>,
}

/// One call to be made.
pub(crate) struct Asked<'a> {
    pub(crate) object: &'a str,
    pub(crate) op: Op,
    /// Empty for a question: it may be asked anew.
    pub(crate) request_id: &'a str,
}

impl Clients {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(crate) fn find(&self, add: impl FnOnce(&mut Findings)) {
        add(&mut self.findings.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Calls until there is an answer or a refusal that is meant; nothing is to be found again of it.
    pub(crate) async fn until_answered<T>(
        &self,
        mut call: impl AsyncFnMut() -> Result<T, Status>,
    ) -> Result<T, Status> {
        let counted = async || {
            let answer = call().await;
            if answer.as_ref().err().is_some_and(is_passing) {
                self.unknown.fetch_add(1, Ordering::SeqCst);
            }
            answer
        };
        until_answered(counted).await
    }

    /// Calls, on another replica each time, until there is an answer or a refusal that is meant; tells it, and the call
    /// as the journal has it.
    pub(crate) async fn call<T>(
        &self,
        asked: &Asked<'_>,
        dice: &mut Dice,
        mut call: impl AsyncFnMut(usize) -> Result<T, Status>,
        tell: impl Fn(&T) -> String,
    ) -> Result<(Option<T>, Call), Failure> {
        let began = Instant::now();
        let start = self.journal.now();
        let note = |answer| -> Result<Call, Failure> {
            let call = Call {
                cycle: self.cycle,
                object: asked.object.to_owned(),
                op: asked.op,
                request_id: asked.request_id.to_owned(),
                start,
                end: self.journal.now(),
                answer,
            };
            self.journal.note(&call)?;
            Ok(call)
        };
        loop {
            let status = match call(dice.below(self.replicas)).await {
                Ok(done) => {
                    let call = note(Answer::Done(tell(&done)))?;
                    if !asked.request_id.is_empty() {
                        self.acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                    return Ok((Some(done), call));
                }
                Err(status) => status,
            };
            let words = format!("{:?}: {}", status.code(), status.message());
            if !is_passing(&status) {
                // Without a reason of ours it is the transport's word, or a bug's.
                let why = refusal_of(&status).map_or(words, |refusal| refusal.reason.as_str().to_owned());
                return Ok((None, note(Answer::Refused(why))?));
            }
            self.unknown.fetch_add(1, Ordering::SeqCst);
            note(Answer::Unknown(words))?;
            if began.elapsed() > PATIENCE {
                return Err(format!("{:?} of {} is not answered: {status}", asked.op, asked.object).into());
            }
            sleep(Duration::from_millis(20 + dice.number(100))).await;
        }
    }

    /// The same for a change: some are called for again with the same request id, at once or later, when much may have
    /// gone wrong in between. They must be answered the same.
    pub(crate) async fn change<T>(
        &self,
        asked: &Asked<'_>,
        dice: &mut Dice,
        mut call: impl AsyncFnMut(usize) -> Result<T, Status>,
        tell: impl Fn(&T) -> String,
    ) -> Result<(Option<T>, Call), Failure> {
        let (done, first) = self.call(asked, dice, &mut call, &tell).await?;
        if done.is_some() && dice.below(4) == 0 {
            if dice.below(2) == 0 {
                dice.pause(0, 1500).await;
            }
            let (_, second) = self.call(asked, dice, &mut call, &tell).await?;
            if first.answer != second.answer {
                let (first, second) = (&first.answer, &second.answer);
                let what = format!(
                    "{:?} of {}: {first:?}, and to its repeat {second:?}",
                    asked.op, asked.object
                );
                self.find(|found| found.duplicated(what));
            }
        }
        Ok((done, first))
    }
}

/// Choices that follow from a seed.
pub(crate) struct Dice {
    seed: Seed,
    thrown: u64,
}

impl Dice {
    pub(crate) const fn new(seed: Seed) -> Self {
        Self { seed, thrown: 0 }
    }

    pub(crate) fn number(&mut self, bound: u64) -> u64 {
        self.thrown += 1;
        self.seed.below(&self.thrown.to_string(), bound)
    }

    /// A seed for others' choices.
    pub(crate) fn seed(&mut self) -> Seed {
        self.thrown += 1;
        self.seed.child(&self.thrown.to_string())
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number(u64::try_from(bound).unwrap_or(1))).unwrap_or(0)
    }

    pub(crate) async fn pause(&mut self, from: u64, to: u64) {
        sleep(Duration::from_millis(from + self.number(to - from))).await;
    }
}
