//! The store's promises, each shown on SQLite and on Postgres, with two replicas where Postgres allows it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

mod batches;
mod crash;
mod freshness;
mod requests;
mod world;
