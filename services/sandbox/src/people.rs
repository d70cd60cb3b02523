//! The synthetic UIDAI's register: invented people in households, always the same for the same seed.
//!
//! Numbers are Verhoeff-valid but of the range 9999…, which UIDAI does not issue. Mobiles all begin with 9000; what is
//! sent to them goes to the sandbox's own inbox and nowhere else.

use std::collections::BTreeMap;

use sammati_kernel::{AadhaarNumber, MobileNumber, Seed};

use crate::census::Census;

/// How many people there are unless the configuration says otherwise.
pub const DEFAULT_COUNT: usize = 300;

/// A person's gender, as UIDAI has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gender {
    /// Male: M.
    Male = 1,
    /// Female: F.
    Female = 2,
    /// Other: O.
    Other = 3,
}

impl Gender {
    /// Its number in `type.v1.Gender`.
    pub const fn number(self) -> i32 {
        self as i32
    }
}

/// A name in Latin letters. `middle` is empty for most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonName {
    /// First name.
    pub first: String,
    /// Middle name: the father's first name where that is the custom.
    pub middle: String,
    /// Last name, which a household shares.
    pub last: String,
}

/// A date of birth. UIDAI knows only the year of some people: `month` and `day` are 0 then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BirthDate {
    /// Four digits.
    pub year: i32,
    /// 1 to 12, or 0.
    pub month: i32,
    /// 1 to 28, or 0.
    pub day: i32,
}

/// A place of the Local Government Directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// LGD code.
    pub code: &'static str,
    /// English name.
    pub name: &'static str,
}

/// A postal address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostalAddress {
    /// House and street.
    pub line: String,
    /// Town.
    pub town: &'static str,
    /// District.
    pub district: Place,
    /// State.
    pub state: Place,
    /// 6 digits.
    pub pincode: &'static str,
}

/// What the synthetic UIDAI knows of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Her number.
    pub aadhaar: AadhaarNumber,
    /// What identity gets in its place: opaque, 43 characters, always the same for her and for nobody else.
    pub uid_token: String,
    /// Her name.
    pub names: PersonName,
    /// Her whole name in the script of `language`.
    pub local_name: String,
    /// The language of her state, BCP 47.
    pub language: &'static str,
    /// Her gender.
    pub gender: Gender,
    /// When she was born.
    pub birth: BirthDate,
    /// Her mobile: a child's is a parent's, some adults share one, some have none.
    pub mobile: Option<MobileNumber>,
    /// Where her household lives.
    pub postal: PostalAddress,
    /// The name of her household.
    pub household: String,
    /// The numbers of a child's parents, one or two; empty for adults.
    pub parents: Vec<AadhaarNumber>,
}

/// All the people, parents before their children. The first is an adult with a mobile of her own.
#[derive(Debug)]
pub struct Register {
    people: Vec<Person>,
    by_number: BTreeMap<String, usize>,
}

impl Register {
    /// The `count` people that belong to `seed`. More of them leave the first ones as they are.
    pub fn from_seed(seed: u64, count: usize) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let people = Census::new(Seed::from_bytes(bytes)).take(count);
        let by_number = people
            .iter()
            .enumerate()
            .map(|(i, p)| (p.aadhaar.expose().to_owned(), i))
            .collect();
        Self { people, by_number }
    }

    /// The person with this number.
    pub fn find(&self, aadhaar: &AadhaarNumber) -> Option<&Person> {
        self.by_number.get(aadhaar.expose()).and_then(|i| self.people.get(*i))
    }

    /// Everybody, always in the same order.
    pub fn people(&self) -> &[Person] {
        &self.people
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::census::{ADULTS_BORN_UNTIL, CHILDREN_BORN, GENERATION};
    use crate::names;
    use crate::places::STATES;

    fn register() -> Register {
        Register::from_seed(1, DEFAULT_COUNT)
    }

    #[test]
    fn the_same_seed_makes_the_same_people() {
        assert_eq!(register().people(), register().people());
        assert_eq!(register().people()[..40], Register::from_seed(1, 40).people()[..]);
        assert_ne!(register().people()[0], Register::from_seed(2, 1).people()[0]);
    }

    #[test]
    fn numbers_and_tokens_are_valid_and_distinct() {
        let register = Register::from_seed(7, 5000);
        let numbers: BTreeSet<&str> = register.people().iter().map(|p| p.aadhaar.expose()).collect();
        let tokens: BTreeSet<&str> = register.people().iter().map(|p| p.uid_token.as_str()).collect();
        assert_eq!((numbers.len(), tokens.len()), (5000, 5000));
        for p in register.people() {
            assert!(p.aadhaar.expose().starts_with("9999") && AadhaarNumber::parse(p.aadhaar.expose()).is_ok());
            assert_eq!(register.find(&p.aadhaar), Some(p));
            assert_eq!(p.uid_token.len(), 43);
            assert!(!p.uid_token.contains(p.aadhaar.expose()));
        }
        // A possible number that is nobody's here.
        assert_eq!(register.find(&AadhaarNumber::parse("234567890124").unwrap()), None);
    }

    #[test]
    fn households_hang_together() {
        let register = register();
        let children: Vec<&Person> = register.people().iter().filter(|p| !p.parents.is_empty()).collect();
        assert!(children.len() > 50);
        for child in children {
            assert!(CHILDREN_BORN.contains(&child.birth.year) && child.birth.month > 0 && child.birth.day > 0);
            let parents: Vec<&Person> = child.parents.iter().map(|n| register.find(n).unwrap()).collect();
            assert!(parents.iter().any(|p| p.mobile == child.mobile && p.mobile.is_some()));
            for parent in parents {
                assert!(parent.birth.year + GENERATION <= child.birth.year);
                assert!(parent.parents.is_empty());
                assert_eq!(parent.household, child.household);
                assert_eq!(parent.postal, child.postal);
                assert_eq!(parent.names.last, child.names.last);
                assert_eq!(parent.language, child.language);
            }
        }
        assert!(
            register
                .people()
                .iter()
                .all(|p| !p.parents.is_empty() || p.birth.year <= ADULTS_BORN_UNTIL)
        );
    }

    #[test]
    fn mobiles_are_own_shared_or_missing() {
        let register = register();
        let mut holders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut people: BTreeMap<&str, usize> = BTreeMap::new();
        for p in register.people() {
            if let Some(mobile) = &p.mobile {
                holders.entry(mobile.expose()).or_default().insert(&p.household);
                *people.entry(mobile.expose()).or_default() += 1;
            }
        }
        assert!(register.people()[0].mobile.is_some());
        assert!(holders.values().all(|homes| homes.len() == 1));
        // Six ABHA numbers may share a mobile; nobody here is in the way of that.
        assert!(people.values().all(|n| (1..=6).contains(n)) && people.values().any(|n| *n > 1));
        assert!(register.people().iter().any(|p| p.mobile.is_none()));
    }

    #[test]
    fn every_state_writes_its_own_script() {
        let first_letter = |language: &str| match language {
            "hi" | "mr" => 0x0900,
            "bn" => 0x0980,
            "pa" => 0x0a00,
            "gu" => 0x0a80,
            "or" => 0x0b00,
            "ta" => 0x0b80,
            "te" => 0x0c00,
            "kn" => 0x0c80,
            "ml" => 0x0d00,
            other => panic!("{other}"),
        };
        let mut languages = BTreeSet::new();
        for p in register().people() {
            let block = first_letter(p.language)..first_letter(p.language) + 0x80;
            assert!(
                p.local_name.chars().all(|c| c == ' ' || block.contains(&u32::from(c))),
                "{}",
                p.local_name
            );
            assert!(
                p.names
                    .first
                    .bytes()
                    .chain(p.names.last.bytes())
                    .all(|b| b.is_ascii_alphabetic())
            );
            languages.insert(p.language);
        }
        assert_eq!(languages.len(), names::NAMES.len());
    }

    #[test]
    fn places_are_distinct_and_have_names_to_go_with() {
        let mut codes = BTreeSet::new();
        for state in STATES {
            assert_eq!(names::of(state.language).language, state.language);
            for d in state.districts {
                assert!(codes.insert(d.code), "{}", d.code);
                assert!(d.pincode.len() == 6 && d.pincode.bytes().all(|b| b.is_ascii_digit()));
            }
        }
        assert!(STATES.len() >= 12);
    }

    #[test]
    fn some_bear_their_fathers_name_and_some_know_only_their_year() {
        let register = register();
        let child = register.people().iter().find(|p| !p.names.middle.is_empty()).unwrap();
        let fathers = child
            .parents
            .iter()
            .filter_map(|n| register.find(n))
            .filter(|p| p.gender == Gender::Male);
        assert_eq!(
            fathers.map(|f| &f.names.first).collect::<Vec<_>>(),
            [&child.names.middle]
        );
        assert_eq!(child.local_name.split(' ').count(), 3);
        assert!(register.people().iter().any(|p| p.birth.month == 0 && p.birth.day == 0));
    }
}
