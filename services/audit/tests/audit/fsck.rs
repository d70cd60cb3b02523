//! fsck makes the log again from its leaves, and finds what was changed beside the service.

use diesel::connection::SimpleConnection;
use sammati_audit::fsck;
use sammati_audit::rows::{MIGRATIONS, log_tables};
use sammati_store::verbs::{self, Disagreement};
use sammati_store::{AnyConn, Location, on_conn};

use crate::fixture::{everywhere, some_event};

pub(crate) fn check(location: &Location) -> Vec<String> {
    let mut found = Vec::new();
    let tell = &mut |one: &Disagreement| found.push(one.to_string());
    verbs::fsck(location, &MIGRATIONS, &log_tables(), Some(fsck::log), tell).unwrap();
    found
}

pub(crate) fn execute(location: &Location, sql: &str) {
    let mut conn = location.connect().unwrap();
    let literal = if matches!(conn, AnyConn::Pg(_)) { r"'\x" } else { "X'" };
    let sql = sql.replace('{', literal).replace('}', "'");
    on_conn!(&mut conn, |c| c.batch_execute(&sql)).unwrap();
}

/// More than a full tile, signed at several sizes.
#[tokio::test(flavor = "multi_thread")]
async fn a2_fsck_finds_a_leaf_a_tile_or_a_checkpoint_that_was_changed() {
    for audit in everywhere().await {
        for _ in 0..3 {
            audit
                .append((0..100).map(|n| some_event(n % 7)).collect())
                .await
                .unwrap();
            audit.log.newest().await.unwrap();
        }
        let location = audit.location();
        let damages = [
            // Two rows change places: each is well in itself.
            (
                "leaf",
                "00000000000000ff",
                "00000000000000fe",
                vec![
                    "its body says that its key is",
                    "tile 0 of level 0: its hashes",
                    "checkpoint 300: SIGNED",
                ],
            ),
            (
                "checkpoint",
                "0000000000000064",
                "00000000000000c8",
                vec!["checkpoint 0000000000000064: its body says that its key is"],
            ),
        ];
        let swap = |table: &str, a: &str, b: &str| {
            let steps = [(a, "ee"), (b, a), ("ee", b)];
            let step = |(from, to)| format!("UPDATE {table} SET id={{{to}}} WHERE id={{{from}}};");
            steps.map(step).concat()
        };
        std::thread::scope(|scope| {
            let all = || {
                assert_eq!(check(&location), Vec::<String>::new());
                for (table, a, b, said) in damages {
                    execute(&location, &swap(table, a, b));
                    let found = check(&location).join("\n");
                    for said in said {
                        assert!(found.contains(said), "{table}: {found}");
                    }
                    execute(&location, &swap(table, a, b));
                    assert_eq!(check(&location), Vec::<String>::new(), "put back");
                }
                execute(
                    &location,
                    "UPDATE leaf SET id={ffffffffffffffff} WHERE id={000000000000000a}",
                );
                let found = check(&location).join("\n");
                assert!(found.contains("leaf 10: missing"), "{found}");
                execute(
                    &location,
                    "UPDATE leaf SET id={000000000000000a} WHERE id={ffffffffffffffff}",
                );
                execute(&location, "DELETE FROM tile");
                let found = check(&location);
                assert_eq!(found, ["partition 0, tile 0 of level 0: missing"]);
            };
            scope.spawn(all).join().unwrap();
        });
    }
}
