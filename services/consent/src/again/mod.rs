//! After a restore: what she took back is taken back again, and uses that were taken stay taken.

mod consents;
mod policies;
mod requests;
mod subscriptions;
#[cfg(test)]
mod tests;
mod uses;

use std::collections::HashMap;

use sammati_api::audit::v1::{Leaf, Payload};
use sammati_kernel::{ConsentId, ConsentRequestId, NoticeId, PolicyId, Reason, Refusal, StudyId, SubscriptionId};
use sammati_server::Again;
use sammati_server::event::{micros, system};
use sammati_store::Store;

use self::consents::ConsentAgain;
use self::policies::PolicyAgain;
use self::requests::RequestAgain;
use self::subscriptions::SubscriptionAgain;
use self::uses::UseAgain;
use crate::notice::publish::RetireNotice;
use crate::study::settle::CloseAgain;
use crate::{consent, request, standing, subscription};

/// What became of one thing that is done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    /// It is as it was.
    Retaken,
    /// There was nothing to do.
    Left,
    /// What it was done to is lost too.
    Lost,
}

/// What is done again, and to what.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Consent(consent::Verb),
    Request(request::Verb),
    Policy(standing::Verb),
    Subscription(subscription::Verb),
    /// Closes a study.
    Close,
    /// Retires a notice again.
    Notice,
    /// Nothing can be done; it is told.
    Told,
}

/// What an event asks for.
struct Entry {
    event: &'static str,
    deed: Deed,
    /// Later words of the log on the same thing that make up for it, or make it needless.
    unless: &'static [&'static str],
    /// What is told when it was done.
    again: &'static str,
    /// What is told when the thing itself is lost and somebody must do it anew.
    lost: Option<&'static str>,
}

const ENDED: &[&str] = &["consent.withdrawn", "consent.superseded", "consent.expired"];
const OVER: &[&str] = &["subscription.withdrawn", "subscription.expired"];

/// Everything that takes away. Of what only gives, nothing is done again; and time ends again what it ended.
const TABLE: &[Entry] = &[
    Entry {
        event: "consent.withdrawn",
        deed: Deed::Consent(consent::Verb::Revoke),
        unless: &[],
        again: "was withdrawn, and is so again",
        lost: None,
    },
    Entry {
        event: "consent.paused",
        deed: Deed::Consent(consent::Verb::Pause),
        unless: &[
            "consent.resumed",
            "consent.withdrawn",
            "consent.superseded",
            "consent.expired",
        ],
        again: "was paused, and is so again, until she resumes it",
        lost: None,
    },
    Entry {
        event: "consent.modified",
        deed: Deed::Consent(consent::Verb::Narrow),
        unless: ENDED,
        again: "was narrowed, and to what is lost: it is paused, until she narrows it anew and resumes it",
        lost: None,
    },
    Entry {
        event: "consent.superseded",
        deed: Deed::Consent(consent::Verb::Supersede),
        unless: &[],
        again: "gave its place to a renewal, and has ended again",
        lost: None,
    },
    Entry {
        event: "consent.request_cancelled",
        deed: Deed::Request(request::Verb::Cancel),
        unless: &[],
        again: "was withdrawn by its asker, and is so again",
        lost: None,
    },
    Entry {
        event: "consent.denied",
        deed: Deed::Request(request::Verb::Deny),
        unless: &[],
        again: "was denied, and is so again",
        lost: None,
    },
    Entry {
        event: "policy.disabled",
        deed: Deed::Policy(standing::Verb::Disable),
        unless: &["policy.enabled"],
        again: "approved and was disabled, and is so again",
        lost: None,
    },
    Entry {
        event: "policy.enabled",
        deed: Deed::Policy(standing::Verb::Enable),
        unless: &["policy.disabled"],
        again: "denied and was enabled, and is so again",
        lost: Some(
            "was in force, and what it said is lost: if it denied, she must create it anew; until then it denies nothing",
        ),
    },
    Entry {
        event: "subscription.withdrawn",
        deed: Deed::Subscription(subscription::Verb::Revoke),
        unless: &[],
        again: "was withdrawn, and is so again",
        lost: None,
    },
    Entry {
        event: "subscription.denied",
        deed: Deed::Subscription(subscription::Verb::Deny),
        unless: &[],
        again: "was denied, and is so again",
        lost: None,
    },
    Entry {
        event: "subscription.paused",
        deed: Deed::Subscription(subscription::Verb::Pause),
        unless: &["subscription.resumed", "subscription.withdrawn", "subscription.expired"],
        again: "was paused, and is so again, until she resumes it",
        lost: Some("was paused, and is lost: it tells nobody; its holder must ask her anew"),
    },
    Entry {
        event: "subscription.modified",
        deed: Deed::Subscription(subscription::Verb::Update),
        unless: OVER,
        again: "was changed, and to what is lost: it is paused, until she changes it anew and resumes it",
        lost: Some("was changed, and is lost: it tells nobody; its holder must ask her anew"),
    },
    Entry {
        event: "study.closed",
        deed: Deed::Close,
        unless: &[],
        again: "was closed, and is so again",
        lost: None,
    },
    Entry {
        event: "notice.retired",
        deed: Deed::Notice,
        unless: &[],
        again: "was retired, and is so again",
        lost: None,
    },
    Entry {
        event: "notice.published",
        deed: Deed::Told,
        unless: &[],
        again: "",
        lost: Some("got a version that is LOST: publish it again"),
    },
    Entry {
        event: "consent.step_up_set",
        deed: Deed::Told,
        unless: &[],
        again: "",
        lost: Some("was set, and is as it was BEFORE: she sets again what needs her PIN"),
    },
    Entry {
        event: "rights.opened",
        deed: Deed::Told,
        unless: &[],
        again: "",
        lost: Some("was opened, and is LOST: she asks again"),
    },
    Entry {
        event: "rights.answered",
        deed: Deed::Told,
        unless: &["rights.closed"],
        again: "",
        lost: Some("was answered or closed, and is as it was BEFORE: do it again"),
    },
    Entry {
        event: "rights.closed",
        deed: Deed::Told,
        unless: &["rights.answered"],
        again: "",
        lost: Some("was answered or closed, and is as it was BEFORE: do it again"),
    },
];

/// Does again what the log proves.
///
/// # Errors
/// When storage fails.
pub(crate) async fn again(again: Again) -> Result<Vec<String>, Refusal> {
    let words = words(&again);
    let (mut lines, mut feeds) = (Vec::new(), HashMap::new());
    for (place, (header, payload)) in again.events().enumerate() {
        let feed = header.source.as_ref().map(|source| (source.epoch, source.partition));
        let before = feeds.insert(feed, (header, payload));
        if header.event_type == "access.authorized" {
            use_up(&again, header, payload).await?;
            continue;
        }
        let Some(entry) = TABLE.iter().find(|entry| entry.event == header.event_type) else {
            continue;
        };
        let resource = payload.resource.as_str();
        let later = words.get(resource).into_iter().flatten().filter(|(at, _)| *at > place);
        // Twice the same: the last is the one that counts.
        if later
            .clone()
            .any(|(_, word)| entry.unless.contains(word) || *word == entry.event)
        {
            continue;
        }
        let with = before.and_then(|before| disabled_with(before, (header, payload)));
        let said = match entry.deed.redo(&again.store, resource, &header.event_id, with).await? {
            Became::Retaken => Some(entry.again),
            Became::Lost => entry.lost,
            Became::Left => None,
        };
        lines.extend(said.map(|said| format!("{resource} {said}")));
    }
    Ok(lines)
}

/// The policy that the commit of an event disabled: the feed tells of it just before, at the same time and by the same person.
fn disabled_with((before, told): (&Leaf, &Payload), (header, payload): (&Leaf, &Payload)) -> Option<PolicyId> {
    let position = |leaf: &Leaf| leaf.source.as_ref().map(|source| source.position);
    let follows = position(before)? + 1 == position(header)?;
    let alike = before.occurred_time == header.occurred_time && told.actor == payload.actor;
    let disabled = before.event_type == "policy.disabled" && follows && alike;
    disabled.then(|| PolicyId::parse_name(&told.resource)).flatten()
}

/// What the log says of each thing, with its place in what was lost.
fn words(again: &Again) -> HashMap<&str, Vec<(usize, &str)>> {
    let mut words: HashMap<&str, Vec<_>> = HashMap::new();
    for (place, (header, payload)) in again.events().enumerate() {
        let of = words.entry(payload.resource.as_str()).or_default();
        of.push((place, header.event_type.as_str()));
    }
    words
}

impl Deed {
    /// Does it again because of the event `lost`, which tells of a commit that disabled the policy `with`. A name that is none
    /// asks for nothing.
    async fn redo(self, store: &Store, name: &str, lost: &str, with: Option<PolicyId>) -> Result<Became, Refusal> {
        let lost = lost.to_owned();
        match self {
            Self::Consent(verb) => match ConsentId::parse_name(name) {
                Some(consent) => store.apply(ConsentAgain { consent, verb, lost }).await,
                None => Ok(Became::Left),
            },
            Self::Request(verb) => match ConsentRequestId::parse_name(name) {
                Some(request) => store.apply(RequestAgain { request, verb, lost }).await,
                None => Ok(Became::Left),
            },
            Self::Policy(verb) => match PolicyId::parse_name(name) {
                Some(policy) => store.apply(PolicyAgain { policy, verb, lost }).await,
                None => Ok(Became::Left),
            },
            Self::Subscription(verb) => match SubscriptionId::parse_name(name) {
                Some(subscription) => {
                    let command = SubscriptionAgain {
                        subscription,
                        verb,
                        lost,
                        with,
                    };
                    store.apply(command).await
                }
                None => Ok(Became::Left),
            },
            Self::Close => match StudyId::parse_name(name) {
                Some(study) if store.apply(CloseAgain { study, lost }).await? => Ok(Became::Retaken),
                _ => Ok(Became::Left),
            },
            Self::Notice => match NoticeId::parse_name(name) {
                Some(notice) => retire(store, notice, lost).await,
                None => Ok(Became::Left),
            },
            Self::Told => Ok(Became::Lost),
        }
    }
}

async fn retire(store: &Store, notice: NoticeId, lost: String) -> Result<Became, Refusal> {
    let retire = RetireNotice {
        caller: system("consent"),
        notice,
        etag: String::new(),
        cause: lost,
    };
    match store.apply(retire).await {
        Ok(()) => Ok(Became::Retaken),
        // It is retired, or its publishing was lost too: there is nothing to take away.
        Err(refusal) if matches!(refusal.reason, Reason::StateConflict | Reason::NotAvailable) => Ok(Became::Left),
        Err(refusal) => Err(refusal),
    }
}

async fn use_up(again: &Again, header: &Leaf, payload: &Payload) -> Result<(), Refusal> {
    let at = header.occurred_time.as_ref().and_then(micros).unwrap_or_default();
    let lost = header.event_id.clone();
    match ConsentId::parse_name(&payload.consent) {
        Some(consent) => {
            let run = payload.claims.first().and_then(|key| key.as_slice().try_into().ok());
            again.store.apply(UseAgain { consent, at, run, lost }).await
        }
        None => Ok(()),
    }
}
