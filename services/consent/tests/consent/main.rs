//! The consent service on both databases: one replica over SQLite, two over Postgres.

mod artefacts;
mod asking;
mod closing;
mod deciding;
mod giving;
mod links;
mod lists;
mod notifications;
mod races;
mod time;
mod transfers;
mod world;
