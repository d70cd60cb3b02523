//! Which provider keeps records of whom.

pub mod add;
pub mod issue;
pub mod token;
