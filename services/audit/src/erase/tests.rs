//! Erasures between appends and one another. What may come in between is held, or left to chance.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use prost::Message;
use sammati_api::audit::v1::{self as audit};
use sammati_api::types::v1::RetentionClass::{self, Access, General};
use sammati_kernel::{AccountId, Clock, Micros, Refusal, Seed, Slot};
use sammati_server::event::{micros, system, timestamp};

use super::execute::Begin;
use super::{Asked, Book, Ended, Standing};
use crate::append::Append;
use crate::keyring;
use crate::log::{Log, Own, Received, SERVICE};
use crate::rows::{Done, ErasureRow, LeafRow, Running, SLOT};
use crate::sealing::late;
use crate::testing::{Replicas, logs};

mod lines;

const YEAR: Duration = Duration::from_secs(366 * 86_400);

fn her() -> String {
    AccountId::new(Micros::from_seconds(1), Slot::new(1), [1; 8]).name()
}

fn event(class: RetentionClass, now: Micros) -> Received {
    let payload = audit::Payload {
        subject: her(),
        resource: "consents/x".to_owned(),
        ..audit::Payload::default()
    };
    let event = audit::Event {
        schema_version: 1,
        event_id: Seed::draw().unwrap().id::<Own>("event", now, SLOT).to_string(),
        event_type: "consent.requested".to_owned(),
        class: class.into(),
        occurred_time: Some(timestamp(now)),
        payload: Some(payload),
        ..audit::Event::default()
    };
    let body = event.encode_to_vec();
    Received { event, body }
}

impl Replicas {
    fn event(&self, class: RetentionClass) -> Received {
        event(class, self.clock.now())
    }

    fn tag(&self) -> Vec<u8> {
        self.logs[0].tags().subject(&her())
    }

    fn key(&self) -> Vec<u8> {
        keyring::subject_key(super::number(General), &self.tag())
    }

    /// The log, or the other replica of it.
    fn other(&self) -> &Log {
        self.logs.last().unwrap()
    }

    async fn erase(&self, log: &Log) -> Result<Standing, Refusal> {
        let standings = log
            .erase(&system(SERVICE), &self.tag(), &[General], "her letter", None)
            .await?;
        Ok(standings.into_iter().next().expect("there is something of hers").1)
    }

    /// Books the erasure of what there is under the first key.
    async fn book(&self, log: &Log) {
        let row = ErasureRow {
            key: self.key(),
            due: 1,
            basis: "her letter".to_owned(),
            ..ErasureRow::default()
        };
        let asked = Asked { row, generation: 0 };
        log.store.apply(Book(vec![asked])).await.unwrap();
    }

    /// Begins it, if there are so many events about her.
    async fn beginning(&self, events: u64) -> Begin {
        let now = self.clock.now();
        let running = Running {
            event_id: Seed::draw().unwrap().id::<Own>("erasure", now, SLOT).to_string(),
            at: now.0,
            generation: 0,
        };
        Begin {
            looked: self.row().await,
            events: Some(events),
            running,
            known: Arc::clone(&self.logs[0].known),
        }
    }

    /// Books and begins it, whatever its floor, and leaves it there.
    async fn begin(&self, log: &Log) {
        self.book(log).await;
        let events = log.survey(&self.tag()).await.unwrap().events;
        log.store.apply(self.beginning(events).await).await.unwrap().unwrap();
    }

    async fn leaf(&self, at: u64) -> LeafRow {
        self.logs[0].leaf(at).await.unwrap().unwrap()
    }

    async fn row(&self) -> ErasureRow {
        let key = self.key();
        let row = self.logs[0].store.read(move |r| r.get::<ErasureRow>(SLOT, &key)).await;
        row.unwrap().map(|row| row.record).unwrap_or_default()
    }
}

async fn append(log: &Log, received: Received) -> u64 {
    let appended = log.append("consent", &[received], Vec::new()).await.unwrap();
    appended.placed[0].index
}

/// Sealed, and not sent on its way yet.
async fn sealed(log: &Log, received: Received) -> Append {
    let entries = log.sealed("consent", &[received], &[], None, false).await;
    Append {
        entries: entries.unwrap(),
        stretches: Arc::default(),
        known: Arc::clone(&log.known),
    }
}

fn is_cleared(row: &LeafRow) -> bool {
    row.payload.is_empty() && row.names.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_what_was_sealed_before_her_key_was_destroyed_is_not_taken_afterwards() {
    for replicas in logs().await {
        let (log, other) = (&replicas.logs[0], replicas.other());
        append(log, replicas.event(General)).await;
        replicas.clock.advance(YEAR);
        let event = replicas.event(General);
        let [held, of_another_class] = [
            sealed(other, event.clone()).await,
            sealed(other, replicas.event(Access)).await,
        ];
        assert!(matches!(replicas.erase(log).await, Ok(Standing::Erased(_))));
        assert_eq!(other.store.apply(held).await.unwrap_err(), late());
        let taken = other.store.apply(of_another_class).await.unwrap();
        assert!(!is_cleared(&replicas.leaf(taken.placed[0].index).await));
        // Sent again it is sealed under the next key, and readable.
        let again = append(other, event.clone()).await;
        let row = replicas.leaf(again).await;
        assert!(row.header().key_id.ends_with("/1") && !is_cleared(&row));
        assert!(is_cleared(&replicas.leaf(0).await));
        // A repeat of what is in the log is answered, however it was sealed.
        let repeat = sealed(other, event).await;
        append(log, replicas.event(General)).await;
        replicas.clock.advance(YEAR);
        assert!(matches!(replicas.erase(log).await, Ok(Standing::Erased(_))));
        let known = other.store.apply(repeat).await.unwrap();
        assert_eq!(known.placed[0].index, again);
    }
}

/// Whose key has ended is known after a start, and of whom nothing need be read: where no other process ends one.
#[tokio::test(flavor = "multi_thread")]
async fn a3_whose_keys_have_ended_is_known_after_a_start() {
    for replicas in logs().await {
        let (log, nobody) = (&replicas.logs[0], keyring::subject_key(1, &[9; 32]));
        let is_embedded = log.store.path().is_some();
        append(log, replicas.event(General)).await;
        assert_eq!(log.known.ended.may_have(&replicas.key()), !is_embedded);
        replicas.begin(log).await;
        assert!(log.known.ended.may_have(&replicas.key()));
        let fresh = Ended::default();
        assert!(fresh.may_have(&nobody), "nothing is known yet");
        fresh.read(&log.store).await.unwrap();
        assert!(fresh.may_have(&replicas.key()));
        assert_eq!(fresh.may_have(&nobody), !is_embedded);
    }
}

/// What has begun and broke off keeps nobody waiting: who comes next ends the key himself.
#[tokio::test(flavor = "multi_thread")]
async fn a3_an_append_goes_through_while_an_erasure_has_begun() {
    for replicas in logs().await {
        let (log, other) = (&replicas.logs[0], replicas.other());
        append(log, replicas.event(General)).await;
        replicas.clock.advance(YEAR);
        append(log, replicas.event(Access)).await;
        replicas.begin(log).await;
        let placed = append(other, replicas.event(General)).await;
        let row = replicas.leaf(placed).await;
        assert!(row.header().key_id.ends_with("/1") && !is_cleared(&row));
        log.sweep().await.unwrap();
        assert!(is_cleared(&replicas.leaf(0).await) && !is_cleared(&replicas.leaf(placed).await));
        assert_eq!(replicas.row().await.done.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_an_erasure_does_not_begin_over_an_event_that_it_has_not_seen() {
    for replicas in logs().await {
        let (log, other) = (&replicas.logs[0], replicas.other());
        append(log, replicas.event(General)).await;
        replicas.clock.advance(YEAR);
        let events = log.survey(&replicas.tag()).await.unwrap().events;
        append(other, replicas.event(General)).await;
        replicas.book(log).await;
        assert_eq!(log.store.apply(replicas.beginning(events).await).await.unwrap(), None);
        assert_eq!(replicas.row().await.running, None);
        // It looks again, and finds that the law keeps it.
        assert!(matches!(replicas.erase(log).await, Ok(Standing::Booked(_))));
        let begun = log.store.apply(replicas.beginning(events + 1).await).await.unwrap();
        assert!(begun.is_some(), "all is seen");
    }
}

/// As code of before booked it: with nothing said of what it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_booking_of_before_waits_for_nothing_new_once_it_was_looked_at() {
    for replicas in logs().await {
        let (log, other) = (&replicas.logs[0], replicas.other());
        append(log, replicas.event(General)).await;
        replicas.book(log).await;
        log.sweep().await.unwrap();
        let day = replicas.row().await.due;
        assert_eq!(replicas.row().await.through, Some(0));
        replicas.clock.advance(YEAR / 2);
        let later = append(other, replicas.event(General)).await;
        assert!(replicas.leaf(later).await.header().key_id.ends_with("/1"));
        replicas.clock.set(Micros(day));
        log.sweep().await.unwrap();
        assert!(is_cleared(&replicas.leaf(0).await) && !is_cleared(&replicas.leaf(later).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_what_is_asked_for_while_an_erasure_runs_is_booked() {
    for replicas in logs().await {
        let (log, other) = (&replicas.logs[0], replicas.other());
        append(log, replicas.event(General)).await;
        replicas.clock.advance(YEAR);
        replicas.begin(log).await;
        // There is nothing yet that it does not take.
        replicas.book(log).await;
        assert_eq!(replicas.row().await.next, []);

        let later = append(other, replicas.event(General)).await;
        let day = match replicas.erase(other).await.unwrap() {
            Standing::Booked(day) => day,
            other => panic!("{other:?}"),
        };
        let row = replicas.row().await;
        assert_eq!((row.done.len(), row.due, row.basis.as_str()), (1, day.0, "her letter"));
        assert!(is_cleared(&replicas.leaf(0).await) && !is_cleared(&replicas.leaf(later).await));
        replicas.clock.set(day);
        log.sweep().await.unwrap();
        assert!(is_cleared(&replicas.leaf(later).await));
        let row = replicas.row().await;
        assert_eq!((row.done.len(), row.due, row.next), (2, 0, vec![]));
    }
}

/// What is sealed in one month and taken in in the next one would go with the first, before its floor has passed.
#[tokio::test(flavor = "multi_thread")]
async fn i14_an_event_is_under_the_key_of_the_month_that_it_was_taken_in() {
    let month = |row: &LeafRow| keyring::month_of(&row.header()).to_owned();
    for replicas in logs().await {
        let (log, other) = (&replicas.logs[0], replicas.other());
        // A second before February.
        replicas.clock.set(Micros::from_seconds(1_801_439_999));
        let received = replicas.event(General);
        let held = sealed(other, received.clone()).await;
        replicas.clock.advance(Duration::from_secs(2));
        assert_eq!(other.store.apply(held).await.unwrap_err(), late());
        let placed = append(other, received).await;
        assert_eq!(month(&replicas.leaf(placed).await), "2027-02");
        // The clock goes back over the end of the month: the log's time does not.
        let february = replicas.clock.now();
        replicas.clock.set(Micros(february.0 - 3_600_000_000));
        let placed = append(log, replicas.event(Access)).await;
        let row = replicas.leaf(placed).await;
        assert_eq!(
            (month(&row).as_str(), micros(&row.header().accept_time.unwrap())),
            ("2027-02", Some(february))
        );
        // What the log tells of itself too.
        replicas.begin(log).await;
        log.execute(&replicas.key()).await.unwrap();
        let record = replicas.leaf(replicas.row().await.done[0].index).await;
        assert_eq!(month(&record), "2027-02");
    }
}

impl Replicas {
    /// Once the erasure after `done` others has begun: applies what was sealed before it, then appends more.
    async fn write(&self, log: &Log, held: Append, done: usize) {
        loop {
            let row = self.row().await;
            if row.running.is_some() || row.done.len() > done {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(log.store.apply(held).await.unwrap_err(), late());
        for _ in 0..3 {
            append(log, self.event(General)).await;
        }
    }

    /// Of what is under a destroyed key nothing is left, and none of it went before its day; tells how many leaves there are.
    async fn check(&self) -> usize {
        let (row, mut seen) = (self.row().await, 0);
        for index in 0..self.logs[0].newest().await.unwrap().size {
            let leaf = self.leaf(index).await;
            let header = leaf.header();
            if header.class != i32::from(General) {
                continue;
            }
            seen += 1;
            let erased = row.of_generation(keyring::generation(&header));
            assert_eq!(is_cleared(&leaf), erased.is_some(), "leaf {index} {}", header.key_id);
            let accepted = micros(&header.accept_time.unwrap()).unwrap();
            let early = |done: &Done| done.at < accepted.0 + 365 * 86_400_000_000;
            assert!(!erased.is_some_and(early), "leaf {index} went before its day");
        }
        seen
    }
}

/// Appends and erasures of one person at once, by all replicas.
#[tokio::test(flavor = "multi_thread")]
async fn a3_appends_and_erasures_at_once_leave_nothing_behind() {
    for replicas in logs().await {
        let of = |n: usize| &*replicas.logs[n % replicas.logs.len()];
        append(of(0), replicas.event(General)).await;
        for round in 0..4 {
            replicas.clock.advance(YEAR);
            let mut writers = Vec::new();
            for n in 0..6 {
                let held = sealed(of(n), replicas.event(General)).await;
                writers.push(replicas.write(of(n), held, round));
            }
            // The other one finds it due as soon as it is booked.
            let sweeper = async {
                while replicas.row().await.done.len() <= round {
                    of(round + 1).sweep().await.unwrap();
                }
            };
            let (erased, (), _) = tokio::join!(replicas.erase(of(round)), sweeper, join_all(writers));
            assert!(matches!(erased, Ok(Standing::Erased(_))));
            assert_eq!(replicas.check().await, 1 + (round + 1) * 18);
            assert_eq!(replicas.row().await.done.len(), round + 1);
        }
    }
}
