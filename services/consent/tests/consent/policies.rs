//! What she decides beforehand: auto-approval and the block list, at once and on every replica.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision::{Outcome, Reason as Decided};
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::policy::{Effect, State};
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::types::v1 as types;
use sammati_consent::Rpc;
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::transfers::{open, take_on, taking, wanted};
use crate::world::{DAY, World, by, everywhere, operator, participant, reason, refused};

/// What denies everything to `hiu`; to everybody if that is empty.
pub(crate) fn deny(w: &World, hiu: &str) -> api::CreatePolicyRequest {
    api::CreatePolicyRequest {
        effect: Effect::Deny.into(),
        hiu: hiu.to_owned(),
        request_id: w.request_id(),
        ..Default::default()
    }
}

/// What approves the clinic's requests for care: all kinds of record of ten years, for a year.
pub(crate) fn approve(w: &World) -> api::CreatePolicyRequest {
    let mut scope = w.scope();
    scope.hi_types = (1..=8).collect();
    scope.record_range = Some(types::TimeRange {
        from: w.at(-3650 * DAY),
        to: w.at(365 * DAY),
    });
    scope.erase_time = w.at(365 * DAY);
    api::CreatePolicyRequest {
        effect: Effect::Approve.into(),
        hiu: "participants/clinic".into(),
        scope: Some(scope),
        request_id: w.request_id(),
        ..Default::default()
    }
}

pub(crate) async fn make(w: &World, she: &Caller, message: api::CreatePolicyRequest) -> Result<api::Policy, Status> {
    w.rpc().create_policy(by(she, message)).await.map(Response::into_inner)
}

pub(crate) async fn enable(w: &World, she: &Caller, name: &str) -> Result<api::Policy, Status> {
    let message = api::EnablePolicyRequest {
        name: name.to_owned(),
        etag: String::new(),
        request_id: w.request_id(),
        action_token: String::new(),
    };
    w.rpc().enable_policy(by(she, message)).await.map(Response::into_inner)
}

pub(crate) async fn disable(w: &World, she: &Caller, name: &str) -> Result<api::Policy, Status> {
    let message = api::DisablePolicyRequest {
        name: name.to_owned(),
        etag: String::new(),
        request_id: w.request_id(),
    };
    w.rpc().disable_policy(by(she, message)).await.map(Response::into_inner)
}

pub(crate) async fn list(w: &World, who: &Caller, subject: &str) -> Vec<api::Policy> {
    let message = api::ListPoliciesRequest {
        subject: subject.to_owned(),
        ..Default::default()
    };
    w.rpc()
        .list_policies(by(who, message))
        .await
        .unwrap()
        .into_inner()
        .policies
}

/// What a check of a consent says to `who`, on one replica.
async fn check(w: &World, rpc: &Rpc, who: &str, consent: &str) -> (Outcome, Decided) {
    let other = if who == "clinic" {
        ("", "participants/hospital")
    } else {
        ("participants/clinic", "")
    };
    let message = api::CheckAccessRequest {
        target: Some(api::check_access_request::Target::Consent(consent.to_owned())),
        requester: other.0.to_owned(),
        provider: other.1.to_owned(),
        purpose: types::PurposeCode::Caremgt.into(),
        access_mode: types::AccessMode::View.into(),
        hi_types: vec![types::HiType::Prescription.into()],
        record_range: Some(types::TimeRange {
            from: w.at(-100 * DAY),
            to: w.at(-10 * DAY),
        }),
        ..Default::default()
    };
    let decision = rpc
        .check_access(by(&participant(who), message))
        .await
        .unwrap()
        .into_inner();
    (decision.outcome(), decision.reason())
}

const PERMIT: (Outcome, Decided) = (Outcome::Permit, Decided::Granted);

#[test]
fn c4_after_a_deny_policy_returned_no_replica_permits_until_it_is_disabled() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let last = &w.replicas[w.replicas.len() - 1].0;
        let first = &w.replicas[0].0;
        // Every replica remembers her.
        for (rpc, _) in &w.replicas {
            assert_eq!(check(&w, rpc, "clinic", &consent.name).await, PERMIT);
        }
        let made = first
            .create_policy(by(&she, deny(&w, "participants/clinic")))
            .await
            .unwrap()
            .into_inner();
        for _ in 0..20 {
            // The asker is told what a stranger is told; the provider the truth.
            let told = check(&w, last, "clinic", &consent.name).await;
            assert_eq!(told, (Outcome::Deny, Decided::NoConsent));
            let told = check(&w, last, "hospital", &consent.name).await;
            assert_eq!(told, (Outcome::Deny, Decided::BlockedBySubject));
            let off = api::DisablePolicyRequest {
                name: made.name.clone(),
                etag: String::new(),
                request_id: w.request_id(),
            };
            first.disable_policy(by(&she, off)).await.unwrap();
            assert_eq!(check(&w, last, "clinic", &consent.name).await, PERMIT);
            let on = api::EnablePolicyRequest {
                name: made.name.clone(),
                etag: String::new(),
                request_id: w.request_id(),
                action_token: String::new(),
            };
            first.enable_policy(by(&she, on)).await.unwrap();
        }
        // A command reads it in the commit that decides, and takes no use.
        assert_eq!(
            reason(open(&w, "clinic", wanted(&w, &consent.name)).await),
            Reason::NoConsent
        );
        let name = consent.name.clone();
        let uses = last
            .get_consent(by(&she, api::GetConsentRequest { name }))
            .await
            .unwrap()
            .into_inner()
            .uses;
        assert_eq!(uses.unwrap().count, 0);
        // Her log has the try, and nothing in it tells the asker more than it was told.
        let events = w.events().await;
        let denied = events.iter().rfind(|e| e.event_type == "access.denied").unwrap();
        let payload = denied.payload.as_ref().unwrap();
        assert_eq!(denied.reason_code, "NO_CONSENT");
        assert_eq!(
            (payload.subject.as_str(), payload.consent.as_str()),
            (she.id().as_str(), "")
        );
    });
}

#[test]
fn a_transfer_that_is_open_is_not_taken_on_once_she_denies() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        let policy = make(&w, &she, deny(&w, "")).await.unwrap();
        assert_eq!(
            reason(take_on(&w, "hospital", taking(&w, &opened)).await),
            Reason::BlockedBySubject
        );
        disable(&w, &she, &policy.name).await.unwrap();
        assert!(take_on(&w, "hospital", taking(&w, &opened)).await.is_ok());
    });
}

#[test]
fn a_deny_is_towards_whom_for_what_and_of_what_it_says() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        w.linked("asha.rao@sbx", &["visit-1", "visit-2"]).await;
        for harmless in [
            deny(&w, "participants/insurer"),
            api::CreatePolicyRequest {
                hips: vec!["participants/lab".into()],
                ..deny(&w, "")
            },
            api::CreatePolicyRequest {
                purposes: vec![types::PurposeCode::Btg.into(), types::PurposeCode::Hpaymt.into()],
                ..deny(&w, "")
            },
        ] {
            make(&w, &she, harmless).await.unwrap();
            assert_eq!(check(&w, w.rpc(), "clinic", &consent.name).await, PERMIT);
        }
        let never = api::CreatePolicyRequest {
            hips: vec!["participants/hospital".into()],
            care_context_references: vec!["visit-2".into()],
            ..deny(&w, "participants/clinic")
        };
        let made = make(&w, &she, never).await.unwrap();
        assert_eq!(made.care_context_references, ["visit-2"]);
        // Whoever names nothing asks about all of it.
        let told = check(&w, w.rpc(), "hospital", &consent.name).await;
        assert_eq!(told, (Outcome::Deny, Decided::BlockedBySubject));
        let about = async |reference: &str| {
            let message = api::AuthorizeAccessRequest {
                target: Some(api::authorize_access_request::Target::Consent(consent.name.clone())),
                requester: "participants/clinic".into(),
                purpose: types::PurposeCode::Caremgt.into(),
                access_mode: types::AccessMode::View.into(),
                hi_types: vec![types::HiType::Prescription.into()],
                record_range: Some(types::TimeRange {
                    from: w.at(-100 * DAY),
                    to: w.at(-10 * DAY),
                }),
                care_contexts: vec![types::CareContextRef {
                    care_context_reference: reference.to_owned(),
                    ..Default::default()
                }],
                request_id: w.request_id(),
                ..Default::default()
            };
            let decision = w.rpc().authorize_access(by(&participant("hospital"), message)).await;
            decision.unwrap().into_inner().reason()
        };
        assert_eq!(about("visit-1").await, Decided::Granted);
        assert_eq!(about("visit-2").await, Decided::BlockedBySubject);
    });
}

#[test]
fn p3_1_2_1_an_approve_grants_in_the_commit_that_asks_and_is_shown_in_her_history() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let policy = make(&w, &she, approve(&w)).await.unwrap();
        assert_eq!((policy.state(), policy.use_count), (State::Enabled, 0));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        assert_eq!((request.state(), request.consents.len()), (Asked::Granted, 1));
        // She reads by what it was decided; the asker does not.
        let hers = api::GetConsentRequestRequest {
            name: request.name.clone(),
        };
        let hers = w.rpc().get_consent_request(by(&she, hers)).await.unwrap().into_inner();
        assert_eq!((hers.policy, request.policy.as_str()), (policy.name, ""));
        let name = request.consents[0].clone();
        let consent = w
            .rpc()
            .get_consent(by(&she, api::GetConsentRequest { name }))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(consent.origin(), api::consent::Origin::Policy);
        assert_eq!(consent.scope.unwrap().hi_types.len(), 2);
        // Both ends are told as of any grant, and she that it was done for her.
        let told = w.notifications(&participant("hospital")).await;
        assert!(
            told.iter()
                .any(|n| n.kind() == Kind::ConsentGranted && n.resource == request.consents[0])
        );
        let told = w.notifications(&she).await;
        assert!(
            told.iter()
                .any(|n| n.kind() == Kind::PolicyApplied && n.resource == request.name)
        );
        let policies = list(&w, &she, "").await;
        assert_eq!((policies.len(), policies[0].use_count), (1, 1));
        assert_eq!(
            (w.count("policy.applied").await, w.count("consent.granted").await),
            (1, 1)
        );
        w.acknowledge_all("hospital").await;
        assert_eq!(check(&w, w.rpc(), "clinic", &request.consents[0]).await, PERMIT);
    });
}

#[test]
fn c3_more_than_an_approve_covers_waits_for_her_and_what_it_leaves_out_is_not_granted() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let mut wanted = approve(&w);
        wanted.excluded = vec![api::ExcludedSource {
            hip: String::new(),
            hi_types: vec![types::HiType::DiagnosticReport.into()],
        }];
        make(&w, &she, wanted).await.unwrap();
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let name = request.consents[0].clone();
        let consent = w
            .rpc()
            .get_consent(by(&she, api::GetConsentRequest { name }))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            consent.scope.unwrap().hi_types,
            [i32::from(types::HiType::Prescription)]
        );
        assert!(request.narrowed);
        let mut longer = w.asks("asha.rao@sbx");
        longer.scope.as_mut().unwrap().erase_time = w.at(366 * DAY);
        let mut stores = w.asks("asha.rao@sbx");
        stores.scope.as_mut().unwrap().access_mode = types::AccessMode::Store.into();
        let mut reports = w.asks("asha.rao@sbx");
        reports.scope.as_mut().unwrap().hi_types = vec![types::HiType::DiagnosticReport.into()];
        let mut unlinked = w.asks("asha.rao@sbx");
        unlinked.scope.as_mut().unwrap().care_contexts = vec![types::CareContextRef {
            care_context_reference: "visit-9".into(),
            ..Default::default()
        }];
        for more in [longer, stores, reports, unlinked] {
            let waits = w.create(more).await.unwrap();
            assert_eq!((waits.state(), waits.policy.as_str()), (Asked::Requested, ""));
        }
        let another = w.rpc();
        let message = w.asks("asha.rao@sbx");
        let asked = another.create_consent_request(by(&participant("insurer"), message));
        assert_eq!(asked.await.unwrap().into_inner().state(), Asked::Requested);
    });
}

#[test]
fn p3_1_2_3_once_disabled_a_policy_approves_nothing_and_what_it_gave_stays() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let policy = make(&w, &she, approve(&w)).await.unwrap();
        let granted = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        disable(&w, &she, &policy.name).await.unwrap();
        for _ in 0..3 {
            let waits = w.create(w.asks("asha.rao@sbx")).await.unwrap();
            assert_eq!(waits.state(), Asked::Requested);
        }
        w.acknowledge_all("hospital").await;
        assert_eq!(check(&w, w.rpc(), "clinic", &granted.consents[0]).await, PERMIT);
        enable(&w, &she, &policy.name).await.unwrap();
        assert_eq!(w.create(w.asks("asha.rao@sbx")).await.unwrap().state(), Asked::Granted);
    });
}

#[test]
fn a_deny_answers_a_request_at_once_and_beats_every_approve() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        make(&w, &she, approve(&w)).await.unwrap();
        let blocked = make(&w, &she, deny(&w, "participants/clinic")).await.unwrap();
        let message = w.asks("asha.rao@sbx");
        let request = w.create(message.clone()).await.unwrap();
        assert_eq!((request.state(), request.consents.len()), (Asked::Denied, 0));
        // The asker learns that it was denied, not by what.
        assert_eq!(request.policy, "");
        let told = w.notifications(&participant("clinic")).await;
        assert_eq!(told.last().unwrap().kind(), Kind::ConsentRequestDenied);
        assert_eq!(w.create(message).await.unwrap().name, request.name);
        assert_eq!(w.count("consent.denied").await, 1);
        let policies = list(&w, &she, "").await;
        let uses = |name: &str| policies.iter().find(|p| p.name == name).unwrap().use_count;
        assert_eq!(uses(&blocked.name), 1);
    });
}

#[test]
fn every_pair_of_state_and_verb_of_a_policy_is_taken_or_refused() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        for (from, verb, after) in [
            (State::Enabled, "enable", None),
            (State::Enabled, "disable", Some(State::Disabled)),
            (State::Disabled, "enable", Some(State::Enabled)),
            (State::Disabled, "disable", None),
        ] {
            let hiu = format!(
                "participants/{}{verb}",
                from.as_str_name().to_lowercase().replace('_', "-")
            );
            let policy = make(&w, &she, deny(&w, &hiu)).await.unwrap();
            if from == State::Disabled {
                disable(&w, &she, &policy.name).await.unwrap();
            }
            let said = match verb {
                "enable" => enable(&w, &she, &policy.name).await,
                _ => disable(&w, &she, &policy.name).await,
            };
            match after {
                Some(after) => assert_eq!(said.unwrap().state(), after),
                None => assert_eq!(refused(said).metadata.len(), 1),
            }
        }
    });
}

#[test]
fn a_policy_is_hers_alone_and_says_what_it_can_say() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let ravi = w.she(w.person("ravi.kumar@sbx"));
        let message = deny(&w, "participants/clinic");
        let policy = make(&w, &she, message.clone()).await.unwrap();
        assert_eq!(make(&w, &she, message).await.unwrap().name, policy.name);
        assert_eq!(
            reason(make(&w, &she, deny(&w, "participants/clinic")).await),
            Reason::PolicyDuplicate
        );
        assert_eq!(reason(disable(&w, &ravi, &policy.name).await), Reason::NotAvailable);
        assert!(list(&w, &ravi, "").await.is_empty());
        let account = she.account().unwrap().name();
        assert_eq!(list(&w, &operator(), &account).await.len(), 1);
        let mut pays = approve(&w);
        pays.scope.as_mut().unwrap().purpose.as_mut().unwrap().code = types::PurposeCode::Hpaymt.into();
        assert_eq!(reason(make(&w, &she, pays).await), Reason::PolicyPurpose);
        let nothing = api::CreatePolicyRequest {
            excluded: vec![api::ExcludedSource::default()],
            ..approve(&w)
        };
        assert_eq!(reason(make(&w, &she, nothing).await), Reason::SourceRequired);
        let homeless = api::CreatePolicyRequest {
            care_context_references: vec!["visit-1".into()],
            ..deny(&w, "")
        };
        assert_eq!(reason(make(&w, &she, homeless).await), Reason::HipRequired);
        let anybody = api::CreatePolicyRequest {
            hiu: String::new(),
            purposes: vec![types::PurposeCode::Caremgt.into()],
            ..approve(&w)
        };
        let refusal = refused(make(&w, &she, anybody).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(fields, ["hiu", "purposes"]);
        // Approving beforehand needs as fresh a login as approving; denying never does.
        w.advance(301);
        let late = w.she(she.account().unwrap());
        w.advance(301);
        assert_eq!(reason(make(&w, &late, approve(&w)).await), Reason::StepUpRequired);
        assert!(make(&w, &late, deny(&w, "")).await.is_ok());
    });
}
