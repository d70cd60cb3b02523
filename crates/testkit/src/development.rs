//! All that the four services need to run on one machine: certificates, keys, configurations. For development and tests.
//!
//! What is secret or certified is made once and kept, so that a second start reads the data of the first; the
//! configurations follow from what is asked for and are written anew.

mod config;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ED25519};
use sammati_kernel::Key;

use crate::certificates::Authority;
use crate::port;

/// The trust domain of development certificates.
pub const TRUST_DOMAIN: &str = "sammati.local";

/// Certificates by the name of their files, with the path of their SPIFFE URI. The first four are the services'.
const CERTIFICATES: [(&str, &str); 9] = [
    ("identity", "service/identity"),
    ("consent", "service/consent"),
    ("audit", "service/audit"),
    ("sandbox", "service/sandbox"),
    ("operator", "operator/dev"),
    ("hospital", "participant/hospital"),
    ("clinic", "participant/clinic"),
    ("institute", "participant/institute"),
    ("app", "participant/app"),
];

/// Where a service on this machine is found.
const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// Keys by the service that reads them: 32 random bytes each.
const KEYS: [(&str, &str); 6] = [
    ("identity", "kek"),
    ("identity", "lookup"),
    ("consent", "kek"),
    ("consent", "lookup"),
    ("audit", "kek"),
    ("audit", "lookup"),
];

/// Ed25519 keys by the service that signs with them.
const SIGNING_KEYS: [(&str, &str); 3] = [
    ("identity", "token_key.pem"),
    ("consent", "artefact_key.pem"),
    ("audit", "log_key.pem"),
];

/// What is to be set up.
#[derive(Debug, Clone)]
pub struct Development {
    /// The folder for everything, as `var/dev`. It is made readable for its owner alone.
    pub folder: PathBuf,
    /// Where the services listen.
    pub ports: Ports,
    /// Where they keep their data.
    pub database: DatabaseKind,
}

/// Where each service listens on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Of identity.
    pub identity: Port,
    /// Of consent.
    pub consent: Port,
    /// Of audit.
    pub audit: Port,
    /// Of the sandbox.
    pub sandbox: Port,
    /// Of audit, for its log over plain HTTP; without it the log is read by RPC alone.
    pub tiles: Option<u16>,
}

/// The ports of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// For RPCs.
    pub rpc: u16,
    /// For health and metrics.
    pub admin: u16,
}

/// Where the services keep their data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseKind {
    /// In files under `data` in the folder.
    Sqlite,
    /// In these databases, which exist: URLs without a password.
    Postgres {
        /// Of identity.
        identity: String,
        /// Of consent.
        consent: String,
        /// Of audit's log.
        audit: String,
        /// Of audit's payload keys: another database than its log.
        audit_keys: String,
    },
}

/// The configurations that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configs {
    /// Of identity.
    pub identity: PathBuf,
    /// Of consent.
    pub consent: PathBuf,
    /// Of audit.
    pub audit: PathBuf,
    /// Of the sandbox.
    pub sandbox: PathBuf,
}

impl Default for Development {
    /// `var/dev`, ports 7101 to 7104 and 7201 to 7204, SQLite.
    fn default() -> Self {
        Self {
            folder: PathBuf::from("var/dev"),
            ports: Ports::default(),
            database: DatabaseKind::Sqlite,
        }
    }
}

impl Default for Ports {
    /// 7101 to 7104, 7201 to 7204 for health and metrics, and 7303 for the log.
    fn default() -> Self {
        Self::from_first(7101)
    }
}

impl Ports {
    /// `first` and the three after it, 100 more for health and metrics, and 202 more for the log.
    pub fn from_first(first: u16) -> Self {
        let port = |n: u16| Port {
            rpc: first + n,
            admin: first + 100 + n,
        };
        Self {
            identity: port(0),
            consent: port(1),
            audit: port(2),
            sandbox: port(3),
            tiles: Some(first + 202),
        }
    }

    /// Ports that are this process's until it ends.
    ///
    /// # Errors
    /// When there are none left.
    pub fn free() -> io::Result<Self> {
        Ok(Self {
            identity: Port::free()?,
            consent: Port::free()?,
            audit: Port::free()?,
            sandbox: Port::free()?,
            tiles: Some(port::free()?),
        })
    }
}

impl Port {
    /// The same for one service.
    ///
    /// # Errors
    /// When there are none left.
    pub fn free() -> io::Result<Self> {
        Ok(Self {
            rpc: port::free()?,
            admin: port::free()?,
        })
    }
}

impl Development {
    /// Makes what is not there yet, and writes the configurations.
    ///
    /// # Errors
    /// When a file cannot be written, or the system has no randomness to give.
    pub fn write(&self) -> io::Result<Configs> {
        for folder in [
            self.folder.clone(),
            self.folder.join("data"),
            self.folder.join("secrets"),
        ] {
            private_folder(&folder)?;
        }
        self.write_certificates()?;
        for (service, name) in KEYS {
            self.keep_secret(service, name, || Ok(random()?.bytes().to_vec()))?;
        }
        for (service, name) in SIGNING_KEYS {
            self.keep_secret(service, name, || Ok(signing_key()?.into_bytes()))?;
        }
        Ok(Configs {
            identity: self.write_config("identity", &self.identity_config())?,
            consent: self.write_config("consent", &self.consent_config())?,
            audit: self.write_config("audit", &self.audit_config())?,
            sandbox: self.write_config("sandbox", &self.sandbox_config())?,
        })
    }

    /// All certificates of one authority, or those that are there. The authority's key is kept nowhere: nobody can have
    /// another certificate made by it.
    fn write_certificates(&self) -> io::Result<()> {
        let complete = |(name, _): &(&str, &str)| {
            self.folder.join(format!("{name}.pem")).exists() && self.folder.join(format!("{name}-key.pem")).exists()
        };
        let authority_file = self.folder.join("ca.pem");
        if authority_file.exists() && CERTIFICATES.iter().all(complete) {
            return Ok(());
        }
        // The authority's certificate goes first and comes last: where it is, the others are its own.
        match fs::remove_file(&authority_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let authority = Authority::new(TRUST_DOMAIN).map_err(io::Error::other)?;
        for (name, path) in CERTIFICATES {
            let hosts: &[&str] = if path.starts_with("service/") { &HOSTS } else { &[] };
            authority
                .issue(path, hosts)
                .map_err(io::Error::other)?
                .write(&self.folder, name)?;
        }
        authority.write(&self.folder)
    }

    /// Makes the secret file `name` of `service` unless there is one.
    fn keep_secret(&self, service: &str, name: &str, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<()> {
        let folder = self.folder.join("secrets").join(service);
        private_folder(&folder)?;
        let path = folder.join(name);
        if path.exists() {
            return Ok(());
        }
        // Whole or not at all: half a key would make all that is sealed under it unreadable the next time.
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(&make()?)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(&path).map(drop).map_err(|error| error.error)
    }

    fn write_config(&self, service: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(format!("{service}.toml"));
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn random() -> io::Result<Key> {
    Key::generate().map_err(|_| io::Error::other("the system has no randomness to give"))
}

/// A new Ed25519 key, PKCS#8 PEM.
fn signing_key() -> io::Result<String> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(io::Error::other)?;
    Ok(key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(folder: &Path) -> Development {
        Development {
            folder: folder.join("dev"),
            ..Development::default()
        }
    }

    /// All files below `folder` with what is in them.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
        found
    }

    #[test]
    fn a_second_time_changes_nothing_and_mends_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let development = at(folder.path());
        let configs = development.write().unwrap();
        let first = files(folder.path());
        assert_eq!(
            first.len(),
            1 + 2 * CERTIFICATES.len() + KEYS.len() + SIGNING_KEYS.len() + 4
        );
        assert_eq!(development.write().unwrap(), configs);
        assert_eq!(files(folder.path()), first);

        fs::remove_file(development.folder.join("clinic.pem")).unwrap();
        fs::remove_file(development.folder.join("secrets/audit/kek")).unwrap();
        development.write().unwrap();
        let mended = files(folder.path());
        assert_eq!(mended.len(), first.len());
        let kept = |name: &str| mended[&development.folder.join(name)] == first[&development.folder.join(name)];
        assert!(kept("secrets/identity/kek") && kept("secrets/audit/log_key.pem"));
        assert!(!kept("ca.pem") && !kept("identity.pem") && !kept("secrets/audit/kek"));
    }

    #[test]
    fn what_is_secret_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let development = at(folder.path());
        development.write().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&development.folder), 0o700);
        for (path, content) in files(folder.path()) {
            let secret =
                path.components().any(|c| c.as_os_str() == "secrets") || path.to_string_lossy().ends_with("-key.pem");
            assert!(!secret || mode(&path) == 0o600, "{}", path.display());
            assert!(!path.ends_with("kek") || content.len() == 32);
        }
    }
}
