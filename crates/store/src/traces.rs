//! Where is somebody named? For checks of what stays when somebody goes.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::readers::Reader;
use crate::table::{Cell, Record};

/// The tables in which a row has one of some byte strings in it.
#[derive(Debug, Default)]
pub struct Traces {
    names: Vec<Vec<u8>>,
    found: BTreeSet<(&'static str, bool)>,
    walked: BTreeSet<&'static str>,
}

impl Traces {
    /// Of these.
    pub fn of(names: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            names: names.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Walks a table. Of its look-up columns, `live` are those that find only what goes on.
    ///
    /// # Errors
    /// When the database fails.
    pub fn walk<R: Record>(&mut self, reader: &mut Reader<'_>, partitions: &[i64], live: &[&str]) -> Result<(), Error> {
        self.walked.insert(R::TABLE.name);
        for partition in partitions {
            for row in reader.scan::<R>((*partition, &[]), i64::MAX)? {
                let (row, cells) = (&row.record, row.record.cells());
                let mut bytes = vec![row.key(), row.encode_to_vec()];
                bytes.extend(cells.iter().filter_map(Cell::bytes).map(<[u8]>::to_vec));
                if self.are_in(&bytes.concat()) {
                    let columns = R::TABLE.columns.iter().zip(&cells);
                    let goes_on = columns.filter(|(column, _)| live.contains(&column.name));
                    self.found
                        .insert((R::TABLE.name, goes_on.into_iter().any(|(_, cell)| cell.is_there())));
                }
            }
        }
        Ok(())
    }

    /// In which tables they are, and whether in what goes on.
    pub const fn found(&self) -> &BTreeSet<(&'static str, bool)> {
        &self.found
    }

    /// How many tables were walked.
    pub fn walked(&self) -> usize {
        self.walked.len()
    }

    fn are_in(&self, bytes: &[u8]) -> bool {
        let is_in = |name: &Vec<u8>| bytes.windows(name.len()).any(|part| part == name.as_slice());
        self.names.iter().any(is_in)
    }
}
