//! What the store's benchmarks write: a row and an event, and as many of each as an approval writes.

use prost::Message;
use sammati_kernel::{AccountId, Refusal, Slot, TransactionId};
use sammati_store::{Cell, Column, Command, EmbeddedMigrations, Keys, NewEvent, Record, Table, View, embed_migrations};

/// The tables.
pub(crate) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("src/bin/bench/migrations");

/// How a record of a benchmark comes about.
trait Made {
    fn new(view: &View<'_>, label: &str, subject: &AccountId, bytes: usize) -> Self;
}

macro_rules! records { ($($name:ident $table:literal [$($column:literal)?];)*) => { $(
    #[derive(Clone, PartialEq, Eq, Message)]
    struct $name {
        #[prost(bytes = "vec", tag = "1")]
        id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        subject: Vec<u8>,
        #[prost(bytes = "vec", tag = "3")]
        text: Vec<u8>,
    }

    impl Record for $name {
        const TABLE: Table = Table { name: $table, columns: &[$(Column::bytes($column))?] };

        fn key(&self) -> Vec<u8> {
            self.id.clone()
        }

        fn cells(&self) -> Vec<Cell> {
            vec![$({ let _ = $column; self.subject.clone().into() })?]
        }
    }

    impl Made for $name {
        fn new(view: &View<'_>, label: &str, subject: &AccountId, bytes: usize) -> Self {
            let id: TransactionId = view.id(label);
            Self { id: id.to_vec(), subject: subject.to_vec(), text: vec![0x61; bytes] }
        }
    }
)* } }

records! {
    Entry "entry" [];
    Asked "asked" ["subject"];
    Given "given" ["subject"];
    Artefact "artefact" [];
    Notification "notification" ["subject"];
}

/// How many bytes an event has, about.
const EVENT: usize = 300;

fn emit(view: &mut View<'_>, subject: &AccountId) {
    let event = NewEvent {
        id: view.next_event_id(),
        subject: Some(subject.to_vec()),
        body: vec![0x65; EVENT],
    };
    view.emit(event);
}

/// Inserts one row of about 200 bytes under a unique id, and nothing else: what any insert must do.
pub(crate) struct Insert(pub(crate) AccountId);

impl Command for Insert {
    type Answer = ();

    const NAME: &'static str = "bench.insert";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let entry = Entry::new(view, "entry", &self.0, 160);
        view.put(&entry);
        Ok(())
    }
}

/// Inserts the same row and appends one event.
pub(crate) struct Append(pub(crate) AccountId);

impl Command for Append {
    type Answer = ();

    const NAME: &'static str = "bench.append";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let entry = Entry::new(view, "entry", &self.0, 160);
        view.put(&entry);
        emit(view, &self.0);
        Ok(())
    }
}

/// What an approval does to the store: loads a request row and a group, changes the request, inserts a consent, two
/// artefacts and three notifications, and appends five events.
pub(crate) struct Approve(pub(crate) AccountId);

impl Command for Approve {
    type Answer = ();

    const NAME: &'static str = "bench.approve";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<Asked>(self.0.to_vec());
        keys.group::<Asked>("subject", self.0.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let blank = || Asked {
            id: self.0.to_vec(),
            subject: self.0.to_vec(),
            text: vec![0x61; 600],
        };
        let asked = view.get::<Asked>(self.0.as_bytes()).unwrap_or_else(blank);
        drop(view.group::<Asked>("subject", self.0.as_bytes()));
        view.put(&asked);
        let given = Given::new(view, "given", &self.0, 700);
        view.put(&given);
        for label in ["hip", "hiu"] {
            let artefact = Artefact::new(view, label, &self.0, 1500);
            view.put(&artefact);
        }
        for label in ["first", "second", "third"] {
            let notification = Notification::new(view, label, &self.0, 200);
            view.put(&notification);
        }
        (0..5).for_each(|_| emit(view, &self.0));
        Ok(())
    }
}
