//! What must not be.

use std::fmt;

/// How an invariant was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Something acknowledged is not there.
    Lost,
    /// Something is there, or was answered, that must not be.
    Illegal,
    /// Something is there twice.
    Duplicated,
}

/// One of them, in words.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn lost(&mut self, what: impl Into<String>) {
        self.add(Kind::Lost, what.into());
    }

    pub(crate) fn illegal(&mut self, what: impl Into<String>) {
        self.add(Kind::Illegal, what.into());
    }

    pub(crate) fn duplicated(&mut self, what: impl Into<String>) {
        self.add(Kind::Duplicated, what.into());
    }

    fn add(&mut self, kind: Kind, what: String) {
        self.0.push(Finding { kind, what });
    }

    /// Fewer than what was acknowledged is lost, more is duplicated.
    pub(crate) fn compare(&mut self, what: &str, acknowledged: usize, found: usize) {
        let told = format!("{what}: {acknowledged} acknowledged, {found} found");
        match found.cmp(&acknowledged) {
            std::cmp::Ordering::Less => self.lost(told),
            std::cmp::Ordering::Greater => self.duplicated(told),
            std::cmp::Ordering::Equal => {}
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.0.iter().filter(|finding| finding.kind == kind).count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lost, illegal, duplicated] = [Kind::Lost, Kind::Illegal, Kind::Duplicated].map(|kind| self.count(kind));
        write!(f, "{lost} lost, {illegal} illegal, {duplicated} duplicated")
    }
}
