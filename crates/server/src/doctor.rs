//! Is everything as a service needs it? One line for each thing looked at, and what to do where it is not well.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sammati_kernel::{Clock, SystemClock};
use sammati_store::verbs::{Health, Remark, ahead, look, primary, room};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Config, ConfigError, TlsConfig};
use crate::credentials::Credentials;
use crate::validity::validity;
use crate::verbs::{Keeps, say};

/// A certificate that ends sooner than this many days should have been renewed by now.
const DAYS: i64 = 14;

/// How long a peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The configuration cannot even be read.
pub(crate) fn not_loaded(error: &ConfigError) -> ExitCode {
    tell(
        "configuration",
        &Remark::fail(error.to_string(), "correct it: the sentence names the file and the key"),
    );
    ExitCode::from(2)
}

/// Looks at everything; 1 if something fails.
pub(crate) fn run<S>(config: &Config<S>, keeps: Keeps) -> ExitCode {
    let mut all = vec![(
        "configuration".to_owned(),
        Remark::ok("it can be read, and every key is known"),
    )];
    let mut add = |about: &str, remarks: Vec<Remark>| {
        for remark in remarks {
            all.push((about.to_owned(), remark));
        }
    };
    add("secrets", secrets(config, &keeps));
    let (credentials, remarks) = certificates(config.server.tls.as_ref());
    add("certificates", remarks);
    if let Some(file) = config
        .database
        .as_ref()
        .and_then(|database| database.password_file.as_deref())
    {
        add("database.password_file", vec![private(file)]);
    }
    for database in &keeps.databases {
        let about = format!("database {}", database.name);
        add(
            &about,
            look(&database.location, &database.migrations, || SystemClock.now()),
        );
        let remark = ahead(&database.location, &SystemClock, database.time_only_orders);
        add(&about, remark.into_iter().collect());
        let budget = config.database.as_ref().map(|database| database.budget());
        let remark = room(&database.location, budget.unwrap_or_default());
        add(&about, remark.into_iter().collect());
        if let Some(settings) = &config.database {
            add(&about, primary(&database.location, &settings.needs()));
        }
    }
    for (about, remark) in keeps
        .remarks
        .into_iter()
        .chain(keeps.looks.into_iter().flat_map(|look| look()))
    {
        add(about, vec![remark]);
    }
    add("peers", peers(config, credentials.as_ref()));
    for (about, remark) in &all {
        tell(about, remark);
    }
    let count = |health| all.iter().filter(|(_, remark)| remark.health == health).count();
    say(format_args!(
        "{} ok, {} to look at, {} failing",
        count(Health::Ok),
        count(Health::Warn),
        count(Health::Fail)
    ));
    ExitCode::from(u8::from(count(Health::Fail) > 0))
}

fn tell(about: &str, remark: &Remark) {
    let sign = match remark.health {
        Health::Ok => "ok  ",
        Health::Warn => "warn",
        Health::Fail => "FAIL",
    };
    say(format_args!("{sign}  {about}: {}", remark.what));
    if remark.health != Health::Ok {
        say(format_args!("      do: {}", remark.advice));
    }
}

fn secrets<S>(config: &Config<S>, keeps: &Keeps) -> Vec<Remark> {
    let lost = "bring it back from where keys are kept; never make a new kek or lookup for data that exists";
    let read = |name: &str, read: Result<(), ConfigError>| match read {
        Ok(()) => Remark::ok(format!("{name} is there and is a key")),
        Err(error) => Remark::fail(error.to_string(), lost),
    };
    let mut remarks = Vec::new();
    for name in &keeps.keys {
        remarks.push(read(name, config.secrets.key(name).map(drop)));
    }
    for name in &keeps.signing_keys {
        remarks.push(read(name, config.secrets.signing_key(name).map(drop)));
    }
    let files = config
        .secrets
        .directory
        .iter()
        .flat_map(fs::read_dir)
        .flatten()
        .flatten();
    // What a Secret of Kubernetes is mounted as are links to the files.
    remarks.extend(
        files
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .map(|path| private(&path)),
    );
    remarks
}

/// Whether nobody but the service's user and group may read a file.
fn private(path: &Path) -> Remark {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) => Remark::fail(format!("{shown}: {error}"), "make it readable for the service's user"),
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            Remark::must(
                mode & 0o007 == 0,
                format!("{shown} has the mode {mode:03o}"),
                "chmod o= it: everybody on this machine can read it; if others were on it, change the key",
            )
        }
    }
}

fn certificates(files: Option<&TlsConfig>) -> (Option<Arc<Credentials>>, Vec<Remark>) {
    let Some(files) = files else {
        let advice = "nothing where a mesh brings its own TLS; otherwise add [server.tls]";
        return (
            None,
            vec![Remark::warn("there is no [server.tls]: RPCs are plaintext", advice)],
        );
    };
    let credentials = Credentials::load(files);
    let mut remarks = vec![match &credentials {
        Ok(_) => Remark::ok("certificate, key and authorities can be used"),
        Err(error) => Remark::fail(error.to_string(), "issue it anew, or correct the path"),
    }];
    remarks.push(private(&files.key));
    let today = SystemClock.now().seconds();
    for file in [&files.certificate, &files.client_ca] {
        for certificate in CertificateDer::pem_file_iter(file).into_iter().flatten().flatten() {
            remarks.push(dates(file, validity(&certificate), today));
        }
    }
    (credentials.ok(), remarks)
}

/// `now` and both ends in seconds since 1970.
fn dates(file: &Path, validity: Option<(i64, i64)>, now: i64) -> Remark {
    let shown = file.display();
    let renew = "renew it; new files are taken over without a restart";
    let Some((from, until)) = validity else {
        return Remark::fail(format!("{shown} holds something that is no certificate"), renew);
    };
    let days = (until - now).div_euclid(86_400);
    if now < from {
        let what = format!("{shown} is good only in {} hours", (from - now) / 3600 + 1);
        return Remark::fail(what, "look at this machine's clock, and at that of whoever issued it");
    }
    if now > until {
        return Remark::fail(format!("{shown} ended {} days ago", -days), renew);
    }
    let what = format!("{shown} is good for {days} days");
    if days < DAYS {
        Remark::warn(what, renew)
    } else {
        Remark::ok(what)
    }
}

fn peers<S>(config: &Config<S>, credentials: Option<&Arc<Credentials>>) -> Vec<Remark> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return vec![Remark::fail(error.to_string(), "look at the limits of this process")],
    };
    let mut remarks = Vec::new();
    for (name, url) in &config.peers {
        let asked = runtime.block_on(async { timeout(PATIENCE, peer(url, credentials)).await });
        let remark = asked.unwrap_or_else(|_| Err(Away::Gone(format!("no answer within {} s", PATIENCE.as_secs()))));
        remarks.push(match remark {
            Ok(how) => Remark::ok(format!("{name} answers at {url}, {how}")),
            Err(Away::Gone(why)) => Remark::warn(
                format!("{name} cannot be reached at {url}: {why}"),
                "start it, if it is not; otherwise look at the address, name resolution and network policies",
            ),
            Err(Away::Refused(why)) => Remark::fail(
                format!("{name} at {url}: {why}"),
                "its certificate must hold this name, both must be of one authority, and clocks must be right",
            ),
        });
    }
    remarks
}

/// Why a peer cannot be spoken to.
enum Away {
    /// Nobody is there.
    Gone(String),
    /// Somebody is there, and the two do not believe each other.
    Refused(String),
}

async fn peer(url: &str, credentials: Option<&Arc<Credentials>>) -> Result<&'static str, Away> {
    let uri: http::Uri = url
        .parse()
        .map_err(|error| Away::Refused(format!("that is no URL: {error}")))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let socket = TcpStream::connect((host, port)).await;
    let socket = socket.map_err(|error| Away::Gone(error.to_string()))?;
    if !is_tls {
        return Ok("in plaintext");
    }
    let Some(credentials) = credentials else {
        return Err(Away::Refused(
            "TLS was not tried: our own certificate cannot be used".to_owned(),
        ));
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Away::Refused(error.to_string()))?;
    let connector = TlsConnector::from(credentials.client());
    let mut stream = connector
        .connect(name, socket)
        .await
        .map_err(|error| Away::Refused(error.to_string()))?;
    // That it refuses our certificate it says only after the handshake; if it does not, HTTP/2 begins.
    match timeout(PATIENCE / 2, stream.read(&mut [0; 1])).await {
        Ok(Ok(0)) => Err(Away::Refused(
            "it hangs up: it does not take our certificate".to_owned(),
        )),
        Ok(Err(error)) => Err(Away::Refused(format!("it does not take our certificate: {error}"))),
        Ok(Ok(_)) | Err(_) => Ok("and both certificates verify"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_by_its_days() {
        let day = 86_400;
        let of = |from: i64, until: i64| dates(Path::new("s.pem"), Some((from * day, until * day)), 100 * day);
        assert_eq!(of(0, 114).health, Health::Ok);
        let soon = of(0, 113);
        assert_eq!(
            (soon.health, soon.what.as_str()),
            (Health::Warn, "s.pem is good for 13 days")
        );
        for gone in [of(0, 99), of(101, 200)] {
            assert_eq!(gone.health, Health::Fail, "{}", gone.what);
            assert!(!gone.advice.is_empty());
        }
        assert_eq!(dates(Path::new("s.pem"), None, 0).health, Health::Fail);
    }
}
