//! Asking over plain HTTP, with nothing but a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// What an HTTP server answered.
pub(crate) struct Got {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Got {
    /// A header of it, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(is, _)| is.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }
}

/// Fetches a path.
pub(crate) fn get(address: SocketAddr, path: &str) -> Got {
    exchange(address, &format!("GET {path} HTTP/1.0\r\n\r\n"), b"")
}

fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> Got {
    tokio::task::block_in_place(|| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Got {
            status,
            head,
            body: answer[end + 4..].to_vec(),
        }
    })
}

/// Sends a body to a path.
pub(crate) fn post(address: SocketAddr, path: &str, body: &[u8]) -> Got {
    exchange(
        address,
        &format!("POST {path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len()),
        body,
    )
}
