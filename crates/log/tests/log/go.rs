//! I6: roots, proofs and signed notes are those that Go's implementation makes and accepts (`golang.org/x/mod/sumdb`, that of
//! Go's checksum database), where it is installed.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sammati_log::Hash32;
use sammati_log::proof::{consistency, inclusion};
use serde_json::{Value, json};

use crate::fixture::{Log, leaf, signer};

/// Where Debian has Go's packages.
const PACKAGES: &str = "/usr/share/gocode";

/// Leaves of the tree: every pair of sizes is compared.
const SIZE: u64 = 130;

/// Whether Go and its package are here.
#[expect(clippy::disallowed_methods, reason = "a setting of the test suite itself")]
fn is_installed() -> bool {
    let has_package = Path::new(PACKAGES).join("src/golang.org/x/mod/sumdb/tlog").exists();
    let found = has_package && Command::new("go").arg("version").output().is_ok();
    if !found {
        assert!(std::env::var("CI").is_err(), "no Go found: run scripts/machine.sh");
        eprintln!("SKIPPED: no Go found; run scripts/machine.sh to run this test");
    }
    found
}

fn text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn proof(first: u64, size: u64, path: &[Hash32]) -> Value {
    let path: Vec<_> = path.iter().map(|hash| text(&hash.0)).collect();
    json!({"First": first, "Size": size, "Path": path})
}

/// All there is to compare of a log.
fn told(log: &Log) -> Value {
    let sizes = 1..=SIZE;
    let of_leaf = |size| (0..size).map(move |index| (index, size));
    let included = sizes.clone().flat_map(of_leaf);
    let grown = sizes
        .clone()
        .flat_map(|size| (1..=size).map(move |first| (first, size)));
    json!({
        "Vkey": signer().vkey(),
        "Notes": sizes.map(|size| log.note(size)).collect::<Vec<_>>(),
        "Leaves": (0..SIZE).map(|index| text(&leaf(index))).collect::<Vec<_>>(),
        "Roots": log.roots.iter().map(|root| text(&root.0)).collect::<Vec<_>>(),
        "Inclusion": included
            .map(|(index, size)| proof(index, size, &inclusion(index, size, &log.hashes).unwrap()))
            .collect::<Vec<_>>(),
        "Consistency": grown
            .map(|(first, size)| proof(first, size, &consistency(first, size, &log.hashes).unwrap()))
            .collect::<Vec<_>>(),
    })
}

fn judge(program: &Path, told: &Value) -> Output {
    let mut judge = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    judge
        .stdin
        .take()
        .unwrap()
        .write_all(told.to_string().as_bytes())
        .unwrap();
    judge.wait_with_output().unwrap()
}

#[test]
fn i6_go_makes_the_same_roots_and_proofs_and_accepts_the_notes() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("judge");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg("main.go")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/go"))
        // Nothing is fetched, and nothing is kept.
        .envs([("GO111MODULE", "off"), ("GOPATH", PACKAGES), ("GOFLAGS", "")])
        .env("GOCACHE", folder.path().join("cache"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let log = Log::of(SIZE);
    let told = told(&log);
    let said = judge(&program, &told);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    // It sees what it looks at.
    let wrong = text(&log.roots[7].0);
    for part in ["/Roots/12", "/Inclusion/20/Path/0", "/Consistency/19/Path/0"] {
        let mut told = told.clone();
        *told.pointer_mut(part).unwrap() = wrong.clone().into();
        assert!(!judge(&program, &told).status.success(), "{part}");
    }
    let mut told = told;
    told["Notes"][3] = log.note(4).replacen("\n4\n", "\n5\n", 1).into();
    assert!(!judge(&program, &told).status.success(), "a note that was changed");
}
