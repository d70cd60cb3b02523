//! argon2id alone, at the cost that passwords are kept at, on all cores.

use argon2::{Algorithm, Argon2, Params, Version};

use crate::measure::{Contender, Failure, Pace, interleave, rate};
use crate::summary::Summary;

/// Memory in KiB, passes and lanes: as identity's.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

/// `argon2.hash`.
pub(crate) async fn run(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism()?.get();
    let hashes = move || rate(cores, pace.time, |_| async { tokio::task::spawn_blocking(hash).await? });
    let measured = interleave(1, &mut [Contender::new("argon2.hash", hashes)]).await?;
    measured.iter().for_each(|hash| summary.alone(hash, "1/s"));
    Ok(())
}

fn hash() -> Result<(), Failure> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|error| error.to_string())?;
    let mut out = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(b"correct horse battery staple", &[7; 16], &mut out)
        .map_err(|error| error.to_string().into())
}
