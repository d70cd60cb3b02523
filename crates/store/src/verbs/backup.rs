//! A copy of an embedded database while a process serves it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use diesel::RunQueryDsl;
use diesel::sql_types::Text;

use crate::error::Error;
use crate::{AnyConn, Location, damage, durable};

const ON_POSTGRES: &str = "Postgres is backed up by its own tools, which know its write-ahead log: with \
    `pg_basebackup --wal-method=stream --checkpoint=fast` and WAL archiving (archive_command) the whole server comes back \
    at its latest commit; `pg_dump --format=custom --serializable-deferrable` saves one database as of one moment, and \
    all that was acknowledged after that moment is not in it";

/// Copies what is committed into the new file `to`: one snapshot, however many write meanwhile. Tells its bytes. When it
/// returns the copy is whole and on the disk; when it fails there is no file `to`.
///
/// # Errors
/// When there is a file `to`, when it cannot be written, when the database is damaged, and on Postgres.
pub fn backup(location: &Location, to: &Path) -> Result<u64, Error> {
    match location {
        Location::Sqlite(from) => copy(from, to),
        Location::Postgres { .. } => Err(Error::File(ON_POSTGRES.to_owned())),
    }
}

/// The same from file to file; a write-ahead log beside `from` is read with it.
pub(super) fn copy(from: &Path, to: &Path) -> Result<u64, Error> {
    refuse_existing(to)?;
    let partial = beside(to, &format!(".{}.partial", std::process::id()));
    let copied = fill(from, &partial).and_then(|bytes| {
        place(&partial, to)?;
        Ok(bytes)
    });
    // After it was placed this is its second name; otherwise it is half a copy.
    let _ = fs::remove_file(&partial);
    let bytes = copied?;
    sync_folder(to)?;
    Ok(bytes)
}

pub(super) fn refuse_existing(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, &error)),
        Ok(_) => Err(Error::File(format!(
            "{} is there already, and nothing is overwritten; name another file",
            path.display()
        ))),
    }
}

/// `path` with `end` behind its name.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn fill(from: &Path, partial: &Path) -> Result<u64, Error> {
    let mut conn = Location::Sqlite(from.to_owned()).look()?;
    // SQLite takes an empty file for a new one. It is for its owner alone: what is in it is personal.
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    drop(options.open(partial).map_err(|error| failed(partial, &error))?);
    if let AnyConn::Sqlite(c) = &mut conn {
        diesel::sql_query("VACUUM INTO ?1")
            .bind::<Text, _>(partial.to_string_lossy())
            .execute(c)?;
    }
    drop(conn);
    // A copy is never ahead of what it was made from, whatever becomes of that.
    durable::sync_beside(from)?;
    let damage = damage::quick_check(&mut Location::Sqlite(partial.to_owned()).look()?)?;
    if let Some(what) = damage {
        return Err(Error::File(format!("the copy is not good, so it was not kept: {what}")));
    }
    // Opened when nobody has it open any more: closing it would drop SQLite's locks on it.
    let file = File::open(partial).map_err(|error| failed(partial, &error))?;
    file.sync_all().map_err(|error| failed(partial, &error))?;
    Ok(file.metadata().map_err(|error| failed(partial, &error))?.len())
}

/// Gives the whole copy its name, which nobody may have taken meanwhile.
fn place(partial: &Path, to: &Path) -> Result<(), Error> {
    match fs::hard_link(partial, to) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => refuse_existing(to),
        // A file system without hard links.
        Err(_) => {
            refuse_existing(to)?;
            fs::rename(partial, to).map_err(|error| failed(to, &error))
        }
        Ok(()) => Ok(()),
    }
}

/// A name is on the disk when its folder is.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed(folder, &error))
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::File(format!("{}: {error}", path.display()))
}
