//! The ABHA number: 14 digits, the last a Luhn check digit.

use std::fmt;

use crate::Seed;

/// 14 digits, right by Luhn. Two digits of prefix (91 since 2022, anything before), 11 of body, one check digit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbhaNumber(u64);

/// How many bodies we draw from: 11 digits, each 0 to 8, as the numbers seen in the field have them.
const BODIES: u64 = 9u64.pow(11);

impl AbhaNumber {
    /// Reads 14 digits, bare or dashed as `91-1234-5678-9015`.
    ///
    /// # Errors
    /// What is allowed; never the digits.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = text.as_bytes();
        let dashed = bytes.len() == 17 && [2, 7, 12].iter().all(|at| bytes[*at] == b'-');
        let digits: Vec<u64> = bytes
            .iter()
            .filter(|b| !dashed || **b != b'-')
            .map(|b| u64::from(b.wrapping_sub(b'0')))
            .collect();
        if digits.len() == 14 && digits.iter().all(|d| *d < 10) {
            let number = Self(digits.iter().fold(0, |n, d| n * 10 + d));
            if luhn(number.0) == 0 {
                return Ok(number);
            }
        }
        Err("an ABHA number is 14 digits, with or without dashes as in 91-1234-5678-9015, the last a Luhn check digit")
    }

    /// The `n`th candidate for a new number that `seed` has; whether it is free, only the claim on it shows.
    pub fn issue(seed: &Seed, n: u32) -> Self {
        let mut body = seed.below(&format!("ABHA number {n}"), BODIES);
        let mut number = 91;
        for _ in 0..11 {
            number = number * 10 + body % 9;
            body /= 9;
        }
        Self(number * 10 + (10 - luhn(number * 10)) % 10)
    }

    /// The 14 digits without dashes.
    pub fn digits(self) -> String {
        format!("{:014}", self.0)
    }

    /// With all but the last four digits hidden: `XX-XXXX-XXXX-1234`.
    pub fn masked(self) -> String {
        format!("XX-XXXX-XXXX-{:04}", self.0 % 10_000)
    }
}

/// Luhn's sum of the digits of `number`, modulo 10; right numbers have 0.
const fn luhn(mut number: u64) -> u64 {
    let (mut sum, mut twice) = (0, false);
    while number > 0 {
        let digit = number % 10;
        sum += if twice { digit * 2 / 10 + digit * 2 % 10 } else { digit };
        twice = !twice;
        number /= 10;
    }
    sum % 10
}

/// As people write it: `91-1234-5678-9015`.
impl fmt::Display for AbhaNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let group = |unit: u64| n / unit % 10_000;
        write!(
            f,
            "{:02}-{:04}-{:04}-{:04}",
            n / 1_000_000_000_000,
            group(100_000_000),
            group(10_000),
            group(1)
        )
    }
}

/// Masked: the number links a person across records.
impl fmt::Debug for AbhaNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_published_by_the_nha() {
        for good in [
            "91-1234-5678-9015",
            "91-6285-4575-5116",
            "91-5408-0214-0264",
            "91-1601-4548-1380",
            "91-6087-5423-1330",
            "91-5326-6278-1550",
            "91-1500-2053-3223",
            "91-1886-0070-0275",
            "91-4863-7721-3831",
            "91-6257-0035-0857",
            "91-6483-6362-1216",
            "91-1234-0704-2043",
        ] {
            let number = AbhaNumber::parse(good).unwrap();
            assert_eq!(number.to_string(), good);
            assert_eq!(AbhaNumber::parse(&number.digits()), Ok(number));
        }
        for bad in ["91-7890-3456-1234", "91-1234-5678-9012", "91-1234-5678-1234"] {
            assert!(AbhaNumber::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_forms_are_not_read() {
        for bad in [
            "",
            "91-123456789015",
            "9112-3456-7890-15",
            "91 1234 5678 9015",
            "-91123456789015",
            "911234567890150",
            "९१-1234-5678-9015",
            "91-1234-5678-901५",
        ] {
            assert!(AbhaNumber::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_is_masked() {
        let number = AbhaNumber::parse("91-1234-5678-9015").unwrap();
        assert_eq!(format!("{number:?}"), "XX-XXXX-XXXX-9015");
    }

    proptest! {
        #[test]
        fn issued_numbers_are_read_back_both_ways(seed: [u8; 32], n: u32) {
            let number = AbhaNumber::issue(&Seed::from_bytes(seed), n);
            prop_assert_eq!(AbhaNumber::parse(&number.digits()), Ok(number));
            prop_assert_eq!(AbhaNumber::parse(&number.to_string()), Ok(number));
            prop_assert!(number.digits().starts_with("91"));
            prop_assert!(!number.digits()[2..13].contains('9'));
            prop_assert_ne!(number, AbhaNumber::issue(&Seed::from_bytes(seed), n.wrapping_add(1)));
        }

        #[test]
        fn a_legacy_prefix_is_read(head in 0u64..10_000_000_000_000) {
            let digits = format!("{:014}", head * 10 + (10 - luhn(head * 10)) % 10);
            prop_assert_eq!(AbhaNumber::parse(&digits).unwrap().digits(), digits);
        }

        #[test]
        fn one_wrong_digit_is_found(seed: [u8; 32], place in 0usize..14, by in 1u8..10) {
            let mut digits = AbhaNumber::issue(&Seed::from_bytes(seed), 0).digits().into_bytes();
            digits[place] = b'0' + (digits[place] - b'0' + by) % 10;
            prop_assert!(AbhaNumber::parse(&String::from_utf8(digits).unwrap()).is_err());
        }

        #[test]
        fn whatever_is_read_prints_as_it_was_or_dashed(text in "[0-9-]{14,17}") {
            if let Ok(number) = AbhaNumber::parse(&text) {
                prop_assert!(text == number.digits() || text == number.to_string());
            }
        }
    }
}
