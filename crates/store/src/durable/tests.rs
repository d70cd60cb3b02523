use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;
use std::sync::{Mutex, Weak};

use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use sammati_kernel::{Refusal, Slot};
use tokio::sync::oneshot::Receiver as Answer;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::JoinHandle;

use super::*;
use crate::command::{Command, Outcome, Pending};
use crate::gate::Gate;
use crate::heads;
use crate::keys::Keys;
use crate::lane::Lane;
use crate::readers::Readers;
use crate::shared::Invalidate;
use crate::view::{NewEvent, View};
use crate::{Location, setup};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("tests/migrations");

/// The partition that all is about.
const HERE: i64 = 1;

/// Moves the head on by one event.
struct Event;

impl Command for Event {
    type Answer = i64;
    const NAME: &'static str = "test.event";

    fn slot(&self) -> Slot {
        Slot::new(1)
    }

    fn reads(&self, _keys: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let id = view.next_event_id();
        let body = b"something".to_vec();
        Ok(view.emit(NewEvent {
            id,
            subject: Some(b"her".to_vec()),
            body,
        }))
    }
}

/// A cache that notes how many commits readers were let go on upon when it was told of a change.
struct Noting(Weak<Shared>, Mutex<Vec<u64>>);

impl Invalidate for Noting {
    fn changed(&self, _subject: &[u8]) {
        let shared = self.0.upgrade().unwrap();
        self.1.lock().unwrap().push(*shared.commits.durable.borrow());
    }

    fn clear(&self) {}
}

/// A lane whose disk does nothing until it is told to.
struct Held {
    lane: Lane,
    gate: Gate,
    shared: Arc<Shared>,
    location: Location,
    /// Lets one sync come to its end.
    release: std::sync::mpsc::Sender<()>,
    syncs: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

impl Held {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("x.db"));
        setup::prepare(&location, Some(4), MIGRATIONS).unwrap();
        let shared = Shared::in_test(location.clone());
        let (release, released) = channel();
        let (released, syncs) = (Mutex::new(released), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&syncs);
        let sync = move |log: &File| {
            counted.fetch_add(1, Ordering::SeqCst);
            // A test that failed holds nothing back.
            let _ = released.lock().unwrap().recv();
            log.sync_data()
        };
        // That of the start.
        release.send(()).unwrap();
        let mut conn = location.connect().unwrap();
        let durability = Durability::start_with(&shared, None, &mut conn, sync).unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 1, "what was left there comes first");
        Self {
            lane: Lane::on_conn(Arc::clone(&shared), durability, 100, Some(conn)),
            gate: Gate::new(100, 1 << 20),
            shared,
            location,
            release,
            syncs,
            _folder: folder,
        }
    }

    /// Runs a batch of one command.
    fn execute(&mut self) -> Answer<Result<Outcome<i64>, Refusal>> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let job = Pending {
            command: Event,
            request: None,
            seed: sammati_kernel::Seed::draw().unwrap(),
            settled: None,
            reply,
            _ticket: self.gate.admit(Slot::new(1), 1, 100).ok().unwrap(),
        };
        self.lane.execute(vec![Box::new(job)]);
        answer
    }

    /// What another connection sees of the head.
    fn seen(&self) -> i64 {
        let mut conn = self.location.connect().unwrap();
        heads::read_heads(&mut conn, &[HERE]).unwrap()[0].next
    }

    /// What this process says of the head.
    fn told(&self) -> Option<i64> {
        self.shared.head(HERE).map(|head| head.next)
    }

    /// Until the task waits for the disk, which it must.
    async fn waited_for<T>(&self, task: &JoinHandle<T>) {
        while self.shared.commits.waiting() == 0 {
            assert!(!task.is_finished(), "it did not wait");
            tokio::task::yield_now().await;
        }
    }

    async fn syncs(&self, count: usize) {
        while self.syncs.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
}

async fn position(answer: Answer<Result<Outcome<i64>, Refusal>>) -> i64 {
    match answer.await.unwrap().unwrap() {
        Outcome::Fresh(position) => position,
        Outcome::Known(_) => panic!("nobody gave a request id"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_what_is_not_on_the_disk_is_told_to_nobody_and_the_lane_goes_on() {
    let mut held = Held::new();
    let cache = Arc::new(Noting(Arc::downgrade(&held.shared), Mutex::default()));
    held.shared.add_cache(Arc::clone(&cache) as _);
    let mut first = held.execute();
    held.syncs(2).await;
    assert_eq!(
        (held.seen(), held.told()),
        (1, None),
        "it is committed, and nobody knows"
    );

    let readers = Readers::new(Arc::clone(&held.shared), 1);
    let read = tokio::spawn(async move { readers.read(false, |r| r.head(HERE)).await.unwrap().next });
    held.waited_for(&read).await;
    // The disk is at the first; two more are decided upon it.
    let (mut second, third) = (held.execute(), held.execute());
    assert_eq!((held.seen(), held.told()), (3, None));
    assert!(!read.is_finished(), "it read what can be lost");
    assert_eq!(first.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!(second.try_recv().err(), Some(TryRecvError::Empty));

    held.release.send(()).unwrap();
    assert_eq!((position(first).await, read.await.unwrap()), (0, 1));
    assert_eq!(held.told(), Some(1));
    assert_eq!(second.try_recv().err(), Some(TryRecvError::Empty));
    held.release.send(()).unwrap();
    assert_eq!((position(second).await, position(third).await), (1, 2));
    assert_eq!(
        (held.told(), held.syncs.load(Ordering::SeqCst)),
        (Some(3), 3),
        "one sync for both"
    );
    let noted = cache.1.lock().unwrap().clone();
    assert_eq!(noted, [0, 1, 1], "first the caches, then those who read");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_read_waits_for_the_commits_before_one_that_came_to_nothing_and_not_for_that() {
    let mut held = Held::new();
    let first = held.execute();
    held.syncs(2).await;
    held.shared.commits.begin();
    held.lane.gave_up();
    let seen = held.shared.commits.begun();
    let shared = Arc::clone(&held.shared);
    let waits = tokio::spawn(async move { shared.commits.durable(seen).await });
    held.waited_for(&waits).await;
    held.release.send(()).unwrap();
    waits.await.unwrap();
    assert_eq!(position(first).await, 0);
    assert_eq!(held.syncs.load(Ordering::SeqCst), 2, "nothing is synced for nothing");
}

#[test]
fn a_log_that_cannot_be_put_on_the_disk_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(folder.path().join("x.db"));
    setup::prepare(&location, Some(4), MIGRATIONS).unwrap();
    let mut conn = location.connect().unwrap();
    let shared = Shared::in_test(location);
    let fails = |_: &File| Err(io::Error::other("as asked"));
    let refused = Durability::start_with(&shared, None, &mut conn, fails).err().unwrap();
    let text = refused.to_string();
    assert!(
        text.ends_with("x.db-wal: cannot be put on the disk: as asked"),
        "{text}"
    );
}

#[test]
fn who_reads_the_file_in_another_process_puts_its_log_on_the_disk_if_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.db");
    sync_beside(&file).unwrap();
    std::fs::write(log_of(&file), b"something").unwrap();
    sync_beside(&file).unwrap();
    std::fs::remove_file(log_of(&file)).unwrap();
    // What cannot be opened is told.
    std::os::unix::fs::symlink("x.db-wal", log_of(&file)).unwrap();
    let refused = sync_beside(&file).unwrap_err().to_string();
    assert!(refused.contains("x.db-wal: cannot be put on the disk"), "{refused}");
}
