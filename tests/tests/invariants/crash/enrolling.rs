//! 200 enrolments of 50 people, all at once, while processes are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use sammati_api::audit::v1::ListEventsRequest;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::identity::v1 as identity;
use sammati_api::sandbox::v1 as sandbox;
use sammati_api::types::v1 as types;
use sammati_kernel::{Clock, SystemClock};
use sammati_tests::retry::until_answered;
use sammati_tests::story::{Person, Story, at};
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::{Killed, below, persist, until};

const PEOPLE: usize = 50;
const EACH: usize = 4;

/// Enrols them; tells every acknowledged enrolment.
pub(super) async fn under_kills(system: &mut Killed, kills: usize) -> Vec<Person> {
    let story = system.story().await;
    let people = persist(async || story.people().await).await;
    let mut mobiles = BTreeSet::new();
    // Each with a mobile of her own: an OTP is read from the newest message there, by one at a time.
    let with_mobile = people
        .iter()
        .filter(|p| !p.mobile.is_empty() && mobiles.insert(&p.mobile));
    let entries: Vec<_> = with_mobile.take(PEOPLE).map(|entry| (entry, Mutex::new(()))).collect();
    let done = AtomicUsize::new(0);
    let enrolments = (0..PEOPLE * EACH).map(|n| {
        let (story, done, (entry, turn)) = (&story, &done, &entries[n % PEOPLE]);
        async move {
            let transaction = {
                let _mine = turn.lock().await;
                prove(story, n, entry).await
            };
            done.fetch_add(1, Ordering::SeqCst);
            let rid = story.rid();
            let person = persist(async || story.create_account(n, entry, &transaction, &rid).await).await;
            done.fetch_add(1, Ordering::SeqCst);
            person
        }
    });
    // Spread over the whole of it.
    let steps = 2 * PEOPLE * EACH;
    let kill = async {
        for n in 0..kills {
            until(&done, steps * n / kills + below(steps / kills / 2)).await;
            system.kill().await;
        }
    };
    tokio::join!(join_all(enrolments), kill).0
}

/// Proves who she is; begins anew where the OTP died with a process.
async fn prove(story: &Story, replica: usize, entry: &sandbox::Person) -> String {
    loop {
        match prove_once(story, replica, entry).await {
            Ok(transaction) => return transaction.name,
            Err(status) => assert!(
                matches!(status.code(), Code::FailedPrecondition | Code::NotFound),
                "{status:?}"
            ),
        }
    }
}

/// One proof; each call is repeated with its request id until it is answered.
async fn prove_once(story: &Story, replica: usize, entry: &sandbox::Person) -> Result<identity::Transaction, Status> {
    let begin = story.enrolment(entry);
    let transaction = until_answered(async || story.challenge(replica, begin.clone()).await).await?;
    let otp = until_answered(async || story.otp(&entry.mobile).await).await?;
    let proof = story.verification(&transaction.name, &otp);
    until_answered(async || story.verify(replica, proof.clone()).await).await
}

/// Each has one number, still, and one event tells of it.
pub(super) async fn check(story: &Story, enrolled: &[Person]) {
    let mut numbers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for person in enrolled {
        let number = person.account.abha_number.as_str();
        numbers.entry(&person.entry.aadhaar).or_default().insert(number);
    }
    assert_eq!(numbers.len(), PEOPLE);
    assert!(
        numbers.values().all(|n| n.len() == 1),
        "a person has one number: {numbers:?}"
    );
    let distinct: BTreeSet<_> = numbers.values().flatten().collect();
    assert_eq!(distinct.len(), PEOPLE, "a number is issued once");
    // Nobody new is nobody lost.
    for person in enrolled.iter().take(PEOPLE).step_by(5) {
        let again = story.enrol(&person.entry).await.unwrap();
        assert!(!again.is_new);
        assert_eq!(again.account.abha_number, person.account.abha_number);
    }
    let told = told(story, "identity.enrolled").await;
    assert_eq!(told, PEOPLE, "one leaf for each who was enrolled");
}

/// How many leaves of this type there are.
async fn told(story: &Story, event_type: &str) -> usize {
    let now = SystemClock.now();
    let day = std::time::Duration::from_secs(86_400);
    let request = ListEventsRequest {
        page_size: 1000,
        event_type_prefix: event_type.to_owned(),
        occurred_range: Some(types::TimeRange {
            from: at(now.minus(day)),
            to: at(now.plus(day)),
        }),
        ..Default::default()
    };
    let mut client = LogServiceClient::new(story.operator.audit());
    client.list_events(request).await.unwrap().into_inner().events.len()
}
