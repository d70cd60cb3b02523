//! Everybody at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::{self as consent, decision::Outcome, decision::Reason};
use sammati_kernel::{AbhaNumber, Reason as Refused};
use sammati_tests::story::{Person, Story, at, reason};

use crate::worlds::{World, count, now};

/// What one of the racers tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Approve,
    Deny,
    Revoke,
    Expire,
}

async fn deny(story: &Story, person: &Person, replica: usize, name: &str) -> Result<(), tonic::Status> {
    let request = consent::DenyConsentRequestRequest {
        name: name.to_owned(),
        reason: "not now".into(),
        etag: String::new(),
        request_id: story.rid(),
    };
    let mut client = ConsentRequestServiceClient::new(person.who.consent_at(replica));
    client.deny_consent_request(request).await.map(drop)
}

async fn approve(
    story: &Story,
    person: &Person,
    replica: usize,
    request: &consent::ConsentRequest,
) -> Result<(), tonic::Status> {
    let mut client = ConsentRequestServiceClient::new(person.who.consent_at(replica));
    client
        .approve_consent_request(story.approval(request, None))
        .await
        .map(drop)
}

async fn get(person: &Person, replica: usize, name: &str) -> consent::ConsentRequest {
    let mut client = ConsentRequestServiceClient::new(person.who.consent_at(replica));
    let request = consent::GetConsentRequestRequest { name: name.to_owned() };
    client.get_consent_request(request).await.unwrap().into_inner()
}

/// Takes back whatever consent came of the request by then.
async fn revoke(story: &Story, person: &Person, replica: usize, request: &str) -> Result<i32, tonic::Status> {
    let request = get(person, replica, request).await;
    let Some(name) = request.consents.first() else {
        return Ok(0);
    };
    story
        .revoke(replica, person, &[name])
        .await
        .map(|answer| answer.changed_count)
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_o1_of_racing_transitions_exactly_one_wins_and_each_is_one_event_and_one_leaf() {
    for world in World::all().await {
        let world = Arc::new(world);
        let mut person = world.person().await;
        let mut winners = BTreeSet::new();
        for round in 0..6_usize {
            let request = race_over_one_request(&world, &mut person, round).await;
            winners.insert(request.state);
        }
        assert!(!winners.is_empty());
        Arc::into_inner(world).unwrap().system.stop().await;
    }
}

async fn race_over_one_request(world: &Arc<World>, person: &mut Person, round: usize) -> consent::ConsentRequest {
    let story = &world.story;
    let window = Duration::from_secs(3600);
    let request = {
        let mut renewed = Story::new(&world.system.addresses, Arc::new(world.clock.clone())).unwrap();
        renewed.renew().await.unwrap();
        let mut asked = consent::CreateConsentRequestRequest {
            patient: person.address(),
            hips: vec!["participants/hospital".into()],
            scope: Some(renewed.scope()),
            language: "hi".into(),
            expire_time: at(now(&world.clock).plus(window)),
            request_id: renewed.rid(),
            ..Default::default()
        };
        let requester = sammati_api::types::v1::RequesterIdentifier {
            r#type: "REGNO".into(),
            value: "MH1001".into(),
            system: "https://www.nmc.org.in".into(),
        };
        asked.requester = Some(sammati_api::types::v1::Requester {
            name: "Dr Meera Joshi".into(),
            identifier: Some(requester),
            verified: false,
        });
        let mut client = ConsentRequestServiceClient::new(renewed.clinic.consent());
        client.create_consent_request(asked).await.unwrap().into_inner()
    };
    // To the last second of the window, with fresh tokens.
    world.clock.advance(window - Duration::from_secs(1));
    let mut renewed = Story::new(&world.system.addresses, Arc::new(world.clock.clone())).unwrap();
    renewed.renew().await.unwrap();
    *person = renewed.log_in(person).await.unwrap();
    world.settled(person).await;
    let racers = (0..64_usize).map(|n| {
        let verb = match (n + round) % 4 {
            0 | 1 => Verb::Approve,
            2 => Verb::Deny,
            _ if n % 16 == 3 => Verb::Expire,
            _ => Verb::Revoke,
        };
        let (person, name, request) = (person.clone(), request.name.clone(), request.clone());
        async move {
            let result = match verb {
                Verb::Approve => approve(story, &person, n, &request).await.map(|()| 1),
                Verb::Deny => deny(story, &person, n, &name).await.map(|()| 1),
                Verb::Revoke => revoke(story, &person, n, &name).await,
                // In the later rounds time itself takes part.
                Verb::Expire if round >= 3 && n > 32 => {
                    world.clock.advance(Duration::from_secs(1));
                    Ok(0)
                }
                Verb::Expire => Ok(0),
            };
            (verb, result)
        }
    });
    let results = join_all(racers).await;
    check_history(world, person, &request.name, results).await
}

async fn check_history(
    world: &World,
    person: &Person,
    name: &str,
    results: Vec<(Verb, Result<i32, tonic::Status>)>,
) -> consent::ConsentRequest {
    use consent::consent_request::State;
    let mut wins: BTreeMap<Verb, i32> = BTreeMap::new();
    for (verb, result) in results {
        match result {
            Ok(changed) => *wins.entry(verb).or_default() += changed,
            Err(status) => assert!(
                ["STATE_CONFLICT", "REQUEST_EXPIRED"].contains(&reason(&status).as_str()),
                "{verb:?}: {status:?}"
            ),
        }
    }
    let won = |verb| wins.get(&verb).copied().unwrap_or(0);
    let ended = get(person, 0, name).await;
    for replica in 1..world.replicas {
        assert_eq!(get(person, replica, name).await.state, ended.state, "replicas agree");
    }
    let (approved, denied) = (won(Verb::Approve), won(Verb::Deny));
    match ended.state() {
        State::Granted => assert_eq!((approved, denied, ended.consents.len()), (1, 0, 1)),
        State::Denied => assert_eq!((approved, denied, ended.consents.len()), (0, 1, 0)),
        State::Expired | State::Requested => assert_eq!((approved, denied, ended.consents.len()), (0, 0, 0)),
        State::Cancelled | State::Unspecified => panic!("{ended:?}"),
    }
    assert!(won(Verb::Revoke) <= 1, "one revoke wins");
    let given = ended.consents.first().cloned().unwrap_or_default();
    if !given.is_empty() {
        let mut client = ConsentServiceClient::new(person.who.consent());
        let state = client
            .get_consent(consent::GetConsentRequest { name: given.clone() })
            .await
            .unwrap()
            .into_inner()
            .state();
        let revoked = state == consent::consent::State::Revoked;
        assert_eq!(won(Verb::Revoke), i32::from(revoked));
        let expected = usize::from(revoked);
        let trail = world
            .trail_with(person, |t| {
                count(t, "consent.granted", &given) >= 1 && count(t, "consent.withdrawn", &given) >= expected
            })
            .await;
        assert_eq!(count(&trail, "consent.granted", &given), 1, "one leaf for the grant");
        assert_eq!(count(&trail, "consent.artefact_issued", &given), 2, "one artefact set");
        assert_eq!(count(&trail, "consent.withdrawn", &given), expected);
        assert_eq!(count(&trail, "consent.denied", name), 0);
    } else if denied == 1 {
        let trail = world
            .trail_with(person, |t| count(t, "consent.denied", name) >= 1)
            .await;
        assert_eq!(count(&trail, "consent.denied", name), 1, "one leaf for the denial");
    }
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_use_limit_is_exact_under_100_concurrent_authorizes() {
    for world in World::all().await {
        let person = world.person().await;
        let mut scope = world.story.scope();
        scope.max_uses = 10;
        let given = world.story.consent(&person, scope).await.unwrap();
        let tries = (0..100).map(|n| world.story.authorize(n, &given.name));
        let decisions: Vec<_> = join_all(tries).await.into_iter().map(Result::unwrap).collect();
        let permitted = decisions.iter().filter(|d| d.outcome() == Outcome::Permit).count();
        let spent = decisions
            .iter()
            .filter(|d| d.reason() == Reason::UseLimitReached)
            .count();
        assert_eq!((permitted, spent), (10, 90));
        let trail = world
            .trail_with(&person, |t| {
                count(t, "access.authorized", &given.name) >= 10 && count(t, "access.denied", &given.name) >= 90
            })
            .await;
        assert_eq!(count(&trail, "access.authorized", &given.name), 10);
        assert_eq!(count(&trail, "data.use_consumed", &given.name), 10);
        assert_eq!(
            count(&trail, "access.denied", &given.name),
            90,
            "every refusal of a command is recorded"
        );
        world.system.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n1_200_concurrent_enrolments_of_50_people_give_50_numbers() {
    for world in World::all().await {
        let people: Vec<_> = world
            .story
            .people()
            .await
            .unwrap()
            .into_iter()
            .filter(|p| !p.mobile.is_empty())
            .take(50)
            .collect();
        let story = &world.story;
        // Four proven transactions each, one person after another at each mobile.
        let mut proven = Vec::new();
        for entry in &people {
            for n in 0..4 {
                proven.push((entry, story.prove_aadhaar(n, entry).await.unwrap().name));
            }
        }
        assert_eq!(proven.len(), 200);
        let creations = proven.iter().enumerate().map(|(n, (entry, transaction))| async move {
            let rid = story.rid();
            let first = create(story, n, entry, transaction, &rid).await;
            let again = create(story, n + 1, entry, transaction, &rid).await;
            assert_eq!(
                first.account.abha_number, again.account.abha_number,
                "a retry returns it"
            );
            (entry.aadhaar.clone(), first)
        });
        let created = join_all(creations).await;
        let mut numbers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut new = 0;
        for (aadhaar, person) in &created {
            let number = &person.account.abha_number;
            assert!(AbhaNumber::parse(number).is_ok(), "{number} has a Luhn digit");
            assert!(number.starts_with("91"));
            numbers.entry(aadhaar.clone()).or_default().insert(number.clone());
            new += usize::from(person.is_new);
        }
        assert!(numbers.values().all(|n| n.len() == 1), "a person has one number");
        let distinct: BTreeSet<_> = numbers.into_values().flatten().collect();
        assert_eq!((distinct.len(), new), (50, 50), "a number is issued once");
        world.system.stop().await;
    }
}

/// Makes the account, coming back when the service says that it has too much to do.
async fn create(
    story: &Story,
    replica: usize,
    entry: &sammati_api::sandbox::v1::Person,
    transaction: &str,
    rid: &str,
) -> Person {
    loop {
        match story.create_account(replica, entry, transaction, rid).await {
            Ok(person) => return person,
            Err(status) => {
                let refusal = sammati_server::error::refusal_of(&status).unwrap_or_else(|| panic!("{status:?}"));
                assert_eq!(refusal.reason, Refused::Overloaded, "{status:?}");
                tokio::time::sleep(refusal.retry_after.unwrap_or_default()).await;
            }
        }
    }
}
