//! The store's promises, each shown on SQLite and on Postgres, with two replicas where Postgres allows it.

mod aborts;
mod ahead;
mod batches;
mod citus;
mod crash;
mod disk;
mod freshness;
mod interleavings;
mod migrations;
mod model;
mod pruning;
mod requests;
mod room;
mod rules;
mod verbs;
mod world;
