//! What clients saw, held against one order: transitions, decisions and reads of a few consents, through every replica,
//! while processes are killed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::join_all;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_api::consent::v1::{self as api, authorize_access_request, check_access_request};
use sammati_api::types::v1::{Identifier, identifier};
use sammati_kernel::{Clock, SystemClock};
use sammati_tests::history::{Answer, Model, Recorder, What, check, told};
use sammati_tests::retry::{is_passing, until_answered};
use sammati_tests::story::{Person, Story, at};
use sammati_tests::system::Processes;
use tonic::{Response, Status};

use crate::crash::{below, until};
use crate::worlds::settings;

/// In each round; every one's is the only request that was ever made to her.
const PEOPLE: usize = 5;
/// So many rounds, then more until chance has brought every kind of answer; but so many at most.
const ROUNDS: usize = 2;
const MOST_ROUNDS: usize = 5;
/// What somebody must be told for a history to say something.
const KINDS: [&str; 6] = [
    "Approved",
    "Decided(Granted)",
    "Revoked",
    "Permit",
    "Deny(NoConsent)",
    "Request(Granted)",
];
/// About each consent at once.
const CLIENTS: usize = 10;
/// One after another, of each client.
const CALLS: usize = 20;
/// Fewer than the authorizes that are tried.
const USES: u32 = 25;
/// A consent that time takes part in lives so long, and its end is told of exactly but for this: what clocks may differ.
const LIFE: Duration = Duration::from_secs(3);
const SKEW: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn c1_c2_c4_i1_what_clients_saw_while_replicas_were_killed_is_as_if_one_after_another() {
    for setting in settings() {
        let victims = if setting.replicas > 1 {
            ["consent", "consent-2"]
        } else {
            ["consent"; 2]
        };
        let mut system = Processes::start(setting).await.unwrap();
        let mut seen = BTreeSet::new();
        let mut interrupted = 0;
        for round in 0..MOST_ROUNDS {
            if round >= ROUNDS && interrupted > 0 && unseen(&seen).is_empty() {
                break;
            }
            let story = story(&system).await;
            let cases = asked(&story, round).await;
            run(&mut system, &cases, victims).await;
            for case in &cases {
                let history = case.recorder.history();
                interrupted += case.interrupted.load(Ordering::SeqCst);
                seen.extend(
                    history
                        .iter()
                        .filter_map(|o| o.answer)
                        .map(|answer| format!("{answer:?}")),
                );
                check(Model::requested(USES), &history).unwrap_or_else(|wrong| panic!("{wrong}\nof {history:#?}"));
            }
        }
        assert!(interrupted > 0, "nobody noticed that a process was killed");
        assert_eq!(unseen(&seen), [""; 0], "nobody saw this: {seen:?}");
        system.stop().await;
    }
}

/// The kinds that nobody was told.
fn unseen(seen: &BTreeSet<String>) -> Vec<&'static str> {
    let is_seen = |kind: &str| seen.iter().any(|answer| answer.starts_with(kind));
    KINDS.into_iter().filter(|kind| !is_seen(kind)).collect()
}

async fn story(system: &Processes) -> Story {
    let mut story = Story::new(&system.addresses, Arc::new(SystemClock)).unwrap();
    story.open().await.unwrap();
    story
}

/// One person's request, and what is done about it.
struct Case<'a> {
    story: &'a Story,
    person: Person,
    request: api::ConsentRequest,
    /// Known to all as soon as it is to one.
    consent: OnceLock<String>,
    recorder: Recorder,
    interrupted: AtomicUsize,
}

/// Everybody of a round is enrolled and asked.
async fn asked(story: &Story, round: usize) -> Vec<Case<'_>> {
    let mut mobiles = BTreeSet::new();
    let people = story.people().await.unwrap();
    let reachable = people
        .iter()
        .filter(|p| !p.mobile.is_empty() && mobiles.insert(&p.mobile));
    let mut persons = Vec::new();
    for entry in reachable.skip(round * PEOPLE).take(PEOPLE) {
        persons.push(story.enrol(entry).await.unwrap());
    }
    let mut cases = Vec::new();
    for (n, person) in persons.into_iter().enumerate() {
        let mut scope = story.scope();
        scope.max_uses = i32::try_from(USES).unwrap();
        let recorder = Recorder::new();
        // Time takes part in some.
        if n % 3 == 2 {
            let (now, here) = (SystemClock.now(), recorder.now());
            scope.erase_time = at(now.plus(LIFE));
            recorder.ends(here + LIFE, SKEW);
        }
        cases.push(Case {
            story,
            request: story.ask(&person, scope).await.unwrap(),
            person,
            consent: OnceLock::new(),
            recorder,
            interrupted: AtomicUsize::new(0),
        });
    }
    cases
}

/// All clients at once, while `victims` are killed and started again, one after another.
async fn run(system: &mut Processes, cases: &[Case<'_>], victims: [&str; 2]) {
    let (done, all) = (AtomicUsize::new(0), PEOPLE * CLIENTS * CALLS);
    let clients = cases.iter().flat_map(|case| (0..CLIENTS).map(move |n| (case, n)));
    let clients = clients.map(|(case, n)| {
        let done = &done;
        async move {
            for step in 0..CALLS {
                case.call(n, what(n, step), below(2) == 0).await;
                done.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let kills = async {
        for (n, name) in victims.into_iter().enumerate() {
            // Anywhere in the first or in the second half.
            until(&done, all * n / 2 + below(all * 2 / 5)).await;
            system.kill(name).await.unwrap();
            system.launch(name).await.unwrap();
        }
    };
    tokio::join!(join_all(clients), kills);
    // What is there in the end is there on each replica.
    for case in cases {
        for replica in 0..victims.len() {
            for what in [What::GetRequest, What::GetConsent, What::Check] {
                case.call(replica, what, true).await;
            }
        }
    }
}

/// First she decides, then others use what she gave, then she may take it back; and everybody looks all the time.
fn what(client: usize, step: usize) -> What {
    let reads = [What::Check, What::Check, What::GetRequest, What::GetConsent];
    let stage = [What::Approve, What::Authorize, What::Authorize, What::Revoke][step * 4 / CALLS];
    match below(12) {
        0 if step < CALLS / 2 && client.is_multiple_of(3) => What::Deny,
        n if n < 4 && stage != What::Revoke => stage,
        0 => What::Revoke,
        n => reads[n % reads.len()],
    }
}

impl Case<'_> {
    /// One call, and what came of it. One that got no answer is repeated with its request id, or given up.
    async fn call(&self, replica: usize, what: What, repeats: bool) {
        if self.consent.get().is_none() && matches!(what, What::Revoke | What::GetConsent) {
            return;
        }
        let call = async || match self.answer(replica, what, repeats).await {
            Ok(answer) => Some(answer),
            Err(status) if is_passing(&status) => None,
            Err(status) => panic!("{what:?}: {status:?}"),
        };
        self.recorder.call(what, call).await;
    }

    async fn answer(&self, replica: usize, what: What, repeats: bool) -> Result<Answer, Status> {
        let hers = || self.person.who.consent_at(replica);
        let hospital = || self.story.hospital.consent_at(replica);
        let name = self.consent.get().cloned().unwrap_or_default();
        match what {
            What::Approve => {
                let message = self.story.approval(&self.request, None);
                let call = async || {
                    ConsentRequestServiceClient::new(hers())
                        .approve_consent_request(message.clone())
                        .await
                };
                let told = self.send(repeats, call).await;
                self.learn(
                    told.as_ref()
                        .ok()
                        .and_then(|given| given.consents.first())
                        .map(|c| &c.name),
                );
                told::approval(told)
            }
            What::Deny => {
                let message = api::DenyConsentRequestRequest {
                    name: self.request.name.clone(),
                    request_id: self.story.rid(),
                    ..Default::default()
                };
                let call = async || {
                    ConsentRequestServiceClient::new(hers())
                        .deny_consent_request(message.clone())
                        .await
                };
                told::denial(self.send(repeats, call).await)
            }
            What::Revoke => {
                let message = api::RevokeConsentsRequest {
                    names: vec![name],
                    request_id: self.story.rid(),
                    ..Default::default()
                };
                let call = async || ConsentServiceClient::new(hers()).revoke_consents(message.clone()).await;
                told::revocation(self.send(repeats, call).await)
            }
            What::Check => {
                let mut message = self.story.question(&name);
                message.requester = "participants/clinic".into();
                if self.asks_by_subject() {
                    message.target = Some(check_access_request::Target::Subject(self.subject()));
                }
                let call = async || {
                    DecisionServiceClient::new(hospital())
                        .check_access(message.clone())
                        .await
                };
                told::decision(self.send(repeats, call).await)
            }
            What::Authorize => {
                let mut message = self.story.authorization(&name);
                if self.asks_by_subject() {
                    message.target = Some(authorize_access_request::Target::Subject(self.subject()));
                }
                let call = async || {
                    DecisionServiceClient::new(hospital())
                        .authorize_access(message.clone())
                        .await
                };
                told::decision(self.send(repeats, call).await)
            }
            What::GetRequest => {
                let message = api::GetConsentRequestRequest {
                    name: self.request.name.clone(),
                };
                let call = async || {
                    ConsentRequestServiceClient::new(hers())
                        .get_consent_request(message.clone())
                        .await
                };
                let told = self.send(repeats, call).await;
                self.learn(told.as_ref().ok().and_then(|request| request.consents.first()));
                told::request(told)
            }
            What::GetConsent => {
                let message = api::GetConsentRequest { name };
                let call = async || ConsentServiceClient::new(hers()).get_consent(message.clone()).await;
                told::consent(self.send(repeats, call).await)
            }
            What::EndNears | What::End => panic!("nobody's call"),
        }
    }

    async fn send<T>(
        &self,
        repeats: bool,
        mut call: impl AsyncFnMut() -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        let mut told = call().await;
        if told.as_ref().is_err_and(is_passing) {
            self.interrupted.fetch_add(1, Ordering::SeqCst);
            if repeats {
                told = until_answered(call).await;
            }
        }
        told.map(Response::into_inner)
    }

    fn learn(&self, name: Option<&String>) {
        if let Some(name) = name {
            let _ = self.consent.set(name.clone());
        }
    }

    /// A consent is asked about by its name, or, above all while that is not known, by whose it is.
    fn asks_by_subject(&self) -> bool {
        self.consent.get().is_none() || below(2) == 0
    }

    fn subject(&self) -> Identifier {
        Identifier {
            identifier: Some(identifier::Identifier::AbhaAddress(self.person.address())),
        }
    }
}
