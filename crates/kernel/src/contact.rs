//! Where a person is reached: an Indian mobile number.

use std::fmt;

use zeroize::Zeroizing;

/// 10 digits, the first 6 to 9, without country code. Wiped when dropped, prints masked.
#[derive(Clone, PartialEq, Eq)]
pub struct MobileNumber(Zeroizing<String>);

impl MobileNumber {
    /// Reads 10 bare digits.
    ///
    /// # Errors
    /// What is allowed; never the digits.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if is_mobile(text) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err("a mobile number is 10 digits, the first 6 to 9, without country code")
        }
    }

    /// The 10 digits. Name the place that needs them; never log them.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MobileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked_mobile(self))
    }
}

/// Whether `text` could be a mobile number.
pub(crate) fn is_mobile(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10 && bytes.iter().all(u8::is_ascii_digit) && bytes[0] >= b'6'
}

/// All but the last four digits hidden, as ABDM shows a mobile: `******5852`.
pub fn masked_mobile(mobile: &MobileNumber) -> String {
    format!("******{}", mobile.0.get(6..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mobile_is_read_back_and_prints_masked(text in "[6-9][0-9]{9}") {
            let mobile = MobileNumber::parse(&text).unwrap();
            prop_assert_eq!(mobile.expose(), &text);
            prop_assert_eq!(masked_mobile(&mobile), format!("******{}", &text[6..]));
            prop_assert_eq!(format!("{mobile:?}"), masked_mobile(&mobile));
        }
    }

    #[test]
    fn other_forms_are_not_read() {
        for bad in [
            "",
            "5123456789",
            "987654321",
            "98765432100",
            "+919876543210",
            "98765 43210",
            "९८७६५४३२१०",
        ] {
            assert!(MobileNumber::parse(bad).is_err(), "{bad}");
        }
    }
}
