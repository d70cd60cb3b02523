//! The file of an embedded database: how it grows, and a disk without room: told as such, with nothing half-written, and over when there is room again.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use sammati_kernel::{ManualClock, Reason, Refusal};
use sammati_store::{Location, Reader, Store};
use sammati_testkit::{Database, Pause, pause};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::world::{Count, Counter, START, World, account, open, open_with, options};

/// A file system of a few megabytes in memory; `None` where this process may not mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=6m", "tmpfs"], disk.0.path());
        assert!(
            mounted || !is_ci(),
            "a test of a full disk needs the right to mount a tmpfs"
        );
        if !mounted {
            eprintln!("SKIPPED: a full disk: this user may not mount a tmpfs");
        }
        mounted.then_some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["-l"], self.0.path());
    }
}

fn is_ci() -> bool {
    std::env::var_os("CI").is_some()
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let out = Command::new(program).args(arguments).arg(path).output();
    out.is_ok_and(|out| out.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_full_disk_refuses_whole_commands_and_serves_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let url = format!("sqlite:{}", disk.0.path().join("test.db").display());
    let clock = ManualClock::at(START);
    let store = open(&url, &clock);
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 5 << 20]).unwrap();
    let (mut answered, mut refused) = (0, Vec::new());
    for round in 0..1000 {
        let all = (0..64).map(|n| store.apply(Count::up(account(1, round * 64 + n))));
        let (done, not): (Vec<_>, Vec<_>) = futures::future::join_all(all)
            .await
            .into_iter()
            .partition(Result::is_ok);
        answered += done.len();
        refused.extend(not.into_iter().filter_map(Result::err));
        if refused.len() > 100 {
            break;
        }
    }
    assert!(refused.len() > 100, "the disk is larger than it should be");
    assert!(
        refused
            .iter()
            .all(|refusal| refusal.reason == Reason::StorageUnavailable),
        "{refused:?}"
    );
    // Reads go on, and see nothing of what was refused.
    let full = store.read(|r| r.head(1)).await.unwrap();
    assert_eq!(full.next, i64::try_from(answered).unwrap());
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(store.apply(Count::up(account(1, u64::MAX))).await.unwrap(), 1);
    let (head, feed) = store
        .snapshot(|r| Ok((r.head(1)?, r.feed(1, 0, i64::MAX)?)))
        .await
        .unwrap();
    assert_eq!(head.next, i64::try_from(feed.len()).unwrap());
    assert_eq!(feed.len(), answered + 1, "one event for each that was answered");
}

/// What was committed comes into the file while the store serves, without a commit that waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_is_moved_into_the_file_behind_the_commits() {
    let world = World::on(Database::sqlite());
    let store = world.replica(0);
    let file = store.path().unwrap().to_owned();
    let pages = || std::fs::metadata(&file).unwrap().len() / 4096;
    let before = pages();
    let writes = Inotify::init(InitFlags::empty()).unwrap();
    writes.add_watch(&file, AddWatchFlags::IN_MODIFY).unwrap();
    // Far fewer pages than a commit would move by itself.
    for round in 0..20 {
        let some = (0..32).map(|n| store.apply(Count::up(account(n, round))));
        for result in futures::future::join_all(some).await {
            result.unwrap();
        }
    }
    tokio::task::block_in_place(|| {
        while pages() <= before + 20 {
            let mut written = [PollFd::new(writes.as_fd(), PollFlags::POLLIN)];
            let woken = poll(&mut written, PollTimeout::from(10_000_u16)).unwrap();
            assert_eq!(
                woken,
                1,
                "{before} pages before, {} after 640 commands and ten seconds",
                pages()
            );
            writes.read_events().unwrap();
        }
    });
}

/// A file system on a device of its own, so that it can be made to fail; `None` where this process may not mount one.
struct Device {
    folder: TempDir,
    mounted: TempDir,
}

impl Device {
    fn new() -> Option<Self> {
        let device = Self {
            folder: tempfile::tempdir().unwrap(),
            mounted: tempfile::tempdir().unwrap(),
        };
        let image = std::fs::File::create(device.image()).unwrap();
        image.set_len(32 << 20).unwrap();
        let made = run("mkfs.ext4", &["-q", "-F"], &device.image()) && device.mount();
        assert!(
            made || !is_ci(),
            "a test of a read-only disk needs mkfs.ext4 and the right to mount a file"
        );
        if !made {
            eprintln!("SKIPPED: a read-only disk: this user may not mount a file, or there is no mkfs.ext4");
        }
        made.then_some(device)
    }

    fn image(&self) -> std::path::PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) -> bool {
        let image = self.image().display().to_string();
        run("mount", &["-o", "loop", &image], self.mounted.path())
    }

    /// As the kernel does at an error: nothing is written any more, not even to files that are open.
    fn fail(&self) -> bool {
        run("mount", &["-o", "remount,abort"], self.mounted.path())
    }

    fn unmount(&self) -> bool {
        run("umount", &[], self.mounted.path())
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.mounted.path().join("test.db").display())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        run("umount", &["-l"], self.mounted.path());
    }
}

/// Tells the second process of the test below which file it serves.
const SERVES: &str = "SAMMATI_TEST_SERVES";

/// The disk turns read-only under a service: what SQLite's memory then holds is not what a disk has, so the process ends,
/// with nobody told of a commit that is none; a new one refuses to start until the disk is well, and has all that was told.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_disk_that_turns_read_only_ends_the_process_and_loses_nothing_that_was_answered() {
    let Some(device) = Device::new() else { return };
    let mut serving = serve_in_another_process(&device.url());
    let mut orders = serving.stdin.take().unwrap();
    let mut told = BufReader::new(serving.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    // One after another: a kernel that gives a disk up may say of a flush that is on its way that it was done.
    for n in 0..200 {
        writeln!(orders, "{n}").unwrap();
        assert!(told.any(|line| line.ends_with("answered")), "it ended after {n}");
    }
    assert!(device.fail(), "the disk cannot be made to fail");
    writeln!(orders, "200").unwrap();
    drop(orders);
    // Whoever waited then is told that nothing was stored, or loses the connection, which he is told in the same way.
    let last: Vec<_> = told.filter(|line| line.starts_with("200 ")).collect();
    assert!(
        last.iter().all(|line| line.contains("StorageUnavailable")),
        "it answers without a disk: {last:?}"
    );
    assert!(!serving.wait().unwrap().success(), "it goes on without a disk");
    let clock = ManualClock::at(START);
    let options = || options(Location::parse(&device.url()).unwrap());
    let refused = open_with(&options(), &clock).map(drop).unwrap_err().to_string();
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert!(device.unmount() && device.mount(), "the disk cannot be made well");
    let store = open_with(&options(), &clock).unwrap();
    let (head, feed) = store
        .snapshot(|r| Ok((r.head(1)?, r.feed(1, 0, i64::MAX)?)))
        .await
        .unwrap();
    assert_eq!(
        (head.next, feed.len()),
        (200, 200),
        "one event for each that was answered"
    );
    assert_eq!(store.apply(Count::up(account(1, u64::MAX))).await.unwrap(), 1);
}

fn serve_in_another_process(url: &str) -> Child {
    let me = std::env::current_exe().unwrap();
    let mut serving = Command::new(me);
    serving.args(["--exact", "--nocapture", "disk::serves_until_the_disk_fails"]);
    serving.env(SERVES, url).stdin(Stdio::piped());
    serving.stdout(Stdio::piped()).stderr(Stdio::null());
    serving.spawn().unwrap()
}

/// Not a test of its own: what the second process of the test above does.
#[tokio::test(flavor = "multi_thread")]
async fn serves_until_the_disk_fails() {
    let Some(url) = std::env::var_os(SERVES) else { return };
    let store = open(url.to_str().unwrap(), &ManualClock::at(START));
    for order in std::io::stdin().lines() {
        let n = order.unwrap().parse().unwrap();
        match store.apply(Count::up(account(1, n))).await {
            Ok(_) => println!("{n} answered"),
            Err(refusal) => println!("{n} {refusal:?}"),
        }
    }
}

/// A read that is open until it is ended.
struct Reading {
    pause: Pause,
    task: JoinHandle<()>,
}

impl Reading {
    fn begin(store: &Store) -> Self {
        let ((pause, paused), store) = (pause(), store.clone());
        let task = tokio::spawn(async move {
            let read = move |r: &mut Reader<'_>| r.head(1).map(|_| paused.here());
            store.snapshot(read).await.unwrap();
        });
        tokio::task::block_in_place(|| pause.until_reached());
        Self { pause, task }
    }

    async fn end(self) {
        drop(self.pause);
        self.task.await.unwrap();
    }
}

/// Whoever looks again and again does not stand in the readers' way each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_read_all_the_time_is_emptied_later() {
    let clock = ManualClock::at(START);
    let database = Database::sqlite();
    let store = open(&database.url, &clock);
    store.apply(Count::up(account(1, 1))).await.unwrap();
    let reader = Reading::begin(&store);
    let away = |result: Result<(), Refusal>| result.unwrap_err().reason == Reason::StorageUnavailable;
    assert!(away(store.try_scrub().await));
    reader.end().await;
    assert!(away(store.try_scrub().await), "not at once");
    clock.advance(Duration::from_secs(30));
    store.try_scrub().await.unwrap();
    store.try_scrub().await.unwrap();
}

/// What is to be nowhere is not forgotten because somebody was in the way once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_overwritten_leaves_the_log_once_nobody_reads_it() {
    let clock = ManualClock::at(START);
    let database = Database::sqlite();
    let store = open(&database.url, &clock);
    let log = format!("{}-wal", database.url.strip_prefix("sqlite:").unwrap());
    let in_log = || std::fs::metadata(&log).unwrap().len();
    assert!(store.clear_remains().await, "there is nothing to clear");
    store.apply(Count::up(account(1, 1))).await.unwrap();
    let reader = Reading::begin(&store);
    store.leaves_remains::<Counter>();
    assert!(!store.clear_remains().await);
    reader.end().await;
    assert!(store.clear_remains().await, "it is not tried again at once");
    assert!(in_log() > 0);
    clock.advance(Duration::from_secs(30));
    assert!(store.clear_remains().await);
    assert_eq!(in_log(), 0);
}
