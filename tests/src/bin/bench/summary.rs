//! What was measured, as `target/bench/summary.json` and as a table.

use std::path::Path;

use serde::Serialize;

use crate::measure::{Failure, Measured};

/// One line of the summary.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    /// What was measured.
    name: String,
    /// The middle of all rounds.
    value: f64,
    /// Of what.
    unit: &'static str,
    /// The entry it is compared with.
    per: Option<String>,
    /// How many times the value of that entry: the middle of the rounds' quotients.
    ratio: Option<f64>,
}

/// All lines so far.
#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<Entry>);

impl Summary {
    /// Adds a line that is compared with nothing, and its latencies where they were taken.
    pub(crate) fn alone(&mut self, measured: &Measured, unit: &'static str) {
        self.latencies(measured, None);
        self.value(measured.name, measured.median(), unit);
    }

    /// Adds a line with its quotient; of latencies too, where both have them.
    pub(crate) fn compared(&mut self, measured: &Measured, unit: &'static str, per: &Measured) {
        self.latencies(measured, Some(per));
        self.value(measured.name, measured.median(), unit);
        self.last_is(measured.against(per), per.name.to_owned());
    }

    /// Adds the quotient alone of a line that is there already.
    pub(crate) fn ratio(&mut self, measured: &Measured, per: &Measured) {
        self.value(&format!("{} ÷ {}", measured.name, per.name), measured.against(per), "");
        self.last_is(measured.against(per), per.name.to_owned());
    }

    fn latencies(&mut self, measured: &Measured, per: Option<&Measured>) {
        let Some([half, most]) = measured.latency() else { return };
        self.value(&format!("{}.p50", measured.name), half, "µs");
        self.value(&format!("{}.p99", measured.name), most, "µs");
        if let Some(per) = per.filter(|per| per.latency().is_some()) {
            self.last_is(measured.p99_against(per), format!("{}.p99", per.name));
        }
    }

    fn last_is(&mut self, ratio: f64, per: String) {
        if let Some(entry) = self.0.last_mut() {
            entry.per = Some(per);
            entry.ratio = Some(round(ratio));
        }
    }

    /// Adds a bare value.
    pub(crate) fn value(&mut self, name: &str, value: f64, unit: &'static str) {
        self.0.push(Entry {
            name: name.to_owned(),
            value: round(value),
            unit,
            per: None,
            ratio: None,
        });
        self.print_last();
    }

    fn print_last(&self) {
        if let Some(entry) = self.0.last() {
            eprintln!("  {:<38} {:>12.1} {}", entry.name, entry.value, entry.unit);
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, file: &Path) -> Result<(), Failure> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(file, serde_json::to_string_pretty(&self.0)? + "\n")?)
    }

    /// The table that people read.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{:<38} {:>12} {:<10} {:>7}  per\n", "name", "value", "unit", "ratio");
        for Entry {
            name,
            value,
            unit,
            per,
            ratio,
        } in &self.0
        {
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let per = per.as_deref().unwrap_or("-");
            out.push_str(&format!("{name:<38} {value:>12.1} {unit:<10} {ratio:>7}  {per}\n"));
        }
        out
    }
}

/// Three places are more than the numbers are good for.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
