//! What the clock does, swept or not.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision::Reason as Why;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_consent::sweep;
use sammati_kernel::Reason;
use sammati_server::event::micros;

use crate::deciding::question;
use crate::transfers::{open, state, wanted};
use crate::world::{DAY, by, everywhere, operator, participant, reason, refused};

#[test]
fn c2_a_consent_that_is_acknowledged_after_its_end_expires_first() {
    everywhere(|w| async move {
        let (she, consent) = w.unacknowledged("asha.rao@sbx", |_| {}).await;
        w.advance(30 * DAY);
        assert_eq!(w.count("consent.expired").await, 0, "nobody has met it yet");
        assert!(w.acknowledge_all("hospital").await > 0);
        let kinds: Vec<_> = w.events().await.into_iter().map(|event| event.event_type).collect();
        let at = |kind: &str| kinds.iter().position(|known| known == kind);
        assert!(at("consent.expired").is_some(), "{kinds:?}");
        assert!(
            at("consent.expired") < at("consent.notification_acknowledged"),
            "{kinds:?}"
        );
        let back = w.revoke(&she, &[&consent.name]).await.unwrap();
        assert_eq!(back.consents[0].state(), api::consent::State::Expired);
        assert!(back.consents[0].hip_acknowledge_time.is_some());
    });
}

#[test]
fn from_its_end_on_a_consent_reads_and_decides_expired_before_any_sweep() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let asked = question(&w, &consent.name);
        w.advance(30 * DAY);
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
        assert_eq!(
            (read.state(), read.end_time),
            (api::consent::State::Expired, consent.effective_expire_time)
        );
        let denied = w
            .rpc()
            .check_access(by(&participant("hospital"), asked.clone().check()))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (denied.reason(), w.count("consent.expired").await),
            (Why::ConsentExpired, 0)
        );
        // A command that meets it writes the expiry first; the event tells when it was due.
        let message = asked.authorize(w.request_id());
        let denied = w
            .rpc()
            .authorize_access(by(&participant("hospital"), message))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(denied.reason(), Why::ConsentExpired);
        sweep::sweep(w.store()).await.unwrap();
        let expired: Vec<_> = w
            .events()
            .await
            .into_iter()
            .filter(|e| e.event_type == "consent.expired")
            .collect();
        assert_eq!(
            (expired.len(), expired[0].occurred_time),
            (1, consent.effective_expire_time)
        );
        let kinds: Vec<_> = w
            .notifications(&participant("clinic"))
            .await
            .iter()
            .map(api::Notification::kind)
            .collect();
        assert!(kinds.contains(&api::notification::Kind::ConsentExpired));
        let back = w
            .revoke(&w.she(she.account().unwrap()), &[&consent.name])
            .await
            .unwrap();
        assert_eq!(
            (back.changed_count, back.consents[0].state()),
            (0, api::consent::State::Expired)
        );
    });
}

#[test]
fn a_transfer_that_nobody_took_on_gives_its_use_back() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 1).await;
        let open = async || open(&w, "clinic", wanted(&w, &consent.name)).await;
        let transfer = open().await.unwrap();
        assert_eq!(reason(open().await), Reason::UseLimitReached);
        w.advance(20 * 60);
        assert_eq!(state(&w, &she, &transfer).await, api::transfer::State::Expired);
        sweep::sweep(w.store()).await.unwrap();
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(
            (w.count("transfer.expired").await, w.count("data.use_returned").await),
            (1, 1)
        );
        assert!(open().await.is_ok());
    });
}

#[test]
fn a_request_expires_and_both_sides_hear_of_it() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        w.advance(7 * DAY);
        let refusal = refused(w.approve(&w.she(account), w.approval(&request)).await);
        assert_eq!(
            (refusal.reason, w.count("consent.request_expired").await),
            (Reason::RequestExpired, 1)
        );
        let due = w
            .events()
            .await
            .into_iter()
            .find(|e| e.event_type == "consent.request_expired")
            .unwrap()
            .occurred_time;
        assert_eq!(
            due.as_ref().and_then(micros),
            request.expire_time.as_ref().and_then(micros)
        );
        for who in [participant("clinic"), w.she(account)] {
            let kinds: Vec<_> = w
                .notifications(&who)
                .await
                .iter()
                .map(api::Notification::kind)
                .collect();
            assert!(kinds.contains(&api::notification::Kind::ConsentRequestExpired));
        }
    });
}

#[test]
fn c4_in_a_database_without_room_she_still_takes_back_and_time_still_ends_things() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let (_, overdue) = w.granted("ravi.kumar@sbx", |_| {}).await;
        let denied = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        for (_, store) in &w.replicas {
            store.check_room().await.unwrap();
        }
        let refusal = refused(w.create(w.asks("asha.rao@sbx")).await);
        assert_eq!(refusal.reason, Reason::Overloaded);
        assert!(
            refusal.retry_after.is_some() && refusal.message.contains("room"),
            "{refusal:?}"
        );
        assert_eq!(w.revoke(&she, &[&consent.name]).await.unwrap().changed_count, 1);
        let deny = api::DenyConsentRequestRequest {
            name: denied.name.clone(),
            etag: denied.etag.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().deny_consent_request(by(&she, deny)).await.unwrap();
        w.advance(30 * DAY);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(w.count("consent.expired").await, 1, "{}", overdue.name);
    });
}

#[test]
fn c1_whatever_is_due_expires_once_however_many_sweep() {
    everywhere(|w| async move {
        w.granted("asha.rao@sbx", |_| {}).await;
        let (_, used) = w.granted("ravi.kumar@sbx", |scope| scope.max_uses = 1).await;
        open(&w, "clinic", wanted(&w, &used.name)).await.unwrap();
        w.create(w.asks("asha.rao@sbx")).await.unwrap();
        // The transfer first, while its consent lives; then all that is left.
        for (seconds, expired) in [(20 * 60, [1, 0, 0]), (30 * DAY, [1, 1, 2])] {
            w.advance(seconds);
            let sweeps = (0..4).map(|n| sweep::sweep(&w.replicas[n % w.replicas.len()].1));
            for swept in futures::future::join_all(sweeps).await {
                swept.unwrap();
            }
            let kinds = ["transfer.expired", "consent.request_expired", "consent.expired"];
            for (kind, count) in kinds.into_iter().zip(expired) {
                assert_eq!(w.count(kind).await, count, "{kind}");
            }
        }
    });
}

#[test]
fn a_revocation_is_all_or_none_and_of_one_person() {
    everywhere(|w| async move {
        let (asha, hers) = w.granted("asha.rao@sbx", |_| {}).await;
        let (_, his) = w.granted("ravi.kumar@sbx", |_| {}).await;
        assert_eq!(
            reason(w.revoke(&asha, &[&hers.name, &his.name]).await),
            Reason::NotAvailable
        );
        let names = vec![hers.name.clone(), his.name.clone()];
        let message = api::RevokeConsentsRequest {
            names,
            legal_basis: "order 7".into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let refusal = refused(w.rpc().revoke_consents(by(&operator(), message)).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!((refusal.reason, fields), (Reason::BatchSubjects, vec!["names"]));
        assert_eq!(w.count("consent.withdrawn").await, 0);
        let message = api::RevokeConsentsRequest {
            names: vec![his.name],
            request_id: w.request_id(),
            ..Default::default()
        };
        assert_eq!(
            reason(w.rpc().revoke_consents(by(&operator(), message.clone())).await),
            Reason::FieldInvalid
        );
        let lawful = api::RevokeConsentsRequest {
            legal_basis: "order 7".into(),
            ..message
        };
        assert_eq!(
            w.rpc()
                .revoke_consents(by(&operator(), lawful))
                .await
                .unwrap()
                .into_inner()
                .changed_count,
            1
        );
        let withdrawn = w
            .events()
            .await
            .into_iter()
            .find(|e| e.event_type == "consent.withdrawn")
            .unwrap();
        assert_eq!(withdrawn.payload.unwrap().legal_basis, "order 7");
    });
}
