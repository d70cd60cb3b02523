//! The verifier on whole logs: a folder of tile paths, and a server of one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sammati_log::entries::{all, encode};
use sammati_log::tile::{Tile, changed};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{code, said, saved, verify};
use crate::fixture::{Log, leaf, signer};
use crate::subject::People;
use crate::witness::{TIME, cosigner, witness};

/// The first `size` leaves of `log` as static files.
fn mirror(log: &Log, size: u64) -> TempDir {
    mirror_of(log, size, leaf)
}

/// The same, of a log with these leaves.
fn mirror_of(log: &Log, size: u64, leaf: impl Fn(u64) -> Vec<u8>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |path: String, bytes: Vec<u8>| {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    };
    for id in all(size) {
        put(id.path(), encode(id.leaves().map(&leaf)).unwrap());
    }
    for id in changed(0, size).unwrap() {
        let first = id.index() * 256;
        let hashes = (first..first + u64::from(id.width())).map(|at| log.hashes[&(8 * id.level(), at)]);
        let tile = Tile::new(id.level(), id.index(), hashes.collect()).unwrap();
        put(id.path(), tile.encode());
    }
    put("checkpoint".to_owned(), log.note(size).into_bytes());
    folder
}

/// Runs the verifier with the log's key.
fn run(command: &str, rest: &[&str]) -> (i32, String) {
    let vkey = signer().vkey();
    let output = verify(&[&[command, "--vkey", &vkey], rest].concat(), b"");
    (code(&output), said(&output))
}

fn path(folder: &TempDir) -> &str {
    folder.path().to_str().unwrap()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push(entry);
        }
    }
    found.sort();
    found
}

#[test]
fn a_whole_log_is_checked_to_the_last_byte() {
    let log = Log::of(600);
    let folder = mirror(&log, 600);
    let (status, text) = run("archive", &[path(&folder)]);
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("verified: all leaves and 4 tiles make log "), "{text}");
    for file in files(folder.path()) {
        let bytes = fs::read(&file).unwrap();
        let step = (bytes.len() / 5).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&file, changed).unwrap();
            let (status, text) = run("archive", &[path(&folder)]);
            // A checkpoint that is none any more cannot be checked; everything else is refuted.
            let is_note = file.ends_with("checkpoint");
            assert!(
                status == 1 || (is_note && status == 3),
                "{}: {status} {text}",
                file.display()
            );
        }
        fs::remove_file(&file).unwrap();
        let (status, text) = run("archive", &[path(&folder)]);
        assert_eq!(status, 3, "without {}: {text}", file.display());
        fs::write(&file, bytes).unwrap();
    }
    assert_eq!(run("archive", &[path(&folder)]).0, 0);
}

/// A log that has grown serves only the full bundle and tile where there was a partial one.
#[test]
fn a_full_bundle_stands_for_a_partial_one() {
    let log = Log::of(768);
    let folder = mirror(&log, 600);
    let grown = mirror(&log, 768);
    for partial in ["tile/entries/002.p/88", "tile/0/002.p/88"] {
        fs::remove_dir_all(folder.path().join(partial).parent().unwrap()).unwrap();
        let full = partial.trim_end_matches(".p/88");
        fs::copy(grown.path().join(full), folder.path().join(full)).unwrap();
    }
    let (status, text) = run("archive", &[path(&folder)]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("at 600 leaves"), "{text}");
}

/// A log that gives one place of a subject twice cannot do it before who reads it whole.
#[test]
fn a1_a_forked_chain_is_refuted() {
    for (status, places) in [
        (0, &[(1, None), (2, Some(0)), (3, Some(1))][..]),
        (1, &[(1, None), (2, Some(0)), (2, Some(0))]),
    ] {
        let people = People::linked(places);
        let folder = mirror_of(&people.log, 3, |index| people.leaves[index as usize].clone());
        let (found, text) = run("archive", &[path(&folder)]);
        assert_eq!(found, status, "{text}");
        assert_eq!(
            text.contains("event 3 of the subject: leaf 2 does not follow"),
            status == 1,
            "{text}"
        );
    }
}

#[test]
fn tiles_prove_what_a_proof_would() {
    let log = Log::of(600);
    let folder = mirror(&log, 600);
    let work = tempfile::tempdir().unwrap();
    let (own, old) = (saved(&work, "leaf", leaf(555)), saved(&work, "old", log.note(300)));
    let prove = |index: &str| run("inclusion", &["--leaf", &own, "--log", path(&folder), "--index", index]);
    let (status, text) = prove("555");
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("verified: the leaf is number 555 of log "), "{text}");
    assert_eq!(prove("554").0, 1);
    let (status, text) = prove("600");
    assert_eq!((status, text.contains("and it has 600")), (3, true), "{text}");
    // The log was set back, or what is served is old.
    let late = saved(&work, "late", Log::of(700).note(700));
    let (status, text) = run("consistency", &["--old", &late, "--log", path(&folder)]);
    assert_eq!((status, text.contains("older than what was kept")), (3, true), "{text}");
    let (status, text) = run("consistency", &["--old", &old, "--log", path(&folder)]);
    assert_eq!(status, 0, "{text}");
    assert!(
        text.starts_with("verified: the first 300 leaves are unchanged in log "),
        "{text}"
    );
    let new = saved(&work, "new", log.note(500));
    let (status, text) = run("consistency", &["--old", &old, "--new", &new, "--log", path(&folder)]);
    assert_eq!(
        status, 3,
        "its partial tile of 500 leaves is not there, nor a full one: {text}"
    );
    let early = saved(&work, "early", log.note(299));
    assert_eq!(run("consistency", &["--old", &early, "--log", path(&folder)]).0, 0);
    let other = saved(&work, "other", Log::of(299).note(0));
    assert_eq!(
        run("consistency", &["--old", &other, "--log", path(&folder)]).0,
        0,
        "nothing is the beginning of all"
    );
    assert_eq!(run("checkpoint", &["--log", path(&folder)]).0, 0);
    assert_eq!(run("archive", &["/no/such/folder"]).0, 3);
    assert_eq!(run("archive", &["https://log.example"]).0, 2);
}

#[test]
fn a_monitor_shouts_when_history_changes() {
    let log = Log::of(700);
    let work = tempfile::tempdir().unwrap();
    let state = work.path().join("state").to_str().unwrap().to_owned();
    let look = |folder: &TempDir| run("watch", &[path(folder), "--state", &state, "--once"]);
    let (small, large) = (mirror(&log, 300), mirror(&log, 600));
    let (status, text) = look(&small);
    assert_eq!((status, text.contains("first look")), (0, true), "{text}");
    assert_eq!(look(&small).0, 0, "nothing new");
    let (status, text) = look(&large);
    assert_eq!(
        (status, text.contains("the first 300 leaves are unchanged")),
        (0, true),
        "{text}"
    );
    assert_eq!(fs::read_to_string(&state).unwrap(), log.note(600));
    // Older than what it has: no proof of anything, and the newer one stays.
    let (status, text) = look(&small);
    assert_eq!((status, text.contains("older than what was kept")), (3, true), "{text}");
    assert_eq!(fs::read_to_string(&state).unwrap(), log.note(600));
    // The same key signs another history: leaves are other ones from number 1 on.
    let mut other = Log::of(1);
    for index in 1..700 {
        let completed = other.edge.append(sammati_log::hash::leaf_hash(&leaf(index + 1)));
        other
            .hashes
            .extend(completed.into_iter().map(|(level, at, hash)| ((level, at), hash)));
        other.roots.push(other.edge.root());
    }
    // What nobody signed convicts nobody, be it the tiles or the checkpoint.
    let conflict = format!("{state}.conflict");
    let bent = mirror(&log, 700);
    let file = bent.path().join("tile/0/002.p/188");
    let good = fs::read(&file).unwrap();
    // One that the older tree has too, and one that only the newer has.
    for at in [32 * 10, 32 * 100] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        for bytes in [&bytes[..], &bytes[1..]] {
            fs::write(&file, bytes).unwrap();
            let (status, text) = look(&bent);
            assert_eq!(status, 3, "{at}: {text}");
        }
    }
    fs::write(
        bent.path().join("checkpoint"),
        log.note(650).replace("\n650\n", "\n651\n"),
    )
    .unwrap();
    assert_eq!(look(&bent).0, 3);
    assert!(!fs::exists(&conflict).unwrap());
    assert_eq!(fs::read_to_string(&state).unwrap(), log.note(600));
    for size in [600, 650] {
        let (status, text) = look(&mirror(&other, size));
        assert_eq!(status, 1, "{text}");
        let conflict = fs::read_to_string(&conflict).unwrap();
        assert_eq!(
            conflict,
            format!("{}\n{}", log.note(600), other.note(size)),
            "what convicts the log"
        );
    }
    assert_eq!(fs::read_to_string(&state).unwrap(), log.note(600));
    // Also where what was kept is one whole subtree, whose root stands in no proof.
    fs::write(&state, log.note(512)).unwrap();
    assert_eq!(look(&mirror(&other, 650)).0, 1);
    assert_eq!(look(&mirror(&log, 650)).0, 0);
}

/// What was kept and is lost is said, and not begun anew.
#[test]
fn a_monitor_looks_first_once() {
    let log = Log::of(300);
    let (folder, work) = (mirror(&log, 300), tempfile::tempdir().unwrap());
    let state = work.path().join("state");
    let mut child = Command::new(env!("CARGO_BIN_EXE_sammati-verify"))
        .args([
            "watch",
            "--vkey",
            &signer().vkey(),
            path(&folder),
            "--every",
            "1",
            "--state",
        ])
        .arg(&state)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("first look"), "{line}");
    fs::remove_file(&state).unwrap();
    line.clear();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        line.starts_with("cannot be checked: ") && line.contains("state"),
        "{line}"
    );
    assert!(!state.exists());
}

#[test]
fn cosignatures_are_asked_for() {
    let log = Log::of(7);
    let work = tempfile::tempdir().unwrap();
    let (note, text) = (
        log.note(7),
        format!("log.example/sammati/vectors\n7\n{}\n", log.roots[7]),
    );
    let cosigned = saved(&work, "note", format!("{note}{}", witness().cosign(&text, TIME)));
    let (one, two) = (
        witness().witness().vkey(),
        cosigner("w.example/2", &[3; 32]).witness().vkey(),
    );
    assert_eq!(run("checkpoint", &["--witness", &one, &cosigned]).0, 0);
    let (status, said) = run("checkpoint", &["--witness", &one, "--witness", &two, &cosigned]);
    assert_eq!(status, 1);
    assert!(
        said.contains("1 of the 2 witnesses cosigned it, and 2 are required"),
        "{said}"
    );
    let both = ["--witness", &one, "--witness", &two, "--cosignatures", "1", &cosigned];
    assert_eq!(run("checkpoint", &both).0, 0);
    assert_eq!(
        run("checkpoint", &["--witness", &one, "--cosignatures", "2", &cosigned]).0,
        2
    );
    let wrong = saved(
        &work,
        "wrong",
        format!("{note}{}", witness().cosign(&text.replace("7", "8"), TIME)),
    );
    assert_eq!(run("checkpoint", &["--witness", &one, &wrong]).0, 1);
    // A proof bundle brings its checkpoint's cosignatures.
    let mut bundle = log.bundle(3, 7);
    bundle.checkpoint_note.push_str(&witness().cosign(&text, TIME));
    let (leaf, bundle) = (
        saved(&work, "leaf", leaf(3)),
        saved(&work, "b.tlog-proof", bundle.to_string()),
    );
    assert_eq!(run("bundle", &["--witness", &one, "--leaf", &leaf, &bundle]).0, 0);
    assert_eq!(run("bundle", &["--witness", &two, "--leaf", &leaf, &bundle]).0, 1);
}

/// A server that knows no more of HTTP than it must.
fn serve(folder: &TempDir) -> String {
    let (listener, root) = (TcpListener::bind("127.0.0.1:0").unwrap(), folder.path().to_owned());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            let mut rest = String::from("-");
            while rest.trim() != "" {
                rest.clear();
                reader.read_line(&mut rest).unwrap();
            }
            let path = line.split(' ').nth(1).unwrap().strip_prefix("/some/log/");
            let answer = match path.map(|path| fs::read(root.join(path))) {
                Some(Ok(bytes)) => {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
                    [head.into_bytes(), bytes].concat()
                }
                Some(Err(_)) => b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(),
                None => b"HTTP/1.1 500 Oops\r\n\r\n".to_vec(),
            };
            socket.write_all(&answer).unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn a_server_is_checked_as_a_folder_is() {
    let log = Log::of(600);
    let folder = mirror(&log, 600);
    let url = serve(&folder);
    let at = format!("{url}/some/log/");
    let (status, text) = run("archive", &["--json", &at]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &answer["verified"], &answer["checkpoint"]["size"]),
        (0, &true.into(), &600.into())
    );
    assert_eq!(run("archive", &[&url]).0, 3, "an error of the server");
    fs::write(folder.path().join("tile/0/000"), [0; 8192]).unwrap();
    assert_eq!(run("archive", &[&at]).0, 1);
    fs::remove_file(folder.path().join("tile/0/000")).unwrap();
    assert_eq!(run("archive", &[&at]).0, 3);
    assert_eq!(run("archive", &["http://127.0.0.1:1/log"]).0, 3, "nobody there");
}
