//! The transparency log: an append-only Merkle tree (RFC 6962, SHA-256) whose head is signed, so that
//! anybody can check that a leaf is in it and that nothing in it was changed. No I/O: callers bring the
//! stored hashes. Formats are C2SP's: `tlog-tiles`, `tlog-checkpoint`, `signed-note`, `tlog-cosignature`, `tlog-witness`,
//! `tlog-proof`.
//!
//! Leaves are opaque bytes here, but for what [`subject`] reads of them. A writer hashes them with [`hash::leaf_hash`], extends the
//! [`edge::RightEdge`], keeps the hashes that [`edge::RightEdge::append`] returns (one by one, or as
//! [`tile`]s) and signs a [`checkpoint::Checkpoint`] once its size and root are committed. A prover asks
//! [`proof`] which hashes it needs, loads them, and ships a [`bundle::Bundle`]. A reader verifies with
//! nothing but the log's public key.

pub mod archive;
pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod edge;
pub mod entries;
mod error;
pub mod hash;
mod note;
pub mod path;
pub mod proof;
pub mod subject;
mod text;
pub mod tile;
pub mod witness;

pub use error::{Error, Fault, MAX_SIZE};
pub use hash::Hash32;
