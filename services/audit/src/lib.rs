//! What happened: append, read, prove.
//!
//! A log is one partition of the store. Appending is a command like any other, so that when the answer arrives the leaf
//! is durable, at its index, under a committed root; checkpoints are signed from committed roots alone.

mod append;
pub mod archive;
mod checkpoint;
mod cosigned;
mod entry;
mod erase;
mod export;
pub mod fsck;
#[doc(hidden)]
pub mod fuzzed;
mod half_year;
mod head;
mod hold;
pub mod http;
pub mod keyring;
mod keys;
mod list;
pub mod log;
mod onward;
mod policy;
mod posting;
mod proof;
mod retention;
pub mod rows;
mod rpc;
mod sealing;
mod seen;
mod service;
mod sources;
mod standing;
mod stats;
mod subject;
mod succession;
mod summary;
pub mod tags;
#[cfg(test)]
mod testing;
mod tiles;
mod tree;
mod turn;
mod waiting;
mod watch;
mod wire;
pub mod witness;
pub mod witnesses;

pub use erase::Rounds;
pub use rpc::Rpc;
pub use service::{Audit, Beside, Parts, Settings, open, open_with, served, sign};
pub use turn::Turn;
pub use waiting::{Wait, Waiting};
