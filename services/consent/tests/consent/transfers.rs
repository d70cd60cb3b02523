//! The life of a transfer: opened, taken on, ended by the clock, by her, or because a participant is suspended.

use sammati_api::audit::v1::Event;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::transfer::State;
use sammati_api::consent::v1::transfer_service_server::TransferService;
use sammati_api::types::v1 as types;
use sammati_consent::sweep;
use sammati_consent::transfer::halt::Halts;
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::world::{DAY, HOUR, World, by, everywhere, operator, participant, reason, refused};

/// A transfer that the sample consent permits.
pub(crate) fn wanted(w: &World, consent: &str) -> api::CreateTransferRequest {
    let content = r#"{"cryptoAlg":"ECDH","curve":"Curve25519","dhPublicKey":{"expiry":"2040-01-01T00:00:00.000Z","parameters":"Curve25519/32byte random key","keyValue":"BASE64"},"nonce":"n"}"#;
    api::CreateTransferRequest {
        consent: consent.to_owned(),
        record_range: Some(types::TimeRange {
            from: w.at(-100 * DAY),
            to: w.at(-10 * DAY),
        }),
        push_uri: "https://clinic.example/push".into(),
        key_material: Some(api::KeyMaterial {
            content: content.to_owned(),
            expire_time: w.at(HOUR),
        }),
        request_id: w.request_id(),
        ..Default::default()
    }
}

pub(crate) async fn open(w: &World, who: &str, message: api::CreateTransferRequest) -> Result<api::Transfer, Status> {
    w.rpc()
        .create_transfer(by(&participant(who), message))
        .await
        .map(Response::into_inner)
}

pub(crate) fn taking(w: &World, transfer: &api::Transfer) -> api::AcknowledgeTransferRequest {
    api::AcknowledgeTransferRequest {
        name: transfer.name.clone(),
        etag: String::new(),
        request_id: w.request_id(),
    }
}

pub(crate) async fn take_on(
    w: &World,
    who: &str,
    message: api::AcknowledgeTransferRequest,
) -> Result<api::Transfer, Status> {
    w.rpc()
        .acknowledge_transfer(by(&participant(who), message))
        .await
        .map(Response::into_inner)
}

pub(crate) async fn state(w: &World, who: &Caller, transfer: &api::Transfer) -> State {
    let name = transfer.name.clone();
    let read = w.rpc().get_transfer(by(who, api::GetTransferRequest { name })).await;
    read.unwrap().into_inner().state()
}

/// Uses of her consent so far.
pub(crate) async fn uses(w: &World, she: &Caller, consent: &str) -> i64 {
    let name = consent.to_owned();
    let read = w.rpc().get_consent(by(she, api::GetConsentRequest { name })).await;
    read.unwrap().into_inner().uses.unwrap().count
}

pub(crate) async fn told(w: &World, kind: &str) -> Vec<Event> {
    let mut events = w.events().await;
    events.retain(|event| event.event_type == kind);
    events
}

#[test]
fn c2_a_transfer_that_was_taken_on_keeps_its_use_when_it_expires() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 1).await;
        let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        let message = taking(&w, &opened);
        let taken = take_on(&w, "hospital", message.clone()).await.unwrap();
        assert_eq!(taken.state(), State::Acknowledged);
        let due = opened.create_time.unwrap().seconds + 2 * HOUR;
        assert_eq!((taken.expire_time.unwrap().seconds, taken.r#use), (due, 1));
        assert_ne!(taken.etag, opened.etag);
        let again = take_on(&w, "hospital", message).await.unwrap();
        assert_eq!((again.state(), again.etag), (State::Acknowledged, taken.etag));
        // It was asked about twice, and took one use.
        assert_eq!(
            (
                w.count("access.authorized").await,
                w.count("data.use_consumed").await,
                w.count("data.acknowledged").await
            ),
            (2, 1, 1)
        );
        w.advance(20 * 60);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(state(&w, &she, &opened).await, State::Acknowledged);
        w.advance(100 * 60);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(state(&w, &she, &opened).await, State::Expired);
        assert_eq!(
            (w.count("transfer.expired").await, w.count("data.use_returned").await),
            (1, 0)
        );
        assert_eq!(
            reason(open(&w, "clinic", wanted(&w, &consent.name)).await),
            Reason::UseLimitReached
        );
    });
}

#[test]
fn nobody_but_its_hip_takes_a_transfer_on_and_only_once() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        for who in ["lab", "clinic"] {
            assert_eq!(
                reason(take_on(&w, who, taking(&w, &opened)).await),
                Reason::NotAvailable
            );
        }
        let nothing = api::AcknowledgeTransferRequest {
            name: opened.name.replace("transfers/0", "transfers/f"),
            ..taking(&w, &opened)
        };
        assert!(matches!(
            reason(take_on(&w, "hospital", nothing).await),
            Reason::NotAvailable | Reason::FieldInvalid
        ));
        let stale = api::AcknowledgeTransferRequest {
            etag: "\"7\"".into(),
            ..taking(&w, &opened)
        };
        assert_eq!(reason(take_on(&w, "hospital", stale).await), Reason::EtagMismatch);
        take_on(&w, "hospital", taking(&w, &opened)).await.unwrap();
        let conflict = refused(take_on(&w, "hospital", taking(&w, &opened)).await);
        assert_eq!(conflict.reason, Reason::StateConflict);
        assert_eq!(conflict.metadata, [("state", "ACKNOWLEDGED".to_owned())]);
        // Her word ends one that was taken on as well.
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let conflict = refused(take_on(&w, "hospital", taking(&w, &opened)).await);
        assert_eq!(conflict.metadata, [("state", "CANCELLED".to_owned())]);
    });
}

#[test]
fn c2_a_transfer_is_decided_again_when_it_is_taken_on() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |scope| scope.bind_requester = true).await;
        let wanted = api::CreateTransferRequest {
            user: Some(crate::world::professional()),
            ..wanted(&w, &consent.name)
        };
        let opened = open(&w, "clinic", wanted).await.unwrap();
        w.people.suspended.lock().unwrap().insert("clinic".into());
        let message = taking(&w, &opened);
        for _ in 0..2 {
            assert_eq!(
                reason(take_on(&w, "hospital", message.clone()).await),
                Reason::RequesterNotActive
            );
        }
        let denied = told(&w, "access.denied").await;
        assert_eq!(
            (denied.len(), denied[0].reason_code.as_str()),
            (1, "REQUESTER_NOT_ACTIVE")
        );
        assert_eq!(state(&w, &participant("hospital"), &opened).await, State::Requested);
        w.people.suspended.lock().unwrap().clear();
        *w.people.stale.lock().unwrap() = true;
        assert_eq!(
            reason(take_on(&w, "hospital", taking(&w, &opened)).await),
            Reason::IdentityStale
        );
        *w.people.stale.lock().unwrap() = false;
        assert!(take_on(&w, "hospital", taking(&w, &opened)).await.is_ok());
    });
}

#[test]
fn a_transfer_that_is_overdue_is_expired_by_whatever_meets_it() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 2).await;
        let first = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        w.advance(10 * 60);
        let second = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        w.advance(10 * 60);
        // Taking it on expires it, and says so; its use is free again at once.
        let conflict = refused(take_on(&w, "hospital", taking(&w, &first)).await);
        assert_eq!(
            (conflict.reason, conflict.metadata[0].1.as_str()),
            (Reason::StateConflict, "EXPIRED")
        );
        assert_eq!(
            (w.count("transfer.expired").await, uses(&w, &she, &consent.name).await),
            (1, 1)
        );
        // So does opening another: the second's use is there for the third.
        let third = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        w.advance(10 * 60);
        let fourth = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        assert_eq!(state(&w, &she, &second).await, State::Expired);
        assert_eq!(w.count("transfer.expired").await, 2);
        // What everybody read as EXPIRED never becomes CANCELLED.
        w.advance(10 * 60);
        assert_eq!(state(&w, &she, &third).await, State::Expired);
        w.revoke(&w.she(she.account().unwrap()), &[&consent.name])
            .await
            .unwrap();
        for (transfer, end) in [(&third, State::Expired), (&fourth, State::Cancelled)] {
            assert_eq!(state(&w, &she, transfer).await, end);
        }
        let cancelled = told(&w, "transfer.cancelled").await;
        let withdrawn = told(&w, "consent.withdrawn").await;
        assert_eq!(cancelled.len(), 1);
        assert_eq!(cancelled[0].causation_event_id, withdrawn[0].event_id);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(w.count("transfer.expired").await, 3);
    });
}

#[test]
fn c2_a_transfer_that_is_cancelled_before_it_was_taken_on_gives_its_use_back() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 1).await;
        open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        w.pause(&she, &consent.name).await.unwrap();
        assert_eq!(uses(&w, &she, &consent.name).await, 0);
        let (cancelled, returned) = (
            told(&w, "transfer.cancelled").await,
            told(&w, "data.use_returned").await,
        );
        assert_eq!(
            (cancelled.len(), returned.len(), &returned[0].causation_event_id),
            (1, 1, &cancelled[0].event_id)
        );
        // Once it was taken on records may have flowed, whatever she says afterwards.
        w.resume(&she, &consent.name).await.unwrap();
        let second = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        take_on(&w, "hospital", taking(&w, &second)).await.unwrap();
        w.pause(&she, &consent.name).await.unwrap();
        w.resume(&she, &consent.name).await.unwrap();
        assert_eq!(
            (uses(&w, &she, &consent.name).await, w.count("data.use_returned").await),
            (1, 1)
        );
        assert_eq!(
            reason(open(&w, "clinic", wanted(&w, &consent.name)).await),
            Reason::UseLimitReached
        );
    });
}

#[test]
fn c2_a_use_comes_back_from_a_narrowing_in_the_window_that_it_was_taken_in() {
    everywhere(|w| async move {
        let (she, consent) = w
            .granted("asha.rao@sbx", |scope| scope.frequency.as_mut().unwrap().value = 3)
            .await;
        let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        take_on(&w, "hospital", taking(&w, &opened)).await.unwrap();
        w.advance(30 * HOUR);
        open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        let mut scope = consent.scope.clone().unwrap();
        scope.frequency.as_mut().unwrap().unit = types::FrequencyUnit::Week.into();
        w.narrow(&she, &consent.name, scope).await.unwrap();
        let name = consent.name.clone();
        let read = w.rpc().get_consent(by(&she, api::GetConsentRequest { name })).await;
        let uses = read.unwrap().into_inner().uses.unwrap();
        // Two were taken, one of them came back; the one that stays is in this week.
        assert_eq!((uses.count, uses.window_count, uses.left), (1, 1, Some(2)));
    });
}

#[test]
fn what_a_suspended_participant_has_open_is_cancelled() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let (_, other) = w.granted("ravi.kumar@sbx", |_| {}).await;
        let asked = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        let taken = open(&w, "clinic", wanted(&w, &other.name)).await.unwrap();
        take_on(&w, "hospital", taking(&w, &taken)).await.unwrap();
        let mut halts = Halts::default();
        w.rpc().halt_transfers(&mut halts).await.unwrap();
        assert_eq!(state(&w, &she, &asked).await, State::Requested);
        w.people.suspended.lock().unwrap().insert("hospital".into());
        w.rpc().halt_transfers(&mut halts).await.unwrap();
        for transfer in [&asked, &taken] {
            assert_eq!(state(&w, &participant("clinic"), transfer).await, State::Cancelled);
        }
        let cancelled = told(&w, "transfer.cancelled").await;
        assert_eq!((cancelled.len(), w.count("data.use_returned").await), (2, 1));
        let payload = cancelled[0].payload.as_ref().unwrap();
        assert_eq!(payload.actor.as_ref().unwrap().id, "services/consent");
        w.rpc().halt_transfers(&mut halts).await.unwrap();
        assert_eq!(w.count("transfer.cancelled").await, 2);
        // One that a replica opened on older facts ends with the next look at everything.
        w.people.suspended.lock().unwrap().clear();
        let late = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        w.people.suspended.lock().unwrap().insert("clinic".into());
        halts = Halts::default();
        w.rpc().halt_transfers(&mut halts).await.unwrap();
        assert_eq!(state(&w, &she, &late).await, State::Cancelled);
        let kinds = w.notifications(&participant("hospital")).await;
        let cancelled = api::notification::Kind::TransferCancelled;
        assert_eq!(kinds.iter().filter(|n| n.kind() == cancelled).count(), 3);
    });
}

#[test]
fn at_most_32_transfers_are_open_under_one_consent() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        for _ in 0..32 {
            open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        }
        let refusal = refused(open(&w, "clinic", wanted(&w, &consent.name)).await);
        assert_eq!(
            (refusal.reason, refusal.retry_after.unwrap().as_secs()),
            (Reason::OpenLimit, 20 * 60)
        );
        assert_eq!(w.count("data.use_consumed").await, 32);
        // Whoever has no part in it is not told how many there are.
        assert_eq!(
            reason(open(&w, "insurer", wanted(&w, &consent.name)).await),
            Reason::NoConsent
        );
        w.advance(20 * 60);
        assert!(open(&w, "clinic", wanted(&w, &consent.name)).await.is_ok());
    });
}

#[test]
fn i1_a_repeat_is_answered_whatever_has_become_of_the_key_and_the_origin() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let message = wanted(&w, &consent.name);
        let opened = open(&w, "clinic", message.clone()).await.unwrap();
        w.advance(2 * HOUR);
        w.people.origins.lock().unwrap().clear();
        let again = open(&w, "clinic", message.clone()).await.unwrap();
        assert_eq!((again.state(), again.name), (State::Expired, opened.name));
        assert_eq!(w.count("data.requested").await, 1);
        let another = api::CreateTransferRequest {
            request_id: w.request_id(),
            ..message
        };
        let refusal = refused(open(&w, "clinic", another).await);
        assert_eq!(refusal.reason, Reason::KeyMaterialInvalid);
        assert_eq!(
            refusal.violations.iter().next().unwrap().field,
            "key_material.expire_time"
        );
        assert_eq!(
            reason(open(&w, "clinic", wanted(&w, &consent.name)).await),
            Reason::PushUriNotRegistered
        );
    });
}

#[test]
fn events_of_a_transfer_tell_what_for_and_because_of_what() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        take_on(&w, "hospital", taking(&w, &opened)).await.unwrap();
        let message = api::RevokeConsentsRequest {
            names: vec![consent.name.clone()],
            legal_basis: "order 7".into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().revoke_consents(by(&operator(), message)).await.unwrap();
        assert_eq!(state(&w, &she, &opened).await, State::Cancelled);
        let decisions = told(&w, "access.authorized").await;
        for (kind, cause) in [
            ("data.requested", &decisions[0]),
            ("data.acknowledged", &decisions[1]),
            ("transfer.cancelled", &told(&w, "consent.withdrawn").await[0]),
        ] {
            let event = told(&w, kind).await.remove(0);
            assert_eq!(event.causation_event_id, cause.event_id, "{kind}");
            let payload = event.payload.unwrap();
            assert_eq!(payload.purpose, i32::from(types::PurposeCode::Caremgt), "{kind}");
            assert_eq!(payload.consent, consent.name, "{kind}");
        }
    });
}
