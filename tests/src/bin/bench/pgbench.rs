//! Postgres by its own benchmark: single-row inserts of a store's row, 64 clients, prepared, on the same server.

use std::process::Stdio;

use sammati_testkit::{Database, databases};
use tokio::process::Command;

use crate::measure::{CALLERS, Contender, Failure, Pace};

/// A row as `store.append` inserts, without its event.
const SCRIPT: &str = "INSERT INTO plain(partition,id,version,format,body) \
                      VALUES (1, uuid_send(gen_random_uuid()), 1, 1, decode(repeat('61', 200), 'hex'));\n";

const TABLE: &str = "CREATE TABLE plain (partition BIGINT NOT NULL, id BYTEA NOT NULL, version BIGINT NOT NULL, \
                     format BIGINT NOT NULL, body BYTEA NOT NULL, PRIMARY KEY (partition, id))";

/// `pgbench.insert`; none where pgbench is not installed, which is said.
pub(crate) fn contender(database: Database, pace: Pace) -> Result<Option<Contender>, Failure> {
    if std::process::Command::new("pgbench")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!("SKIPPED: pgbench.insert: pgbench is not on the path; it comes with PostgreSQL's contrib");
        return Ok(None);
    }
    let (server, name) = database.url.rsplit_once('/').ok_or("a URL without a database")?;
    databases::psql(server, name, TABLE);
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("insert.sql");
    std::fs::write(&script, SCRIPT)?;
    let seconds = pace.time.as_secs_f64().ceil().to_string();
    Ok(Some(Contender::new("pgbench.insert", move || {
        let mut command = Command::new("pgbench");
        command.args([
            "-n",
            "-M",
            "prepared",
            "-j",
            "2",
            "-c",
            &CALLERS.to_string(),
            "-T",
            &seconds,
            "-f",
        ]);
        command
            .arg(folder.path().join("insert.sql"))
            .arg(&database.url)
            .kill_on_drop(true);
        rate(command)
    })))
}

async fn rate(mut command: Command) -> Result<f64, Failure> {
    let out = command.output().await?;
    let text = String::from_utf8_lossy(&out.stdout);
    let tps = text
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.ok_or_else(|| format!("pgbench: {}", String::from_utf8_lossy(&out.stderr)).into())
}
