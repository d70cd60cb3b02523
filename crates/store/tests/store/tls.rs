//! Postgres over a network: believed by its certificate alone, and every refusal says what to do.

use std::path::{Path, PathBuf};

use sammati_kernel::ManualClock;
use sammati_store::Location;
use sammati_testkit::databases::psql;
use sammati_testkit::{Authority, Postgres, Setup};
use tempfile::TempDir;

use crate::world::{Count, START, account, open_with, options};

/// A server that wants TLS and a password on its port, with a certificate for `host`.
struct Guarded {
    server: Postgres,
    folder: TempDir,
}

impl Guarded {
    fn start(host: &str) -> Option<Self> {
        if !Postgres::speaks_tls() {
            return None;
        }
        let authority = Authority::new("sammati.test").unwrap();
        let identity = authority.issue("database", &[host]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        authority.write(folder.path()).unwrap();
        let server = Postgres::start_with(&Setup {
            settings: &["ssl_cert_file=server.pem", "ssl_key_file=server-key.pem"],
            access: "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
            files: &[
                ("server.pem", &identity.cert_pem),
                ("server-key.pem", &identity.key_pem),
            ],
            tcp: true,
            ..Setup::default()
        })?;
        server.set("ssl", "on");
        psql(server.url(), "postgres", "CREATE ROLE service LOGIN PASSWORD 'right'");
        psql(server.url(), "postgres", "CREATE DATABASE guarded OWNER service");
        Some(Self { server, folder })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn at(&self, root: Option<&Path>, password: Option<&str>, settings: &str) -> Location {
        Location::Postgres {
            url: format!("postgres://service@127.0.0.1:{}/guarded{settings}", self.server.port()),
            root: root.map(Path::to_owned),
            password: password.map(|password| password.to_owned().into()),
            one_partition: false,
        }
    }

    fn refusal(&self, root: Option<&Path>, password: Option<&str>) -> String {
        let location = self.at(root, password, "");
        location.connect().err().expect("a refusal").to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_believed_by_its_certificate_and_believes_a_password_bound_to_it() {
    let Some(guarded) = Guarded::start("127.0.0.1") else {
        return;
    };
    // A password that is bound to this very connection: nobody between us could pass it on.
    let location = guarded.at(Some(&guarded.root()), Some("right"), "?channel_binding=require");
    let store = open_with(&options(location), &ManualClock::at(START)).unwrap();
    store.apply(Count::up(account(1, 1))).await.unwrap();
    store.confirm().await.unwrap();
    let plain = "SELECT count(*) FILTER (WHERE NOT s.ssl), count(*) > 2 FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                 WHERE a.usename='service'";
    assert_eq!(psql(guarded.server.url(), "postgres", plain), "0|t");
}

#[test]
fn a_server_that_is_not_believed_or_does_not_believe_us_is_told_with_what_to_do() {
    let Some(guarded) = Guarded::start("127.0.0.1") else {
        return;
    };
    let root = guarded.root();
    let elsewhere = tempfile::tempdir().unwrap();
    Authority::new("sammati.test").unwrap().write(elsewhere.path()).unwrap();
    let other = elsewhere.path().join("ca.pem");
    let empty = elsewhere.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let cases = [
        (Some(other.as_path()), Some("right"), "must be the one that signed it"),
        (Some(empty.as_path()), Some("right"), "there is no certificate in it"),
        (Some(root.as_path()), Some("wrong"), "database.password_file must hold"),
        (Some(root.as_path()), None, "database.password_file"),
        (
            None,
            Some("right"),
            "name the authority of the server's certificate in database.root_certificate",
        ),
    ];
    for (root, password, advice) in cases {
        let refusal = guarded.refusal(root, password);
        assert!(refusal.contains(advice), "{refusal}");
        assert!(!refusal.contains("right") && !refusal.contains("wrong"), "{refusal}");
    }
    guarded.server.set("ssl", "off");
    let refusal = guarded.refusal(Some(&root), Some("right"));
    assert!(refusal.contains("set ssl = on at the server"), "{refusal}");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let Some(guarded) = Guarded::start("db.sammati.test") else {
        return;
    };
    let refusal = guarded.refusal(Some(&guarded.root()), Some("right"));
    assert!(
        refusal.contains("must be a name in the server's certificate"),
        "{refusal}"
    );
}
