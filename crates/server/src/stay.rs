//! How long may a connection stay? Who is at its other end was told once, at its handshake; so it must come again in time,
//! and nobody keeps what a certificate gave for longer than that is good.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use sammati_kernel::{Clock, Micros, Seed, SystemClock};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::validity::validity;

/// So much of its time a connection may have to go early, for not all that were opened together are to come again at once.
const EARLY: u32 = 10;

/// The stay of one connection.
pub(crate) struct Stay {
    longest: Duration,
    /// Cancelled when the authorities that its certificate was held against are not believed any more.
    authorities: CancellationToken,
    /// Cancelled when it is over: open streams end then.
    over: CancellationToken,
}

impl Stay {
    /// At most `most`, and as long as all `certificates` are good that were shown.
    pub(crate) fn new(
        most: Duration,
        certificates: &[CertificateDer<'_>],
        authorities: CancellationToken,
        over: CancellationToken,
    ) -> Self {
        Self {
            longest: early(most).min(good_for(certificates)),
            authorities,
            over,
        }
    }

    /// Waits until it is over, and says so to its streams.
    pub(crate) async fn until_over(self) {
        tokio::select! {
            () = sleep(self.longest) => {}
            () = self.authorities.cancelled() => {}
            () = self.over.cancelled() => {}
        }
        self.over.cancel();
    }
}

/// Up to a tenth less.
fn early(most: Duration) -> Duration {
    let spread = u64::try_from((most / EARLY).as_millis()).unwrap_or(u64::MAX);
    let less = Seed::draw().map_or(0, |seed| seed.below("stay", spread));
    most.saturating_sub(Duration::from_millis(less))
}

/// How long certificates are good yet, by the machine's clock, which they were verified by. Who shows none has nothing to lose.
fn good_for(certificates: &[CertificateDer<'_>]) -> Duration {
    let untils = certificates
        .iter()
        .map(|one| validity(one).map_or(0, |(_, until)| until));
    // Its last second is good to its end.
    untils.min().map_or(Duration::MAX, |until| {
        Micros::from_seconds(until.saturating_add(1)).since(SystemClock.now())
    })
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn not_all_that_came_together_go_together_and_none_stays_longer() {
        let hour = Duration::from_secs(3600);
        let stays: Vec<_> = (0..32).map(|_| early(hour)).collect();
        assert!(
            stays.iter().all(|stay| hour * 9 / 10 <= *stay && *stay <= hour),
            "{stays:?}"
        );
        assert!(stays.iter().any(|stay| *stay != stays[0]), "{stays:?}");
    }

    #[test]
    fn of_several_certificates_the_first_that_ends_counts() {
        let authority = sammati_testkit::Authority::new("sammati.test").unwrap();
        let until = |seconds| {
            let until = u64::try_from(SystemClock.now().seconds()).unwrap() + seconds;
            let identity = authority.issue_until("operator/asha", &[], until).unwrap();
            CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()
        };
        let good = good_for(&[until(7200), until(100), until(3600)]);
        assert!(
            Duration::from_secs(60) < good && good <= Duration::from_secs(101),
            "{good:?}"
        );
        assert_eq!(good_for(&[CertificateDer::from(b"none".to_vec())]), Duration::ZERO);
        assert_eq!(good_for(&[]), Duration::MAX);
    }
}
