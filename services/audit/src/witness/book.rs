//! What the witness remembers, and its key.

use std::collections::HashMap;

use prost::Message;
use sammati_kernel::{Refusal, Slot};
use sammati_log::Hash32;
use sammati_log::checkpoint::Verifier;
use sammati_log::cosignature::Cosigner;
use sammati_log::witness::{Accepted, AddCheckpoint, Rejected};
use sammati_store::verbs::Known;
use sammati_store::{Command, EmbeddedMigrations, Keys, Record, Store, Table, View, embed_migrations};

/// The tables of a witness.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/witness");

/// Everything is in one partition.
const SLOT: Slot = Slot::new(0);

/// The tables as fsck reads them.
pub fn tables() -> Vec<Known> {
    vec![Known::of::<WitnessedRow>()]
}

/// The newest checkpoint of a log that was cosigned.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct WitnessedRow {
    /// The log.
    #[prost(string, tag = "1")]
    origin: String,
    /// Its size.
    #[prost(uint64, tag = "2")]
    size: u64,
    /// Its root.
    #[prost(bytes = "vec", tag = "3")]
    root: Vec<u8>,
    /// The checkpoint as it came.
    #[prost(string, tag = "4")]
    note: String,
}

impl Record for WitnessedRow {
    const TABLE: Table = Table {
        name: "witnessed",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.origin.clone().into_bytes()
    }
}

impl WitnessedRow {
    /// Size and root, as a checkpoint is judged by.
    fn known(&self) -> Option<(u64, Hash32)> {
        Some((self.size, Hash32::from_slice(&self.root).ok()?))
    }
}

/// A witness: its logs by origin, its memory and its key.
pub struct Book {
    store: Store,
    cosigner: Cosigner,
    logs: HashMap<String, Vec<Verifier>>,
}

/// What a log is answered.
pub(super) enum Answer {
    /// The line.
    Cosigned(String),
    /// The log is not one of ours.
    Unknown,
    /// The log signed another root of the size that is remembered.
    Forked(Rejected),
    /// Why not.
    Rejected(Rejected),
}

impl Book {
    /// Of these logs.
    pub const fn new(store: Store, cosigner: Cosigner, logs: HashMap<String, Vec<Verifier>>) -> Self {
        Self { store, cosigner, logs }
    }

    /// The public key, as logs are given it.
    pub fn vkey(&self) -> String {
        self.cosigner.witness().vkey()
    }

    /// Judges a request, remembers its checkpoint, and only then cosigns it.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(super) async fn add(&self, request: &AddCheckpoint) -> Result<Answer, Refusal> {
        let origin = request.origin();
        let Some(keys) = self.logs.get(origin) else {
            return Ok(Answer::Unknown);
        };
        let mut before = self.row(origin).await?;
        loop {
            let known = before.as_ref().and_then(WitnessedRow::known);
            let accepted = match request.judge(known, keys) {
                Ok(accepted) => accepted,
                Err(rejected) if request.forks(known, keys) => return Ok(Answer::Forked(rejected)),
                Err(rejected) => return Ok(Answer::Rejected(rejected)),
            };
            let swap = Swap {
                before,
                after: after(&accepted, &request.note),
            };
            match self.store.apply(swap).await? {
                // The time after it was remembered: what is stated holds then.
                Swapped::Done => return Ok(Answer::Cosigned(self.cosign(&accepted))),
                // Another request was quicker: this one is judged by what that one left. A size only grows, so it ends.
                Swapped::Found(row) => before = row,
            }
        }
    }

    fn cosign(&self, accepted: &Accepted) -> String {
        let now = u64::try_from(self.store.clock().now().seconds()).unwrap_or(0);
        self.cosigner.cosign(&accepted.text, now)
    }

    async fn row(&self, origin: &str) -> Result<Option<WitnessedRow>, Refusal> {
        let key = origin.as_bytes().to_vec();
        let row = self.store.read(move |r| r.get::<WitnessedRow>(SLOT, &key)).await?;
        Ok(row.map(|row| row.record))
    }
}

fn after(accepted: &Accepted, note: &str) -> WitnessedRow {
    WitnessedRow {
        origin: accepted.checkpoint.origin().to_owned(),
        size: accepted.checkpoint.size(),
        root: accepted.checkpoint.root().0.to_vec(),
        note: note.to_owned(),
    }
}

/// Remembers `after` if what is remembered is still `before`.
struct Swap {
    before: Option<WitnessedRow>,
    after: WitnessedRow,
}

enum Swapped {
    Done,
    Found(Option<WitnessedRow>),
}

impl Command for Swap {
    type Answer = Swapped;
    const NAME: &'static str = "witness.swap";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<WitnessedRow>(self.after.key());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Swapped, Refusal> {
        let found = view.get::<WitnessedRow>(&self.after.key());
        let place = |row: &WitnessedRow| (row.size, row.root.clone());
        if found.as_ref().map(place) != self.before.as_ref().map(place) {
            return Ok(Swapped::Found(found));
        }
        if found.as_ref().map(place) != Some(place(&self.after)) {
            view.put(&self.after);
        }
        Ok(Swapped::Done)
    }
}
