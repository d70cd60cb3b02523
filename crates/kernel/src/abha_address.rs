//! The ABHA address: `name@abdm`, or `name@sbx` in a sandbox; a handle that routes to a person.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::contact::is_mobile;
use crate::{AbhaNumber, Seed};

/// The part before the `@` that a person chose. Case is kept for show and ignored in comparisons.
#[derive(Clone)]
pub struct LocalPart(String);

impl LocalPart {
    /// Reads a chosen name: 8 to 18 letters and digits, at most one `.` and one `_`, neither first nor last; not the
    /// form of an ABHA number or a mobile number, which would be taken for one.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let count = |mark: u8| text.bytes().filter(|b| *b == mark).count();
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        if !(8..=18).contains(&text.len())
            || !text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
        {
            Err("an address name is 8 to 18 letters, digits, . and _")
        } else if count(b'.') > 1 || count(b'_') > 1 || !edge(text.bytes().next()) || !edge(text.bytes().last()) {
            Err("an address name has at most one . and one _, neither first nor last")
        } else if is_mobile(text) || (text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit())) {
            Err("an address name does not look like an ABHA number or a mobile number")
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// As the person wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In small letters: two names that fold alike are one.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Whether it begins with a digit, which a self-declared address may not.
    pub fn starts_with_digit(&self) -> bool {
        self.0.starts_with(|c: char| c.is_ascii_digit())
    }
}

impl PartialEq for LocalPart {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for LocalPart {}

impl Hash for LocalPart {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().hash(state);
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hidden: an address is personal.
impl fmt::Debug for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[address]")
    }
}

/// What follows the `@`: the consent manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressSuffix {
    /// Production.
    Abdm,
    /// A sandbox.
    Sbx,
}

impl AddressSuffix {
    /// Without the `@`; also the id of the consent manager.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abdm => "abdm",
            Self::Sbx => "sbx",
        }
    }

    /// Reads it in any case, without the `@`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Abdm, Self::Sbx]
            .into_iter()
            .find(|s| s.as_str().eq_ignore_ascii_case(text))
    }
}

/// A whole address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AbhaAddress {
    local: Local,
    suffix: AddressSuffix,
}

/// What stands before the `@`.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Local {
    Chosen(LocalPart),
    Default(AbhaNumber),
}

impl AbhaAddress {
    /// The address of a chosen name.
    pub const fn new(local: LocalPart, suffix: AddressSuffix) -> Self {
        Self {
            local: Local::Chosen(local),
            suffix,
        }
    }

    /// The address that every number has from the start: `<14 digits>@…`.
    pub const fn default_for(number: AbhaNumber, suffix: AddressSuffix) -> Self {
        Self {
            local: Local::Default(number),
            suffix,
        }
    }

    /// Reads `name@abdm` or `name@sbx`, chosen or default, in any case.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (local, suffix) = text.split_once('@').ok_or(FORM)?;
        let suffix = AddressSuffix::parse(suffix).ok_or(FORM)?;
        if local.len() == 14 && local.bytes().all(|b| b.is_ascii_digit()) {
            return AbhaNumber::parse(local).map(|number| Self::default_for(number, suffix));
        }
        LocalPart::parse(local).map(|local| Self::new(local, suffix))
    }

    /// The chosen name, if it is not a default address.
    pub const fn local(&self) -> Option<&LocalPart> {
        match &self.local {
            Local::Chosen(local) => Some(local),
            Local::Default(_) => None,
        }
    }

    /// The number in a default address.
    pub const fn number(&self) -> Option<AbhaNumber> {
        match &self.local {
            Local::Chosen(_) => None,
            Local::Default(number) => Some(*number),
        }
    }

    /// What follows the `@`.
    pub const fn suffix(&self) -> AddressSuffix {
        self.suffix
    }

    /// In small letters: what is unique, claimed and looked up.
    pub fn folded(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }

    /// Six names that a person may like, made of her `names` (any script; only Latin letters and digits count) and her
    /// year of birth. All valid, none alike, the same for the same seed; whether one is free, only a claim shows.
    pub fn suggestions(names: &[&str], year: u16, seed: &Seed) -> Vec<LocalPart> {
        let words: Vec<String> = names.iter().map(|n| latin(n)).filter(|w| !w.is_empty()).collect();
        let first = words.first().map_or("health", String::as_str);
        let last = words.get(1..).and_then(<[_]>::last).map_or("abha", String::as_str);
        let named = [
            format!("{first}.{last}"),
            format!("{first}_{last}{:02}", year % 100),
            format!("{first}.{year}"),
            format!("{last}.{first}"),
        ];
        // 4 to 12 letters before 4 digits: always valid.
        let padding = if first.len() + last.len() < 4 { "abha" } else { "" };
        let stem: String = format!("{first}{last}{padding}").chars().take(12).collect();
        let offset = seed.below("address suggestions", 9000);
        let numbered = (0..9000).map(|n| format!("{stem}{}", 1000 + (offset + n * 37) % 9000));
        let mut found: Vec<LocalPart> = Vec::with_capacity(SUGGESTIONS);
        for name in named
            .into_iter()
            .chain(numbered)
            .filter_map(|text| LocalPart::parse(&text).ok())
        {
            if !name.starts_with_digit() && !found.contains(&name) {
                found.push(name);
            }
            if found.len() == SUGGESTIONS {
                break;
            }
        }
        found
    }
}

const FORM: &str = "an ABHA address is name@abdm or name@sbx";

/// How many names are suggested; ABDM wants at least 3.
const SUGGESTIONS: usize = 6;

/// The Latin letters of a name, small; digits and marks would only make a name harder to say.
fn latin(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphabetic)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

impl fmt::Display for AbhaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.local {
            Local::Chosen(local) => write!(f, "{local}@{}", self.suffix.as_str()),
            Local::Default(number) => write!(f, "{}@{}", number.digits(), self.suffix.as_str()),
        }
    }
}

/// Hidden but for the suffix.
impl fmt::Debug for AbhaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[address]@{}", self.suffix.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_by_the_rules() {
        for good in [
            "asharao1",
            "asha.rao",
            "asha_rao",
            "asha.rao_1",
            "ASHA.Rao",
            "12345678",
            "5123456789",
            "a23456789012345678",
        ] {
            assert!(LocalPart::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "asharao",
            "a234567890123456789",
            ".asharao",
            "asharao.",
            "_asharao",
            "asharao_",
            "a.s.harao",
            "a_s_harao",
            "asha-rao",
            "asha rao",
            "आशाराव",
            "9876543210",
            "91123456789015",
            "12345678901234",
        ] {
            assert!(LocalPart::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_by_the_rules() {
        let number = AbhaNumber::parse("91-1234-5678-9015").unwrap();
        let default = AbhaAddress::parse("91123456789015@SBX").unwrap();
        assert_eq!(default, AbhaAddress::default_for(number, AddressSuffix::Sbx));
        assert_eq!(default.to_string(), "91123456789015@sbx");
        assert_eq!((default.number(), default.local()), (Some(number), None));
        let chosen = AbhaAddress::parse("Asha.Rao@abdm").unwrap();
        assert_eq!(chosen, AbhaAddress::parse("asha.rao@ABDM").unwrap());
        assert_ne!(chosen, AbhaAddress::parse("asha.rao@sbx").unwrap());
        assert_eq!(
            (chosen.to_string().as_str(), chosen.folded().as_str()),
            ("Asha.Rao@abdm", "asha.rao@abdm")
        );
        assert_eq!(format!("{chosen:?}"), "[address]@abdm");
        for bad in [
            "asha.rao",
            "asha.rao@",
            "@abdm",
            "asha.rao@ndhm",
            "asha.rao@abdm@abdm",
            "91123456789012@abdm",
        ] {
            assert!(AbhaAddress::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_back_and_folds_to_itself(text in "[a-zA-Z0-9._]{7,19}") {
            if let Ok(name) = LocalPart::parse(&text) {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert_eq!(LocalPart::parse(&name.folded()), Ok(name.clone()));
                let address = AbhaAddress::new(name, AddressSuffix::Abdm);
                prop_assert_eq!(AbhaAddress::parse(&address.to_string()), Ok(address.clone()));
                prop_assert_eq!(AbhaAddress::parse(&address.folded()), Ok(address));
            }
        }

        #[test]
        fn suggestions_are_enough_valid_and_distinct(names: Vec<String>, year: u16, seed: [u8; 32]) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let seed = Seed::from_bytes(seed);
            let found = AbhaAddress::suggestions(&names, year, &seed);
            prop_assert_eq!(found.len(), SUGGESTIONS);
            let folded: std::collections::BTreeSet<_> = found.iter().map(LocalPart::folded).collect();
            prop_assert_eq!(folded.len(), SUGGESTIONS);
            prop_assert_eq!(AbhaAddress::suggestions(&names, year, &seed), found);
        }
    }

    #[test]
    fn suggestions_are_made_of_the_name() {
        let found = AbhaAddress::suggestions(&["Asha", "Rao"], 1987, &Seed::from_bytes([7; 32]));
        assert_eq!(found[0].as_str(), "asha.rao");
        assert_eq!(found[1].as_str(), "asha_rao87");
        assert!(found.iter().all(|n| n.as_str().contains("asha")));
    }
}
