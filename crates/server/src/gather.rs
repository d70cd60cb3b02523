//! What HTTP/2 has to say at once, in one write and one TLS record.
//!
//! h2 asks whether a stream can write several pieces at once. Told yes, as by TLS, it writes each message of 256 bytes and
//! more by itself, to save a copy; but TLS copies what it encrypts anyway, and a write costs more than ten such copies.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// A frame as long as HTTP/2 has them here, 16 KiB, and the beginning of it, which comes apart.
const CAPACITY: usize = 17 * 1024;

/// A stream that takes one piece after the other and hands them over together when it is flushed.
#[derive(Debug)]
pub struct Gathering<I>(BufWriter<I>);

impl<I: AsyncWrite> Gathering<I> {
    /// Over `io`, which is written to only when it is flushed or much has come together.
    pub fn new(io: I) -> Self {
        Self(BufWriter::with_capacity(CAPACITY, io))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathering<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

/// Not vectored: that is what h2 goes by.
impl<I: AsyncWrite + Unpin> AsyncWrite for Gathering<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
