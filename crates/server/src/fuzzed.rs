//! What this crate reads of bytes from outside and lets nobody else call: for tests, which bend such bytes.

use rustls::pki_types::CertificateDer;
use sammati_kernel::Peer;

use crate::{deadline, secrets, tls, validity};

/// Reads `bytes` as everything that they could be.
pub fn read(bytes: &[u8]) {
    let holder = tls::holder(&CertificateDer::from(bytes), "sammati.local");
    // Who has no name of ours is nobody.
    assert!(holder.spiffe_id.is_some() || holder.peer == Peer::Anonymous);
    let _ = validity::validity(bytes);
    let _ = secrets::key_bytes(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = tls::peer(text, "sammati.local");
        if let Some(deadline) = deadline::parse(text) {
            assert!(deadline.as_secs() <= 99_999_999 * 3600);
        }
    }
}
