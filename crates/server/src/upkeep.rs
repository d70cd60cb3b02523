//! What keeps a store small: now and then, what nobody needs any more leaves it; and its room is watched.

use std::time::Duration;

use sammati_store::{Pruned, Pruning, Store};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Between two rounds of pruning.
const PRUNE: Duration = Duration::from_secs(600);

/// Between two looks at the room that the database takes.
const LOOK: Duration = Duration::from_secs(5);

/// Prunes `store` by its rule and watches its room until `shutdown`. Replicas may all do it.
pub async fn upkeep(store: Store, rule: Pruning, shutdown: CancellationToken) {
    let both = async { tokio::join!(prune(&store, rule), watch(&store)) };
    shutdown.run_until_cancelled(both).await;
}

async fn prune(store: &Store, rule: Pruning) {
    let mut each = every(PRUNE);
    loop {
        each.tick().await;
        match store.prune(rule).await {
            Ok(pruned) if pruned.is_some() => {
                let Pruned { events, requests, rows } = pruned;
                tracing::info!(events, requests, rows, "pruned what is not needed any more");
            }
            Ok(_) => {}
            Err(refusal) => tracing::warn!(reason = refusal.reason.as_str(), "could not prune; trying again later"),
        }
    }
}

async fn watch(store: &Store) {
    let mut each = every(LOOK);
    loop {
        each.tick().await;
        // Why was logged where it failed; until the next look all stays as it was.
        let _ = store.check_room().await;
    }
}

fn every(period: Duration) -> Interval {
    let mut each = interval(period);
    each.set_missed_tick_behavior(MissedTickBehavior::Delay);
    each
}
