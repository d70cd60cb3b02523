//! The one binary: every service is a subcommand of it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sammati_server::Verb;

/// What `sammati --help` says after the list of commands.
const AFTER_HELP: &str = "\
Where to begin:
  On a laptop, in the source tree:   make run
  It makes certificates, keys and configurations under var/dev, starts all four services and shows one consent from
  beginning to end. To start one service of it by hand:   sammati identity --config var/dev/identity.toml

What else it can do, of identity, consent and audit:
  sammati <service> migrate|backup|restore|recover|fsck|archive|doctor --config FILE      each with --help

When something is wrong:
  What is it?             sammati <service> doctor --config FILE: checks what the service needs, and says what to do
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
    /// Who remembers: a witness of other operators' logs, which cosigns what continues what it saw
    #[command(after_help = after("witness", 7105))]
    Witness(Settings),
    /// A simulation of UIDAI and an SMS gateway, for laptops and tests: invented people, never for production
    #[command(after_help = after("sandbox", 7104))]
    Sandbox(Settings),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Settings {
    /// The configuration, TOML. Relative paths in it start from its own folder; an unknown key in it is refused
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

fn after(service: &str, port: u16) -> String {
    format!(
        "Example:\n  sammati {service} --config var/dev/{service}.toml\n\n\
         \"ready: {service} on 127.0.0.1:{port}\" on stdout tells that it serves. `make run` writes such a configuration."
    )
}

fn main() -> ExitCode {
    match Cli::parse().service {
        Service::Identity(settings) => run::<sammati_identity::Identity>(settings),
        Service::Consent(settings) => run::<sammati_consent::Consent>(settings),
        Service::Audit(settings) => run::<sammati_audit::Audit>(settings),
        Service::Witness(settings) => run::<sammati_audit::witness::Witness>(settings),
        Service::Sandbox(settings) => run::<sammati_sandbox::Sandbox>(settings),
    }
}

/// Without a verb it serves.
fn run<S: sammati_server::Service>(settings: Settings) -> ExitCode {
    match settings.verb {
        Some(verb) => sammati_server::operate::<S>(&verb),
        // Without a verb there is a configuration: it is required then.
        None => sammati_server::main::<S>(&settings.config.unwrap_or_default()),
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
        for service in ["identity", "consent", "audit", "witness", "sandbox"] {
            assert!(Cli::try_parse_from(["sammati", service]).is_err(), "{service}");
            assert!(
                Cli::try_parse_from(["sammati", service, "--config", "x.toml"]).is_ok(),
                "{service}"
            );
        }
        assert!(Cli::try_parse_from(["sammati"]).is_err());
    }

    #[test]
    fn a_verb_stands_between_the_service_and_its_configuration() {
        let parse = |rest: &str| Cli::try_parse_from(format!("sammati consent {rest}").split_whitespace());
        for verb in [
            "migrate",
            "fsck",
            "doctor",
            "archive --to y",
            "backup --to y",
            "restore --from y",
            "restore --replace --from y",
            "recover",
            "recover --without-log --by asha",
        ] {
            assert!(parse(&format!("{verb} --config x.toml")).is_ok(), "{verb}");
            assert!(parse(verb).is_err(), "{verb} without a configuration");
        }
        for bad in [
            "backup --config x.toml",
            "restore --config x.toml",
            "serve --config x.toml",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
