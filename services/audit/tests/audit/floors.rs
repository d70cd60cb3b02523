//! How long what is told stays: floors and ceilings of classes, and what a legal hold keeps beyond them.

use std::time::Duration;

use sammati_api::audit::v1::class_erasure::State;
use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::audit::v1::retention_service_server::RetentionService;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_api::audit::v1::{self as audit, ClassErasure};
use sammati_api::types::v1::RetentionClass::{self, AadhaarAuth, Access, Admin, Consent, General};
use sammati_kernel::{Caller, Reason, Refusal};

use crate::erasing::{DAY, YEAR, classed, states};
use crate::fixture::{Audit, account, everywhere, of, operator, said};
use crate::subject::{judged, whole};

impl Audit {
    async fn expire(&self, class: RetentionClass, month: &str) -> Result<audit::ExpireClassResponse, Refusal> {
        let request = audit::ExpireClassRequest {
            request_id: self.rid(),
            class: class.into(),
            month: month.to_owned(),
            legal_basis: "DPDP Rules r.8(3)".to_owned(),
        };
        said(self.rpc.expire_class(of(operator(), request)).await)
    }

    pub(crate) async fn hold(&self, who: Option<u8>, classes: &[RetentionClass]) -> audit::LegalHold {
        let request = audit::CreateLegalHoldRequest {
            request_id: self.rid(),
            subject: who.map(|who| account(who).name()).unwrap_or_default(),
            classes: classes.iter().map(|class| (*class).into()).collect(),
            legal_basis: "order 7".to_owned(),
        };
        said(self.rpc.create_legal_hold(of(operator(), request)).await).unwrap()
    }

    pub(crate) async fn lift(&self, hold: &audit::LegalHold) -> audit::LegalHold {
        let request = audit::LiftLegalHoldRequest {
            request_id: self.rid(),
            name: hold.name.clone(),
            legal_basis: "order 8".to_owned(),
        };
        said(self.rpc.lift_legal_hold(of(operator(), request)).await).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_in_force_keeps_its_record_for_as_long_as_it_may_last() {
    for audit in everywhere().await {
        let mut given = classed(1, Consent, &audit);
        given.event_type = "consent.granted".to_owned();
        audit.append(vec![given.clone()]).await.unwrap();
        let due = |classes: Vec<ClassErasure>| classes[0].due_time.unwrap().seconds;
        let in_force = due(audit.erase(1, &[Consent]).await.unwrap());
        let mut ended = classed(1, Consent, &audit);
        ended.event_type = "consent.withdrawn".to_owned();
        audit.append(vec![ended]).await.unwrap();
        let over = due(audit.erase(1, &[Consent]).await.unwrap());
        assert_eq!((in_force - over) / 86_400, 5 * 365 + 1, "five years less");
    }
}

/// An end comes years after what gave the consent, which was asked to be erased meanwhile and is under a key of its own by
/// then. The law counts from the end.
#[tokio::test(flavor = "multi_thread")]
async fn i14_the_record_of_a_consent_stays_for_seven_years_after_its_end_however_it_is_asked_for() {
    for audit in everywhere().await {
        let mut given = classed(1, Consent, &audit);
        given.event_type = "consent.granted".to_owned();
        audit.append(vec![given.clone()]).await.unwrap();
        let booked = audit.erase(1, &[Consent]).await.unwrap();
        assert_eq!(states(&booked), [(Consent, State::Booked)]);
        audit.clock.advance(4 * YEAR);
        let mut ended = classed(1, Consent, &audit);
        ended.event_type = "consent.withdrawn".to_owned();
        audit.append(vec![ended.clone()]).await.unwrap();
        // Seven years after it was given.
        audit.clock.advance(3 * YEAR + 30 * DAY);
        assert_eq!(
            states(&audit.erase(1, &[Consent]).await.unwrap()),
            [(Consent, State::Booked)]
        );
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.state(&given).await.payload_state(), PayloadState::Readable);
        // Seven years after its end.
        audit.clock.advance(4 * YEAR);
        audit.log.sweep().await.unwrap();
        for event in [&given, &ended] {
            assert_eq!(audit.state(event).await.payload_state(), PayloadState::Erased);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_keeps_what_is_due_until_it_is_lifted() {
    for audit in everywhere().await {
        let events = [1, 2].map(|who| classed(who, General, &audit));
        audit.append(events.to_vec()).await.unwrap();
        let hold = audit.hold(Some(1), &[General]).await;
        audit.clock.advance(YEAR);
        let held = audit.erase(1, &[General]).await.unwrap();
        assert_eq!(
            (states(&held)[0], held[0].reason.as_str()),
            ((General, State::Held), "LEGAL_HOLD")
        );
        // Another person is not held.
        let other = audit.erase(2, &[General]).await.unwrap();
        assert_eq!(states(&other), [(General, State::Erased)]);
        let refused = audit.expire(General, "2026-11").await.unwrap_err();
        assert_eq!(refused.reason, Reason::RetentionFloor);
        audit.clock.advance(30 * DAY);
        let refused = audit.expire(General, "2026-11").await.unwrap_err();
        assert_eq!(refused.reason, Reason::LegalHold, "the month is hers too");
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.state(&events[0]).await.payload_state(), PayloadState::Readable);
        let listed = said(audit.rpc.list_legal_holds(of(operator(), Default::default())).await).unwrap();
        assert_eq!(listed.legal_holds, std::slice::from_ref(&hold));
        let lifted = audit.lift(&hold).await;
        assert_eq!(audit.lift(&hold).await, lifted, "once");
        audit.clock.advance(DAY);
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.state(&events[0]).await.payload_state(), PayloadState::Erased);
        // All of it stands in her own log.
        let (list, head) = whole(&audit, 1, 100).await.unwrap();
        judged(&audit, &list, &head).unwrap();
        let of_type = |wanted: &str| {
            let headers = list.iter().filter_map(|event| event.event.clone()?.header);
            headers.filter(|header| header.event_type == wanted).count()
        };
        assert_eq!(
            (of_type("audit.legal_hold_set"), of_type("audit.legal_hold_lifted")),
            (1, 1)
        );
        let listed = said(audit.rpc.list_legal_holds(of(operator(), Default::default())).await).unwrap();
        assert_eq!(listed.legal_holds, []);
    }
}

/// At any time before a month's floor nothing of it goes, whoever asks; at any time after its ceiling all of it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn i14_no_month_goes_before_its_floor_and_none_stays_after_its_ceiling() {
    let years = [(Consent, 12), (Access, 1), (AadhaarAuth, 7), (General, 1), (Admin, 7)];
    // The tests begin on 22 November: nine days, less what the clock has gone, to the end of the month.
    let rest = 9 * DAY;
    for (class, years) in years {
        for audit in everywhere().await {
            let event = classed(1, class, &audit);
            audit.append(vec![event.clone()]).await.unwrap();
            let leap = u32::from(years >= 2) + u32::from(years >= 6) + u32::from(years >= 10);
            let floor = rest + (365 * years + leap) * DAY;
            let grace = if class == AadhaarAuth { 0 } else { 90 };
            let mut gone = Duration::ZERO;
            for before in [floor / 7, floor / 2, floor - DAY / 24] {
                audit.clock.advance(before - gone);
                gone = before;
                audit.log.sweep().await.unwrap();
                let refused = audit.expire(class, "2026-11").await.unwrap_err();
                assert_eq!(refused.reason, Reason::RetentionFloor, "{class:?}");
                // What is of Aadhaar is there, but for two years alone to be read by whoever may.
                let kept = match class == AadhaarAuth && before > 2 * 366 * DAY {
                    true => PayloadState::Archived,
                    false => PayloadState::Readable,
                };
                assert_eq!(audit.state(&event).await.payload_state(), kept);
            }
            if grace > 0 {
                // Between floor and ceiling only who asks gets it.
                audit.clock.advance(floor + (grace * DAY) - DAY / 24 - gone);
                gone = floor + (grace * DAY) - DAY / 24;
                audit.log.sweep().await.unwrap();
                assert_eq!(audit.state(&event).await.payload_state(), PayloadState::Readable);
            }
            if class == Access {
                audit.expire(class, "2026-11").await.unwrap();
            } else {
                audit.clock.advance(floor + (grace * DAY) + DAY / 24 - gone);
                audit.log.sweep().await.unwrap();
            }
            let read = audit.state(&event).await;
            assert_eq!(
                (read.payload_state(), read.payload),
                (PayloadState::Erased, None),
                "{class:?}"
            );
            assert!(read.erasure.is_some());
            let once = audit.expire(class, "2026-11").await.unwrap();
            assert_eq!(once, audit.expire(class, "2026-11").await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_an_erasure_is_answered_with_where_it_stands() {
    for audit in everywhere().await {
        audit.append(vec![classed(1, General, &audit)]).await.unwrap();
        let request = audit::EraseSubjectRequest {
            request_id: audit.rid(),
            subject: account(1).name(),
            legal_basis: "DPDP Act s.12(3)".to_owned(),
            ..Default::default()
        };
        let ask = |caller: Caller| async { said(audit.rpc.erase_subject(of(caller, request.clone())).await) };
        let first = ask(operator()).await.unwrap();
        assert_eq!(ask(operator()).await.unwrap(), first);
        let other = audit::EraseSubjectRequest {
            legal_basis: "another".to_owned(),
            ..request.clone()
        };
        let refused = said(audit.rpc.erase_subject(of(operator(), other)).await).unwrap_err();
        assert_eq!(refused.reason, Reason::RequestIdReused);
        let nobody = audit::EraseSubjectRequest {
            request_id: audit.rid(),
            subject: account(9).name(),
            legal_basis: "x".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            said(audit.rpc.erase_subject(of(operator(), nobody)).await)
                .unwrap()
                .classes,
            []
        );
        let wrong = audit::EraseSubjectRequest {
            request_id: audit.rid(),
            subject: "her".to_owned(),
            classes: vec![0, 9],
            legal_basis: String::new(),
        };
        let refused = said(audit.rpc.erase_subject(of(operator(), wrong)).await).unwrap_err();
        let fields: Vec<_> = refused.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(fields, ["subject", "classes", "legal_basis"]);
    }
}
