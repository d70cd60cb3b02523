//! The end of a log, and the log as a resource.

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Caller, Refusal};

use super::Rpc;
use crate::wire;

impl Rpc {
    pub(super) async fn seal(&self, caller: &Caller, request: audit::SealLogRequest) -> Result<audit::Log, Refusal> {
        wire::sealed(&request)?;
        self.is_ours(&request.log)?;
        if request.successor == request.log {
            return Err(Refusal::field("successor", "must be another log"));
        }
        self.log.seal(caller, &request.successor).await?;
        self.resource().await
    }

    /// The log as it is now.
    pub(super) async fn resource(&self) -> Result<audit::Log, Refusal> {
        let (head, ends) = (self.log.head().await?, self.log.ends().await?);
        let state = match (head.frozen.is_empty(), &ends.sealed) {
            (false, _) => audit::log::State::Frozen,
            (true, Some(_)) => audit::log::State::Sealed,
            (true, None) => audit::log::State::Active,
        };
        Ok(audit::Log {
            name: self.log.name(),
            origin: self.log.origin().to_owned(),
            vkey: self.log.vkey(),
            state: state.into(),
            min_index: 0,
            successor: ends.sealed.map(|row| row.other).unwrap_or_default(),
            keys: self.log.key_history().await?.into_iter().map(wire::log_key).collect(),
            predecessor: ends.follows.map(|row| row.other).unwrap_or_default(),
        })
    }
}
