//! As whom does a study know a person? Under a name that is made with a key of the study's own.

use ring::hmac;
use sammati_kernel::{AccountId, Key};

/// How many letters a pseudonym has: 130 bits.
pub const LETTERS: usize = 26;

/// RFC 4648.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `base32(HMAC-SHA256(key, account))[..26]`: the same at all nodes of a study. Without its key nobody can tell what it is in
/// another study, nor whose it is.
pub fn of(key: &Key, account: AccountId) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.bytes());
    let mut text = base32(hmac::sign(&key, account.as_bytes()).as_ref());
    text.truncate(LETTERS);
    text
}

/// Whether a text could be one.
pub fn is_one(text: &str) -> bool {
    text.len() == LETTERS && text.bytes().all(|b| ALPHABET.contains(&b))
}

/// Which key it is, without telling anything of it.
pub fn key_id(key: &Key) -> String {
    let mut text = base32(&key.mac("pseudonym key id", &[]));
    text.truncate(LETTERS);
    text
}

/// RFC 4648 without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

fn letter(bits: u32) -> char {
    char::from(ALPHABET[usize::try_from(bits & 31).unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use sammati_kernel::{Micros, Slot};

    use super::*;

    #[test]
    fn base32_is_that_of_rfc_4648() {
        let pairs = [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ];
        for (plain, text) in pairs {
            assert_eq!(base32(plain.as_bytes()), text);
        }
    }

    #[test]
    fn it_is_one_per_person_and_study() {
        let person = |n| AccountId::new(Micros(1), Slot::new(7), [n; 8]);
        let (one, two) = (Key::from_bytes([1; 32]), Key::from_bytes([2; 32]));
        let asha = of(&one, person(1));
        assert_eq!((asha.len(), asha.clone()), (LETTERS, of(&one, person(1))));
        assert_ne!(asha, of(&one, person(2)));
        assert_ne!(asha, of(&two, person(1)));
        // As anybody else computes it.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        let whole = base32(hmac::sign(&key, person(1).as_bytes()).as_ref());
        assert_eq!(asha, whole[..26]);
        assert_ne!(key_id(&one), key_id(&two));
    }
}
