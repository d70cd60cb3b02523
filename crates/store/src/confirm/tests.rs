use std::thread::JoinHandle;

use diesel_migrations::EmbeddedMigrations;
use sammati_kernel::{Key, ManualClock};
use sammati_testkit::Database;

use super::*;
use crate::dial::Dial;
use crate::{Location, Partitions, setup};

fn worker(url: &str) -> Worker {
    let shared = Shared::new(
        Dial::new(Location::parse(url).unwrap()),
        Arc::new(ManualClock::at(Micros::from_seconds(1))),
        Partitions::new(4).unwrap(),
        Key::from_bytes([1; 32]),
        None,
    );
    let wanted = Wanted {
        asynchronous: false,
        confirm_by_write: false,
    };
    Worker::new(Arc::new(shared), wanted, None, Arc::default())
}

#[test]
fn a_connection_that_is_not_at_fault_is_kept() {
    let mut worker = worker("sqlite::memory:");
    let error = worker.ask().unwrap_err();
    assert!(!error.lost_connection(), "{error}");
    assert!(worker.conn.is_some(), "it has no heads, and is as good as before");
}

type Answer = oneshot::Receiver<Result<(), Refusal>>;

fn ask(asking: &Asking, count: usize) -> Vec<Answer> {
    let ask = |_| {
        let (sender, answer) = oneshot::channel();
        asking.ask(sender).unwrap();
        answer
    };
    (0..count).map(ask).collect()
}

fn told(answers: Vec<Answer>) {
    for answer in answers {
        answer.blocking_recv().unwrap().unwrap();
    }
}

/// As [`rest`], but for the time: until as many wait, however long that is.
fn ever(told: usize, took: Duration) -> Rest {
    match rest(told, took) {
        Rest::NONE => Rest::NONE,
        rest => Rest {
            at_most: Duration::from_secs(3600),
            ..rest
        },
    }
}

/// A worker that confirms for whoever asks, with this rest, until that end is dropped. Three who asked at once were told.
fn confirming(url: &str, rest: fn(usize, Duration) -> Rest) -> (Asking, crate::stats::Stats, JoinHandle<()>) {
    let location = Location::parse(url).unwrap();
    setup::prepare(&location, Some(4), EmbeddedMigrations::new(&[])).unwrap();
    let mut worker = worker(url);
    worker.rest = rest;
    let stats = worker.shared.stats.clone();
    let (asking, waiting) = waiting::waiting();
    let three = ask(&asking, 3);
    let thread = std::thread::spawn(move || worker.run(&waiting));
    told(three);
    (asking, stats, thread)
}

#[test]
fn the_next_begins_when_as_many_wait_as_shared_the_last() {
    let Some(database) = Database::postgres() else { return };
    let (asking, stats, thread) = confirming(&database.url, ever);
    let shared = || (stats.confirmations.get(), stats.confirmed.get());
    let mut two = ask(&asking, 2);
    assert!(two.iter_mut().all(|answer| answer.try_recv().is_err()), "it rests");
    assert_eq!(shared(), (1, 3));
    two.append(&mut ask(&asking, 1));
    told(two);
    assert_eq!(shared(), (2, 6), "the third wakes it");
    drop(asking);
    thread.join().unwrap();
}

#[test]
fn who_asks_alone_is_told_at_once_and_after_its_rest_it_waits_for_nobody() {
    let Some(database) = Database::postgres() else { return };
    let short = |told, took| Rest {
        at_most: Duration::from_micros(1),
        ..rest(told, took)
    };
    let (asking, stats, thread) = confirming(&database.url, short);
    // One of the three comes no more.
    for n in 1..=5 {
        told(ask(&asking, 1));
        assert_eq!((stats.confirmations.get(), stats.confirmed.get()), (1 + n, 3 + n));
    }
    drop(asking);
    thread.join().unwrap();
}

#[test]
fn who_does_not_wait_for_an_answer_does_not_share() {
    let Some(database) = Database::postgres() else { return };
    let (asking, stats, thread) = confirming(&database.url, ever);
    // As many as the last were, and two of them gone.
    drop(ask(&asking, 2));
    told(ask(&asking, 1));
    assert_eq!((stats.confirmations.get(), stats.confirmed.get()), (2, 4));
    told(ask(&asking, 1));
    drop(asking);
    thread.join().unwrap();
}

#[test]
fn it_ends_with_the_last_who_could_ask_and_tells_all_who_did() {
    let (asking, waiting) = waiting::waiting();
    let answers = ask(&asking, 2);
    drop(asking);
    let long = Rest {
        until: 3,
        at_most: Duration::from_secs(3600),
    };
    assert_eq!(
        waiting.take(long).map(|waiters| waiters.len()),
        Some(2),
        "nobody else can come"
    );
    assert!(waiting.take(Rest::NONE).is_none());
    drop(answers);
}

#[test]
fn who_waits_for_a_thread_that_is_gone_is_told_so() {
    let (asking, waiting) = waiting::waiting();
    let mut answer = ask(&asking, 1).pop().unwrap();
    drop(waiting);
    let told = answer.try_recv();
    assert_eq!(told, Err(oneshot::error::TryRecvError::Closed), "its place is given up");
    let (sender, _) = oneshot::channel();
    assert_eq!(asking.ask(sender).unwrap_err().reason, Reason::StorageUnavailable);
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let (asking, waiting) = waiting::waiting();
    let answers = ask(&asking, waiting::MOST);
    let (sender, _) = oneshot::channel();
    assert_eq!(asking.ask(sender).unwrap_err().reason, Reason::Overloaded);
    assert_eq!(
        waiting.take(Rest::NONE).map(|waiters| waiters.len()),
        Some(answers.len())
    );
    drop(ask(&asking, 1));
}

/// How many confirmations and checks there are in a second, in microseconds: each of `callers` asks again `away` after it
/// was told and had its turn of `busy` on processors that all of them, and the confirmations, share.
fn in_a_second(callers: usize, [away, busy, took]: [u64; 3], rest: fn(usize, Duration) -> Rest) -> [usize; 2] {
    let (mut now, mut free, mut asks) = (0, 0, vec![0; callers]);
    let (mut confirmations, mut checks, mut pause) = (0, 0, Rest::NONE);
    while now < 1_000_000 {
        asks.sort_unstable();
        let over = now + u64::try_from(pause.at_most.as_micros()).unwrap();
        // As many have asked, or the rest is over, and one has.
        now = now.max(asks[pause.until - 1].min(over)).max(asks[0]);
        let told: Vec<_> = asks.iter_mut().filter(|asks| **asks <= now).collect();
        let count = told.len();
        (confirmations, checks) = (confirmations + 1, checks + count);
        free = free.max(now) + took;
        now += took;
        for asks in told {
            free = free.max(now) + busy;
            *asks = free + away;
        }
        pause = rest(count, Duration::from_micros(took));
    }
    [confirmations, checks]
}

#[test]
fn many_who_ask_again_and_again_share_few_confirmations_and_few_who_do_have_each_as_before() {
    let restless = |_, _| Rest::NONE;
    // They keep the processors busy.
    let busy = [0, 50, 200];
    let (before, now) = (in_a_second(32, busy, restless), in_a_second(32, busy, rest));
    assert!(now[0] * 4 < before[0], "{now:?} instead of {before:?}");
    assert!(now[1] > before[1] * 2, "{now:?} instead of {before:?}");
    // They are far from keeping them busy.
    let idle = [250, 0, 100];
    for callers in [1, 2, 8] {
        assert_eq!(in_a_second(callers, idle, rest), in_a_second(callers, idle, restless));
    }
    assert_eq!(
        rest(100, Duration::from_secs(5)).at_most,
        LONGEST_REST,
        "a server that hangs is not waited for twice"
    );
}
