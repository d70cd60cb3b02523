//! What was it told? The configuration: one TOML file, unknown keys refused, secrets in files of their own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use crate::database::DatabaseConfig;
use crate::database::anchored;
use crate::secrets::Secrets;

/// Why a configuration is not good: a sentence that names the file, the key and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The whole file; `S` is the service's own table, `[service]`.
///
/// ```
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings { sandbox: bool }
/// let text = r#"
///     [server]
///     listen = "127.0.0.1:7101"
///     admin_listen = "127.0.0.1:7201"
///     trust_domain = "sammati.local"
///     [service]
///     sandbox = true
/// "#;
/// let config = sammati_server::Config::<Settings>::parse(text, "identity.toml".as_ref()).unwrap();
/// assert!(config.service.sandbox);
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config<S> {
    /// `[server]`: where it listens and as whom.
    pub server: ServerConfig,
    /// `[log]`: how it tells what it does.
    #[serde(default)]
    pub log: LogConfig,
    /// `[database]`: where it keeps things. A service without storage has none.
    pub database: Option<DatabaseConfig>,
    /// `[peers]`: the URL of each service it calls, as `identity = "https://identity:7101"`; and as `audit_next` the one of
    /// the log that goes on when the one at `audit` is sealed.
    #[serde(default)]
    pub peers: BTreeMap<String, String>,
    /// `[secrets]`: where its keys lie.
    #[serde(default)]
    pub secrets: Secrets,
    /// `[service]`: what only this service has.
    pub service: S,
}

/// `[server]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port of the RPCs.
    pub listen: SocketAddr,
    /// Address and port of health and metrics, plaintext; never put it on a public address.
    pub admin_listen: SocketAddr,
    /// The domain of the SPIFFE URIs that are ours, as `sammati.local`.
    pub trust_domain: String,
    /// How long calls in work may take to finish once the process is told to stop.
    #[serde(default = "ServerConfig::drain_seconds")]
    pub drain_seconds: u64,
    /// Whether plaintext is served on an address that others can reach, and spoken to services and databases elsewhere.
    /// For a mesh that brings its own TLS.
    #[serde(default)]
    pub insecure_plaintext: bool,
    /// `[server.tls]`: without it the RPCs are plaintext.
    pub tls: Option<TlsConfig>,
    /// `[server.limits]`: how many calls of each class are in work at once, and how long a caller may keep us waiting.
    #[serde(default)]
    pub limits: Limits,
}

impl ServerConfig {
    const fn drain_seconds() -> u64 {
        20
    }
}

/// `[server.tls]`: PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, then its intermediates. It is shown to callers and to the services called.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates are believed, of callers and of the services called.
    pub client_ca: PathBuf,
    /// How often the files are looked at: changed ones are taken over for new connections, bad ones are not. When the authorities
    /// change, connections that are open are told to go.
    #[serde(default = "TlsConfig::reload_seconds")]
    pub reload_seconds: u64,
}

impl TlsConfig {
    const fn reload_seconds() -> u64 {
        10
    }
}

/// `[server.limits]`: the most calls in work at once, by class, of which one peer gets half; how often a participant may
/// call; and how long a caller may keep us waiting. Of a class's calls 512 are let in at first, more once they are asked for and answered quickly; while
/// they wait for each other for more than 10 ms, fewer, down to 128. Open streams may be as many as this says at any time.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Reads and decisions.
    pub check: usize,
    /// Changes.
    pub write: usize,
    /// Logins.
    pub login: usize,
    /// Operators' calls.
    pub admin: usize,
    /// Calls without a certificate or a token that is good, of whatever class. A token that was not seen yet is verified in such a
    /// place.
    pub anonymous: usize,
    /// Open streams, of whatever class.
    pub stream: usize,
    /// Calls in a second of the class check that a participant may make, of this replica, unless its row says another number;
    /// twice as many at once after a rest. 0: there is no bound.
    pub participant_checks: u32,
    /// The same of all other calls.
    pub participant_requests: u32,
    /// Connections; one above the bound is closed at once, one of a peer that has half of them after its handshake.
    pub connections: usize,
    /// How long a connection may stay, less up to a tenth; then it is told to go, and its caller comes again. It goes before when
    /// a certificate that was shown on it ends, or the authorities change.
    pub connection_seconds: u64,
    /// How long a TLS handshake may take; then the connection is closed.
    pub handshake_seconds: u64,
    /// How long a piece of an answer may wait for the caller to read; then the call's stream is reset. A reader that
    /// went on with other things calls again, a watch from its resume token.
    pub unread_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            check: 1024,
            write: 1024,
            login: 128,
            admin: 64,
            anonymous: 64,
            stream: 1024,
            participant_checks: 1000,
            participant_requests: 50,
            connections: 4096,
            connection_seconds: 3600,
            handshake_seconds: 10,
            unread_seconds: 60,
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// One JSON object per line, or lines for people.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or per module as `info,sammati_store=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            level: "info".to_owned(),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a collector.
    Json,
    /// For people.
    Human,
}

impl<S: DeserializeOwned> Config<S> {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("the configuration {} cannot be read: {error}", path.display())))?;
        Self::parse(&text, path)
    }

    /// Reads `text`, which stands in the file `path`: relative paths in it start from that file's folder.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text)
            .map_err(|error| ConfigError(format!("the configuration {} is not good: {error}", path.display())))?;
        config.anchor(path.parent().unwrap_or(Path::new("")));
        config
            .check()
            .map_err(|what| ConfigError(format!("the configuration {}: {what}", path.display())))?;
        Ok(config)
    }
}

impl<S> Config<S> {
    /// `[database]`, which this service cannot do without.
    ///
    /// # Errors
    /// When it is missing.
    pub fn database(&self) -> Result<&DatabaseConfig, ConfigError> {
        let database = self.database.as_ref();
        database
            .ok_or_else(|| ConfigError("[database] is missing; its url is sqlite:<file> or postgres://…".to_owned()))
    }

    /// Refuses peers that this service never calls, as it refuses other keys that it does not know: a misspelt name would be
    /// as none.
    ///
    /// # Errors
    /// The name, and those that it knows.
    pub(crate) fn expect_peers(&self, known: &[&str]) -> Result<(), ConfigError> {
        let Some(name) = self.peers.keys().find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        Err(ConfigError(format!(
            "peers.{name} is unknown; this service calls {known}"
        )))
    }

    /// Makes paths start from `folder`.
    fn anchor(&mut self, folder: &Path) {
        let at = |path: &mut PathBuf| *path = folder.join(&path);
        if let Some(tls) = &mut self.server.tls {
            for path in [&mut tls.certificate, &mut tls.key, &mut tls.client_ca] {
                at(path);
            }
        }
        if let Some(database) = &mut self.database {
            database.insecure_plaintext = self.server.insecure_plaintext;
            database
                .root_certificate
                .iter_mut()
                .chain(&mut database.password_file)
                .for_each(at);
            database.url = anchored(folder, &database.url);
            database.folder = folder.to_owned();
        }
        self.secrets.directory.iter_mut().for_each(at);
    }

    fn check(&self) -> Result<(), String> {
        let domain = &self.server.trust_domain;
        let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        if domain.is_empty() || !domain.bytes().all(in_domain) {
            return Err("server.trust_domain must be lower-case letters, digits, dots and dashes".to_owned());
        }
        if self.server.tls.is_none() && !self.server.insecure_plaintext && !self.server.listen.ip().is_loopback() {
            return Err(format!(
                "server.listen is {}, which others can reach, and there is no [server.tls]; add it, listen on 127.0.0.1, \
                 or set server.insecure_plaintext = true",
                self.server.listen
            ));
        }
        for (name, url) in &self.peers {
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                return Err(format!("peers.{name} must be https://host:port"));
            }
            let near = ["http://127.0.0.1", "http://localhost", "http://[::1]"]
                .iter()
                .any(|here| url.starts_with(here));
            if url.starts_with("http://") && !near && !self.server.insecure_plaintext {
                return Err(format!(
                    "peers.{name} is plaintext over the network; make it https, or set server.insecure_plaintext = true"
                ));
            }
            if url.starts_with("https://") && self.server.tls.is_none() {
                return Err(format!(
                    "peers.{name} is https, which needs [server.tls] for the certificate to show there"
                ));
            }
        }
        self.database.as_ref().map_or(Ok(()), DatabaseConfig::check)
    }
}

/// Reads the file that `key` names.
pub(crate) fn read(path: &Path, key: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("{key}: the file {} cannot be read: {error}", path.display())))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct Own {}

    pub(crate) fn parse(server: &str, rest: &str) -> Result<Config<Own>, ConfigError> {
        let text = format!(
            "[server]\nadmin_listen = \"127.0.0.1:0\"\ntrust_domain = \"sammati.local\"\n{server}\n{rest}\n[service]\n"
        );
        Config::parse(&text, Path::new("/etc/sammati/x.toml"))
    }

    pub(crate) const LOOPBACK: &str = "listen = \"127.0.0.1:0\"";

    #[test]
    fn an_unknown_key_is_refused_by_name_everywhere() {
        for rest in [
            "[log]\nlevle = \"info\"",
            "[server.tls]\ncert = \"x\"",
            "[database]\nurl = \"sqlite:x\"\npool = 3",
            "[x]",
        ] {
            let error = parse(LOOPBACK, rest).unwrap_err().0;
            assert!(
                error.contains("/etc/sammati/x.toml") && error.contains("unknown field"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unknown_peer_is_refused_by_name_with_those_that_are_known() {
        let peers = "[peers]\naudit = \"http://127.0.0.1:1\"\naudit_nxt = \"http://127.0.0.1:2\"";
        let config = parse(LOOPBACK, peers).unwrap();
        let error = config.expect_peers(&["audit", "audit_next"]).unwrap_err().0;
        assert_eq!(
            error,
            "peers.audit_nxt is unknown; this service calls audit, audit_next"
        );
        assert!(config.expect_peers(&["audit", "audit_nxt"]).is_ok());
        assert!(config.expect_peers(&[]).unwrap_err().0.ends_with("calls none"));
    }

    #[test]
    fn plaintext_is_refused_where_others_can_reach_it() {
        let error = parse("listen = \"0.0.0.0:7101\"", "").unwrap_err().0;
        assert!(error.contains("insecure_plaintext"), "{error}");
        assert!(parse("listen = \"0.0.0.0:7101\"\ninsecure_plaintext = true", "").is_ok());
        assert!(parse(LOOPBACK, "").is_ok());
        assert!(parse(LOOPBACK, "[peers]\nidentity = \"http://10.0.0.1:7101\"").is_err());
        assert!(parse(LOOPBACK, "[peers]\nidentity = \"http://127.0.0.1:7101\"").is_ok());
    }

    #[test]
    fn relative_paths_start_from_the_file() {
        let config = parse(
            LOOPBACK,
            "[database]\nurl = \"sqlite:var/x.db\"\n[secrets]\ndirectory = \"keys\"",
        )
        .unwrap();
        assert_eq!(config.database.unwrap().url, "sqlite:/etc/sammati/var/x.db");
        assert_eq!(config.secrets.directory.unwrap(), Path::new("/etc/sammati/keys"));
    }
}
