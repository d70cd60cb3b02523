//! Whether it serves: a process that nobody asks anything learns of its databases all the same.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sammati_audit::Audit;
use sammati_audit::witness::Witness;
use sammati_kernel::{ManualClock, Micros};
use sammati_server::{Config, Running, Service, serve_on};
use sammati_testkit::Postgres;
use sammati_testkit::databases::psql;
use tokio::net::TcpListener;

use crate::http::get;
use crate::serving::{CONFIG, lay_out};

const WITNESS: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
trust_domain = "sammati.test"
[database]
url = "sqlite:witness.db"
[secrets]
directory = "."
[service]
name = "witness.test/w1"
witness_listen = "127.0.0.1:0"
logs = []
"#;

async fn serve<S: Service>(folder: &Path, config: &str) -> Running {
    let config = Config::parse(config, &folder.join("service.toml")).unwrap();
    let bind = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
    let clock = ManualClock::at(Micros::from_seconds(1_795_305_600));
    serve_on::<S>(config, bind().await, bind().await, Arc::new(clock))
        .await
        .unwrap()
}

/// Waits, half a minute at most, until so many databases are among the reasons why it does not serve.
async fn until_away(admin: SocketAddr, databases: usize) {
    let mut said = String::new();
    for _ in 0..1500 {
        said = String::from_utf8(get(admin, "/readyz").body).unwrap();
        if said.split("; ").filter(|why| why.contains("database: ")).count() == databases {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{databases} databases are away, and it says: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_postgres_is_away_does_not_serve_and_learns_of_it_unasked() {
    let Some(mut server) = tokio::task::block_in_place(Postgres::start) else {
        return;
    };
    let url = |name: &str| {
        tokio::task::block_in_place(|| psql(server.url(), "postgres", &format!("CREATE DATABASE {name}")));
        format!("{}/{name}", server.url())
    };
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    std::fs::copy(folder.path().join("log_key.pem"), folder.path().join("witness_key.pem")).unwrap();
    let config = CONFIG
        .replace("sqlite:audit.db", &url("log"))
        .replace("sqlite:audit-keys.db", &url("keys"));
    let audit = serve::<Audit>(folder.path(), &config).await;
    let config = WITNESS.replace("sqlite:witness.db", &url("witness"));
    let witness = serve::<Witness>(folder.path(), &config).await;
    tokio::task::block_in_place(|| server.kill());
    until_away(audit.admin_address, 2).await;
    until_away(witness.admin_address, 1).await;
    tokio::task::block_in_place(|| server.restart());
    until_away(audit.admin_address, 0).await;
    until_away(witness.admin_address, 0).await;
    let metrics = String::from_utf8(get(audit.admin_address, "/metrics").body).unwrap();
    assert!(!metrics.contains("store_confirmations_total 0\n"), "{metrics}");
    audit.shutdown().await;
    witness.shutdown().await;
}
