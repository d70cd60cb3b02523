//! What is a person told before she consents? The built-in notices, one for each purpose, in English and Hindi, and those
//! that somebody publishes.

pub mod publish;
mod text;

use ring::digest::{SHA256, digest};
use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{HiType, PurposeCode, Reason, Refusal, hex};
use serde_json::{Value, json};

use crate::artefact::canonical;
use crate::rows::etag;

/// English, and the languages of the Eighth Schedule to the Constitution.
const LANGUAGES: [&str; 23] = [
    "en", "as", "bn", "brx", "doi", "gu", "hi", "kn", "ks", "kok", "mai", "ml", "mni", "mr", "ne", "or", "pa", "sa",
    "sat", "sd", "ta", "te", "ur",
];

/// The version of all built-in notices.
const VERSION: i32 = 1;

/// When they were published; they have not changed since.
const PUBLISHED: prost_types::Timestamp = prost_types::Timestamp {
    seconds: text::PUBLISHED,
    nanos: 0,
};

/// Whether it is a language that notices are written in.
pub fn is_language(code: &str) -> bool {
    LANGUAGES.contains(&code)
}

/// Whether `name` is a notice's, `notices/{id}`, known or not.
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.strip_prefix("notices/")
        .is_some_and(|id| (1..=64).contains(&id.len()) && id.bytes().all(plain))
}

/// All notices.
#[derive(Debug)]
pub struct Notices(Vec<Notice>);

#[derive(Debug)]
struct Notice {
    name: String,
    purpose: PurposeCode,
    texts: Vec<api::NoticeText>,
    sha256: String,
}

impl Notices {
    /// The built-in notices. `portal` is where a person withdraws, uses her rights and finds the Board: its pages
    /// `/consents`, `/rights` and `/board`. It stands in the words, so it must stay what it is for ever.
    pub fn built_in(portal: &str) -> Self {
        Self(
            PurposeCode::ALL
                .into_iter()
                .map(|purpose| Notice::built_in(purpose, portal))
                .collect(),
        )
    }

    /// A notice with the language that fits. Notices are public, so an unknown one is NOT_FOUND for everybody.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn get(&self, name: &str, version: i32, language: &str) -> Result<api::Notice, Refusal> {
        let found = self.find(name, version).ok_or_else(|| unknown(name))?;
        Ok(found.render(language))
    }

    /// All of them, or those of one purpose, without their words.
    pub fn all(&self, purpose: Option<PurposeCode>) -> Vec<api::Notice> {
        let covers = |notice: &&Notice| purpose.is_none_or(|purpose| notice.purpose == purpose);
        let bare = |notice: &Notice| api::Notice {
            texts: Vec::new(),
            ..notice.render("")
        };
        self.0.iter().filter(covers).map(bare).collect()
    }

    /// The notice for a request: the one that is named, or the built-in one of the purpose, in the language wanted or
    /// in English. `None` when there is none of that name and version that covers the purpose.
    pub fn bind(&self, name: &str, version: i32, language: &str, purpose: PurposeCode) -> Option<types::NoticeRef> {
        let builtin = name_of(purpose);
        let name = if name.is_empty() { builtin.as_str() } else { name };
        let notice = self.find(name, version).filter(|notice| notice.purpose == purpose)?;
        Some(types::NoticeRef {
            notice: notice.name.clone(),
            version: VERSION,
            language: notice.language(language).to_owned(),
            sha256: notice.sha256.clone(),
        })
    }

    /// Whether there are these words in this language to show.
    pub fn is_written(&self, shown: &types::NoticeRef) -> bool {
        let written = |notice: &Notice| notice.texts.iter().any(|text| text.language == shown.language);
        self.find(&shown.notice, shown.version).is_some_and(written)
    }

    fn find(&self, name: &str, version: i32) -> Option<&Notice> {
        let of_version = version == 0 || version == VERSION;
        self.0.iter().find(|notice| of_version && notice.name == name)
    }
}

fn name_of(purpose: PurposeCode) -> String {
    format!("notices/builtin-{}", purpose.code().to_lowercase())
}

impl Notice {
    fn built_in(purpose: PurposeCode, portal: &str) -> Self {
        let name = name_of(purpose);
        let texts = text::of(purpose).map(|words| api::NoticeText {
            language: words.language.to_owned(),
            title: words.title.to_owned(),
            body: words.body(),
            goods_or_services: words.enables.to_owned(),
            withdraw_uri: format!("{portal}/consents"),
            rights_uri: format!("{portal}/rights"),
            board_uri: format!("{portal}/board"),
        });
        let sha256 = sha256(&name, VERSION, "", (&[purpose], HiType::ALL), &texts);
        Self {
            name,
            purpose,
            texts: texts.into(),
            sha256,
        }
    }

    fn language<'a>(&self, wanted: &'a str) -> &'a str {
        if self.texts.iter().any(|text| text.language == wanted) {
            wanted
        } else {
            "en"
        }
    }

    fn render(&self, wanted: &str) -> api::Notice {
        let language = self.language(wanted);
        api::Notice {
            name: self.name.clone(),
            version: VERSION,
            owner: String::new(),
            purposes: vec![self.purpose.number()],
            items: HiType::ALL.iter().map(|t| t.number()).collect(),
            texts: self.texts.clone(),
            language: language.to_owned(),
            fell_back: !wanted.is_empty() && language != wanted,
            sha256: self.sha256.clone(),
            state: api::notice::State::Published.into(),
            create_time: Some(PUBLISHED),
            update_time: Some(PUBLISHED),
            etag: etag(1),
        }
    }
}

/// Nothing has this name. Notices are public, so everybody may know.
pub fn unknown(name: &str) -> Refusal {
    Refusal::new(Reason::NotFound)
        .about("sammati.consent.v1.Notice", name)
        .saying("there is no such notice; the built-in ones are notices/builtin-{purpose}")
}

/// SHA-256 of a version as RFC 8785 JSON: the same in every language.
fn sha256(
    name: &str,
    version: i32,
    owner: &str,
    (purposes, items): (&[PurposeCode], &[HiType]),
    texts: &[api::NoticeText],
) -> String {
    let text = |text: &api::NoticeText| {
        json!({
            "language": text.language,
            "title": text.title,
            "body": text.body,
            "goods_or_services": text.goods_or_services,
            "withdraw_uri": text.withdraw_uri,
            "rights_uri": text.rights_uri,
            "board_uri": text.board_uri,
        })
    };
    let value: Value = json!({
        "name": name,
        "version": version,
        "owner": owner,
        "purposes": purposes.iter().map(|purpose| purpose.code()).collect::<Vec<_>>(),
        "items": items.iter().map(|item| item.as_str()).collect::<Vec<_>>(),
        "texts": texts.iter().map(text).collect::<Vec<_>>(),
    });
    hex(digest(&SHA256, canonical(&value).as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_a_notice_in_english_and_hindi_with_all_that_the_law_asks() {
        let notices = Notices::built_in("https://portal.example");
        for purpose in PurposeCode::ALL {
            let notice = notices.get(&name_of(purpose), 0, "hi").unwrap();
            assert_eq!((notice.language.as_str(), notice.fell_back), ("hi", false));
            for text in &notice.texts {
                assert!(is_language(&text.language));
                for part in [
                    &text.title,
                    &text.body,
                    &text.goods_or_services,
                    &text.withdraw_uri,
                    &text.rights_uri,
                    &text.board_uri,
                ] {
                    assert!(!part.trim().is_empty(), "{purpose:?} {}", text.language);
                }
            }
            let devanagari = |c: char| ('\u{900}'..='\u{97f}').contains(&c);
            assert!(notice.texts[1].body.chars().any(devanagari) && !notice.texts[0].body.chars().any(devanagari));
        }
    }

    #[test]
    fn a_language_that_is_missing_falls_back_and_says_so() {
        let notice = Notices::built_in("https://p")
            .get("notices/builtin-caremgt", 1, "ta")
            .unwrap();
        assert_eq!((notice.language.as_str(), notice.fell_back), ("en", true));
        assert!(
            !Notices::built_in("https://p")
                .get("notices/builtin-caremgt", 1, "")
                .unwrap()
                .fell_back
        );
    }

    #[test]
    fn a_notice_binds_to_its_purpose_only_and_its_hash_tells_its_words() {
        let notices = Notices::built_in("https://p");
        let caremgt = PurposeCode::Caremgt;
        let bound = notices.bind("", 0, "hi", caremgt).unwrap();
        assert_eq!(
            bound.sha256,
            notices.get(&bound.notice, bound.version, "en").unwrap().sha256
        );
        assert!(notices.bind("notices/builtin-hpaymt", 0, "", caremgt).is_none());
        assert!(notices.bind("", 2, "", caremgt).is_none());
        let elsewhere = Notices::built_in("https://q").bind("", 0, "hi", caremgt).unwrap();
        assert_ne!(bound.sha256, elsewhere.sha256);
        let tamil = types::NoticeRef {
            language: "ta".into(),
            ..bound.clone()
        };
        assert!(notices.is_written(&bound) && !notices.is_written(&tamil));
        assert_eq!(
            notices.get("notices/other", 0, "").unwrap_err().reason,
            Reason::NotFound
        );
    }
}
