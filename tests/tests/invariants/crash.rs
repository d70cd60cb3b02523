//! `kill -9` of real processes under load: nothing acknowledged is missing, the log verifies, the relay catches up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::{GetCheckpointRequest, GetConsistencyProofRequest};
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::{self as consent, consent::State};
use sammati_kernel::{Seed, SystemClock};
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Verifier, open};
use sammati_log::hash::leaf_hash;
use sammati_log::proof::{parse_path, verify_consistency};
use sammati_tests::story::{Person, Story};
use sammati_tests::system::{Processes, Setting};
use tonic::{Code, Status};

use crate::worlds::count;

const KILLS: usize = 20;
const PEOPLE: usize = 6;

/// What was acknowledged: consents that were given, and whether they were taken back.
#[derive(Default)]
struct Journal {
    enrolled: Mutex<BTreeMap<String, String>>,
    given: Mutex<BTreeSet<String>>,
    revoked: Mutex<BTreeSet<String>>,
    done: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_o1_n1_nothing_acknowledged_is_lost_by_20_kills_under_load() {
    let mut system = Processes::start(Setting::new()).await.unwrap();
    let mut story = Story::new(&system.addresses, Arc::new(SystemClock)).unwrap();
    story.open().await.unwrap();
    // Each with a mobile of her own: an OTP is read from the newest message there.
    let mut mobiles = BTreeSet::new();
    let people: Vec<_> = story
        .people()
        .await
        .unwrap()
        .into_iter()
        .filter(|p| !p.mobile.is_empty() && mobiles.insert(p.mobile.clone()))
        .take(PEOPLE)
        .collect();
    let story = Arc::new(story);
    let journal = Arc::new(Journal::default());
    let stop = Arc::new(AtomicBool::new(false));
    let checkpoint = first_checkpoint(&story).await;
    let load: Vec<_> = people
        .into_iter()
        .map(|entry| {
            let (story, journal, stop) = (Arc::clone(&story), Arc::clone(&journal), Arc::clone(&stop));
            tokio::spawn(async move { live(&story, &journal, &stop, &entry).await })
        })
        .collect();
    // The sandbox keeps its people and messages in memory: killing it would only forget an OTP.
    let names = ["identity", "consent", "audit"];
    for n in 0..KILLS {
        let mark = journal.done.load(Ordering::SeqCst) + 3;
        until(|| journal.done.load(Ordering::SeqCst) >= mark).await;
        let victim = names[usize::try_from(Seed::draw().unwrap().below("victim", 3)).unwrap()];
        system.kill(victim).await.unwrap();
        system
            .launch(victim)
            .await
            .unwrap_or_else(|error| panic!("kill {n} of {victim}: {error}"));
    }
    stop.store(true, Ordering::SeqCst);
    let people: Vec<Person> = join_all(load).await.into_iter().map(Result::unwrap).collect();
    check(&story, &journal, &people).await;
    check_log(&story, checkpoint).await;
    system.stop().await;
}

/// Waits for something that others do.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Whether a client is told to try again.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded
    ) || status.message().contains("transport")
}

/// Tries until there is an answer, as clients are told to.
macro_rules! persist {
    ($call:expr) => {
        loop {
            match $call.await {
                Ok(answer) => break answer,
                Err(status) if is_passing(&status) => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Err(status) => panic!("{status:?}"),
            }
        }
    };
}

/// Enrols, then gives and takes back consents until told to stop.
async fn live(story: &Story, journal: &Journal, stop: &AtomicBool, entry: &sammati_api::sandbox::v1::Person) -> Person {
    let person = persist!(story.enrol(entry));
    journal
        .enrolled
        .lock()
        .unwrap()
        .insert(person.account.name.clone(), person.account.abha_number.clone());
    journal.done.fetch_add(1, Ordering::SeqCst);
    persist!(story.link(&person, &[&format!("OPD-{}", entry.mobile)]));
    while !stop.load(Ordering::SeqCst) {
        let request = persist!(story.ask(&person, story.scope()));
        // One request id for the intent, however often it is sent.
        let approval = story.approval(&request, None);
        let given = persist!(approve(&person, &approval));
        journal.given.lock().unwrap().insert(given.clone());
        journal.done.fetch_add(1, Ordering::SeqCst);
        let revocation = consent::RevokeConsentsRequest {
            names: vec![given.clone()],
            request_id: story.rid(),
            ..Default::default()
        };
        let answer = persist!(revoke(&person, &revocation));
        assert_eq!(answer.consents[0].state(), State::Revoked);
        journal.revoked.lock().unwrap().insert(given);
        journal.done.fetch_add(1, Ordering::SeqCst);
    }
    person
}

async fn approve(person: &Person, approval: &consent::ApproveConsentRequestRequest) -> Result<String, Status> {
    let mut client = consent::consent_request_service_client::ConsentRequestServiceClient::new(person.who.consent());
    let answer = client.approve_consent_request(approval.clone()).await?.into_inner();
    assert_eq!(answer.consents.len(), 1, "one artefact set, also on a repeat");
    Ok(answer.consents[0].name.clone())
}

async fn revoke(
    person: &Person,
    request: &consent::RevokeConsentsRequest,
) -> Result<consent::RevokeConsentsResponse, Status> {
    Ok(ConsentServiceClient::new(person.who.consent())
        .revoke_consents(request.clone())
        .await?
        .into_inner())
}

async fn check(story: &Story, journal: &Journal, people: &[Person]) {
    let (given, revoked) = (
        journal.given.lock().unwrap().clone(),
        journal.revoked.lock().unwrap().clone(),
    );
    assert!(revoked.len() >= KILLS, "there was load: {} revokes", revoked.len());
    let mut seen = BTreeSet::new();
    for person in people {
        // The same Aadhaar again: the same number.
        let again = persist!(story.enrol(&person.entry));
        assert_eq!(
            again.account.abha_number,
            journal.enrolled.lock().unwrap()[&person.account.name]
        );
        assert!(!again.is_new);
        let mut client = ConsentServiceClient::new(again.who.consent());
        let request = consent::ListConsentsRequest {
            page_size: 1000,
            ..Default::default()
        };
        let consents = client.list_consents(request).await.unwrap().into_inner().consents;
        let withdrawn = consents.iter().filter(|c| c.state() == State::Revoked).count();
        for consent in &consents {
            assert!(seen.insert(consent.name.clone()));
            if revoked.contains(&consent.name) {
                assert_eq!(
                    consent.state(),
                    State::Revoked,
                    "an acknowledged revoke of {} is lost",
                    consent.name
                );
            }
        }
        caught_up(story, &again, consents.len(), withdrawn).await;
    }
    assert!(given.is_subset(&seen), "an acknowledged consent is lost");
}

/// The log has one leaf for each grant and each withdrawal.
async fn caught_up(story: &Story, person: &Person, granted: usize, withdrawn: usize) {
    for _ in 0..400 {
        let trail = persist!(story.trail(person));
        let found = (
            count(&trail, "consent.granted", ""),
            count(&trail, "consent.withdrawn", ""),
        );
        assert!(
            found.0 <= granted && found.1 <= withdrawn,
            "{found:?} leaves for {granted} grants, {withdrawn} withdrawals"
        );
        if found == (granted, withdrawn) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the relay did not catch up");
}

async fn first_checkpoint(story: &Story) -> String {
    let mut client = ProofServiceClient::new(story.operator.audit());
    let log = story.log().await.unwrap().name;
    client
        .get_checkpoint(GetCheckpointRequest { log, size: 0 })
        .await
        .unwrap()
        .into_inner()
        .note
}

/// The first checkpoint and the last are of one log, and the newest events are in it.
async fn check_log(story: &Story, first: String) {
    let mut client = ProofServiceClient::new(story.operator.audit());
    let log = story.log().await.unwrap();
    let keys = [Verifier::parse(&log.vkey).unwrap()];
    let request = GetCheckpointRequest {
        log: log.name.clone(),
        size: 0,
    };
    let last = client.get_checkpoint(request).await.unwrap().into_inner().note;
    let (old, new) = (open(&first, &keys).unwrap(), open(&last, &keys).unwrap());
    assert!(new.size() > old.size());
    if old.size() > 0 {
        let (first, second) = (i64::try_from(old.size()).unwrap(), i64::try_from(new.size()).unwrap());
        let request = GetConsistencyProofRequest {
            log: log.name.clone(),
            first,
            second,
        };
        let proof = client.get_consistency_proof(request).await.unwrap().into_inner();
        let path = parse_path(&proof.proof).unwrap();
        verify_consistency(old.size(), new.size(), old.root(), new.root(), &path).unwrap();
    }
    for index in (0..new.size()).rev().take(50) {
        let request = sammati_api::audit::v1::GetProofRequest {
            log: log.name.clone(),
            event: Some(sammati_api::audit::v1::get_proof_request::Event::Index(
                i64::try_from(index).unwrap(),
            )),
            ..Default::default()
        };
        let proof = client.get_proof(request).await.unwrap().into_inner();
        let bundle: Bundle = proof.proof.parse().unwrap();
        bundle.verify(leaf_hash(&proof.leaf), &keys).unwrap();
    }
}
