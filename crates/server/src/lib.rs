//! Everything between the socket and a handler, alike in all services.
//!
//! A service implements [`Service`] and its `main` calls [`main`]; its handlers begin with
//! `let caller = authz::caller(&request)?;` and end their refusals with `error::status`.

mod accept;
pub mod action;
mod admin;
pub mod authn;
pub mod authz;
mod body;
pub mod channel;
pub mod config;
mod credentials;
mod database;
pub mod deadline;
mod doctor;
pub mod error;
pub mod event;
#[doc(hidden)]
pub mod fuzzed;
mod gate;
mod gather;
pub mod identity;
mod layer;
mod life;
mod log;
pub mod messages;
pub mod metrics;
mod pace;
pub mod page;
mod places;
pub mod plain;
pub mod post;
pub mod rate;
pub mod relay;
mod run;
mod secrets;
mod served;
mod shed;
mod stack;
mod stay;
pub mod tls;
pub mod token;
pub mod trace;
mod turn;
mod unasked;
mod unread;
mod upkeep;
mod validity;
mod verbs;

/// Every service allocates with it: calls and decisions are made of many small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use config::{Config, ConfigError};
pub use gather::Gathering;
pub use identity::{IdentityFacts, ParticipantFacts};
pub use metrics::Metrics;
pub use run::{Built, Readiness, Running, Service, Start, StartError, main, serve, serve_on};
pub use secrets::Secrets;
pub use served::Served;
pub use tls::Peers;
pub use upkeep::upkeep;
pub use verbs::{Again, Archive, At, Database, Keeps, Looks, Verb, operate};
