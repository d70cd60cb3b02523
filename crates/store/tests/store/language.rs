//! What diesel tells only by text is read in English alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sammati_kernel::ManualClock;
use sammati_store::Location;
use sammati_testkit::databases::psql;
use sammati_testkit::{Postgres, Setup};

use crate::world::{START, open_with, options};

/// A folder of locales with one that is called German; what it says matters to nobody here but Postgres.
fn german() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let from = ["/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"].map(Path::new);
    let Some(from) = from.into_iter().find(|path| path.exists()) else {
        eprintln!("SKIPPED: a server in another language: this machine has no locale to make one of");
        return None;
    };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut copy = std::process::Command::new("cp");
    let copied = copy.arg("-rL").arg(from).arg(folder.path().join("de_DE.utf8")).status();
    assert!(copied.unwrap().success(), "the locale cannot be copied");
    Some(folder)
}

#[test]
fn a_server_whose_messages_cannot_be_read_is_refused_with_what_to_do() {
    let Some(locales) = german() else { return };
    let path = locales.path().display().to_string();
    let Some(server) = Postgres::start_with(&Setup {
        settings: &["lc_messages=de_DE.UTF-8"],
        environment: &[("LOCPATH", &path)],
        ..Setup::default()
    }) else {
        return;
    };
    assert_eq!(psql(server.url(), "postgres", "SHOW lc_messages"), "de_DE.UTF-8");
    psql(server.url(), "postgres", "CREATE ROLE plain LOGIN");
    psql(server.url(), "postgres", "CREATE DATABASE words OWNER plain");
    let url = format!("{}/words", server.url().replace("postgres@", "plain@"));
    let open = || open_with(&options(Location::parse(&url).unwrap()), &ManualClock::at(START)).map(drop);
    let refusal = open().unwrap_err().to_string();
    assert!(
        refusal.contains("de_DE.UTF-8") && refusal.contains("GRANT SET ON PARAMETER lc_messages"),
        "{refusal}"
    );
    psql(server.url(), "postgres", "GRANT SET ON PARAMETER lc_messages TO plain");
    open().unwrap();
    psql(
        server.url(),
        "postgres",
        "REVOKE SET ON PARAMETER lc_messages FROM plain",
    );
    psql(server.url(), "postgres", "ALTER ROLE plain SET lc_messages='C'");
    open().unwrap();
}
