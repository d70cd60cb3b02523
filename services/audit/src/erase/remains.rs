//! What Postgres keeps of destroyed keys.

use sammati_store::Rewritten;

use crate::log::Log;

impl Log {
    /// Lets nothing of the keys that were destroyed stay in the files of their table: once for all of them, for it makes
    /// those wait who need a key. No erasure depends on it; what does not succeed is tried again by the next sweep.
    pub(crate) async fn clear_remains(&self) {
        match self.keyring.clear_remains().await {
            Ok(Rewritten::Whole) => return,
            Ok(Rewritten::TooLarge(bytes)) => tracing::warn!(
                bytes,
                "the table of keys is too large to be written anew while others wait; bytes of destroyed keys may be in \
                 the free room of its pages: run VACUUM FULL payload_key in a quiet hour"
            ),
            Err(error) => tracing::warn!(
                %error,
                "destroyed keys may still be in dead rows of payload_key; trying again within a minute"
            ),
        }
        self.stats.remains.inc();
    }
}
