//! Ports for what a test starts by a configuration, and starts again on the same port after it was killed.
//!
//! A port that was free when the system named it may be anybody's a moment later: of a test beside this one, or of any
//! connection that leaves this machine. So these come from below the range that connections get theirs from, and are
//! this process's until it ends.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;

/// Below 32768, where Linux begins to number connections (`ip_local_port_range`), and apart from what `make run` uses.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// What keeps the ports this process has: other tests look for a port's UDP socket before they take it, and nothing here
/// speaks UDP.
static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nobody listens on, and that nobody else is given as long as this process runs.
///
/// # Errors
/// When all are taken.
pub fn free() -> io::Result<u16> {
    // Processes that start together begin at different places.
    let start = std::process::id().wrapping_mul(7919);
    for n in 0..u32::from(COUNT) {
        let port = FIRST + u16::try_from(start.wrapping_add(n) % u32::from(COUNT)).expect("below COUNT");
        let Ok(taken) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else {
            continue;
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            TAKEN.lock().expect("nobody panics with it").push(taken);
            return Ok(port);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "every port from 10000 to 29999 is taken",
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_port_is_another_and_nobody_else_is_given_it() {
        let ports: BTreeSet<u16> = (0..20).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 20);
        for port in ports {
            // As often as what listens there is killed and started again.
            for _ in 0..2 {
                drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
                assert!(
                    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_err(),
                    "another process would take it"
                );
            }
        }
    }

    #[test]
    fn one_that_somebody_listens_on_is_passed_over() {
        let next = free().unwrap() + 1;
        let Ok(_held) = TcpListener::bind((Ipv4Addr::LOCALHOST, next)) else {
            return; // Somebody else is there already.
        };
        assert_ne!(free().unwrap(), next);
    }
}
