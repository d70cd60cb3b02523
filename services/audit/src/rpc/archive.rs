//! The archive of a log that has ended.

use std::sync::Arc;

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Caller, Refusal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Rpc;
use crate::archive::piece::Piece;
use crate::wire;

/// Pieces that wait to be taken.
const AHEAD: usize = 1;

impl Rpc {
    /// Whose archives have parts of so many leaves, whole bundles, instead of 65,536.
    #[must_use]
    pub fn in_parts_of(self, leaves: u64) -> Self {
        Self { part: leaves, ..self }
    }

    pub(super) async fn archive(
        &self,
        caller: &Caller,
        request: audit::ExportArchiveRequest,
    ) -> Result<ReceiverStream<Result<Piece, Refusal>>, Refusal> {
        let (tree, first) = wire::archive(&request)?;
        self.is_ours(&request.log)?;
        let archive = self.log.begin_archive(caller, tree, first, self.part).await?;
        // The next piece is made when the one before is taken.
        let (pieces, stream) = mpsc::channel(AHEAD);
        let log = Arc::clone(&self.log);
        tokio::spawn(async move {
            if let Err(refusal) = log.send_archive(&archive, first, &pieces).await {
                // Whoever has gone needs no refusal.
                drop(pieces.send(Err(refusal)).await);
            }
        });
        Ok(ReceiverStream::new(stream))
    }
}
