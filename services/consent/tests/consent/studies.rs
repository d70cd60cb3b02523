//! Studies: their states, and how tests make them.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent::State as ConsentState;
use sammati_api::consent::v1::consent_request::State as RequestState;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::invitation::Outcome;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::study::State;
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_api::types::v1 as types;
use sammati_consent::study::settle;
use sammati_kernel::{AccountId, Caller, Reason};
use tonic::{Response, Status};

use crate::world::{DAY, World, by, everywhere, operator, participant, professional, reason, refused};

pub(crate) const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

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

pub(crate) async fn link(w: &World, hip: &str, address: &str, reference: &str) {
    let token = w.link_token_of(hip, address, 1990).await.unwrap().link_token;
    let mut links = w.links(&token, &[&format!("visit of {reference}")]);
    links.patient_reference = reference.to_owned();
    links.care_contexts[0].patient_reference = reference.to_owned();
    w.link_of(hip, links).await.unwrap();
}

pub(crate) fn inviting(w: &World, study: &str, references: &[&str]) -> api::InviteSubjectsRequest {
    api::InviteSubjectsRequest {
        study: study.to_owned(),
        patient_references: references.iter().map(|text| (*text).to_owned()).collect(),
        language: "hi".into(),
        request_id: w.request_id(),
    }
}

pub(crate) async fn send(w: &World, hip: &str, request: api::InviteSubjectsRequest) -> Result<Vec<Outcome>, Status> {
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
pub(crate) async fn requests(w: &World, she: &Caller) -> Vec<api::ConsentRequest> {
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
