//! `sammati-verify` reads what the verb `archive` wrote, and finds a change in each kind of file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sammati_audit::archive::archive;

use crate::fixture::{everywhere, some_event};

/// The verifier, beside the test: no code of the log's is in it but `sammati-log`.
pub(crate) fn verifier() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap();
    let path = folder.join("sammati-verify");
    assert!(
        path.exists(),
        "{} is not built; run: cargo build --workspace --bins",
        path.display()
    );
    path
}

/// The verdict on a folder, with the key that stands in it.
fn judge(folder: &Path) -> (Option<i32>, String) {
    let vkey = String::from_utf8_lossy(&fs::read(folder.join("vkeys")).unwrap()).into_owned();
    let mut command = Command::new(verifier());
    command
        .args(["archive", "--vkey", vkey.trim()])
        .arg(folder)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_the_verifier_reads_an_archive_and_finds_every_change() {
    for audit in everywhere().await {
        for _ in 0..3 {
            let events = (0..200).map(|n| some_event(n % 7));
            audit.append_unsigned(events.collect()).await.unwrap();
        }
        audit.log.newest().await.unwrap();
        let work = tempfile::tempdir().unwrap();
        let (location, folder) = (audit.location(), work.path().join("log"));
        let into = folder.clone();
        tokio::task::spawn_blocking(move || archive(&location, &into))
            .await
            .unwrap()
            .unwrap();

        let (code, said) = judge(&folder);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.starts_with("verified: all leaves and 4 tiles make log sammati.test/audit/"),
            "{said}"
        );
        // Full and partial bundles and tiles of both levels, what was signed, and the key.
        let files = [
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.p/88",
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/88",
            "tile/1/000.p/2",
            "checkpoint",
            "vkeys",
        ];
        for file in files {
            let path = folder.join(file);
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            for at in [0, bytes.len() / 2, bytes.len() - 2] {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                fs::write(&path, changed).unwrap();
                let (code, said) = judge(&folder);
                // Of what is no note or no key any more there is nothing to refute.
                let is_text = !file.starts_with("tile");
                assert!(
                    code == Some(1) || (is_text && matches!(code, Some(2 | 3))),
                    "{file} {at}: {code:?} {said}"
                );
            }
            fs::remove_file(&path).unwrap();
            if file != "vkeys" {
                assert_eq!(judge(&folder).0, Some(3), "without {file}");
            }
            fs::write(&path, bytes).unwrap();
        }
        assert_eq!(judge(&folder).0, Some(0), "as it was");
    }
}
