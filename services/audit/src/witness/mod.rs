//! A witness of other logs (`c2sp.org/tlog-witness`): it remembers the newest checkpoint of each, and cosigns what
//! continues it. A process and a database of its own: a witness that is lost with the log it watches is none.

mod book;
mod http;
mod service;

pub use book::{Book, MIGRATIONS, tables};
pub use http::serve;
pub use service::{KnownLog, Settings, Witness};
