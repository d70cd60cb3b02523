//! Is it she? What a facility knows of a patient, compared with what UIDAI told.

use std::collections::BTreeSet;

use sammati_api::identity::v1::Match;
use sammati_api::types::v1::Demographics;

use crate::rows::Profile;

/// How far years of birth may be apart.
const YEARS: i32 = 2;

/// How each value compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: Match,
    pub(crate) gender: Match,
    pub(crate) year: Match,
    pub(crate) mobile: Match,
}

impl Found {
    /// Nothing was compared.
    pub(crate) const NOT_GIVEN: Self = Self {
        name: Match::NotGiven,
        gender: Match::NotGiven,
        year: Match::NotGiven,
        mobile: Match::NotGiven,
    };

    /// Whether everything that was sent fits.
    pub(crate) fn fits(&self) -> bool {
        [self.name, self.gender, self.year, self.mobile]
            .iter()
            .all(|m| *m != Match::Mismatch)
    }
}

/// Compares. The year of birth may differ by two, the gender is exact, names are compared word by word.
pub(crate) fn compare(given: &Demographics, hers: &Profile) -> Found {
    let year = hers.birth.as_ref().map_or(0, |birth| birth.year);
    Found {
        name: as_match(same_name(&given.name, hers)),
        gender: as_match(given.gender == hers.gender),
        year: as_match(year != 0 && (given.year_of_birth - year).abs() <= YEARS),
        mobile: match given.mobile.as_deref() {
            None | Some("") => Match::NotGiven,
            Some(mobile) => as_match(mobile == hers.mobile),
        },
    }
}

const fn as_match(fits: bool) -> Match {
    if fits { Match::Match } else { Match::Mismatch }
}

/// Names fit when every word of the given one is a word of hers, or the initial of one, and her first name is among
/// them: records leave out middle names and shorten last ones, and put words in any order.
fn same_name(given: &str, hers: &Profile) -> bool {
    let Some(names) = &hers.names else { return false };
    let given = words(given);
    let all: BTreeSet<String> = [&names.first, &names.middle, &names.last]
        .into_iter()
        .flat_map(|name| words(name))
        .collect();
    let known = |word: &String| {
        all.contains(word) || (word.chars().count() == 1 && all.iter().any(|w| w.starts_with(word.as_str())))
    };
    let first = words(&names.first);
    let named = if first.is_empty() { words(&names.last) } else { first };
    !given.is_empty() && given.iter().all(known) && named.iter().any(|word| given.contains(word))
}

/// The words of a name in small letters, in any script. Signs that belong to letters, as Devanagari vowels, are kept.
fn words(name: &str) -> Vec<String> {
    let divides = |c: char| c.is_whitespace() || c.is_ascii_punctuation();
    name.split(divides)
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sammati_api::identity::v1::{BirthDate, PersonName};

    fn asha() -> Profile {
        Profile {
            names: Some(PersonName {
                first: "Asha".into(),
                middle: "Devi".into(),
                last: "Rao".into(),
            }),
            birth: Some(BirthDate {
                year: 1984,
                month: 0,
                day: 0,
            }),
            gender: 2,
            mobile: "9876543210".into(),
        }
    }

    fn given(name: &str, gender: i32, year: i32, mobile: Option<&str>) -> Demographics {
        Demographics {
            name: name.into(),
            gender,
            year_of_birth: year,
            mobile: mobile.map(Into::into),
        }
    }

    #[test]
    fn names_fit_by_their_words() {
        for name in [
            "Asha Rao",
            "RAO, Asha",
            "asha devi rao",
            "Asha D. Rao",
            "Asha R",
            "asha",
        ] {
            assert!(same_name(name, &asha()), "{name}");
        }
        for name in ["Rao", "Asha Gupta", "Usha Rao", "A Rao", "", "."] {
            assert!(!same_name(name, &asha()), "{name}");
        }
        let hindi = Profile {
            names: Some(PersonName {
                first: "आशा".into(),
                ..Default::default()
            }),
            ..asha()
        };
        assert!(same_name("आशा", &hindi) && !same_name("उषा", &hindi));
    }

    #[test]
    fn years_may_differ_by_two_and_genders_not() {
        assert!(compare(&given("Asha", 2, 1986, None), &asha()).fits());
        assert_eq!(compare(&given("Asha", 2, 1987, None), &asha()).year, Match::Mismatch);
        assert!(!compare(&given("Asha", 1, 1984, None), &asha()).fits());
        for absent in [None, Some("")] {
            assert_eq!(
                compare(&given("Asha", 2, 1984, absent), &asha()).mobile,
                Match::NotGiven
            );
        }
        assert_eq!(
            compare(&given("Asha", 2, 1984, Some("9876543211")), &asha()).mobile,
            Match::Mismatch
        );
    }
}
