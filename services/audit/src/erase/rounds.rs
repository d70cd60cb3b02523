//! The rounds of erasing: what a restore brought back, what identity has asked for, and what is due.

use std::collections::HashSet;

use sammati_kernel::{AccountId, Refusal};

use crate::log::Log;

/// What is looked at once after a start, and need not be again.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Whether what a restore brought back is erased again.
    has_looked_back: bool,
    /// The accounts whose erasure is booked.
    booked: HashSet<AccountId>,
}

impl Rounds {
    /// Erases what there is to erase, given the accounts whose data identity has destroyed. One that cannot be erased keeps no
    /// other waiting.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`: the first; what was left is of the next round.
    pub async fn round(&mut self, log: &Log, purged: Vec<AccountId>) -> Result<(), Refusal> {
        let mut done = Ok(());
        if !self.has_looked_back {
            done = log.erase_again().await.map(drop);
            self.has_looked_back = done.is_ok();
        }
        for account in purged {
            if self.booked.contains(&account) {
                continue;
            }
            match log.book_again(account).await {
                Ok(_) => {
                    self.booked.insert(account);
                }
                Err(refusal) => done = done.and(Err(refusal)),
            }
        }
        let swept = log.sweep().await;
        done.and(swept)
    }
}
