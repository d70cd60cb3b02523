//! What can be asked? One short function for each RPC, and what they share.

mod accounts;
mod addresses;
mod feed;
mod grpc;
mod load;
mod participant_sessions;
mod participants;
mod proof;
mod representations;
mod sessions;
mod step_up;
mod subject;
mod transactions;

use prost::Message;
use sammati_kernel::{Caller, Refusal};
use sammati_store::{Command, RequestKey};

#[cfg(test)]
pub(crate) use participant_sessions::Certificate;

use crate::service::Inner;

impl Inner {
    /// The key under which the outcome of `C` is kept for this caller and request id.
    fn request<C: Command>(&self, caller: &Caller, id: &str, message: &impl Message) -> Result<RequestKey, Refusal> {
        self.store.request(&caller.id(), C::NAME, id, message)
    }
}
