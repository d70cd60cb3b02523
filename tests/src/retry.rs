//! What a client does with an answer that tells it to come back.

use std::error::Error;
use std::time::Duration;

use sammati_server::channel::is_unsent;
use tonic::{Code, Status};

use crate::story::reason;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it is tried: half a minute of pauses.
const TRIES: usize = 600;

/// Whether a client is told to try again. A connection that is ending gives a call back unsent, which tonic tells as INTERNAL
/// where the call was almost on it.
pub fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded
    ) || status.message().contains("transport")
        || status.source().is_some_and(is_unsent)
        || reason(status) == "OVERLOADED"
}

/// Tries until there is an answer or a refusal that is meant.
///
/// # Errors
/// That refusal, or the last failure when nobody answers for half a minute.
pub async fn until_answered<T>(mut call: impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
    let mut tries = 0;
    loop {
        tries += 1;
        match call().await {
            Err(status) if is_passing(&status) && tries < TRIES => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}
