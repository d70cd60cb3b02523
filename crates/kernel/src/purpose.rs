//! Why records are asked for: ABDM's purposes of use.

use crate::Role;

/// A purpose. There is no hierarchy: one is granted or it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PurposeCode {
    /// Treatment.
    Caremgt = 1,
    /// An emergency, without her word.
    Btg = 2,
    /// Public health.
    Pubhlth = 3,
    /// Paying for care.
    Hpaymt = 4,
    /// Research, within a study.
    Dsrch = 5,
    /// Her own use.
    Patrqt = 6,
}

impl PurposeCode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Caremgt,
        Self::Btg,
        Self::Pubhlth,
        Self::Hpaymt,
        Self::Dsrch,
        Self::Patrqt,
    ];

    /// The value set that all codes are from.
    pub const REF_URI: &'static str = "http://terminology.hl7.org/ValueSet/v3-PurposeOfUse";

    /// ABDM's code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Caremgt => "CAREMGT",
            Self::Btg => "BTG",
            Self::Pubhlth => "PUBHLTH",
            Self::Hpaymt => "HPAYMT",
            Self::Dsrch => "DSRCH",
            Self::Patrqt => "PATRQT",
        }
    }

    /// The text that belongs to the code; ABDM compares both.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Caremgt => "Care Management",
            Self::Btg => "Break the Glass",
            Self::Pubhlth => "Public Health",
            Self::Hpaymt => "Healthcare Payment",
            Self::Dsrch => "Disease Specific Healthcare Research",
            Self::Patrqt => "Self Requested",
        }
    }

    /// The value set: [`Self::REF_URI`] for every code.
    pub const fn ref_uri(self) -> &'static str {
        Self::REF_URI
    }

    /// Its number in the contract, from 1.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The one with this number in the contract; 0 and unknown numbers are none.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }

    /// Reads a code, exactly as ABDM writes it. The old `GOV` is none.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.code() == code)
    }

    /// Whether a participant in `role` may ask for this purpose.
    pub fn may_be_asked_by(self, role: Role) -> bool {
        match self {
            Self::Caremgt | Self::Btg | Self::Pubhlth | Self::Hpaymt => role == Role::Hiu,
            Self::Dsrch => role == Role::Researcher,
            Self::Patrqt => matches!(role, Role::Locker | Role::PhrApp),
        }
    }

    /// Whether a consent request may name it. Breaking the glass has a call of its own, and research must name an
    /// active study, of which there is none to name.
    pub const fn is_requestable(self) -> bool {
        !matches!(self, Self::Btg | Self::Dsrch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_read_back() {
        for (i, p) in PurposeCode::ALL.into_iter().enumerate() {
            assert_eq!(p.number(), i32::try_from(i).unwrap() + 1);
            assert_eq!(PurposeCode::from_number(p.number()), Some(p));
            assert_eq!(PurposeCode::parse(p.code()), Some(p));
        }
        for none in ["GOV", "caremgt", "", "Care Management"] {
            assert_eq!(PurposeCode::parse(none), None);
        }
        assert_eq!(PurposeCode::from_number(0), None);
        assert_eq!(PurposeCode::from_number(7), None);
    }

    #[test]
    fn who_may_ask_for_what() {
        let askers = |p: PurposeCode| {
            Role::ALL
                .into_iter()
                .filter(|r| p.may_be_asked_by(*r))
                .collect::<Vec<_>>()
        };
        assert_eq!(askers(PurposeCode::Caremgt), [Role::Hiu]);
        assert_eq!(askers(PurposeCode::Patrqt), [Role::Locker, Role::PhrApp]);
        assert_eq!(askers(PurposeCode::Dsrch), [Role::Researcher]);
        let not: Vec<_> = PurposeCode::ALL.into_iter().filter(|p| !p.is_requestable()).collect();
        assert_eq!(not, [PurposeCode::Btg, PurposeCode::Dsrch]);
    }
}
