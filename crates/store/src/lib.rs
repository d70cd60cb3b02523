//! Between a handler and the disk: commands in batches, the feed, claims, request ids, reads that are not stale.
//!
//! The way of a write: a handler makes a [`Command`]; [`Store::run`] queues it on the lane of its partition; the lane
//! takes what has gathered, locks the partitions' heads, loads what the commands read, lets them decide one after
//! another, writes rows and events, commits once; and once that cannot be lost it tells the caches, and only then answers.

mod batch;
mod cache;
mod check;
mod checkpoint;
mod claim;
mod clock;
mod command;
mod confirm;
mod conn;
mod damage;
mod dial;
mod durable;
mod entrance;
mod error;
mod failures;
mod feed;
mod flight;
mod gate;
mod heads;
mod inline;
mod keys;
mod lane;
mod later;
mod partitions;
mod postgres;
mod prepared;
mod prune;
mod readers;
mod refused;
mod request;
mod rewrite;
mod room;
mod schema;
mod scrub;
mod setup;
mod shared;
mod sql;
mod standby;
mod statement;
mod stats;
mod store;
mod table;
mod traces;
pub mod verbs;
mod view;

pub use batch::chain;
pub use cache::SubjectCache;
pub use clock::SKEW;
pub use command::{Command, Outcome};
pub use conn::{AnyConn, Location};
/// For a service's own migrations: `embed_migrations!("migrations")`.
pub use diesel_migrations::{EmbeddedMigrations, embed_migrations};
pub use error::Error;
pub use feed::{FeedEvent, Revision};
pub use keys::{ClaimKey, Keys};
pub use partitions::Partitions;
pub use prune::{KEPT, Passing, Pruned, Pruning};
pub use readers::{Reader, Stored};
pub use request::{AHEAD, RequestKey, WINDOW};
pub use room::{Budget, Usage};
pub use shared::Head;
pub use store::{Options, Store};
pub use table::{Cell, Column, Kind, Record, Table};
pub use traces::Traces;
pub use view::{NewEvent, View};
