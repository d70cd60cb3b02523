//! What a study hears of people, and what it never does.

use std::collections::BTreeSet;

use prost::Message;
use sammati_api::audit::v1::Event;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent::Origin;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Reason};

use crate::studies::{
    HASH, activate, active, create, described, get, invite, joins, member, patient, pseudonyms, requests,
};
use crate::world::{DAY, World, by, everywhere, participant, reason};

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
