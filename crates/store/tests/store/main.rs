//! The store's promises, each shown on SQLite and on Postgres, with two replicas where Postgres allows it.

mod ahead;
mod batches;
mod citus;
mod crash;
mod disk;
mod freshness;
mod migrations;
mod model;
mod pruning;
mod recovering;
mod requests;
mod room;
mod rules;
mod verbs;
mod world;
