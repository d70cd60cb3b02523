//! C1, C2: whatever may be done to a consent at once with whatever uses it, on all replicas: nothing is used after it was
//! taken, and everybody was told what is in the feed.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use sammati_api::audit::v1::Event;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent::State;
use sammati_api::consent::v1::decision::Outcome;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::types::v1 as types;
use sammati_consent::closing::Closings;
use sammati_consent::transfer::halt::Halts;

use crate::deciding::{Asked, question};
use crate::pairs::follow;
use crate::transfers::{open, state, take_on, taking, uses, wanted};
use crate::verbs::{Subject, Verb};
use crate::world::{DAY, World, by, everywhere, participant, refused};

/// Callers of each.
const EACH: usize = 3;

/// What is asked for: what a narrowing takes away.
const KIND: types::HiType = types::HiType::DiagnosticReport;

/// What uses a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Authorize,
    Open,
    /// Taking on a transfer that was opened before.
    TakeOn,
}

impl Use {
    const ALL: [Self; 3] = [Self::Authorize, Self::Open, Self::TakeOn];
}

/// What takes it away, or gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Do(Verb),
    /// Her account is deleted.
    Delete,
    /// The asker takes part no more.
    Retire,
}

impl Act {
    fn all() -> impl Iterator<Item = Self> {
        Verb::ALL.into_iter().map(Self::Do).chain([Self::Delete, Self::Retire])
    }

    /// Why a use may be refused that lost to it.
    const fn refusals(self) -> &'static [&'static str] {
        match self {
            Self::Do(Verb::Pause | Verb::Resume) => &["CONSENT_PAUSED"],
            Self::Do(Verb::Narrow) => &["HI_TYPE_NOT_GRANTED", "PROVIDER_NOT_ACKNOWLEDGED"],
            Self::Do(Verb::Revoke) | Self::Delete => &["CONSENT_REVOKED"],
            Self::Do(Verb::Renew) => &["CONSENT_SUPERSEDED"],
            Self::Do(Verb::Expire) => &["CONSENT_EXPIRED"],
            Self::Retire => &["REQUESTER_NOT_ACTIVE"],
        }
    }
}

impl World {
    /// Uses a consent; tells why not.
    async fn try_use(&self, consent: &str, opened: &api::Transfer, how: Use) -> Result<(), String> {
        let done = match how {
            Use::Authorize => {
                let mut asked = question(self, consent).check();
                asked.hi_types = vec![KIND.into()];
                let message = Asked::from(asked).authorize(self.request_id());
                let decided = self.rpc().authorize_access(by(&participant("hospital"), message)).await;
                let decision = decided.unwrap().into_inner();
                let reason = decision.reason().as_str_name().trim_start_matches("REASON_").to_owned();
                return (decision.outcome() == Outcome::Permit).then_some(()).ok_or(reason);
            }
            Use::Open => {
                let message = api::CreateTransferRequest {
                    hi_types: vec![KIND.into()],
                    ..wanted(self, consent)
                };
                open(self, "clinic", message).await
            }
            Use::TakeOn => take_on(self, "hospital", taking(self, opened)).await,
        };
        done.map(drop)
            .map_err(|status| refused::<()>(Err(status)).reason.as_str().to_owned())
    }

    async fn do_to(self: &Arc<Self>, subject: &Subject, act: Act) {
        match act {
            // Whether it wins is looked at in `pairs`.
            Act::Do(verb) => drop(self.act(subject, verb).await),
            Act::Delete => {
                self.people
                    .deleted
                    .lock()
                    .unwrap()
                    .push((subject.she.account().unwrap(), false));
                self.rpc().close_accounts(&mut Closings::default()).await.unwrap();
            }
            Act::Retire => {
                self.people.suspended.lock().unwrap().insert("clinic".to_owned());
                self.rpc().halt_transfers(&mut Halts::default()).await.unwrap();
            }
        }
    }

    /// The events about a consent, in the order of their commits.
    async fn history(&self, consent: &str) -> Vec<Event> {
        let mut events = self.events().await;
        let is_about = |event: &Event| {
            let payload = event.payload.as_ref().unwrap();
            payload.resource == consent || payload.consent == consent
        };
        events.retain(is_about);
        events
    }
}

/// How often each use was told that it was permitted, and of every other why not.
#[derive(Debug, Default)]
struct Told {
    permits: BTreeMap<Use, usize>,
    refusals: Vec<(Use, String)>,
}

impl Told {
    fn permits(&self, of: &[Use]) -> usize {
        of.iter().filter_map(|one| self.permits.get(one)).sum()
    }

    fn take(&mut self, one: Use, done: Result<(), String>) {
        match done {
            Ok(()) => *self.permits.entry(one).or_default() += 1,
            Err(why) => self.refusals.push((one, why)),
        }
    }
}

/// Holds the events against what everybody was told, and each permit against what had happened by then.
fn check(events: &[Event], from: State, end: &prost_types::Timestamp, told: &Told, what: &str) {
    let (mut at, mut is_narrowed, mut is_cancelled) = (from, false, false);
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        let kind = event.event_type.as_str();
        *counted.entry(kind).or_default() += 1;
        if Verb::ALL.map(Verb::event).contains(&kind) {
            at = follow(at, kind).unwrap_or_else(|| panic!("{what}: {kind} from {at:?}"));
            is_narrowed |= kind == Verb::Narrow.event();
        }
        is_cancelled |= kind == "transfer.cancelled";
        if ["access.authorized", "data.requested", "data.acknowledged"].contains(&kind) {
            let time = event.occurred_time.unwrap();
            assert_eq!(at, State::Granted, "{what}: {kind}");
            assert!(!is_narrowed, "{what}: {kind} of what was narrowed away");
            assert!(
                (time.seconds, time.nanos) < (end.seconds, end.nanos),
                "{what}: {kind} after its end"
            );
        }
        assert!(
            kind != "data.acknowledged" || !is_cancelled,
            "{what}: a cancelled transfer was taken on"
        );
    }
    let count = |kind: &str| counted.get(kind).copied().unwrap_or_default();
    assert_eq!(count("access.authorized"), told.permits(&Use::ALL), "{what}: {told:?}");
    assert_eq!(count("data.requested"), told.permits(&[Use::Open]), "{what}: {told:?}");
    assert_eq!(
        count("data.acknowledged"),
        told.permits(&[Use::TakeOn]),
        "{what}: {told:?}"
    );
    assert!(told.permits(&[Use::TakeOn]) <= 1, "{what}: it was taken on twice");
    let denied = told.refusals.iter().filter(|(one, _)| *one == Use::Authorize).count();
    assert!(count("access.denied") >= denied, "{what}: a refusal left no event");
}

/// Lets an act and a use loose, and tells what the users were told.
async fn race(w: &Arc<World>, subject: &Subject, opened: &api::Transfer, act: Act, one: Use) -> Told {
    let racers = (0..2 * EACH).map(|n| {
        let (w, subject, opened) = (Arc::clone(w), subject.clone(), opened.clone());
        tokio::spawn(async move {
            if n % 2 == 1 {
                return Some(w.try_use(&subject.consent.name, &opened, one).await);
            }
            if act == Act::Do(Verb::Expire) && n == 0 {
                w.advance(1);
            }
            w.do_to(&subject, act).await;
            None
        })
    });
    let mut told = Told::default();
    for done in join_all(racers).await {
        if let Some(done) = done.unwrap() {
            told.take(one, done);
        }
    }
    told
}

/// A consent that ends in a second where that is what ends it, with an open transfer, paused after that if so asked for.
async fn ready(w: &Arc<World>, n: usize, paused: bool, act: Act) -> (Subject, api::Transfer) {
    let mut subject = w.subject(&format!("person{n:04}@sbx")).await;
    if act == Act::Do(Verb::Expire) {
        w.advance(DAY - 1);
        subject.she = w.she(subject.she.account().unwrap());
    }
    let message = api::CreateTransferRequest {
        hi_types: vec![KIND.into()],
        ..wanted(w, &subject.consent.name)
    };
    let opened = open(w, "clinic", message).await.unwrap();
    if paused {
        w.act(&subject, Verb::Pause).await.unwrap();
    }
    (subject, opened)
}

#[test]
fn c1_c2_whatever_takes_a_consent_and_whatever_uses_it_at_once_leave_one_legal_history() {
    everywhere(|w| async move {
        let mut n = 0;
        for paused in [false, true] {
            for act in Act::all() {
                for one in Use::ALL {
                    n += 1;
                    let what = format!("{act:?} and {one:?}, paused: {paused}");
                    let (subject, opened) = ready(&w, n, paused, act).await;
                    let name = &subject.consent.name;
                    let before = w.history(name).await.len();
                    let from = if paused { State::Paused } else { State::Granted };
                    let told = race(&w, &subject, &opened, act, one).await;
                    let events = w.history(name).await.split_off(before);
                    let end = subject.consent.effective_expire_time.unwrap();
                    check(&events, from, &end, &told, &what);
                    for (_, why) in &told.refusals {
                        let was_paused = paused && why == "CONSENT_PAUSED";
                        // A transfer that was cancelled, or that another has taken on.
                        let was_late = one == Use::TakeOn && why == "STATE_CONFLICT";
                        let lost = was_paused || was_late || act.refusals().contains(&why.as_str());
                        assert!(lost, "{what}: refused with {why}");
                    }
                    if act == Act::Retire {
                        // What was opened meanwhile, by whoever had not heard, ends with the next look.
                        w.rpc().halt_transfers(&mut Halts::default()).await.unwrap();
                        let seen = state(&w, &participant("hospital"), &opened).await;
                        assert_eq!(seen, api::transfer::State::Cancelled, "{what}");
                        w.people.suspended.lock().unwrap().clear();
                    }
                }
            }
        }
    });
}

/// Three uses are left, and whoever is first has them: exactly three permits, however they are asked for.
#[test]
fn c2_any_two_ways_of_using_a_consent_share_its_uses() {
    everywhere(|w| async move {
        for (n, pair) in [
            [Use::Authorize, Use::Authorize],
            [Use::Authorize, Use::Open],
            [Use::Open, Use::Open],
            [Use::Authorize, Use::TakeOn],
            [Use::Open, Use::TakeOn],
            [Use::TakeOn, Use::TakeOn],
        ]
        .into_iter()
        .enumerate()
        {
            let address = format!("sharer{n}.x@sbx");
            let (she, consent) = w.granted(&address, |scope| scope.max_uses = 4).await;
            let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
            let before = w.history(&consent.name).await.len();
            let racers = (0..10).map(|n| {
                let (w, name, opened, one) = (Arc::clone(&w), consent.name.clone(), opened.clone(), pair[n % 2]);
                tokio::spawn(async move { (one, w.try_use(&name, &opened, one).await) })
            });
            let mut told = Told::default();
            for done in join_all(racers).await {
                let (one, done) = done.unwrap();
                told.take(one, done);
            }
            let what = format!("{pair:?}");
            let events = w.history(&consent.name).await.split_off(before);
            let end = consent.effective_expire_time.unwrap();
            check(&events, State::Granted, &end, &told, &what);
            let takes = pair.iter().any(|one| *one != Use::TakeOn);
            let used = told.permits(&[Use::Authorize, Use::Open]);
            assert_eq!(used, if takes { 3 } else { 0 }, "{what}: {told:?}");
            assert_eq!(
                told.permits(&[Use::TakeOn]),
                usize::from(pair.contains(&Use::TakeOn)),
                "{what}"
            );
            assert_eq!(uses(&w, &she, &consent.name).await, 1 + used as i64, "{what}");
            for (one, why) in &told.refusals {
                let expected = match one {
                    Use::TakeOn => "STATE_CONFLICT",
                    Use::Authorize | Use::Open => "USE_LIMIT_REACHED",
                };
                assert_eq!(why, expected, "{what}: {one:?}");
            }
        }
    });
}
