//! Telling subscribers that there is something new.

use std::collections::{BTreeMap, BTreeSet};

use sammati_api::consent::v1::SubscriptionCategory;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{AccountId, Micros, ParticipantId, PurposeCode, Refusal};
use sammati_server::event::Emitted;
use sammati_store::{Keys, View};

use super::State;
use crate::lookup::ContextKey;
use crate::notification::{About, Recipients, notify_about};
use crate::rows::{self, PolicyRow, SourcesRow, SubscriptionRow, broken};
use crate::standing::Block;

/// What is new of somebody.
#[derive(Debug, Clone, Copy)]
pub struct News<'a> {
    /// Of whom.
    pub account: AccountId,
    /// Whether a care context, or data in one.
    pub category: SubscriptionCategory,
    /// Where.
    pub hip: &'a ParticipantId,
    /// In which care contexts, and of which kinds of record in each.
    pub contexts: &'a [(ContextKey, BTreeSet<i32>)],
}

/// What [`tell`] reads.
pub fn reads(keys: &mut Keys, account: AccountId) {
    keys.group::<SubscriptionRow>("live", account.to_vec());
    keys.group::<PolicyRow>("enabled", account.to_vec());
}

/// Tells everybody who subscribed to it, each holder once, of all that it subscribed to and she does not deny it; tells
/// how many.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub fn tell(view: &mut View<'_>, told: Emitted, news: News<'_>) -> Result<i32, Refusal> {
    let now = view.now();
    let blocks = Block::all(&view.group::<PolicyRow>("enabled", news.account.as_bytes()))?;
    let mut holders = BTreeMap::<String, (String, BTreeSet<i32>)>::new();
    for row in view.group::<SubscriptionRow>("live", news.account.as_bytes()) {
        let kinds = covered(&row, news, &blocks, now)?;
        if !kinds.is_empty() {
            let name = row.id()?.name();
            let heard = holders.entry(row.holder).or_insert_with(|| (name, BTreeSet::new()));
            heard.1.extend(kinds);
        }
    }
    let kind = match news.category {
        SubscriptionCategory::Link => Kind::SubscriptionLink,
        _ => Kind::SubscriptionData,
    };
    for (holder, (name, kinds)) in &holders {
        let about = About {
            hip: news.hip.as_str().to_owned(),
            hi_types: kinds.iter().copied().collect(),
        };
        let holder = Recipients::new().participant(holder);
        notify_about(view, told, kind, name, &holder, Some(news.account), &about);
    }
    Ok(i32::try_from(holders.len()).unwrap_or(i32::MAX))
}

/// The kinds of record of the news that a subscription covers, but for what she denies its holder.
fn covered(row: &SubscriptionRow, news: News<'_>, blocks: &[Block], now: Micros) -> Result<BTreeSet<i32>, Refusal> {
    let Some(given) = row.given.as_ref().filter(|_| row.state_at(now) == State::Granted) else {
        return Ok(BTreeSet::new());
    };
    let hip = given.hips.is_empty() || given.hips.iter().any(|id| id == news.hip.as_str());
    if !(given.categories.contains(&news.category.into()) && given.from <= now.0 && hip) {
        return Ok(BTreeSet::new());
    }
    let holder = rows::participant(&row.holder)?;
    let purpose = PurposeCode::from_number(row.purpose).ok_or_else(|| broken("a subscription's purpose"))?;
    let silent = |key: &ContextKey| {
        blocks
            .iter()
            .any(|block| block.silences(&holder, news.hip, purpose, key))
    };
    let heard = news.contexts.iter().filter(|(key, _)| !silent(key));
    let kinds = heard.flat_map(|(_, kinds)| kinds).copied();
    Ok(kinds.filter(|kind| is_covered(given, news.hip, *kind)).collect())
}

fn is_covered(given: &SourcesRow, hip: &ParticipantId, kind: i32) -> bool {
    let mut excluded = given.excluded.iter();
    let out = excluded.any(|source| {
        (source.hip.is_empty() || source.hip == hip.as_str())
            && (source.hi_types.is_empty() || source.hi_types.contains(&kind))
    });
    given.hi_types.contains(&kind) && !out
}
