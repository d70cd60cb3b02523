//! A database that has used up its room: writes are shed, what takes away is not, and events are never given up for it.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use sammati_kernel::{AccountId, Key, ManualClock, Reason, Refusal, Slot};
use sammati_store::{Budget, Command, KEPT, Keys, Location, NewEvent, Options, Store, View, on_conn, verbs};
use sammati_testkit::databases;

use crate::world::{Count, Counter, LOG, MIGRATIONS, START, World, account};

/// Takes everything away from a counter.
struct TakeAway(AccountId);

impl Command for TakeAway {
    type Answer = ();
    const NAME: &'static str = "test.take_away";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<Counter>(self.0.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut counter = view.get::<Counter>(&self.0.to_vec()).ok_or(Reason::NotFound)?;
        counter.count = 0;
        view.put(&counter);
        view.emit(NewEvent {
            id: view.next_event_id(),
            subject: Some(self.0.to_vec()),
            body: self.0.to_vec(),
        });
        Ok(())
    }
}

fn open(url: &str, clock: &ManualClock, bytes: Option<u64>, free: Option<u64>) -> Store {
    let options = Options {
        partitions: Some(8),
        budget: Budget { bytes, free },
        ..Options::new(Location::parse(url).unwrap(), Key::from_bytes([7; 32]))
    };
    Store::open(&options, std::sync::Arc::new(clock.clone()), MIGRATIONS).unwrap()
}

async fn fill(store: &Store, events: u64) {
    // One slot may not have more than its share of a queue waiting.
    for some in (0..events).collect::<Vec<_>>().chunks(200) {
        let all = some.iter().map(|n| store.apply(Count::up(account(1, n % 50))));
        assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    }
}

/// Refused with what a caller needs to know, before anything was queued.
async fn expect_shed(store: &Store) {
    let refused = store.apply(Count::up(account(2, 1))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Overloaded);
    assert!(refused.message.contains("room"), "{}", refused.message);
    assert!(refused.retry_after.is_some_and(|after| after >= Duration::from_secs(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_database_without_room_sheds_writes_and_never_what_takes_away_nor_events() {
    for database in databases() {
        let (clock, url) = (ManualClock::at(START), database.url.clone());
        let store = open(&url, &clock, Some(1), None);
        fill(&store, 100).await;
        store.check_room().await.unwrap();
        expect_shed(&store).await;
        store.apply(TakeAway(account(1, 1))).await.unwrap();
        let read = move |r: &mut sammati_store::Reader<'_>| r.get::<Counter>(Slot::new(1), &account(1, 1).to_vec());
        assert_eq!(store.read(read).await.unwrap().unwrap().record.count, 0);
        // The log has not got the events: none of them goes to make room.
        clock.advance(KEPT + Duration::from_secs(1));
        assert_eq!(store.prune(LOG).await.unwrap().events, 0);
        drop(store);
        let world = World::on(database);
        assert_eq!(world.check_feed().await, 101);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_serves_again_by_itself_once_there_is_room() {
    for database in databases() {
        let (clock, url) = (ManualClock::at(START), database.url.clone());
        let store = open(&url, &clock, None, None);
        fill(&store, 4000).await;
        clock.advance(KEPT + Duration::from_secs(1));
        fill(&store, 1).await;
        let location = Location::parse(&url).unwrap();
        drop(store);
        let full = size(&location);
        let store = open(&url, &clock, Some(full - 1), None);
        store.check_room().await.unwrap();
        expect_shed(&store).await;
        store.advance_cursor("log", vec![(1, 1, 4001)]).await.unwrap();
        assert!(store.prune(LOG).await.unwrap().events > 3000);
        if !location.is_embedded() {
            // Postgres gives files back by this alone.
            let vacuum = |location: Location| {
                let mut conn = location.connect().unwrap();
                on_conn!(&mut conn, |c| c.batch_execute("VACUUM FULL feed")).unwrap();
            };
            tokio::task::spawn_blocking(move || vacuum(location)).await.unwrap();
        }
        store.check_room().await.unwrap();
        assert_eq!(store.apply(Count::up(account(2, 1))).await.unwrap(), 1);
    }
}

/// What the database takes now, by the smallest budget that doctor finds sufficient.
fn size(location: &Location) -> u64 {
    let fits = |bytes| {
        let budget = Budget {
            bytes: Some(bytes),
            free: None,
        };
        std::thread::scope(|scope| {
            let look = scope.spawn(|| verbs::room(location, budget).unwrap());
            look.join().unwrap().health == verbs::Health::Ok
        })
    };
    let (mut low, mut high) = (0, 1 << 30);
    while low + 1 < high {
        let middle = (low + high) / 2;
        if fits(middle) { high = middle } else { low = middle }
    }
    high
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_sheds_writes_before_it_is() {
    let database = sammati_testkit::Database::sqlite();
    let clock = ManualClock::at(START);
    let store = open(&database.url, &clock, None, Some(u64::MAX / 2));
    fill(&store, 1).await;
    store.check_room().await.unwrap();
    expect_shed(&store).await;
    let mut registry = prometheus_client::registry::Registry::default();
    store.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for shown in [
        "store_disk_used_up 1",
        "store_disk_shed_total 1",
        "store_feed_events 1",
        "store_lane_waiting{lane=\"0\"} 0",
        "store_batch_commands_count 1",
    ] {
        assert!(text.contains(shown), "{text}");
    }
    let free = text
        .lines()
        .find_map(|line| line.strip_prefix("store_disk_free_bytes "));
    assert!(free.is_some_and(|free| free.parse::<u64>().unwrap() > 0), "{text}");
}
