//! What the tour prints: a numbered line for each step, what came back, and the grpcurl command that does the same.

use std::fmt::Display;
use std::io::Write;

use sammati_tests::system::Processes;

/// Prints a line; a closed terminal ends nothing.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// A step that went well.
pub(crate) fn step(number: usize, what: &str, result: &str, command: &str) {
    line(&format!("{number:>2}. {what}"));
    for part in result.lines() {
        line(&format!("      {part}"));
    }
    line(&format!("      $ {command}"));
}

/// What went wrong, on stderr.
pub(crate) fn failure(what: &str, why: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "tour: {what}: {why}");
}

/// The end of a tour.
pub(crate) fn done(steps: usize) {
    line(&format!("tour: {steps} steps, all as they should be"));
}

/// What can be done while the services run on.
pub(crate) fn serving(system: &Processes) {
    let a = &system.addresses;
    let bare = |url: &str| url.trim_start_matches("https://").to_owned();
    line("");
    line("The services go on until Ctrl-C:");
    for (name, url) in [
        ("identity", &a.identity),
        ("consent", &a.consent),
        ("audit", &a.audit),
        ("sandbox", &a.sandbox),
    ] {
        line(&format!("  {name:<9} {}", bare(url)));
    }
    let dev = a.folder.display();
    line("Look around:");
    line(&format!(
        "  grpcurl -cacert {dev}/ca.pem -cert {dev}/operator.pem -key {dev}/operator-key.pem {} list",
        bare(&a.identity)
    ));
    line(&format!(
        "  grpcurl -cacert {dev}/ca.pem {} describe sammati.consent.v1.DecisionService",
        bare(&a.consent)
    ));
}
