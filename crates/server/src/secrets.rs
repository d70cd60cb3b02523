//! What must it keep to itself? Keys, each read from a file of its own in `[secrets] directory`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use sammati_kernel::Key;
use sammati_kernel::jws::SigningKey;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::ConfigError;

/// `[secrets]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The folder, readable for the service alone.
    pub directory: Option<PathBuf>,
}

impl Secrets {
    /// The symmetric key in the file `name`: 32 raw bytes, or their hex or base64 text.
    ///
    /// # Errors
    /// Which file, and what it must hold.
    pub fn key(&self, name: &str) -> Result<Key, ConfigError> {
        let (path, bytes) = self.file(name)?;
        key_bytes(&bytes).map(Key::from_bytes).ok_or_else(|| {
            ConfigError(format!(
                "the key file {} must hold 32 bytes, raw or as hex or base64 text",
                path.display()
            ))
        })
    }

    /// The Ed25519 key in the file `name`: PKCS#8, PEM or DER.
    ///
    /// # Errors
    /// Which file, and what it must hold.
    pub fn signing_key(&self, name: &str) -> Result<SigningKey, ConfigError> {
        self.pkcs8(name).map(|(key, _)| key)
    }

    /// The same key and its PKCS#8 DER, for a signer of another form.
    ///
    /// # Errors
    /// Which file, and what it must hold.
    pub fn pkcs8(&self, name: &str) -> Result<(SigningKey, Zeroizing<Vec<u8>>), ConfigError> {
        let (path, bytes) = self.file(name)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&bytes)
            .map_or_else(|_| bytes.clone(), |key| Zeroizing::new(key.secret_pkcs8_der().to_vec()));
        let key = SigningKey::from_pkcs8(&der).map_err(|_| {
            ConfigError(format!(
                "the key file {} must hold an Ed25519 key, PKCS#8 as PEM or DER",
                path.display()
            ))
        })?;
        Ok((key, der))
    }

    /// Whether there is a file `name`.
    pub fn has(&self, name: &str) -> bool {
        let directory = self.directory.as_deref();
        directory.is_some_and(|directory| directory.join(name).is_file())
    }

    /// What the file `name` holds, as PEM.
    ///
    /// # Errors
    /// Which file cannot be read.
    pub fn pem(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
        self.file(name).map(|(_, bytes)| bytes)
    }

    fn file(&self, name: &str) -> Result<(PathBuf, Zeroizing<Vec<u8>>), ConfigError> {
        let directory = self.directory.as_deref().ok_or_else(|| {
            ConfigError(format!(
                "secrets.directory is not set; it must name the folder with the key file {name}"
            ))
        })?;
        let path = directory.join(Path::new(name));
        let bytes = std::fs::read(&path)
            .map_err(|error| ConfigError(format!("the key file {} cannot be read: {error}", path.display())))?;
        Ok((path, Zeroizing::new(bytes)))
    }
}

pub(crate) fn key_bytes(bytes: &[u8]) -> Option<[u8; 32]> {
    if let Ok(raw) = bytes.try_into() {
        return Some(raw);
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if text.len() == 64 {
        return from_hex(text);
    }
    let decoded = Zeroizing::new(STANDARD.decode(text).ok()?);
    decoded.as_slice().try_into().ok()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_raw_as_hex_and_as_base64() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets {
            directory: Some(folder.path().to_owned()),
        };
        let hex: String = (0..32).map(|i: u8| format!("{i:02x}")).collect();
        let raw: Vec<u8> = (0..32).collect();
        for content in [
            raw.clone(),
            format!("{hex}\n").into_bytes(),
            STANDARD.encode(&raw).into_bytes(),
        ] {
            std::fs::write(folder.path().join("data.key"), content).unwrap();
            assert_eq!(secrets.key("data.key").unwrap().bytes().as_slice(), raw);
        }
        std::fs::write(folder.path().join("data.key"), "short").unwrap();
        let error = secrets.key("data.key").unwrap_err().0;
        assert!(error.contains("data.key") && !error.contains("short"), "{error}");
    }
}
