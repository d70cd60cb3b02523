//! A whole log, or parts of one: every leaf is hashed again and led to the root that was signed, by tiles that are held
//! against one another.

use std::io::{IsTerminal, Write};
use std::ops::Range;

use sammati_log::Error;
use sammati_log::archive::{Frame, MAX_PART, Part};
use sammati_log::checkpoint::{Checkpoint, Verifier};
use sammati_log::entries::{self, EntriesId, MAX_BUNDLE};
use sammati_log::hash::{EMPTY_ROOT, leaf_hash};
use sammati_log::subject::Chains;
use sammati_log::tile::{FULL, Tile, changed};
use serde_json::{Value, json};

use super::input::{Answer, Failure, MAX_SMALL, text};
use super::source::Source;
use super::tiles::Tiles;
use super::trust::Keys;
use super::{describe, facts};

/// Checks the log whose leaves are in `sources`; `in_part`, fewer than all will do.
pub(crate) fn check(sources: &[Source], in_part: bool, keys: &Keys<'_>) -> Answer {
    let mut tiles = Vec::with_capacity(sources.len());
    for source in sources {
        source.read_through()?;
        known(source, keys).map_err(|failure| failure.within(source))?;
        tiles.push(Tiles::newest(source, keys).map_err(|failure| failure.within(source))?);
    }
    let checkpoint = one_tree(&tiles)?;
    let mut parts = Vec::new();
    for tiles in &tiles {
        parts.extend(parts_in(tiles)?.into_iter().map(|part| (part, tiles)));
    }
    parts.sort_by_key(|(part, _)| part.leaves().start);
    let (mut followed, mut progress) = (Followed::default(), Progress::of(&parts));
    for (part, tiles) in &parts {
        judge(part, tiles, &mut followed, &mut progress).map_err(|failure| failure.within(tiles.source()))?;
    }
    progress.end();
    let held = joined(parts.iter().map(|(part, _)| part.leaves()));
    verdict(checkpoint, &held, in_part)
}

/// What is said when everything that is there verifies.
fn verdict(checkpoint: &Checkpoint, held: &[Range<u64>], in_part: bool) -> Answer {
    let missing = without(held, checkpoint.size());
    if missing.is_empty() {
        let tiles = changed(0, checkpoint.size())?.count();
        let sentence = format!("all leaves and {tiles} tiles make {}", describe(checkpoint));
        let facts = json!({"checkpoint": facts(checkpoint), "tiles": tiles, "leaves": spans(held), "missing": []});
        return Ok((sentence, facts));
    }
    let (here, lacking, whole) = (told(held), told(&missing), describe(checkpoint));
    if held.is_empty() {
        return Err(Failure::unusable(
            "the log",
            format!("there is no leaf here of {whole}"),
        ));
    }
    if !in_part {
        let why = format!("{lacking} are not here; {here} lead to {whole}, and --partial takes them alone");
        return Err(Failure::unusable("the log", why));
    }
    let sentence = format!("{here} lead to {whole}; not here: {lacking}");
    let facts = json!({"checkpoint": facts(checkpoint), "leaves": spans(held), "missing": spans(&missing)});
    Ok((sentence, facts))
}

/// The keys that an archive brings are keys, and one that is trusted is among them.
fn known(source: &Source, keys: &Keys<'_>) -> Result<(), Failure> {
    let Some(bytes) = source.beside("vkeys", MAX_SMALL)? else {
        return Ok(());
    };
    let listed = text("vkeys", bytes)?;
    let mut found = false;
    for line in listed.lines() {
        let key = Verifier::parse(line).map_err(|error| Failure::refuted("vkeys", error))?;
        found |= keys.verifiers.iter().any(|trusted| trusted.vkey() == key.vkey());
    }
    match found {
        true => Ok(()),
        false => Err(Failure::refuted("vkeys", "no key that is trusted is among them")),
    }
}

/// The tree that all of them are of.
fn one_tree<'a>(all: &'a [Tiles<'_>]) -> Result<&'a Checkpoint, Failure> {
    let mut checkpoints = all.iter().map(|tiles| (tiles.checkpoint(), tiles.source()));
    let (first, _) = checkpoints
        .next()
        .ok_or_else(|| Failure::usage("LOG", "none is named"))?;
    if let Some((other, source)) = checkpoints.find(|(other, _)| *other != first) {
        if other.origin() == first.origin() && other.size() == first.size() {
            let split = Error::SplitView {
                size: first.size(),
                first: first.root(),
                second: other.root(),
            };
            return Err(split.into());
        }
        let why = format!("it is of {}, and others are of {}", describe(other), describe(first));
        return Err(Failure::unusable("checkpoint", why).within(source));
    }
    match first.size() == 0 && first.root() != EMPTY_ROOT {
        true => Err(Failure::refuted("checkpoint", "nothing has another root")),
        false => Ok(first),
    }
}

/// The parts that a source has: as many neighbouring bundles as one may have, from where one begins.
fn parts_in(tiles: &Tiles<'_>) -> Result<Vec<Part>, Failure> {
    let size = tiles.checkpoint().size();
    let held = entries::all(size).filter(|id| tiles.source().has(&id.path()) || tiles.source().has(&full(*id).path()));
    let mut parts: Vec<Range<u64>> = Vec::new();
    for leaves in held.map(|id| id.leaves()) {
        match parts.last_mut() {
            Some(last) if last.end == leaves.start && !leaves.start.is_multiple_of(MAX_PART) => last.end = leaves.end,
            _ => parts.push(leaves),
        }
    }
    let part = |leaves| Part::new(size, leaves).map_err(Failure::from);
    parts.into_iter().map(part).collect()
}

/// Verifies one part.
fn judge(part: &Part, tiles: &Tiles<'_>, followed: &mut Followed, progress: &mut Progress) -> Result<(), Failure> {
    let frame = part.frame()?.into_iter().map(|id| tiles.tile(id));
    let frame = frame.collect::<Result<Vec<_>, _>>()?;
    let frame = Frame::new(part, tiles.checkpoint().root(), frame).map_err(evidence)?;
    for id in part.entries() {
        let (held, bytes) = fetch(tiles.source(), id)?;
        let leaves = entries::decode(held, &bytes).map_err(|error| Failure::refuted(&held.path(), error))?;
        let mut hashes = Vec::with_capacity(leaves.len());
        for (index, leaf) in id.leaves().zip(leaves) {
            followed
                .take(index, leaf)
                .map_err(|error| Failure::from(error).about(&held.path()))?;
            hashes.push(leaf_hash(leaf));
        }
        let made = Tile::new(0, id.index(), hashes)?;
        if tiles.tile(made.id())? != made {
            return Err(Failure::refuted(&made.id().path(), "it is not what the leaves make"));
        }
        frame
            .verify(&made)
            .map_err(|error| evidence(error).about(&held.path()))?;
        progress.at(made.hashes().len());
    }
    Ok(())
}

/// The tiles are what was to be checked.
fn evidence(error: Error) -> Failure {
    match error {
        Error::RootDiffers { computed, stated, .. } => {
            let why = format!("those at the right edge make the root {computed}, and {stated} was signed");
            Failure::refuted("the tiles", why)
        }
        error => Failure::refuted("the tiles", error),
    }
}

/// The bundle of this name. A partial one may be gone once it is full: then it is the beginning of the full one.
fn fetch(source: &Source, id: EntriesId) -> Result<(EntriesId, Vec<u8>), Failure> {
    for held in [id, full(id)] {
        if let Some(bytes) = source.fetch(&held.path(), MAX_BUNDLE)? {
            return Ok((held, bytes));
        }
    }
    Err(Failure::unusable(&id.path(), "the log has not got it"))
}

fn full(id: EntriesId) -> EntriesId {
    EntriesId::new(id.index(), FULL).unwrap_or(id)
}

/// The events of each person, from the first leaf on as far as none is missing.
#[derive(Default)]
struct Followed {
    chains: Chains,
    next: u64,
}

impl Followed {
    /// Takes a leaf; leaves come in order, some twice.
    fn take(&mut self, index: u64, leaf: &[u8]) -> Result<(), Error> {
        if index == self.next {
            self.next += 1;
            self.chains.take(index, leaf)?;
        }
        Ok(())
    }
}

/// Ranges in order, those that touch made one.
fn joined<'a>(ranges: impl Iterator<Item = &'a Range<u64>>) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range.clone()),
        }
    }
    all
}

/// What is missing between ranges, up to `size`.
fn without(held: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    let ends = std::iter::once(0).chain(held.iter().map(|range| range.end));
    let starts = held.iter().map(|range| range.start).chain([size]);
    let gaps = ends.zip(starts).map(|(from, to)| from..to);
    gaps.filter(|gap| !gap.is_empty()).collect()
}

/// Most of the ranges that are told.
const TOLD: usize = 10;

fn told(ranges: &[Range<u64>]) -> String {
    let span = |range: &Range<u64>| format!("{} to {}", range.start, range.end - 1);
    let mut spans: Vec<_> = ranges.iter().take(TOLD).map(span).collect();
    if let Some(more) = ranges.len().checked_sub(TOLD).filter(|more| *more > 0) {
        spans.push(format!("{more} more"));
    }
    format!("leaves {}", spans.join(", "))
}

fn spans(ranges: &[Range<u64>]) -> Value {
    let span = |range: &Range<u64>| json!({"first": range.start, "last": range.end - 1});
    ranges.iter().map(span).collect()
}

/// Tells on standard error how far it is: each percent, where somebody looks, and else each tenth.
struct Progress {
    size: u64,
    done: u64,
    told: u64,
    step: u64,
}

impl Progress {
    /// Silent for few leaves.
    fn of(parts: &[(Part, &Tiles<'_>)]) -> Self {
        let leaves = parts.iter().map(|(part, _)| part.leaves());
        let size = leaves.map(|leaves| leaves.end - leaves.start).sum();
        let step = if std::io::stderr().is_terminal() { 1 } else { 10 };
        Self {
            size,
            done: 0,
            told: if size < 1 << 16 { 100 } else { 0 },
            step,
        }
    }

    fn at(&mut self, leaves: usize) {
        self.done += leaves as u64;
        let percent = self.done.saturating_mul(100) / self.size.max(1);
        if percent >= self.told + self.step {
            self.told = percent;
            let end = if self.step == 1 { '\r' } else { '\n' };
            let _ = write!(std::io::stderr(), "{percent} % of {} leaves{end}", self.size);
        }
    }

    fn end(&self) {
        if self.size >= 1 << 16 && self.step == 1 {
            let _ = writeln!(std::io::stderr());
        }
    }
}
