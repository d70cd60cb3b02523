//! The Aadhaar number: 12 digits, the last a Verhoeff check digit. It is never stored and never printed whole. And the
//! virtual id that may stand for it, 16 digits with the same check digit.

use std::fmt;

use zeroize::Zeroizing;

/// An Aadhaar number that could exist: 12 digits, the first 2 to 9, the last right. Wiped when dropped, prints masked.
#[derive(Clone, PartialEq, Eq)]
pub struct AadhaarNumber(Zeroizing<String>);

impl AadhaarNumber {
    /// Reads 12 bare digits.
    ///
    /// # Errors
    /// What is allowed; never the digits.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if is_number(text.as_bytes()) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err("an Aadhaar number is 12 digits, the first 2 to 9, the last a Verhoeff check digit")
        }
    }

    /// The number with these first 11 digits (0 to 9 each, the first at least 2) and the check digit they want.
    ///
    /// # Errors
    /// What is allowed.
    pub fn from_body(body: &[u8; 11]) -> Result<Self, &'static str> {
        if body[0] < 2 || body.iter().any(|d| *d > 9) {
            return Err("the body of an Aadhaar number is 11 digits, the first 2 to 9");
        }
        let check = INVERSE[fold(body.iter().copied(), 1)];
        Ok(Self(Zeroizing::new(
            body.iter().chain([&check]).map(|d| char::from(b'0' + d)).collect(),
        )))
    }

    /// The 12 digits. Name the place that needs them; never log or store them.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `text` holds what may be somebody's number: 12 digits in a row, or grouped 4-4-4 by blanks or dashes,
    /// with the right check digit. Digits within a longer run of hexadecimal digits, a UUID or a dashed ABHA number do
    /// not count: one such value in some hundreds would pass by chance.
    pub fn found_in(text: &str) -> bool {
        holds_number(text.as_bytes(), 3)
    }

    /// The same for a virtual id (VID): 16 digits in a row, or grouped 4-4-4-4. One number of 16 digits in ten passes by
    /// chance: ask only where no such number has any business.
    pub fn virtual_id_found_in(text: &str) -> bool {
        holds_number(text.as_bytes(), 4)
    }
}

/// The last four digits, as UIDAI masks a number.
impl fmt::Display for AadhaarNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XXXX-XXXX-{}", self.0.get(8..).unwrap_or_default())
    }
}

impl fmt::Debug for AadhaarNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a number of so many groups of four digits is in `text`.
fn holds_number(text: &[u8], groups: usize) -> bool {
    // Most texts do not have as many digits, and counting them is all that those cost.
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits >= 4 * groups && (0..text.len()).any(|at| starts_number(text, at, groups))
}

/// Whether these are the 12 ASCII digits of a possible number.
fn is_number(digits: &[u8]) -> bool {
    digits.len() == 12 && is_checked(digits)
}

/// Whether these are ASCII digits, the first 2 to 9 and the last the check digit of the others.
fn is_checked(digits: &[u8]) -> bool {
    !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && digits[0] >= b'2'
        && fold(digits.iter().map(|d| d - b'0'), 0) == 0
}

/// Verhoeff's sum of `digits`, the last of which stands at place `from` counted from the right.
fn fold(digits: impl DoubleEndedIterator<Item = u8>, from: usize) -> usize {
    let places = digits.rev().enumerate();
    places.fold(0, |sum, (i, digit)| {
        usize::from(TIMES[sum][usize::from(SHUFFLE[(i + from) % 8][usize::from(digit)])])
    })
}

/// Whether a number of so many groups of four digits stands in `text` at `at`, and is not a piece of something else.
fn starts_number(text: &[u8], at: usize, groups: usize) -> bool {
    let Some(length) = length_at(&text[at..], groups) else {
        return false;
    };
    let end = at + length;
    let digits: Vec<u8> = text[at..end].iter().copied().filter(u8::is_ascii_digit).collect();
    let is_piece = at.checked_sub(1).is_some_and(|i| text[i].is_ascii_hexdigit())
        || text.get(end).is_some_and(u8::is_ascii_hexdigit);
    !is_piece && is_checked(&digits) && !is_other_identifier(word_around(text, at, end))
}

/// How many bytes so many groups of four digits take at the start of `text`, bare or separated alike throughout.
fn length_at(text: &[u8], groups: usize) -> Option<usize> {
    let are_digits = |part: Option<&[u8]>| part.is_some_and(|p| p.iter().all(u8::is_ascii_digit));
    if are_digits(text.get(..4 * groups)) {
        return Some(4 * groups);
    }
    let separator = text.get(4).filter(|b| matches!(b, b' ' | b'-'))?;
    let separated = (0..groups).all(|n| are_digits(text.get(5 * n..5 * n + 4)))
        && (1..groups).all(|n| text.get(5 * n - 1) == Some(separator));
    separated.then_some(5 * groups - 1)
}

/// The bytes from `from` to `to` and all hexadecimal digits and dashes that touch them.
fn word_around(text: &[u8], from: usize, to: usize) -> &[u8] {
    let belongs = |b: &u8| b.is_ascii_hexdigit() || *b == b'-';
    let before = text[..from].iter().rev().take_while(|b| belongs(b)).count();
    let after = text[to..].iter().take_while(|b| belongs(b)).count();
    &text[from - before..to + after]
}

/// Whether `word` has the groups of a UUID (8-4-4-4-12) or of an ABHA number (2-4-4-4).
fn is_other_identifier(word: &[u8]) -> bool {
    let groups: Vec<usize> = word.split(|b| *b == b'-').map(<[u8]>::len).collect();
    groups == [8, 4, 4, 4, 12] || groups == [2, 4, 4, 4]
}

/// The dihedral group D5.
const TIMES: [[u8; 10]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
];

/// Verhoeff's permutation and its powers: which digit stands for which at each place.
const SHUFFLE: [[u8; 10]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
    [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
    [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
    [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
    [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
    [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
    [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
];

/// What each element of D5 is multiplied with to give 0.
const INVERSE: [u8; 10] = [0, 4, 3, 2, 1, 5, 6, 7, 8, 9];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bodies() -> impl Strategy<Value = [u8; 11]> {
        proptest::array::uniform11(0u8..10).prop_map(|mut body| {
            body[0] = 2 + body[0] % 8;
            body
        })
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(body in bodies()) {
            let number = AadhaarNumber::from_body(&body).unwrap();
            prop_assert_eq!(AadhaarNumber::parse(number.expose()), Ok(number));
        }

        #[test]
        fn one_wrong_digit_is_found(body in bodies(), place in 0usize..12, by in 1u8..10) {
            let number = AadhaarNumber::from_body(&body).unwrap();
            let mut digits = number.expose().as_bytes().to_vec();
            digits[place] = b'0' + (digits[place] - b'0' + by) % 10;
            prop_assert!(!is_number(&digits));
        }

        #[test]
        fn two_neighbours_swapped_are_found(body in bodies(), place in 0usize..11) {
            let number = AadhaarNumber::from_body(&body).unwrap();
            let mut digits = number.expose().as_bytes().to_vec();
            prop_assume!(digits[place] != digits[place + 1]);
            digits.swap(place, place + 1);
            prop_assert!(!is_number(&digits));
        }

        #[test]
        fn the_scanner_finds_every_spelling(body in bodies(), before in "[^0-9a-fA-F-]{0,9}", after in "[^0-9a-fA-F-]{0,9}") {
            let number = AadhaarNumber::from_body(&body).unwrap();
            let d = number.expose();
            for sep in ["", " ", "-"] {
                let text = format!("{before}{}{sep}{}{sep}{}{after}", &d[..4], &d[4..8], &d[8..]);
                prop_assert!(AadhaarNumber::found_in(&text));
            }
        }

        #[test]
        fn a_virtual_id_is_found_in_every_spelling(body in "[2-9][0-9]{14}", before in "[^0-9a-fA-F-]{0,9}") {
            let digits: Vec<u8> = body.bytes().map(|d| d - b'0').collect();
            let d = format!("{body}{}", INVERSE[fold(digits.into_iter(), 1)]);
            for sep in ["", " ", "-"] {
                let text = format!("{before}{}{sep}{}{sep}{}{sep}{}", &d[..4], &d[4..8], &d[8..12], &d[12..]);
                prop_assert!(AadhaarNumber::virtual_id_found_in(&text));
                let longer = text.clone() + "7";
                prop_assert!(!AadhaarNumber::virtual_id_found_in(&longer));
            }
        }

        #[test]
        fn the_scanner_passes_over_other_identifiers(body in bodies(), more in "[0-9a-f]{1,4}", head in "[0-9]{2}") {
            let number = AadhaarNumber::from_body(&body).unwrap();
            let d = number.expose();
            let (a, b, c) = (&d[..4], &d[4..8], &d[8..]);
            for text in [format!("{d}{more}"), format!("{more}{d}"), format!("{head}-{a}-{b}-{c}"),
                format!("019c0a5e-{a}-{b}-{c}-0123456789ab"), format!("019c0a5e-0a1b-7c2d-8e3f-{d}")] {
                prop_assert!(!AadhaarNumber::found_in(&text), "{}", text);
            }
        }

        #[test]
        fn nothing_makes_the_scanner_fail(text: String) {
            let _ = AadhaarNumber::found_in(&text);
        }
    }

    #[test]
    fn known_numbers() {
        // Verhoeff's own example: 236 wants the check digit 3.
        assert_eq!(INVERSE[fold([2, 3, 6].into_iter(), 1)], 3);
        // A number that UIDAI publishes for testing.
        assert!(AadhaarNumber::parse("999941057058").is_ok());
        for bad in [
            "",
            "099941057058",
            "199941057058",
            "9999 4105 7058",
            "99994105705",
            "9999410570588",
            "९९९९४१०५७०५८",
        ] {
            assert!(AadhaarNumber::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_prints_masked() {
        let number = AadhaarNumber::parse("999941057058").unwrap();
        assert_eq!(format!("{number} {number:?}"), "XXXX-XXXX-7058 XXXX-XXXX-7058");
    }
}
