//! One person is erased and every proof still holds; what the law keeps waits for its day.

use std::time::Duration;

use sammati_api::audit::v1::class_erasure::State;
use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_api::audit::v1::{self as audit, ClassErasure, ExportFormat};
use sammati_api::types::v1::RetentionClass::{self, AadhaarAuth, Access, Admin, Consent, General};
use sammati_api::types::v1::TimeRange;
use sammati_audit::witnesses::Witnesses;
use sammati_kernel::{AccountId, Clock, Micros, Refusal, Slot};
use sammati_log::bundle::Bundle;
use sammati_log::hash::leaf_hash;
use sammati_server::event::timestamp;

use crate::fixture::{
    Audit, account, event_id, everywhere, granted, of, of_class, of_type, operator, person, said, service,
};
use crate::fsck::check;
use crate::kept::{bodies, everything, execute, holds, names, sealed, wrapped};
use crate::reading::all;
use crate::subject::{judged, whole};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// In every payload of subject 1, and nowhere else.
pub(crate) const CANARY: &str = "order of the court at Kanarienberg";

/// What payloads of subject 1 tell, and no file may in clear: who she is, whom she has to do with, and on what ground.
pub(crate) fn clear() -> [String; 4] {
    let who = "participants/city-hospital".to_owned();
    [CANARY.to_owned(), account(1).name(), crate::fixture::consent(1), who]
}

impl Audit {
    pub(crate) fn rid(&self) -> String {
        let tail: [u8; 8] = event_id().as_bytes()[28..].try_into().unwrap();
        let name = AccountId::new(self.clock.now(), Slot::new(7), tail).name();
        name.trim_start_matches("accounts/").to_owned()
    }

    pub(crate) async fn erase(&self, who: u8, classes: &[RetentionClass]) -> Result<Vec<ClassErasure>, Refusal> {
        let request = audit::EraseSubjectRequest {
            request_id: self.rid(),
            subject: account(who).name(),
            classes: classes.iter().map(|class| (*class).into()).collect(),
            legal_basis: "DPDP Act s.12(3)".to_owned(),
        };
        let answer = said(self.rpc.erase_subject(of(service("identity"), request)).await);
        answer.map(|answer| answer.classes)
    }

    pub(crate) async fn state(&self, event: &audit::Event) -> audit::LogEvent {
        self.get(operator(), &event.event_id).await.unwrap()
    }
}

/// An event about `who` in a class, with the canary in the payload of subject 1.
pub(crate) fn classed(who: u8, class: RetentionClass, audit: &Audit) -> audit::Event {
    let mut event = of_class(granted(account(who), &crate::fixture::consent(who)), class);
    event.occurred_time = Some(timestamp(audit.clock.now()));
    if who == 1 {
        event.payload.as_mut().unwrap().legal_basis = CANARY.to_owned();
    }
    event
}

pub(crate) fn states(classes: &[ClassErasure]) -> Vec<(RetentionClass, State)> {
    classes.iter().map(|class| (class.class(), class.state())).collect()
}

const FORMATS: [ExportFormat; 3] = [ExportFormat::Native, ExportFormat::Fhir, ExportFormat::Ocsf];

#[tokio::test(flavor = "multi_thread")]
async fn a3_nothing_of_a_person_stays_and_every_proof_holds() {
    for audit in everywhere().await {
        // Each names somebody whom the others do not name.
        let hers = [Consent, Access, General].map(|class| {
            let mut event = classed(1, class, &audit);
            let of = &mut event.payload.as_mut().unwrap().object_refs;
            of.push(format!("participants/of-{}", class as i32));
            event
        });
        let other = classed(2, Consent, &audit);
        let mut events = hers.to_vec();
        events.push(other.clone());
        audit.append(events).await.unwrap();
        let mut before = Vec::new();
        for index in 0..4 {
            before.push(audit.prove(index, 0).await.unwrap());
        }
        let (log, keys) = (audit.location(), audit.key_location());
        let payloads = sealed(&bodies(&log, "leaf"));
        let wrapped = wrapped(&bodies(&keys, "payload_key"));
        let names = names(&bodies(&log, "leaf"));
        for format in FORMATS {
            let file = audit.export_text(person(account(1)), format).await;
            assert!(file.contains(&crate::fixture::consent(1)), "{format:?}");
        }
        // Whoever has all files before anything is erased has what she is found by and her ciphertexts, and nothing in clear.
        let found = [everything(&log), everything(&keys)].concat();
        assert_eq!(payloads.len(), 4);
        for kept in payloads.iter().chain(&names[..3]).chain(&wrapped) {
            assert!(holds(&found, kept));
        }
        assert!(holds(&found, b"consent.requested"), "headers are for everybody");
        for clear in clear() {
            assert!(!holds(&found, clear.as_bytes()), "{clear} is in clear");
        }

        // Below every floor all is booked.
        let booked = audit.erase(1, &[]).await.unwrap();
        let expected = [Consent, Access, General, Admin].map(|class| (class, State::Booked));
        assert_eq!(states(&booked), expected, "that she exported is of the last");
        assert!(
            booked
                .iter()
                .all(|class| class.reason == "RETENTION_FLOOR" && class.due_time.is_some())
        );
        assert_eq!(audit.state(&hers[1]).await.payload_state(), PayloadState::Readable);

        // A year on, the two short classes go at once.
        audit.clock.advance(YEAR);
        let erased = audit.erase(1, &[]).await.unwrap();
        let expected = [
            (Consent, State::Booked),
            (Access, State::Erased),
            (General, State::Erased),
        ];
        assert_eq!(states(&erased)[..3], expected);
        for event in &hers[1..] {
            let read = audit.state(event).await;
            assert_eq!((read.payload_state(), read.payload), (PayloadState::Erased, None));
            let erasure = read.erasure.expect("it says when and why");
            assert_eq!(erasure.legal_basis, "DPDP Act s.12(3)");
            let bundle: Bundle = erasure.proof.parse().unwrap();
            bundle.verify(leaf_hash(&erasure.leaf), &[audit.verifier()]).unwrap();
            assert!(erasure.event.ends_with(&format!("/events/{}", bundle.index)));
        }
        let kept = [&hers[0], &other];
        for event in kept {
            assert_eq!(audit.state(event).await.payload_state(), PayloadState::Readable);
        }
        let file = audit.export_text(person(account(1)), ExportFormat::Native).await;
        assert_eq!(file.matches(CANARY).count(), 1, "of the class that is kept");
        // Neither her ciphertexts nor the key they were under are anywhere; those of others are.
        let found = [everything(&log), everything(&keys)].concat();
        for clear in clear() {
            assert!(!holds(&found, clear.as_bytes()), "{clear} is in clear");
        }
        for gone in payloads[1..3].iter().chain(&names[1..3]) {
            assert!(
                !holds(&found, gone),
                "a sealed payload, or what it is found by, is still there"
            );
        }
        for kept in [0, 3] {
            assert!(holds(&found, &payloads[kept]) && holds(&found, &names[kept]));
        }
        assert_eq!(
            wrapped.iter().filter(|key| !holds(&found, key)).count(),
            2,
            "two keys are gone"
        );
        // In seven years, the rest; without anybody asking again.
        audit.clock.advance(7 * YEAR);
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.state(&hers[0]).await.payload_state(), PayloadState::Erased);
        let found = [everything(&log), everything(&keys)].concat();
        assert!(!holds(&found, &payloads[0]));
        assert!(names[..3].iter().all(|names| !holds(&found, names)) && holds(&found, &names[3]));
        for format in FORMATS {
            let file = audit.export_text(person(account(1)), format).await;
            assert!(
                !file.contains(CANARY) && !file.contains(&crate::fixture::consent(1)),
                "{format:?}"
            );
        }
        assert_eq!(audit.state(&other).await.payload_state(), PayloadState::Readable);

        // Every proof from before, to the byte, and her whole list.
        for (index, proof) in before.iter().enumerate() {
            assert_eq!(audit.prove(index as i64, proof.tree_size).await.unwrap(), *proof);
        }
        let (list, head) = whole(&audit, 1, 100).await.unwrap();
        judged(&audit, &list, &head).unwrap();
        let records = list.iter().filter_map(|event| event.event.clone()?.header);
        let records: Vec<_> = records
            .filter(|header| header.event_type == "audit.erasure_executed")
            .collect();
        assert!(records.len() >= 3, "{}", records.len());
        let audit = audit.restart().await;
        assert_eq!(audit.state(&hers[0]).await.payload_state(), PayloadState::Erased);
    }
}

/// How many of `who`'s events of the day from `begun` on are found by the consent that their payloads name.
async fn found_by_consent(audit: &Audit, who: u8, begun: Micros) -> usize {
    let request = audit::ListEventsRequest {
        page_size: 1000,
        consent: crate::fixture::consent(who),
        occurred_range: Some(TimeRange {
            from: Some(timestamp(begun)),
            to: Some(timestamp(begun.plus(DAY))),
        }),
        ..Default::default()
    };
    let found = all(audit, &operator(), &request).await;
    let hers = found.iter().filter_map(|event| event.header.as_ref());
    hers.filter(|header| header.event_type == "identity.viewed").count()
}

/// Whatever pages have it by then: merged ones, others, or none; and while they are made.
#[tokio::test(flavor = "multi_thread")]
async fn a3_what_a_cleared_leaf_named_finds_it_no_more() {
    for audit in everywhere().await {
        let begun = audit.clock.now();
        for _ in 0..5 {
            let events = (0..900_u32).map(|n| classed((n % 90) as u8, General, &audit));
            audit.append(events.collect()).await.unwrap();
        }
        audit.clock.advance(YEAR);
        let (posted, erased) = tokio::join!(audit.log.post(), audit.erase(2, &[]));
        posted.unwrap();
        assert_eq!(states(&erased.unwrap()), [(General, State::Erased)]);
        audit.log.post().await.unwrap();
        assert_eq!(found_by_consent(&audit, 1, begun).await, 50);
        audit.erase(1, &[]).await.unwrap();
        let location = audit.location();
        for _ in 0..2 {
            for (who, left) in [(1, 0), (2, 0), (3, 50)] {
                assert_eq!(found_by_consent(&audit, who, begun).await, left, "{who}");
            }
            let of_fsck = location.clone();
            let found = tokio::task::spawn_blocking(move || check(&of_fsck)).await.unwrap();
            assert_eq!(found, Vec::<String>::new());
            // The leaves that had no postings yet get theirs.
            let events = (0..300).map(|_| classed(4, General, &audit));
            audit.append(events.collect()).await.unwrap();
            audit.log.post().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_what_is_told_of_her_afterwards_is_sealed_under_another_key() {
    for audit in everywhere().await {
        let first = classed(1, General, &audit);
        audit.append(vec![first.clone()]).await.unwrap();
        audit.clock.advance(YEAR);
        audit.erase(1, &[General]).await.unwrap();
        let second = classed(1, General, &audit);
        audit.append(vec![second.clone()]).await.unwrap();
        assert_eq!(audit.state(&first).await.payload_state(), PayloadState::Erased);
        let read = audit.state(&second).await;
        assert_eq!(read.payload, second.payload);
        assert!(read.header.unwrap().key_id.ends_with("/1"));
        // Asked again, the new one has a day of its own.
        let again = audit.erase(1, &[General]).await.unwrap();
        assert_eq!(states(&again), [(General, State::Booked)]);
        audit.clock.advance(YEAR);
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.state(&second).await.payload_state(), PayloadState::Erased);
    }
}

/// That her log is read is told in it, in a class of seven years: it moves no day that is booked, and keeps its own floor.
#[tokio::test(flavor = "multi_thread")]
async fn a3_an_erasure_ends_however_often_her_log_is_read() {
    for audit in everywhere().await {
        let first = classed(1, Admin, &audit);
        audit.append(vec![first.clone()]).await.unwrap();
        let day = audit.erase(1, &[]).await.unwrap()[0].due_time.unwrap();
        for year in 0..7 {
            assert_eq!(
                audit.state(&first).await.payload_state(),
                PayloadState::Readable,
                "{year}"
            );
            if year < 6 {
                audit.clock.advance(YEAR);
                audit.log.sweep().await.unwrap();
            }
        }
        // Whoever asks again has what was told since booked, for a day of its own.
        audit.clock.set(Micros::from_seconds(day.seconds - 1));
        let again = audit.erase(1, &[Admin]).await.unwrap().remove(0);
        assert_eq!(again.state(), State::Booked);
        assert!(again.due_time.unwrap().seconds > day.seconds + 5 * 365 * 86_400);
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.state(&first).await.payload_state(), PayloadState::Readable);
        audit.clock.set(Micros::from_seconds(day.seconds));
        let audit = audit.restart().await;
        audit.log.sweep().await.unwrap();
        let (list, head) = whole(&audit, 1, 100).await.unwrap();
        judged(&audit, &list, &head).unwrap();
        let events = || list.iter().filter_map(|event| event.event.as_ref());
        let of = |event: &&audit::LogEvent| event.header.as_ref().unwrap().event_id == first.event_id;
        assert_eq!(events().find(of).unwrap().payload_state(), PayloadState::Erased);
        let reads = |event: &&audit::LogEvent| event.header.as_ref().unwrap().event_type == "audit.queried";
        assert!(events().filter(reads).count() >= 7);
        assert!(
            events()
                .filter(reads)
                .all(|read| read.payload_state() == PayloadState::Readable),
            "they have their own floor"
        );
        // Nobody has read since it was asked for again but the one who looked just now.
        audit
            .clock
            .set(Micros::from_seconds(again.due_time.unwrap().seconds + 1));
        audit.log.sweep().await.unwrap();
        let (list, _) = whole(&audit, 1, 100).await.unwrap();
        let erased = list.iter().filter_map(|event| event.event.as_ref());
        let erased = erased
            .filter(reads)
            .filter(|read| read.payload_state() == PayloadState::Erased);
        assert!(erased.count() >= 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_a_key_database_that_was_restored_forgets_again() {
    for audit in everywhere().await {
        let event = classed(1, General, &audit);
        audit.append(vec![event.clone()]).await.unwrap();
        audit.clock.advance(YEAR);
        let keys = audit.key_location();
        execute(&keys, "CREATE TABLE backup AS SELECT * FROM payload_key");
        audit.erase(1, &[General]).await.unwrap();
        execute(&keys, "DELETE FROM payload_key WHERE 1=1");
        execute(&keys, "INSERT INTO payload_key SELECT * FROM backup");
        let audit = audit.restart().await;
        assert_eq!(audit.log.erase_again().await.unwrap(), 1);
        assert_eq!(audit.log.erase_again().await.unwrap(), 0);
        assert!(
            wrapped(&bodies(&audit.key_location(), "payload_key"))
                .iter()
                .any(Vec::is_empty)
        );
        assert_eq!(audit.state(&event).await.payload_state(), PayloadState::Erased);
    }
}

/// The log and its keys are two databases: each remembers for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_log_that_was_restored_erases_again() {
    for audit in everywhere().await {
        let (hers, other) = (classed(1, General, &audit), classed(2, General, &audit));
        audit.append(vec![hers.clone(), other.clone()]).await.unwrap();
        audit.clock.advance(YEAR);
        let ciphertext = sealed(&bodies(&audit.location(), "leaf"))[0].clone();
        let is_kept = |audit: &Audit| holds(&bodies(&audit.location(), "leaf").concat(), &ciphertext);
        let backup = audit.backup().await;
        audit.erase(1, &[General]).await.unwrap();
        let erased = audit.state(&hers).await.erasure.unwrap();
        assert!(!is_kept(&audit));
        let audit = audit.restart_from(backup, Witnesses::default()).await;
        // Ciphertext and look-ups are back, and the log says nothing of an erasure; but the key is gone.
        assert!(is_kept(&audit));
        let before = audit.state(&hers).await;
        assert_eq!((before.payload_state(), before.erasure), (PayloadState::Erased, None));

        assert_eq!(audit.log.erase_again().await.unwrap(), 1);
        assert!(!is_kept(&audit));
        let again = audit.state(&hers).await.erasure.expect("it says again when and why");
        assert_eq!(
            (&again.legal_basis, again.erase_time),
            (&erased.legal_basis, erased.erase_time)
        );
        let bundle: Bundle = again.proof.parse().unwrap();
        bundle.verify(leaf_hash(&again.leaf), &[audit.verifier()]).unwrap();
        assert_eq!(audit.log.erase_again().await.unwrap(), 0, "once");
        assert_eq!(audit.state(&other).await.payload_state(), PayloadState::Readable);
        let (list, head) = whole(&audit, 1, 100).await.unwrap();
        judged(&audit, &list, &head).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_what_a_restored_log_forgot_to_have_booked_is_booked_again() {
    for audit in everywhere().await {
        let events = [Consent, General].map(|class| classed(1, class, &audit));
        audit.append(events.to_vec()).await.unwrap();
        let backup = audit.backup().await;
        audit.erase(1, &[]).await.unwrap();
        let audit = audit.restart_from(backup, Witnesses::default()).await;
        audit.clock.advance(YEAR);
        audit.log.sweep().await.unwrap();
        assert_eq!(
            audit.state(&events[1]).await.payload_state(),
            PayloadState::Readable,
            "forgotten"
        );
        assert!(audit.log.book_again(account(1)).await.unwrap());
        assert!(
            !audit.log.book_again(account(9)).await.unwrap(),
            "there is nothing of hers"
        );
        assert!(!audit.log.book_again(account(1)).await.unwrap(), "once");
        assert_eq!(audit.state(&events[1]).await.payload_state(), PayloadState::Erased);
        assert_eq!(audit.state(&events[0]).await.payload_state(), PayloadState::Readable);
        audit.clock.advance(7 * YEAR);
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.state(&events[0]).await.payload_state(), PayloadState::Erased);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_what_was_erased_of_one_class_keeps_no_other_from_being_booked_again() {
    for audit in everywhere().await {
        let events = [Consent, General].map(|class| classed(1, class, &audit));
        audit.append(events.to_vec()).await.unwrap();
        audit.clock.advance(YEAR);
        audit.erase(1, &[General]).await.unwrap();
        assert_eq!(audit.state(&events[1]).await.payload_state(), PayloadState::Erased);
        assert!(audit.log.book_again(account(1)).await.unwrap());
        audit.clock.advance(7 * YEAR);
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.state(&events[0]).await.payload_state(), PayloadState::Erased);
    }
}

/// What is told of emergencies, of who acts for her, of her policies and of her subscriptions goes with all else of its class.
#[tokio::test(flavor = "multi_thread")]
async fn a3_events_of_every_family_go_with_their_class() {
    let families = [
        (Consent, "access.break_glass"),
        (Consent, "access.break_glass_reviewed"),
        (Access, "access.denied"),
        (Admin, "identity.representation_activated"),
        (Admin, "identity.representation_ended"),
        (Consent, "policy.disabled"),
        (Consent, "subscription.withdrawn"),
        (General, "link.data_available"),
        (General, "identity.profile_shared"),
        (AadhaarAuth, "identity.authn_succeeded"),
    ];
    for audit in everywhere().await {
        let told = |(class, kind): (RetentionClass, &str)| {
            let mut event = classed(1, class, &audit);
            if kind.starts_with("access.break_glass") {
                event.payload.as_mut().unwrap().consent = crate::fixture::consent(1);
            }
            let event = of_type(event, kind);
            assert_eq!(event.class(), class, "{kind}");
            event
        };
        let events: Vec<_> = families.into_iter().map(told).collect();
        audit.append(events.clone()).await.unwrap();
        // What is recorded of the erasures is of the last class, and waits for a day of its own.
        let rounds = [
            (1, [Access, General].as_slice(), [].as_slice()),
            (6, &[Consent, AadhaarAuth], &[Admin]),
            (8, &[Admin], &[]),
        ];
        let mut all = Vec::new();
        for (years, gone, gone_in_part) in rounds {
            audit.clock.advance(YEAR * years);
            let standings = states(&audit.erase(1, &[]).await.unwrap());
            let expected = gone.iter().map(|class| (*class, State::Erased));
            for standing in expected.chain(gone_in_part.iter().map(|class| (*class, State::Booked))) {
                assert!(standings.contains(&standing), "{standing:?} {standings:?}");
            }
            all.extend(gone.iter().chain(gone_in_part));
            for (event, (class, kind)) in events.iter().zip(families) {
                let state = audit.state(event).await.payload_state();
                assert_eq!(state == PayloadState::Erased, all.contains(&class), "{kind}");
            }
        }
    }
}
