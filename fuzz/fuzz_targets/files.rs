//! Configurations, keys and certificates.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sammati_tests::parsers::read("files", bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    sammati_tests::parsers::read_files("files")
}
