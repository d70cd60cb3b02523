//! Everything that reads bytes from outside, or from a disk that others can write: nothing panics, what is taken is written
//! back as it was where there is one way to write it, and answers have bounds. The smoke test feeds it with bent examples, and
//! `fuzz/` with what a fuzzer finds. What speaks HTTP/2, TLS and Postgres's protocol is others' code, and fuzzed there.

mod archive;
mod files;
mod log;
mod messages;
mod names;
mod tokens;

use sammati_kernel::{AccountId, Actor, Caller, Micros, Peer, SessionId, Slot};

/// Readers that go together, for they read the same examples.
#[derive(Clone, Copy)]
pub struct Family {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// Reads bytes as everything of the family that they could be.
    pub read: fn(&[u8]),
    /// Examples, most of them good ones.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const FAMILIES: [Family; 6] = [
    archive::FAMILY,
    files::FAMILY,
    log::FAMILY,
    messages::FAMILY,
    names::FAMILY,
    tokens::FAMILY,
];

/// Reads `bytes` as what the family of this name reads.
///
/// # Panics
/// When there is no such family; and when a reader is wrong, which is what it is for.
pub fn read(name: &str, bytes: &[u8]) {
    let family = FAMILIES.into_iter().find(|family| family.name == name);
    (family.expect("a family").read)(bytes);
}

/// Reads the files that the command line names, as what a fuzzer found is read again by a target that is built without one.
///
/// # Errors
/// When a file cannot be read.
pub fn read_files(name: &str) -> std::io::Result<()> {
    for file in std::env::args_os().skip(1) {
        read(name, &std::fs::read(file)?);
    }
    Ok(())
}

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn id() -> AccountId {
    AccountId::new(Micros(1), Slot::new(1), [1; 8])
}

/// Who sends something, where that matters: she, and an operator.
fn callers() -> [Caller; 2] {
    let actor = Actor::Person {
        account: id(),
        session: SessionId::new(Micros(1), Slot::new(1), [1; 8]),
        app: None,
        auth_time: 0,
    };
    let she = Caller {
        peer: Peer::Anonymous,
        actor: Some(actor),
    };
    let operator = Caller {
        peer: Peer::Operator("asha".to_owned()),
        actor: None,
    };
    [she, operator]
}
