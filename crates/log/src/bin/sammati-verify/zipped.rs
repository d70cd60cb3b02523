//! A part of an archive as it was sent: a ZIP file.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use sammati_log::entries::MAX_BUNDLE;
use sammati_log::path::Resource;
use zip::ZipArchive;
use zip::result::ZipError;

use super::input::{Failure, read_at_most};

/// Where the bytes of a ZIP file are.
trait Bytes: Read + Seek {}

impl<B: Read + Seek> Bytes for B {}

/// A ZIP file that is open.
pub(crate) struct Zipped {
    name: String,
    files: RefCell<ZipArchive<Box<dyn Bytes>>>,
}

impl Zipped {
    /// Opens the file of this name.
    pub(crate) fn open(name: &str) -> Result<Self, Failure> {
        let file = File::open(name).map_err(|error| Failure::unusable(name, error))?;
        Self::of(name, BufReader::new(file))
    }

    /// The ZIP file that these bytes are.
    pub(crate) fn of(name: &str, bytes: impl Read + Seek + 'static) -> Result<Self, Failure> {
        let bad = |why| Failure::unusable(name, format!("it is no folder, and as a ZIP file: {why}"));
        let bytes: Box<dyn Bytes> = Box::new(bytes);
        let files = ZipArchive::new(bytes).map_err(bad)?;
        Ok(Self {
            name: name.to_owned(),
            files: RefCell::new(files),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.borrow().index_for_name(path).is_some()
    }

    /// What is at a path, or one byte more than `limit` of it; `None` if nothing is.
    pub(crate) fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut files = self.files.borrow_mut();
        match files.by_name(path) {
            Ok(file) => read_at_most(file, limit).map(Some),
            Err(ZipError::FileNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads every file once, for each has a checksum; what is no file of a log has no place among them.
    pub(crate) fn read_through(&self) -> Result<(), Failure> {
        let mut files = self.files.borrow_mut();
        for at in 0..files.len() {
            let file = files
                .by_index(at)
                .map_err(|error| Failure::unusable(&format!("file {at}"), error))?;
            let name = file.name().to_owned();
            if !is_known(&name) {
                return Err(Failure::refuted(&name, "no archive of a log has such a file"));
            }
            // No file of an archive is larger than a bundle.
            let mut most = file.take(MAX_BUNDLE as u64 + 1);
            match io::copy(&mut most, &mut io::sink()) {
                Ok(read) if read > MAX_BUNDLE as u64 => {
                    return Err(Failure::unusable(&name, format!("more than {MAX_BUNDLE} bytes")));
                }
                Ok(_) => {}
                Err(error) => return Err(Failure::unusable(&name, error)),
            }
        }
        Ok(())
    }
}

fn is_known(name: &str) -> bool {
    name.ends_with('/') || ["README.txt", "vkeys"].contains(&name) || Resource::parse(name).is_ok()
}
