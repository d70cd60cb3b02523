//! The log against independent implementations, against published notes, and from the command line.

mod bundle;
mod checkpoint;
mod cli;
mod edge;
mod entries;
mod export;
mod fixture;
mod go;
mod parts;
mod proof;
mod published;
mod subject;
mod tile;
mod vectors;
mod whole;
mod witness;
