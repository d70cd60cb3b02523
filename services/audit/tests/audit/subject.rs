//! All that the log has about one person, and that nobody can leave anything out.

use diesel::connection::SimpleConnection;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_api::audit::v1::{self as audit, SubjectEvent, SubjectHead, event};
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_log::subject::{Head, Proved, verify, verify_since};
use sammati_server::event::timestamp;
use sammati_store::{AnyConn, Location, on_conn};

use crate::fixture::{Audit, account, everywhere, of, of_type, operator, participant, person, said, some_event};

impl Audit {
    pub(crate) async fn subject_events(
        &self,
        caller: Caller,
        request: audit::ListSubjectEventsRequest,
    ) -> Result<audit::ListSubjectEventsResponse, Refusal> {
        said(self.rpc.list_subject_events(of(caller, request)).await)
    }

    async fn summary(
        &self,
        caller: Caller,
        request: audit::SummarizeAccessRequest,
    ) -> Result<audit::AccessSummary, Refusal> {
        said(self.rpc.summarize_access(of(caller, request)).await)
    }
}

/// Her whole list with proofs, and what the log states of it.
pub(crate) async fn whole(audit: &Audit, who: u8, page_size: i32) -> Result<(Vec<SubjectEvent>, SubjectHead), Refusal> {
    let mut request = audit::ListSubjectEventsRequest {
        page_size,
        with_proofs: true,
        ..Default::default()
    };
    let mut events = Vec::new();
    loop {
        let page = audit.subject_events(person(account(who)), request.clone()).await?;
        events.extend(page.events);
        if page.next_page_token.is_empty() {
            return Ok((events, page.subject_head.expect("the last page closes with it")));
        }
        assert_eq!(page.subject_head, None);
        request.page_token = page.next_page_token;
    }
}

pub(crate) fn proved(events: &[SubjectEvent]) -> Vec<Proved> {
    let one = |event: &SubjectEvent| Proved {
        leaf: event.leaf.clone(),
        bundle: event.proof.parse().unwrap(),
    };
    events.iter().map(one).collect()
}

/// Verifies a list as somebody who has the log's key and nothing else.
pub(crate) fn judged(audit: &Audit, events: &[SubjectEvent], head: &SubjectHead) -> Result<Head, sammati_log::Error> {
    let keys = [audit.verifier()];
    let head = Head::open(&head.note, &keys)?;
    verify(&head, &proved(events), &keys).map(|()| head)
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a_list_in_pages_is_complete_and_proved_while_the_log_grows() {
    for audit in everywhere().await {
        audit
            .append((0..40).map(|n| some_event(n % 3)).collect())
            .await
            .unwrap();
        let (events, head) = whole(&audit, 1, 4).await.unwrap();
        assert_eq!((events.len(), head.seq), (13, 13), "without the record of this reading");
        let first = judged(&audit, &events, &head).unwrap();
        let types: Vec<_> = events
            .iter()
            .map(|e| e.event.clone().unwrap().header.unwrap().event_type)
            .collect();
        assert!(types.iter().all(|t| t == "consent.granted"));
        // The four pages are in the next list.
        let (again, head) = whole(&audit, 1, 50).await.unwrap();
        assert_eq!(again.len(), 17);
        let second = judged(&audit, &again, &head).unwrap();
        verify_since(&first, &second, &proved(&again)).unwrap();
        let header = again[0].event.clone().unwrap().header.unwrap();
        assert_eq!((header.event_type.as_str(), header.subject_seq), ("audit.queried", 17));
        // Somebody of whom the log has nothing.
        let (nothing, head) = whole(&audit, 9, 50).await.unwrap();
        assert_eq!((nothing.len(), head.seq, head.index), (0, 0, None));
        judged(&audit, &nothing, &head).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_hers_or_an_operators_with_a_ground() {
    for audit in everywhere().await {
        audit.append(vec![some_event(1), some_event(2)]).await.unwrap();
        let mut request = audit::ListSubjectEventsRequest {
            subject: account(2).name(),
            ..Default::default()
        };
        let refused = audit
            .subject_events(person(account(1)), request.clone())
            .await
            .unwrap_err();
        assert_eq!(refused.reason, Reason::NotAvailable);
        let refused = audit.subject_events(operator(), request.clone()).await.unwrap_err();
        let fields: Vec<_> = refused.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(
            (refused.reason, fields),
            (Reason::FieldInvalid, vec!["legal_basis".to_owned()])
        );
        request.legal_basis = "court order 7".to_owned();
        let page = audit.subject_events(operator(), request).await.unwrap();
        assert_eq!(page.events.len(), 1);
        // She sees who looked, and on what ground.
        let (events, _) = whole(&audit, 2, 50).await.unwrap();
        let payload = events[0].event.clone().unwrap().payload.unwrap();
        assert_eq!(
            (payload.actor.unwrap().id.as_str(), payload.legal_basis.as_str()),
            ("operators/asha", "court order 7")
        );
    }
}

fn execute(location: &Location, sql: &str) {
    let mut conn = location.connect().unwrap();
    let literal = if matches!(conn, AnyConn::Pg(_)) { r"'\x" } else { "X'" };
    let sql = sql.replace('{', literal).replace('}', "'");
    on_conn!(&mut conn, |c| c.batch_execute(&sql)).unwrap();
}

/// Whoever changes the database beside the service: the service refuses to state it, or the verifier sees it.
#[tokio::test(flavor = "multi_thread")]
async fn a1_rows_that_are_dropped_or_altered_are_noticed() {
    let damages = [
        "DELETE FROM leaf WHERE id={0000000000000004}",
        "DELETE FROM leaf WHERE id={0000000000000007}",
        // Two of her leaves change places.
        "UPDATE leaf SET id={ee} WHERE id={0000000000000004}; UPDATE leaf SET id={0000000000000004} WHERE \
         id={0000000000000001}; UPDATE leaf SET id={0000000000000001} WHERE id={ee}",
        // The newest is taken out of the look-up, or out of the chain.
        "DELETE FROM posting",
        "DELETE FROM subject",
    ];
    for damage in damages {
        for audit in everywhere().await {
            audit.append((0..9).map(|n| some_event(n % 3)).collect()).await.unwrap();
            // So many that there are postings.
            audit.append((0..600).map(|_| some_event(4)).collect()).await.unwrap();
            audit.log.post().await.unwrap();
            let location = audit.location();
            std::thread::scope(|scope| scope.spawn(|| execute(&location, damage)).join().unwrap());
            let listed = whole(&audit, 1, 50).await;
            let noticed = match &listed {
                // What is wrong in the look-up alone does not freeze the log.
                Err(refused) => matches!(refused.reason, Reason::LogFrozen | Reason::Internal),
                Ok((events, head)) => judged(&audit, events, head).is_err(),
            };
            assert!(noticed, "{damage}: {listed:?}");
        }
    }
}

fn decided(of: u8, kind: &str, outcome: event::Outcome, purpose: types::PurposeCode, repeats: i64) -> audit::Event {
    let mut event = some_event(of);
    event.outcome = outcome.into();
    let payload = event.payload.as_mut().unwrap();
    payload.object_refs = ["participants/clinic", "participants/city-hospital"]
        .map(str::to_owned)
        .to_vec();
    payload.purpose = purpose.into();
    payload.counts = Some(audit::Counts {
        repeats,
        ..Default::default()
    });
    payload.decision = Some(audit::DecisionRecord {
        id: event.event_id.clone(),
        revision: "r".to_owned(),
        rule: 0,
        checked: Some(types::Scope {
            hi_types: vec![types::HiType::Prescription.into()],
            ..Default::default()
        }),
    });
    of_type(event, kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_counts_by_recipient_and_purpose_what_was_allowed_and_what_was_tried() {
    use event::Outcome::{Serious, Success};
    use types::PurposeCode::{Caremgt, Hpaymt};
    for audit in everywhere().await {
        let mut moved = decided(1, "data.requested", Success, Caremgt, 0);
        moved.payload.as_mut().unwrap().object_refs.reverse();
        audit
            .append(vec![
                decided(1, "access.authorized", Success, Caremgt, 0),
                decided(1, "access.denied", Serious, Hpaymt, 3),
                decided(2, "access.authorized", Success, Caremgt, 0),
                moved,
                some_event(1),
            ])
            .await
            .unwrap();
        let summary = audit.summary(person(account(1)), Default::default()).await.unwrap();
        let lines: Vec<_> = summary
            .recipients
            .iter()
            .map(|line| {
                (
                    line.recipient.as_str(),
                    line.purpose(),
                    line.allowed_count,
                    line.denied_count,
                )
            })
            .collect();
        assert!(lines.contains(&("participants/clinic", Caremgt, 2, 0)), "{lines:?}");
        assert!(lines.contains(&("participants/clinic", Hpaymt, 0, 3)), "{lines:?}");
        assert_eq!((lines.len(), summary.event_count, summary.erased_count), (2, 4, 0));
        let allowed = summary.recipients.iter().find(|line| line.allowed_count == 2).unwrap();
        assert_eq!(allowed.hi_types, [i32::from(types::HiType::Prescription)]);
        let long_ago = |seconds| Some(timestamp(sammati_kernel::Micros::from_seconds(seconds)));
        let request = audit::SummarizeAccessRequest {
            occurred_range: Some(types::TimeRange {
                from: long_ago(1),
                to: long_ago(2),
            }),
            ..Default::default()
        };
        let summary = audit.summary(person(account(1)), request).await.unwrap();
        assert_eq!(summary.recipients, []);
        let refused = audit
            .summary(participant("city-hospital"), Default::default())
            .await
            .unwrap_err();
        assert_eq!(
            refused.reason,
            Reason::FieldInvalid,
            "the gate lets none through; without it nobody is meant"
        );
    }
}

/// Each attempt counts once, under who was to see the data, however the event names those who had to do with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_summary_names_who_was_to_see_the_data() {
    use event::Outcome::{Serious, Success};
    use types::PurposeCode::{Btg, Caremgt};
    let by = |mut event: audit::Event, actor: &str, role: types::ParticipantRole, parties: &[&str]| {
        let payload = event.payload.as_mut().unwrap();
        payload.object_refs = parties.iter().map(|id| format!("participants/{id}")).collect();
        payload.actor = Some(audit::Actor {
            id: format!("participants/{actor}"),
            roles: vec![role.into()],
            ..payload.actor.clone().unwrap()
        });
        event
    };
    let (hip, hiu) = (types::ParticipantRole::Hip, types::ParticipantRole::Hiu);
    for audit in everywhere().await {
        let decided = |kind, outcome, purpose| decided(1, kind, outcome, purpose, 0);
        let authorized = by(
            decided("access.authorized", Success, Caremgt),
            "clinic",
            hiu,
            &["clinic", "hospital"],
        );
        let mut moved = by(
            decided("data.requested", Success, Caremgt),
            "clinic",
            hiu,
            &["hospital", "clinic"],
        );
        moved.causation_event_id.clone_from(&authorized.event_id);
        let glass = || decided("access.break_glass", Success, Btg);
        let refused = || decided("access.denied", Serious, Caremgt);
        let mut blocked = by(refused(), "spy", hiu, &["hospital"]);
        blocked.reason_code = "BLOCKED_BY_SUBJECT".to_owned();
        audit
            .append(vec![
                authorized,
                moved,
                by(glass(), "emergency", hiu, &["hospital", "emergency"]),
                by(refused(), "hospital", hip, &["hospital"]),
                by(refused(), "hospital", hip, &["hospital", "insurer"]),
                blocked,
            ])
            .await
            .unwrap();
        let summary = audit.summary(person(account(1)), Default::default()).await.unwrap();
        let mut lines: Vec<_> = summary
            .recipients
            .iter()
            .map(|line| {
                (
                    line.recipient.trim_start_matches("participants/"),
                    line.allowed_count,
                    line.denied_count,
                )
            })
            .collect();
        lines.sort_unstable();
        let expected = [
            ("", 0, 1),
            ("clinic", 1, 0),
            ("emergency", 1, 0),
            ("insurer", 0, 1),
            ("spy", 0, 1),
        ];
        assert_eq!(lines, expected);
    }
}
