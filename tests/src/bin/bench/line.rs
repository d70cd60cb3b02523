//! A caller's connection, as cheap as HTTP/2 over TLS can be: one buffer to write, one to read, no task and no timer for a
//! call, and heads that are a few bytes after the first, as from clients that index all of them (grpc-go does). What a
//! comfortable client costs would be measured as the service's.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use loona_hpack::{Decoder, Encoder};
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use sammati_tests::caller::tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::measure::Failure;

/// How a client begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// All bits of a number that leaves one out, as a stream's and a window's do.
const BITS_31: u32 = (1 << 31) - 1;

/// What all answers of a connection may take until it is told that more may come: as much as there can be.
const WINDOW: u32 = BITS_31;

/// What it is before anything is said of it, here and there.
const FIRST_WINDOW: u32 = 65_535;

/// So much is given back at a time.
const GIVEN_BACK: u32 = 1 << 24;

/// Kinds of frame (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Their flags.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED_OR_PRIORITY: u8 = 8 | 0x20;

/// Settings of the service.
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// What a call came to.
pub(crate) struct Answer {
    /// From when it was due.
    pub(crate) took: Duration,
    /// The block in which its status is: its headers, if it has nothing else, or its trailers; or why there is none.
    pub(crate) status: Result<HeaderMap, String>,
}

/// One connection, and the method that is called over it.
pub(crate) struct Line {
    stream: TlsStream<TcpStream>,
    /// The head of the first call, taken by it, and that of all later ones.
    first: Option<Vec<u8>>,
    later: Vec<u8>,
    heads: Decoder<'static>,
    out: BytesMut,
    come: BytesMut,
    /// The stream of the next call.
    next: u32,
    /// When the calls that are open were due.
    open: HashMap<u32, Instant>,
    /// How many may be, once the service has said it.
    most: Option<usize>,
    /// How many bytes of messages may be sent.
    window: u32,
    /// How many bytes of answers came since that was last told.
    taken: u32,
    answers: Vec<Answer>,
}

/// What a caller brings: the folder of the certificates, the name of its own, a token.
pub(crate) struct Credential<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) token: &'a str,
}

impl Line {
    /// To the service at `url`, for calls of `path`. Returns when it has said how many calls may be open.
    pub(crate) async fn open(url: &str, path: &str, credential: &Credential<'_>) -> Result<Self, Failure> {
        let authority = url.trim_start_matches("https://");
        let at: SocketAddr = authority.parse()?;
        let socket = TcpStream::connect(at).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(tls(credential.folder, Some(credential.name))?)
            .connect(name, socket)
            .await?;
        let token = format!("Bearer {}", credential.token);
        let head = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", &token),
        ];
        let mut encoder = Encoder::new();
        let mut block = || encoder.encode(head.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let mut line = Self {
            stream,
            first: Some(block()),
            later: block(),
            heads: Decoder::new(),
            out: BytesMut::from(PREFACE),
            come: BytesMut::new(),
            next: 1,
            open: HashMap::new(),
            most: None,
            window: FIRST_WINDOW,
            taken: 0,
            answers: Vec::new(),
        };
        line.frame(SETTINGS, 0, 0, &[]);
        line.frame(WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes());
        while line.most.is_none() {
            poll_fn(|cx| line.talk(cx)).await?;
        }
        Ok(line)
    }

    /// How many calls wait for their answers.
    pub(crate) fn flying(&self) -> usize {
        self.open.len()
    }

    /// Begins a call that was due at `at`; tells whether it could, for no more may be open than the service allows. It is sent
    /// with the next look for answers.
    pub(crate) fn call(&mut self, at: Instant, message: impl FnOnce() -> Bytes) -> bool {
        if self.most.is_none_or(|most| self.open.len() >= most) {
            return false;
        }
        let message = message();
        let Some(left) = u32::try_from(message.len())
            .ok()
            .and_then(|n| self.window.checked_sub(n))
        else {
            return false;
        };
        self.window = left;
        let (stream, head) = (self.next, self.first.take());
        self.next += 2;
        let head = head.unwrap_or_else(|| self.later.clone());
        self.frame(HEADERS, END_HEADERS, stream, &head);
        self.frame(DATA, END_STREAM, stream, &message);
        self.open.insert(stream, at);
        true
    }

    /// Sends what was called, and waits for some answers. Nothing is lost when it is given up.
    pub(crate) async fn answers(&mut self) -> Result<Vec<Answer>, Failure> {
        while self.answers.is_empty() {
            poll_fn(|cx| self.talk(cx)).await?;
        }
        Ok(std::mem::take(&mut self.answers))
    }

    /// Sends, and reads once what has come.
    fn talk(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out)? {
                Poll::Ready(written) => self.out.advance(written),
                Poll::Pending => break,
            }
        }
        // What TLS holds back.
        let _ = Pin::new(&mut self.stream).poll_flush(cx)?;
        let mut room = [0; 16 * 1024];
        let mut read = ReadBuf::new(&mut room);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read)? {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(()) if read.filled().is_empty() => {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            Poll::Ready(()) => self.come.extend_from_slice(read.filled()),
        }
        while let Some((kind, flags, stream, payload)) = whole(&mut self.come) {
            self.take(kind, flags, stream, payload)?;
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, mut payload: Bytes) -> Result<(), Failure> {
        match kind {
            HEADERS if flags & END_HEADERS == 0 || flags & PADDED_OR_PRIORITY != 0 => {
                return Err("headers in a form that no server of ours uses".into());
            }
            HEADERS => {
                // Each block is read, for the next ones are written upon it.
                let fields = self.heads.decode(&payload).map_err(|e| format!("{e:?}"))?;
                if flags & END_STREAM != 0 {
                    self.answered(stream, Ok(headers(fields)?));
                }
            }
            DATA => {
                self.taken += u32::try_from(payload.len())?;
                if self.taken >= GIVEN_BACK {
                    let taken = std::mem::take(&mut self.taken);
                    self.frame(WINDOW_UPDATE, 0, 0, &taken.to_be_bytes());
                }
                if flags & END_STREAM != 0 {
                    self.answered(stream, Err("an answer without a status".to_owned()));
                }
            }
            RST_STREAM => self.answered(stream, Err(format!("reset: {}", payload.try_get_u32()?))),
            SETTINGS if flags & ACK == 0 => {
                // Where it says nothing there is no bound; what it said before holds until it says otherwise.
                self.most = self.most.or(Some(usize::MAX));
                while payload.has_remaining() {
                    let (setting, value) = (payload.try_get_u16()?, payload.try_get_u32()?);
                    if setting == MAX_CONCURRENT_STREAMS {
                        self.most = Some(usize::try_from(value)?);
                    }
                }
                self.frame(SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload),
            WINDOW_UPDATE if stream == 0 => self.window += payload.try_get_u32()?,
            GOAWAY => return Err("the service closes the connection".into()),
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, stream: u32, status: Result<HeaderMap, String>) {
        if let Some(at) = self.open.remove(&stream) {
            let took = at.elapsed();
            self.answers.push(Answer { took, status });
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        self.out.put_uint(length, 3);
        self.out.put_u8(kind);
        self.out.put_u8(flags);
        self.out.put_u32(stream);
        self.out.put_slice(payload);
    }
}

/// The next frame that has come whole: its kind, flags, stream and payload.
fn whole(come: &mut BytesMut) -> Option<(u8, u8, u32, Bytes)> {
    let mut head = come.get(..9)?;
    let length = usize::try_from(head.get_uint(3)).ok()?;
    let (kind, flags, stream) = (head.get_u8(), head.get_u8(), head.get_u32() & BITS_31);
    (come.len() >= 9 + length).then(|| {
        come.advance(9);
        (kind, flags, stream, come.split_to(length).freeze())
    })
}

/// A block as a map; without what HTTP/2 says of an answer itself.
fn headers(fields: Vec<(Vec<u8>, Vec<u8>)>) -> Result<HeaderMap, Failure> {
    let fields = fields.into_iter().filter(|(name, _)| !name.starts_with(b":"));
    let read = |(name, value): (Vec<u8>, Vec<u8>)| {
        let name = HeaderName::from_bytes(&name)?;
        Ok::<_, Failure>((name, HeaderValue::from_maybe_shared(Bytes::from(value))?))
    };
    fields.map(read).collect()
}

/// A message with gRPC's prefix.
pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// The code in a status; `None` for one that is not there.
pub(crate) fn code(status: &HeaderMap) -> Option<&HeaderValue> {
    status.get("grpc-status")
}
