//! The store's promises, each shown on SQLite and on Postgres, with two replicas where Postgres allows it.

mod aborts;
mod ahead;
mod away;
mod batches;
mod citus;
mod crash;
mod disk;
mod flood;
mod freshness;
mod interleavings;
mod language;
mod migrations;
mod model;
mod pooler;
mod pruning;
mod recovering;
mod requests;
mod room;
mod rules;
mod slow;
mod standby;
mod swallowed;
mod tls;
mod verbs;
mod ways;
mod world;
