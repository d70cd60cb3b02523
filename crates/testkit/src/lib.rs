//! What tests and `make run` share: certificates of a development authority, throwaway databases, a whole set-up.

pub mod certificates;
pub mod cut;
pub mod databases;
pub mod development;
pub mod disk;
pub mod pause;
pub mod pgbouncer;
pub mod port;
pub mod postgres;

pub use certificates::{Authority, Identity};
pub use cut::{Cut, Held, Line};
pub use databases::{Database, databases};
pub use development::{Configs, DatabaseKind, Development, Port, Ports};
pub use pause::{Pause, Paused, pause};
pub use pgbouncer::PgBouncer;
pub use postgres::{Postgres, Setup};
