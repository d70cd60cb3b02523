//! The binary as `make run` starts it: every service on the development set-up, and what it says when it cannot.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sammati_testkit::{Configs, Development, Ports};
use tempfile::TempDir;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sammati"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code(), text)
}

/// A service that was started; ended with the test whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts `service` and returns once it has said that it serves.
    fn start(service: &str, config: &Path) -> (Self, String) {
        let child = command(&[service, "--config", config.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Self(child);
        let mut line = String::new();
        // Ends with the process at the latest: then the line is empty.
        BufReader::new(running.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        (running, line)
    }

    /// Stops it as Kubernetes does.
    fn stop(&mut self) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

/// The development set-up on free ports, in a folder that goes with the first of these.
fn set_up() -> (TempDir, Development, Configs) {
    let folder = tempfile::tempdir().unwrap();
    let development = Development {
        folder: folder.path().join("dev"),
        ports: Ports::free().unwrap(),
        ..Development::default()
    };
    let configs = development.write().unwrap();
    (folder, development, configs)
}

#[test]
fn every_service_starts_on_the_development_set_up_and_stops_in_order() {
    let (_folder, development, configs) = set_up();
    let ports = development.ports;
    let mut all = Vec::new();
    for (service, config, port) in [
        ("identity", &configs.identity, ports.identity),
        ("consent", &configs.consent, ports.consent),
        ("audit", &configs.audit, ports.audit),
        ("sandbox", &configs.sandbox, ports.sandbox),
    ] {
        let (running, line) = Running::start(service, config);
        assert_eq!(line, format!("ready: {service} on 127.0.0.1:{}\n", port.rpc));
        all.push((service, running));
    }
    for (service, running) in &mut all {
        assert_eq!(running.stop(), Some(0), "{service}");
    }
}

#[test]
fn it_tells_what_to_do() {
    let (code, help) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for word in ["identity", "consent", "audit", "sandbox", "make run", "readyz"] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    let (code, version) = run(&["--version"]);
    assert_eq!(
        (code, version.trim()),
        (Some(0), concat!("sammati ", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(run(&[]).0, Some(2));
}

#[test]
fn a_bad_configuration_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sandbox.toml");
    let (code, said) = run(&["sandbox", "--config", path.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(said.contains("sandbox.toml"), "{said}");
    let server =
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ntrust_domain = \"sammati.local\"\n";
    std::fs::write(&path, format!("{server}[service]\nseed = 1\n")).unwrap();
    let (code, said) = run(&["sandbox", "--config", path.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(said.contains("sandbox = true"), "{said}");
}

/// A verb on a configuration.
fn verb(service: &str, config: &Path, verb: &[&str]) -> (Option<i32>, String) {
    run(&[&[service], verb, &["--config", config.to_str().unwrap()]].concat())
}

#[test]
fn an_operator_saves_checks_and_restores_by_verbs() {
    let (folder, _, configs) = set_up();
    let saved = |name: &str| folder.path().join(name).display().to_string();
    let (code, said) = verb("audit", &configs.audit, &["migrate"]);
    assert!(
        code == Some(0) && said.contains("log: applied") && said.contains("payload keys: applied"),
        "{said}"
    );
    let (code, said) = verb("audit", &configs.audit, &["migrate"]);
    assert!(code == Some(0) && said.contains("nothing was to do"), "{said}");
    let (mut running, line) = Running::start("audit", &configs.audit);
    assert!(line.starts_with("ready"), "{line}");
    let (code, said) = verb("audit", &configs.audit, &["backup", "--to", &saved("a.db")]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        verb("audit", &configs.audit, &["backup", "--to", &saved("a.db")]).0,
        Some(1)
    );
    assert_eq!(verb("audit", &configs.audit, &["fsck"]).0, Some(0), "while it serves");
    // It signs as soon as it runs; what is not signed is not archived.
    let archived = (0..100).any(|_| verb("audit", &configs.audit, &["archive", "--to", &saved("log")]).0 == Some(0));
    assert!(archived, "a log was signed");
    let note = std::fs::read_to_string(saved("log/checkpoint")).unwrap();
    assert_eq!(note.lines().nth(1), Some("0"), "{note}");
    let (code, said) = verb("audit", &configs.audit, &["archive", "--to", &saved("log")]);
    assert!(code == Some(1) && said.contains("is not empty"), "{said}");
    let (code, said) = verb("identity", &configs.identity, &["archive", "--to", &saved("none")]);
    assert!(code == Some(1) && said.contains("keeps no log"), "{said}");
    let (code, said) = verb(
        "audit",
        &configs.audit,
        &["restore", "--replace", "--from", &saved("a.db")],
    );
    assert!(code == Some(1) && said.contains("held by another process"), "{said}");
    assert_eq!(running.stop(), Some(0));
    assert_eq!(
        verb("audit", &configs.audit, &["restore", "--from", &saved("a.db")]).0,
        Some(1)
    );
    let (code, said) = verb(
        "audit",
        &configs.audit,
        &["restore", "--replace", "--from", &saved("a.db")],
    );
    assert!(
        code == Some(0) && said.contains("OTHER trees") && said.contains(".replaced-"),
        "{said}"
    );
    let (code, said) = verb("audit", &configs.audit, &["fsck", "--file", &saved("a.db")]);
    assert!(code == Some(0) && said.contains("payload keys: 1 partitions"), "{said}");
    // A page of the copy is overwritten.
    let mut bytes = std::fs::read(saved("a.db")).unwrap();
    bytes[4 * 4096..][..100].fill(0x5a);
    std::fs::write(saved("a.db"), bytes).unwrap();
    let (code, said) = verb("audit", &configs.audit, &["fsck", "--file", &saved("a.db")]);
    assert!(code == Some(1) && said.contains("log: the file: "), "{said}");
    assert_eq!(
        verb("audit", &configs.audit, &["fsck", "--file", &saved("none.db")]).0,
        Some(2)
    );
    assert_eq!(verb("sandbox", &configs.sandbox, &["migrate"]).0, Some(1));
}

#[test]
fn a_damaged_database_is_not_served() {
    let (_folder, development, configs) = set_up();
    assert_eq!(verb("identity", &configs.identity, &["migrate"]).0, Some(0));
    let database = development.folder.join("data/identity.db");
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[4 * 4096..][..100].fill(0x5a);
    std::fs::write(&database, bytes).unwrap();
    let (code, said) = run(&["identity", "--config", configs.identity.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("is damaged"), "{said}");
    let (code, said) = verb("identity", &configs.identity, &["doctor"]);
    assert!(
        code == Some(1) && said.contains("FAIL  database identity: quick_check"),
        "{said}"
    );
}

#[test]
fn a_doctor_says_what_to_do() {
    let (_folder, development, configs) = set_up();
    assert_eq!(verb("consent", &configs.consent, &["migrate"]).0, Some(0));
    let (running, _) = Running::start("identity", &configs.identity);
    let (code, said) = verb("consent", &configs.consent, &["doctor"]);
    assert_eq!(code, Some(0), "{said}");
    for wanted in [
        "kek is there",
        "is good for",
        "the schema is this binary's",
        "identity answers",
        "both certificates verify",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in:\n{said}");
    }
    assert!(said.contains("warn  peers: audit cannot be reached"), "{said}");
    drop(running);
    let secrets = development.folder.join("secrets/consent");
    std::fs::remove_file(secrets.join("kek")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(secrets.join("lookup"), open).unwrap();
    let (code, said) = verb("consent", &configs.consent, &["doctor"]);
    assert_eq!(code, Some(1), "{said}");
    for wanted in [
        "kek cannot be read",
        "lookup has the mode 644",
        "do: chmod",
        "2 failing",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in:\n{said}");
    }
    let text = std::fs::read_to_string(&configs.consent).unwrap();
    std::fs::write(&configs.consent, text.replace("\naudit = ", "\naudit_nxt = ")).unwrap();
    let (code, said) = verb("consent", &configs.consent, &["doctor"]);
    let wanted = "FAIL  configuration: peers.audit_nxt is unknown; this service calls audit, audit_next, identity";
    assert!(code == Some(2) && said.contains(wanted), "{said}");
    let (code, said) = run(&["consent", "--config", configs.consent.to_str().unwrap()]);
    assert!(code == Some(2) && said.contains("peers.audit_nxt is unknown"), "{said}");
    std::fs::write(&configs.consent, "[server]\n").unwrap();
    let (code, said) = verb("consent", &configs.consent, &["doctor"]);
    assert!(code == Some(2) && said.contains("FAIL  configuration"), "{said}");
}
