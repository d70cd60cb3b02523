//! How much a value may be, read from the comment of its field: "1 to 255 characters", "at most 20".

use prost_reflect::{FieldDescriptor, Kind};

use crate::contract::about;

/// The most that a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// So many characters; of a repeated field each element.
    Characters(usize),
    /// So many bytes.
    Bytes(usize),
    /// This number.
    Number(i64),
    /// So many seconds.
    Seconds(i64),
}

fn words(field: &FieldDescriptor) -> Vec<String> {
    let text = about(field);
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// The numbers after "at most" and "n to", each with the word that follows it.
fn mosts(field: &FieldDescriptor) -> Vec<(i64, String)> {
    let mut words = words(field);
    words.push(String::new());
    let most = |w: &[String]| match (w[0].as_str(), w[1].as_str()) {
        ("at", "most") => Some((w[2].parse().ok()?, w[3].clone())),
        (from, "to") => from.parse::<i64>().ok().and(Some((w[2].parse().ok()?, w[3].clone()))),
        _ => None,
    };
    words.windows(4).filter_map(most).collect()
}

/// The limit of the field's value, if its comment states one.
pub(crate) fn limit(field: &FieldDescriptor) -> Option<Limit> {
    // More than the most counts as the most.
    if field.name() == "page_size" {
        return None;
    }
    let count = |n: i64| usize::try_from(n).ok();
    mosts(field)
        .into_iter()
        .find_map(|(n, unit)| match (field.kind(), unit.as_str()) {
            (Kind::String, "characters") => Some(Limit::Characters(count(n)?)),
            (Kind::Bytes, "KiB") => Some(Limit::Bytes(count(n)? << 10)),
            (Kind::Int32 | Kind::Int64, _) => Some(Limit::Number(n)),
            (Kind::Message(message), "s") if message.full_name() == "google.protobuf.Duration" => {
                Some(Limit::Seconds(n))
            }
            _ => None,
        })
}

/// The most elements that a repeated field may have.
pub(crate) fn most_elements(field: &FieldDescriptor) -> Option<usize> {
    let mut mosts = mosts(field).into_iter();
    // "0 to 255 characters" is about each element.
    let of_list = mosts.find(|(_, unit)| unit != "characters");
    of_list.and_then(|(n, _)| usize::try_from(n).ok())
}

/// Whether a number that is not set is none: "1 and up", "1900 to this year".
pub(crate) fn starts_above_zero(field: &FieldDescriptor) -> bool {
    words(field).windows(2).any(|w| {
        let from = w[0].parse::<i64>().is_ok_and(|n| n > 0);
        from && ["and", "to"].contains(&w[1].as_str())
    })
}
