//! What keeps a store small: now and then, what nobody needs any more leaves it.

use std::time::Duration;

use sammati_store::Store;
use tokio_util::sync::CancellationToken;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(600);

/// Prunes `store` until `shutdown`, keeping what one of `consumers` has not got yet. Replicas may all do it.
pub async fn upkeep(store: Store, consumers: &'static [&'static str], shutdown: CancellationToken) {
    let mut each = tokio::time::interval(EVERY);
    each.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(each.tick()).await.is_some() {
        match store.prune(consumers).await {
            Ok(pruned) if pruned.events + pruned.requests > 0 => {
                tracing::info!(pruned.events, pruned.requests, "pruned what is not needed any more");
            }
            Ok(_) => {}
            Err(refusal) => tracing::warn!(reason = refusal.reason.as_str(), "could not prune; trying again later"),
        }
    }
}
