//! The one binary: every service is a subcommand of it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// What `sammati --help` says after the list of commands.
const AFTER_HELP: &str = "\
Where to begin:
  On a laptop, in the source tree:   make run
  It makes certificates, keys and configurations under var/dev, starts all four services and shows one consent from
  beginning to end. To start one service of it by hand:   sammati identity --config var/dev/identity.toml

When something is wrong:
  It does not start       read its last line on stderr: it names the file and the key, and says what is allowed
  Is it well?             curl http://127.0.0.1:7201/readyz     (its server.admin_listen; /livez and /metrics too)
  What can I ask it?      grpcurl -cacert ca.pem -cert operator.pem -key operator-key.pem 127.0.0.1:7101 list
  How do I stop it?       Ctrl-C or SIGTERM: it finishes the calls in work, then ends

It ends with 0 after an orderly stop, 2 when the configuration is not good, and 1 for anything else.";

/// Sammati: the identity and consent backend of a health data exchange. One program, four services.
#[derive(Debug, Parser)]
#[command(name = "sammati", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    service: Service,
}

#[derive(Debug, Subcommand)]
enum Service {
    /// Who: ABHA numbers and addresses, logins, participants. Start it first: consent and audit ask it who is who
    #[command(after_help = after("identity", 7101))]
    Identity(Settings),
    /// What may flow: requests, consents, decisions, transfers
    #[command(after_help = after("consent", 7102))]
    Consent(Settings),
    /// What happened: a log that nobody can change unseen, and proofs of it
    #[command(after_help = after("audit", 7103))]
    Audit(Settings),
    /// A simulation of UIDAI and an SMS gateway, for laptops and tests: invented people, never for production
    #[command(after_help = after("sandbox", 7104))]
    Sandbox(Settings),
}

#[derive(Debug, Args)]
struct Settings {
    /// The configuration, TOML. Relative paths in it start from its own folder; an unknown key in it is refused
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn after(service: &str, port: u16) -> String {
    format!(
        "Example:\n  sammati {service} --config var/dev/{service}.toml\n\n\
         \"ready: {service} on 127.0.0.1:{port}\" on stdout tells that it serves. `make run` writes such a configuration."
    )
}

fn main() -> ExitCode {
    match Cli::parse().service {
        Service::Identity(settings) => sammati_server::main::<sammati_identity::Identity>(&settings.config),
        Service::Consent(settings) => sammati_server::main::<sammati_consent::Consent>(&settings.config),
        Service::Audit(settings) => sammati_server::main::<sammati_audit::Audit>(&settings.config),
        Service::Sandbox(settings) => sammati_server::main::<sammati_sandbox::Sandbox>(&settings.config),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_hangs_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_service_wants_its_configuration() {
        for service in ["identity", "consent", "audit", "sandbox"] {
            assert!(Cli::try_parse_from(["sammati", service]).is_err(), "{service}");
            assert!(
                Cli::try_parse_from(["sammati", service, "--config", "x.toml"]).is_ok(),
                "{service}"
            );
        }
        assert!(Cli::try_parse_from(["sammati"]).is_err());
    }
}
