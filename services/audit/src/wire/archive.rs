//! `ExportArchiveRequest`, and the pieces that answer it.

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Refusal, Violations, hex};
use sammati_log::checkpoint::{Checkpoint, MAX_NOTE};
use sammati_log::cosignature::split_note;

use super::{done, log_name, number, size};
use crate::archive::export::Tree;
use crate::archive::piece::Piece;

/// Which tree is to be archived, and the first part of it that is asked for.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn archive(request: &audit::ExportArchiveRequest) -> Result<(Tree, u64), Refusal> {
    let mut wrong = Violations::new();
    log_name(&request.log, &mut wrong);
    let size = size("size", request.size, &mut wrong);
    let first = u64::try_from(request.first_part).map_err(|_| "0 and up");
    let first = wrong.keep("first_part", first);
    let tree = match (request.checkpoint.as_str(), size) {
        ("", None) => None,
        ("", Some(0)) => Some(Tree::Newest),
        ("", Some(size)) => Some(Tree::Size(size)),
        (note, size) => {
            if size.is_some_and(|size| size > 0) {
                wrong.add("size", "not together with checkpoint");
            }
            let signed = size_of(note).ok_or("must be the checkpoint as it stands in a part, with its last newline");
            let signed = wrong.keep("checkpoint", signed);
            signed.map(|size| Tree::Like(size, note.to_owned()))
        }
    };
    done(wrong, tree.zip(first))
}

/// The size in a checkpoint, if it is one.
fn size_of(note: &str) -> Option<u64> {
    let (text, _) = split_note(note).filter(|_| note.len() <= MAX_NOTE)?;
    Checkpoint::parse_body(text).ok().map(|checkpoint| checkpoint.size())
}

/// A piece of a part.
pub(crate) fn piece(piece: Piece) -> audit::ExportArchiveResponse {
    let count = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
    audit::ExportArchiveResponse {
        part: count(piece.part),
        file_name: piece.file_name,
        offset: number(piece.offset),
        content: piece.content,
        whole: piece.whole.map(|whole| audit::ArchivePart {
            sha256: hex(&whole.sha256),
            byte_size: number(whole.bytes),
            first_index: number(whole.leaves.0),
            end_index: number(whole.leaves.1),
            part_count: count(whole.archive.0),
            tree_size: number(whole.archive.1),
        }),
    }
}
