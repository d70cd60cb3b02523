//! Several bookings of one key, the lines between them, and looks that something came between.

use std::sync::atomic::{AtomicBool, Ordering};

use sammati_kernel::Reason;
use sammati_store::{Cell, Command, Keys, Record, Table, View};

use super::super::execute::Begun;
use super::*;
use crate::log::watched;

const DAYS: Duration = Duration::from_secs(30 * 86_400);

impl Replicas {
    /// An event, and the demand to erase all there is by then: tells where the event is, and the day of the demand.
    async fn told_and_asked(&self, log: &Log) -> (u64, Micros) {
        let at = append(log, self.event(General)).await;
        match self.erase(log).await.unwrap() {
            Standing::Booked(day) => (at, day),
            other => panic!("{other:?}"),
        }
    }

    async fn is_gone(&self, at: u64) -> bool {
        is_cleared(&self.leaf(at).await)
    }
}

/// Another replica is quicker by a whole erasure, or two.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_look_at_a_booking_that_is_done_touches_no_other() {
    for replicas in logs().await {
        let (log, other) = (&replicas.logs[0], replicas.other());
        let (first, day) = replicas.told_and_asked(log).await;
        replicas.clock.advance(DAYS);
        let (second, later) = replicas.told_and_asked(log).await;
        let looked = replicas.row().await;
        assert_eq!((looked.through, looked.next[0].through), (Some(0), Some(1)));
        replicas.clock.set(day);
        log.sweep().await.unwrap();
        let row = replicas.row().await;
        assert_eq!((row.done.len(), row.due), (1, later.0));
        // There is nothing any more of what it looks for.
        assert!(matches!(other.begin(&looked).await, Ok(Begun::Again)));
        assert_eq!(replicas.row().await, row);
        // As if it had looked while there was.
        let begin = |looked: &ErasureRow, begin: Begin| Begin {
            looked: looked.clone(),
            ..begin
        };
        let events = log.survey(&replicas.tag()).await.unwrap().events;
        let of_the_first = begin(&looked, replicas.beginning(events).await);
        assert_eq!(other.store.apply(of_the_first).await.unwrap(), None);
        // The second has begun: it is not taken for the first.
        replicas.clock.set(later);
        assert!(matches!(log.begin(&row).await, Ok(Begun::Running(running)) if running.generation == 1));
        let events = log.survey(&replicas.tag()).await.unwrap().events;
        let of_the_first = begin(&looked, replicas.beginning(events).await);
        assert_eq!(other.store.apply(of_the_first).await.unwrap(), None);
        assert!(matches!(other.begin(&looked).await, Ok(Begun::Again)));
        assert!(!replicas.is_gone(second).await);
        assert!(matches!(replicas.erase(other).await, Ok(Standing::Erased(_))));
        assert!(replicas.is_gone(first).await && replicas.is_gone(second).await);
        // All is done, and nothing waits.
        let of_the_second = begin(&row, replicas.beginning(events).await);
        assert_eq!(other.store.apply(of_the_second).await.unwrap(), None);
        assert_eq!(replicas.row().await.done.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_a_month_that_another_replica_has_ended_is_ended() {
    for replicas in logs().await {
        let log = &replicas.logs[0];
        append(log, replicas.event(General)).await;
        replicas.clock.advance(2 * YEAR);
        let key = keyring::month_key(crate::erase::number(General), "2027-01");
        let looked = ErasureRow {
            key: key.clone(),
            due: 1,
            ..ErasureRow::default()
        };
        log.expire(&system(SERVICE), General, "2027-01", "over", None)
            .await
            .unwrap();
        assert!(matches!(replicas.other().begin(&looked).await, Ok(Begun::Again)));
        let standing = replicas.other().execute(&key).await.unwrap();
        assert!(matches!(standing, Some(Standing::Erased(done)) if done.basis == "over"));
    }
}

/// The day that a demand was answered with is the day, whoever asks afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a3_every_demand_keeps_its_day() {
    for replicas in logs().await {
        let log = &replicas.logs[0];
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(replicas.told_and_asked(log).await);
            replicas.clock.advance(DAYS);
        }
        for (n, (_, day)) in asked.iter().enumerate() {
            replicas.clock.set(Micros(day.0 - 1));
            log.sweep().await.unwrap();
            assert_eq!(replicas.row().await.done.len(), n, "before its day");
            replicas.clock.set(*day);
            log.sweep().await.unwrap();
            for (of, (at, _)) in asked.iter().enumerate() {
                assert_eq!(replicas.is_gone(*at).await, of <= n, "{of} on the day of {n}");
            }
        }
        assert_eq!(replicas.row().await.due, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_demands_beyond_the_most_join_the_last_and_are_told_its_day() {
    for replicas in logs().await {
        let log = &replicas.logs[0];
        let mut asked = Vec::new();
        for _ in 0..crate::erase::book::WAITING + 4 {
            asked.push(replicas.told_and_asked(log).await);
            replicas.clock.advance(Duration::from_secs(86_400));
        }
        assert_eq!(replicas.row().await.next.len(), crate::erase::book::WAITING);
        let (last, day) = asked[asked.len() - 1];
        replicas.clock.set(Micros(day.0 - 1));
        log.sweep().await.unwrap();
        assert!(!replicas.is_gone(last).await);
        replicas.clock.set(day);
        log.sweep().await.unwrap();
        for (at, _) in asked {
            assert!(replicas.is_gone(at).await);
        }
        assert_eq!(replicas.row().await.due, 0);
    }
}

/// A row as code knows it that draws no lines.
#[derive(Clone, PartialEq, Message)]
struct Lineless {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    due: i64,
}

impl Record for Lineless {
    const TABLE: Table = ErasureRow::TABLE;

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![Some(self.due).into()]
    }
}

/// Puts a row back as such code would.
struct PutBack(Vec<u8>);

impl Command for PutBack {
    type Answer = ();
    const NAME: &'static str = "test.put_back";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<Lineless>(self.0.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<Lineless>(&self.0).ok_or(Reason::NotFound)?;
        view.put(&row);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_code_that_knows_of_no_lines_loses_none() {
    for replicas in logs().await {
        let log = &replicas.logs[0];
        replicas.told_and_asked(log).await;
        replicas.told_and_asked(log).await;
        let row = replicas.row().await;
        assert_eq!((row.through, row.next.len()), (Some(0), 1));
        let refused = log.store.apply(PutBack(row.key.clone())).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Internal);
        assert_eq!(replicas.row().await, row);
    }
}

/// Something that the log tells of itself; a month ends between the sealing of that and the first commit.
struct Overtaken {
    clock: sammati_kernel::ManualClock,
    is_over: Arc<AtomicBool>,
}

impl Clone for Overtaken {
    fn clone(&self) -> Self {
        if !self.is_over.swap(true, Ordering::SeqCst) {
            self.clock.advance(DAYS);
        }
        Self {
            clock: self.clock.clone(),
            is_over: Arc::clone(&self.is_over),
        }
    }
}

impl Command for Overtaken {
    type Answer = bool;
    const NAME: &'static str = "test.overtaken";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, _: &mut View<'_>) -> Result<bool, Refusal> {
        Ok(true)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_what_the_log_tells_of_itself_is_sealed_again_when_its_month_has_ended() {
    for replicas in logs().await {
        let log = &replicas.logs[0];
        let at = append(log, replicas.event(General)).await + 1;
        let overtaken = Overtaken {
            clock: replicas.clock.clone(),
            is_over: Arc::default(),
        };
        let draft = watched(&system(SERVICE), &log.name());
        log.tell(overtaken, draft).await.unwrap();
        let header = replicas.leaf(at).await.header();
        assert_eq!(header.event_type, "audit.watched");
        assert_eq!(keyring::month_of(&header), "2027-02");
    }
}
