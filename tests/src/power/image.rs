//! What of a folder's files is on the disk, and what is on its way there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use sammati_kernel::Seed;

use crate::story::Failure;

/// What becomes of writes that no sync had covered.
#[derive(Clone)]
pub enum Rest {
    /// All are gone.
    Gone,
    /// Each is there, or gone, or there up to some sector, as the seed says.
    Torn(Seed),
}

/// The unit in which a disk writes.
const SECTOR: usize = 512;

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Default)]
struct File {
    disk: Vec<u8>,
    /// Changes that no sync has covered, with the line in which each returned.
    pending: Vec<(usize, Change)>,
    /// Whether its name is on the disk: a new file's is once its folder was synced.
    named: bool,
    /// Whether it was removed, which is on the disk once its folder was synced.
    removed: bool,
}

/// The files of one folder.
pub(super) struct Image {
    folder: PathBuf,
    files: BTreeMap<PathBuf, File>,
    syncs: u64,
}

/// Whether a file is one that must outlast a power cut: SQLite makes its `-shm` anew, and a lock is of the living.
pub(super) fn lasts(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !(name.ends_with("-shm") || name.ends_with(".lock"))
}

impl Image {
    pub(super) fn new(folder: &Path, before: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let file = |disk| File {
            disk,
            named: true,
            ..File::default()
        };
        Self {
            folder: folder.to_owned(),
            files: before.into_iter().map(|(path, disk)| (path, file(disk))).collect(),
            syncs: 0,
        }
    }

    /// Whether the image is about this file.
    pub(super) fn keeps(&self, path: &Path) -> bool {
        path.parent() == Some(&self.folder) && lasts(path)
    }

    /// How many syncs of files returned.
    pub(super) const fn syncs(&self) -> u64 {
        self.syncs
    }

    pub(super) fn create(&mut self, path: &Path) {
        let file = self.files.entry(path.to_owned()).or_default();
        if file.removed {
            *file = File::default();
        }
    }

    pub(super) fn unlink(&mut self, path: &Path) {
        if let Some(file) = self.files.get_mut(path) {
            file.removed = true;
        }
    }

    pub(super) fn write(&mut self, path: &Path, at: usize, bytes: Vec<u8>, line: usize) {
        self.change(path, line, Change::Write(at, bytes));
    }

    pub(super) fn truncate(&mut self, path: &Path, length: usize, line: usize) {
        self.change(path, line, Change::Truncate(length));
    }

    fn change(&mut self, path: &Path, line: usize, change: Change) {
        let file = self.files.entry(path.to_owned()).or_default();
        file.pending.push((line, change));
    }

    /// A sync returned that began in line `began`: it covers what had returned before.
    pub(super) fn sync(&mut self, path: &Path, began: usize) {
        if path == self.folder {
            self.files.retain(|_, file| !file.removed);
            self.files.values_mut().for_each(|file| file.named = true);
        } else if let Some(file) = self.files.get_mut(path) {
            self.syncs += 1;
            let later = file.pending.iter().position(|(line, _)| *line > began);
            let later = file.pending.split_off(later.unwrap_or(file.pending.len()));
            for (_, change) in std::mem::replace(&mut file.pending, later) {
                apply(&mut file.disk, &change);
            }
        }
    }

    /// Sets the files to what is on the disk.
    pub(super) fn cut(mut self, rest: Rest) -> Result<(), Failure> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.is_file() && (self.keeps(&path) || !lasts(&path)) {
                std::fs::remove_file(path)?;
            }
        }
        for (n, (path, file)) in self.files.iter_mut().enumerate() {
            if let Rest::Torn(seed) = &rest {
                let seed = seed.child(&format!("file {n}"));
                for (n, (_, change)) in file.pending.iter().enumerate() {
                    survive(&mut file.disk, change, &seed.child(&format!("change {n}")));
                }
            }
            if file.named {
                let mut on_disk = std::fs::File::create(path)?;
                on_disk.write_all(&file.disk)?;
                on_disk.sync_all()?;
            }
        }
        Ok(())
    }
}

fn apply(disk: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(length) => disk.resize(*length, 0),
        Change::Write(at, bytes) => {
            let end = at + bytes.len();
            if disk.len() < end {
                disk.resize(end, 0);
            }
            disk[*at..end].copy_from_slice(bytes);
        }
    }
}

/// All of it, nothing of it, or what lies before some sector's end.
fn survive(disk: &mut Vec<u8>, change: &Change, seed: &Seed) {
    match (seed.below("fate", 3), change) {
        (0, _) => {}
        (1, Change::Write(at, bytes)) => {
            let sectors = u64::try_from(bytes.len() / SECTOR).unwrap_or(0);
            let torn = usize::try_from(seed.below("sector", sectors + 1)).unwrap_or(0) * SECTOR;
            apply(disk, &Change::Write(*at, bytes[..torn.min(bytes.len())].to_vec()));
        }
        (_, change) => apply(disk, change),
    }
}
