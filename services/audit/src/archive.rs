//! The signed tree of a log as static files, named as `c2sp.org/tlog-tiles` says. Whoever has them needs no service to check
//! them: `sammati-verify archive` does. Payloads are not in them, so nothing personal is. The verb writes a folder of them;
//! `export` sends them of a log that has ended.

pub(crate) mod export;
mod pack;
pub(crate) mod piece;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use sammati_log::edge::RightEdge;
use sammati_log::entries::{self, EntriesId};
use sammati_log::tile::{self, Tile};
use sammati_store::verbs::{self, Looking};
use sammati_store::{Error, Location, Record};

use crate::rows::{CheckpointRow, CosignatureRow, LeafRow, LogKeyRow, LogRow, MIGRATIONS, PARTITION};

/// Writes what was signed last into `folder`, which is new or empty. Leaves are read and tiles made of them, so a log whose
/// tiles were damaged is archived all the same; one whose leaves do not make the root that was signed is not. A process may
/// serve the log meanwhile. Returns what was written, in a sentence.
///
/// # Errors
/// When the database or the folder fails, or the log is not what it signed.
pub fn archive(location: &Location, folder: &Path) -> Result<String, Error> {
    make(folder)?;
    verbs::read(location, &MIGRATIONS, |looking| {
        let log = looking.get::<LogRow>(PARTITION, LogRow::KEY)?.unwrap_or_default();
        let nothing = || Error::File("nothing of this log was signed, so there is nothing to archive".to_owned());
        let size = log.signed.ok_or_else(nothing)?;
        let signed = looking.get::<CheckpointRow>(PARTITION, &size.to_be_bytes())?;
        let signed = signed.ok_or_else(|| Error::Broken(format!("the checkpoint of {size} leaves is gone")))?;
        let root = tree(looking, size, folder)?;
        if root != signed.root {
            return Err(Error::Broken(format!(
                "the log's {size} leaves do not make the root that was signed; fsck tells more"
            )));
        }
        let keys = looking.all::<LogKeyRow>(PARTITION)?;
        let keys: Vec<_> = std::iter::once(log.vkey)
            .chain(keys.into_iter().map(|key| key.vkey))
            .collect();
        put(
            folder,
            "vkeys",
            keys.iter().map(|key| format!("{key}\n")).collect::<String>(),
        )?;
        let lines = cosignatures(looking, size)?;
        // Last: without it the folder is no archive.
        put(folder, "checkpoint", signed.note + &lines)?;
        Ok(format!("{size} leaves of {} are in {}", log.origin, folder.display()))
    })
}

/// Writes all leaves and tiles of the first `size`; returns the root that they make.
fn tree(looking: &mut Looking<'_>, size: u64, folder: &Path) -> Result<Vec<u8>, Error> {
    let (mut edge, mut open, mut leaves) = (RightEdge::empty(), Vec::new(), Leaves::default());
    for id in entries::all(size) {
        let rows = leaves.of(looking, id)?;
        let bundle = entries::encode(rows.iter().map(|row| &row.leaf)).map_err(damaged)?;
        put(folder, &id.path(), bundle)?;
        let completed = edge.extend(rows.iter().map(LeafRow::hash));
        let made = tile::grow(&mut open, &completed).map_err(damaged)?;
        write(folder, made.iter().filter(|tile| tile.id().is_full()))?;
    }
    write(folder, &open)?;
    Ok(edge.root().0.to_vec())
}

fn write<'a>(folder: &Path, tiles: impl IntoIterator<Item = &'a Tile>) -> Result<(), Error> {
    let mut tiles = tiles.into_iter();
    tiles.try_for_each(|tile| put(folder, &tile.id().path(), tile.encode()))
}

/// The leaves of a log, in order.
#[derive(Default)]
struct Leaves {
    read: VecDeque<LeafRow>,
    after: Vec<u8>,
}

impl Leaves {
    /// Those of a bundle, which comes after the one before.
    fn of(&mut self, looking: &mut Looking<'_>, id: EntriesId) -> Result<Vec<LeafRow>, Error> {
        id.leaves().map(|index| self.next(looking, index)).collect()
    }

    fn next(&mut self, looking: &mut Looking<'_>, index: u64) -> Result<LeafRow, Error> {
        if self.read.is_empty() {
            self.read = looking.page::<LeafRow>(PARTITION, &self.after)?.into();
        }
        let row = self.read.pop_front().filter(|row| row.index == index);
        let row = row.ok_or_else(|| Error::Broken(format!("leaf {index} is missing")))?;
        self.after = row.key();
        Ok(row)
    }
}

/// The lines of the witnesses that cosigned this size.
fn cosignatures(looking: &mut Looking<'_>, size: u64) -> Result<String, Error> {
    // Keys begin with the size.
    let (mut lines, mut after) = (String::new(), size.to_be_bytes().to_vec());
    loop {
        let page = looking.page::<CosignatureRow>(PARTITION, &after)?;
        let all = page.len();
        let own: Vec<_> = page.into_iter().take_while(|row| row.size == size).collect();
        lines.extend(own.iter().map(|row| row.line.as_str()));
        match own.last() {
            Some(last) if own.len() == all => after = last.key(),
            _ => return Ok(lines),
        }
    }
}

fn make(folder: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::File(format!("{}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(failed)?;
    match fs::read_dir(folder).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(Error::File(format!(
            "{} is not empty, and nothing is overwritten; name another folder",
            folder.display()
        ))),
    }
}

fn put(folder: &Path, path: &str, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    let file = folder.join(path);
    let failed = |error: std::io::Error| Error::File(format!("{}: {error}", file.display()));
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(&file, bytes).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "reads well in map_err")]
fn damaged(error: sammati_log::Error) -> Error {
    Error::Broken(error.to_string())
}
