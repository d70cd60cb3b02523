//! What she may do to a consent while it lives: pause it, resume it, narrow it.

use sammati_api::audit::v1::Event;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::consent::State;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::transfer::State as Transfer;
use sammati_api::types::v1 as types;
use sammati_consent::sweep;
use sammati_kernel::{Caller, Reason};
use sammati_server::event::micros;

use crate::deciding::question;
use crate::transfers::{open, state, wanted};
use crate::verbs::{Verb, less};
use crate::world::{DAY, HOUR, World, by, everywhere, operator, participant, reason, refused};

async fn decided(w: &World, who: &str, consent: &str) -> api::Decision {
    let message = question(w, consent).check();
    let checked = w.rpc().check_access(by(&participant(who), message)).await;
    checked.unwrap().into_inner()
}

async fn fetched(w: &World, who: &Caller, consent: &str, version: i32) -> api::Artefact {
    let message = api::GetArtefactRequest {
        consent: consent.to_owned(),
        version,
        audience: Audience::Hiu.into(),
    };
    w.rpc().get_artefact(by(who, message)).await.unwrap().into_inner()
}

async fn kinds(w: &World, who: &str, consent: &str) -> Vec<Kind> {
    let told = w.notifications(&participant(who)).await;
    let of = told.iter().filter(|n| n.resource == consent);
    of.map(api::Notification::kind).collect()
}

#[test]
fn a_paused_consent_permits_nothing_until_she_resumes_it_and_its_transfers_are_cancelled() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let transfer = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        let paused = w.pause(&she, &consent.name).await.unwrap();
        assert_eq!((paused.state(), paused.resume_time), (State::Paused, None));
        assert_eq!(state(&w, &she, &transfer).await, Transfer::Cancelled);
        assert_eq!(
            decided(&w, "hospital", &consent.name).await.reason(),
            Why::ConsentPaused
        );
        let refused = reason(open(&w, "clinic", wanted(&w, &consent.name)).await);
        assert_eq!(refused, Reason::ConsentPaused);
        let message = question(&w, &consent.name).authorize(w.request_id());
        let denied = w.rpc().authorize_access(by(&participant("hospital"), message)).await;
        assert_eq!(denied.unwrap().into_inner().reason(), Why::ConsentPaused);
        // Whether anything can be fetched does not change: the artefact proves what was given.
        assert!(
            !fetched(&w, &participant("clinic"), &consent.name, 0)
                .await
                .jws
                .is_empty()
        );
        let resumed = w.resume(&she, &consent.name).await.unwrap();
        assert_eq!(
            (resumed.state(), resumed.scope),
            (State::Granted, consent.scope.clone())
        );
        assert_eq!(decided(&w, "hospital", &consent.name).await.outcome(), Outcome::Permit);
        for who in ["hospital", "clinic"] {
            let told = kinds(&w, who, &consent.name).await;
            assert_eq!(
                told,
                [Kind::ConsentGranted, Kind::ConsentPaused, Kind::ConsentResumed],
                "{who}"
            );
        }
    });
}

#[test]
fn c2_a_pause_ends_at_its_time_by_itself_swept_or_not() {
    everywhere(|w| async move {
        for sweeps in [false, true] {
            let address = if sweeps { "asha.rao@sbx" } else { "ravi.kumar@sbx" };
            let (she, consent) = w.granted(address, |_| {}).await;
            let paused = w.pause_until(&she, &consent.name, w.at(HOUR)).await.unwrap();
            assert_eq!((paused.state(), paused.resume_time), (State::Paused, w.at(HOUR)));
            let denied = decided(&w, "hospital", &consent.name).await;
            assert_eq!((denied.reason(), denied.retry_time), (Why::ConsentPaused, w.at(HOUR)));
            w.advance(HOUR - 1);
            sweep::sweep(w.store()).await.unwrap();
            assert_eq!(
                decided(&w, "hospital", &consent.name).await.reason(),
                Why::ConsentPaused
            );
            w.advance(1);
            let due = w.at(0);
            assert_eq!(w.consent(&she, &consent.name).await.state(), State::Granted);
            assert_eq!(decided(&w, "hospital", &consent.name).await.outcome(), Outcome::Permit);
            w.advance(60);
            if sweeps {
                sweep::sweep(w.store()).await.unwrap();
            } else {
                let message = question(&w, &consent.name).authorize(w.request_id());
                let permit = w.rpc().authorize_access(by(&participant("hospital"), message)).await;
                assert_eq!(permit.unwrap().into_inner().outcome(), Outcome::Permit);
            }
            assert_eq!(w.moves(&consent.name).await, ["consent.paused", "consent.resumed"]);
            let events = w.events().await;
            let of =
                |e: &&Event| e.event_type == "consent.resumed" && e.payload.as_ref().unwrap().resource == consent.name;
            let at = events
                .iter()
                .find(of)
                .and_then(|e| e.occurred_time.as_ref())
                .and_then(micros);
            assert_eq!(at, due.as_ref().and_then(micros), "the event tells when it was due");
            assert_eq!(w.consent(&she, &consent.name).await.etag, "\"4\"", "it is written once");
        }
    });
}

#[test]
fn a_pause_may_not_end_before_now_nor_after_the_consent() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        for at in [w.at(-1), w.at(0), w.at(30 * DAY)] {
            let refusal = refused(w.pause_until(&she, &consent.name, at).await);
            let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.clone()).collect();
            assert_eq!(
                (refusal.reason, fields),
                (Reason::FieldInvalid, vec!["resume_time".into()])
            );
        }
        // A paused consent ends when it would have.
        w.pause_until(&she, &consent.name, w.at(30 * DAY - 1)).await.unwrap();
        let soon = types::Scope {
            erase_time: w.at(DAY),
            ..consent.scope.clone().unwrap()
        };
        w.narrow(&she, &consent.name, soon).await.unwrap();
        w.advance(30 * DAY);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(
            w.moves(&consent.name).await,
            ["consent.paused", "consent.modified", "consent.expired"]
        );
        assert_eq!(w.consent(&she, &consent.name).await.state(), State::Expired);
    });
}

#[test]
fn only_she_pauses_resumes_and_narrows() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let other = w.she(w.person("ravi.kumar@sbx"));
        let scope = less(consent.scope.as_ref().unwrap());
        let unknown = format!("consents/{}", w.request_id());
        for who in [&other, &participant("hospital"), &participant("clinic"), &operator()] {
            let expected = if *who == operator() {
                Reason::NotFound
            } else {
                Reason::NotAvailable
            };
            for name in [&consent.name, &unknown] {
                assert_eq!(reason(w.pause(who, name).await), expected);
                assert_eq!(reason(w.resume(who, name).await), expected);
            }
        }
        for name in [&consent.name, &unknown] {
            assert_eq!(
                reason(w.narrow(&other, name, scope.clone()).await),
                Reason::NotAvailable
            );
        }
    });
}

#[test]
fn c3_a_narrowed_consent_is_a_new_version_inside_the_old_one() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 3).await;
        let message = question(&w, &consent.name).authorize(w.request_id());
        w.rpc()
            .authorize_access(by(&participant("hospital"), message))
            .await
            .unwrap();
        let transfer = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        let old = fetched(&w, &participant("clinic"), &consent.name, 0).await;
        w.advance(60);
        let mut scope = less(consent.scope.as_ref().unwrap());
        scope.max_uses = 2;
        let narrowed = w.narrow(&she, &consent.name, scope.clone()).await.unwrap();
        assert_eq!((narrowed.version, narrowed.state()), (2, State::Granted));
        assert_eq!((narrowed.scope.as_ref(), narrowed.narrow_time), (Some(&scope), w.at(0)));
        // What was answered still counts; nobody had taken the transfer on.
        assert_eq!(narrowed.uses.unwrap().left, Some(1));
        assert_eq!(state(&w, &she, &transfer).await, Transfer::Cancelled);
        let new = fetched(&w, &participant("clinic"), &consent.name, 0).await;
        assert_eq!((new.version, new.supersedes.as_str()), (2, old.name.as_str()));
        assert_ne!(new.jws, old.jws);
        // The wider one is shown to nobody who would go by it.
        assert!(
            fetched(&w, &participant("clinic"), &consent.name, 1)
                .await
                .jws
                .is_empty()
        );
        assert_eq!(fetched(&w, &she, &consent.name, 1).await.jws, old.jws);
        let issued = w.count("consent.artefact_issued").await;
        assert_eq!((w.count("consent.modified").await, issued), (1, 4));
    });
}

#[test]
fn a_narrowing_must_take_something_away_and_give_nothing() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        w.linked("asha.rao@sbx", &["visit-1", "visit-2"]).await;
        let she = w.she(w.account("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let consent = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
        let scope = consent.scope.clone().unwrap();
        let wider = [
            (
                "hi_types",
                types::Scope {
                    hi_types: vec![1, 2, 3, 4],
                    ..scope.clone()
                },
            ),
            (
                "access_mode",
                types::Scope {
                    access_mode: types::AccessMode::Store.into(),
                    ..scope.clone()
                },
            ),
            (
                "erase_time",
                types::Scope {
                    erase_time: w.at(31 * DAY),
                    ..scope.clone()
                },
            ),
        ];
        for (field, scope) in wider {
            let refusal = refused(w.narrow(&she, &consent.name, scope).await);
            assert_eq!(
                (refusal.reason, refusal.metadata),
                (Reason::GrantWider, vec![("field", field.to_owned())])
            );
        }
        assert_eq!(
            reason(w.narrow(&she, &consent.name, scope.clone()).await),
            Reason::FieldInvalid
        );
        let over = types::Scope {
            erase_time: w.at(0),
            ..scope.clone()
        };
        assert_eq!(reason(w.narrow(&she, &consent.name, over).await), Reason::GrantEmpty);
        let named = |reference: &str| types::Scope {
            care_contexts: vec![types::CareContextRef {
                care_context_reference: reference.to_owned(),
                ..Default::default()
            }],
            ..scope.clone()
        };
        let unlinked = w.narrow(&she, &consent.name, named("visit-9")).await;
        assert_eq!(reason(unlinked), Reason::CareContextNotLinked);
        assert_eq!(w.moves(&consent.name).await, Vec::<String>::new());
        let narrowed = w.narrow(&she, &consent.name, named("visit-1")).await.unwrap();
        let contexts = narrowed.scope.unwrap().care_contexts;
        assert_eq!((contexts.len(), contexts[0].patient_reference.as_str()), (1, "MRN-17"));
        let refusal = refused(w.narrow(&she, &consent.name, named("visit-2")).await);
        assert_eq!(refusal.metadata, [("field", "care_contexts".to_owned())]);
    });
}

#[test]
fn c3_a_provider_that_has_not_heard_of_a_narrowing_gives_the_receiver_nothing() {
    everywhere(|w| async move {
        // Word of the wider version is not taken in before the narrowing.
        let (she, consent) = w.unacknowledged("asha.rao@sbx", |_| {}).await;
        let granted = w.notifications(&participant("hospital")).await.remove(0);
        w.narrow(&she, &consent.name, less(consent.scope.as_ref().unwrap()))
            .await
            .unwrap();
        w.acknowledge("hospital", &[&granted.name]).await;
        assert_eq!(w.consent(&she, &consent.name).await.hip_acknowledge_time, None);
        let refused = reason(open(&w, "clinic", wanted(&w, &consent.name)).await);
        assert_eq!(refused, Reason::ProviderNotAcknowledged);
        w.acknowledge_all("hospital").await;
        assert!(w.consent(&she, &consent.name).await.hip_acknowledge_time.is_some());
        open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
    });
}

#[test]
fn c4_after_a_pause_a_narrowing_or_a_renewal_returned_nothing_permits_what_it_took() {
    everywhere(|w| async move {
        for (n, verb) in [Verb::Pause, Verb::Narrow, Verb::Renew].into_iter().enumerate() {
            let subject = w.subject(&format!("person{n:04}@sbx")).await;
            let check = async || {
                let mut message = question(&w, &subject.consent.name).check();
                message.hi_types = vec![*subject.consent.scope.as_ref().unwrap().hi_types.last().unwrap()];
                let checked = w.rpc().check_access(by(&participant("hospital"), message)).await;
                checked.unwrap().into_inner()
            };
            for _ in 0..4 {
                assert_eq!(check().await.outcome(), Outcome::Permit);
            }
            w.act(&subject, verb).await.unwrap();
            let why = match verb {
                Verb::Pause => Why::ConsentPaused,
                Verb::Narrow => Why::HiTypeNotGranted,
                _ => Why::ConsentSuperseded,
            };
            for _ in 0..100 {
                let denied = check().await;
                assert_eq!((denied.outcome(), denied.reason()), (Outcome::Deny, why), "{verb:?}");
            }
        }
    });
}

#[test]
fn i1_a_repeat_of_each_verb_changes_nothing_more() {
    everywhere(|w| async move {
        use sammati_api::consent::v1::consent_service_server::ConsentService;
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let pause = api::PauseConsentRequest {
            name: consent.name.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().pause_consent(by(&she, pause.clone())).await.unwrap();
        w.resume(&she, &consent.name).await.unwrap();
        // The same call once more: what it did was undone since, and is not done again.
        let again = w.rpc().pause_consent(by(&she, pause)).await.unwrap().into_inner();
        assert_eq!((again.state(), w.count("consent.paused").await), (State::Granted, 1));
        let narrow = api::NarrowConsentRequest {
            name: consent.name.clone(),
            scope: Some(less(consent.scope.as_ref().unwrap())),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().narrow_consent(by(&she, narrow.clone())).await.unwrap();
        let again = w.rpc().narrow_consent(by(&she, narrow)).await.unwrap().into_inner();
        assert_eq!((again.version, w.count("consent.modified").await), (2, 1));
    });
}

#[test]
fn a_hip_that_has_acknowledged_has_for_as_long_as_the_consent_lives() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        w.advance(30 * DAY - 1);
        let mut late = wanted(&w, &consent.name);
        late.record_range
            .clone_from(&consent.scope.as_ref().unwrap().record_range);
        assert!(open(&w, "clinic", late).await.is_ok());
    });
}

#[test]
fn a_bulk_revoke_is_whole_and_each_party_hears_of_its_own_alone() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let mut given = Vec::new();
        for (hiu, hip) in [("clinic", "hospital"), ("insurer", "lab"), ("clinic", "hospital")] {
            let mut ask = w.asks("asha.rao@sbx");
            ask.hips = vec![format!("participants/{hip}")];
            let request = w.rpc().create_consent_request(by(&participant(hiu), ask)).await;
            let approval = w.approval(&request.unwrap().into_inner());
            given.push(w.approve(&she, approval).await.unwrap().consents.remove(0));
        }
        // One that was superseded refuses the whole call.
        let renewal = w.create(w.renewal("asha.rao@sbx", &given[2])).await.unwrap();
        let renewed = w.approve(&she, w.approval(&renewal)).await.unwrap().consents.remove(0);
        let names: Vec<_> = given.iter().map(|consent| consent.name.as_str()).collect();
        assert_eq!(reason(w.revoke(&she, &names).await), Reason::StateConflict);
        assert_eq!(w.count("consent.withdrawn").await, 0);
        let names = [names[0], names[1], renewed.name.as_str()];
        assert_eq!(w.revoke(&she, &names).await.unwrap().changed_count, 3);
        for (who, its) in [("clinic", [names[0], names[2]].as_slice()), ("insurer", &names[1..2])] {
            let told = w.notifications(&participant(who)).await;
            let revoked = told.iter().filter(|n| n.kind() == Kind::ConsentRevoked);
            let mut of: Vec<_> = revoked.map(|n| n.resource.as_str()).collect();
            let mut its = its.to_vec();
            of.sort_unstable();
            its.sort_unstable();
            assert_eq!(of, its, "{who}");
        }
    });
}
