//! Numbers, codes and resource names.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sammati_tests::parsers::read("names", bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    sammati_tests::parsers::read_files("names")
}
