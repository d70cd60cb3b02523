//! The file of an embedded database: how it grows, and a disk without room: told as such, with nothing half-written, and over when there is room again.

use std::path::Path;
use std::process::Command;

use sammati_kernel::{ManualClock, Reason};
use sammati_testkit::Database;
use tempfile::TempDir;

use crate::world::{Count, START, World, account, open};

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
    // Far fewer pages than a commit would move by itself.
    for round in 0..20 {
        let some = (0..32).map(|n| store.apply(Count::up(account(n, round))));
        for result in futures::future::join_all(some).await {
            result.unwrap();
        }
    }
    // A file tells nobody that it has grown: it is looked at, for ten seconds at most.
    for _ in 0..1000 {
        if pages() > before + 20 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{before} pages before, {} after 640 commands and ten seconds", pages());
}
