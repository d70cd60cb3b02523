//! Who: enrolment, ABHA numbers and addresses, sessions, participants.
//!
//! The way of a call: `rpc` (what can be asked) reads it with `wire` (how it is spelled), runs a command of
//! `transaction`, `account`, `session` or `participant` (what it is), which asks `policy` (who may) and keeps `rows`
//! (how it is kept), and shows the outcome with `wire` again.

mod account;
mod again;
mod changes;
mod facts;
#[doc(hidden)]
pub mod fuzzed;
mod keyring;
mod lookup;
mod participant;
mod password;
mod policy;
mod providers;
mod representation;
mod rows;
mod rpc;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod tokens;
mod transaction;
mod vault;
mod wire;

pub use account::Erases;
pub use keyring::KeyRing;
pub use providers::{Kyc, RemoteAudit, RemoteKyc};
pub use sammati_server::messages::{Messages, RemoteMessages};
pub use service::{Identity, Parts, Settings};
