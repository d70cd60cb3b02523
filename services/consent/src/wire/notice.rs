//! Notices on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{HiType, Micros, PurposeCode, Reason, Refusal, Violations};
use sammati_server::event::timestamp;

use crate::notice::publish::Content;
use crate::notice::{is_language, is_name};
use crate::request::ask::Faults;
use crate::rows::{NoticeRow, etag};

/// The longest parts of a text, in characters: title, body, what it makes possible, a link.
const LONGEST: (usize, usize, usize, usize) = (255, 8000, 1000, 512);

/// What a version shall say, with everything that is wrong in one answer.
///
/// # Errors
/// FIELD_INVALID; NOTICE_INCOMPLETE if something is missing and nothing else is wrong.
pub fn parse(message: &api::CreateNoticeRequest) -> Result<Content, Refusal> {
    let (mut v, mut faults) = (Violations::new(), Faults::default());
    if !message.name.is_empty() && !is_name(&message.name) {
        v.add("name", "must be notices/{id}, or empty for a new notice");
    }
    let purposes = each_once(&mut v, "purposes", &message.purposes, |n| {
        PurposeCode::ALL.into_iter().find(|purpose| purpose.number() == n)
    });
    let items = each_once(&mut v, "items", &message.items, |n| {
        HiType::ALL.iter().copied().find(|item| item.number() == n)
    });
    let lacks = [
        ("purposes", message.purposes.is_empty(), "at least one purpose"),
        (
            "items",
            message.items.is_empty(),
            "the data, item by item: at least one kind of record",
        ),
        (
            "texts",
            !message.texts.iter().any(|text| text.language == "en"),
            "a text in en at least",
        ),
    ];
    for (field, _, why) in lacks.into_iter().filter(|(_, lacks, _)| *lacks) {
        faults.add(Reason::NoticeIncomplete, field, why);
    }
    let languages: BTreeSet<_> = message.texts.iter().map(|text| &text.language).collect();
    if languages.len() != message.texts.len() {
        v.add("texts", "each language once");
    }
    // More than there are languages is said once.
    for (n, text) in message.texts.iter().enumerate().take(64) {
        check_text(&mut v, &mut faults, n, text);
    }
    faults.merge(Reason::FieldInvalid, v);
    faults.check()?;
    Ok(Content {
        purposes,
        items,
        texts: message.texts.clone(),
    })
}

fn each_once<T: Ord + Copy>(
    v: &mut Violations,
    field: &'static str,
    numbers: &[i32],
    read: impl Fn(i32) -> Option<T>,
) -> Vec<T> {
    let known: BTreeSet<T> = numbers.iter().filter_map(|n| read(*n)).collect();
    if known.len() != numbers.len() {
        v.add(field, "known values, each once");
    }
    known.into_iter().collect()
}

/// All that the law asks stands in each language: what, why, which services, and the three links (Rule 3).
fn check_text(v: &mut Violations, faults: &mut Faults, n: usize, text: &api::NoticeText) {
    if !is_language(&text.language) {
        v.add(
            format!("texts[{n}].language"),
            "BCP 47: en or a language of the Eighth Schedule, as hi",
        );
    }
    let plain = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
    let (title, body, enables, link) = LONGEST;
    for (field, words, most) in [
        ("title", &text.title, title),
        ("body", &text.body, body),
        ("goods_or_services", &text.goods_or_services, enables),
        ("withdraw_uri", &text.withdraw_uri, link),
        ("rights_uri", &text.rights_uri, link),
        ("board_uri", &text.board_uri, link),
    ] {
        let path = format!("texts[{n}].{field}");
        if words.trim().is_empty() {
            faults.add(Reason::NoticeIncomplete, path, "required in each language");
        } else if words.len() > most * 4 || words.chars().count() > most || !plain(words) {
            v.add(path, format!("1 to {most} characters, without control characters"));
        } else if field.ends_with("_uri") && !is_link(words) {
            v.add(path, "a link that begins with https://");
        }
    }
}

fn is_link(text: &str) -> bool {
    let rest = text.strip_prefix("https://").unwrap_or_default();
    !rest.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whom a request may show it to: the notice for it, or why there is none.
///
/// # Errors
/// Why not, as a sentence.
pub fn bind(
    row: Option<&NoticeRow>,
    asker: &str,
    version: i32,
    language: &str,
    (purpose, hi_types): (PurposeCode, &BTreeSet<HiType>),
) -> Result<types::NoticeRef, &'static str> {
    let absent = "there is no notice of this name and version that you may use; leave it empty for the built-in one";
    let row = row
        .filter(|row| row.owner.is_empty() || row.owner == asker)
        .ok_or(absent)?;
    let (number, said) = row.numbered(version).ok_or(absent)?;
    if !said.purposes.contains(&purpose.number()) {
        return Err("the notice does not cover the purpose; name one that does, or none for the built-in one");
    }
    if !hi_types.iter().all(|kind| said.items.contains(&kind.number())) {
        return Err("the notice does not name all kinds of record that are asked for; name one that does, or none");
    }
    let written = said.languages.iter().any(|written| written == language);
    Ok(types::NoticeRef {
        notice: row.id().map(|id| id.name()).unwrap_or_default(),
        version: number,
        language: if written { language } else { "en" }.to_owned(),
        sha256: said.sha256.clone(),
    })
}

/// A version as the contract has it. Without words where they were not read.
pub fn render(row: &NoticeRow, version: i32, texts: Vec<api::NoticeText>, wanted: &str) -> Option<api::Notice> {
    let (number, said) = row.numbered(version)?;
    let language = said.languages.iter().find(|written| *written == wanted);
    let language = language.map_or("en", String::as_str);
    let state = if row.retired == 0 {
        api::notice::State::Published
    } else {
        api::notice::State::Retired
    };
    Some(api::Notice {
        name: row.id().ok()?.name(),
        version: number,
        owner: row.owner.clone(),
        purposes: said.purposes.clone(),
        items: said.items.clone(),
        texts,
        language: language.to_owned(),
        fell_back: !wanted.is_empty() && language != wanted,
        sha256: said.sha256.clone(),
        state: state.into(),
        create_time: Some(timestamp(Micros(said.created))),
        update_time: Some(timestamp(Micros(row.updated))),
        etag: etag(row.version),
    })
}
