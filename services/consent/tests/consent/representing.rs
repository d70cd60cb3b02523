//! Others decide for her: within their mandate, for as long as it lasts, and everybody reads that it was they.

use std::collections::BTreeSet;

use base64::Engine;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::consent::v1::subscription_service_server::SubscriptionService;
use sammati_api::types::v1 as types;
use sammati_kernel::{
    AccountId, Actor, Caller, Clock, Micros, ParticipantId, Peer, Power, PurposeCode, Reason, RepresentationId,
    RepresentationKind, Representing, SessionId,
};
use tonic::Response;

use crate::policies::{deny, make};
use crate::subscriptions::{act, ask, asking};
use crate::world::{DAY, World, by, everywhere, participant, reason};

/// Who acts for her, without limits.
pub(crate) fn acting(w: &World, account: AccountId) -> Representing {
    Representing {
        representation: RepresentationId::new(w.clock.now(), account.slot(), [5; 8]),
        principal: account,
        representative: w.person("ravi.rao@sbx"),
        kind: RepresentationKind::Delegate,
        powers: Power::ALL.into(),
        purposes: BTreeSet::new(),
        participants: BTreeSet::new(),
        ends: None,
        session: SessionId::new(w.clock.now(), account.slot(), [5; 8]),
        app: None,
        auth_time: w.clock.now().seconds(),
    }
}

pub(crate) fn he(acting: &Representing) -> Caller {
    Caller {
        peer: Peer::Anonymous,
        actor: Some(Actor::Representative(Box::new(acting.clone()))),
    }
}

#[test]
fn what_a_representative_grants_names_both_and_ends_with_the_mandate() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let end = Micros(w.clock.now().0 + 3 * DAY * 1_000_000);
        let acting = Representing {
            ends: Some(end),
            ..acting(&w, account)
        };
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let approved = w.approve(&he(&acting), w.approval(&request)).await.unwrap();
        let consent = approved.consents[0].clone();
        let decider = api::Decider {
            kind: types::CallerKind::Representative.into(),
            representation: acting.representation.name(),
        };
        assert_eq!(consent.granted_by.as_ref(), Some(&decider));
        assert_eq!(approved.consent_request.unwrap().decided_by, Some(decider));
        let expires = Some(sammati_server::event::timestamp(end));
        assert_eq!(consent.effective_expire_time, expires);

        // The artefact says so too, and a provider that trusts it alone stops with the mandate.
        let fetch = api::GetArtefactRequest {
            consent: consent.name.clone(),
            ..Default::default()
        };
        let fetched = w.rpc().get_artefact(by(&participant("hospital"), fetch)).await.unwrap();
        let jws = fetched.into_inner().jws;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(jws.split('.').nth(1).unwrap())
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(claims["granted_by"]["kind"], "REPRESENTATIVE");
        assert_eq!(claims["granted_by"]["representation"], acting.representation.name());
        assert_eq!(claims["exp"], end.seconds());

        // The event tells who acted, and under what.
        let events = w.events().await;
        let granted = events.iter().find(|e| e.event_type == "consent.granted").unwrap();
        let payload = granted.payload.as_ref().unwrap();
        assert_eq!(payload.actor.as_ref().unwrap().id, acting.representative.name());
        assert_eq!(
            payload.on_behalf_of.as_ref().unwrap().representation,
            acting.representation.name()
        );
        assert_eq!(payload.subject, account.name());

        // C2: by the clock, whether swept or not.
        let state = async || {
            let read = api::GetConsentRequest {
                name: consent.name.clone(),
            };
            w.rpc()
                .get_consent(by(&w.she(account), read))
                .await
                .unwrap()
                .into_inner()
                .state()
        };
        w.advance(3 * DAY - 1);
        assert_eq!(state().await, api::consent::State::Granted);
        w.advance(1);
        assert_eq!(state().await, api::consent::State::Expired);
    });
}

#[test]
fn what_would_outlive_the_mandate_is_hers_to_resume() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let lasting = acting(&w, she.account().unwrap());
        let ending = Representing {
            ends: Some(Micros(w.clock.now().0 + 3 * DAY * 1_000_000)),
            ..lasting.clone()
        };
        w.pause(&he(&ending), &consent.name).await.unwrap();
        assert_eq!(
            reason(w.resume(&he(&ending), &consent.name).await),
            Reason::PowerMissing
        );
        w.resume(&he(&lasting), &consent.name).await.unwrap();
        w.pause(&he(&ending), &consent.name).await.unwrap();
        w.resume(&she, &consent.name).await.unwrap();
    });
}

#[test]
fn a_subscription_that_would_outlive_the_mandate_is_hers_to_resume() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let lasting = acting(&w, account);
        let ending = Representing {
            ends: Some(Micros(w.clock.now().0 + 3 * DAY * 1_000_000)),
            ..lasting.clone()
        };
        let name = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap().name;
        act(&w, &w.she(account), "approve", &name, None).await.unwrap();
        act(&w, &he(&ending), "pause", &name, None).await.unwrap();
        assert_eq!(
            reason(act(&w, &he(&ending), "resume", &name, None).await),
            Reason::PowerMissing
        );
        act(&w, &he(&lasting), "resume", &name, None).await.unwrap();
    });
}

#[test]
fn a_delegate_decides_within_the_limits_alone() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let to = |ids: &[&str]| ids.iter().map(|id| ParticipantId::parse(id).unwrap()).collect();
        let limits = |purpose: PurposeCode, ids: &[&str]| Representing {
            purposes: [purpose].into(),
            participants: to(ids),
            ..acting(&w, account)
        };
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let outside = [
            limits(PurposeCode::Hpaymt, &["hospital", "clinic"]),
            limits(PurposeCode::Caremgt, &["hospital"]),
            limits(PurposeCode::Caremgt, &["clinic"]),
        ];
        for delegate in outside.iter().map(he) {
            assert_eq!(
                reason(w.approve(&delegate, w.approval(&request)).await),
                Reason::PowerMissing
            );
            let deny = api::DenyConsentRequestRequest {
                name: request.name.clone(),
                request_id: w.request_id(),
                ..Default::default()
            };
            let denied = w.rpc().deny_consent_request(by(&delegate, deny)).await;
            assert_eq!(reason(denied.map(Response::into_inner)), Reason::PowerMissing);
        }
        let within = he(&limits(PurposeCode::Caremgt, &["hospital", "clinic"]));
        let approved = w.approve(&within, w.approval(&request)).await.unwrap();
        let name = approved.consents[0].name.as_str();
        for delegate in outside.iter().map(he) {
            assert_eq!(reason(w.revoke(&delegate, &[name]).await), Reason::PowerMissing);
        }
        assert_eq!(w.revoke(&within, &[name]).await.unwrap().changed_count, 1);
    });
}

#[test]
fn a_representative_of_another_finds_nothing() {
    everywhere(|w| async move {
        let (her, other) = (w.person("asha.rao@sbx"), w.person("uma.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let stranger = he(&acting(&w, other));
        assert_eq!(
            reason(w.approve(&stranger, w.approval(&request)).await),
            Reason::NotAvailable
        );
        let approved = w.approve(&w.she(her), w.approval(&request)).await.unwrap();
        assert_eq!(approved.consents[0].granted_by.as_ref().unwrap().representation, "");
        let name = approved.consents[0].name.as_str();
        assert_eq!(reason(w.revoke(&stranger, &[name]).await), Reason::NotAvailable);
    });
}

#[test]
fn a_representative_who_logged_in_too_long_ago_grants_nothing() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let guardian = he(&acting(&w, account));
        w.advance(301);
        assert_eq!(
            reason(w.approve(&guardian, w.approval(&request)).await),
            Reason::StepUpRequired
        );
    });
}

#[test]
fn whoever_acts_for_her_reads_what_was_decided_beforehand_and_what_subscribes() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let she = w.she(account);
        let policy = make(&w, &she, deny(&w, "participants/insurer")).await.unwrap();
        let subscription = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        w.create(w.asks("asha.rao@sbx")).await.unwrap();
        for (who, expected) in [
            (acting(&w, account), true),
            (acting(&w, w.person("uma.rao@sbx")), false),
        ] {
            let who = he(&who);
            let policies = w.rpc().list_policies(by(&who, Default::default())).await.unwrap();
            let found = policies.into_inner().policies.iter().any(|p| p.name == policy.name);
            let name = subscription.name.clone();
            let read = w
                .rpc()
                .get_subscription(by(&who, api::GetSubscriptionRequest { name }))
                .await;
            let listed = w.rpc().list_subscriptions(by(&who, Default::default())).await.unwrap();
            let subscriptions = listed.into_inner().subscriptions.len() == 1;
            let told = w.rpc().list_notifications(by(&who, Default::default())).await.unwrap();
            let told = !told.into_inner().notifications.is_empty();
            assert_eq!(
                (found, read.is_ok(), subscriptions, told),
                (expected, expected, expected, expected)
            );
        }
    });
}

/// What is hers alone, whoever acts for her: what she is told she acknowledges, what needs her PIN she sets, her credentials,
/// her account's end, who acts for her; and studies, which ask her and nobody else.
const HERS: [&str; 12] = [
    "consent.v1.NotificationService/AcknowledgeNotifications",
    "consent.v1.StepUpService/SetStepUp",
    "consent.v1.StudyService/GetStudy",
    "consent.v1.StudyService/ListStudies",
    "identity.v1.AccountService/DeleteAccount",
    "identity.v1.AccountService/SetCredential",
    "identity.v1.AddressService/SuggestAddresses",
    "identity.v1.RepresentationService/AcceptRepresentation",
    "identity.v1.RepresentationService/CreateRepresentation",
    "identity.v1.RepresentationService/EndRepresentation",
    "identity.v1.RepresentationService/ListRepresentations",
    "identity.v1.TransactionService/ResendOtp",
];

#[test]
fn what_a_person_may_whoever_acts_for_her_may_but_what_is_hers_alone() {
    let (mut hers, mut seen) = (Vec::new(), 0);
    for method in sammati_api::access::methods().unwrap() {
        let grants = |kind| method.grants.iter().any(|grant| grant.caller == kind);
        let short = method.path.trim_start_matches("/sammati.").to_owned();
        match (
            grants(types::CallerKind::Person),
            grants(types::CallerKind::Representative),
        ) {
            (true, false) => hers.push(short.clone()),
            (true, true) => {
                seen += 1;
                // What only reads takes the power that comes with each of the others; a file of all that is hers takes more.
                let reads = method.class == types::Class::Check && !short.ends_with("/ExportConsents");
                let takes = short.starts_with("identity.v1.S") || short.starts_with("identity.v1.T");
                assert_eq!(method.power == types::Power::Read, reads || takes, "{short}");
            }
            (false, given) => assert!(!given, "{short}: more than she may"),
        }
        // An app asks for consents and subscribes, so it hears what became of them.
        if method.path.contains(".NotificationService/") {
            assert!(grants(types::CallerKind::App), "{}", method.path);
        }
    }
    hers.sort_unstable();
    assert_eq!(hers, HERS);
    assert!(seen >= 55, "{seen}");
}
