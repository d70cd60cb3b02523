//! What is lost, word by word, and what it becomes.

mod restored;

use sammati_api::audit::v1::{LogEvent, Payload};
use sammati_kernel::{AccountId, Micros, Slot};

use self::restored::everywhere;
use super::*;
use crate::rows::{CohortUseRow, ConsentRow, NotificationRow, PolicyRow, RequestRow, SourcesRow, SubscriptionRow};
use crate::standing::Effect;

const START: Micros = Micros::from_seconds(1_800_000_000);
const HOUR: i64 = 3600 * 1_000_000;

fn her() -> AccountId {
    AccountId::new(START, Slot::new(7), [1; 8])
}

fn consent_id() -> ConsentId {
    ConsentId::new(START, Slot::new(7), [2; 8])
}

fn request_id() -> ConsentRequestId {
    ConsentRequestId::new(START, Slot::new(7), [3; 8])
}

fn policy_id() -> PolicyId {
    PolicyId::new(START, Slot::new(7), [4; 8])
}

fn subscription_id() -> SubscriptionId {
    SubscriptionId::new(START, Slot::new(7), [5; 8])
}

fn consent(state: consent::State, resume: i64) -> ConsentRow {
    ConsentRow {
        id: consent_id().to_vec(),
        subject: her().to_vec(),
        hip: "hospital".into(),
        hiu: "clinic".into(),
        state: state.number(),
        expire: START.0 + 24 * HOUR,
        resume,
        version: 1,
        ..ConsentRow::default()
    }
}

fn policy(effect: Effect, state: standing::State) -> PolicyRow {
    PolicyRow {
        id: policy_id().to_vec(),
        subject: her().to_vec(),
        effect: effect.number(),
        state: state.number(),
        version: 1,
        ..PolicyRow::default()
    }
}

fn subscription(state: subscription::State) -> SubscriptionRow {
    SubscriptionRow {
        id: subscription_id().to_vec(),
        owner: her().to_vec(),
        known: true,
        holder: "locker".into(),
        state: state.number(),
        expire: START.0 + HOUR,
        given: Some(SourcesRow {
            to: START.0 + 24 * HOUR,
            ..SourcesRow::default()
        }),
        version: 1,
        ..SubscriptionRow::default()
    }
}

fn said(lines: &[String], what: &str) -> bool {
    lines.len() == 1 && lines[0].contains(what)
}

#[test]
fn c4_a_pause_or_narrowing_that_is_lost_leaves_no_pause_that_ends_by_itself() {
    for event in ["consent.paused", "consent.modified"] {
        everywhere(|restored| async move {
            restored.put(consent(consent::State::Paused, START.0 + HOUR)).await;
            let lines = restored.again(&[(event, consent_id().name())]).await;
            assert_eq!(lines.len(), 1, "{event}");
            assert_eq!(restored.consent().await.resume, 0, "{event}");
            assert_eq!(restored.told().await, [("consent.paused".into(), "lost-0".into())]);
            restored.clock.advance(std::time::Duration::from_secs(2 * 3600));
            let row = restored.consent().await;
            assert_eq!(row.state_at(restored.store.clock().now()), consent::State::Paused);
        });
    }
}

#[test]
fn a_narrowing_that_is_lost_is_told_of_a_consent_that_is_paused_already() {
    everywhere(|restored| async move {
        restored.put(consent(consent::State::Paused, 0)).await;
        let name = consent_id().name();
        assert!(restored.again(&[("consent.paused", name.clone())]).await.is_empty());
        let lines = restored.again(&[("consent.modified", name)]).await;
        assert!(said(&lines, "until she narrows it anew"), "{lines:?}");
        assert!(restored.told().await.is_empty());
    });
}

#[test]
fn what_ended_ends_again_and_only_the_last_word_counts() {
    let ends = [
        ("consent.withdrawn", consent::State::Revoked),
        ("consent.superseded", consent::State::Superseded),
    ];
    for (event, state) in ends {
        everywhere(|restored| async move {
            restored.put(consent(consent::State::Granted, 0)).await;
            let name = consent_id().name();
            let lost = [("consent.modified", name.clone()), (event, name)];
            assert_eq!(restored.again(&lost).await.len(), 1);
            let row = restored.consent().await;
            assert_eq!((row.state(), row.revoked != 0), (state, event == "consent.withdrawn"));
            assert_eq!(restored.told().await, [(event.to_owned(), "lost-1".into())]);
            assert!(restored.again(&lost).await.is_empty(), "twice");
        });
    }
    everywhere(|restored| async move {
        restored.put(consent(consent::State::Granted, 0)).await;
        let name = consent_id().name();
        let lost = [("consent.paused", name.clone()), ("consent.resumed", name.clone())];
        assert!(restored.again(&lost).await.is_empty());
        let lost = [("consent.resumed", name.clone()), ("consent.paused", name)];
        assert!(said(&restored.again(&lost).await, "was paused"));
        assert_eq!(restored.consent().await.state(), consent::State::Paused);
    });
}

#[test]
fn c2_a_use_that_a_run_took_is_counted_again_and_the_run_takes_no_other() {
    everywhere(|restored| async move {
        let row = ConsentRow {
            granted: START.0,
            scope: (&crate::scope::tests::sample()).into(),
            uses: 1,
            ..consent(consent::State::Granted, 0)
        };
        restored.put(row).await;
        let lost = |claims: Vec<Vec<u8>>, n: u8| LogEvent {
            header: Some(Leaf {
                event_id: format!("lost-{n}"),
                event_type: "access.authorized".to_owned(),
                ..Leaf::default()
            }),
            payload: Some(Payload {
                consent: consent_id().name(),
                claims,
                ..Payload::default()
            }),
            ..LogEvent::default()
        };
        for _ in 0..2 {
            let again = Again {
                store: restored.store.clone(),
                lost: vec![lost(Vec::new(), 1), lost(vec![vec![7; 32]], 2)],
            };
            super::again(again).await.unwrap();
            assert_eq!(restored.consent().await.uses, 3, "each once");
        }
        let kept: CohortUseRow = restored.get(vec![7; 32]).await;
        assert_eq!((kept.lost, kept.decided.permits(), kept.decided.r#use), (true, true, 3));
        let told = restored.told().await;
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|(kind, _)| kind == "data.use_consumed"));
    });
}

#[test]
fn a_request_is_denied_or_cancelled_again() {
    let ends = [
        ("consent.denied", request::State::Denied),
        ("consent.request_cancelled", request::State::Cancelled),
    ];
    for (event, state) in ends {
        everywhere(|restored| async move {
            let row = RequestRow {
                id: request_id().to_vec(),
                owner: her().to_vec(),
                known: true,
                hiu: "clinic".into(),
                state: request::State::Requested.number(),
                expire: START.0 + HOUR,
                version: 1,
                ..RequestRow::default()
            };
            restored.put(row).await;
            let lost = [(event, request_id().name())];
            assert_eq!(restored.again(&lost).await.len(), 1);
            let row: RequestRow = restored.get(request_id().to_vec()).await;
            assert_eq!(row.state(), state);
            assert!(restored.again(&lost).await.is_empty(), "twice");
        });
    }
}

#[test]
fn a_study_hears_of_nobody_whose_denial_is_done_again() {
    let study = StudyId::new(START, Slot::new(7), [9; 8]);
    for study in [Vec::new(), study.to_vec()] {
        everywhere(|restored| {
            let study = study.clone();
            async move {
                let row = RequestRow {
                    id: request_id().to_vec(),
                    owner: her().to_vec(),
                    known: true,
                    hiu: "clinic".into(),
                    state: request::State::Requested.number(),
                    expire: START.0 + HOUR,
                    version: 1,
                    study: study.clone(),
                    ..RequestRow::default()
                };
                restored.put(row).await;
                restored.again(&[("consent.denied", request_id().name())]).await;
                let slot = request_id().slot();
                let heard = restored
                    .store
                    .read(move |r| r.group::<NotificationRow>(slot, "recipient", b"participants/clinic"))
                    .await;
                assert_eq!(heard.unwrap().len(), usize::from(study.is_empty()));
            }
        });
    }
}

#[test]
fn c4_policies_take_away_again_and_never_give() {
    use standing::State::{Disabled, Enabled};
    let cases = [
        (Effect::Approve, Enabled, "policy.disabled", Disabled),
        (Effect::Deny, Disabled, "policy.enabled", Enabled),
        // Each of these would give.
        (Effect::Approve, Disabled, "policy.enabled", Disabled),
        (Effect::Deny, Enabled, "policy.disabled", Enabled),
    ];
    for (n, (effect, before, event, after)) in cases.into_iter().enumerate() {
        everywhere(|restored| async move {
            restored.put(policy(effect, before)).await;
            let lines = restored.again(&[(event, policy_id().name())]).await;
            assert_eq!(lines.len(), usize::from(n < 2), "{effect:?} {event}");
            let row: PolicyRow = restored.get(policy_id().to_vec()).await;
            assert_eq!(row.state(), after, "{effect:?} {event}");
            let told: Vec<_> = restored.told().await;
            let expected = [(event.to_owned(), "lost-0".to_owned())];
            assert_eq!(told, &expected[..usize::from(n < 2)]);
        });
    }
    everywhere(|restored| async move {
        restored.put(policy(Effect::Approve, Enabled)).await;
        let name = policy_id().name();
        let lost = [("policy.disabled", name.clone()), ("policy.enabled", name)];
        assert!(
            restored.again(&lost).await.is_empty(),
            "its last word is that it approves"
        );
    });
}

#[test]
fn c4_subscriptions_end_or_wait_again() {
    use subscription::State::{Denied, Granted, Paused, Requested, Revoked};
    let cases = [
        (Granted, "subscription.withdrawn", Revoked, "was withdrawn"),
        (Paused, "subscription.withdrawn", Revoked, "was withdrawn"),
        (Requested, "subscription.denied", Denied, "was denied"),
        (Granted, "subscription.paused", Paused, "was paused"),
        (Granted, "subscription.modified", Paused, "until she changes it anew"),
        (Paused, "subscription.modified", Paused, "until she changes it anew"),
    ];
    for (before, event, after, what) in cases {
        everywhere(|restored| async move {
            restored.put(subscription(before)).await;
            let lines = restored.again(&[(event, subscription_id().name())]).await;
            assert!(said(&lines, what), "{before:?} {event}: {lines:?}");
            let row: SubscriptionRow = restored.get(subscription_id().to_vec()).await;
            assert_eq!(row.state(), after, "{before:?} {event}");
        });
    }
    everywhere(|restored| async move {
        restored.put(subscription(Granted)).await;
        let name = subscription_id().name();
        let lost = [
            ("subscription.paused", name.clone()),
            ("subscription.resumed", name.clone()),
        ];
        assert!(restored.again(&lost).await.is_empty());
        // What was changed stays lost when she resumed it after that.
        let lost = [("subscription.modified", name.clone()), ("subscription.resumed", name)];
        assert!(said(&restored.again(&lost).await, "was changed"));
    });
}

#[test]
fn c4_a_locker_that_is_held_back_again_is_granted_nothing() {
    use standing::State::{Disabled, Enabled};
    use subscription::State::{Granted, Paused, Revoked};
    let (its, locker) = (policy_id().name(), subscription_id().name());
    let disabled = ("policy.disabled", its.clone());
    let (paused, withdrawn) = (
        ("subscription.paused", locker.clone()),
        ("subscription.withdrawn", locker.clone()),
    );
    let modified = ("subscription.modified", locker);
    // What happened, commit by commit; where the subscription is then, and whether what she resumes brings the policy back.
    let cases = [
        // Of a change the log has no word on the policy.
        (vec![vec![modified.clone()]], Paused, true),
        (vec![vec![disabled.clone(), paused.clone()]], Paused, true),
        (vec![vec![disabled.clone(), withdrawn]], Revoked, false),
        // She disabled it herself before.
        (vec![vec![disabled.clone()], vec![paused.clone()]], Paused, false),
        // She disabled it, and enabled it again, before the pause took it.
        (
            vec![
                vec![disabled.clone()],
                vec![("policy.enabled", its)],
                vec![disabled.clone(), paused.clone()],
            ],
            Paused,
            true,
        ),
        (vec![vec![disabled.clone(), paused], vec![modified]], Paused, true),
    ];
    for (commits, after, back) in &cases {
        let (after, back) = (*after, *back);
        everywhere(|restored| async move {
            restored.put(policy(Effect::Approve, Enabled)).await;
            let locker = SubscriptionRow {
                locker: true,
                policy: policy_id().to_vec(),
                ..subscription(Granted)
            };
            restored.put(locker).await;
            assert!(!restored.commits_again(commits).await.is_empty());
            let policy: PolicyRow = restored.get(policy_id().to_vec()).await;
            assert_eq!(policy.state(), Disabled, "{commits:?}");
            let row: SubscriptionRow = restored.get(subscription_id().to_vec()).await;
            assert_eq!((row.state(), row.policy_paused), (after, back), "{commits:?}");
            let told = restored.told().await;
            assert_eq!(told[0].0, "policy.disabled", "{commits:?}");
        });
    }
    // What she enabled while it was paused is hers.
    everywhere(|restored| async move {
        restored.put(policy(Effect::Approve, Enabled)).await;
        let locker = SubscriptionRow {
            locker: true,
            policy: policy_id().to_vec(),
            ..subscription(Paused)
        };
        restored.put(locker).await;
        restored
            .again(&[("subscription.paused", subscription_id().name())])
            .await;
        let policy: PolicyRow = restored.get(policy_id().to_vec()).await;
        assert_eq!(policy.state(), Enabled);
    });
}

#[test]
fn what_is_lost_itself_is_named_where_somebody_must_do_it_anew() {
    everywhere(|restored| async move {
        let policy = [("policy.enabled", policy_id().name())];
        assert!(said(&restored.again(&policy).await, "she must create it anew"));
        let paused = [("subscription.modified", subscription_id().name())];
        assert!(said(&restored.again(&paused).await, "must ask her anew"));
        let others = [
            ("consent.withdrawn", consent_id().name()),
            ("policy.disabled", policy_id().name()),
            ("subscription.withdrawn", subscription_id().name()),
        ];
        assert!(restored.again(&others).await.is_empty());
    });
}
