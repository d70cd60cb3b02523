//! Who is told of what is new, and lockers.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::subscription::State;
use sammati_api::consent::v1::subscription_service_server::SubscriptionService;
use sammati_api::types::v1 as types;
use sammati_consent::sweep;
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::policies::{deny, disable, make};
use crate::world::{DAY, HOUR, World, by, everywhere, participant, professional, reason, refused};

/// News of both kinds about prescriptions and reports, for a year.
fn sources(w: &World) -> api::SubscribedSources {
    api::SubscribedSources {
        categories: vec![1, 2],
        hi_types: vec![
            types::HiType::Prescription.into(),
            types::HiType::DiagnosticReport.into(),
        ],
        period: Some(types::TimeRange {
            from: w.at(0),
            to: w.at(365 * DAY),
        }),
        ..Default::default()
    }
}

pub(crate) fn asking(w: &World, address: &str) -> api::CreateSubscriptionRequest {
    api::CreateSubscriptionRequest {
        patient: address.to_owned(),
        purpose: types::PurposeCode::Caremgt.into(),
        sources: Some(sources(w)),
        request_id: w.request_id(),
    }
}

pub(crate) async fn ask(
    w: &World,
    who: &str,
    message: api::CreateSubscriptionRequest,
) -> Result<api::Subscription, Status> {
    let asked = w.rpc().create_subscription(by(&participant(who), message)).await;
    asked.map(Response::into_inner)
}

pub(crate) async fn read(w: &World, who: &Caller, name: &str) -> Result<api::Subscription, Status> {
    let name = name.to_owned();
    let read = w
        .rpc()
        .get_subscription(by(who, api::GetSubscriptionRequest { name }))
        .await;
    read.map(Response::into_inner)
}

/// One transition by its name.
pub(crate) async fn act(
    w: &World,
    who: &Caller,
    verb: &str,
    name: &str,
    sources: Option<api::SubscribedSources>,
) -> Result<api::Subscription, Status> {
    let (name, etag, request_id) = (name.to_owned(), String::new(), w.request_id());
    let rpc = w.rpc();
    let done = match verb {
        "approve" => {
            let message = api::ApproveSubscriptionRequest {
                name,
                sources,
                etag,
                request_id,
                action_token: String::new(),
            };
            rpc.approve_subscription(by(who, message)).await
        }
        "update" => {
            let message = api::UpdateSubscriptionRequest {
                name,
                sources,
                etag,
                request_id,
                action_token: String::new(),
            };
            rpc.update_subscription(by(who, message)).await
        }
        "deny" => {
            let message = api::DenySubscriptionRequest { name, etag, request_id };
            rpc.deny_subscription(by(who, message)).await
        }
        "pause" => {
            let message = api::PauseSubscriptionRequest { name, etag, request_id };
            rpc.pause_subscription(by(who, message)).await
        }
        "resume" => {
            let message = api::ResumeSubscriptionRequest {
                name,
                etag,
                request_id,
                action_token: String::new(),
            };
            rpc.resume_subscription(by(who, message)).await
        }
        _ => {
            let message = api::RevokeSubscriptionRequest { name, etag, request_id };
            rpc.revoke_subscription(by(who, message)).await
        }
    };
    done.map(Response::into_inner)
}

async fn list(w: &World, who: &Caller, message: api::ListSubscriptionsRequest) -> Vec<String> {
    let listed = w.rpc().list_subscriptions(by(who, message)).await.unwrap().into_inner();
    listed.subscriptions.into_iter().map(|s| s.name).collect()
}

/// What a participant was told of news.
async fn news(w: &World, who: &str) -> Vec<(Kind, String, Vec<i32>)> {
    let told = w.notifications(&participant(who)).await;
    let news = told
        .into_iter()
        .filter(|n| matches!(n.kind(), Kind::SubscriptionLink | Kind::SubscriptionData));
    news.map(|n| (n.kind(), n.hip, n.hi_types)).collect()
}

#[test]
fn p3_1_1_1_and_2_a_subscription_is_asked_for_granted_in_part_and_tells_of_what_is_new() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let message = asking(&w, "asha.rao@sbx");
        let asked = ask(&w, "clinic", message.clone()).await.unwrap();
        assert_eq!(ask(&w, "clinic", message).await.unwrap().name, asked.name);
        assert_eq!((asked.state(), asked.expire_time), (State::Requested, w.at(2 * HOUR)));
        let told = w.notifications(&she).await;
        assert_eq!(
            (told[0].kind(), &told[0].resource),
            (Kind::SubscriptionRequested, &asked.name)
        );
        // Before she grants it nobody is told of anything.
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        assert!(news(&w, "clinic").await.is_empty());
        let mut part = sources(&w);
        part.hi_types = vec![types::HiType::Prescription.into()];
        let granted = act(&w, &she, "approve", &asked.name, Some(part)).await.unwrap();
        assert_eq!(granted.given.unwrap().hi_types.len(), 1);
        w.linked("asha.rao@sbx", &["visit-2"]).await;
        let prescription = vec![i32::from(types::HiType::Prescription)];
        let hospital = "participants/hospital".to_owned();
        let link = (Kind::SubscriptionLink, hospital.clone(), prescription.clone());
        assert_eq!(news(&w, "clinic").await, std::slice::from_ref(&link));
        // New data: of what she gave only.
        let links = w
            .rpc()
            .list_links(by(&she, Default::default()))
            .await
            .unwrap()
            .into_inner()
            .links;
        let announce = async |kinds: &[types::HiType]| {
            let message = api::AnnounceCareContextsRequest {
                name: links[0].name.clone(),
                care_context_references: vec!["visit-1".into()],
                hi_types: kinds.iter().map(|kind| (*kind).into()).collect(),
                request_id: w.request_id(),
            };
            let announced = w
                .rpc()
                .announce_care_contexts(by(&participant("hospital"), message))
                .await;
            announced.unwrap().into_inner().notified_count
        };
        assert_eq!(announce(&[types::HiType::DiagnosticReport]).await, 0);
        assert_eq!(
            announce(&[types::HiType::Prescription, types::HiType::DiagnosticReport]).await,
            1
        );
        assert_eq!(
            news(&w, "clinic").await,
            [link, (Kind::SubscriptionData, hospital, prescription)]
        );
        assert!(news(&w, "insurer").await.is_empty());
    });
}

#[test]
fn p3_1_1_3_a_denied_subscription_tells_nothing() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let asked = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        assert_eq!(
            act(&w, &she, "deny", &asked.name, None).await.unwrap().state(),
            State::Denied
        );
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        assert!(news(&w, "clinic").await.is_empty());
        let told = w.notifications(&participant("clinic")).await;
        assert_eq!(
            (told[0].kind(), &told[0].resource),
            (Kind::SubscriptionChanged, &asked.name)
        );
    });
}

#[test]
fn p3_1_1_4_a_subscription_that_nobody_decides_expires_in_two_hours() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let first = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        let second = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        let nobody = ask(&w, "clinic", asking(&w, "nobody.here@sbx")).await.unwrap();
        w.advance(2 * HOUR - 1);
        assert_eq!(read(&w, &she, &first.name).await.unwrap().state(), State::Requested);
        w.advance(1);
        assert_eq!(read(&w, &she, &first.name).await.unwrap().state(), State::Expired);
        assert_eq!(
            reason(act(&w, &she, "approve", &first.name, None).await),
            Reason::RequestExpired
        );
        sweep::sweep(w.store()).await.unwrap();
        // The same answer whether its expiry is written or not.
        for (verb, name) in [
            ("approve", &first.name),
            ("deny", &second.name),
            ("pause", &second.name),
        ] {
            assert_eq!(reason(act(&w, &she, verb, name, None).await), Reason::RequestExpired);
        }
        assert_eq!(w.count("subscription.expired").await, 3);
        let clinic = participant("clinic");
        for name in [&first.name, &second.name, &nobody.name] {
            assert_eq!(read(&w, &clinic, name).await.unwrap().state(), State::Expired);
        }
        assert_eq!(
            reason(read(&w, &participant("insurer"), &first.name).await),
            Reason::NotAvailable
        );
    });
}

#[test]
fn p2_13_she_edits_a_subscription_within_what_was_asked() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let asked = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        act(&w, &she, "approve", &asked.name, None).await.unwrap();
        let mut links = sources(&w);
        links.categories = vec![1];
        links.excluded = vec![api::ExcludedSource {
            hip: "participants/hospital".into(),
            hi_types: Vec::new(),
        }];
        act(&w, &she, "update", &asked.name, Some(links)).await.unwrap();
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        assert!(news(&w, "clinic").await.is_empty());
        act(&w, &she, "update", &asked.name, Some(sources(&w))).await.unwrap();
        w.linked("asha.rao@sbx", &["visit-2"]).await;
        assert_eq!(news(&w, "clinic").await.len(), 1);
        let mut more = sources(&w);
        more.hi_types.push(types::HiType::Invoice.into());
        let refusal = refused(act(&w, &she, "update", &asked.name, Some(more)).await);
        assert_eq!(
            (refusal.reason, refusal.metadata[0].1.as_str()),
            (Reason::GrantWider, "sources.hi_types")
        );
    });
}

#[test]
fn a_paused_subscription_is_silent_and_a_period_ends_by_itself() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let asked = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        let mut short = sources(&w);
        short.period.as_mut().unwrap().to = w.at(DAY);
        act(&w, &she, "approve", &asked.name, Some(short)).await.unwrap();
        act(&w, &she, "pause", &asked.name, None).await.unwrap();
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        assert!(news(&w, "clinic").await.is_empty());
        act(&w, &she, "resume", &asked.name, None).await.unwrap();
        w.linked("asha.rao@sbx", &["visit-2"]).await;
        assert_eq!(news(&w, "clinic").await.len(), 1);
        w.advance(DAY);
        w.linked("asha.rao@sbx", &["visit-3"]).await;
        assert_eq!(news(&w, "clinic").await.len(), 1);
        assert_eq!(read(&w, &she, &asked.name).await.unwrap().state(), State::Expired);
        // She had decided: this is no window that closed, before the sweep and after.
        for _ in 0..2 {
            assert_eq!(
                reason(act(&w, &she, "pause", &asked.name, None).await),
                Reason::StateConflict
            );
            sweep::sweep(w.store()).await.unwrap();
        }
    });
}

#[test]
fn what_she_denies_a_subscriber_it_is_not_told() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let asked = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        act(&w, &she, "approve", &asked.name, None).await.unwrap();
        let block = make(&w, &she, deny(&w, "participants/clinic")).await.unwrap();
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        w.link(&token, &["visit-1"]).await.unwrap();
        assert!(news(&w, "clinic").await.is_empty());
        disable(&w, &she, &block.name).await.unwrap();
        // What is about somebody else, another place or another purpose hides nothing.
        let elsewhere = api::CreatePolicyRequest {
            hips: vec!["participants/lab".into()],
            ..deny(&w, "participants/clinic")
        };
        let payments = api::CreatePolicyRequest {
            purposes: vec![types::PurposeCode::Hpaymt.into()],
            ..deny(&w, "")
        };
        for harmless in [elsewhere, payments, deny(&w, "participants/insurer")] {
            make(&w, &she, harmless).await.unwrap();
        }
        w.link(&token, &["visit-2"]).await.unwrap();
        assert_eq!(news(&w, "clinic").await.len(), 1);
        // Of a care context that is hidden nothing is told, of one beside it what is its own.
        let hidden = api::CreatePolicyRequest {
            hips: vec!["participants/hospital".into()],
            care_context_references: vec!["visit-3".into(), "visit-4".into()],
            ..deny(&w, "")
        };
        make(&w, &she, hidden).await.unwrap();
        w.link(&token, &["visit-3"]).await.unwrap();
        assert_eq!(news(&w, "clinic").await.len(), 1);
        let mut both = w.links(&token, &["visit-4", "visit-5"]);
        both.care_contexts[1].hi_type = types::HiType::DiagnosticReport.into();
        let link = w.link_of("hospital", both).await.unwrap();
        let told = news(&w, "clinic").await;
        assert_eq!(
            (told.len(), told[1].2.as_slice()),
            (2, [i32::from(types::HiType::DiagnosticReport)].as_slice())
        );
        let announce = async |reference: &str| {
            let message = api::AnnounceCareContextsRequest {
                name: link.name.clone(),
                care_context_references: vec![reference.to_owned()],
                hi_types: vec![types::HiType::Prescription.into()],
                request_id: w.request_id(),
            };
            let hospital = participant("hospital");
            let announced = w.rpc().announce_care_contexts(by(&hospital, message)).await;
            announced.unwrap().into_inner().notified_count
        };
        assert_eq!(announce("visit-4").await, 0);
        assert_eq!(announce("visit-5").await, 1);
    });
}

#[test]
fn a_holder_of_two_subscriptions_hears_once_of_what_both_cover() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        for kind in [types::HiType::Prescription, types::HiType::DiagnosticReport] {
            let mut message = asking(&w, "asha.rao@sbx");
            message.sources.as_mut().unwrap().hi_types = vec![kind.into()];
            let asked = ask(&w, "clinic", message).await.unwrap();
            act(&w, &she, "approve", &asked.name, None).await.unwrap();
        }
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        let mut both = w.links(&token, &["visit-1", "visit-2"]);
        both.care_contexts[1].hi_type = types::HiType::DiagnosticReport.into();
        w.link_of("hospital", both).await.unwrap();
        let mut kinds = vec![
            i32::from(types::HiType::Prescription),
            i32::from(types::HiType::DiagnosticReport),
        ];
        kinds.sort_unstable();
        let hospital = "participants/hospital".to_owned();
        assert_eq!(news(&w, "clinic").await, [(Kind::SubscriptionLink, hospital, kinds)]);
    });
}

#[test]
fn every_pair_of_state_and_verb_of_a_subscription_is_taken_or_refused_by_the_graph() {
    everywhere(|w| async move {
        use State::*;
        let edges = [
            (Requested, "approve", Granted),
            (Requested, "deny", Denied),
            (Granted, "update", Granted),
            (Granted, "pause", Paused),
            (Granted, "revoke", Revoked),
            (Paused, "update", Paused),
            (Paused, "resume", Granted),
            (Paused, "revoke", Revoked),
        ];
        let mut n = 0;
        for from in [Requested, Granted, Paused, Denied, Revoked, Expired] {
            for verb in ["approve", "deny", "update", "pause", "resume", "revoke"] {
                n += 1;
                let address = format!("person{n:03}.x@sbx");
                let she = w.she(w.person(&address));
                let name = ask(&w, "clinic", asking(&w, &address)).await.unwrap().name;
                let before: &[&str] = match from {
                    Granted => &["approve"],
                    Paused => &["approve", "pause"],
                    Denied => &["deny"],
                    Revoked => &["approve", "revoke"],
                    _ => &[],
                };
                for step in before {
                    act(&w, &she, step, &name, None).await.unwrap();
                }
                if from == Expired {
                    w.advance(2 * HOUR);
                    sweep::sweep(w.store()).await.unwrap();
                }
                let given = (verb == "update").then(|| {
                    let period = api::SubscribedSources {
                        period: None,
                        ..sources(&w)
                    };
                    let asked = sources(&w);
                    api::SubscribedSources {
                        period: asked.period,
                        ..period
                    }
                });
                let given = match given {
                    // Inside what was asked, whenever that was.
                    Some(mut given) => {
                        let asked = read(&w, &she, &name).await.unwrap().asked.unwrap();
                        given.period = asked.period;
                        Some(given)
                    }
                    None => None,
                };
                let said = act(&w, &she, verb, &name, given).await;
                match edges.iter().find(|(f, v, _)| *f == from && *v == verb) {
                    Some((_, _, to)) => assert_eq!(said.unwrap().state(), *to, "{from:?} {verb}"),
                    None => {
                        let refusal = refused(said);
                        let expected = match from {
                            Expired => Reason::RequestExpired,
                            _ => Reason::StateConflict,
                        };
                        assert_eq!(refusal.reason, expected, "{from:?} {verb}");
                        assert_eq!(read(&w, &she, &name).await.unwrap().state(), from, "{from:?} {verb}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_locker_is_told_and_fetches_what_she_keeps_there_from_one_commit_on() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let message = api::SetupLockerRequest {
            locker: "participants/locker".into(),
            patient: "asha.rao@sbx".into(),
            hips: Vec::new(),
            hi_types: vec![types::HiType::Prescription.into()],
            expire_time: w.at(365 * DAY),
            request_id: w.request_id(),
            action_token: String::new(),
        };
        let set_up = async |message: api::SetupLockerRequest| {
            w.rpc().setup_locker(by(&she, message)).await.map(Response::into_inner)
        };
        let set = set_up(message.clone()).await.unwrap();
        let (subscription, policy) = (set.subscription.unwrap(), set.policy.unwrap());
        assert_eq!((subscription.state(), subscription.locker), (State::Granted, true));
        assert_eq!(policy.hiu, "participants/locker");
        assert_eq!(set_up(message.clone()).await.unwrap().policy.unwrap().name, policy.name);
        assert_eq!(
            (w.count("subscription.granted").await, w.count("policy.enabled").await),
            (1, 1)
        );
        let again = api::SetupLockerRequest {
            request_id: w.request_id(),
            ..message.clone()
        };
        assert_eq!(reason(set_up(again.clone()).await), Reason::LockerActive);
        for (wrong, why) in [
            ("participants/clinic", Reason::ParticipantNotActive),
            ("participants/nobody", Reason::ParticipantNotActive),
        ] {
            let elsewhere = api::SetupLockerRequest {
                locker: wrong.into(),
                request_id: w.request_id(),
                ..message.clone()
            };
            assert_eq!(reason(set_up(elsewhere).await), why);
        }
        w.person("ravi.kumar@sbx");
        let others = api::SetupLockerRequest {
            patient: "ravi.kumar@sbx".into(),
            request_id: w.request_id(),
            ..message
        };
        assert_eq!(reason(set_up(others).await), Reason::ProfileMismatch);
        // It hears of what is new, asks for her, and has it without a tap.
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        assert_eq!(news(&w, "locker").await.len(), 1);
        let mut scope = w.scope();
        scope.purpose.as_mut().unwrap().code = types::PurposeCode::Patrqt.into();
        scope.hi_types = vec![types::HiType::Prescription.into()];
        scope.access_mode = types::AccessMode::Store.into();
        let request = api::CreateConsentRequestRequest {
            scope: Some(scope),
            requester: Some(professional()),
            ..w.asks("asha.rao@sbx")
        };
        let asked = w
            .rpc()
            .create_consent_request(by(&participant("locker"), request))
            .await;
        assert_eq!(asked.unwrap().into_inner().state(), Asked::Granted);
        let lockers = api::ListSubscriptionsRequest {
            lockers: true,
            ..Default::default()
        };
        assert_eq!(
            list(&w, &she, lockers.clone()).await,
            std::slice::from_ref(&subscription.name)
        );
        // The locker may give it up.
        let locker = participant("locker");
        assert_eq!(
            act(&w, &locker, "revoke", &subscription.name, None)
                .await
                .unwrap()
                .state(),
            State::Revoked
        );
        assert_eq!(
            reason(act(&w, &locker, "pause", &subscription.name, None).await),
            Reason::NotAvailable
        );
    });
}
