//! The configurations of the four services, as TOML.

use std::fmt::Write;

use super::{DatabaseKind, Development, Port, TRUST_DOMAIN};

impl Development {
    pub(super) fn identity_config(&self) -> String {
        let mut text = beginning("identity", self.ports.identity);
        self.database(&mut text, "identity");
        self.peers(&mut text, &["audit", "sandbox"]);
        secrets(&mut text, "identity");
        // "sbx" is the suffix of ABDM's own sandbox: nobody takes such an address for a real one.
        text.push_str("[service]\naddress_suffix = \"sbx\"\nissuer = \"https://identity.sammati.local\"\n");
        // The sandbox's inbox takes a message at once: nobody here is to be kept from telling by the time.
        text.push_str("otp_floor_millis = 0\n");
        text
    }

    pub(super) fn consent_config(&self) -> String {
        let mut text = beginning("consent", self.ports.consent);
        self.database(&mut text, "consent");
        self.peers(&mut text, &["identity", "audit", "sandbox"]);
        secrets(&mut text, "consent");
        text.push_str("[service]\nconsent_manager_id = \"sbx\"\n");
        text
    }

    pub(super) fn audit_config(&self) -> String {
        let mut text = beginning("audit", self.ports.audit);
        self.database(&mut text, "audit");
        self.peers(&mut text, &["identity"]);
        secrets(&mut text, "audit");
        let keys = match &self.database {
            // Relative to the log's own file.
            DatabaseKind::Sqlite => "sqlite:audit-keys.db",
            DatabaseKind::Postgres { audit_keys, .. } => audit_keys,
        };
        let origin = format!("{TRUST_DOMAIN}/audit");
        text.push_str(&format!(
            "[service]\norigin = {}\nkeys_database = {}\n",
            quoted(&origin),
            quoted(keys)
        ));
        if let Some(port) = self.ports.tiles {
            let _ = writeln!(text, "tiles_listen = \"127.0.0.1:{port}\"");
        }
        text
    }

    pub(super) fn sandbox_config(&self) -> String {
        let mut text = beginning("sandbox", self.ports.sandbox);
        text.push_str("# Invented people and an inbox that delivers nowhere: never for production.\n");
        text.push_str("[service]\nsandbox = true\nseed = 1\npeople = 300\n");
        text
    }

    fn database(&self, text: &mut String, service: &str) {
        let url = match (&self.database, service) {
            (DatabaseKind::Sqlite, _) => format!("sqlite:data/{service}.db"),
            (DatabaseKind::Postgres { identity, .. }, "identity") => identity.clone(),
            (DatabaseKind::Postgres { consent, .. }, "consent") => consent.clone(),
            (DatabaseKind::Postgres { audit, .. }, _) => audit.clone(),
        };
        let _ = writeln!(text, "[database]\nurl = {}\n", quoted(&url));
    }

    fn peers(&self, text: &mut String, names: &[&str]) {
        text.push_str("[peers]\n");
        for name in names {
            let port = match *name {
                "identity" => self.ports.identity,
                "audit" => self.ports.audit,
                _ => self.ports.sandbox,
            };
            let _ = writeln!(text, "{name} = \"https://127.0.0.1:{}\"", port.rpc);
        }
        text.push('\n');
    }
}

fn beginning(service: &str, port: Port) -> String {
    format!(
        "# {service}, for development. Written anew at each start: change a copy.\n\
         [server]\n\
         listen = \"127.0.0.1:{}\"\n\
         admin_listen = \"127.0.0.1:{}\"\n\
         trust_domain = \"{TRUST_DOMAIN}\"\n\n\
         [server.tls]\n\
         certificate = \"{service}.pem\"\n\
         key = \"{service}-key.pem\"\n\
         client_ca = \"ca.pem\"\n\n\
         [server.limits]\n\
         # One hospital and one clinic stand for a country's, in tests and measurements too.\n\
         participant_checks = 0\n\
         participant_requests = 0\n\n\
         [log]\n\
         format = \"human\"\n\
         level = \"info\"\n\n",
        port.rpc, port.admin
    )
}

fn secrets(text: &mut String, service: &str) {
    let _ = writeln!(text, "[secrets]\ndirectory = \"secrets/{service}\"\n");
}

/// A TOML string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
