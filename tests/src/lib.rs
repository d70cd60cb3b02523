//! What the end-to-end tests, the tour and the benchmarks share: a system of services, its callers, and one story.

pub mod caller;
pub mod clocks;
pub mod direct;
pub mod history;
pub mod journal;
pub mod named;
pub mod parsers;
pub mod power;
pub mod proofs;
pub mod retry;
pub mod story;
pub mod strace;
pub mod system;
