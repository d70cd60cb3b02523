//! The log against independent implementations, against published notes, and from the command line.

mod bundle;
mod checkpoint;
mod cli;
mod edge;
mod entries;
mod export;
mod fixture;
mod parts;
mod proof;
mod subject;
mod tile;
mod vectors;
mod whole;
mod witness;
