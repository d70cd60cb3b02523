//! Checks, authorizes, transfers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::transfer_service_server::TransferService;
use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, Caller, Clock, Reason, Slot};
use sammati_store::Reader;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::Response;

use crate::transfers::{open, wanted};
use crate::world::{DAY, World, by, everywhere, participant, reason};

/// A question that the sample consent permits.
#[derive(Clone)]
pub(crate) struct Asked(api::CheckAccessRequest);

pub(crate) fn question(w: &World, consent: &str) -> Asked {
    Asked(api::CheckAccessRequest {
        target: Some(api::check_access_request::Target::Consent(consent.to_owned())),
        purpose: types::PurposeCode::Caremgt.into(),
        access_mode: types::AccessMode::View.into(),
        hi_types: vec![types::HiType::Prescription.into()],
        record_range: Some(types::TimeRange {
            from: w.at(-100 * DAY),
            to: w.at(-10 * DAY),
        }),
        ..Default::default()
    })
}

impl From<api::CheckAccessRequest> for Asked {
    fn from(check: api::CheckAccessRequest) -> Self {
        Self(check)
    }
}

impl Asked {
    pub(crate) fn check(self) -> api::CheckAccessRequest {
        self.0
    }

    pub(crate) fn authorize(self, request_id: String) -> api::AuthorizeAccessRequest {
        use api::authorize_access_request::Target as A;
        use api::check_access_request::Target as C;
        let c = self.0;
        api::AuthorizeAccessRequest {
            target: c.target.map(|t| match t {
                C::Consent(name) => A::Consent(name),
                C::Subject(identifier) => A::Subject(identifier),
            }),
            requester: c.requester,
            provider: c.provider,
            user: c.user,
            purpose: c.purpose,
            access_mode: c.access_mode,
            hi_types: c.hi_types,
            record_range: c.record_range,
            care_contexts: c.care_contexts,
            request_id,
            allow_reduced: c.allow_reduced,
            signed: c.signed,
        }
    }

    /// The same about a person.
    pub(crate) fn of(mut self, address: &str, requester: &str, provider: &str) -> Self {
        let identifier = types::identifier::Identifier::AbhaAddress(address.to_owned());
        self.0.target = Some(api::check_access_request::Target::Subject(types::Identifier {
            identifier: Some(identifier),
        }));
        self.0.requester = format!("participants/{requester}");
        self.0.provider = format!("participants/{provider}");
        self
    }
}

async fn check(w: &World, caller: &Caller, message: api::CheckAccessRequest) -> Result<api::Decision, tonic::Status> {
    w.rpc()
        .check_access(by(caller, message))
        .await
        .map(Response::into_inner)
}

#[test]
fn a_check_answers_by_consent_and_by_person_and_consumes_nothing() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 1).await;
        let by_consent = question(&w, &consent.name);
        let by_person = by_consent.clone().of("asha.rao@sbx", "clinic", "hospital");
        for who in [participant("hospital"), participant("clinic"), she.clone()] {
            for asked in [&by_consent, &by_person] {
                let permit = check(&w, &who, asked.clone().check()).await.unwrap();
                assert_eq!(
                    (permit.outcome(), permit.uses_left, permit.r#use),
                    (Outcome::Permit, Some(1), None)
                );
                assert!(permit.decision_id.is_empty() && permit.obligations.unwrap().no_store);
            }
        }
        let stranger = check(&w, &participant("lab"), by_consent.clone().check())
            .await
            .unwrap();
        assert_eq!((stranger.reason(), stranger.consent.as_str()), (Why::NoConsent, ""));
        assert_eq!(
            reason(check(&w, &participant("lab"), by_person.clone().check()).await),
            Reason::NotAvailable
        );
        let other = w.she(w.person("ravi.kumar@sbx"));
        assert_eq!(
            reason(check(&w, &other, by_consent.clone().check()).await),
            Reason::NotAvailable
        );
        assert_eq!(reason(check(&w, &other, by_person.check()).await), Reason::NotAvailable);
        let nobody = question(&w, &consent.name).of("nobody.here@sbx", "clinic", "hospital");
        assert_eq!(
            check(&w, &participant("hospital"), nobody.check())
                .await
                .unwrap()
                .reason(),
            Why::NoConsent
        );
        *w.people.stale.lock().unwrap() = true;
        assert_eq!(
            reason(check(&w, &participant("hospital"), by_consent.check()).await),
            Reason::IdentityStale
        );
    });
}

#[test]
fn after_a_revoke_a_question_about_the_person_tells_why_too() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let asked = question(&w, &consent.name).of("asha.rao@sbx", "clinic", "hospital");
        assert_eq!(
            check(&w, &participant("clinic"), asked.check()).await.unwrap().reason(),
            Why::ConsentRevoked
        );
    });
}

#[test]
fn equal_denials_of_a_minute_are_one_event_now_and_one_at_its_end() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let mut asked = question(&w, &consent.name);
        asked.0.hi_types = vec![types::HiType::Invoice.into()];
        let (rpc, _) = &w.replicas[0];
        let deny = async || {
            rpc.check_access(by(&participant("hospital"), asked.clone().check()))
                .await
                .unwrap()
                .into_inner()
        };
        let first = deny().await;
        assert_eq!(
            (first.reason(), deny().await.decision_id),
            (Why::HiTypeNotGranted, first.decision_id.clone())
        );
        rpc.flush_denials(false).await;
        assert_eq!(w.count("access.denied").await, 1);
        let later = deny().await;
        assert_ne!(later.decision_id, first.decision_id);
        rpc.flush_denials(false).await;
        assert_eq!(w.count("access.denied").await, 1);
        w.advance(60);
        rpc.flush_denials(false).await;
        let denied: Vec<_> = w
            .events()
            .await
            .into_iter()
            .filter(|e| e.event_type == "access.denied")
            .collect();
        assert_eq!(
            denied.iter().map(|e| e.event_id.clone()).collect::<Vec<_>>(),
            [first.decision_id, later.decision_id]
        );
        assert_eq!(denied[0].payload.as_ref().unwrap().counts.unwrap().repeats, 2);
        assert_eq!(denied[0].reason_code, "HI_TYPE_NOT_GRANTED");
    });
}

#[test]
fn a_repeated_authorize_is_the_same_decision_and_takes_no_second_use() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 2).await;
        let hospital = participant("hospital");
        let message = question(&w, &consent.name)
            .of("asha.rao@sbx", "clinic", "hospital")
            .authorize(w.request_id());
        let first = w
            .rpc()
            .authorize_access(by(&hospital, message.clone()))
            .await
            .unwrap()
            .into_inner();
        let again = w
            .rpc()
            .authorize_access(by(&hospital, message))
            .await
            .unwrap()
            .into_inner();
        let told = |d: &api::Decision| {
            (
                d.outcome,
                d.decision_id.clone(),
                d.decide_time,
                d.r#use,
                d.uses_left,
                d.consent.clone(),
                d.granted.clone(),
            )
        };
        assert_eq!(told(&first), told(&again));
        assert_eq!(
            (first.r#use, first.uses_left, w.count("data.use_consumed").await),
            (Some(1), Some(1), 1)
        );
        let nobody = question(&w, &consent.name)
            .of("nobody.here@sbx", "clinic", "hospital")
            .authorize(w.request_id());
        let denied = w
            .rpc()
            .authorize_access(by(&hospital, nobody))
            .await
            .unwrap()
            .into_inner();
        assert_eq!((denied.reason(), w.count("access.denied").await), (Why::NoConsent, 1));
    });
}

#[test]
fn an_authorize_needs_no_connection_but_its_lanes() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |scope| scope.care_contexts.clear()).await;
        let hospital = participant("hospital");
        let authorize = async || {
            let message = question(&w, &consent.name).authorize(w.request_id());
            let authorized = w.replicas[0].0.authorize_access(by(&hospital, message));
            timeout(Duration::from_secs(10), authorized)
                .await
                .expect("it waits for a reader")
                .unwrap()
                .into_inner()
        };
        assert_eq!(authorize().await.outcome(), Outcome::Permit);
        // Whose the consent is is known by now. As many reads as there may be at once go on until they are let go.
        let entered = Arc::new(Semaphore::new(0));
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let reads: Vec<_> = (0..8)
            .map(|_| {
                let (store, held, entered) = (w.store().clone(), Arc::clone(&held), Arc::clone(&entered));
                tokio::spawn(async move {
                    let read = move |_: &mut Reader<'_>| {
                        entered.add_permits(1);
                        held.lock().unwrap().recv().unwrap_err();
                        Ok(())
                    };
                    store.read(read).await
                })
            })
            .collect();
        let all = if w.store().path().is_some() { 2 } else { 8 };
        drop(entered.acquire_many(all).await.unwrap());
        assert_eq!(authorize().await.outcome(), Outcome::Permit);
        drop(hold);
        for read in reads {
            read.await.unwrap().unwrap();
        }
    });
}

#[test]
fn at_least_sees_a_revision_and_anything_else_is_refused() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let at_least = |text: &str| {
            let mut asked = question(&w, &consent.name);
            asked.0.consistency = Some(api::check_access_request::Consistency::AtLeast(text.to_owned()));
            asked.check()
        };
        let hospital = participant("hospital");
        assert_eq!(
            check(&w, &hospital, at_least(&consent.revision))
                .await
                .unwrap()
                .outcome(),
            Outcome::Permit
        );
        assert_eq!(
            reason(check(&w, &hospital, at_least("AAAA")).await),
            Reason::FieldInvalid
        );
    });
}

#[test]
fn an_account_that_was_made_up_is_nobodys() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let new = w.person("ravi.kumar@sbx");
        let made_up = AccountId::new(w.clock.now(), Slot::new(9), [9; 8]);
        for (account, why, subject) in [
            (she.account().unwrap(), Why::Granted, she.account()),
            (new, Why::NoConsent, Some(new)),
            (made_up, Why::NoConsent, None),
        ] {
            let mut asked = question(&w, &consent.name).of("-", "clinic", "hospital");
            let identifier = types::identifier::Identifier::Account(account.name());
            asked.0.target = Some(api::check_access_request::Target::Subject(types::Identifier {
                identifier: Some(identifier),
            }));
            let hospital = participant("hospital");
            let checked = check(&w, &hospital, asked.clone().check()).await.unwrap();
            let message = asked.authorize(w.request_id());
            let decided = w.rpc().authorize_access(by(&hospital, message)).await;
            let decided = decided.unwrap().into_inner();
            assert_eq!((checked.reason(), decided.reason()), (why, why));
            let event = w.events().await.into_iter().find(|e| e.event_id == decided.decision_id);
            assert_eq!(
                event.unwrap().payload.unwrap().subject,
                subject.map(|account| account.name()).unwrap_or_default()
            );
        }
    });
}

#[test]
fn a_check_names_a_wrong_revision_with_all_else_that_is_wrong() {
    everywhere(|w| async move {
        let mut asked = question(&w, "consents/none").check();
        asked.purpose = 0;
        asked.consistency = Some(api::check_access_request::Consistency::FullyConsistent(false));
        let refusal = crate::world::refused(check(&w, &participant("hospital"), asked).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(fields, ["consent", "purpose", "fully_consistent"]);
    });
}

#[test]
fn a_transfer_takes_a_use_tells_the_hip_and_ends_with_the_consent() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let message = wanted(&w, &consent.name);
        let first = open(&w, "clinic", message.clone()).await.unwrap();
        assert_eq!(open(&w, "clinic", message).await.unwrap().name, first.name);
        assert_eq!((first.r#use, first.hi_types.len()), (1, 2));
        let get = async |who: &Caller| {
            w.rpc()
                .get_transfer(by(
                    who,
                    api::GetTransferRequest {
                        name: first.name.clone(),
                    },
                ))
                .await
                .map(Response::into_inner)
        };
        assert!(get(&participant("hospital")).await.unwrap().key_material.is_some());
        assert!(get(&she).await.unwrap().key_material.is_none());
        assert_eq!(reason(get(&participant("lab")).await), Reason::NotAvailable);
        let told = w.notifications(&participant("hospital")).await;
        assert!(
            told.iter()
                .any(|n| n.kind() == api::notification::Kind::TransferRequested && n.resource == first.name)
        );
        w.revoke(&she, &[&consent.name]).await.unwrap();
        assert_eq!(get(&she).await.unwrap().state(), api::transfer::State::Cancelled);
        assert_eq!(w.count("transfer.cancelled").await, 1);
    });
}

#[test]
fn a_refused_transfer_names_the_rule_and_leaves_its_event() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let consent = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
        assert_eq!(
            reason(open(&w, "clinic", wanted(&w, &consent.name)).await),
            Reason::ProviderNotAcknowledged
        );
        w.acknowledge_all("hospital").await;
        let message = wanted(&w, &consent.name);
        assert_eq!(reason(open(&w, "insurer", message.clone()).await), Reason::NoConsent);
        assert_eq!(reason(open(&w, "insurer", message).await), Reason::NoConsent);
        let mut wide = wanted(&w, &consent.name);
        wide.record_range.as_mut().unwrap().from = w.at(-400 * DAY);
        assert_eq!(reason(open(&w, "clinic", wide).await), Reason::RecordRangeNotGranted);
        assert_eq!(w.count("access.denied").await, 3);
        let elsewhere = api::CreateTransferRequest {
            push_uri: "https://clinic.example.evil.com/".into(),
            ..wanted(&w, &consent.name)
        };
        assert_eq!(
            reason(open(&w, "clinic", elsewhere).await),
            Reason::PushUriNotRegistered
        );
        let mut bent = wanted(&w, &consent.name);
        bent.key_material.as_mut().unwrap().content = "{}".into();
        assert_eq!(reason(open(&w, "clinic", bent).await), Reason::KeyMaterialInvalid);
        let twice = wanted(&w, &consent.name);
        open(&w, "clinic", twice).await.unwrap();
        let read = w
            .rpc()
            .get_consent(by(
                &she,
                api::GetConsentRequest {
                    name: consent.name.clone(),
                },
            ))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(read.uses.unwrap().count, 1);
    });
}

#[test]
fn a_second_transfer_in_the_window_is_told_when_to_come_back() {
    everywhere(|w| async move {
        let (_, consent) = w
            .granted("asha.rao@sbx", |scope| scope.frequency.as_mut().unwrap().value = 1)
            .await;
        let open = async || open(&w, "clinic", wanted(&w, &consent.name)).await;
        open().await.unwrap();
        let refusal = crate::world::refused(open().await);
        assert_eq!(refusal.reason, Reason::FrequencyExceeded);
        let wait = i64::try_from(refusal.retry_after.unwrap().as_secs()).unwrap();
        w.advance(wait + 1);
        assert!(open().await.is_ok());
    });
}
