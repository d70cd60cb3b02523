//! Asking, granting, denying, listing.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request::State;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::notice_service_server::NoticeService;
use sammati_api::types::v1 as types;
use sammati_kernel::Reason;
use sammati_store::Revision;
use tonic::Response;

use crate::world::{DAY, HOUR, by, everywhere, operator, participant, reason, refused};

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
fn every_violation_is_named_in_one_answer() {
    everywhere(|w| async move {
        let mut ask = w.asks("x");
        ask.hips = vec!["hospital".into()];
        ask.requester = None;
        let scope = ask.scope.as_mut().unwrap();
        scope.hi_types.clear();
        scope.access_mode = 9;
        scope.frequency = None;
        scope.purpose = Some(types::Purpose {
            code: 1,
            text: "Treatment".into(),
            ref_uri: String::new(),
        });
        scope.record_range = Some(types::TimeRange {
            from: w.at(0),
            to: w.at(-1),
        });
        scope.max_uses = -1;
        scope.erase_time = w.at(-1);
        scope.care_contexts = vec![types::CareContextRef {
            care_context_reference: "v1".into(),
            ..Default::default()
        }];
        ask.hips.push("participants/lab".into());
        ask.notice = "notices/builtin-hpaymt".into();
        ask.expire_time = w.at(60);
        let refusal = refused(w.create(ask).await);
        assert_eq!(refusal.reason, Reason::ScopeInvalid);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
        for field in [
            "patient",
            "hips[0]",
            "requester",
            "scope.hi_types",
            "scope.access_mode",
            "scope.frequency",
            "scope.purpose.text",
            "scope.record_range",
            "scope.max_uses",
            "scope.erase_time",
            "hips",
            "notice",
            "expire_time",
        ] {
            assert!(fields.iter().any(|f| f == field), "{field} is missing in {fields:?}");
        }
    });
}

#[test]
fn what_may_not_be_asked_is_refused_by_its_reason() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let changed = |change: &dyn Fn(&mut api::CreateConsentRequestRequest)| {
            let mut ask = w.asks("asha.rao@sbx");
            change(&mut ask);
            ask
        };
        let purpose = |code: types::PurposeCode| {
            move |a: &mut api::CreateConsentRequestRequest| {
                a.scope.as_mut().unwrap().purpose = Some(types::Purpose {
                    code: code.into(),
                    ..Default::default()
                })
            }
        };
        assert_eq!(
            reason(w.create(changed(&purpose(types::PurposeCode::Btg))).await),
            Reason::PurposeNotRequestable
        );
        assert_eq!(
            reason(w.create(changed(&purpose(types::PurposeCode::Patrqt))).await),
            Reason::ScopeInvalid
        );
        let future = w.at(DAY);
        assert_eq!(
            reason(
                w.create(changed(&|a| a
                    .scope
                    .as_mut()
                    .unwrap()
                    .record_range
                    .as_mut()
                    .unwrap()
                    .to = future))
                    .await
            ),
            Reason::ScopeInvalid
        );
        let far = w.at(6 * 365 * DAY);
        assert_eq!(
            reason(w.create(changed(&|a| a.scope.as_mut().unwrap().erase_time = far)).await),
            Reason::ScopeInvalid
        );
        let far = w.at(5 * 365 * DAY + 2 * DAY);
        assert_eq!(
            reason(w.create(changed(&|a| a.scope.as_mut().unwrap().erase_time = far)).await),
            Reason::ScopeInvalid
        );
        let unknown = refused(w.create(changed(&|a| a.hips.push("participants/nobody".into()))).await);
        let fields: Vec<_> = unknown.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!((unknown.reason, fields), (Reason::HipUnknown, vec!["hips[1]"]));
        assert!(unknown.metadata.is_empty());
        assert_eq!(
            reason(w.create(changed(&|a| a.notice = "notices/builtin-hpaymt".into())).await),
            Reason::NoticeMismatch
        );
        let context = types::CareContextRef {
            patient_reference: "MRN-1".into(),
            care_context_reference: "v1".into(),
            ..Default::default()
        };
        let several = |a: &mut api::CreateConsentRequestRequest| {
            a.hips.push("participants/lab".into());
            a.scope.as_mut().unwrap().care_contexts = vec![context.clone()];
        };
        assert_eq!(reason(w.create(changed(&several)).await), Reason::HipRequired);
        let soon = w.at(HOUR / 2);
        assert_eq!(
            reason(w.create(changed(&|a| a.expire_time = soon)).await),
            Reason::FieldInvalid
        );
        w.people.suspended.lock().unwrap().insert("clinic".into());
        assert_eq!(
            reason(w.create(w.asks("asha.rao@sbx")).await),
            Reason::ParticipantNotActive
        );
    });
}

#[test]
fn an_unknown_address_gets_a_request_that_only_expires() {
    everywhere(|w| async move {
        let ask = w.asks("nobody.here@sbx");
        let request = w.create(ask.clone()).await.unwrap();
        assert_eq!(request.state(), State::Requested);
        // She enrols in between: the repeat still answers with the same request.
        let she = w.she(w.person("nobody.here@sbx"));
        assert_eq!(w.create(ask).await.unwrap().name, request.name);
        assert_eq!(
            reason(w.approve(&she, w.approval(&request)).await),
            Reason::NotAvailable
        );
        w.advance(7 * DAY);
        let name = request.name;
        let read = w
            .rpc()
            .get_consent_request(by(&participant("clinic"), api::GetConsentRequestRequest { name }))
            .await;
        assert_eq!(read.unwrap().into_inner().state(), State::Expired);
    });
}

#[test]
fn one_request_id_has_one_effect_and_another_body_is_refused() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let ask = w.asks("asha.rao@sbx");
        let request = w.create(ask.clone()).await.unwrap();
        let again = w.create(ask.clone()).await.unwrap();
        assert_eq!((again.name, again.etag), (request.name.clone(), request.etag.clone()));
        let other = api::CreateConsentRequestRequest {
            language: "hi".into(),
            ..ask
        };
        assert_eq!(reason(w.create(other).await), Reason::RequestIdReused);
        let approval = w.approval(&request);
        let first = w.approve(&she, approval.clone()).await.unwrap();
        let again = w.approve(&she, approval).await.unwrap();
        assert_eq!(first.consents.len(), again.consents.len());
        assert_eq!(first.consents[0].name, again.consents[0].name);
        assert_eq!(
            (w.count("consent.requested").await, w.count("consent.granted").await),
            (1, 1)
        );
        let old = w.asks("asha.rao@sbx");
        w.advance(DAY + 1);
        assert_eq!(reason(w.create(old).await), Reason::RequestIdExpired);
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
fn the_twenty_first_open_request_to_an_address_is_refused() {
    everywhere(|w| async move {
        let asha = w.person("asha.rao@sbx");
        for _ in 0..20 {
            w.create(w.asks("asha.rao@sbx")).await.unwrap();
        }
        let refusal = refused(w.create(w.asks("asha.rao@sbx")).await);
        assert_eq!(refusal.reason, Reason::RequestLimit);
        assert!(refusal.retry_after.is_some());
        // Another address of hers is another count, or it would tell that both are hers.
        w.also(asha, "rao.asha@sbx");
        assert!(w.create(w.asks("rao.asha@sbx")).await.is_ok());
        w.advance(7 * DAY);
        assert!(w.create(w.asks("asha.rao@sbx")).await.is_ok());
    });
}

#[test]
fn lists_page_newest_first_and_show_only_own_ones() {
    everywhere(|w| async move {
        let (asha, ravi) = (w.person("asha.rao@sbx"), w.person("ravi.kumar@sbx"));
        for n in 0..5 {
            w.create(w.asks(if n % 2 == 0 { "asha.rao@sbx" } else { "ravi.kumar@sbx" }))
                .await
                .unwrap();
            w.advance(1);
        }
        let list = async |who: &sammati_kernel::Caller, message: api::ListConsentRequestsRequest| {
            w.rpc()
                .list_consent_requests(by(who, message))
                .await
                .map(Response::into_inner)
        };
        let clinic = participant("clinic");
        let mut names = Vec::new();
        let mut message = api::ListConsentRequestsRequest {
            page_size: 2,
            ..Default::default()
        };
        loop {
            let page = list(&clinic, message.clone()).await.unwrap();
            names.extend(page.consent_requests.iter().map(|r| r.name.clone()));
            if page.next_page_token.is_empty() {
                break;
            }
            message.page_token = page.next_page_token;
        }
        let mut sorted = names.clone();
        sorted.sort_by(|a, b| b.cmp(a));
        assert_eq!((names.len(), &names), (5, &sorted));
        assert_eq!(
            list(&w.she(asha), Default::default())
                .await
                .unwrap()
                .consent_requests
                .len(),
            3
        );
        assert_eq!(
            list(&participant("insurer"), Default::default())
                .await
                .unwrap()
                .consent_requests
                .len(),
            0
        );
        let named = |account: sammati_kernel::AccountId| api::ListConsentRequestsRequest {
            subject: account.name(),
            ..Default::default()
        };
        assert_eq!(list(&operator(), named(ravi)).await.unwrap().consent_requests.len(), 2);
        assert_eq!(
            reason(list(&operator(), Default::default()).await),
            Reason::FieldInvalid
        );
        assert_eq!(reason(list(&w.she(asha), named(ravi)).await), Reason::NotAvailable);
        assert_eq!(reason(list(&clinic, named(ravi)).await), Reason::FieldInvalid);
        let denied = api::ListConsentRequestsRequest {
            states: vec![State::Denied.into()],
            ..Default::default()
        };
        assert_eq!(list(&clinic, denied).await.unwrap().consent_requests.len(), 0);
    });
}

#[test]
fn the_notice_that_is_bound_can_be_read() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let request = w
            .create(api::CreateConsentRequestRequest {
                language: "hi".into(),
                ..w.asks("asha.rao@sbx")
            })
            .await
            .unwrap();
        let bound = request.notice.unwrap();
        let message = api::GetNoticeRequest {
            name: bound.notice,
            version: bound.version,
            language: bound.language,
        };
        let notice = w
            .rpc()
            .get_notice(by(&sammati_kernel::Caller::ANYONE, message))
            .await
            .unwrap()
            .into_inner();
        assert_eq!((notice.sha256, notice.language.as_str()), (bound.sha256, "hi"));
    });
}

#[test]
fn i1_a_repeat_gets_its_answer_though_the_clock_and_the_facts_moved() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let ask = api::CreateConsentRequestRequest {
            expire_time: w.at(HOUR),
            ..w.asks("asha.rao@sbx")
        };
        let request = w.create(ask.clone()).await.unwrap();
        w.advance(2);
        assert_eq!(w.create(ask.clone()).await.unwrap().name, request.name);
        for id in ["clinic", "hospital"] {
            w.people.suspended.lock().unwrap().insert(id.into());
        }
        *w.people.stale.lock().unwrap() = true;
        assert_eq!(w.create(ask.clone()).await.unwrap().name, request.name);
        assert_eq!(w.count("consent.requested").await, 1);
        let new = api::CreateConsentRequestRequest {
            request_id: w.request_id(),
            ..ask
        };
        assert_eq!(reason(w.create(new).await), Reason::IdentityStale);
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

#[test]
fn a_list_names_all_that_is_wrong_and_its_revisions_are_those_of_its_rows() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let wrong = api::ListConsentRequestsRequest {
            page_size: -1,
            hiu: "clinic".into(),
            subject: "asha".into(),
            ..Default::default()
        };
        let refusal = refused(
            w.rpc()
                .list_consent_requests(by(&she, wrong))
                .await
                .map(Response::into_inner),
        );
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(fields, ["page_size", "hiu", "subject"]);
        // Written by the one replica, listed by the other.
        let (first, last) = (&w.replicas[0].0, &w.replicas[w.replicas.len() - 1].0);
        let ask = by(&participant("clinic"), w.asks("asha.rao@sbx"));
        let created = first.create_consent_request(ask).await.unwrap().into_inner();
        let listed = last
            .list_consent_requests(by(&she, Default::default()))
            .await
            .unwrap()
            .into_inner();
        let next = |text: &str| Revision::open(w.store().key(), text).unwrap().next;
        assert_eq!(listed.consent_requests[0].name, created.name);
        assert!(next(&listed.consent_requests[0].revision) >= next(&created.revision));
    });
}
