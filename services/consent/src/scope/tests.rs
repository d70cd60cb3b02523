//! C3: what one scope allows, played through use by use.

use proptest::prelude::*;

use super::*;

/// A scope that most tests start from.
pub(crate) fn sample() -> Scope {
    Scope {
        purpose: PurposeCode::Caremgt,
        hi_types: BTreeSet::from([HiType::Prescription, HiType::DiagnosticReport]),
        access_mode: AccessMode::View,
        record_range: Range {
            from: Micros(1_000),
            to: Micros(2_000),
        },
        erase_time: Micros(9_000_000_000_000),
        frequency: Frequency {
            unit: Unit::Hour,
            value: 0,
            repeats: 0,
        },
        max_uses: 0,
        bind_requester: false,
        care_contexts: BTreeSet::new(),
    }
}

fn frequency() -> impl Strategy<Value = Frequency> {
    let unit = prop::sample::select(Unit::ALL.to_vec());
    (unit, 0..4_i32, 0..4_i32).prop_map(|(unit, value, repeats)| Frequency { unit, value, repeats })
}

fn scope() -> impl Strategy<Value = Scope> {
    let purpose = prop::sample::select(PurposeCode::ALL[..2].to_vec());
    let mode = prop::sample::select(AccessMode::ALL.to_vec());
    let types = prop::collection::btree_set(prop::sample::select(HiType::ALL[..3].to_vec()), 1..3);
    let contexts = prop::collection::btree_set((0..3_u8).prop_map(|n| [n; 32]), 0..3);
    let times = (0..4_i64, 1..4_i64, 0..4_i64);
    (
        purpose,
        types,
        mode,
        times,
        frequency(),
        0..3_i32,
        any::<bool>(),
        contexts,
    )
        .prop_map(
            |(
                purpose,
                hi_types,
                access_mode,
                (from, length, erase),
                frequency,
                max_uses,
                bind_requester,
                care_contexts,
            )| Scope {
                purpose,
                hi_types,
                access_mode,
                record_range: Range {
                    from: Micros(from),
                    to: Micros(from + length),
                },
                erase_time: Micros(erase),
                frequency,
                max_uses,
                bind_requester,
                care_contexts,
            },
        )
}

/// Whether the use at `at` hours is allowed after those in `before`, in a formulation of its own.
fn allows(frequency: Frequency, before: &[i64], at: i64) -> bool {
    let hours = frequency.unit.micros() / 3_600_000_000;
    let window = at / hours;
    let in_window = before.iter().filter(|use_| **use_ / hours == window).count();
    let in_windows = frequency.repeats == 0 || window <= i64::from(frequency.repeats);
    in_windows && (frequency.value == 0 || in_window < usize::try_from(frequency.value).unwrap())
}

proptest! {
    #[test]
    fn a_scope_contains_itself(scope in scope()) {
        prop_assert_eq!(wider(&scope, &scope), None);
    }

    #[test]
    fn containing_is_transitive(a in scope(), b in scope(), c in scope()) {
        if contains(&a, &b) && contains(&b, &c) {
            prop_assert!(contains(&a, &c));
        }
    }

    #[test]
    fn what_is_contained_allows_nothing_more(a in scope(), b in scope(), probe in 0..5_i64) {
        if contains(&a, &b) {
            prop_assert_eq!(a.purpose, b.purpose);
            for t in &b.hi_types {
                prop_assert!(a.hi_types.contains(t));
            }
            for mode in AccessMode::ALL {
                prop_assert!(!b.access_mode.includes(*mode) || a.access_mode.includes(*mode));
            }
            let inside = |r: Range| r.from.0 <= probe && probe < r.to.0;
            prop_assert!(!inside(b.record_range) || inside(a.record_range));
            prop_assert!(b.erase_time <= a.erase_time);
            prop_assert!(!a.bind_requester || b.bind_requester);
            let reaches = |s: &Scope, n: u8| s.care_contexts.is_empty() || s.care_contexts.contains(&[n; 32]);
            for n in 0..4 {
                prop_assert!(!reaches(&b, n) || reaches(&a, n));
            }
            prop_assert!(a.max_uses == 0 || (b.max_uses > 0 && b.max_uses <= a.max_uses));
        }
    }

    #[test]
    fn uses_that_a_contained_frequency_allows_the_wider_one_allows(a in frequency(), b in frequency(), mut at in prop::collection::vec(0..2_000_i64, 0..40), dense: bool) {
        if a.contains(b) {
            // Half of the time packed around the windows' borders, where a mistake would show.
            if dense {
                at = at.into_iter().map(|t| t % 40 + 24 * 7 * 4 - 20).collect();
            }
            at.sort_unstable();
            let mut used = Vec::new();
            for t in at {
                if allows(b, &used, t) {
                    prop_assert!(allows(a, &used, t), "{a:?} {b:?} {used:?} {t}");
                    used.push(t);
                }
            }
        }
    }
}

#[test]
fn every_field_that_is_wider_is_named() {
    let asked = Scope {
        max_uses: 3,
        bind_requester: true,
        care_contexts: BTreeSet::from([[1; 32]]),
        ..sample()
    };
    let asked = Scope {
        frequency: Frequency {
            unit: Unit::Day,
            value: 1,
            repeats: 1,
        },
        ..asked
    };
    let cases = [
        (
            "purpose",
            Scope {
                purpose: PurposeCode::Hpaymt,
                ..asked.clone()
            },
        ),
        (
            "hi_types",
            Scope {
                hi_types: BTreeSet::from([HiType::Invoice]),
                ..asked.clone()
            },
        ),
        (
            "access_mode",
            Scope {
                access_mode: AccessMode::Store,
                ..asked.clone()
            },
        ),
        (
            "record_range",
            Scope {
                record_range: Range {
                    from: Micros(999),
                    to: Micros(2_000),
                },
                ..asked.clone()
            },
        ),
        (
            "erase_time",
            Scope {
                erase_time: Micros(asked.erase_time.0 + 1),
                ..asked.clone()
            },
        ),
        (
            "frequency",
            Scope {
                frequency: Frequency {
                    unit: Unit::Hour,
                    value: 1,
                    repeats: 0,
                },
                ..asked.clone()
            },
        ),
        (
            "max_uses",
            Scope {
                max_uses: 0,
                ..asked.clone()
            },
        ),
        (
            "max_uses",
            Scope {
                max_uses: 4,
                ..asked.clone()
            },
        ),
        (
            "bind_requester",
            Scope {
                bind_requester: false,
                ..asked.clone()
            },
        ),
        (
            "care_contexts",
            Scope {
                care_contexts: BTreeSet::new(),
                ..asked.clone()
            },
        ),
        (
            "care_contexts",
            Scope {
                care_contexts: BTreeSet::from([[1; 32], [2; 32]]),
                ..asked.clone()
            },
        ),
    ];
    for (field, given) in cases {
        assert_eq!(wider(&asked, &given), Some(field));
    }
}

#[test]
fn a_grant_may_be_narrower_in_every_field_at_once() {
    let given = Scope {
        hi_types: BTreeSet::from([HiType::Prescription]),
        record_range: Range {
            from: Micros(1_100),
            to: Micros(1_200),
        },
        erase_time: Micros(5),
        frequency: Frequency {
            unit: Unit::Week,
            value: 1,
            repeats: 3,
        },
        max_uses: 1,
        bind_requester: true,
        care_contexts: BTreeSet::from([[1; 32]]),
        ..sample()
    };
    assert!(contains(&sample(), &given) && !contains(&given, &sample()));
}
