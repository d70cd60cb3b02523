//! Calls on a real store, SQLite and Postgres, with an agency and an inbox that live in the test.

mod addresses;
mod deletion;
mod enrolment;
mod fixture;
mod guesses;
mod kept;
mod known;
mod late;
mod many;
mod participants;
mod representations;
mod restored;
mod scrubbed;
mod sessions;
mod step_up;
mod tries;
