//! One page of postings: for each tag, ascending, the leaves that have it.
//!
//! Spelled as groups: the tag, how many bytes follow, and the leaves as varints, each less the one before it, the first
//! less the run's first.

use super::Tag;

/// A tag and a leaf that has it.
pub(super) type Posting = (Tag, u64);

/// Why a page cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// Spells `postings`, sorted, of a run that begins with the leaf `first`.
pub(super) fn encode(postings: &[Posting], first: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(postings.len() * 8);
    let mut leaves = Vec::new();
    for group in postings.chunk_by(|a, b| a.0 == b.0) {
        let (tag, mut before) = (group[0].0, first);
        leaves.clear();
        for (_, leaf) in group {
            put(&mut leaves, leaf.wrapping_sub(before));
            before = *leaf;
        }
        out.extend_from_slice(&tag.0);
        put(&mut out, leaves.len() as u64);
        out.extend_from_slice(&leaves);
    }
    out
}

/// The leaves of `tag`, ascending.
pub(super) fn find(page: &[u8], first: u64, tag: Tag) -> Result<Vec<u64>, Damaged> {
    for group in groups(page) {
        let (of, leaves) = group?;
        if of == tag {
            return leaves_of(leaves, first);
        }
        if of > tag {
            break;
        }
    }
    Ok(Vec::new())
}

/// All of it, sorted.
pub(super) fn decode(page: &[u8], first: u64) -> Result<Vec<Posting>, Damaged> {
    let mut all = Vec::with_capacity(page.len() / 7);
    for group in groups(page) {
        let (tag, leaves) = group?;
        all.extend(leaves_of(leaves, first)?.into_iter().map(|leaf| (tag, leaf)));
    }
    Ok(all)
}

fn groups(mut page: &[u8]) -> impl Iterator<Item = Result<(Tag, &[u8]), Damaged>> {
    std::iter::from_fn(move || {
        if page.is_empty() {
            return None;
        }
        let group = group(&mut page);
        if group.is_none() {
            page = &[];
        }
        Some(group.ok_or(Damaged))
    })
}

fn group<'a>(page: &mut &'a [u8]) -> Option<(Tag, &'a [u8])> {
    let (tag, rest) = page.split_first_chunk()?;
    *page = rest;
    let length = usize::try_from(take(page)?).ok()?;
    let (leaves, rest) = page.split_at_checked(length)?;
    *page = rest;
    Some((Tag(*tag), leaves))
}

fn leaves_of(mut bytes: &[u8], first: u64) -> Result<Vec<u64>, Damaged> {
    let (mut leaves, mut before) = (Vec::new(), first);
    while !bytes.is_empty() {
        before = take(&mut bytes).and_then(|n| before.checked_add(n)).ok_or(Damaged)?;
        leaves.push(before);
    }
    Ok(leaves)
}

/// Little end first, seven bits a byte, as protobuf has them.
fn put(out: &mut Vec<u8>, n: u64) {
    prost::encoding::encode_varint(n, out);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_spelled_is_read(tags in prop::collection::btree_set((0_u8..4, 1000_u64..5000), 0..200)) {
            let postings: Vec<_> = tags.into_iter().map(|(tag, leaf)| (Tag([tag, 0, 0, 0, 7]), leaf)).collect();
            let page = encode(&postings, 1000);
            prop_assert_eq!(decode(&page, 1000), Ok(postings.clone()));
            for tag in 0..5 {
                let tag = Tag([tag, 0, 0, 0, 7]);
                let of: Vec<_> = postings.iter().filter(|p| p.0 == tag).map(|p| p.1).collect();
                prop_assert_eq!(find(&page, 1000, tag), Ok(of));
            }
        }

        #[test]
        fn no_bytes_are_too_strange_to_read(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (decode(&bytes, 0), find(&bytes, 0, Tag([9; 5])));
        }
    }
}
