//! Exports: files that are made as they are taken. No transaction lasts longer than one read, nothing waits for the lane, and
//! no more is held than a message and the rows that it is made of.

use std::future::Future;

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_server::error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Rpc;
use super::log::shown;
use crate::export::{self, Told};
use crate::keyring::Opened;
use crate::log::{Log, queried};
use crate::onward::Onward;
use crate::policy;
use crate::proof::beyond;
use crate::rows::{CheckpointRow, LeafRow};
use crate::wire;

/// Bytes after which a message is sent: it has as many, and the line that was begun before.
const BYTES: usize = 128 << 10;

/// Events that are read at once.
pub(super) const AT_ONCE: usize = 100;

/// A file on its way, message after message.
pub(super) type Parts<M> = ReceiverStream<Result<M, Status>>;

/// The end of [`Parts`] that it is put into.
pub(super) type Out<M> = mpsc::Sender<Result<M, Status>>;

/// The next bytes of a file.
pub(super) struct Part {
    content: Vec<u8>,
    /// The index of the last event in it.
    last: Option<u64>,
    /// The size of the tree that all is proved in.
    size: u64,
    is_last: bool,
}

impl From<Part> for audit::ExportSubjectResponse {
    fn from(part: Part) -> Self {
        Self {
            content: part.content,
            complete: part.is_last,
        }
    }
}

impl From<Part> for audit::ExportEventsResponse {
    fn from(part: Part) -> Self {
        Self {
            content: part.content,
            last_index: part.last.map(wire::number),
            tree_size: wire::number(part.size),
            complete: part.is_last,
        }
    }
}

/// What `make` puts out, while it is taken; a refusal ends it.
pub(super) fn poured<M, F>(make: impl FnOnce(Out<M>) -> F) -> Parts<M>
where
    M: Send + 'static,
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    // The next message is made when the one before is taken.
    let (out, parts) = mpsc::channel(1);
    let made = make(out.clone());
    tokio::spawn(async move {
        if let Err(refusal) = made.await {
            // Whoever has gone needs no refusal.
            drop(out.send(Err(error::status(refusal))).await);
        }
    });
    ReceiverStream::new(parts)
}

/// A file that is being written.
pub(super) struct File<M> {
    rpc: Rpc,
    caller: Caller,
    format: audit::ExportFormat,
    /// What all is proved against.
    checkpoint: CheckpointRow,
    content: String,
    last: Option<u64>,
    out: Out<M>,
}

impl<M: From<Part>> File<M> {
    pub(super) const fn new(
        rpc: Rpc,
        caller: Caller,
        format: audit::ExportFormat,
        checkpoint: CheckpointRow,
        out: Out<M>,
    ) -> Self {
        Self {
            rpc,
            caller,
            format,
            checkpoint,
            content: String::new(),
            last: None,
            out,
        }
    }

    /// The log that it is of.
    pub(super) fn log(&self) -> &Log {
        &self.rpc.log
    }

    /// Adds events, a line each; false when nobody takes it any more.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub(super) async fn add(&mut self, rows: &[LeafRow]) -> Result<bool, Refusal> {
        if rows.is_empty() {
            return Ok(!self.out.is_closed());
        }
        let indexes: Vec<_> = rows.iter().map(|row| row.index).collect();
        let proofs = self.log().prove_inclusion(&indexes, &self.checkpoint).await?;
        let payloads = self.log().payloads(rows).await?;
        let name = self.log().name();
        for ((row, (header, opened)), proof) in rows.iter().zip(payloads).zip(&proofs) {
            // What lies in the archive is shown one by one, to whoever says on what ground.
            let archived = matches!(opened, Opened::Archived(_));
            let payload = match shown(&self.caller, opened) {
                Opened::Readable(payload) => Some(payload),
                Opened::Archived(_) | Opened::Erased | Opened::Damaged => None,
            };
            let told = Told {
                archived,
                name: &wire::event_name(&name, row.index),
                header: &header,
                payload: payload.as_deref(),
                leaf: &proof.leaf,
                bundle: &proof.bundle,
            };
            self.content.push_str(&export::line(self.format, &told));
            self.last = Some(row.index);
            if self.content.len() >= BYTES && !self.send(false).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends it, perhaps with a line more: from then on it is whole.
    pub(super) async fn end(mut self, line: Option<String>) {
        self.content.push_str(&line.unwrap_or_default());
        self.send(true).await;
    }

    /// Whether it was taken.
    async fn send(&mut self, is_last: bool) -> bool {
        let part = Part {
            content: std::mem::take(&mut self.content).into_bytes(),
            last: self.last.take(),
            size: self.checkpoint.size,
            is_last,
        };
        self.out.send(Ok(part.into())).await.is_ok()
    }
}

impl Rpc {
    /// The events that pass a filter, as a file.
    pub(super) async fn export_selected(
        &self,
        caller: Caller,
        request: audit::ExportEventsRequest,
    ) -> Result<Parts<audit::ExportEventsResponse>, Refusal> {
        let filter = wire::exported(&request).and_then(|filter| policy::narrow(&caller, filter));
        let (filter, how) = Refusal::both(filter, wire::how(&request))?;
        let checkpoint = match how.size {
            0 => self.log.newest().await?,
            size => self.signed_at(size).await?,
        };
        let checkpoint = self.log.noted(checkpoint).await?;
        let after = match how.after {
            None => None,
            Some(index) if index >= checkpoint.size => return Err(beyond(checkpoint.size)),
            Some(index) => Some(self.log.leaf(index).await?.ok_or(Reason::Internal)?),
        };
        let mut told =
            queried(&caller, &self.log.name()).object(wire::checkpoint_name(&self.log.name(), checkpoint.size));
        "audit.exported".clone_into(&mut told.event.event_type);
        let payload = told.payload();
        payload.subject.clone_from(&filter.subject);
        payload.legal_basis = request.legal_basis;
        self.log.record(told).await?;
        let rpc = self.clone();
        Ok(poured(|out| async move {
            let mut onward = Onward::new(&filter, rpc.log.tags(), checkpoint.size, after.as_ref());
            let mut file = File::new(rpc, caller, how.format, checkpoint, out);
            while let Some(rows) = file.log().further(&mut onward, AT_ONCE).await? {
                if !file.add(&rows).await? {
                    return Ok(());
                }
            }
            file.end(None).await;
            Ok(())
        }))
    }
}
