//! A write is a command: the keys it reads, and a pure decision over what was loaded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sammati_kernel::{Reason, Refusal, Seed, Slot};
use tokio::sync::oneshot;

use crate::durable::Durable;
use crate::gate::Ticket;
use crate::keys::Keys;
use crate::request::RequestKey;
use crate::view::View;

/// One write. `decide` does no I/O and may run several times; everything random comes from the view's seed, and time
/// is the view's.
///
/// A command without a request id must be harmless when it is decided again after its own commit: after a commit whose
/// answer was lost it is.
pub trait Command: Send + 'static {
    /// What the caller gets when it is done.
    type Answer: Send + 'static;

    /// Its name in metrics and in the scope of request ids, as `consent.revoke`.
    const NAME: &'static str;

    /// The slot whose partition it reads and writes: a function of the request alone.
    fn slot(&self) -> Slot;

    /// About how many bytes it holds while it waits: lanes are bounded in them too.
    fn bytes(&self) -> usize {
        1024
    }

    /// Whether it takes something away, protects somebody, or makes room: it is taken on while a database has used up its
    /// room. A function of the command alone.
    fn is_essential(&self) -> bool {
        false
    }

    /// Which rows, groups and claims it reads.
    fn reads(&self, keys: &mut Keys);

    /// What else it reads, once the first rows are there.
    fn then(&self, _loaded: &View<'_>, _keys: &mut Keys) {}

    /// Decides. Changes go into the view and are kept when the answer is `Ok`, or a refusal that is `recorded`.
    ///
    /// # Errors
    /// A refusal; what was changed before it is dropped unless it is `recorded`.
    fn decide(&self, view: &mut View<'_>) -> Result<Self::Answer, Refusal>;

    /// What a repeat with the same request id needs to render the answer again: ids and versions, never the reply.
    fn outcome(&self, _answer: &Self::Answer) -> Vec<u8> {
        Vec::new()
    }
}

/// How a command ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<A> {
    /// It was decided now.
    Fresh(A),
    /// Its request id was known: what [`Command::outcome`] said then.
    Known(Vec<u8>),
}

/// A command on its way, whatever its type.
pub(crate) trait Job: Send {
    fn name(&self) -> &'static str;
    fn slot(&self) -> Slot;
    fn bytes(&self) -> usize;
    fn seed(&self) -> &Seed;
    fn request(&self) -> Option<&RequestKey>;
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    fn reads(&self, keys: &mut Keys);
    fn then(&self, loaded: &View<'_>, keys: &mut Keys);
    /// Decides and keeps the answer to itself; tells the outcome, or the refusal.
    fn decide(&mut self, view: &mut View<'_>) -> Result<Vec<u8>, Refusal>;
    /// Its request id was known.
    fn settle_known(&mut self, outcome: Vec<u8>);
    /// It was refused.
    fn settle_refused(&mut self, refusal: Refusal);
    /// Tells the caller what was settled. Only a batch that cannot be lost has a [`Durable`].
    fn answer(self: Box<Self>, proof: &Durable);
    /// Tells the caller that storage failed.
    fn fail(self: Box<Self>, refusal: Refusal);
}

/// A command, who waits for it, and what was settled but not yet committed.
pub(crate) struct Pending<C: Command> {
    pub(crate) command: C,
    pub(crate) request: Option<RequestKey>,
    pub(crate) seed: Seed,
    pub(crate) settled: Option<Result<Outcome<C::Answer>, Refusal>>,
    pub(crate) reply: oneshot::Sender<Result<Outcome<C::Answer>, Refusal>>,
    /// Its place in the queue, given back when it is dropped.
    pub(crate) _ticket: Ticket,
}

impl<C: Command> Job for Pending<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn slot(&self) -> Slot {
        self.command.slot()
    }

    fn bytes(&self) -> usize {
        self.command.bytes()
    }

    fn seed(&self) -> &Seed {
        &self.seed
    }

    fn request(&self) -> Option<&RequestKey> {
        self.request.as_ref()
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn reads(&self, keys: &mut Keys) {
        self.command.reads(keys);
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        self.command.then(loaded, keys);
    }

    fn decide(&mut self, view: &mut View<'_>) -> Result<Vec<u8>, Refusal> {
        let decided = catch_unwind(AssertUnwindSafe(|| self.command.decide(view)));
        let decided = decided.unwrap_or_else(|_| Err(Reason::Internal.into()));
        if let Some(fault) = view.fault() {
            tracing::error!(command = C::NAME, fault, "a command broke the store's rules");
            return Err(Reason::Internal.into());
        }
        decided.map(|answer| {
            let outcome = self.command.outcome(&answer);
            self.settled = Some(Ok(Outcome::Fresh(answer)));
            outcome
        })
    }

    fn settle_known(&mut self, outcome: Vec<u8>) {
        self.settled = Some(Ok(Outcome::Known(outcome)));
    }

    fn settle_refused(&mut self, refusal: Refusal) {
        self.settled = Some(Err(refusal));
    }

    fn answer(self: Box<Self>, _: &Durable) {
        let settled = self.settled.unwrap_or_else(|| Err(Reason::Internal.into()));
        // The caller may have gone: its request id will tell it the same later.
        drop(self.reply.send(settled));
    }

    fn fail(self: Box<Self>, refusal: Refusal) {
        drop(self.reply.send(Err(refusal)));
    }
}
