//! Certification cases of ABDM, named after their ids; `tests/abdm_cases.md` lists them all.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::approve_consent_request_request::Grant;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::transfer::State as Flow;
use sammati_api::consent::v1::transfer_report::Outcome;
use sammati_api::types::v1 as types;
use sammati_consent::closing::Closings;
use sammati_consent::sweep;
use sammati_kernel::{Caller, Reason};

use crate::reports::{report, say};
use crate::transfers::{open, state, take_on, taking, wanted};
use crate::world::{DAY, World, by, everywhere, participant, reason};

async fn requests(w: &World, who: &Caller, states: &[Asked]) -> Vec<api::ConsentRequest> {
    let message = api::ListConsentRequestsRequest {
        states: states.iter().map(|state| (*state).into()).collect(),
        ..Default::default()
    };
    let listed = w.rpc().list_consent_requests(by(who, message)).await.unwrap();
    listed.into_inner().consent_requests
}

async fn consents(w: &World, who: &Caller, state: api::consent::State) -> Vec<api::Consent> {
    let message = api::ListConsentsRequest {
        states: vec![state.into()],
        ..Default::default()
    };
    w.rpc()
        .list_consents(by(who, message))
        .await
        .unwrap()
        .into_inner()
        .consents
}

async fn told(w: &World, who: &Caller, resource: &str) -> Vec<Kind> {
    let all = w.notifications(who).await;
    let about = all.iter().filter(|n| n.resource == resource);
    about.map(api::Notification::kind).collect()
}

async fn denied(w: &World, she: &Caller, request: &api::ConsentRequest) -> api::ConsentRequest {
    let message = api::DenyConsentRequestRequest {
        name: request.name.clone(),
        request_id: w.request_id(),
        ..Default::default()
    };
    w.rpc()
        .deny_consent_request(by(she, message))
        .await
        .unwrap()
        .into_inner()
}

#[test]
fn hiu_flow_102_a_request_has_purpose_duration_expiry_and_kinds() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let mut ask = w.asks("asha.rao@sbx");
        ask.expire_time = w.at(DAY);
        let request = w.create(ask.clone()).await.unwrap();
        let scope = request.scope.unwrap();
        assert_eq!(scope.purpose.unwrap().text, "Care Management");
        assert_eq!((scope.hi_types, scope.record_range), {
            let asked = ask.scope.unwrap();
            (asked.hi_types, asked.record_range)
        });
        assert_eq!(
            (request.expire_time, scope.erase_time),
            (ask.expire_time, w.at(30 * DAY))
        );
    });
}

#[test]
fn hiu_flow_103_she_is_notified_of_a_request_and_decides() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        assert_eq!(told(&w, &she, &request.name).await, [Kind::ConsentRequested]);
        let approved = w.approve(&she, w.approval(&request)).await.unwrap();
        assert_eq!(approved.consent_request.unwrap().state(), Asked::Granted);
    });
}

#[test]
fn hiu_flow_104_the_asker_lists_address_creation_expiry_and_status() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let listed = requests(&w, &participant("clinic"), &[]).await;
        assert_eq!((listed.len(), listed[0].patient.as_str()), (1, "asha.rao@sbx"));
        assert!(listed[0].create_time.is_some() && listed[0].expire_time == request.expire_time);
        assert_eq!(listed[0].state(), Asked::Requested);
        assert!(requests(&w, &participant("insurer"), &[]).await.is_empty());
    });
}

#[test]
fn hiu_flow_105_what_she_denied_gives_no_data_and_has_its_time() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        w.advance(60);
        let refused = denied(&w, &she, &request).await;
        let listed = requests(&w, &participant("clinic"), &[Asked::Denied]).await;
        assert_eq!((&listed[0].name, listed[0].decide_time), (&request.name, w.at(0)));
        assert!(refused.consents.is_empty() && listed[0].consents.is_empty());
        assert_eq!(
            told(&w, &participant("clinic"), &request.name).await,
            [Kind::ConsentRequestDenied]
        );
    });
}

#[test]
fn hiu_flow_106_what_she_edited_is_what_the_asker_sees() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let mut scope = request.scope.clone().unwrap();
        scope.hi_types = vec![types::HiType::Prescription.into()];
        scope.record_range.as_mut().unwrap().from = w.at(-30 * DAY);
        scope.record_range.as_mut().unwrap().to = w.at(-10 * DAY);
        scope.erase_time = w.at(7 * DAY);
        let mut approval = w.approval(&request);
        approval.grants = vec![Grant {
            hip: "participants/hospital".into(),
            scope: Some(scope.clone()),
        }];
        let granted = w.approve(&she, approval).await.unwrap().consents.remove(0);
        let message = api::GetConsentRequest { name: granted.name };
        let seen = w
            .rpc()
            .get_consent(by(&participant("clinic"), message))
            .await
            .unwrap()
            .into_inner();
        let given = seen.scope.unwrap();
        assert_eq!(
            (given.hi_types, given.record_range, given.erase_time),
            (scope.hi_types, scope.record_range, scope.erase_time)
        );
        assert_eq!(seen.grant_time, w.at(0));
    });
}

/// The hospital takes a transfer on and delivers a visit; both ends say so.
async fn carry(w: &World, who: &str, opened: &api::Transfer, visit: &str) {
    assert_eq!(
        take_on(w, "hospital", taking(w, opened)).await.unwrap().state(),
        Flow::Acknowledged
    );
    let pushed = report(w, opened, Outcome::Transferred, &[(visit, true)]);
    assert_eq!(say(w, "hospital", pushed).await.unwrap().state(), Flow::Transferred);
    let received = report(w, opened, Outcome::Received, &[(visit, true)]);
    assert_eq!(say(w, who, received).await.unwrap().state(), Flow::Received);
}

/// What the events of both ends say of what was delivered under a consent, and for what purpose.
async fn delivered(w: &World, consent: &str) -> Vec<(String, types::PurposeCode)> {
    let mut events = w.events().await;
    events.retain(|event| ["data.disclosed", "data.received"].contains(&event.event_type.as_str()));
    events.retain(|event| event.payload.as_ref().unwrap().consent == consent);
    let told = events
        .iter()
        .map(|event| (event.event_type.clone(), event.payload.as_ref().unwrap().purpose()));
    told.collect()
}

#[test]
fn hiu_flow_107_to_113_each_kind_that_she_granted_is_delivered_and_no_other() {
    everywhere(|w| async move {
        for kind in types::HiType::Prescription.into()..=i32::from(types::HiType::Invoice) {
            let (address, visit) = (format!("kindred{kind}.x@sbx"), format!("visit-{kind}"));
            let (_, consent) = w.granted(&address, |scope| scope.hi_types = vec![kind]).await;
            let token = w.link_token(&address, 1990).await.unwrap().link_token;
            let mut links = w.links(&token, &[&visit]);
            links.care_contexts[0].hi_type = kind;
            w.link_of("hospital", links).await.unwrap();
            let other = if kind == 1 { 2 } else { 1 };
            let of = |hi_type| api::CreateTransferRequest {
                hi_types: vec![hi_type],
                ..wanted(&w, &consent.name)
            };
            assert_eq!(reason(open(&w, "clinic", of(other)).await), Reason::HiTypeNotGranted);
            let transfer = open(&w, "clinic", of(kind)).await.unwrap();
            assert_eq!(transfer.hi_types, [kind]);
            carry(&w, "clinic", &transfer, &visit).await;
            let both = ["data.disclosed", "data.received"].map(|end| (end.to_owned(), types::PurposeCode::Caremgt));
            assert_eq!(delivered(&w, &consent.name).await, both, "kind {kind}");
        }
    });
}

#[test]
fn user_init_link_607_and_p2_2_she_pulls_what_is_linked_into_her_own_app() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        // Her app asks for her, on her request; she says yes, and her records come to the app, to be kept.
        let mut scope = w.scope();
        scope.purpose.as_mut().unwrap().code = types::PurposeCode::Patrqt.into();
        scope.access_mode = types::AccessMode::Store.into();
        let ask = api::CreateConsentRequestRequest {
            scope: Some(scope),
            ..w.asks("asha.rao@sbx")
        };
        let app = participant("locker");
        let asked = w
            .rpc()
            .create_consent_request(by(&app, ask))
            .await
            .unwrap()
            .into_inner();
        let approved = w.approve(&she, w.approval(&asked)).await.unwrap();
        let consent = &approved.consents[0].name;
        w.acknowledge_all("hospital").await;
        // Nobody else pulls with it.
        let others = open(&w, "clinic", wanted(&w, consent)).await;
        assert_eq!(reason(others), Reason::NoConsent);
        let opened = open(&w, "locker", wanted(&w, consent)).await.unwrap();
        carry(&w, "locker", &opened, "visit-1").await;
        let both = ["data.disclosed", "data.received"].map(|end| (end.to_owned(), types::PurposeCode::Patrqt));
        assert_eq!(delivered(&w, consent).await, both);
    });
}

#[test]
fn hip_init_abha_optout_deactivate_nothing_flows_and_the_end_reaches_the_hip() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let asha = w.account("asha.rao@sbx");
        // Deactivated: nothing flows until she is back.
        w.people.inactive.lock().unwrap().insert(asha);
        let away = open(&w, "clinic", wanted(&w, &consent.name)).await;
        assert_eq!(reason(away), Reason::SubjectInactive);
        w.people.inactive.lock().unwrap().clear();
        let back = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        // Opted out for good: what she gave is taken back, both parties are told, and what was on its way is over.
        w.people.deleted.lock().unwrap().push((asha, false));
        w.rpc().close_accounts(&mut Closings::default()).await.unwrap();
        for who in ["hospital", "clinic"] {
            let told = told(&w, &participant(who), &consent.name).await;
            assert_eq!(told.last(), Some(&Kind::ConsentRevoked), "{who}");
            let seen = state(&w, &participant(who), &back).await;
            assert_eq!(seen, Flow::Cancelled, "{who}");
        }
        let gone = open(&w, "clinic", wanted(&w, &consent.name)).await;
        assert_eq!(reason(gone), Reason::ConsentRevoked);
    });
}

#[test]
fn hiu_flow_201_202_once_revoked_nothing_flows_and_the_lists_say_so() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        assert!(open(&w, "clinic", wanted(&w, &consent.name)).await.is_ok());
        w.advance(60);
        w.revoke(&she, &[&consent.name]).await.unwrap();
        assert_eq!(
            reason(open(&w, "clinic", wanted(&w, &consent.name)).await),
            Reason::ConsentRevoked
        );
        for who in [&she, &participant("clinic"), &participant("hospital")] {
            let listed = consents(&w, who, api::consent::State::Revoked).await;
            assert_eq!((listed.len(), listed[0].revoke_time), (1, w.at(0)));
        }
    });
}

#[test]
fn hiu_flow_301_once_expired_nothing_flows_and_the_lists_say_so() {
    everywhere(|w| async move {
        let end = w.at(DAY);
        let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.erase_time = end).await;
        w.advance(DAY);
        let mut late = wanted(&w, &consent.name);
        late.key_material.as_mut().unwrap().expire_time = w.at(3600);
        assert_eq!(reason(open(&w, "clinic", late).await), Reason::ConsentExpired);
        for who in [&she, &participant("clinic")] {
            let listed = consents(&w, who, api::consent::State::Expired).await;
            assert_eq!((listed.len(), listed[0].end_time), (1, end));
        }
    });
}

#[test]
fn hip_init_grant_revoke_and_expire_consent_reach_the_hip() {
    everywhere(|w| async move {
        let hospital = participant("hospital");
        let (she, first) = w.unacknowledged("asha.rao@sbx", |_| {}).await;
        let copy = async |consent: &api::Consent| {
            let message = api::GetArtefactRequest {
                consent: consent.name.clone(),
                ..Default::default()
            };
            let got = w.rpc().get_artefact(by(&hospital, message)).await;
            got.unwrap().into_inner().jws
        };
        // It saves the grant: its own copy, signed.
        assert!(!copy(&first).await.is_empty());
        w.revoke(&she, &[&first.name]).await.unwrap();
        assert_eq!(
            told(&w, &hospital, &first.name).await,
            [Kind::ConsentGranted, Kind::ConsentRevoked]
        );
        assert_eq!(copy(&first).await, "", "nor is there one here any more for it to read");
        let end = w.at(DAY);
        let (_, second) = w.unacknowledged("ravi.kumar@sbx", |scope| scope.erase_time = end).await;
        assert!(!copy(&second).await.is_empty());
        w.advance(DAY);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(
            told(&w, &hospital, &second.name).await,
            [Kind::ConsentGranted, Kind::ConsentExpired]
        );
        assert_eq!(copy(&second).await, "");
    });
}

#[test]
fn hip_init_share_carecontext_is_asked_decided_pushed_and_reported_in_two_hours() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let asked = wanted(&w, &consent.name);
        let opened = open(&w, "clinic", asked.clone()).await.unwrap();
        let message = api::GetTransferRequest {
            name: opened.name.clone(),
        };
        use sammati_api::consent::v1::transfer_service_server::TransferService;
        let seen = w
            .rpc()
            .get_transfer(by(&participant("hospital"), message))
            .await
            .unwrap()
            .into_inner();
        // The HIP gets the consent, where to push and the receiver's key, to the letter.
        assert_eq!((&seen.consent, &seen.push_uri), (&consent.name, &asked.push_uri));
        assert_eq!(seen.key_material, asked.key_material);
        take_on(&w, "hospital", taking(&w, &opened)).await.unwrap();
        w.advance(2 * 3600 - 1);
        let pushed = report(&w, &opened, Outcome::Transferred, &[("visit-1", true)]);
        assert_eq!(say(&w, "hospital", pushed).await.unwrap().state(), Flow::Transferred);
        // She sees that they flowed, and neither address nor key.
        let message = api::GetTransferRequest { name: opened.name };
        let hers = w.rpc().get_transfer(by(&she, message)).await.unwrap().into_inner();
        assert!(hers.hip_report.is_some() && hers.push_uri.is_empty() && hers.key_material.is_none());
    });
}

#[test]
fn hip_inti_link_501_to_506_demographics_give_a_token_that_links() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        assert_eq!(reason(w.link_token("asha.rao@sbx", 1980).await), Reason::NoMatch);
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        for visit in ["visit-1", "visit-2"] {
            w.link(&token, &[visit]).await.unwrap();
        }
        let links = w
            .rpc()
            .list_links(by(&she, Default::default()))
            .await
            .unwrap()
            .into_inner()
            .links;
        assert_eq!((links.len(), links[0].care_contexts.len()), (1, 2));
        assert_eq!(links[0].care_contexts[0].hi_type(), types::HiType::Prescription);
        assert_eq!(told(&w, &she, &links[0].name).await, [Kind::Linked, Kind::Linked]);
    });
}

#[test]
fn p2_9_and_p2_10_she_lists_what_is_requested_denied_expired_granted_and_revoked() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(w.create(w.asks("asha.rao@sbx")).await.unwrap());
        }
        denied(&w, &she, &all[0]).await;
        let granted = w.approve(&she, w.approval(&all[1])).await.unwrap().consents.remove(0);
        let revoked = w.approve(&she, w.approval(&all[2])).await.unwrap().consents.remove(0);
        w.revoke(&she, &[&revoked.name]).await.unwrap();
        let only = async |state: Asked| {
            let listed = requests(&w, &she, &[state]).await;
            listed.into_iter().map(|r| r.name).collect::<Vec<_>>()
        };
        assert_eq!(only(Asked::Requested).await, std::slice::from_ref(&all[3].name));
        assert_eq!(only(Asked::Denied).await, std::slice::from_ref(&all[0].name));
        let live = consents(&w, &she, api::consent::State::Granted).await;
        assert_eq!((live.len(), &live[0].name), (1, &granted.name));
        let over = consents(&w, &she, api::consent::State::Revoked).await;
        assert_eq!((over.len(), &over[0].name), (1, &revoked.name));
        w.advance(7 * DAY);
        assert_eq!(only(Asked::Expired).await, std::slice::from_ref(&all[3].name));
    });
}

#[test]
fn p3_1_5_one_artefact_for_each_hip() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let mut ask = w.asks("asha.rao@sbx");
        ask.hips = vec!["participants/hospital".into(), "participants/lab".into()];
        let request = w.create(ask).await.unwrap();
        let approved = w.approve(&she, w.approval(&request)).await.unwrap();
        let hips: Vec<_> = approved.consents.iter().map(|consent| consent.hip.as_str()).collect();
        assert_eq!(hips, ["participants/hospital", "participants/lab"]);
        for consent in &approved.consents {
            let copy = api::GetArtefactRequest {
                consent: consent.name.clone(),
                ..Default::default()
            };
            let artefact = w.rpc().get_artefact(by(&participant("clinic"), copy)).await.unwrap();
            assert!(!artefact.into_inner().jws.is_empty());
        }
    });
}
