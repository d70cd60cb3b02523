//! The store's promises, each shown on SQLite and on Postgres, with two replicas where Postgres allows it.

mod batches;
mod crash;
mod disk;
mod freshness;
mod pruning;
mod requests;
mod world;
