//! What was measured, as `target/bench/summary.json` and as a table.

use std::path::Path;

use serde::Serialize;

use crate::goal::Goal;
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
    /// What the ratio, or where there is none the value, is held against.
    goal: Option<Goal>,
    /// Whether it reaches that.
    met: Option<bool>,
}

/// All lines so far.
#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<Entry>);

impl Summary {
    /// Adds a line that is compared with nothing, and its latencies where they were taken.
    pub(crate) fn alone(&mut self, measured: &Measured, unit: &'static str) {
        self.latencies(measured, None);
        self.value(&measured.name, measured.median(), unit);
    }

    /// Adds a line with its quotient; of latencies too, where both have them.
    pub(crate) fn compared(&mut self, measured: &Measured, unit: &'static str, per: &Measured) {
        self.latencies(measured, Some(per));
        self.value(&measured.name, measured.median(), unit);
        self.last_is(measured.against(per), per.name.clone());
    }

    /// Adds the quotient alone of a line that is there already; tells the name that this line has.
    pub(crate) fn ratio(&mut self, measured: &Measured, per: &Measured) -> String {
        let name = format!("{} ÷ {}", measured.name, per.name);
        self.value(&name, measured.against(per), "");
        self.last_is(measured.against(per), per.name.clone());
        name
    }

    /// Adds what one call costs, in time of the whole machine, and how many times of what it costs in `per`.
    pub(crate) fn cost(&mut self, measured: &Measured, per: &Measured) {
        self.value(&measured.name, 1e6 / measured.median(), "µs each");
        self.last_is(per.against(measured), per.name.clone());
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
            goal: None,
            met: None,
        });
        self.print_last();
    }

    /// Adds a value with how many times it is that of `per`, a name and its value.
    pub(crate) fn quotient(&mut self, name: &str, value: f64, unit: &'static str, (per, of): (&str, f64)) {
        self.value(name, value, unit);
        self.last_is(value / of, per.to_owned());
    }

    /// Holds the last line called `name` against a goal; does nothing where it was skipped.
    pub(crate) fn goal(&mut self, name: &str, goal: Goal) {
        if let Some(entry) = self.0.iter_mut().rev().find(|entry| entry.name == name) {
            entry.goal = Some(goal);
            entry.met = Some(goal.is_met_by(entry.ratio.unwrap_or(entry.value)));
        }
    }

    fn print_last(&self) {
        if let Some(entry) = self.0.last() {
            eprintln!("  {:<46} {:>12.1} {}", entry.name, entry.value, entry.unit);
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, file: &Path) -> Result<(), Failure> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(file, serde_json::to_string_pretty(&self.0)? + "\n")?)
    }

    /// The table that people read, and which goals were reached.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "{:<46} {:>12} {:<10} {:>7}  {:<8} {:<7} per\n",
            "name", "value", "unit", "ratio", "goal", ""
        );
        for Entry {
            name,
            value,
            unit,
            per,
            ratio,
            goal,
            met,
        } in &self.0
        {
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let goal = goal.map_or_else(String::new, |goal| goal.to_string());
            let met = met.map_or("", |met| if met { "met" } else { "MISSED" });
            let per = per.as_deref().unwrap_or("-");
            out.push_str(&format!(
                "{name:<46} {value:>12.1} {unit:<10} {ratio:>7}  {goal:<8} {met:<7} {per}\n"
            ));
        }
        out.push_str(&self.verdict());
        out
    }

    fn verdict(&self) -> String {
        let met = self.0.iter().filter(|entry| entry.met == Some(true)).count();
        let missed: Vec<_> = self
            .0
            .iter()
            .filter(|entry| entry.met == Some(false))
            .map(|entry| entry.name.as_str())
            .collect();
        format!("goals: {met} met, {} missed {}\n", missed.len(), missed.join(", "))
    }
}

/// Three places are more than the numbers are good for.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_for_the_ratio_where_there_is_one_and_a_missed_one_is_told() {
        let mut summary = Summary::default();
        summary.quotient("grouped", 90.0, "1/s", ("each", 10.0));
        summary.goal("grouped", Goal::AtLeast(10.0));
        summary.value("bytes", 90.0, "B");
        summary.goal("bytes", Goal::AtMost(90.0));
        summary.goal("skipped", Goal::AtMost(1.0));
        assert!(summary.table().ends_with("goals: 1 met, 1 missed grouped\n"));
        assert!(!Goal::AtMost(1.5).is_met_by(f64::NAN) && !Goal::AtLeast(1.5).is_met_by(f64::NAN));
    }
}
