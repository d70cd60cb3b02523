//! The store's promises, each shown on SQLite and on Postgres, with two replicas where Postgres allows it.

mod batches;
mod crash;
mod disk;
mod freshness;
mod model;
mod pruning;
mod requests;
mod verbs;
mod world;
