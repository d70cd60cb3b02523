//! Whoever acts for her decides beforehand, decides what subscribes, looks for her records and shares her profile: within the
//! mandate, no longer than it lasts, and everybody reads that it was they.

use base64::Engine;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::policy::State as Standing;
use sammati_api::consent::v1::subscription::State;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Clock, Micros, ParticipantId, Power, PurposeCode, Reason, Representing};
use sammati_server::event::timestamp;

use crate::discovering::{answer, challenge, choose, confirm, found, look, search};
use crate::lockers::{set_up, setting_up};
use crate::policies::{approve, deny, disable, enable, list, make};
use crate::representing::{acting, he};
use crate::sharing::{share, sharing};
use crate::step_up::{both, proved};
use crate::subscriptions::{act, ask, asking, read};
use crate::world::{DAY, World, by, everywhere, participant, reason};

const ADDRESS: &str = "asha.rao@sbx";

/// He acts for her for three days.
fn for_three_days(w: &World, she: &Caller) -> Representing {
    Representing {
        ends: Some(Micros(w.clock.now().0 + 3 * DAY * 1_000_000)),
        ..acting(w, she.account().unwrap())
    }
}

/// He is held to these.
fn held(w: &World, she: &Caller, purposes: &[PurposeCode], participants: &[&str]) -> Caller {
    let to = participants.iter().map(|id| ParticipantId::parse(id).unwrap());
    he(&Representing {
        purposes: purposes.iter().copied().collect(),
        participants: to.collect(),
        ..acting(w, she.account().unwrap())
    })
}

fn decider(acting: &Representing) -> Option<api::Decider> {
    Some(api::Decider {
        kind: types::CallerKind::Representative.into(),
        representation: acting.representation.name(),
    })
}

/// The last event of this type names both.
async fn names_both(w: &World, kind: &str, acting: &Representing) {
    let events = w.events().await;
    let event = events.iter().rfind(|event| event.event_type == kind);
    let payload = event.unwrap_or_else(|| panic!("no {kind}")).payload.clone().unwrap();
    assert_eq!(payload.actor.unwrap().id, acting.representative.name(), "{kind}");
    assert_eq!(
        payload.on_behalf_of.unwrap().representation,
        acting.representation.name(),
        "{kind}"
    );
    assert_eq!(payload.subject, acting.principal.name(), "{kind}");
}

#[test]
fn a_guardian_blocks_an_asker_and_lets_it_ask_again() {
    everywhere(|w| async move {
        let account = w.person(ADDRESS);
        let mandate = acting(&w, account);
        let guardian = he(&mandate);
        let policy = make(&w, &guardian, deny(&w, "participants/clinic")).await.unwrap();
        assert_eq!(
            (policy.state(), policy.decided_by.as_ref()),
            (Standing::Enabled, decider(&mandate).as_ref())
        );
        names_both(&w, "policy.enabled", &mandate).await;
        let asked = w.create(w.asks(ADDRESS)).await.unwrap();
        assert_eq!((asked.state(), asked.decided_by), (Asked::Denied, decider(&mandate)));
        disable(&w, &guardian, &policy.name).await.unwrap();
        names_both(&w, "policy.disabled", &mandate).await;
        assert_eq!(w.create(w.asks(ADDRESS)).await.unwrap().state(), Asked::Requested);
        // She puts it into force herself: her word from then on.
        let hers = enable(&w, &w.she(account), &policy.name).await.unwrap();
        assert_eq!(hers.decided_by.unwrap().kind(), types::CallerKind::Person);
        let stranger = he(&acting(&w, w.person("uma.rao@sbx")));
        assert_eq!(reason(disable(&w, &stranger, &policy.name).await), Reason::NotAvailable);
    });
}

#[test]
fn what_is_approved_beforehand_for_her_ends_with_the_mandate_and_says_whose_word_it_was() {
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        let mandate = for_three_days(&w, &she);
        let (delegate, end) = (he(&mandate), timestamp(mandate.ends.unwrap()));
        let policy = make(&w, &delegate, approve(&w)).await.unwrap();
        assert_eq!(policy.scope.unwrap().erase_time, Some(end));
        let again = make(&w, &delegate, approve(&w)).await;
        assert_eq!(
            reason(again),
            Reason::PolicyDuplicate,
            "brought forward, the two are the same"
        );

        // What would last longer waits for whoever decides.
        assert_eq!(w.create(w.asks(ADDRESS)).await.unwrap().state(), Asked::Requested);
        let mut short = w.asks(ADDRESS);
        short.scope.as_mut().unwrap().erase_time = w.at(2 * DAY);
        let granted = w.create(short).await.unwrap();
        assert_eq!(
            (granted.state(), granted.decided_by),
            (Asked::Granted, decider(&mandate))
        );
        let fetch = api::GetArtefactRequest {
            consent: granted.consents[0].clone(),
            ..Default::default()
        };
        let fetched = w.rpc().get_artefact(by(&participant("hospital"), fetch)).await.unwrap();
        let jws = fetched.into_inner().jws;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(jws.split('.').nth(1).unwrap())
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(claims["granted_by"]["representation"], mandate.representation.name());

        // What she approved for longer is hers to put into force again; a guardian whose mandate lasts may.
        disable(&w, &delegate, &policy.name).await.unwrap();
        let hers = make(&w, &she, approve(&w)).await.unwrap();
        disable(&w, &delegate, &hers.name).await.unwrap();
        assert_eq!(reason(enable(&w, &delegate, &hers.name).await), Reason::PowerMissing);
        assert!(enable(&w, &delegate, &policy.name).await.is_ok());
        let guardian = he(&acting(&w, she.account().unwrap()));
        assert!(enable(&w, &guardian, &hers.name).await.is_ok());
    });
}

#[test]
fn a_delegate_decides_beforehand_within_the_limits_alone() {
    use PurposeCode::{Caremgt, Hpaymt};
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        let whole = api::CreatePolicyRequest {
            hips: vec!["participants/hospital".into()],
            purposes: vec![types::PurposeCode::Caremgt.into()],
            ..deny(&w, "participants/clinic")
        };
        let within = held(&w, &she, &[Caremgt], &["hospital", "clinic"]);
        let outside = [
            held(&w, &she, &[Hpaymt], &["hospital", "clinic"]),
            held(&w, &she, &[Caremgt], &["hospital"]),
            held(&w, &she, &[], &["clinic"]),
        ];
        let anew = |message: &api::CreatePolicyRequest| api::CreatePolicyRequest {
            request_id: w.request_id(),
            ..message.clone()
        };
        for delegate in &outside {
            assert_eq!(reason(make(&w, delegate, anew(&whole)).await), Reason::PowerMissing);
        }
        // What names none is about all: more than he is held to.
        let wider: [fn(&mut api::CreatePolicyRequest); 3] =
            [|p| p.hiu.clear(), |p| p.hips.clear(), |p| p.purposes.clear()];
        for widen in wider {
            let mut message = anew(&whole);
            widen(&mut message);
            assert_eq!(reason(make(&w, &within, message).await), Reason::PowerMissing);
        }
        let made = make(&w, &within, anew(&whole)).await.unwrap();
        for delegate in &outside {
            assert_eq!(reason(disable(&w, delegate, &made.name).await), Reason::PowerMissing);
        }
        disable(&w, &within, &made.name).await.unwrap();
        for delegate in &outside {
            assert_eq!(reason(enable(&w, delegate, &made.name).await), Reason::PowerMissing);
        }
        let everybody = approve(&w);
        assert_eq!(reason(make(&w, &within, everybody.clone()).await), Reason::PowerMissing);
        let one = api::CreatePolicyRequest {
            hips: vec!["participants/hospital".into()],
            ..anew(&everybody)
        };
        assert!(make(&w, &within, one).await.is_ok());
    });
}

#[test]
fn who_may_take_back_alone_ends_what_approves_and_not_what_denies() {
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        let guard = he(&Representing {
            powers: [Power::Read, Power::Revoke].into(),
            ..acting(&w, she.account().unwrap())
        });
        let approves = make(&w, &she, approve(&w)).await.unwrap();
        let denies = make(&w, &she, deny(&w, "participants/insurer")).await.unwrap();
        assert_eq!(
            disable(&w, &guard, &approves.name).await.unwrap().state(),
            Standing::Disabled
        );
        assert_eq!(reason(disable(&w, &guard, &denies.name).await), Reason::PowerMissing);
        assert!(disable(&w, &she, &denies.name).await.is_ok());
    });
}

#[test]
fn what_approves_beforehand_needs_a_new_login_of_his_and_his_pin_where_hers_is_needed() {
    everywhere(|w| async move {
        let account = w.person(ADDRESS);
        let delegate = he(&acting(&w, account));
        both(&w, &w.she(account)).await;
        let message = approve(&w);
        assert_eq!(
            reason(make(&w, &delegate, message.clone()).await),
            Reason::StepUpRequired
        );
        let hers = proved(&w, &w.she(account), &message);
        assert_eq!(
            reason(make(&w, &delegate, hers).await),
            Reason::StepUpRequired,
            "a token is for who asked for it"
        );
        let made = make(&w, &delegate, proved(&w, &delegate, &message)).await.unwrap();
        disable(&w, &delegate, &made.name).await.unwrap();
        assert!(make(&w, &delegate, deny(&w, "participants/insurer")).await.is_ok());
        let old = delegate.clone();
        w.advance(301);
        assert_eq!(reason(enable(&w, &old, &made.name).await), Reason::StepUpRequired);
    });
}

#[test]
fn whoever_acts_for_her_does_with_a_subscription_all_that_she_could() {
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        let mandate = for_three_days(&w, &she);
        let (delegate, end) = (he(&mandate), timestamp(mandate.ends.unwrap()));
        let until = |s: &api::Subscription| s.given.clone().unwrap().period.unwrap().to;
        let first = ask(&w, "clinic", asking(&w, ADDRESS)).await.unwrap();
        let denied = act(&w, &delegate, "deny", &first.name, None).await.unwrap();
        assert_eq!((denied.state(), denied.decided_by), (State::Denied, decider(&mandate)));

        let asked = ask(&w, "clinic", asking(&w, ADDRESS)).await.unwrap();
        let name = asked.name.as_str();
        let granted = act(&w, &delegate, "approve", name, None).await.unwrap();
        assert_eq!(
            (until(&granted), granted.decided_by.as_ref()),
            (Some(end), decider(&mandate).as_ref())
        );
        names_both(&w, "subscription.granted", &mandate).await;
        for (verb, state, event) in [
            ("pause", State::Paused, "subscription.paused"),
            ("resume", State::Granted, "subscription.resumed"),
            ("update", State::Granted, "subscription.modified"),
            ("revoke", State::Revoked, "subscription.withdrawn"),
        ] {
            let done = act(&w, &delegate, verb, name, granted.given.clone()).await.unwrap();
            assert_eq!(done.state(), state, "{verb}");
            names_both(&w, event, &mandate).await;
        }

        // What she gave goes on as she said if it is made less, and what is more than that ends with the mandate.
        let asked = ask(&w, "clinic", asking(&w, ADDRESS)).await.unwrap();
        let whole = asked.asked.clone().unwrap();
        let given = act(&w, &she, "approve", &asked.name, None).await.unwrap();
        let mut less = whole.clone();
        less.hi_types.truncate(1);
        let narrowed = act(&w, &delegate, "update", &asked.name, Some(less)).await.unwrap();
        assert_eq!(until(&narrowed), until(&given));
        let widened = act(&w, &delegate, "update", &asked.name, Some(whole)).await.unwrap();
        assert_eq!((until(&widened), widened.decided_by), (Some(end), decider(&mandate)));
        let stranger = he(&acting(&w, w.person("uma.rao@sbx")));
        for verb in ["pause", "update", "revoke"] {
            let sources = widened.given.clone();
            let refused = reason(act(&w, &stranger, verb, &asked.name, sources).await);
            assert_eq!(refused, Reason::NotAvailable, "{verb}");
        }
        assert_eq!(read(&w, &she, &asked.name).await.unwrap().state(), State::Granted);
    });
}

#[test]
fn a_delegate_decides_subscriptions_within_the_limits_alone() {
    use PurposeCode::{Caremgt, Hpaymt};
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        let within = held(&w, &she, &[Caremgt], &["hospital", "clinic"]);
        let outside = [
            held(&w, &she, &[Hpaymt], &[]),
            held(&w, &she, &[], &["hospital"]),
            held(&w, &she, &[], &["clinic"]),
        ];
        let asked = ask(&w, "clinic", asking(&w, ADDRESS)).await.unwrap();
        let mut one = asked.asked.clone().unwrap();
        one.hips = vec!["participants/hospital".into()];
        let all_of_it = act(&w, &within, "approve", &asked.name, None).await;
        assert_eq!(reason(all_of_it), Reason::PowerMissing, "at all providers");
        for delegate in &outside {
            for verb in ["approve", "deny"] {
                let refused = reason(act(&w, delegate, verb, &asked.name, Some(one.clone())).await);
                assert_eq!(refused, Reason::PowerMissing, "{verb}");
            }
        }
        act(&w, &within, "approve", &asked.name, Some(one.clone()))
            .await
            .unwrap();
        for delegate in &outside {
            for verb in ["pause", "update", "revoke"] {
                let refused = reason(act(&w, delegate, verb, &asked.name, Some(one.clone())).await);
                assert_eq!(refused, Reason::PowerMissing, "{verb}");
            }
        }
        let mut wider = one.clone();
        wider.hips.clear();
        let refused = act(&w, &within, "update", &asked.name, Some(wider)).await;
        assert_eq!(reason(refused), Reason::PowerMissing);
        act(&w, &within, "pause", &asked.name, None).await.unwrap();
        for delegate in &outside {
            let refused = reason(act(&w, delegate, "resume", &asked.name, None).await);
            assert_eq!(refused, Reason::PowerMissing);
        }
        assert!(act(&w, &within, "resume", &asked.name, None).await.is_ok());
    });
}

#[test]
fn a_locker_that_is_set_up_for_her_is_over_with_the_mandate() {
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        let mandate = for_three_days(&w, &she);
        let (delegate, end) = (he(&mandate), timestamp(mandate.ends.unwrap()));
        let limited = held(&w, &she, &[PurposeCode::Caremgt], &[]);
        assert_eq!(reason(set_up(&w, &limited, setting_up(&w)).await), Reason::PowerMissing);
        let (subscription, _) = set_up(&w, &delegate, setting_up(&w)).await.unwrap();
        let set = read(&w, &she, &subscription).await.unwrap();
        assert_eq!(set.given.unwrap().period.unwrap().to, Some(end));
        assert_eq!(set.decided_by, decider(&mandate));
        let policies = list(&w, &delegate, "").await;
        assert_eq!(policies[0].scope.as_ref().unwrap().erase_time, Some(end));
        assert_eq!(policies[0].decided_by, decider(&mandate));
        act(&w, &delegate, "revoke", &subscription, None).await.unwrap();

        // Of one that she set up for longer he suspends what it is granted; that it is granted again is hers to say.
        let (subscription, _) = set_up(&w, &she, setting_up(&w)).await.unwrap();
        act(&w, &delegate, "pause", &subscription, None).await.unwrap();
        let refused = act(&w, &delegate, "resume", &subscription, None).await;
        assert_eq!(reason(refused), Reason::PowerMissing);
        assert!(act(&w, &she, "resume", &subscription, None).await.is_ok());
    });
}

#[test]
fn whoever_acts_for_her_finds_her_records_and_shares_her_profile_where_he_may() {
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        let mandate = acting(&w, she.account().unwrap());
        let guardian = he(&mandate);
        let outside = [
            held(&w, &she, &[], &["lab"]),
            held(&w, &she, &[PurposeCode::Caremgt], &[]),
        ];
        for delegate in &outside {
            assert_eq!(
                reason(look(&w, delegate, search(&w, ADDRESS)).await),
                Reason::PowerMissing
            );
            assert_eq!(
                reason(share(&w, delegate, sharing(&w, ADDRESS)).await),
                Reason::PowerMissing
            );
        }
        let name = look(&w, &guardian, search(&w, ADDRESS)).await.unwrap().name;
        names_both(&w, "link.discovery_started", &mandate).await;
        answer(&w, "hospital", &name, found(&["visit-1"])).await.unwrap();
        for delegate in &outside {
            let refused = reason(choose(&w, delegate, &name, &["visit-1"]).await);
            assert_eq!(refused, Reason::PowerMissing);
        }
        choose(&w, &guardian, &name, &["visit-1"]).await.unwrap();
        names_both(&w, "link.care_contexts_selected", &mandate).await;
        let (sent, _) = challenge(&w, 300);
        answer(&w, "hospital", &name, sent).await.unwrap();
        for delegate in &outside {
            let refused = reason(confirm(&w, delegate, &name, "483920").await);
            assert_eq!(refused, Reason::PowerMissing);
        }
        confirm(&w, &guardian, &name, "483920").await.unwrap();
        names_both(&w, "link.confirmed", &mandate).await;

        let within = held(&w, &she, &[], &["hospital"]);
        assert!(share(&w, &within, sharing(&w, ADDRESS)).await.is_ok());
        share(&w, &guardian, sharing(&w, ADDRESS)).await.unwrap();
        names_both(&w, "identity.profile_shared", &mandate).await;
        // It is her profile that is compared, not his.
        let stranger = he(&acting(&w, w.person("uma.rao@sbx")));
        assert_eq!(
            reason(share(&w, &stranger, sharing(&w, ADDRESS)).await),
            Reason::ProfileMismatch
        );
    });
}
