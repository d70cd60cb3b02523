//! The benchmarks at toy size, each part once: that they run and tell what they are to tell. Their figures mean nothing.

use std::process::Command;

/// What each part must have told, where there is no Postgres too.
const TOLD: [&str; 27] = [
    "store.insert.sqlite.grouped",
    "store.approve.sqlite.per_request",
    "rpc.bare",
    "rpc.empty",
    "consent.check.sqlite",
    "consent.batch.sqlite",
    "consent.stream.sqlite",
    "consent.explain.sqlite",
    "audit.append.batched",
    "audit.proof.2000.p99",
    "audit.disk.2000",
    "audit.disk.2000.keys",
    "audit.disk.2000.overhead",
    "audit.disk.2000.sealed",
    "audit.disk.2000.sealed.overhead",
    "consent.approve.sqlite ÷ rpc.empty",
    "consent.approve.sqlite ÷ store.approve.sqlite.grouped",
    "store.approve.sqlite.grouped ÷ rpc.empty",
    "decide.sqlite.100.stream",
    "decide.sqlite.100.revoke",
    "overload.check.sqlite.after.capacity",
    "overload.authorize.sqlite.3x.served.p99",
    "overload.authorize.sqlite.3x.bystander.served.p99",
    "growth.sqlite.2000.approve",
    "growth.sqlite.2000.disk",
    "idle.sqlite.audit.memory",
    "idle.sqlite.consent.100.checked.memory",
];

#[test]
fn every_part_runs_and_tells_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("summary.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--rounds", "1", "--time", "60", "--flood", "1"]);
    bench.args(["--rows", "500,2000", "--consents", "100", "--loaded", "100"]);
    bench.args([
        "--leaves",
        "2000",
        "--only",
        "store,lanes,rpc,audit,approve,decide,growth,idle,overload",
        "--out",
    ]);
    let ran = bench.arg(&out).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let summary: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    for name in TOLD {
        let entry = summary.iter().find(|entry| entry["name"] == name);
        let value = entry.and_then(|entry| entry["value"].as_f64());
        assert!(value.is_some(), "{name} is not told\n{said}");
    }
    // Whatever the figures: calls were answered, and nothing else came of them than an answer or a refusal that says when to
    // come back.
    for what in ["check", "authorize"] {
        let of = |name: &str| {
            let name = format!("overload.{what}.sqlite.{name}");
            summary.iter().find(|entry| entry["name"] == name).unwrap()["value"].clone()
        };
        for some in ["capacity", "3x.bystander.served"] {
            assert!(of(some).as_f64() > Some(0.0), "{what}: {some}\n{said}");
        }
        for none in ["3x.other_answers", "3x.without_retry_info"] {
            assert_eq!(of(none).as_f64(), Some(0.0), "{what}: {none}\n{said}");
        }
    }
    let goals = summary.iter().filter(|entry| entry["met"].is_boolean()).count();
    assert!(goals >= 12, "{goals} goals");
}
