//! What a password must be, and a PIN.

/// The rows of a keyboard, each key once plain and once with shift.
const KEYBOARD: [(&str, &str); 4] = [
    ("`1234567890-=", "~!@#$%^&*()_+"),
    ("qwertyuiop[]\\", "QWERTYUIOP{}|"),
    ("asdfghjkl;'", "ASDFGHJKL:\""),
    ("zxcvbnm,./", "ZXCVBNM<>?"),
];

/// What is wrong with a password, as a sentence for the person who chose it; `None` if it is good: at least 8
/// characters with a capital, a small letter, a digit and a symbol, no blank, and never three in a row that repeat,
/// that follow one another (`abc`, `321`) or that lie side by side on a keyboard (`qwe`, `!@#`).
pub fn weakness_of_password(password: &str) -> Option<&'static str> {
    let chars: Vec<char> = password.chars().collect();
    let has = |is: fn(&char) -> bool| chars.iter().any(is);
    if chars.len() < 8 {
        Some("a password has at least 8 characters")
    } else if has(|c| c.is_whitespace()) {
        Some("a password has no blank")
    } else if !has(|c| c.is_uppercase()) {
        Some("a password has at least one capital letter")
    } else if !has(|c| c.is_lowercase()) {
        Some("a password has at least one small letter")
    } else if !has(|c| c.is_numeric()) {
        Some("a password has at least one digit")
    } else if !has(|c| !c.is_alphanumeric()) {
        Some("a password has at least one symbol")
    } else if chars.windows(3).any(|three| is_run(three, code_of)) {
        Some("a password has no three characters in a row that repeat or follow one another, as aaa, abc or 321")
    } else if chars.windows(3).any(|three| is_run(three, key_of)) {
        Some("a password has no three keys in a row that repeat or are neighbours on a keyboard, as qwe")
    } else {
        None
    }
}

/// What is wrong with a PIN, as a sentence for the person who chose it; `None` if it is good: 4 digits, neither a run
/// (`1234`, `4321`) nor a repeat (`1111`, `1212`).
pub fn weakness_of_pin(pin: &str) -> Option<&'static str> {
    let chars: Vec<char> = pin.chars().collect();
    if chars.len() != 4 || !chars.iter().all(char::is_ascii_digit) {
        Some("a PIN has 4 digits")
    } else if is_run(&chars, code_of) {
        Some("a PIN is no run of digits and no digit four times, as 1234, 4321 or 1111")
    } else if chars[..2] == chars[2..] {
        Some("a PIN is not two digits twice, as 1212")
    } else {
        None
    }
}

/// Whether `places` puts the characters at equal steps of 0, 1 or -1.
fn is_run(chars: &[char], places: fn(char) -> Option<i64>) -> bool {
    let at: Option<Vec<i64>> = chars.iter().map(|c| places(*c)).collect();
    at.is_some_and(|at| {
        let step = at[1] - at[0];
        step.abs() <= 1 && at.windows(2).all(|two| two[1] - two[0] == step)
    })
}

/// Where a character stands among all, capitals with their small letters.
fn code_of(c: char) -> Option<i64> {
    c.to_lowercase().next().map(|c| i64::from(u32::from(c)))
}

/// Where its key lies: rows are far apart, neighbours in a row one apart.
fn key_of(c: char) -> Option<i64> {
    KEYBOARD
        .iter()
        .zip((0..).step_by(100))
        .find_map(|((plain, shifted), row)| {
            let column = plain
                .chars()
                .position(|k| k == c)
                .or_else(|| shifted.chars().position(|k| k == c))?;
            i64::try_from(column).ok().map(|column| row + column)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pin_is_four_digits_and_neither_a_run_nor_a_repeat() {
        for bad in [
            "",
            "123",
            "12345",
            "12a4",
            "१२३५",
            "1234",
            "0123",
            "6789",
            "4321",
            "3210",
            "0000",
            "9999",
            "1212",
            "7070",
        ] {
            assert!(weakness_of_pin(bad).is_some(), "{bad}");
        }
        for good in ["2580", "1243", "1123", "1221", "9012", "0987"] {
            assert_eq!(weakness_of_pin(good), None, "{good}");
        }
    }

    #[test]
    fn each_rule_has_its_sentence() {
        for (password, word) in [
            ("Ab1!xY2", "8 characters"),
            ("Ab1!xY2 z", "blank"),
            ("ab1!xy2?", "capital"),
            ("AB1!XY2?", "small"),
            ("Abz!xYo?", "digit"),
            ("Abz1xYo2", "symbol"),
            ("Kaaa1!xZ", "follow"),
            ("Kabc1!xZ", "follow"),
            ("KaBc1!xZ", "follow"),
            ("Kp321!xZ", "follow"),
            ("Kqwe1!xZ", "keyboard"),
            ("Krew1!xZ", "keyboard"),
            ("Kp1x!@#Z", "keyboard"),
            ("Kp81!1xZ", "keyboard"),
            ("Kp890!xZ", "keyboard"),
        ] {
            let weakness = weakness_of_password(password);
            assert!(weakness.is_some_and(|w| w.contains(word)), "{password}: {weakness:?}");
        }
    }

    #[test]
    fn good_ones_pass() {
        for password in ["Ab1!xY2?", "Nadi#Tara42", "qw9!Rt5$Yu", "सूर्यAb1!xY", "aabb1?1?ZZ"] {
            assert_eq!(weakness_of_password(password), None, "{password}");
        }
    }

    proptest! {
        #[test]
        fn three_in_a_row_spoil_any_password(first in "[a-x]", up: bool) {
            let first = first.as_bytes()[0];
            let [a, b, c] = [first, first + 1, first + 2].map(char::from);
            let run: String = if up { [a, b, c] } else { [c, b, a] }.iter().collect();
            let password = format!("K7!{run}?Q5");
            prop_assert!(weakness_of_password(&password).is_some());
        }

        #[test]
        fn no_text_makes_it_fail(text: String) {
            let _ = weakness_of_password(&text);
        }
    }
}
