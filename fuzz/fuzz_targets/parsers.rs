//! Everything that reads bytes from outside, with the assertions of the smoke test.

#![no_main]

#[path = "../../crates/log/tests/log/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::read_all(bytes));
