//! How long something under way has taken.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What takes longer is told of.
const LONG: Duration = Duration::from_secs(5);

/// When what is under way began; nothing while there is none.
#[derive(Clone, Default)]
pub(crate) struct Flight(Arc<Mutex<Option<Instant>>>);

impl Flight {
    fn set(&self, began: Option<Instant>) -> Option<Instant> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), began)
    }

    /// It begins.
    pub(crate) fn begin(&self) -> Instant {
        let began = Instant::now();
        self.set(Some(began));
        began
    }

    /// It has ended; if it took long, a warning says what did.
    pub(crate) fn end(&self, what: &str) {
        let took = self.set(None).map_or(Duration::ZERO, |began| began.elapsed());
        if took > LONG {
            tracing::warn!(seconds = took.as_secs_f64(), "{what}");
        }
    }

    /// How long it has taken by now.
    pub(crate) fn age(&self) -> Duration {
        let began = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}
