//! Studies: their states, whom they may ask, as whom they know people, and what they are told of them.

use std::collections::BTreeSet;

use prost::Message;
use sammati_api::audit::v1::Event;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent::{Origin, State as ConsentState};
use sammati_api::consent::v1::consent_request::State as RequestState;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::invitation::Outcome;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_api::consent::v1::policy::Effect;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::consent::v1::study::State;
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_api::types::v1 as types;
use sammati_consent::study::settle;
use sammati_kernel::{AccountId, Caller, Reason};
use tonic::{Response, Status};

use crate::world::{DAY, World, by, everywhere, operator, participant, professional, reason, refused};

const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A study of the hospital's and the lab's patients, for 100 days.
pub(crate) fn described(w: &World) -> api::CreateStudyRequest {
    let mut scope = w.scope();
    scope.purpose.as_mut().unwrap().code = types::PurposeCode::Dsrch.into();
    scope.access_mode = types::AccessMode::Query.into();
    scope.erase_time = w.at(90 * DAY);
    scope.max_uses = 3;
    api::CreateStudyRequest {
        title: "Anaemia in Pune".into(),
        ethics_approval: Some(api::EthicsApproval {
            body: "IEC of City Hospital".into(),
            number: "IEC/2026/17".into(),
            sha256: HASH.into(),
            until_time: w.at(100 * DAY),
        }),
        scope: Some(scope),
        protocol_sha256: HASH.into(),
        nodes: vec!["participants/hospital".into(), "participants/lab".into()],
        investigator: Some(professional()),
        request_id: w.request_id(),
        ..Default::default()
    }
}

pub(crate) async fn create(w: &World, sponsor: &str, request: api::CreateStudyRequest) -> Result<api::Study, Status> {
    let created = w.rpc().create_study(by(&participant(sponsor), request)).await;
    created.map(Response::into_inner)
}

pub(crate) async fn activate(w: &World, name: &str) -> Result<api::Study, Status> {
    let request = api::ActivateStudyRequest {
        name: name.to_owned(),
        request_id: w.request_id(),
        ..Default::default()
    };
    let moved = w.rpc().activate_study(by(&operator(), request)).await;
    moved.map(Response::into_inner)
}

pub(crate) async fn close(w: &World, who: &Caller, name: &str) -> Result<api::Study, Status> {
    let request = api::CloseStudyRequest {
        name: name.to_owned(),
        request_id: w.request_id(),
        ..Default::default()
    };
    w.rpc().close_study(by(who, request)).await.map(Response::into_inner)
}

pub(crate) async fn get(w: &World, who: &Caller, name: &str) -> Result<api::Study, Status> {
    let request = api::GetStudyRequest { name: name.to_owned() };
    w.rpc().get_study(by(who, request)).await.map(Response::into_inner)
}

/// An active study of a sponsor.
pub(crate) async fn active(w: &World, sponsor: &str) -> api::Study {
    let study = create(w, sponsor, described(w)).await.unwrap();
    activate(w, &study.name).await.unwrap()
}

/// A person with an address, linked at a provider under a reference.
pub(crate) async fn patient(w: &World, hip: &str, address: &str, reference: &str) -> AccountId {
    let account = w.person(address);
    link(w, hip, address, reference).await;
    account
}

async fn link(w: &World, hip: &str, address: &str, reference: &str) {
    let token = w.link_token_of(hip, address, 1990).await.unwrap().link_token;
    let mut links = w.links(&token, &[&format!("visit of {reference}")]);
    links.patient_reference = reference.to_owned();
    links.care_contexts[0].patient_reference = reference.to_owned();
    w.link_of(hip, links).await.unwrap();
}

fn inviting(w: &World, study: &str, references: &[&str]) -> api::InviteSubjectsRequest {
    api::InviteSubjectsRequest {
        study: study.to_owned(),
        patient_references: references.iter().map(|text| (*text).to_owned()).collect(),
        language: "hi".into(),
        request_id: w.request_id(),
    }
}

async fn send(w: &World, hip: &str, request: api::InviteSubjectsRequest) -> Result<Vec<Outcome>, Status> {
    let answer = w
        .rpc()
        .invite_subjects(by(&participant(hip), request))
        .await?
        .into_inner();
    let outcomes: Vec<_> = answer
        .invitations
        .iter()
        .map(|invitation| invitation.outcome())
        .collect();
    let accepted = outcomes.iter().filter(|outcome| **outcome == Outcome::Accepted).count();
    assert_eq!(usize::try_from(answer.accepted_count).unwrap(), accepted);
    Ok(outcomes)
}

pub(crate) async fn invite(w: &World, hip: &str, study: &str, references: &[&str]) -> Result<Vec<Outcome>, Status> {
    send(w, hip, inviting(w, study, references)).await
}

/// What asks her.
async fn requests(w: &World, she: &Caller) -> Vec<api::ConsentRequest> {
    let listed = w.rpc().list_consent_requests(by(she, Default::default())).await;
    listed.unwrap().into_inner().consent_requests
}

/// She takes part: what asks her is granted.
pub(crate) async fn joins(w: &World, she: &Caller) -> api::Consent {
    let open = requests(w, she)
        .await
        .into_iter()
        .find(|r| r.state() == RequestState::Requested);
    let approval = w.approval(&open.unwrap());
    w.approve(she, approval).await.unwrap().consents.remove(0)
}

/// Somebody at the hospital who takes part in a study.
pub(crate) async fn member(w: &World, study: &str, address: &str, reference: &str) -> (Caller, api::Consent) {
    let account = patient(w, "hospital", address, reference).await;
    assert_eq!(
        invite(w, "hospital", study, &[reference]).await.unwrap(),
        [Outcome::Accepted]
    );
    let she = w.she(account);
    let consent = joins(w, &she).await;
    (she, consent)
}

pub(crate) async fn pseudonyms(w: &World, hip: &str, study: &str, references: &[&str]) -> Vec<(String, String)> {
    let request = api::MapPseudonymsRequest {
        study: study.to_owned(),
        patient_references: references.iter().map(|text| (*text).to_owned()).collect(),
    };
    let mapped = w.rpc().map_pseudonyms(by(&participant(hip), request)).await.unwrap();
    let mapped = mapped.into_inner().pseudonyms.into_iter();
    mapped.map(|one| (one.patient_reference, one.pseudonym)).collect()
}

#[test]
fn c1_every_verb_in_every_state_has_its_outcome() {
    everywhere(async |w| {
        let sponsor = participant("institute");
        let study = create(&w, "institute", described(&w)).await.unwrap();
        assert_eq!((study.state(), study.min_cell), (State::Draft, 10));
        assert!(study.pseudonym_key_id.is_empty() && study.activate_time.is_none());
        let refusal = refused(close(&w, &sponsor, &study.name).await);
        assert_eq!(refusal.reason, Reason::StateConflict);

        let study = activate(&w, &study.name).await.unwrap();
        assert_eq!((study.state(), study.pseudonym_key_id.len()), (State::Active, 26));
        assert_eq!(reason(activate(&w, &study.name).await), Reason::StateConflict);
        // Its own alone ends it.
        assert_eq!(
            reason(close(&w, &participant("university"), &study.name).await),
            Reason::NotAvailable
        );

        let study = close(&w, &sponsor, &study.name).await.unwrap();
        assert_eq!((study.state(), study.close_time), (State::Closed, w.at(0)));
        assert_eq!(study.key_destroy_time, w.at(7 * 365 * DAY));
        for again in [
            close(&w, &operator(), &study.name).await,
            activate(&w, &study.name).await,
        ] {
            assert_eq!(reason(again), Reason::StateConflict);
        }
        for (event, count) in [("study.created", 1), ("study.activated", 1), ("study.closed", 1)] {
            assert_eq!(w.count(event).await, count, "{event}");
        }
        // Sponsor and nodes hear of both changes.
        for who in ["institute", "hospital", "lab"] {
            let heard = w.notifications(&participant(who)).await;
            let heard: Vec<_> = heard.iter().map(|n| (n.kind(), n.resource.clone())).collect();
            assert_eq!(heard, vec![(Kind::StudyChanged, study.name.clone()); 2], "{who}");
        }
    });
}

#[test]
fn a_study_rests_on_an_approval_that_holds_and_ends_with_it() {
    everywhere(async |w| {
        let lacks = api::CreateStudyRequest {
            ethics_approval: None,
            ..described(&w)
        };
        assert_eq!(reason(create(&w, "institute", lacks).await), Reason::EthicsRequired);
        let mut over = described(&w);
        over.ethics_approval.as_mut().unwrap().until_time = w.at(0);
        assert_eq!(reason(create(&w, "institute", over).await), Reason::EthicsRequired);
        let mut longer = described(&w);
        longer.scope.as_mut().unwrap().erase_time = w.at(101 * DAY);
        assert_eq!(reason(create(&w, "institute", longer).await), Reason::ScopeInvalid);
        let mut other = described(&w);
        other.scope.as_mut().unwrap().purpose.as_mut().unwrap().code = types::PurposeCode::Caremgt.into();
        assert_eq!(reason(create(&w, "institute", other).await), Reason::FieldInvalid);
        let mut unknown = described(&w);
        unknown.nodes.push("participants/clinic".into());
        assert_eq!(reason(create(&w, "institute", unknown).await), Reason::HipUnknown);

        let late = create(&w, "institute", described(&w)).await.unwrap();
        let study = active(&w, "institute").await;
        w.advance(100 * DAY);
        assert_eq!(reason(activate(&w, &late.name).await), Reason::EthicsExpired);
        // Seen at once, written once, by whoever comes first.
        assert_eq!(get(&w, &operator(), &study.name).await.unwrap().state(), State::Closed);
        assert_eq!(w.count("study.closed").await, 0);
        let all = w.replicas.iter().map(|(_, store)| settle::sweep(store));
        for done in futures::future::join_all(all).await {
            done.unwrap();
        }
        assert_eq!(w.count("study.closed").await, 1);
        let closed = get(&w, &participant("institute"), &study.name).await.unwrap();
        assert_eq!((closed.state(), closed.close_time), (State::Closed, w.at(0)));
    });
}

#[test]
fn what_is_open_ends_with_the_study_and_its_key_seven_years_later() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let (she, consent) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        let other = w.she(patient(&w, "hospital", "meera.joshi@sbx", "MRN-2").await);
        invite(&w, "hospital", &study.name, &["MRN-2"]).await.unwrap();

        close(&w, &participant("institute"), &study.name).await.unwrap();
        let read = api::GetConsentRequest {
            name: consent.name.clone(),
        };
        let ended = w.rpc().get_consent(by(&she, read)).await.unwrap().into_inner();
        assert_eq!((ended.state(), ended.end_time), (ConsentState::Expired, w.at(0)));
        assert_eq!(requests(&w, &other).await[0].state(), RequestState::Cancelled);
        let approval = w.approval(&requests(&w, &other).await[0]);
        assert_eq!(reason(w.approve(&other, approval).await), Reason::StateConflict);
        assert_eq!(
            reason(invite(&w, "hospital", &study.name, &["MRN-2"]).await),
            Reason::StudyNotActive
        );
        // Whom it knew its nodes can still name, to erase what they derived.
        assert_eq!(pseudonyms(&w, "hospital", &study.name, &["MRN-1"]).await.len(), 1);

        w.advance(60);
        settle::sweep(w.store()).await.unwrap();
        w.advance(7 * 365 * DAY);
        settle::sweep(w.store()).await.unwrap();
        assert_eq!(w.count("study.key_destroyed").await, 1);
        let gone = get(&w, &operator(), &study.name).await.unwrap();
        assert!(gone.pseudonym_key_id.is_empty());
        let map = api::MapPseudonymsRequest {
            study: study.name.clone(),
            patient_references: vec!["MRN-1".into()],
        };
        let mapped = w.rpc().map_pseudonyms(by(&participant("hospital"), map)).await;
        assert_eq!(reason(mapped), Reason::StudyNotActive);
    });
}

#[test]
fn a_node_asks_patients_of_its_own_and_each_once_in_half_a_year() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let asha = patient(&w, "hospital", "asha.rao@sbx", "MRN-1").await;
        let away = patient(&w, "hospital", "away.now@sbx", "MRN-2").await;
        w.people.inactive.lock().unwrap().insert(away);
        let shy = patient(&w, "hospital", "shy.rao1990@sbx", "MRN-3").await;
        let deny = api::CreatePolicyRequest {
            effect: Effect::Deny.into(),
            purposes: vec![types::PurposeCode::Dsrch.into()],
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().create_policy(by(&w.she(shy), deny)).await.unwrap();
        let all = ["MRN-1", "MRN-2", "MRN-3", "MRN-4"];
        let call = inviting(&w, &study.name, &all);
        let expected = [
            Outcome::Accepted,
            Outcome::Unavailable,
            Outcome::Unavailable,
            Outcome::NotLinked,
        ];
        assert_eq!(send(&w, "hospital", call.clone()).await.unwrap(), expected);
        // A repeat asks nobody twice.
        assert_eq!(send(&w, "hospital", call).await.unwrap(), expected);
        assert_eq!(w.count("consent.requested").await, 1);
        let again = invite(&w, "hospital", &study.name, &["MRN-1"]).await.unwrap();
        assert_eq!(again, [Outcome::AskedBefore]);

        let asked = requests(&w, &w.she(asha)).await;
        assert_eq!((asked.len(), asked[0].study.as_str()), (1, study.name.as_str()));
        assert_eq!(asked[0].hips, ["participants/hospital"]);
        assert_eq!(
            (asked[0].hiu.as_str(), asked[0].patient.len()),
            ("participants/institute", 26)
        );
        assert_eq!(asked[0].notice.as_ref().unwrap().language, "hi");
        let told = w.notifications(&w.she(asha)).await;
        assert!(
            told.iter()
                .any(|n| n.kind() == Kind::ConsentRequested && n.resource == asked[0].name)
        );
        // She sees who asks; a stranger to the study does not.
        assert_eq!(get(&w, &w.she(asha), &study.name).await.unwrap().title, study.title);
        assert_eq!(reason(get(&w, &w.she(shy), &study.name).await), Reason::NotAvailable);
        let listed = async |who: &Caller| {
            let listed = w.rpc().list_studies(by(who, Default::default())).await;
            listed.unwrap().into_inner().studies.len()
        };
        for (who, count) in [
            (w.she(asha), 1),
            (w.she(shy), 0),
            (participant("institute"), 1),
            (participant("lab"), 1),
            (participant("university"), 0),
            (operator(), 1),
        ] {
            assert_eq!(listed(&who).await, count, "{}", who.id());
        }

        // Half a year later, in a study that lasts so long.
        let mut long = described(&w);
        long.ethics_approval.as_mut().unwrap().until_time = w.at(400 * DAY);
        long.scope.as_mut().unwrap().erase_time = w.at(399 * DAY);
        let long = create(&w, "institute", long).await.unwrap();
        activate(&w, &long.name).await.unwrap();
        for (days, outcome) in [
            (0, Outcome::Accepted),
            (179, Outcome::AskedBefore),
            (1, Outcome::Accepted),
        ] {
            w.advance(days * DAY);
            let told = invite(&w, "hospital", &long.name, &["MRN-1"]).await.unwrap();
            assert_eq!(told, [outcome], "{days}");
        }
        assert_eq!(
            reason(invite(&w, "hospital-9", &long.name, &["MRN-1"]).await),
            Reason::NodeNotInStudy
        );
    });
}

#[test]
fn withdrawal_reaches_the_study_by_pseudonym() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let (she, consent) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        assert_eq!(
            (consent.origin(), consent.study.as_str()),
            (Origin::Study, study.name.as_str())
        );
        let pause = api::PauseConsentRequest {
            name: consent.name.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().pause_consent(by(&she, pause)).await.unwrap();
        let resume = api::ResumeConsentRequest {
            name: consent.name.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().resume_consent(by(&she, resume)).await.unwrap();
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let (_, other) = member(&w, &study.name, "meera.joshi@sbx", "MRN-2").await;
        assert_ne!(other.patient, consent.patient);

        let mapped = pseudonyms(&w, "hospital", &study.name, &["MRN-1", "MRN-2", "MRN-9"]).await;
        assert_eq!(mapped.len(), 2);
        let heard = w.notifications(&participant("institute")).await;
        let of = |name: &str| {
            let of = heard.iter().filter(|n| n.pseudonym == name);
            of.map(|n| n.kind()).collect::<Vec<_>>()
        };
        use Kind::{ConsentGranted, ConsentPaused, ConsentResumed, ConsentRevoked};
        assert_eq!(
            of(&mapped[0].1),
            [ConsentGranted, ConsentPaused, ConsentResumed, ConsentRevoked]
        );
        assert_eq!(of(&mapped[1].1), [ConsentGranted]);
        assert_eq!(
            (consent.patient, other.patient),
            (mapped[0].1.clone(), mapped[1].1.clone())
        );
        // By time as well.
        w.advance(90 * DAY);
        sammati_consent::sweep::sweep(w.store()).await.unwrap();
        let heard = w.notifications(&participant("institute")).await;
        assert!(
            heard
                .iter()
                .any(|n| n.kind() == Kind::ConsentExpired && n.pseudonym == mapped[1].1)
        );
        // It takes them in by place, for it has no names of them.
        let acknowledge = api::AcknowledgeNotificationsRequest {
            up_to: heard.last().unwrap().position.clone(),
            outcome: api::acknowledge_notifications_request::Outcome::Ok.into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let done = w
            .rpc()
            .acknowledge_notifications(by(&participant("institute"), acknowledge))
            .await;
        assert_eq!(
            done.unwrap().into_inner().acknowledged_count,
            i32::try_from(heard.len()).unwrap()
        );
    });
}

/// What of hers no study may ever see.
async fn canaries(w: &World, she: &Caller, address: &str, reference: &str) -> Vec<Vec<u8>> {
    let account = she.account().unwrap();
    let mut found = vec![
        address.as_bytes().to_vec(),
        reference.as_bytes().to_vec(),
        account.to_vec(),
    ];
    found.push(account.to_string().into_bytes());
    for request in requests(w, she).await {
        found.push(request.name.split('/').next_back().unwrap().as_bytes().to_vec());
        for consent in request.consents {
            found.push(consent.split('/').next_back().unwrap().as_bytes().to_vec());
        }
    }
    found
}

fn holds(bytes: &[u8], canary: &[u8]) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary)
}

/// Everything that a sponsor is answered or told.
async fn all_of(w: &World, sponsor: &str, study: &str) -> Vec<Vec<u8>> {
    let who = participant(sponsor);
    let mut all = vec![get(w, &who, study).await.unwrap().encode_to_vec()];
    let listed = w.rpc().list_studies(by(&who, Default::default())).await.unwrap();
    all.push(listed.into_inner().encode_to_vec());
    all.extend(w.notifications(&who).await.iter().map(Message::encode_to_vec));
    let listed = w.rpc().list_notifications(by(&who, Default::default())).await.unwrap();
    all.push(listed.into_inner().encode_to_vec());
    let count = api::CountCohortRequest {
        study: study.to_owned(),
    };
    all.push(
        w.rpc()
            .count_cohort(by(&who, count))
            .await
            .unwrap()
            .into_inner()
            .encode_to_vec(),
    );
    all.extend(
        crate::cohorts::checked(w, &who, study, "")
            .await
            .unwrap()
            .iter()
            .map(Message::encode_to_vec),
    );
    // What it would ask with the roles of a HIU.
    for listed in [
        w.rpc()
            .list_consents(by(&who, Default::default()))
            .await
            .unwrap()
            .into_inner()
            .consents
            .len(),
        requests(w, &who).await.len(),
    ] {
        assert_eq!(listed, 0);
    }
    all
}

/// The events in which a participant is a party: what the log would show it.
fn party(events: &[Event], name: &str) -> Vec<Event> {
    let names = |event: &&Event| {
        let payload = event.payload.clone().unwrap_or_default();
        let actor = payload.actor.unwrap_or_default().id;
        actor == name || payload.object_refs.iter().any(|object| object == name)
    };
    events.iter().filter(names).cloned().collect()
}

#[test]
fn s1_no_answer_event_or_notification_shows_a_study_who_somebody_is() {
    everywhere(async |w| {
        let mut request = described(&w);
        request.nodes.truncate(1);
        let study = create(&w, "sponsor", request).await.unwrap();
        activate(&w, &study.name).await.unwrap();
        let mut hers = Vec::new();
        for n in 0..11 {
            let (address, reference) = (format!("patient.no{n}@sbx"), format!("MRN-0{n}-x"));
            let (she, consent) = member(&w, &study.name, &address, &reference).await;
            hers.push((she, consent, address, reference));
        }
        let run = w.request_id();
        crate::cohorts::authorized(&w, w.rpc(), "hospital", &study.name, &run)
            .await
            .unwrap();
        w.revoke(&hers[0].0, &[&hers[0].1.name]).await.unwrap();
        let sponsor = participant("sponsor");
        // It guesses: an address, a consent.
        let (_, consent, address, _) = &hers[1];
        let subject = types::Identifier {
            identifier: Some(types::identifier::Identifier::AbhaAddress(address.clone())),
        };
        for target in [
            api::check_access_request::Target::Subject(subject),
            api::check_access_request::Target::Consent(consent.name.clone()),
        ] {
            let check = api::CheckAccessRequest {
                target: Some(target),
                requester: "participants/sponsor".into(),
                provider: "participants/hospital".into(),
                purpose: types::PurposeCode::Dsrch.into(),
                access_mode: types::AccessMode::Query.into(),
                hi_types: vec![types::HiType::Prescription.into()],
                record_range: Some(types::TimeRange {
                    from: w.at(-100 * DAY),
                    to: w.at(-DAY),
                }),
                ..Default::default()
            };
            let told = w.rpc().check_access(by(&sponsor, check)).await.unwrap().into_inner();
            assert_eq!(told.reason(), api::decision::Reason::NoConsent);
            assert!(told.consent.is_empty());
        }
        let read = api::GetConsentRequest {
            name: consent.name.clone(),
        };
        assert_eq!(
            reason(w.rpc().get_consent(by(&sponsor, read)).await),
            Reason::NotAvailable
        );
        let read = api::GetConsentRequestRequest {
            name: consent.request.clone(),
        };
        assert_eq!(
            reason(w.rpc().get_consent_request(by(&sponsor, read)).await),
            Reason::NotAvailable
        );

        let told = all_of(&w, "sponsor", &study.name).await;
        assert!(told.len() >= 15);
        w.rpc().flush_denials(true).await;
        let events = party(&w.events().await, "participants/sponsor");
        // Its guesses name whom it guessed: it knew her before. Of all else it learns nobody.
        let events: Vec<_> = events
            .into_iter()
            .filter(|event| event.event_type != "access.denied")
            .collect();
        assert!(events.len() >= 4);
        for (she, _, address, reference) in &hers {
            for canary in canaries(&w, she, address, reference).await {
                for bytes in told
                    .iter()
                    .chain(&events.iter().map(Message::encode_to_vec).collect::<Vec<_>>())
                {
                    assert!(!holds(bytes, &canary), "{}", String::from_utf8_lossy(&canary));
                }
            }
        }
        // The log of hers does say who looked, by the study's name.
        let hers_in_log = w
            .events()
            .await
            .into_iter()
            .filter(|event| event.event_type == "access.authorized");
        assert!(
            hers_in_log
                .filter(|event| event.payload.clone().unwrap().object_refs.contains(&study.name))
                .count()
                == 11
        );
    });
}

/// The words of a message: what two studies could compare.
fn words(bytes: &[u8]) -> BTreeSet<String> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_/".contains(byte);
    let words = bytes.split(|byte| !plain(byte)).filter(|word| word.len() >= 12);
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[test]
fn two_studies_cannot_join_their_people() {
    everywhere(async |w| {
        let mut all = Vec::new();
        for (n, sponsor) in ["institute", "university"].into_iter().enumerate() {
            let mut request = described(&w);
            request.title = format!("Study no {n}");
            request.nodes.truncate(1);
            let study = create(&w, sponsor, request).await.unwrap();
            activate(&w, &study.name).await.unwrap();
            all.push((sponsor, study));
        }
        for n in 0..10 {
            let (address, reference) = (format!("patient.no{n}@sbx"), format!("MRN-{n}"));
            let she = w.she(patient(&w, "hospital", &address, &reference).await);
            let mut names = Vec::new();
            for (_, study) in &all {
                invite(&w, "hospital", &study.name, &[&reference]).await.unwrap();
                names.push(joins(&w, &she).await.patient);
            }
            assert_ne!(names[0], names[1]);
        }
        let mut seen = Vec::new();
        for (sponsor, study) in &all {
            let told = all_of(&w, sponsor, &study.name).await;
            seen.push(told.iter().flat_map(|bytes| words(bytes)).collect::<BTreeSet<_>>());
        }
        let mut both: Vec<_> = seen[0].intersection(&seen[1]).cloned().collect();
        // What is public of the hospital, the approval, the investigator and the notice, and of manifests in general.
        both.retain(|word| {
            let public = [
                "participants/hospital",
                "www",
                "notices/",
                "eyJhbGci",
                "terminology",
                "PurposeOfUse",
                HASH,
            ];
            !public.iter().any(|public| word.contains(public))
        });
        let notice = all[0].1.notice.clone().unwrap();
        both.retain(|word| !word.contains(&notice.sha256));
        assert_eq!(both, Vec::<String>::new());
    });
}
