//! What `sammati-verify` reads.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sammati_tests::parsers::read("archive", bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    sammati_tests::parsers::read_files("archive")
}
