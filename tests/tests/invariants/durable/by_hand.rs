//! The judgement of traces that were written by hand.

use super::trace::{Asked, parse, violations};

/// One request, for the id `abc`.
fn judged(lines: &[&str]) -> Vec<String> {
    let asked = Asked {
        from: 1_000_000,
        to: 9_000_000,
        id: b"abc".to_vec(),
    };
    violations(&parse(&lines.join("\n")), 700, &[asked])
}

const WRITTEN: &str =
    r#"7 2.000000 pwrite64(3<\x2f\x78\x2d\x77\x61\x6c>, "\x00\x61\x62\x63\x00", 5, 0) = 5 <0.000010>"#;
const SYNCED: &str = r"7 3.000000 fdatasync(3<\x2f\x78\x2d\x77\x61\x6c>) = 0 <0.500000>";
const ANSWERED: &str =
    r#"8 4.000000 sendto(5<TCP:[127.0.0.1:700->127.0.0.1:9]>, "\x68", 1, 0, NULL, 0) = 1 <0.000049>"#;
const READ: &str =
    r#"8 1.500000 recvfrom(5<TCP:[127.0.0.1:700->127.0.0.1:9]>, "\x68", 1, 0, NULL, NULL) = 1 <0.000049>"#;

#[test]
fn an_answer_after_its_sync_is_right() {
    assert_eq!(judged(&[READ, WRITTEN, SYNCED, ANSWERED]), Vec::<String>::new());
}

#[test]
fn a_short_number_of_a_thread_is_padded() {
    let padded = [READ, WRITTEN, SYNCED, ANSWERED].map(|line| line.replacen(' ', "   ", 1));
    assert_eq!(judged(&padded.each_ref().map(String::as_str)), Vec::<String>::new());
}

#[test]
fn an_answer_that_leaves_first_is_found() {
    let early = ANSWERED.replace("8 4.0", "8 2.5");
    assert!(judged(&[READ, WRITTEN, &early, SYNCED])[0].contains("before it was durable"));
    // While the sync is under way.
    let early = ANSWERED.replace("8 4.0", "8 3.2");
    assert!(judged(&[READ, WRITTEN, SYNCED, &early])[0].contains("before it was durable"));
    // A later answer does not make up for it.
    assert_eq!(judged(&[READ, WRITTEN, SYNCED, &early, ANSWERED]).len(), 1);
}

#[test]
fn a_sync_that_does_not_cover_it_is_none() {
    let is_bare = |lines: &[&str]| assert!(judged(lines)[0].contains("nothing made it durable"));
    is_bare(&[READ, WRITTEN, ANSWERED]);
    is_bare(&[READ, SYNCED, ANSWERED]);
    is_bare(&[READ, WRITTEN, &SYNCED.replace("= 0", "= 0 (INJECTED)"), ANSWERED]);
    is_bare(&[
        READ,
        WRITTEN,
        &SYNCED.replace("= 0", "= -1 EIO (Input/output error)"),
        ANSWERED,
    ]);
    is_bare(&[READ, WRITTEN, &SYNCED.replace("7 3.0", "7 1.9"), ANSWERED]);
    is_bare(&[
        READ,
        WRITTEN,
        &SYNCED.replace(r"\x2d\x77\x61\x6c", r"\x2d\x77\x61\x6d"),
        ANSWERED,
    ]);
    // Another database's log.
    is_bare(&[READ, WRITTEN, &SYNCED.replace(r"\x78", r"\x79"), ANSWERED]);
    is_bare(&[READ, &WRITTEN.replace(r"\x62", r"\x65"), SYNCED, ANSWERED]);
}

#[test]
fn calls_that_are_told_in_two_lines_are_read() {
    let lines = [
        READ,
        WRITTEN,
        r"7 3.000000 fdatasync(3<\x2f\x78\x2d\x77\x61\x6c> <unfinished ...>",
        ANSWERED,
        r"7 5.000000 <... fdatasync resumed>) = 0 <2.000000>",
    ];
    assert!(judged(&lines)[0].contains("1000000 µs before"));
}

#[test]
fn an_answer_that_is_not_there_is_said() {
    assert!(judged(&[READ, WRITTEN, SYNCED])[0].contains("not in the trace"));
    assert!(judged(&[WRITTEN, SYNCED, &ANSWERED.replace(":700->", ":701->")])[0].contains("not in the trace"));
}

#[test]
fn on_postgres_the_answer_to_the_commit_counts() {
    let session = |time: &str, name: &str, hex: &str| {
        format!(r#"7 {time} {name}(4<UNIX-STREAM:[1->2]>, "{hex}", 99, 0, NULL, 0) = 99 <0.100000>"#)
    };
    let hex = |text: &[u8]| text.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let sent = session("2.000000", "sendto", &hex(b"B..abc"));
    let commit = session("2.500000", "sendto", &hex(b"QCOMMIT\0"));
    let told = |time| session(time, "recvfrom", &hex(b"CCOMMIT\0Z"));
    let (right, late) = (told("3.000000"), told("5.000000"));
    assert_eq!(judged(&[&sent, &commit, &right, ANSWERED]), Vec::<String>::new());
    assert!(judged(&[&sent, &commit, ANSWERED, &late])[0].contains("before it was durable"));
    assert!(judged(&[&sent, &commit, ANSWERED])[0].contains("nothing made it durable"));
    // A transaction that reads makes nothing durable.
    let reading = session("1.900000", "sendto", &hex(b"BEGIN READ ONLY\0"));
    assert!(judged(&[&reading, &sent, &commit, &right, ANSWERED])[0].contains("nothing made it durable"));
}
