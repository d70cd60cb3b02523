//! Versions beside each other: older code on a schema that is ahead of it, while newer code serves the same database.

use prost::Message;
use sammati_kernel::{AccountId, Refusal, Slot};
use sammati_store::{
    Cell, Column, Command, EmbeddedMigrations, Keys, NewEvent, Outcome, Record, Table, View, embed_migrations,
};
use sammati_testkit::databases;

use crate::world::{Count, Counter, LOG, MIGRATIONS, OWNER, START, World, account, open, open_at, request_id};

/// The present version's, and an expand.
const NEXT: EmbeddedMigrations = embed_migrations!("tests/next");

/// The next version's, and a contract that needs it.
const AFTER_NEXT: EmbeddedMigrations = embed_migrations!("tests/after_next");

/// A counter as the next version knows it.
#[derive(Clone, PartialEq, Message)]
struct Coloured {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    owner: Vec<u8>,
    #[prost(int64, tag = "3")]
    count: i64,
}

impl Record for Coloured {
    const TABLE: Table = Table {
        name: "counter",
        columns: &[
            Column::bytes("owner"),
            Column::int("due"),
            Column::bytes("colour"),
            Column::int("weight"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![
            self.owner.clone().into(),
            Cell::Int(None),
            b"red".to_vec().into(),
            self.count.into(),
        ]
    }
}

/// Counts as the next version does.
struct Paint(AccountId);

impl Command for Paint {
    type Answer = i64;
    const NAME: &'static str = "test.paint";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<Coloured>(self.0.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let mut counter = view.get::<Coloured>(&self.0.to_vec()).unwrap_or_else(|| Coloured {
            id: self.0.to_vec(),
            owner: OWNER.to_vec(),
            count: 0,
        });
        counter.count += 1;
        view.put(&counter);
        let body = [self.0.as_bytes().as_slice(), &counter.count.to_be_bytes()].concat();
        view.emit(NewEvent {
            id: view.next_event_id(),
            subject: Some(self.0.to_vec()),
            body,
        });
        Ok(counter.count)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_code_serves_beside_newer_code_one_schema_ahead() {
    for database in databases() {
        let mut world = World::on(database);
        let (url, clock, id) = (world.database.url.clone(), world.clock.clone(), account(3, 1));
        assert_eq!(world.replica(0).apply(Count::up(id)).await.unwrap(), 1);
        if url.starts_with("sqlite:") {
            // One process at a time: the next version was here and was taken back.
            world.replicas.clear();
            assert_eq!(open_at(&url, &clock, NEXT).unwrap().apply(Paint(id)).await.unwrap(), 2);
            world.replicas.push(open(&url, &clock));
        } else {
            // The first replica has run since before the change; the second is started after it.
            let newer = open_at(&url, &clock, NEXT).unwrap();
            assert_eq!(newer.apply(Paint(id)).await.unwrap(), 2);
            world.replicas[1] = open(&url, &clock);
            let both = (0..40).map(|n| {
                let (newer, older) = (newer.clone(), world.replica(n).clone());
                async move {
                    newer.apply(Paint(id)).await.unwrap();
                    older.apply(Count::up(id)).await.unwrap()
                }
            });
            futures::future::join_all(both).await;
            newer.confirm().await.unwrap();
        }
        let before = world.count(0, &id).await;
        for n in 0..4 {
            let (store, fresh) = (world.replica(n), account(4, u64::try_from(n).unwrap()));
            let request = store.request(
                "participants/clinic",
                "test.count",
                &request_id(&clock),
                &"a".to_owned(),
            );
            let request = request.unwrap();
            let claim = Some([u8::try_from(n).unwrap(); 32]);
            let command = || Count {
                claim,
                ..Count::up(fresh)
            };
            assert_eq!(
                store.run(command(), Some(request.clone())).await.unwrap(),
                Outcome::Fresh(1)
            );
            let known = store.run(command(), Some(request)).await.unwrap();
            assert!(matches!(known, Outcome::Known(_)), "{known:?}");
            assert_eq!(
                store.apply(Count::up(id)).await.unwrap(),
                before + i64::try_from(n).unwrap() + 1
            );
            store.confirm().await.unwrap();
            store.advance_cursor("log", vec![(3, 1, 1)]).await.unwrap();
            store.prune(LOG).await.unwrap();
            let group = store.read(move |r| r.group::<Counter>(id.slot(), "owner", OWNER)).await;
            assert!(!group.unwrap().is_empty());
        }
        assert_eq!(
            world.check_feed().await,
            usize::try_from(before).unwrap() + 8,
            "an event for each"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_refuses_code_that_uses_what_it_took_and_serves_the_version_before_it() {
    for database in databases() {
        let mut world = World::on(database);
        let (url, clock, id) = (world.database.url.clone(), world.clock.clone(), account(3, 1));
        world.replica(0).apply(Count::up(id)).await.unwrap();
        world.replicas.clear();
        drop(open_at(&url, &clock, AFTER_NEXT).unwrap());
        let refused = open_at(&url, &clock, MIGRATIONS).err().unwrap().to_string();
        assert!(
            refused.contains("20261128900002") && refused.contains("Run the version that last served it"),
            "{refused}"
        );
        // The next version knows what is needed, and not the contract itself.
        drop(open_at(&url, &clock, NEXT).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_service_is_refused_and_left_as_it_is() {
    const OTHER: EmbeddedMigrations = embed_migrations!("tests/other");
    for database in databases() {
        let clock = sammati_kernel::ManualClock::at(START);
        drop(open_at(&database.url, &clock, OTHER).unwrap());
        let refused = open_at(&database.url, &clock, MIGRATIONS).err().unwrap().to_string();
        assert!(refused.contains("another service's"), "{refused}");
        drop(open_at(&database.url, &clock, OTHER).unwrap());
    }
}
