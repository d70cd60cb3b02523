//! The consent service on both databases: one replica over SQLite, two over Postgres.

mod artefacts;
mod asking;
mod cases;
mod deciding;
mod discovering;
mod giving;
mod graph;
mod links;
mod lists;
mod live;
mod many;
mod notifications;
mod pairs;
mod policies;
mod proving;
mod races;
mod renewing;
mod reports;
mod sharing;
mod subscriptions;
mod time;
mod transfers;
mod verbs;
mod why;
mod widening;
mod world;
