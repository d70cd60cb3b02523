//! A disk that is small enough to be filled: a tmpfs in the place of a folder.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sammati_tests::story::Failure;

/// What is left free for the load of a service, above what is there.
pub(crate) const ROOM: u64 = 8 << 20;

/// A folder that is on a disk of its own until it is dropped.
pub(crate) struct SmallDisk {
    folder: PathBuf,
    /// The folder itself, meanwhile.
    aside: PathBuf,
    is_mounted: bool,
}

impl SmallDisk {
    /// Moves `folder` onto one with so much room. Nobody may have it open.
    pub(crate) fn under(folder: &Path, room: u64) -> Result<Self, Failure> {
        let aside = folder.with_extension("aside");
        std::fs::rename(folder, &aside)?;
        std::fs::create_dir(folder)?;
        let mut disk = Self {
            folder: folder.to_owned(),
            aside,
            is_mounted: false,
        };
        let size = size(&disk.aside)? + room;
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"])
            .arg(folder))?;
        disk.is_mounted = true;
        copy(&disk.aside, folder)?;
        Ok(disk)
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) -> Result<(), Failure> {
        let mut ballast = File::create(self.ballast())?;
        let piece = vec![0_u8; 1 << 16];
        while ballast.write_all(&piece).is_ok() {}
        while ballast.write_all(&piece[..512]).is_ok() {}
        Ok(())
    }

    /// Gives the room back.
    pub(crate) fn free(&self) -> Result<(), Failure> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast.lock")
    }

    /// Moves the folder back to where it was. Nobody may have it open.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        std::fs::remove_dir_all(&self.aside)?;
        std::fs::create_dir(&self.aside)?;
        copy(&self.folder, &self.aside)?;
        run(Command::new("umount").arg(&self.folder))?;
        self.is_mounted = false;
        std::fs::remove_dir(&self.folder)?;
        Ok(std::fs::rename(&self.aside, &self.folder)?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Whoever still has it open keeps it until then.
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.folder));
        }
    }
}

/// Why there can be none on this machine, if so.
pub(crate) fn unavailable() -> Option<String> {
    let tried = || -> Result<(), Failure> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        SmallDisk::under(&data, ROOM)?.end()
    };
    tried().err().map(|error| format!("a tmpfs cannot be mounted: {error}"))
}

/// What the files take, each to its last page, and the folders.
fn size(folder: &Path) -> Result<u64, Failure> {
    const PAGE: u64 = 4096;
    let mut size = PAGE;
    for entry in std::fs::read_dir(folder)? {
        let (entry, data) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        size += if data.is_dir() {
            self::size(&entry)?
        } else {
            data.len().next_multiple_of(PAGE)
        };
    }
    Ok(size)
}

/// Everything in a folder, and whose it is.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let out = command.output()?;
    if out.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&out.stderr).trim().to_owned().into())
}
