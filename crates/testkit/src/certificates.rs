//! Certificates of an authority made on the spot, for tests and for development; never for production.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// A certificate authority that lives as long as the process.
pub struct Authority {
    trust_domain: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

impl Authority {
    /// An authority for `trust_domain`, as in `sammati.local`.
    ///
    /// # Errors
    /// When the system has no randomness to give, or the name is not ASCII.
    pub fn new(trust_domain: &str) -> Result<Self, rcgen::Error> {
        let mut params = params(&format!("{trust_domain} development authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            issuer,
        })
    }

    /// The authority's own certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `spiffe://{trust domain}/{path}`, as in `operator/asha`, good for client and server. `hosts`
    /// are the DNS names and IP addresses it is found at; an operator or participant needs none.
    ///
    /// # Errors
    /// When a name is not ASCII, or the system has no randomness to give.
    pub fn issue(&self, path: &str, hosts: &[&str]) -> Result<Identity, rcgen::Error> {
        self.issue_from(params(path), path, hosts)
    }

    /// The same, good until so many seconds after 1970.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn issue_until(&self, path: &str, hosts: &[&str], seconds: u64) -> Result<Identity, rcgen::Error> {
        let mut params = params(path);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        self.issue_from(params, path, hosts)
    }

    fn issue_from(&self, mut params: CertificateParams, path: &str, hosts: &[&str]) -> Result<Identity, rcgen::Error> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(format!(
            "spiffe://{}/{path}",
            self.trust_domain
        ))?)];
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(Ia5String::try_from(*host)?),
            });
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Writes the authority's certificate as `ca.pem` into `directory`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("ca.pem"), self.pem())
    }
}

impl Identity {
    /// Writes `{name}.pem` and `{name}-key.pem` into `directory`, the key for its owner's eyes only.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join(format!("{name}.pem")), &self.cert_pem)?;
        write_private(&directory.join(format!("{name}-key.pem")), self.key_pem.as_bytes())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.cert_pem)
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_issued() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("sammati.test").unwrap();
        authority.write(directory.path()).unwrap();
        let operator = authority.issue("operator/asha", &["localhost", "127.0.0.1"]).unwrap();
        operator.write(directory.path(), "operator").unwrap();
        assert_eq!(
            fs::read_to_string(directory.path().join("operator-key.pem")).unwrap(),
            operator.key_pem
        );
        assert!(
            fs::read_to_string(directory.path().join("ca.pem"))
                .unwrap()
                .starts_with("-----BEGIN CERTIFICATE")
        );
        assert!(!format!("{operator:?}").contains("PRIVATE"));
    }
}
