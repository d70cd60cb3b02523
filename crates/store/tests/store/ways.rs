//! How often a batch goes to Postgres and back: for so long its partitions are locked.

use sammati_kernel::ManualClock;
use sammati_testkit::{Database, Line};

use crate::world::{Count, START, account, open, request_id};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_to_postgres_and_back_three_times_whatever_it_reads_and_writes() {
    let Some(database) = Database::postgres() else { return };
    let (line, clock) = (Line::to(&database.url), ManualClock::at(START));
    let store = open(&line.url(database.url.rsplit_once('/').unwrap().1), &clock);
    for n in 0..4 {
        // Two partitions, a row and a group each, events, heads and request ids; a claim, which others may wait for, is one
        // way more.
        for (claims, ways) in [(false, 3), (true, 4)] {
            let runs = [1_u8, 3].map(|slot| {
                let id = account(u16::from(slot), u64::from(claims));
                let command = Count {
                    claim: claims.then_some([10 * n + slot; 32]),
                    ..Count::up(id)
                };
                let key = store.request("me", "test.count", &request_id(&clock), &id.name());
                store.run(command, Some(key.unwrap()))
            });
            for run in futures::future::join_all(runs).await {
                run.unwrap();
            }
            // Statements are made ready when they are first used.
            if n > 1 {
                assert_eq!(line.ways(), ways, "with claims: {claims}");
            }
        }
    }
}
