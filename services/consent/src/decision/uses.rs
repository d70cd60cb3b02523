//! How many uses are taken, and how many are left: in all, and in windows laid end to end from the grant.

use sammati_kernel::Micros;

use crate::rows::ConsentRow;
use crate::scope::{Frequency, Scope};

/// The uses of one consent. `window` is the window that `in_window` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// Since the grant.
    pub count: i64,
    /// Which window, from 0.
    pub window: i64,
    /// Uses in it.
    pub in_window: i64,
}

/// What uses are left at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The window of that instant.
    pub window: i64,
    /// Uses in it so far.
    pub in_window: i64,
    /// Left of `max_uses`; `None` without a limit.
    pub total: Option<i64>,
    /// Left in this window; 0 after the last one; `None` without a limit.
    pub window_left: Option<i64>,
    /// When this window ends; `None` if no frequency limits uses.
    pub window_end: Option<Micros>,
    /// When the next window begins, if there is one.
    pub next_window: Option<Micros>,
}

impl Left {
    /// The smaller of both limits; `None` without any.
    pub fn smaller(&self) -> Option<i64> {
        match (self.total, self.window_left) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Uses {
    /// As kept.
    pub const fn of(row: &ConsentRow) -> Self {
        Self {
            count: row.uses,
            window: row.window,
            in_window: row.window_uses,
        }
    }

    /// Keeps them. The version stays: uses do not change the etag.
    pub const fn write(self, row: &mut ConsentRow) {
        row.uses = self.count;
        row.window = self.window;
        row.window_uses = self.in_window;
    }

    /// What is left at `now` of a grant of `scope` made at `granted`.
    pub fn left(self, scope: &Scope, granted: Micros, now: Micros) -> Left {
        let Frequency { unit, value, repeats } = scope.frequency;
        let window = (now.0 - granted.0).max(0) / unit.micros();
        let in_window = if window == self.window { self.in_window } else { 0 };
        let over = repeats > 0 && window > i64::from(repeats);
        let window_left = match (over, value) {
            (true, _) => Some(0),
            (false, 0) => None,
            (false, value) => Some((i64::from(value) - in_window).max(0)),
        };
        let end = Micros(granted.0.saturating_add((window + 1).saturating_mul(unit.micros())));
        Left {
            window,
            in_window,
            total: (scope.max_uses > 0).then(|| (i64::from(scope.max_uses) - self.count).max(0)),
            window_left,
            window_end: (scope.frequency.is_limit() && !over).then_some(end),
            next_window: (repeats == 0 || window < i64::from(repeats)).then_some(end),
        }
    }

    /// The uses once `before` is narrowed to `after` at `now`. Where the windows are of another length, all uses count in
    /// the present one unless none of them can lie in it: exactly how many do is not known, and less is never allowed.
    #[must_use]
    pub fn narrowed(self, before: &Scope, after: &Scope, granted: Micros, now: Micros) -> Self {
        let (old, new) = (before.frequency.unit.micros(), after.frequency.unit.micros());
        if old == new {
            return self;
        }
        let window = (now.0 - granted.0).max(0) / new;
        let is_over = (self.window + 1).saturating_mul(old) <= window.saturating_mul(new);
        Self {
            window,
            in_window: if is_over { 0 } else { self.count },
            ..self
        }
    }

    /// One more, in this window.
    #[must_use]
    pub const fn take(self, window: i64) -> Self {
        let in_window = if window == self.window { self.in_window } else { 0 };
        Self {
            count: self.count + 1,
            window,
            in_window: in_window + 1,
        }
    }

    /// One more that was taken in `window`, which may be over.
    #[must_use]
    pub const fn take_in(self, window: i64) -> Self {
        if window >= self.window {
            return self.take(window);
        }
        Self {
            count: self.count + 1,
            ..self
        }
    }

    /// One that was taken in `window` comes back.
    #[must_use]
    pub fn give_back(self, window: i64) -> Self {
        let back = i64::from(window == self.window);
        Self {
            count: (self.count - 1).max(0),
            in_window: (self.in_window - back).max(0),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Unit;
    use crate::scope::tests::sample;

    const HOUR: i64 = 3_600_000_000;

    fn limited(value: i32, repeats: i32, max_uses: i32) -> Scope {
        Scope {
            frequency: Frequency {
                unit: Unit::Hour,
                value,
                repeats,
            },
            max_uses,
            ..sample()
        }
    }

    #[test]
    fn windows_lie_end_to_end_from_the_grant() {
        let scope = limited(1, 0, 0);
        let granted = Micros(500);
        let first = Uses::default().left(&scope, granted, granted);
        assert_eq!(
            (first.window, first.window_left, first.window_end),
            (0, Some(1), Some(Micros(500 + HOUR)))
        );
        let used = Uses::default().take(first.window);
        assert_eq!(used.left(&scope, granted, Micros(500 + HOUR - 1)).window_left, Some(0));
        assert_eq!(used.left(&scope, granted, Micros(500 + HOUR)).window_left, Some(1));
    }

    #[test]
    fn repeats_limit_the_number_of_windows() {
        let scope = limited(2, 1, 0);
        let at = |n: i64| Uses::default().left(&scope, Micros(0), Micros(n * HOUR));
        assert_eq!(
            (at(0).window_left, at(1).window_left, at(2).window_left),
            (Some(2), Some(2), Some(0))
        );
        assert_eq!((at(0).next_window, at(1).next_window), (Some(Micros(HOUR)), None));
    }

    #[test]
    fn a_use_that_comes_back_counts_in_its_own_window_only() {
        let uses = Uses::default().take(0).take(3);
        assert_eq!(
            uses.give_back(3),
            Uses {
                count: 1,
                window: 3,
                in_window: 0
            }
        );
        assert_eq!(
            uses.give_back(0),
            Uses {
                count: 1,
                window: 3,
                in_window: 1
            }
        );
    }

    #[test]
    fn c2_uses_of_other_windows_count_in_the_present_one_after_a_narrowing() {
        let hourly = limited(5, 0, 0);
        let daily = Scope {
            frequency: Frequency {
                unit: Unit::Day,
                value: 5,
                repeats: 0,
            },
            ..hourly.clone()
        };
        let used = Uses {
            count: 4,
            window: 25,
            in_window: 1,
        };
        let at = |hour| used.narrowed(&hourly, &daily, Micros(0), Micros(hour * HOUR));
        assert_eq!((at(26).window, at(26).in_window), (1, 4));
        assert_eq!((at(49).window, at(49).in_window, at(49).count), (2, 0, 4));
        assert_eq!(used.narrowed(&hourly, &hourly, Micros(0), Micros(HOUR * 30)), used);
    }

    #[test]
    fn zero_is_no_limit() {
        let left = Uses {
            count: 99,
            window: 0,
            in_window: 99,
        }
        .left(&limited(0, 0, 0), Micros(0), Micros(1));
        assert_eq!((left.smaller(), left.window_end), (None, None));
        let left = Uses {
            count: 9,
            window: 0,
            in_window: 9,
        }
        .left(&limited(0, 0, 10), Micros(0), Micros(1));
        assert_eq!(left.smaller(), Some(1));
    }
}
