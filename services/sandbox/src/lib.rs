//! Stand-ins for the outside world on a laptop: a synthetic UIDAI and an inbox.

mod census;
mod names;
pub mod people;
mod places;
