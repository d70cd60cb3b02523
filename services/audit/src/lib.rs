//! What happened: append, read, prove.
//!
//! A log is one partition of the store. Appending is a command like any other, so that when the answer arrives the leaf
//! is durable, at its index, under a committed root; checkpoints are signed from committed roots alone.

mod append;
mod checkpoint;
pub mod fsck;
mod head;
pub mod keyring;
mod list;
pub mod log;
mod policy;
mod proof;
pub mod rows;
mod rpc;
mod service;
mod sources;
mod stats;
mod subject;
mod summary;
pub mod tags;
mod tree;
mod wire;

pub use rpc::Rpc;
pub use service::{Audit, Parts, Settings, open, served, sign};
