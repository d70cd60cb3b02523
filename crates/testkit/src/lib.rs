//! What tests and `make run` share: certificates of a development authority, throwaway databases.

pub mod certificates;
pub mod databases;

pub use certificates::{Authority, Identity};
pub use databases::{Database, Postgres, databases};
