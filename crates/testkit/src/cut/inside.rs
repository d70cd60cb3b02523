//! A cut somewhere in a transaction.

use std::sync::{Mutex, PoisonError};

use super::Cut;

/// Which message of a transaction is cut next, if one is.
#[derive(Debug, Default)]
pub(super) struct Inside(Mutex<Option<(usize, Cut)>>);

impl Inside {
    pub(super) fn ask(&self, at: Option<(usize, Cut)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// How the message is cut that a connection sends now. `message` is its number in its transaction.
    pub(super) fn cut(&self, message: &mut Option<usize>, sent: &[u8]) -> Option<Cut> {
        let has = |text: &[u8]| sent.windows(text.len()).any(|window| window == text);
        *message = if has(b"BEGIN\0") {
            Some(0)
        } else {
            message.map(|number| number + 1)
        };
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, cut) = asked.take_if(|(number, _)| Some(*number) == *message)?;
        Some(cut)
    }
}
