//! A database that was restored, and what is done to it again.

use sammati_api::audit::v1::{Event, EventSource, Leaf, LogEvent, Payload};
use sammati_kernel::{ManualClock, Micros, Refusal, Slot};
use sammati_server::Again;
use sammati_server::event::timestamp;
use sammati_store::{Command, Keys, Record, Store, View};
use sammati_testkit::{Database, databases};

use super::{START, consent_id};
use crate::rows::ConsentRow;
use crate::testing::open;

/// Puts what the backup holds.
struct Put<R>(R);

impl<R: Record + Clone + Send + Sync + 'static> Command for Put<R> {
    type Answer = ();

    const NAME: &'static str = "test.put";

    fn slot(&self) -> Slot {
        Slot::new(7)
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        view.put(&self.0);
        Ok(())
    }
}

/// A database that was restored.
pub(super) struct Restored {
    pub(super) store: Store,
    pub(super) clock: ManualClock,
    _database: Database,
}

impl Restored {
    fn all() -> impl Iterator<Item = Self> {
        databases().into_iter().map(|database| {
            let clock = ManualClock::at(START);
            Self {
                store: open(&database, &clock),
                clock,
                _database: database,
            }
        })
    }

    pub(super) async fn put<R: Record + Clone + Send + Sync + 'static>(&self, row: R) {
        self.store.apply(Put(row)).await.unwrap();
    }

    /// Does again what is lost, each by a commit of its own; what is said of it.
    pub(super) async fn again(&self, lost: &[(&str, String)]) -> Vec<String> {
        self.commits_again(&lost.iter().map(|event| vec![event.clone()]).collect::<Vec<_>>())
            .await
    }

    /// The same of several commits.
    pub(super) async fn commits_again(&self, lost: &[Vec<(&str, String)>]) -> Vec<String> {
        let commits = lost.iter().zip(START.seconds()..);
        let events = commits.flat_map(|(commit, at)| commit.iter().map(move |event| (at, event)));
        let lost = events.zip(0_i64..).map(|((at, (event, resource)), n)| LogEvent {
            header: Some(Leaf {
                event_id: format!("lost-{n}"),
                event_type: (*event).to_owned(),
                source: Some(EventSource {
                    position: n,
                    ..EventSource::default()
                }),
                occurred_time: Some(timestamp(Micros::from_seconds(at))),
                ..Leaf::default()
            }),
            payload: Some(Payload {
                resource: resource.clone(),
                ..Payload::default()
            }),
            ..LogEvent::default()
        });
        let again = Again {
            store: self.store.clone(),
            lost: lost.collect(),
        };
        crate::again::again(again).await.unwrap()
    }

    pub(super) async fn get<R: Record + Send + 'static>(&self, key: Vec<u8>) -> R {
        let read = self.store.read(move |r| r.get::<R>(Slot::new(7), &key));
        read.await.unwrap().unwrap().record
    }

    pub(super) async fn consent(&self) -> ConsentRow {
        self.get(consent_id().to_vec()).await
    }

    /// The types and causes of what was told since the beginning.
    pub(super) async fn told(&self) -> Vec<(String, String)> {
        use prost::Message;
        let partition = self.store.partitions().of(Slot::new(7));
        let read = self.store.read(move |r| r.feed(partition, 0, i64::MAX));
        let events = read.await.unwrap();
        let events = events.iter().map(|event| Event::decode(event.body.as_slice()).unwrap());
        events
            .map(|event| (event.event_type, event.causation_event_id))
            .collect()
    }
}

/// Runs a test on every kind of database.
pub(super) fn everywhere<F: Future<Output = ()>>(test: impl Fn(Restored) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    for restored in Restored::all() {
        runtime.block_on(test(restored));
    }
}
