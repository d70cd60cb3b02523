//! One page of postings: for each tag, ascending, the leaves that have it.
//!
//! Spelled as groups: the tag, how many bytes follow, and the leaves as varints, each less the one before it, the first
//! less the run's first.

use std::collections::VecDeque;

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
        add(&mut out, tag, &leaves);
    }
    out
}

/// Puts the group of a tag behind those of lower ones; `leaves` are spelled already.
pub(super) fn add(page: &mut Vec<u8>, tag: Tag, leaves: &[u8]) {
    page.extend_from_slice(&tag.0);
    put(page, leaves.len() as u64);
    page.extend_from_slice(leaves);
}

/// Merges pages of runs that follow one another, each with the first leaf of its run, for a run that begins with `first`:
/// hands on each tag with its leaves, spelled, in order. Leaves are counted and not taken out, for of a tag that all of them
/// have there are as many as the run has.
pub(super) fn merge(pages: &[(u64, &[u8])], first: u64, mut into: impl FnMut(Tag, &[u8])) -> Result<(), Damaged> {
    let (mut rests, mut leaves) = (pages.to_vec(), Vec::new());
    let mut at: Vec<_> = rests.iter_mut().map(|(_, rest)| next(rest)).collect::<Result<_, _>>()?;
    while let Some(tag) = at.iter().flatten().map(|(tag, _)| *tag).min() {
        let mut before = first;
        leaves.clear();
        for ((run, rest), group) in rests.iter_mut().zip(&mut at) {
            let Some((of, spelled)) = *group else { continue };
            if of == tag {
                before = follow(&mut leaves, before, spelled, *run)?;
                *group = next(rest)?;
            }
            if group.is_some_and(|(next, _)| next <= tag) {
                return Err(Damaged);
            }
        }
        into(tag, &leaves);
    }
    Ok(())
}

/// Appends leaves of the run that begins with `run` to those before them, the last of which is `before`. Returns their last.
fn follow(leaves: &mut Vec<u8>, before: u64, mut spelled: &[u8], run: u64) -> Result<u64, Damaged> {
    let mut last = take(&mut spelled).and_then(|n| run.checked_add(n)).ok_or(Damaged)?;
    put(leaves, last.checked_sub(before).ok_or(Damaged)?);
    leaves.extend_from_slice(spelled);
    while !spelled.is_empty() {
        last = take(&mut spelled).and_then(|n| last.checked_add(n)).ok_or(Damaged)?;
    }
    Ok(last)
}

/// The newest leaves of `tag` that are below `below`, ascending, at most `limit`: all that have it need not fit in memory.
pub(super) fn newest(page: &[u8], first: u64, tag: Tag, below: u64, limit: usize) -> Result<VecDeque<u64>, Damaged> {
    let mut kept = VecDeque::new();
    for group in groups(page) {
        let (of, leaves) = group?;
        if of == tag {
            for leaf in leaves_of(leaves, first) {
                let leaf = leaf?;
                if leaf >= below {
                    break;
                }
                if kept.len() == limit {
                    kept.pop_front();
                }
                kept.push_back(leaf);
            }
        }
        if of >= tag {
            break;
        }
    }
    Ok(kept)
}

/// The oldest leaves of `tag` from `from` on, ascending, at most `limit`.
pub(super) fn oldest(page: &[u8], first: u64, tag: Tag, from: u64, limit: usize) -> Result<Vec<u64>, Damaged> {
    let mut found = Vec::new();
    for group in groups(page) {
        let (of, leaves) = group?;
        if of == tag {
            for leaf in leaves_of(leaves, first) {
                let leaf = leaf?;
                if found.len() == limit {
                    break;
                }
                if leaf >= from {
                    found.push(leaf);
                }
            }
        }
        if of >= tag {
            break;
        }
    }
    Ok(found)
}

/// The leaves of `tag`, ascending.
#[cfg(test)]
pub(super) fn find(page: &[u8], first: u64, tag: Tag) -> Result<Vec<u64>, Damaged> {
    newest(page, first, tag, u64::MAX, usize::MAX).map(Vec::from)
}

/// All of it, sorted.
pub(super) fn decode(page: &[u8], first: u64) -> Result<Vec<Posting>, Damaged> {
    let mut all = Vec::with_capacity(page.len() / 7);
    for group in groups(page) {
        let (tag, leaves) = group?;
        for leaf in leaves_of(leaves, first) {
            all.push((tag, leaf?));
        }
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

fn next<'a>(page: &mut &'a [u8]) -> Result<Option<(Tag, &'a [u8])>, Damaged> {
    match page.is_empty() {
        true => Ok(None),
        false => group(page).map(Some).ok_or(Damaged),
    }
}

fn group<'a>(page: &mut &'a [u8]) -> Option<(Tag, &'a [u8])> {
    let (tag, rest) = page.split_first_chunk()?;
    *page = rest;
    let length = usize::try_from(take(page)?).ok()?;
    let (leaves, rest) = page.split_at_checked(length)?;
    *page = rest;
    Some((Tag(*tag), leaves))
}

fn leaves_of(mut bytes: &[u8], first: u64) -> impl Iterator<Item = Result<u64, Damaged>> {
    let mut before = first;
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let leaf = take(&mut bytes).and_then(|n| before.checked_add(n));
        match leaf {
            Some(leaf) => before = leaf,
            None => bytes = &[],
        }
        Some(leaf.ok_or(Damaged))
    })
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
                prop_assert_eq!(find(&page, 1000, tag), Ok(of.clone()));
                let from: Vec<_> = of.iter().copied().filter(|leaf| *leaf >= 3000).take(3).collect();
                prop_assert_eq!(oldest(&page, 1000, tag, 3000, 3), Ok(from));
                let below: Vec<_> = of.into_iter().filter(|leaf| *leaf < 3000).collect();
                let last = below[below.len().saturating_sub(3)..].to_vec();
                prop_assert_eq!(newest(&page, 1000, tag, 3000, 3), Ok(last.into()));
            }
        }

        /// Merging what is spelled is spelling what is merged.
        #[test]
        fn pages_are_merged_as_they_are_spelled(tags in prop::collection::btree_set((0_u8..4, 0_u64..4096), 0..300)) {
            let all: Vec<_> = tags.into_iter().map(|(tag, leaf)| (Tag([tag, 0, 0, 0, 7]), 8192 + leaf)).collect();
            let runs: Vec<_> = (0..16).map(|n| 8192 + n * 256).collect();
            let of = |run: &u64| {
                let own: Vec<_> = all.iter().copied().filter(|(_, leaf)| (*run..*run + 256).contains(leaf)).collect();
                encode(&own, *run)
            };
            let pages: Vec<_> = runs.iter().map(of).collect();
            let pages: Vec<_> = runs.iter().copied().zip(pages.iter().map(Vec::as_slice)).collect();
            let mut merged = Vec::new();
            prop_assert_eq!(merge(&pages, 8192, |tag, leaves| add(&mut merged, tag, leaves)), Ok(()));
            prop_assert_eq!(merged, encode(&all, 8192));
        }

        #[test]
        fn no_bytes_are_too_strange_to_merge(
            one in prop::collection::vec(any::<u8>(), 0..64),
            other in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = merge(&[(0, &one), (256, &other)], 0, |_, _| ());
        }

        #[test]
        fn no_bytes_are_too_strange_to_read(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (decode(&bytes, 0), find(&bytes, 0, Tag([9; 5])), oldest(&bytes, 0, Tag([9; 5]), 7, 9));
        }
    }
}
