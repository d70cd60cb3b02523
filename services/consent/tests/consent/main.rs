//! The consent service on both databases: one replica over SQLite, two over Postgres.

mod artefacts;
mod asking;
mod deciding;
mod giving;
mod graph;
mod links;
mod lists;
mod live;
mod many;
mod notifications;
mod pairs;
mod proving;
mod races;
mod renewing;
mod representing;
mod time;
mod transfers;
mod verbs;
mod why;
mod widening;
mod world;
