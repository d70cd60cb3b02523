//! Renewals, withdrawn requests, and seeing what an approval would make.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::consent::State;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::transfer::State as Transfer;
use sammati_api::types::v1 as types;
use sammati_kernel::Reason;

use crate::deciding::question;
use crate::transfers::{open, state, wanted};
use crate::verbs::{Verb, less};
use crate::world::{DAY, by, everywhere, participant, reason, refused};

#[test]
fn an_approved_renewal_takes_the_place_of_the_old_consent_in_one_commit() {
    everywhere(|w| async move {
        let (she, old) = w.granted("asha.rao@sbx", |_| {}).await;
        let transfer = open(&w, "clinic", wanted(&w, &old.name)).await.unwrap();
        let request = w.create(w.renewal("asha.rao@sbx", &old)).await.unwrap();
        assert_eq!((&request.renews, &request.hips), (&old.name, &vec![old.hip.clone()]));
        let new = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
        assert_eq!((new.state(), &new.renews, new.version), (State::Granted, &old.name, 1));
        let ended = w.consent(&she, &old.name).await;
        assert_eq!((ended.state(), &ended.renewed_by), (State::Superseded, &new.name));
        assert_eq!(state(&w, &she, &transfer).await, Transfer::Cancelled);
        w.acknowledge_all("hospital").await;
        let checked = w
            .rpc()
            .check_access(by(&participant("hospital"), question(&w, &old.name).check()))
            .await;
        let denied = checked.unwrap().into_inner();
        assert_eq!(
            (denied.reason(), &denied.successor),
            (Why::ConsentSuperseded, &new.name)
        );
        let checked = w
            .rpc()
            .check_access(by(&participant("hospital"), question(&w, &new.name).check()))
            .await;
        assert_eq!(checked.unwrap().into_inner().outcome(), Outcome::Permit);
        let message = api::GetArtefactRequest {
            consent: new.name.clone(),
            version: 0,
            audience: Audience::Hip.into(),
        };
        let artefact = w.rpc().get_artefact(by(&she, message)).await.unwrap().into_inner();
        assert_eq!(artefact.supersedes, format!("{}/artefacts/hip-1", old.name));
        let told: Vec<_> = w.notifications(&participant("clinic")).await;
        let told: Vec<_> = told.iter().map(|n| (n.kind(), n.resource.as_str())).collect();
        assert!(told.contains(&(Kind::ConsentSuperseded, old.name.as_str())), "{told:?}");
        assert!(told.contains(&(Kind::ConsentGranted, new.name.as_str())), "{told:?}");
        let revoked = refused(w.revoke(&she, &[&old.name]).await);
        assert_eq!(revoked.reason, Reason::StateConflict);
    });
}

#[test]
fn c3_a_renewal_asks_for_no_more_than_there_is_but_time() {
    everywhere(|w| async move {
        let (she, old) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 5).await;
        let mut more = w.renewal("asha.rao@sbx", &old);
        more.scope.as_mut().unwrap().hi_types.push(8);
        let refusal = refused(w.create(more).await);
        assert_eq!(
            (refusal.reason, refusal.metadata),
            (Reason::RenewalWider, vec![("field", "hi_types".into())])
        );
        let mut elsewhere = w.renewal("asha.rao@sbx", &old);
        elsewhere.hips = vec!["participants/lab".into()];
        assert_eq!(reason(w.create(elsewhere).await), Reason::FieldInvalid);
        // She narrows it after she was asked: then the renewal is wider than what there is.
        let request = w.create(w.renewal("asha.rao@sbx", &old)).await.unwrap();
        let narrow = less(old.scope.as_ref().unwrap());
        w.narrow(&she, &old.name, narrow.clone()).await.unwrap();
        let refusal = refused(w.approve(&she, w.approval(&request)).await);
        assert_eq!(
            (refusal.reason, refusal.metadata),
            (Reason::RenewalWider, vec![("field", "hi_types".into())])
        );
        let mut fitting = w.approval(&request);
        fitting.grants = vec![api::approve_consent_request_request::Grant {
            hip: old.hip.clone(),
            scope: Some(types::Scope {
                erase_time: w.at(10 * DAY),
                ..narrow
            }),
        }];
        w.approve(&she, fitting).await.unwrap();
        assert_eq!(w.consent(&she, &old.name).await.state(), State::Superseded);
    });
}

#[test]
fn a_renewal_is_its_receivers_to_ask_for_and_of_what_lives() {
    everywhere(|w| async move {
        let subject = w.subject("asha.rao@sbx").await;
        w.person("ravi.kumar@sbx");
        w.also(subject.she.account().unwrap(), "asha.other@sbx");
        let mut foreign = w.renewal("asha.rao@sbx", &subject.consent);
        let asked = w
            .rpc()
            .create_consent_request(by(&participant("insurer"), foreign.clone()))
            .await;
        assert_eq!(reason(asked), Reason::NotAvailable);
        // Another person, nobody, or another address of hers: the same, lest it tell whose an address is.
        for address in ["ravi.kumar@sbx", "nobody.here@sbx", "asha.other@sbx"] {
            foreign.patient = address.into();
            foreign.request_id = w.request_id();
            assert_eq!(
                reason(w.create(foreign.clone()).await),
                Reason::NotAvailable,
                "{address}"
            );
        }
        w.act(&subject, Verb::Revoke).await.unwrap();
        let refusal = refused(w.create(w.renewal("asha.rao@sbx", &subject.consent)).await);
        assert_eq!(
            (refusal.reason, refusal.metadata),
            (Reason::StateConflict, vec![("state", "REVOKED".into())])
        );
        let refusal = w.act(&subject, Verb::Renew).await.unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.metadata),
            (Reason::StateConflict, vec![("state", "REVOKED".into())])
        );
        assert_eq!(w.count("consent.granted").await, 1);
    });
}

#[test]
fn a_request_is_its_askers_to_withdraw_and_both_are_told() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        for who in ["insurer", "hospital"] {
            assert_eq!(reason(w.cancel(who, &request.name).await), Reason::NotAvailable);
        }
        let cancelled = w.cancel("clinic", &request.name).await.unwrap();
        assert_eq!((cancelled.state(), cancelled.decide_time), (Asked::Cancelled, w.at(0)));
        assert_eq!(
            reason(w.approve(&she, w.approval(&request)).await),
            Reason::StateConflict
        );
        for who in [&she, &participant("clinic")] {
            let told = w.notifications(who).await;
            assert!(told.iter().any(|n| n.kind() == Kind::ConsentRequestCancelled));
        }
        // Nobody's request is withdrawn like anybody's.
        let nobodys = w.create(w.asks("nobody.here@sbx")).await.unwrap();
        assert_eq!(
            w.cancel("clinic", &nobodys.name).await.unwrap().state(),
            Asked::Cancelled
        );
    });
}

#[test]
fn a_dry_run_shows_what_an_approval_would_make_and_makes_nothing() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let events = w.events().await.len();
        let mut approval = w.approval(&request);
        approval.dry_run = true;
        let shown = w.approve(&she, approval.clone()).await.unwrap();
        assert_eq!(shown.consent_request.unwrap().state(), Asked::Requested);
        let would = &shown.consents[0];
        assert_eq!(
            (would.name.as_str(), would.scope.as_ref()),
            ("", request.scope.as_ref())
        );
        let mut wider = approval.clone();
        let mut scope = request.scope.clone().unwrap();
        scope.erase_time = w.at(40 * DAY);
        wider.grants = vec![api::approve_consent_request_request::Grant {
            hip: "participants/hospital".into(),
            scope: Some(scope),
        }];
        assert_eq!(reason(w.approve(&she, wider).await), Reason::GrantWider);
        assert_eq!(w.events().await.len(), events);
        // The id is not used up.
        approval.dry_run = false;
        let made = w.approve(&she, approval).await.unwrap().consents.remove(0);
        assert_eq!(made.scope, would.scope);
    });
}
