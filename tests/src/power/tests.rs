//! Records as strace writes them, and one of a real program.

use std::fmt::Write;
use std::path::Path;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\x{byte:02x}");
        text
    })
}

/// A folder with one file `a.db` of `before`, and what is in it after a cut once `lines` were recorded. In them `{f}` is
/// the file by its handle, `{n}` a new file's name, `{d}` the folder by its handle.
fn after(before: &[u8], lines: &str, rest: Rest) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().canonicalize()?;
    let (file, new) = (root.join("a.db"), root.join("a.db-wal"));
    std::fs::write(&file, before)?;
    let at = |path: &Path| hex(path.to_string_lossy().as_bytes());
    let record = tempfile::NamedTempFile::new()?.into_temp_path();
    let power = Power::on(&root, &record)?;
    // What the living see is not what is on the disk.
    std::fs::write(&file, "as the process left it")?;
    std::fs::write(root.join("a.db-shm"), "shared")?;
    let text = lines
        .replace("{f}", &format!("3<{}>", at(&file)))
        .replace("{w}", &format!("4<{}>", at(&new)))
        .replace("{n}", &format!("\"{}\"", at(&new)))
        .replace("{d}", &format!("5<{}>", at(&root)));
    std::fs::write(&record, text)?;
    power.cut(rest)?;
    let mut left = BTreeMap::new();
    for entry in std::fs::read_dir(&root)? {
        let entry = entry?;
        left.insert(
            entry.file_name().to_string_lossy().into_owned(),
            std::fs::read(entry.path())?,
        );
    }
    Ok(left)
}

fn only(content: &[u8]) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([("a.db".to_owned(), content.to_vec())])
}

const WRITE: &str = "7 pwrite64({f}, \"\\x58\\x59\", 2, 1) = 2\n";
const SYNC: &str = "7 fdatasync({f}) = 0\n";

#[test]
fn what_a_sync_covered_is_there_and_nothing_else() {
    let cut = |lines: &str| after(b"abcd", lines, Rest::Gone).unwrap();
    assert_eq!(cut(WRITE), only(b"abcd"));
    assert_eq!(cut(&format!("{WRITE}{SYNC}")), only(b"aXYd"));
    assert_eq!(cut(&format!("{SYNC}{WRITE}")), only(b"abcd"));
    assert_eq!(cut(&format!("{WRITE}{SYNC}7 ftruncate({{f}}, 0) = 0\n")), only(b"aXYd"));
    assert_eq!(cut(&format!("7 ftruncate({{f}}, 2) = 0\n{SYNC}")), only(b"ab"));
    let seek = "7 lseek({f}, 2, SEEK_SET) = 2\n7 write({f}, \"\\x5a\", 1) = 1\n";
    assert_eq!(cut(&format!("{seek}{SYNC}")), only(b"abZd"));
}

#[test]
fn a_sync_that_failed_or_was_pretended_or_did_not_return_covers_nothing() {
    let cut = |lines: &str| after(b"abcd", &format!("{WRITE}{lines}"), Rest::Gone).unwrap();
    assert_eq!(
        cut("7 fdatasync({f}) = -1 EIO (Input/output error) (INJECTED)\n"),
        only(b"abcd")
    );
    assert_eq!(cut("7 fdatasync({f}) = 0 (INJECTED)\n"), only(b"abcd"));
    assert_eq!(
        cut("7 fdatasync({f} <unfinished ...>\n7 +++ killed by SIGKILL +++\n"),
        only(b"abcd")
    );
    assert_eq!(
        cut("7 fdatasync({f}) = ?\n7 +++ killed by SIGKILL +++\n"),
        only(b"abcd")
    );
}

#[test]
fn a_sync_covers_what_had_returned_before_it_began() {
    let other = "8 pwrite64({f}, \"\\x5a\", 1, 0) = 1\n";
    let lines = format!("{WRITE}7 fdatasync({{f}} <unfinished ...>\n{other}7 <... fdatasync resumed>) = 0\n");
    assert_eq!(after(b"abcd", &lines, Rest::Gone).unwrap(), only(b"aXYd"));
    let begun = "8 pwrite64({f}, \"\\x5a\", 1, 0 <unfinished ...>\n";
    let lines = format!("{begun}{SYNC}8 <... pwrite64 resumed>) = 1\n");
    assert_eq!(after(b"abcd", &lines, Rest::Gone).unwrap(), only(b"abcd"));
}

#[test]
fn a_new_file_is_there_once_its_folder_was_synced() {
    let made = "7 openat(AT_FDCWD<\\x2f>, {n}, O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 4<\\x2f>\n\
                7 pwrite64({w}, \"\\x58\", 1, 0) = 1\n7 fdatasync({w}) = 0\n";
    assert_eq!(after(b"a", made, Rest::Gone).unwrap(), only(b"a"));
    let mut both = only(b"a");
    both.insert("a.db-wal".into(), b"X".to_vec());
    let named = format!("{made}7 fdatasync({{d}}) = 0\n");
    assert_eq!(after(b"a", &named, Rest::Gone).unwrap(), both);
    let removed = format!("{named}7 unlink({{n}}) = 0\n");
    assert_eq!(after(b"a", &removed, Rest::Gone).unwrap(), both);
    let gone = format!("{removed}7 fdatasync({{d}}) = 0\n");
    assert_eq!(after(b"a", &gone, Rest::Gone).unwrap(), only(b"a"));
}

#[test]
fn a_torn_rest_is_some_of_the_writes() {
    let lines = WRITE.to_owned() + "7 pwrite64({f}, \"\\x5a\", 1, 3) = 1\n";
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..40 {
        let rest = Rest::Torn(sammati_kernel::Seed::from_bytes([n; 32]));
        seen.insert(after(b"abcd", &lines, rest).unwrap().remove("a.db").unwrap());
    }
    let all = ["abcd", "aXYd", "abcZ", "aXYZ"].map(|text| text.as_bytes().to_vec());
    assert_eq!(seen, all.into());
}

#[test]
fn what_is_not_modelled_is_refused() {
    for line in [
        "7 fallocate({f}, 0, 0, 100) = 0",
        "7 rename({n}, {n}) = 0",
        "7 write({f}, \"\\x5a\", 1) = 1",
        "7 what",
    ] {
        let text = format!("{line}\n{SYNC}");
        assert!(after(b"abcd", &text, Rest::Gone).is_err(), "{line}");
    }
    let half = "7 pwrite64({f}, \"\\x58\"..., 2, 1) = 2\n";
    assert!(after(b"abcd", &format!("{half}{SYNC}"), Rest::Gone).is_err());
}

#[tokio::test]
async fn a_real_program_loses_what_it_did_not_sync() {
    if let Some(why) = unavailable() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    for (then, kept) in [("&& sync -d", "o"), ("&& true", "old")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("a.db");
        std::fs::write(&file, "old").unwrap();
        let record = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let power = Power::on(folder.path(), &record).unwrap();
        let mut shell = power.record(Path::new("sh"), Syncs::Whole);
        shell.args(["-c", &format!("truncate -s 1 {0} {then} {0}", file.display())]);
        let mut child = shell.spawn().unwrap();
        let shell_id = child.id().unwrap().to_string();
        assert!(child.wait().await.unwrap().success());
        // strace ends after what it traced.
        for _ in 0..2000 {
            let text = std::fs::read_to_string(&record).unwrap_or_default();
            if text
                .lines()
                .last()
                .is_some_and(|line| line.starts_with(&shell_id) && line.contains("+++ exited"))
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "o");
        power.cut(Rest::Gone).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), kept, "{then}");
    }
}
