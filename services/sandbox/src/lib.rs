//! Stand-ins for the outside world on a laptop: a synthetic UIDAI and an SMS inbox.
//!
//! **All of it is simulated.** Nobody in the register exists, no OTP leaves the process, and everything is forgotten when
//! it ends. In production an operator's adapters to UIDAI and to an SMS gateway stand here, behind the same contracts.

mod agency;
mod census;
mod inbox;
mod names;
pub mod people;
mod places;
mod rpc;
mod service;
mod template;
mod wire;

pub use service::{Sandbox, Settings};
