//! Telling subscribers that there is something new.

use std::collections::BTreeSet;

use sammati_api::consent::v1::SubscriptionCategory;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{AccountId, Micros, ParticipantId, Refusal};
use sammati_server::event::Emitted;
use sammati_store::{Keys, View};

use super::State;
use crate::notification::{About, Recipients, notify_about};
use crate::rows::{SourcesRow, SubscriptionRow};

/// What is new of somebody.
#[derive(Debug, Clone, Copy)]
pub struct News<'a> {
    /// Of whom.
    pub account: AccountId,
    /// Whether a care context, or data in one.
    pub category: SubscriptionCategory,
    /// Where.
    pub hip: &'a ParticipantId,
    /// Of which kinds of record.
    pub hi_types: &'a BTreeSet<i32>,
}

/// What [`tell`] reads.
pub fn reads(keys: &mut Keys, account: AccountId) {
    keys.group::<SubscriptionRow>("live", account.to_vec());
}

/// Tells everybody who subscribed to it, each holder once, of no more than it subscribed to; tells how many.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub fn tell(view: &mut View<'_>, told: Emitted, news: News<'_>) -> Result<i32, Refusal> {
    let now = view.now();
    let mut holders = BTreeSet::new();
    for row in view.group::<SubscriptionRow>("live", news.account.as_bytes()) {
        let Some(kinds) = covered(&row, news, now) else {
            continue;
        };
        if !holders.insert(row.holder.clone()) {
            continue;
        }
        let kind = match news.category {
            SubscriptionCategory::Link => Kind::SubscriptionLink,
            _ => Kind::SubscriptionData,
        };
        let about = About {
            hip: news.hip.as_str().to_owned(),
            hi_types: kinds,
        };
        let holder = Recipients::new().participant(&row.holder);
        let name = row.id()?.name();
        notify_about(view, told, kind, &name, &holder, Some(news.account), &about);
    }
    Ok(i32::try_from(holders.len()).unwrap_or(i32::MAX))
}

/// The kinds of record of the news that a subscription covers; `None`: it is not told.
fn covered(row: &SubscriptionRow, news: News<'_>, now: Micros) -> Option<Vec<i32>> {
    let given = row.given.as_ref().filter(|_| row.state_at(now) == State::Granted)?;
    let hip = given.hips.is_empty() || given.hips.iter().any(|id| id == news.hip.as_str());
    let fits = given.categories.contains(&news.category.into()) && given.from <= now.0 && hip;
    let kinds = news.hi_types.iter().filter(|kind| is_covered(given, news.hip, **kind));
    let kinds: Vec<_> = kinds.copied().collect();
    (fits && !kinds.is_empty()).then_some(kinds)
}

fn is_covered(given: &SourcesRow, hip: &ParticipantId, kind: i32) -> bool {
    let mut excluded = given.excluded.iter();
    let out = excluded.any(|source| {
        (source.hip.is_empty() || source.hip == hip.as_str())
            && (source.hi_types.is_empty() || source.hi_types.contains(&kind))
    });
    given.hi_types.contains(&kind) && !out
}
