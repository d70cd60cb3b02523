//! Whose a pseudonym is: an operator is told on a legal ground, and she is told that he was.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_consent::closing::Closings;
use sammati_consent::study::identify::Identify;
use sammati_consent::study::settle;
use sammati_kernel::{Caller, Micros, Reason, StudyId};
use tonic::{Response, Status};

use crate::studies::{active, close, create, described, member};
use crate::world::{DAY, HOUR, World, by, everywhere, operator, participant, reason};

fn asking(w: &World, study: &str, pseudonym: &str) -> api::IdentifySubjectRequest {
    api::IdentifySubjectRequest {
        study: study.to_owned(),
        pseudonym: pseudonym.to_owned(),
        legal_basis: "order 7".into(),
        request_id: w.request_id(),
    }
}

async fn identify(w: &World, message: api::IdentifySubjectRequest) -> Result<api::IdentifySubjectResponse, Status> {
    let told = w.rpc().identify_subject(by(&operator(), message)).await;
    told.map(Response::into_inner)
}

#[test]
fn an_operator_is_told_whose_a_pseudonym_is_and_she_hears_of_it() {
    everywhere(|w| async move {
        let study = active(&w, "institute").await;
        let (she, consent) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        let account = she.account().unwrap();
        let message = asking(&w, &study.name, &consent.patient);
        let told = identify(&w, message.clone()).await.unwrap();
        assert_eq!(told.subject, account.name());
        assert_eq!(identify(&w, message).await.unwrap(), told, "a repeat");

        let events = w.events().await;
        let of = events.iter().filter(|e| e.event_type == "study.subject_identified");
        let of: Vec<_> = of.collect();
        assert_eq!((of.len(), of[0].action()), (1, Action::Read));
        assert_eq!(of[0].event_id, told.event_id);
        let payload = of[0].payload.as_ref().unwrap();
        assert_eq!(
            (payload.subject.as_str(), payload.legal_basis.as_str()),
            (account.name().as_str(), "order 7")
        );
        assert_eq!(
            payload.object_refs,
            std::slice::from_ref(&study.name),
            "the sponsor is no party"
        );

        let hers = w.notifications(&she).await;
        let hers: Vec<_> = hers
            .iter()
            .filter(|n| n.kind() == Kind::StudySubjectIdentified)
            .collect();
        assert_eq!((hers.len(), hers[0].resource.as_str()), (1, study.name.as_str()));
        for other in ["institute", "hospital"] {
            let told = w.notifications(&participant(other)).await;
            assert!(told.iter().all(|n| n.kind() != Kind::StudySubjectIdentified), "{other}");
        }
    });
}

#[test]
fn nobody_is_named_without_a_ground_or_by_what_is_no_pseudonym_of_the_study() {
    everywhere(|w| async move {
        let study = active(&w, "institute").await;
        let other = active(&w, "university").await;
        let (she, consent) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        let baseless = api::IdentifySubjectRequest {
            legal_basis: String::new(),
            ..asking(&w, &study.name, &consent.patient)
        };
        assert_eq!(reason(identify(&w, baseless).await), Reason::FieldInvalid);
        for (study, pseudonym, why) in [
            (study.name.as_str(), "MRN-1", Reason::FieldInvalid),
            (&study.name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Reason::NotFound),
            (&other.name, &consent.patient, Reason::NotFound),
            (
                &StudyId::new(w.clock_now(), she.account().unwrap().slot(), [9; 8]).name(),
                &consent.patient,
                Reason::NotFound,
            ),
        ] {
            assert_eq!(
                reason(identify(&w, asking(&w, study, pseudonym)).await),
                why,
                "{pseudonym}"
            );
        }
        let draft = create(&w, "institute", described(&w)).await.unwrap();
        let early = identify(&w, asking(&w, &draft.name, &consent.patient)).await;
        assert_eq!(reason(early), Reason::StudyNotActive);
        *w.people.deleted.lock().unwrap() = vec![(she.account().unwrap(), false)];
        let gone = identify(&w, asking(&w, &study.name, &consent.patient)).await;
        assert_eq!(reason(gone), Reason::NotFound);
        assert_eq!(w.count("study.subject_identified").await, 0);
        assert!(
            w.notifications(&she)
                .await
                .iter()
                .all(|n| n.kind() != Kind::StudySubjectIdentified)
        );
    });
}

/// How often she was told that somebody asked.
async fn heard(w: &World, she: &Caller) -> usize {
    let hers = w.notifications(she).await;
    hers.iter().filter(|n| n.kind() == Kind::StudySubjectIdentified).count()
}

#[test]
fn a3_nobody_is_named_any_more_whose_account_is_deleted_not_to_a_repeat_and_not_to_one_who_waited() {
    everywhere(|w| async move {
        let study = active(&w, "institute").await;
        let (she, consent) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        let account = she.account().unwrap();
        let waiting = |destroy| Identify {
            caller: operator(),
            account,
            study: StudyId::parse_name(&study.name).unwrap(),
            legal_basis: "order 7".into(),
            destroy,
            directory: w.people.clone(),
        };
        let message = asking(&w, &study.name, &consent.patient);
        identify(&w, message.clone()).await.unwrap();
        // The study's key goes while a command waits.
        let late = w.store().apply(waiting(Some(w.clock_now()))).await;
        assert_eq!(late.unwrap_err().reason, Reason::StudyNotActive);
        w.store().apply(waiting(Some(Micros(i64::MAX)))).await.unwrap();
        assert_eq!(heard(&w, &she).await, 2);

        *w.people.deleted.lock().unwrap() = vec![(account, false)];
        assert_eq!(
            reason(identify(&w, message.clone()).await),
            Reason::NotFound,
            "a repeat"
        );
        let late = w.store().apply(waiting(None)).await;
        assert_eq!(late.unwrap_err().reason, Reason::NotFound);
        *w.people.deleted.lock().unwrap() = vec![(account, true)];
        w.rpc().close_accounts(&mut Closings::default()).await.unwrap();
        // Another process may not have heard of it yet.
        w.people.deleted.lock().unwrap().clear();
        assert_eq!(reason(identify(&w, message).await), Reason::NotFound);
        let late = w.store().apply(waiting(None)).await;
        assert_eq!(late.unwrap_err().reason, Reason::NotFound);
        assert_eq!(w.count("study.subject_identified").await, 2);
        assert_eq!(heard(&w, &she).await, 0, "nothing is left of her, and nothing came");
    });
}

#[test]
fn a_repeat_is_told_nothing_once_the_key_of_the_study_is_destroyed() {
    everywhere(|w| async move {
        let study = active(&w, "institute").await;
        let (_, consent) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        close(&w, &operator(), &study.name).await.unwrap();
        settle::sweep(w.store()).await.unwrap();
        w.advance(7 * 365 * DAY - HOUR);
        settle::sweep(w.store()).await.unwrap();
        let message = asking(&w, &study.name, &consent.patient);
        let told = identify(&w, message.clone()).await.unwrap();
        assert_eq!(identify(&w, message.clone()).await.unwrap(), told);
        w.advance(2 * HOUR);
        settle::sweep(w.store()).await.unwrap();
        assert_eq!(reason(identify(&w, message).await), Reason::StudyNotActive);
    });
}
