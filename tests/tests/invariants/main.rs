//! The invariants of the whole system, each by its id, over real sockets: on SQLite, and on two replicas over Postgres.

mod appenders;
mod crash;
mod durable;
mod erased;
mod exported;
mod flooded;
mod floored;
mod history;
mod races;
mod rekeyed;
mod restored;
mod retaken;
mod revoked;
mod skewed;
mod turned;
mod watched;
mod worlds;
