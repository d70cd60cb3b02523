//! Asking, and what may not be asked.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request::State;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::notice_service_server::NoticeService;
use sammati_api::types::v1 as types;
use sammati_kernel::Reason;

use crate::world::{DAY, HOUR, by, everywhere, participant, reason, refused};

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
