//! What lies on a disk, for whoever gets hold of it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use memchr::memmem;

/// Every file at or below `folder`, with its bytes. One that is removed meanwhile is passed over.
///
/// # Panics
/// When one that is there cannot be read.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.is_file() => match std::fs::read(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    bytes => files.push((path, bytes.expect("a file that can be read"))),
                },
                // Sockets.
                false => {}
            }
        }
    }
    files
}

/// Whether `needle` is in `haystack`.
pub fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    memmem::find(haystack, needle).is_some()
}
