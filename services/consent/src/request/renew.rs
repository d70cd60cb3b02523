//! Going on with a consent: a new one takes the place of the old, which is never wider but for its end.

use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, Fact, Key, Reason, Refusal};
use sammati_store::View;

use super::ask::Ask;
use crate::consent::{self, Ending, State, Verb};
use crate::policy;
use crate::rows::{ConsentRow, RequestRow};
use crate::scope::{Scope, renewal_wider};
use crate::vault::open;

/// Whether the asker may ask to renew `old` for `scope`: it is a party of it as receiver, of the same address, for the
/// same provider, and it still lives. `key` opens what is hers.
///
/// # Errors
/// NOT_AVAILABLE, STATE_CONFLICT or RENEWAL_WIDER.
pub(super) fn check(
    view: &View<'_>,
    caller: &Caller,
    ask: &Ask,
    scope: &Scope,
    old: Option<ConsentRow>,
    key: &Key,
) -> Result<(), Refusal> {
    let of_the_same = |row: &ConsentRow| {
        let named = [row.hiu.as_str(), row.hip.as_str()];
        named == [ask.hiu.as_str(), ask.hips.first().map_or("", |hip| hip.as_str())] && ask.hips.len() == 1
    };
    let old = old.filter(of_the_same).ok_or_else(|| policy::unavailable(caller))?;
    // By the address: asking must not tell that two addresses are one person's.
    if open(key, "consent", &old.id, &old.sealed)?.patient != ask.patient {
        return Err(policy::unavailable(caller));
    }
    let state = old.state_at(view.now());
    if !state.is_open() {
        return Err(ended(state));
    }
    inside(&old, scope)
}

/// Whether `scope` allows no more than `old` does now, but for its end.
///
/// # Errors
/// RENEWAL_WIDER.
fn inside(old: &ConsentRow, scope: &Scope) -> Result<(), Refusal> {
    match renewal_wider(&old.scope.read()?, scope) {
        None => Ok(()),
        Some(field) => Err(Refusal::new(Reason::RenewalWider)
            .saying("a renewal may only last longer; narrow the field that is named, or ask anew without `renews`")
            .with(Fact::Field, field)),
    }
}

/// The consent whose place an approval of `request` takes, once time has done its part; `None` when it renews none.
///
/// # Errors
/// STATE_CONFLICT when it has ended; RENEWAL_WIDER when it was narrowed below one of `scopes`.
pub(super) fn superseded<'a>(
    view: &mut View<'_>,
    request: &RequestRow,
    scopes: impl Iterator<Item = &'a Scope>,
) -> Result<Option<ConsentRow>, Refusal> {
    if request.renews.is_empty() {
        return Ok(None);
    }
    let old = view.get::<ConsentRow>(&request.renews);
    let mut old = old.ok_or_else(|| crate::rows::broken("a renewed consent"))?;
    let wrote = consent::catch_up(view, &mut old)?;
    if old.state().after(Verb::Supersede).is_none() {
        let refused = ended(old.state());
        return Err(if wrote { refused.recorded() } else { refused });
    }
    for scope in scopes {
        inside(&old, scope)?;
    }
    Ok(Some(old))
}

/// Ends `old`, whose place `new` took. Needs the group of its open transfers.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub(super) fn supersede(
    view: &mut View<'_>,
    old: &mut ConsentRow,
    new: &ConsentRow,
    caller: &Caller,
) -> Result<(), Refusal> {
    old.successor.clone_from(&new.id);
    let ending = Ending {
        state: State::Superseded,
        event: "consent.superseded",
        kind: Kind::ConsentSuperseded,
        caller,
        at: view.now(),
        legal_basis: "",
        cause: "",
    };
    consent::end(view, old, &ending)
}

fn ended(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying("the consent to be renewed has ended; ask anew without `renews`")
        .with(Fact::State, state.as_str())
}
