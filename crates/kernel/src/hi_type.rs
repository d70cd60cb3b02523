//! What records there are and what may be done with them, as ABDM spells it.

macro_rules! spelled { ($(#[$doc:meta])* $name:ident; $($(#[$each:meta])* $variant:ident $number:literal $text:literal;)*) => {
    $(#[$doc])*
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum $name { $($(#[$each])* $variant = $number,)* }

    impl $name {
        /// All of them, in the order of their numbers.
        pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

        /// As it stands in ABDM's JSON.
        pub const fn as_str(self) -> &'static str {
            match self { $(Self::$variant => $text,)* }
        }

        /// Reads ABDM's spelling in any case.
        pub fn parse(text: &str) -> Option<Self> {
            Self::ALL.iter().copied().find(|v| v.as_str().eq_ignore_ascii_case(text))
        }

        /// Its number in the contract, from 1.
        pub const fn number(self) -> i32 {
            self as i32
        }

        /// The one with this number in the contract; 0 and unknown numbers are none.
        pub const fn from_number(number: i32) -> Option<Self> {
            match number { $($number => Some(Self::$variant),)* _ => None }
        }
    }
} }

spelled! {
    /// A kind of health record.
    HiType;
    /// Medicines ordered.
    Prescription 1 "Prescription";
    /// Laboratory or imaging results.
    DiagnosticReport 2 "DiagnosticReport";
    /// The note of a visit.
    OpConsultation 3 "OPConsultation";
    /// The summary at the end of a stay.
    DischargeSummary 4 "DischargeSummary";
    /// Vaccinations.
    ImmunizationRecord 5 "ImmunizationRecord";
    /// Any other document, as a scan.
    HealthDocumentRecord 6 "HealthDocumentRecord";
    /// Vital signs, activity, general assessment.
    WellnessRecord 7 "WellnessRecord";
    /// A bill.
    Invoice 8 "Invoice";
}

spelled! {
    /// What a receiver may do with the records.
    AccessMode;
    /// Look, and keep nothing.
    View 1 "VIEW";
    /// Keep until the erase time.
    Store 2 "STORE";
    /// Ask questions of the data where it lies.
    Query 3 "QUERY";
    /// Receive it continuously.
    Stream 4 "STREAM";
}

impl AccessMode {
    /// Whether having this mode allows `other`: keeping includes looking, the others stand alone.
    pub fn includes(self, other: Self) -> bool {
        self == other || (self, other) == (Self::Store, Self::View)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hi_types_are_read_in_any_case_and_by_number() {
        for (i, t) in HiType::ALL.iter().enumerate() {
            assert_eq!(t.number(), i32::try_from(i).unwrap() + 1);
            assert_eq!(HiType::from_number(t.number()), Some(*t));
            assert_eq!(HiType::parse(t.as_str()), Some(*t));
            assert_eq!(HiType::parse(&t.as_str().to_uppercase()), Some(*t));
            assert_eq!(HiType::parse(&t.as_str().to_lowercase()), Some(*t));
        }
        assert_eq!(HiType::ALL.len(), 8);
        assert_eq!(HiType::OpConsultation.as_str(), "OPConsultation");
        for none in [-1, 0, 9, i32::MAX] {
            assert_eq!(HiType::from_number(none), None);
        }
        assert_eq!(HiType::parse("OP_CONSULTATION"), None);
    }

    #[test]
    fn only_store_includes_another_mode() {
        for a in AccessMode::ALL {
            assert_eq!(AccessMode::parse(a.as_str()), Some(*a));
            assert_eq!(AccessMode::from_number(a.number()), Some(*a));
            for b in AccessMode::ALL {
                let expected = a == b || (*a == AccessMode::Store && *b == AccessMode::View);
                assert_eq!(a.includes(*b), expected, "{a:?} {b:?}");
            }
        }
        assert_eq!(AccessMode::from_number(5), None);
    }
}
