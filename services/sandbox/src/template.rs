//! What does the recipient read? The texts of the message templates. A gateway in production has them registered.

use std::collections::HashMap;

/// The template of the synthetic UIDAI's OTP.
pub(crate) const UIDAI_OTP: &str = "uidai-otp";

/// The languages that the known templates are written in; any other is sent in the first.
const LANGUAGES: [&str; 2] = ["en", "hi"];

/// Texts by template, one for each of [`LANGUAGES`]. `{name}` is filled with the parameter of that name.
const TEXTS: [(&str, [&str; 2]); 5] = [
    (
        UIDAI_OTP,
        [
            "OTP for your Aadhaar ending {last4} is {otp}, good for 10 minutes. Share it with nobody. (simulated UIDAI)",
            "{last4} पर समाप्त होने वाले आपके आधार का ओटीपी {otp} है, 10 मिनट तक मान्य। इसे किसी को न बताएँ। (नकली UIDAI)",
        ],
    ),
    (
        "otp-login",
        [
            "{otp} is your OTP to log in to your ABHA account. Share it with nobody.",
            "आपके आभा खाते में लॉगिन का ओटीपी {otp} है। इसे किसी को न बताएँ।",
        ],
    ),
    (
        "representation-activated",
        [
            "Your nominee will act for you from three days on. If that is wrong, end it in your app now, or call us.",
            "तीन दिन बाद आपका नामिती आपकी ओर से कार्य करेगा। यदि यह गलत है, तो अभी अपने ऐप में इसे समाप्त करें या हमें फ़ोन करें।",
        ],
    ),
    (
        "deep-link",
        [
            "{hip} keeps health records of yours. Open {link} in your health records app to link them with your ABHA.",
            "{hip} के पास आपके स्वास्थ्य रिकॉर्ड हैं। उन्हें अपने आभा से जोड़ने के लिए अपने स्वास्थ्य ऐप में {link} खोलें।",
        ],
    ),
    (
        "otp-set-credential",
        [
            "{otp} is your OTP to set the password of your ABHA account. Share it with nobody.",
            "आपके आभा खाते का पासवर्ड बदलने का ओटीपी {otp} है। इसे किसी को न बताएँ।",
        ],
    ),
];

/// The language that a message asked for in `language` goes out in.
pub(crate) fn language(language: &str) -> &'static str {
    let primary = language.split('-').next().unwrap_or_default();
    LANGUAGES
        .into_iter()
        .find(|known| *known == primary)
        .unwrap_or(LANGUAGES[0])
}

/// The text of `template` in `language`, which [`language`] gave. A template that is not known here is shown by its name
/// and what it would have been filled with: in a simulation that helps more than a refusal.
pub(crate) fn text(template: &str, language: &str, parameters: &HashMap<String, String>) -> String {
    let column = LANGUAGES.iter().position(|known| *known == language).unwrap_or(0);
    match TEXTS.iter().find(|(name, _)| *name == template) {
        Some((_, texts)) => parameters.iter().fold(texts[column].to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        }),
        None => listed(template, parameters),
    }
}

fn listed(template: &str, parameters: &HashMap<String, String>) -> String {
    let mut filled: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    filled.sort();
    format!("[{template}] {}", filled.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_filled_in_every_language() {
        let parameters = HashMap::from([
            ("otp".to_owned(), "123456".to_owned()),
            ("last4".to_owned(), "7890".to_owned()),
            ("hip".to_owned(), "City Hospital".to_owned()),
            ("link".to_owned(), "https://portal.example/link?hip=city".to_owned()),
        ]);
        for (template, _) in TEXTS {
            for language in LANGUAGES {
                let text = text(template, language, &parameters);
                assert_eq!(text.contains("123456"), template.contains("otp"), "{text}");
                assert!(!text.is_empty() && !text.contains('{'), "{text}");
            }
        }
        assert_eq!(
            text("new", "en", &parameters),
            "[new] hip=City Hospital, last4=7890, link=https://portal.example/link?hip=city, otp=123456"
        );
    }

    #[test]
    fn other_languages_are_sent_in_english() {
        assert_eq!(
            ["hi", "hi-IN", "ta", "en", ""].map(language),
            ["hi", "hi", "en", "en", "en"]
        );
    }
}
