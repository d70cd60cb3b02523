//! Writes the examples of each family of readers into a folder of its name below the one that the command line says: what `make
//! fuzz` begins with.

use std::io::{Error, Result};
use std::path::PathBuf;

use sammati_tests::parsers::FAMILIES;

fn main() -> Result<()> {
    let corpus = std::env::args_os().nth(1).map(PathBuf::from);
    let corpus = corpus.ok_or_else(|| Error::other("say where to: seeds <folder>"))?;
    for family in FAMILIES {
        let folder = corpus.join(family.name);
        std::fs::create_dir_all(&folder)?;
        for (n, seed) in (family.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("example-{n}")), seed)?;
        }
    }
    Ok(())
}
