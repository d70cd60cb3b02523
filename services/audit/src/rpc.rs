//! What can be asked? One short function per RPC, in a file per proto service.

mod archive;
mod export;
mod log;
mod own;
mod proof;
mod retention;
mod stream;
mod subject;
mod succession;

use std::sync::Arc;

use sammati_kernel::{Key, Reason, Refusal};
use sammati_server::page::PageTokens;

use crate::archive::export::PART;
use crate::log::Log;

/// Serves all of `sammati.audit.v1`.
#[derive(Clone)]
pub struct Rpc {
    log: Arc<Log>,
    pages: PageTokens,
    /// Leaves of a part of an archive.
    part: u64,
}

impl Rpc {
    /// Over `log`; `key` seals page tokens and is the same on all replicas.
    pub fn new(log: Arc<Log>, key: &Key) -> Self {
        Self {
            log,
            pages: PageTokens::new(key),
            part: PART,
        }
    }

    /// Refuses when a request names another log. Logs are public: unknown is NOT_FOUND for everybody.
    fn is_ours(&self, name: &str) -> Result<(), Refusal> {
        if name == self.log.name() {
            return Ok(());
        }
        Err(Refusal::new(Reason::NotFound)
            .about("sammati.audit.v1.Log", name)
            .saying("there is no such log; ListLogs names them"))
    }
}
