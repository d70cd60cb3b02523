//! Signing: only what is committed, only after it was proved to continue what was signed before, and one root per size.
//!
//! What is proved is that the stored hashes make the root of the head, and continue the tree that was signed last. That the
//! leaves' rows still make these hashes is not: they were hashed when they were appended, moments before, and to read each again
//! would double what an append costs. Whoever serves a leaf compares it, and fsck and `archive` all of them.

use sammati_kernel::{Reason, Refusal, Slot};
use sammati_log::checkpoint::{self, Checkpoint};
use sammati_log::proof::{Plan, verify_consistency};
use sammati_log::{Error, Hash32};
use sammati_store::{Command, Keys, Reader, View};

use crate::log::Log;
use crate::rows::{CheckpointRow, LogRow, SLOT};
use crate::tree::{Tree, frozen};

/// How often signing begins anew because another replica signed meanwhile.
const TRIES: usize = 8;

impl Log {
    /// The newest checkpoint, signed now if the log has grown.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn newest(&self) -> Result<CheckpointRow, Refusal> {
        self.signed(u64::MAX).await
    }

    /// A checkpoint that covers the first `size` leaves: the newest there is, signed now if that is too small.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn covering(&self, size: u64) -> Result<CheckpointRow, Refusal> {
        self.signed(size).await
    }

    /// The checkpoint of exactly this size, if one was signed.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn checkpoint(&self, size: u64) -> Result<Option<CheckpointRow>, Refusal> {
        let row = self
            .store
            .read(move |r| r.get::<CheckpointRow>(SLOT, &size.to_be_bytes()))
            .await?;
        Ok(row.map(|row| row.record))
    }

    /// The note of the newest checkpoint that enough witnesses cosigned, or else of the newest that there is. Nothing is signed for it.
    ///
    /// # Errors
    /// `CHECKPOINT_UNKNOWN` before the first, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn published(&self) -> Result<String, Refusal> {
        let newest = self.good_enough(0).await?;
        // Readers who ask for cosignatures cannot use one that lacks them.
        let cosigned = match self.witnesses.is_empty() {
            true => None,
            false => self.cosigned(self.witnesses.required()).await?,
        };
        let none = || Refusal::new(Reason::CheckpointUnknown).saying("nothing was signed yet");
        Ok(self.noted(cosigned.or(newest).ok_or_else(none)?).await?.note)
    }

    async fn signed(&self, size: u64) -> Result<CheckpointRow, Refusal> {
        if let Some(row) = self.good_enough(size).await? {
            return Ok(row);
        }
        let _one = self.signing.lock().await;
        for _ in 0..TRIES {
            if let Some(row) = self.good_enough(size).await? {
                return Ok(row);
            }
            self.compare().await?;
            let growth = self.store.snapshot(Growth::read).await?;
            let row = match growth.prove().and_then(|to| self.sign(&growth, to)) {
                Ok(row) => row,
                Err(error) => return Err(self.freeze(error.to_string()).await),
            };
            if let Some(signed) = self
                .store
                .apply(Sign {
                    row,
                    previous: growth.log.signed,
                })
                .await?
            {
                self.stats.signed.inc();
                self.newly_signed.send_replace(());
                return Ok(signed);
            }
        }
        Err(Reason::Overloaded.into())
    }

    /// The newest checkpoint, if it covers `size` leaves or all that there are.
    pub(crate) async fn good_enough(&self, size: u64) -> Result<Option<CheckpointRow>, Refusal> {
        let found = self.store.snapshot(move |r| {
            let Some(log) = r.get::<LogRow>(SLOT, LogRow::KEY)?.map(|row| row.record) else {
                return Ok(None);
            };
            let wanted = Tree::of(&log).map_or(0, |tree| tree.size()).min(size);
            let newest = match log.signed {
                Some(signed) if signed >= wanted => r.get::<CheckpointRow>(SLOT, &signed.to_be_bytes())?,
                _ => None,
            };
            Ok(Some((log, newest.map(|row| row.record))))
        });
        let (log, newest) = found.await?.ok_or(Reason::Internal)?;
        if !log.frozen.is_empty() {
            self.stats.frozen.set(1);
            return Err(frozen());
        }
        Ok(newest)
    }

    fn sign(&self, growth: &Growth, (size, root): (u64, Hash32)) -> Result<CheckpointRow, Error> {
        let statement = Checkpoint::new(&growth.log.origin, size, root)?;
        let note = checkpoint::sign_by(&statement, &self.keys.signers())?;
        Ok(CheckpointRow {
            size,
            root: root.0.to_vec(),
            note,
        })
    }
}

/// What was signed last, what is committed now, and the proof between them.
struct Growth {
    log: LogRow,
    last: Option<CheckpointRow>,
    /// Made of stored hashes: the consistency proof, or before the first signature of leaves the root alone.
    path: Result<Vec<Hash32>, Error>,
}

impl Growth {
    fn read(r: &mut Reader<'_>) -> Result<Self, sammati_store::Error> {
        let log = r
            .get::<LogRow>(SLOT, LogRow::KEY)?
            .map(|row| row.record)
            .unwrap_or_default();
        let last = match log.signed {
            Some(signed) => r
                .get::<CheckpointRow>(SLOT, &signed.to_be_bytes())?
                .map(|row| row.record),
            None => None,
        };
        let path = Self::path(r, &log)?;
        Ok(Self { log, last, path })
    }

    fn path(r: &mut Reader<'_>, log: &LogRow) -> Result<Result<Vec<Hash32>, Error>, sammati_store::Error> {
        let tree = match Tree::of(log) {
            Ok(tree) => tree,
            Err(error) => return Ok(Err(error)),
        };
        let plan = match before(log) {
            None => Plan::root(tree.size()),
            Some(signed) => Plan::consistency(signed, tree.size()),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(error)),
        };
        Ok(tree.load(r, &plan.needs())?.and_then(|tiles| plan.build(&tiles)))
    }

    /// The size and root that may be signed: proved to be of the stored hashes, and to continue what was signed last.
    fn prove(&self) -> Result<(u64, Hash32), Error> {
        let tree = Tree::of(&self.log)?;
        let path = self.path.clone()?;
        let (size, root) = (tree.size(), tree.root());
        let damaged = |why| Error::Damaged { why };
        match before(&self.log) {
            None if path == [root] => {}
            None => {
                return Err(damaged(format!(
                    "the root of {size} leaves in the head is not that of the stored hashes"
                )));
            }
            Some(signed) => {
                let lost = || damaged(format!("the checkpoint of {signed} leaves is gone"));
                let before = Hash32::from_slice(&self.last.as_ref().ok_or_else(lost)?.root)?;
                verify_consistency(signed, size, before, root, &path)?;
            }
        }
        Ok((size, root))
    }
}

/// The largest tree that was signed, if it had leaves: any tree continues the empty one.
fn before(log: &LogRow) -> Option<u64> {
    log.signed.filter(|signed| *signed > 0)
}

/// Puts a checkpoint beside the head. It leaves the process only after this was committed.
struct Sign {
    row: CheckpointRow,
    /// What was the newest when it was proved.
    previous: Option<u64>,
}

impl Command for Sign {
    /// The checkpoint; `None` when another was signed since it was proved.
    type Answer = Option<CheckpointRow>;
    const NAME: &'static str = "audit.sign";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
        keys.row::<CheckpointRow>(self.row.size.to_be_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Self::Answer, Refusal> {
        let mut log = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        if !log.frozen.is_empty() {
            return Err(frozen());
        }
        if let Some(known) = view.get::<CheckpointRow>(&self.row.size.to_be_bytes()) {
            if known.root == self.row.root {
                return Ok(Some(known));
            }
            log.frozen = format!("two roots for {} leaves", known.size);
            view.put(&log);
            return Err(frozen().recorded());
        }
        if log.signed != self.previous {
            return Ok(None);
        }
        log.signed = Some(self.row.size);
        view.put(&self.row);
        view.put(&log);
        Ok(Some(self.row.clone()))
    }
}
