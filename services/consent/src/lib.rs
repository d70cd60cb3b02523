//! What may flow: consent requests, consents and their artefacts, decisions, links, transfers, notifications.
//!
//! All of one person lives in one partition and changes under one lock; a decision reads either what is locked or what
//! memory holds and the store has confirmed.

mod again;
pub mod artefact;
pub mod break_glass;
pub mod closing;
pub mod consent;
mod daily;
pub mod decision;
pub mod directory;
pub mod discovery;
pub mod link;
pub mod lookup;
pub mod notice;
pub mod notification;
pub mod place;
pub mod policy;
pub mod recorded;
pub mod representative;
pub mod request;
pub mod rights;
pub mod rows;
mod rpc;
pub mod scope;
mod service;
pub mod share;
pub mod standing;
pub mod status_list;
pub mod step_up;
pub mod study;
pub mod subject;
pub mod subscription;
pub mod sweep;
#[cfg(test)]
mod testing;
pub mod transfer;
pub mod vault;
pub mod wire;

pub use rpc::Rpc;
pub use service::{Consent, Parts, Settings, background, served};
