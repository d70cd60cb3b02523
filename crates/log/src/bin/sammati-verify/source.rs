//! Where the paths of a log are read from: a folder, or a server that speaks HTTP.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::input::{Failure, read_at_most};

/// How long a server may keep silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most bytes of the head of an answer.
const MAX_HEAD: u64 = 64 * 1024;

/// A log's paths.
pub(crate) enum Source {
    /// Files below a folder.
    Folder(PathBuf),
    /// `host:port`, and what stands before each path.
    Http {
        /// Where to connect.
        address: String,
        /// Begins and ends with a slash.
        prefix: String,
    },
}

impl Source {
    /// A folder, or `http://host[:port][/prefix]`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with("https://") {
            let why = "https is not spoken here: mirror the log into a folder, or let a proxy speak it";
            return Err(Failure::usage(text, why));
        }
        let Some(rest) = text.strip_prefix("http://") else {
            return match Path::new(text).is_dir() {
                true => Ok(Self::Folder(PathBuf::from(text))),
                false => Err(Failure::unusable(text, "no such folder")),
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
            Self::Http { address, prefix } => get(address, &format!("{prefix}{path}"), limit),
        };
        match fetched {
            Ok(Some(bytes)) if bytes.len() > limit => Err(Failure::unusable(path, format!("more than {limit} bytes"))),
            Ok(found) => Ok(found),
            Err(error) => Err(Failure::unusable(path, error)),
        }
    }
}

/// HTTP/1.0: the answer ends with the connection, and nothing in it is chunked.
fn get(address: &str, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let host = address.strip_suffix(":80").unwrap_or(address);
    write!(
        socket,
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept-Encoding: identity\r\n\r\n"
    )?;
    let mut reader = BufReader::new(socket);
    let (mut head, mut length) = (reader.by_ref().take(MAX_HEAD), None);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the answer ends in its head"));
        }
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<usize>().ok();
        }
    }
    match status {
        Some(200) => {}
        Some(404) => return Ok(None),
        Some(status) => return Err(io::Error::other(format!("HTTP status {status}"))),
        None => return Err(io::Error::other("that is no answer of HTTP")),
    }
    // As much as was said, for some servers keep the connection all the same.
    match length {
        Some(length) if length > limit => Err(io::Error::other(format!("more than {limit} bytes"))),
        Some(length) => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            Ok(Some(body))
        }
        None => read_at_most(reader, limit).map(Some),
    }
}
