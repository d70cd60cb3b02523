//! A ZIP file that is written front to back and taken out as it grows: no more of it is in memory than one of its files and
//! the list of their names. The same files make the same bytes.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

/// What is written and was not taken yet.
#[derive(Debug, Clone, Default)]
struct Ready(Arc<Mutex<Vec<u8>>>);

impl Ready {
    fn take(&self) -> Vec<u8> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Ready {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A ZIP file that is being written.
pub(super) struct Pack {
    zip: ZipWriter<StreamWriter<Ready>>,
    ready: Ready,
}

impl Pack {
    /// An empty one.
    pub(super) fn new() -> Self {
        let ready = Ready::default();
        Self {
            zip: ZipWriter::new_stream(ready.clone()),
            ready,
        }
    }

    /// Adds files; answers with the bytes that are ready.
    ///
    /// # Errors
    /// When a file cannot be added: none that is small and has a name of its own.
    pub(super) fn add(&mut self, files: Vec<(String, Vec<u8>)>) -> io::Result<Vec<u8>> {
        // A file has no time of its own: else two archives of one log would differ.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644);
        for (name, bytes) in files {
            self.zip.start_file(name, options)?;
            self.zip.write_all(&bytes)?;
        }
        Ok(self.ready.take())
    }

    /// Ends the file; answers with its last bytes.
    ///
    /// # Errors
    /// As [`Pack::add`].
    pub(super) fn end(self) -> io::Result<Vec<u8>> {
        let Self { zip, ready } = self;
        zip.finish()?;
        Ok(ready.take())
    }
}
