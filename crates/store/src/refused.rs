//! Why does a server not let us in, and what is to be done? Sentences for whoever starts a service.

use std::error::Error as _;
use std::path::Path;

use rustls::CertificateError;
use tokio_postgres::error::SqlState;

/// Connections are shared between transactions.
pub(crate) const POOLER: &str = "sessions are shared between clients, as by a pooler in transaction mode: settings and \
     prepared statements would be lost or somebody else's. Connect directly, or through the pooler in session mode \
     (PgBouncer: pool_mode = session)";

/// Messages in a language that the store does not read.
pub(crate) fn language(language: &str) -> String {
    format!(
        "its messages are in the language {language}, and the store must read some of them: as a superuser GRANT SET ON \
         PARAMETER lc_messages to this role, or set lc_messages = 'C' at the server"
    )
}

/// What a failed connection said, and what to do. `root` is the authority that was asked for.
pub(crate) fn why(error: &tokio_postgres::Error, root: Option<&Path>) -> String {
    let cause = error.source().map(|s| format!(": {s}")).unwrap_or_default();
    let said = format!("{error}{cause}");
    match advice(error, &said, root) {
        Some(advice) => format!("{said}; {advice}"),
        None => said,
    }
}

fn advice(error: &tokio_postgres::Error, said: &str, root: Option<&Path>) -> Option<String> {
    if let Some(tls) = tls(error) {
        return certificate(tls, root);
    }
    let advice = match error.code() {
        Some(&SqlState::INVALID_PASSWORD) => "the file database.password_file must hold the password of this role",
        // "no encryption": an ordinary role's first message, before any language is chosen, but a server may have its own.
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) if root.is_none() => {
            "pg_hba.conf has no line for us; if it wants TLS, name the authority of the server's certificate in \
             database.root_certificate"
        }
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => "pg_hba.conf has no line for this role from here",
        Some(&SqlState::INVALID_CATALOG_NAME) => "create the database, owned by this role, or correct database.url",
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            "raise max_connections at the server; doctor says how many a service needs"
        }
        _ if said.contains("server does not support TLS") => {
            "set ssl = on at the server; without database.root_certificate the connection would be plain, for this machine \
             alone"
        }
        _ if said.contains("does not allow writes") => {
            "it is a standby, or was the primary once: database.url must lead to the primary"
        }
        _ if said.contains("password missing") || said.contains("no password") => {
            "put this role's password into a file and name it in database.password_file"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

fn tls(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    error
        .source()?
        .downcast_ref::<std::io::Error>()?
        .get_ref()?
        .downcast_ref()
}

fn certificate(error: &rustls::Error, root: Option<&Path>) -> Option<String> {
    let rustls::Error::InvalidCertificate(why) = error else {
        return None;
    };
    let root = root.map(|root| root.display().to_string()).unwrap_or_default();
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(format!(
            "its certificate is not signed by the authority in {root}: database.root_certificate must be the one that \
             signed it"
        )),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Some(
            "the host in database.url must be a name in the server's certificate: correct the one, or issue the other anew"
                .to_owned(),
        ),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            Some("renew the server's certificate, and look at both machines' clocks".to_owned())
        }
        _ => None,
    }
}
