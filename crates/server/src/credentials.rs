//! With which certificate? The PEM files of `[server.tls]`, for both sides of a connection, taken over when they change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigError, TlsConfig};

/// HTTP/2 and nothing else.
const PROTOCOL: &[u8] = b"h2";

/// The certificate, key and authorities that new connections use.
pub(crate) struct Credentials {
    files: TlsConfig,
    current: ArcSwap<Current>,
}

/// What the files held when they were last good.
struct Current {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// Cancelled when other authorities are believed.
    believed: CancellationToken,
    client_ca: Vec<u8>,
    /// The SHA-256 of the three files.
    hash: [u8; 32],
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file is not good, and what it must hold.
    pub(crate) fn load(files: &TlsConfig) -> Result<Arc<Self>, ConfigError> {
        let current = Contents::read(files)?.current(files)?;
        Ok(Arc::new(Self {
            files: files.clone(),
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// The server's side: a client certificate may be absent, one that is shown must verify. And what is cancelled once the
    /// authorities that it was held against are not those that are believed.
    pub(crate) fn server(&self) -> (Arc<ServerConfig>, CancellationToken) {
        let current = self.current.load();
        (current.server.clone(), current.believed.clone())
    }

    /// The client's side: only our own authorities are believed, not the machine's.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.current.load().client.clone()
    }

    /// Takes over files that have changed; tells whether they had. What is not good changes nothing.
    pub(crate) fn refresh(&self) -> Result<bool, ConfigError> {
        let contents = Contents::read(&self.files)?;
        let before = self.current.load_full();
        if contents.hash() == before.hash {
            return Ok(false);
        }
        let mut current = contents.current(&self.files)?;
        let believed = current.client_ca == before.client_ca;
        if believed {
            current.believed = before.believed.clone();
        }
        self.current.store(Arc::new(current));
        // Only now: whoever is told to go comes again to the new ones.
        if !believed {
            before.believed.cancel();
        }
        Ok(true)
    }

    /// Looks at the files again and again. Connections that are open stay, unless the authorities change.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut complaint = String::new();
        loop {
            tokio::time::sleep(Duration::from_secs(self.files.reload_seconds.max(1))).await;
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.refresh()).await {
                Ok(Ok(changed)) => {
                    complaint.clear();
                    if changed {
                        let file = self.files.certificate.display();
                        tracing::info!(certificate = %file, "new TLS files are in use for new connections");
                    }
                }
                // Said once: the files may be half written, or stay as they are for long.
                Ok(Err(error)) if error.0 != complaint => {
                    tracing::error!(%error, "changed TLS files are not good; the ones before stay in use");
                    complaint = error.0;
                }
                Ok(Err(_)) => {}
                Err(error) => tracing::error!(%error, "TLS files cannot be looked at"),
            }
        }
    }
}

/// The three files, read together.
struct Contents {
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    client_ca: Vec<u8>,
}

impl Contents {
    fn read(files: &TlsConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            certificate: read(&files.certificate, "server.tls.certificate")?,
            key: read(&files.key, "server.tls.key")?.into(),
            client_ca: read(&files.client_ca, "server.tls.client_ca")?,
        })
    }

    fn hash(&self) -> [u8; 32] {
        let mut all = ring::digest::Context::new(&ring::digest::SHA256);
        for file in [&self.certificate, &*self.key, &self.client_ca] {
            all.update(&(file.len() as u64).to_be_bytes());
            all.update(file);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(all.finish().as_ref());
        hash
    }

    fn current(&self, files: &TlsConfig) -> Result<Current, ConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Current {
            server: Arc::new(self.server(files, &provider)?),
            client: Arc::new(self.client(files, &provider)?),
            believed: CancellationToken::new(),
            client_ca: self.client_ca.clone(),
            hash: self.hash(),
        })
    }

    fn server(&self, files: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<ServerConfig, ConfigError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(files)?, provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| no_authority(files, &error))?;
        let (chain, key) = self.identity(files)?;
        let mut tls = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| cannot(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| no_key(files, &error))?;
        // Who resumes a session shows nothing: a certificate that has ended would be taken for good.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(tls)
    }

    fn client(&self, files: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, ConfigError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots(files)?, provider.clone())
            .build()
            .map_err(|error| no_authority(files, &error))?;
        let (chain, key) = self.identity(files)?;
        let mut tls = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| cannot(&error))?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(chain, key)
            .map_err(|error| no_key(files, &error))?;
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(tls)
    }

    fn identity(
        &self,
        files: &TlsConfig,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
        let chain = certificates(&self.certificate, &files.certificate, "server.tls.certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| unreadable("server.tls.key", &files.key, "a private key, PEM", &error))?;
        Ok((chain, key))
    }

    fn roots(&self, files: &TlsConfig) -> Result<Arc<RootCertStore>, ConfigError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.client_ca, &files.client_ca, "server.tls.client_ca")? {
            roots.add(authority).map_err(|error| no_authority(files, &error))?;
        }
        Ok(Arc::new(roots))
    }
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| unreadable(key, path, "PEM", &error))
}

fn certificates(pem: &[u8], path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(key, path, "certificates, PEM", &error))?;
    if found.is_empty() {
        return Err(unreadable(key, path, "certificates, PEM", &"there is none"));
    }
    Ok(found)
}

fn no_authority(files: &TlsConfig, why: &dyn std::fmt::Display) -> ConfigError {
    unreadable(
        "server.tls.client_ca",
        &files.client_ca,
        "certificates of authorities",
        why,
    )
}

fn no_key(files: &TlsConfig, why: &dyn std::fmt::Display) -> ConfigError {
    unreadable("server.tls.key", &files.key, "the key of server.tls.certificate", why)
}

fn cannot(why: &dyn std::fmt::Display) -> ConfigError {
    ConfigError(format!("TLS cannot be set up: {why}"))
}

fn unreadable(key: &str, path: &Path, wanted: &str, why: &dyn std::fmt::Display) -> ConfigError {
    ConfigError(format!("{key}: the file {} must hold {wanted}: {why}", path.display()))
}

#[cfg(test)]
impl TlsConfig {
    /// As a test writes them.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            certificate: folder.join("s.pem"),
            key: folder.join("s-key.pem"),
            client_ca: folder.join("ca.pem"),
            reload_seconds: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_files_are_taken_over_and_bad_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let authority = sammati_testkit::Authority::new("sammati.test").unwrap();
        authority.write(folder.path()).unwrap();
        let renew = || authority.issue("service/identity", &["127.0.0.1"]).unwrap();
        renew().write(folder.path(), "s").unwrap();
        let credentials = Credentials::load(&TlsConfig::in_folder(folder.path())).unwrap();
        let in_use = || credentials.current.load().hash;
        let first = in_use();
        assert!(!credentials.refresh().unwrap());
        assert_eq!(in_use(), first);

        // Half written: the certificate of another key.
        std::fs::write(folder.path().join("s.pem"), renew().cert_pem).unwrap();
        let error = credentials.refresh().unwrap_err().0;
        assert!(error.contains("server.tls.key"), "{error}");
        std::fs::write(folder.path().join("s.pem"), "garbage").unwrap();
        let error = credentials.refresh().unwrap_err().0;
        assert!(error.contains("server.tls.certificate"), "{error}");
        assert_eq!(in_use(), first);

        renew().write(folder.path(), "s").unwrap();
        let (_, believed) = credentials.server();
        assert!(credentials.refresh().unwrap());
        assert_ne!(in_use(), first);
        assert!(!believed.is_cancelled(), "a new certificate sends nobody away");
        sammati_testkit::Authority::new("sammati.test")
            .unwrap()
            .write(folder.path())
            .unwrap();
        assert!(credentials.refresh().unwrap());
        assert!(believed.is_cancelled(), "other authorities do");
        assert!(!credentials.server().1.is_cancelled());
    }
}
