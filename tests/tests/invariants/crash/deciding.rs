//! 64 who approve, deny and revoke at once, over one request after another, while processes are killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::{self as consent, consent::State, consent_request};
use sammati_kernel::{Clock, SystemClock};
use sammati_tests::retry::until_answered;
use sammati_tests::story::{Person, Story, at, reason};
use tonic::Status;

use super::{Killed, below, persist, until};
use crate::worlds::count;

const RACERS: usize = 64;

/// A request that was raced over, and what was acknowledged.
pub(super) struct Asked {
    person: Person,
    name: String,
    wins: BTreeMap<&'static str, i32>,
}

/// One race for each kill, each of somebody else's request.
pub(super) async fn under_kills(system: &mut Killed, enrolled: &[Person], replicas: usize, kills: usize) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (round, person) in enrolled.iter().take(kills).enumerate() {
        let story = system.story().await;
        let person = story.log_in(person).await.unwrap();
        let mut scope = story.scope();
        // In some rounds time itself takes part.
        if round % 2 == 1 {
            scope.erase_time = at(SystemClock.now().plus(Duration::from_secs(3)));
        }
        let request = persist(async || story.ask(&person, scope.clone()).await).await;
        let name = request.name.clone();
        let done = AtomicUsize::new(0);
        let racers = (0..RACERS).map(|n| {
            let racer = Racer {
                story: &story,
                person: &person,
                request: &request,
                replica: n % replicas,
            };
            let done = &done;
            async move {
                let answer = racer.run(n).await;
                done.fetch_add(1, Ordering::SeqCst);
                answer
            }
        });
        // At once, or when some have had their answer.
        let kill = async {
            until(&done, below(RACERS / 2)).await;
            system.kill().await;
        };
        let (answers, ()) = tokio::join!(join_all(racers), kill);
        let mut wins = BTreeMap::new();
        for (verb, changed) in answers {
            *wins.entry(verb).or_default() += changed;
        }
        asked.push(Asked { person, name, wins });
    }
    asked
}

/// One of the 64.
struct Racer<'a> {
    story: &'a Story,
    person: &'a Person,
    request: &'a consent::ConsentRequest,
    replica: usize,
}

impl Racer<'_> {
    /// Tells what it tried, and how many changes were acknowledged.
    async fn run(self, n: usize) -> (&'static str, i32) {
        let (verb, answer) = match n % 4 {
            0 | 1 => ("approve", self.approve().await),
            2 => ("deny", self.deny().await),
            _ => ("revoke", self.revoke().await),
        };
        let changed = answer.unwrap_or_else(|status| {
            // A grant whose end has passed meanwhile is empty.
            let lost = ["STATE_CONFLICT", "GRANT_EMPTY"].contains(&reason(&status).as_str());
            assert!(lost, "{verb}: {status:?}");
            0
        });
        (verb, changed)
    }

    async fn approve(&self) -> Result<i32, Status> {
        let approval = self.story.approval(self.request, None);
        let mut client = ConsentRequestServiceClient::new(self.person.who.consent_at(self.replica));
        let answer = until_answered(async || client.approve_consent_request(approval.clone()).await).await?;
        assert_eq!(
            answer.into_inner().consents.len(),
            1,
            "one artefact set, also on a repeat"
        );
        Ok(1)
    }

    async fn deny(&self) -> Result<i32, Status> {
        let denial = consent::DenyConsentRequestRequest {
            name: self.request.name.clone(),
            reason: "not now".into(),
            etag: String::new(),
            request_id: self.story.rid(),
        };
        let mut client = ConsentRequestServiceClient::new(self.person.who.consent_at(self.replica));
        until_answered(async || client.deny_consent_request(denial.clone()).await).await?;
        Ok(1)
    }

    /// Takes back whatever consent came of it by then.
    async fn revoke(&self) -> Result<i32, Status> {
        let request = persist(async || get(self.person, self.replica, &self.request.name).await).await;
        let Some(given) = request.consents.first() else {
            return Ok(0);
        };
        let revocation = consent::RevokeConsentsRequest {
            names: vec![given.clone()],
            request_id: self.story.rid(),
            ..Default::default()
        };
        let mut client = ConsentServiceClient::new(self.person.who.consent_at(self.replica));
        let answer = until_answered(async || client.revoke_consents(revocation.clone()).await).await?;
        Ok(answer.into_inner().changed_count)
    }
}

async fn get(person: &Person, replica: usize, name: &str) -> Result<consent::ConsentRequest, Status> {
    let mut client = ConsentRequestServiceClient::new(person.who.consent_at(replica));
    let request = consent::GetConsentRequestRequest { name: name.to_owned() };
    Ok(client.get_consent_request(request).await?.into_inner())
}

/// Every acknowledged decision is there, one of each race, and each is one leaf.
pub(super) async fn check(story: &Story, asked: &[Asked]) {
    for Asked { person, name, wins } in asked {
        let person = story.log_in(person).await.unwrap();
        let won = |verb| wins.get(verb).copied().unwrap_or(0);
        let request = get(&person, 0, name).await.unwrap();
        let expected = match request.state() {
            consent_request::State::Granted => (1, 0),
            consent_request::State::Denied => (0, 1),
            // Nobody came before the end of what was asked.
            consent_request::State::Requested => (0, 0),
            other => panic!("{other:?}"),
        };
        assert_eq!((won("approve"), won("deny")), expected, "{wins:?}");
        let mut leaves = BTreeMap::from([("consent.denied", (name.clone(), won("deny")))]);
        assert_eq!(request.consents.len(), usize::try_from(won("approve")).unwrap());
        if let Some(given) = request.consents.first() {
            let state = state(&person, given).await;
            assert_eq!(won("revoke"), i32::from(state == State::Revoked), "{state:?} {wins:?}");
            let leaf = |n: bool| (given.clone(), i32::from(n));
            leaves.insert("consent.granted", leaf(true));
            leaves.insert("consent.withdrawn", leaf(state == State::Revoked));
            leaves.insert("consent.expired", leaf(state == State::Expired));
        }
        caught_up(story, &person, &leaves).await;
    }
}

async fn state(person: &Person, given: &str) -> State {
    let mut client = ConsentServiceClient::new(person.who.consent());
    let request = consent::GetConsentRequest { name: given.to_owned() };
    client.get_consent(request).await.unwrap().into_inner().state()
}

/// Waits until the log has these leaves, by type about what and how many; more there never are.
async fn caught_up(story: &Story, person: &Person, leaves: &BTreeMap<&str, (String, i32)>) {
    for _ in 0..400 {
        let trail = story.trail(person).await.unwrap();
        let mut all = true;
        for (event_type, (resource, expected)) in leaves {
            let expected = usize::try_from(*expected).unwrap();
            let found = count(&trail, event_type, resource);
            assert!(found <= expected, "{found} leaves {event_type} about {resource}");
            all &= found == expected;
        }
        if all {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the relay did not catch up with {leaves:?}");
}
