//! A part of an archive on its way: packed, hashed and cut into pieces.

use std::io;
use std::mem;

use ring::digest::{Context, SHA256};
use sammati_kernel::{Reason, Refusal};
use tokio::sync::mpsc::Sender;

use super::pack::Pack;

/// Bytes of a piece, but for the last one. In base64 it ends without padding, so that pieces can be joined as text.
pub(crate) const PIECE: usize = 192 * 1024;

/// Some bytes of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The part, from 0.
    pub(crate) part: u64,
    /// The name of its file.
    pub(crate) file_name: String,
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// The bytes.
    pub(crate) content: Vec<u8>,
    /// With the last one: what the part is.
    pub(crate) whole: Option<Whole>,
}

/// A part that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Of its file.
    pub(crate) sha256: Vec<u8>,
    /// Of its file.
    pub(crate) bytes: u64,
    /// Its first leaf, and the one behind its last.
    pub(crate) leaves: (u64, u64),
    /// How many parts the archive has, and of how many leaves it is.
    pub(crate) archive: (u64, u64),
}

/// Why a part is not sent.
pub(crate) enum Stop {
    /// Nobody takes it any more.
    Gone,
    /// It cannot be read now.
    Refused(Refusal),
    /// It is not what was signed.
    Damaged(String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<sammati_log::Error> for Stop {
    fn from(error: sammati_log::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Sends a part.
pub(super) struct Pieces<'a> {
    part: u64,
    file_name: String,
    pack: Option<Pack>,
    digest: Context,
    sent: u64,
    ready: Vec<u8>,
    to: &'a Sender<Result<Piece, Refusal>>,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(file_name: String, part: u64, to: &'a Sender<Result<Piece, Refusal>>) -> Self {
        Self {
            part,
            file_name,
            pack: Some(Pack::new()),
            digest: Context::new(&SHA256),
            sent: 0,
            ready: Vec::new(),
            to,
        }
    }

    /// Adds files, and sends what makes whole pieces.
    ///
    /// # Errors
    /// [`Stop::Gone`].
    pub(super) async fn files(&mut self, files: Vec<(String, Vec<u8>)>) -> Result<(), Stop> {
        let mut pack = self.pack.take().ok_or(Reason::Internal).map_err(Refusal::from)?;
        // Packing is work: not for a thread that answers others.
        let packed = tokio::task::spawn_blocking(move || pack.add(files).map(|bytes| (pack, bytes))).await;
        let (pack, bytes) = packed.map_err(io::Error::other).flatten().map_err(failed)?;
        self.pack = Some(pack);
        self.send(bytes).await
    }

    /// Sends the rest, with what the part is: `leaves` of it, parts and leaves of its `archive`.
    ///
    /// # Errors
    /// [`Stop::Gone`].
    pub(super) async fn end(mut self, leaves: (u64, u64), archive: (u64, u64)) -> Result<(), Stop> {
        let pack = self.pack.take().ok_or(Reason::Internal).map_err(Refusal::from)?;
        self.send(pack.end().map_err(failed)?).await?;
        let content = mem::take(&mut self.ready);
        self.digest.update(&content);
        let whole = Whole {
            sha256: self.digest.clone().finish().as_ref().to_vec(),
            bytes: self.sent + content.len() as u64,
            leaves,
            archive,
        };
        self.one(content, Some(whole)).await
    }

    /// Sends whole pieces; something stays for the last one.
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Stop> {
        self.ready.extend(bytes);
        while self.ready.len() > PIECE {
            let rest = self.ready.split_off(PIECE);
            let content = mem::replace(&mut self.ready, rest);
            self.digest.update(&content);
            self.one(content, None).await?;
        }
        Ok(())
    }

    async fn one(&mut self, content: Vec<u8>, whole: Option<Whole>) -> Result<(), Stop> {
        let offset = self.sent;
        self.sent += content.len() as u64;
        let piece = Piece {
            part: self.part,
            file_name: self.file_name.clone(),
            offset,
            content,
            whole,
        };
        self.to.send(Ok(piece)).await.map_err(|_| Stop::Gone)
    }
}

fn failed(error: io::Error) -> Stop {
    tracing::error!(error = error.to_string(), "a part of an archive cannot be packed");
    Stop::Refused(Reason::Internal.into())
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// However much a part is: what waits to be sent is less than a piece and what one file makes of it.
    #[tokio::test]
    async fn a_part_is_cut_into_pieces_and_never_whole_in_memory() {
        let (to, mut from) = mpsc::channel(1);
        let taken = tokio::spawn(async move {
            let mut pieces: Vec<Piece> = Vec::new();
            while let Some(Ok(piece)) = from.recv().await {
                pieces.push(piece);
            }
            pieces
        });
        // Bytes that do not become fewer: each is of a hash.
        let noise = |n: u32| -> Vec<u8> {
            let hash = |k: u32| ring::digest::digest(&SHA256, &[n.to_be_bytes(), k.to_be_bytes()].concat());
            (0..1024).flat_map(|k| hash(k).as_ref().to_vec()).collect()
        };
        let mut pieces = Pieces::of("part.zip".to_owned(), 3, &to);
        for n in 0..40 {
            pieces.files(vec![(format!("file {n}"), noise(n))]).await.ok().unwrap();
            assert!(pieces.ready.len() <= PIECE);
        }
        pieces.end((0, 10), (1, 10)).await.ok().unwrap();
        drop(to);
        let pieces = taken.await.unwrap();
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.content.clone()).collect();
        assert!(bytes.len() > 5 * PIECE, "{}", bytes.len());
        let (last, before) = pieces.split_last().unwrap();
        assert!(
            before
                .iter()
                .all(|piece| piece.content.len() == PIECE && piece.whole.is_none())
        );
        let whole = last.whole.clone().unwrap();
        assert_eq!(
            (whole.bytes, last.offset),
            (bytes.len() as u64, (before.len() * PIECE) as u64)
        );
        assert_eq!(whole.sha256, ring::digest::digest(&SHA256, &bytes).as_ref());
    }

    /// Whoever has gone is not worked for.
    #[tokio::test]
    async fn nothing_is_packed_for_who_has_gone() {
        let (to, from) = mpsc::channel(1);
        drop(from);
        let pieces = Pieces::of("part.zip".to_owned(), 0, &to);
        assert!(matches!(pieces.end((0, 1), (1, 1)).await, Err(Stop::Gone)));
    }
}
