//! Granting a part, no more than was asked, and denying.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request::State;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::types::v1 as types;
use sammati_kernel::Reason;
use tonic::Response;

use crate::world::{by, everywhere, operator, participant, reason, refused};

#[test]
fn a_part_is_granted_and_everybody_reads_what_is_theirs() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let she = w.she(account);
        let request = w.create(w.asks("Asha.Rao@SBX")).await.unwrap();
        assert_eq!(
            (request.state(), request.patient.as_str(), request.subject.as_str()),
            (State::Requested, "asha.rao@sbx", "")
        );
        let mut approval = w.approval(&request);
        let mut scope = w.scope();
        scope.hi_types.truncate(1);
        approval.grants = vec![api::approve_consent_request_request::Grant {
            hip: "participants/hospital".into(),
            scope: Some(scope),
        }];
        let approved = w.approve(&she, approval).await.unwrap();
        let (request, consent) = (approved.consent_request.unwrap(), approved.consents[0].clone());
        assert!(request.narrowed && request.state() == State::Granted && request.subject == account.name());
        assert_eq!(
            (request.consents.len(), consent.scope.as_ref().unwrap().hi_types.len()),
            (1, 1)
        );
        for (who, sees_account, sees_name) in [
            (she.clone(), true, true),
            (operator(), true, true),
            (participant("hospital"), false, false),
            (participant("clinic"), false, true),
        ] {
            let name = consent.name.clone();
            let read = w
                .rpc()
                .get_consent(by(&who, api::GetConsentRequest { name }))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(
                (!read.subject.is_empty(), !read.requester.unwrap().name.is_empty()),
                (sees_account, sees_name)
            );
        }
        let name = consent.name.clone();
        let stranger = w
            .rpc()
            .get_consent(by(&participant("lab"), api::GetConsentRequest { name }))
            .await
            .map(Response::into_inner);
        assert_eq!(reason(stranger), Reason::NotAvailable);
        assert_eq!(
            (
                w.count("consent.granted").await,
                w.count("consent.artefact_issued").await,
                w.count("consent.notice_shown").await
            ),
            (1, 2, 1)
        );
    });
}

#[test]
fn a_grant_that_is_wider_changes_nothing_and_names_the_field() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let grant = |hip: &str, scope: types::Scope| {
            let grants = vec![api::approve_consent_request_request::Grant {
                hip: hip.to_owned(),
                scope: Some(scope),
            }];
            api::ApproveConsentRequestRequest {
                grants,
                ..w.approval(&request)
            }
        };
        let mut wide = w.scope();
        wide.hi_types.push(types::HiType::Invoice.into());
        let refusal = refused(w.approve(&she, grant("participants/hospital", wide)).await);
        assert_eq!(refusal.reason, Reason::GrantWider);
        let refusal = refused(w.approve(&she, grant("participants/lab", w.scope())).await);
        assert_eq!(refusal.reason, Reason::GrantWider);
        let mut unlinked = w.scope();
        unlinked.care_contexts = vec![types::CareContextRef {
            patient_reference: "MRN-1".into(),
            care_context_reference: "v1".into(),
            ..Default::default()
        }];
        assert_eq!(
            reason(w.approve(&she, grant("participants/hospital", unlinked)).await),
            Reason::CareContextNotLinked
        );
        let mut notice = w.approval(&request);
        notice.notice.as_mut().unwrap().sha256 = "0".repeat(64);
        assert_eq!(reason(w.approve(&she, notice).await), Reason::NoticeMismatch);
        // Nobody was shown words that do not exist.
        let mut tamil = w.approval(&request);
        tamil.notice.as_mut().unwrap().language = "ta".into();
        assert_eq!(reason(w.approve(&she, tamil).await), Reason::NoticeMismatch);
        let stale = api::ApproveConsentRequestRequest {
            etag: "\"9\"".into(),
            ..w.approval(&request)
        };
        assert_eq!(reason(w.approve(&she, stale).await), Reason::EtagMismatch);
        assert_eq!(w.count("consent.granted").await, 0);
        w.advance(301);
        let late = api::ApproveConsentRequestRequest {
            request_id: w.request_id(),
            ..w.approval(&request)
        };
        assert!(w.approve(&w.she(she.account().unwrap()), late.clone()).await.is_ok());
        assert_eq!(
            reason(w.approve(&she, w.approval(&request)).await),
            Reason::StepUpRequired
        );
    });
}

#[test]
fn a_denial_is_final_and_tells_the_asker_why() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let deny = |reason: &str| api::DenyConsentRequestRequest {
            name: request.name.clone(),
            reason: reason.to_owned(),
            request_id: w.request_id(),
            ..Default::default()
        };
        assert_eq!(
            reason(w.rpc().deny_consent_request(by(&she, deny("no <b>"))).await),
            Reason::FieldInvalid
        );
        let denied = w
            .rpc()
            .deny_consent_request(by(&she, deny("मैं वहाँ कभी नहीं गई.")))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(denied.state(), State::Denied);
        let name = request.name.clone();
        let read = w
            .rpc()
            .get_consent_request(by(&participant("clinic"), api::GetConsentRequestRequest { name }))
            .await
            .unwrap();
        assert_eq!(read.into_inner().deny_reason, "मैं वहाँ कभी नहीं गई.");
        let refusal = refused(w.approve(&she, w.approval(&request)).await);
        assert_eq!(
            (refusal.reason, w.count("consent.denied").await),
            (Reason::StateConflict, 1)
        );
    });
}

#[test]
fn who_names_no_provider_asks_at_most_twenty() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let mut ask = w.asks("asha.rao@sbx");
        ask.hips.clear();
        let request = w.create(ask).await.unwrap();
        let refusal = refused(w.approve(&she, w.approval(&request)).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!((refusal.reason, fields), (Reason::GrantEmpty, vec!["grants"]));
        for n in 0..21 {
            let hip = format!("hospital-{n}");
            let token = w.link_token_of(&hip, "asha.rao@sbx", 1990).await.unwrap().link_token;
            w.link_of(&hip, w.links(&token, &["visit-1"])).await.unwrap();
        }
        let refusal = refused(w.approve(&she, w.approval(&request)).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!((refusal.reason, fields), (Reason::BatchLimit, vec!["grants"]));
        let grant = |n: usize| api::approve_consent_request_request::Grant {
            hip: format!("participants/hospital-{n}"),
            scope: None,
        };
        let approval = api::ApproveConsentRequestRequest {
            grants: (1..21).map(grant).collect(),
            ..w.approval(&request)
        };
        assert_eq!(w.approve(&she, approval).await.unwrap().consents.len(), 20);
    });
}
