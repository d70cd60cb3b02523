//! Where the paths of a log are read from: a folder, a ZIP file, or a server that speaks HTTP.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::input::{Failure, read_at_most};
use super::zipped::Zipped;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer may take, all of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most bytes of the head of an answer.
const MAX_HEAD: u64 = 64 * 1024;

/// A log's paths.
pub(crate) enum Source {
    /// Files below a folder.
    Folder(PathBuf),
    /// Files in a ZIP file.
    Zip(Zipped),
    /// `host:port`, and what stands before each path.
    Http {
        /// Where to connect.
        address: String,
        /// Begins and ends with a slash.
        prefix: String,
    },
}

impl Source {
    /// A folder, a ZIP file, or `http://host[:port][/prefix]`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with("https://") {
            let why = "https is not spoken here: mirror the log into a folder, or let a proxy speak it";
            return Err(Failure::usage(text, why));
        }
        let Some(rest) = text.strip_prefix("http://") else {
            let path = Path::new(text);
            return match (path.is_dir(), path.is_file()) {
                (true, _) => Ok(Self::Folder(PathBuf::from(text))),
                (_, true) => Zipped::open(text).map(Self::Zip),
                _ => Err(Failure::unusable(text, "no such folder or file")),
            };
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !plain(rest) {
            return Err(Failure::usage(text, "it is no URL"));
        }
        // The colon of a port, not one within an address of IPv6.
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let path = path.trim_end_matches('/');
        Ok(Self::Http {
            address: if has_port {
                host.to_owned()
            } else {
                format!("{host}:80")
            },
            prefix: if path.is_empty() {
                "/".to_owned()
            } else {
                format!("/{path}/")
            },
        })
    }

    /// What is at a path below the log, of at most `limit` bytes; `None` if nothing is.
    pub(crate) fn fetch(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
        let fetched = match self {
            Self::Folder(folder) => match File::open(folder.join(path)) {
                Ok(file) => read_at_most(file, limit).map(Some),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Self::Zip(file) => file.read(path, limit),
            Self::Http { address, prefix } => get(address, &format!("{prefix}{path}"), limit),
        };
        match fetched {
            Ok(Some(bytes)) if bytes.len() > limit => Err(Failure::unusable(path, format!("more than {limit} bytes"))),
            Ok(found) => Ok(found),
            Err(error) => Err(Failure::unusable(path, error)),
        }
    }

    /// The same of a file that an archive has beside the log's paths; a server has none.
    pub(crate) fn beside(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Http { .. } => Ok(None),
            Self::Folder(_) | Self::Zip(_) => self.fetch(path, limit),
        }
    }

    /// Whether something is at a path; of a server it is taken to be.
    pub(crate) fn has(&self, path: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(path).is_file(),
            Self::Zip(file) => file.has(path),
            Self::Http { .. } => true,
        }
    }

    /// Reads every file of a ZIP file once, so that a byte that was changed in any of them is found.
    pub(crate) fn read_through(&self) -> Result<(), Failure> {
        match self {
            Self::Zip(file) => file.read_through().map_err(|failure| failure.within(self)),
            Self::Folder(_) | Self::Http { .. } => Ok(()),
        }
    }

    /// The ZIP file that it is.
    pub(crate) fn file(&self) -> Option<&str> {
        match self {
            Self::Zip(file) => Some(file.name()),
            Self::Folder(_) | Self::Http { .. } => None,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline, in a program that has no Clock")]
fn now() -> Instant {
    Instant::now()
}

/// An answer's bytes until it is late: each read has the time that is left.
struct Until {
    socket: TcpStream,
    end: Instant,
}

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_duration_since(now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        self.socket.read(buffer)
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn get(address: &str, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut socket = connect(address)?;
    socket.set_write_timeout(Some(CONNECT))?;
    let host = address.strip_suffix(":80").unwrap_or(address);
    write!(
        socket,
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept-Encoding: identity\r\n\r\n"
    )?;
    let end = now() + PATIENCE;
    answer(Until { socket, end }, limit)
}

/// HTTP/1.0: the body is as long as the head says, and stands there as it is. What says nothing, or is spelled otherwise, is
/// not guessed at; some servers keep the connection all the same.
pub(crate) fn answer(source: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut reader = BufReader::new(source);
    let (mut head, mut length) = (reader.by_ref().take(MAX_HEAD), None);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    let mut spelled = None;
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the answer ends in its head"));
        }
        if line.trim_end().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse::<usize>().ok();
        }
        let is_coding = ["content-encoding", "transfer-encoding"]
            .iter()
            .any(|coding| name.eq_ignore_ascii_case(coding));
        if is_coding && !value.eq_ignore_ascii_case("identity") {
            spelled = Some(format!("the answer has {name} {value}, which was not asked for"));
        }
    }
    match (status, spelled, length) {
        (Some(404), ..) => Ok(None),
        (None, ..) => Err(io::Error::other("that is no answer of HTTP")),
        (Some(200), Some(why), _) => Err(io::Error::other(why)),
        (Some(200), None, None) => Err(io::Error::other("the answer does not say how long it is")),
        (Some(200), None, Some(length)) if length > limit => Err(io::Error::other(format!("more than {limit} bytes"))),
        (Some(200), None, Some(length)) => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            Ok(Some(body))
        }
        (Some(status), ..) => Err(io::Error::other(format!("HTTP status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answered(head: &str) -> Result<Option<Vec<u8>>, String> {
        let text = format!("HTTP/1.1 {head}\r\n\r\nbody");
        answer(text.as_bytes(), 10).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_spelled_otherwise_is_not_guessed_at() {
        assert_eq!(answered("200 OK\r\nContent-Length: 4"), Ok(Some(b"body".to_vec())));
        let plain = "200 OK\r\nContent-Encoding: identity\r\nContent-Length: 3";
        assert_eq!(answered(plain), Ok(Some(b"bod".to_vec())));
        assert_eq!(answered("404 Not Found"), Ok(None));
        for (head, why) in [
            ("200 OK", "how long"),
            ("200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip", "gzip"),
            ("200 OK\r\nContent-Length: 4\r\ntransfer-encoding: chunked", "chunked"),
            ("200 OK\r\nContent-Length: 11", "more than 10"),
            ("200 OK\r\nContent-Length: 5", "fill"),
            ("500 Oops", "500"),
            ("nothing", "no answer"),
        ] {
            let refused = answered(head).unwrap_err();
            assert!(refused.contains(why), "{head:?}: {refused}");
        }
    }

    #[test]
    fn what_comes_late_is_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        server.write_all(whole).unwrap();
        let late = Until {
            socket: socket.try_clone().unwrap(),
            end: now(),
        };
        assert_eq!(answer(late, 10).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let end = now() + PATIENCE;
        assert_eq!(answer(Until { socket, end }, 10).unwrap().unwrap(), b"body");
    }
}
