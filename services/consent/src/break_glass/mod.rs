//! Emergencies: what is opened without her word, for how long, how often, and what becomes of it.

pub mod count;
pub mod open;
pub mod refuse;
pub mod remind;
pub mod review;

use std::time::Duration;

use sammati_kernel::{Reason, Refusal};

/// How long records stay open.
pub const LIFE: Duration = Duration::from_secs(4 * 3600);

/// By when an opening is reviewed.
pub const REVIEW_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// In which time one patient's records at one HIP are opened by one HIU [`OPENINGS`] times at most: once, and once more.
pub const AGAIN_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// How often.
pub const OPENINGS: usize = 2;

/// The fewest characters of a reason.
pub const REASON: usize = 20;

/// The most characters of a reason or comment.
pub const WORDS: usize = 500;

/// The most HIPs of one opening.
pub const HIPS: usize = 5;

/// The most that one professional has open at one HIU.
pub const OPEN: usize = 5;

/// The most openings of one HIU in a month.
pub const MONTHLY: i64 = 1000;

/// Whatever the cause: whether she exists, whether she has shut it off and whether the professional is known are not told.
pub fn refused() -> Refusal {
    Refusal::new(Reason::BreakGlassRefused).saying(
        "records are not opened in this emergency: the address must be right and the professional's registration verified; \
         treat without them, or ask whoever is with her to consent",
    )
}
