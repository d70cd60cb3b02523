//! What is read when a service starts, and when somebody connects: configurations, URLs of databases, keys and certificates.

use std::path::Path;

use sammati_server::Config;
use sammati_server::fuzzed;
use sammati_store::Location;
use sammati_testkit::Authority;

use super::{Family, texts};

pub(super) const FAMILY: Family = Family {
    name: "files",
    read,
    seeds,
};

macro_rules! config {
    ($service:literal) => {
        include_str!(concat!("../../../deploy/kubernetes/base/config/", $service, ".toml"))
    };
}

fn read(bytes: &[u8]) {
    fuzzed::read(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(Location::Sqlite(path)) = Location::parse(text) {
        assert!(text.ends_with(&path.display().to_string()));
    }
    let file = Path::new("/etc/sammati/sammati.toml");
    let _ = Config::<sammati_identity::Settings>::parse(text, file);
    let _ = Config::<sammati_consent::Settings>::parse(text, file);
    let _ = Config::<sammati_audit::Settings>::parse(text, file);
    let _ = Config::<sammati_audit::witness::Settings>::parse(text, file);
    let _ = Config::<sammati_sandbox::Settings>::parse(text, file);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        config!("identity"),
        config!("consent"),
        config!("audit"),
        "sqlite:data/consent.db",
        "postgres://sammati@db.example:5432/consent?sslmode=verify-full",
        "4f1c6a0b5b8f3b0f6a6d8f1f0e9d8c7b6a5f4e3d2c1b0a99887766554433221f",
        "spiffe://sammati.local/service/consent",
        "spiffe://sammati.local/participant/HOSP-1",
        "30S",
        "99999999H",
        "1500m",
    ]);
    seeds.push(vec![7; 32]);
    seeds.extend(certificate());
    seeds
}

/// A service's certificate, as it stands in a handshake.
fn certificate() -> Option<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let issued = Authority::new("sammati.local")
        .ok()?
        .issue("service/consent", &["127.0.0.1"])
        .ok()?;
    let der = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).ok()?;
    Some(der.to_vec())
}
