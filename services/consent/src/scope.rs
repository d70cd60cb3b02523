//! What may flow, how, and until when; and whether one scope allows all that another does (C3).

use std::collections::BTreeSet;

use sammati_kernel::{AccessMode, HiType, Micros, PurposeCode};

use crate::lookup::ContextKey;

/// A half-open interval, `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first instant inside.
    pub from: Micros,
    /// The first instant after.
    pub to: Micros,
}

impl Range {
    /// Whether all of `other` lies inside.
    pub fn contains(self, other: Self) -> bool {
        self.from <= other.from && other.to <= self.to
    }

    /// Whether nothing lies inside.
    pub fn is_empty(self) -> bool {
        self.from >= self.to
    }
}

/// The length of a frequency window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
    /// 7 d.
    Week,
    /// 30 d.
    Month,
    /// 365 d.
    Year,
}

impl Unit {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.number() == number)
    }

    /// As ABDM writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
            Self::Year => "YEAR",
        }
    }

    /// In microseconds.
    pub const fn micros(self) -> i64 {
        let hours = match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 30 * 24,
            Self::Year => 365 * 24,
        };
        hours * 3_600_000_000
    }
}

/// At most `value` uses in each window, and only in the first `repeats + 1` windows; 0 is no limit in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frequency {
    /// The length of a window.
    pub unit: Unit,
    /// Uses in a window.
    pub value: i32,
    /// Windows after the first.
    pub repeats: i32,
}

impl Frequency {
    /// Whether it limits anything.
    pub const fn is_limit(self) -> bool {
        self.value > 0 || self.repeats > 0
    }

    /// The most uses it can ever allow; `None` without a bound.
    fn total(self) -> Option<i64> {
        (self.value > 0 && self.repeats > 0).then(|| i64::from(self.value) * (i64::from(self.repeats) + 1))
    }

    /// When its last window ends, in microseconds from the grant; `None`: never.
    fn end(self) -> Option<i64> {
        (self.repeats > 0).then(|| self.unit.micros().saturating_mul(i64::from(self.repeats) + 1))
    }

    /// The most uses it can ever allow in one interval of `length` that begins with a window of its own.
    fn within(self, length: i64) -> Option<i64> {
        (self.value > 0).then(|| {
            let windows = (length + self.unit.micros() - 1) / self.unit.micros();
            i64::from(self.value).saturating_mul(windows)
        })
    }

    /// Whether every sequence of uses that `other` allows is allowed by this one, both counted from one grant.
    ///
    /// Windows lie end to end from the grant, so a longer window of this one that is no multiple of the other's is
    /// judged as if it touched one more of them: never wider than the truth.
    fn contains(self, other: Self) -> bool {
        let ends = match (self.end(), other.end()) {
            (None, _) => true,
            (Some(mine), Some(theirs)) => theirs <= mine,
            (Some(_), None) => false,
        };
        ends && self.rate_contains(other)
    }

    fn rate_contains(self, other: Self) -> bool {
        if self.value == 0 {
            return true;
        }
        if other.value == 0 {
            return false;
        }
        let mine = i64::from(self.value);
        if other.total().is_some_and(|total| total <= mine) {
            return true;
        }
        let (long, short) = (self.unit.micros(), other.unit.micros());
        let most = if long % short == 0 {
            other.within(long)
        } else if long > short {
            other.within(long).map(|n| n + i64::from(other.value))
        } else {
            // One of their windows spans several of mine, and all its uses may fall into one of mine.
            Some(i64::from(other.value) * if short % long == 0 { 1 } else { 2 })
        };
        most.is_some_and(|most| most <= mine)
    }
}

/// What is asked, given or checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Why.
    pub purpose: PurposeCode,
    /// The kinds of record.
    pub hi_types: BTreeSet<HiType>,
    /// What may be done with them.
    pub access_mode: AccessMode,
    /// The dates of the records.
    pub record_range: Range,
    /// When the receiver must have erased them, and the latest end of the consent.
    pub erase_time: Micros,
    /// How often.
    pub frequency: Frequency,
    /// Uses in all; 0 is no limit.
    pub max_uses: i32,
    /// Whether only the named professional may look.
    pub bind_requester: bool,
    /// Only these care contexts; empty is all that the parties hold.
    pub care_contexts: BTreeSet<ContextKey>,
}

/// The first field in which `given` allows more than `asked`; `None` when `asked` contains `given`.
pub fn wider(asked: &Scope, given: &Scope) -> Option<&'static str> {
    let checks = [
        ("purpose", asked.purpose == given.purpose),
        ("hi_types", given.hi_types.is_subset(&asked.hi_types)),
        ("access_mode", asked.access_mode.includes(given.access_mode)),
        ("record_range", asked.record_range.contains(given.record_range)),
        ("erase_time", given.erase_time <= asked.erase_time),
        ("frequency", asked.frequency.contains(given.frequency)),
        (
            "max_uses",
            asked.max_uses == 0 || (1..=asked.max_uses).contains(&given.max_uses),
        ),
        ("bind_requester", given.bind_requester || !asked.bind_requester),
        ("care_contexts", covers(&asked.care_contexts, &given.care_contexts)),
    ];
    checks.into_iter().find(|(_, holds)| !holds).map(|(field, _)| field)
}

/// The first field in which a renewal `asked` allows more than the consent `old`; it may only last longer.
pub fn renewal_wider(old: &Scope, asked: &Scope) -> Option<&'static str> {
    let longer = Scope {
        erase_time: old.erase_time.max(asked.erase_time),
        ..old.clone()
    };
    wider(&longer, asked)
}

/// Whether `asked` allows at least as much as `given` in every field (C3).
pub fn contains(asked: &Scope, given: &Scope) -> bool {
    wider(asked, given).is_none()
}

fn covers(asked: &BTreeSet<ContextKey>, given: &BTreeSet<ContextKey>) -> bool {
    asked.is_empty() || (!given.is_empty() && given.is_subset(asked))
}

#[cfg(test)]
pub(crate) mod tests;
