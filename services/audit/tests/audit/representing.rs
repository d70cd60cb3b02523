//! Who acts for somebody reads of her log what she reads, and no more; and she reads that he did.

use std::collections::BTreeSet;

use futures::StreamExt;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_api::audit::v1::{self as audit, LogEvent};
use sammati_kernel::{
    AccountId, Actor, Caller, Clock, Peer, Power, Reason, RepresentationId, RepresentationKind, Representing, SessionId,
};

use crate::fixture::{Audit, account, everywhere, of, person, said, some_event};
use crate::reading::all;
use crate::subject::whole;

/// Account 8, who acts for `principal`.
fn acting(audit: &Audit, principal: AccountId) -> Representing {
    let now = audit.clock.now();
    Representing {
        representation: RepresentationId::new(now, principal.slot(), [5; 8]),
        principal,
        representative: account(8),
        kind: RepresentationKind::Guardian,
        powers: [Power::Read].into(),
        purposes: BTreeSet::new(),
        participants: BTreeSet::new(),
        ends: None,
        session: SessionId::new(now, principal.slot(), [5; 8]),
        app: None,
        auth_time: now.seconds(),
    }
}

fn he(acting: &Representing) -> Caller {
    Caller {
        peer: Peer::Anonymous,
        actor: Some(Actor::Representative(Box::new(acting.clone()))),
    }
}

/// The events of this type, newest first.
fn of_type(events: &[LogEvent], kind: &str) -> Vec<LogEvent> {
    let is = |event: &&LogEvent| event.header.as_ref().is_some_and(|header| header.event_type == kind);
    events.iter().filter(is).cloned().collect()
}

async fn exported(audit: &Audit, caller: Caller, subject: String) -> Result<String, Reason> {
    let request = audit::ExportSubjectRequest {
        subject,
        ..Default::default()
    };
    let stream = said(audit.rpc.export_subject(of(caller, request)).await).map_err(|refused| refused.reason)?;
    let parts: Vec<_> = stream.map(|part| part.unwrap().content).collect().await;
    Ok(String::from_utf8(parts.concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_for_her_reads_what_she_reads_and_she_reads_that_he_did() {
    for audit in everywhere().await {
        audit
            .append(vec![some_event(1), some_event(2), some_event(1)])
            .await
            .unwrap();
        let acting = acting(&audit, account(1));
        let guardian = he(&acting);
        let listed = all(&audit, &guardian, &Default::default()).await;
        assert_eq!(of_type(&listed, "consent.granted").len(), 2);
        let id = listed.last().unwrap().header.clone().unwrap().event_id;
        audit.get(guardian.clone(), &id).await.unwrap();
        let request = audit::ListSubjectEventsRequest {
            subject: account(1).name(),
            with_proofs: true,
            ..Default::default()
        };
        let page = audit.subject_events(guardian.clone(), request).await.unwrap();
        assert!(page.subject_head.is_some() && page.events.iter().all(|event| !event.proof.is_empty()));
        let summary = said(
            audit
                .rpc
                .summarize_access(of(guardian.clone(), Default::default()))
                .await,
        );
        assert_eq!(summary.unwrap().event_count, 5);
        let export = exported(&audit, guardian.clone(), String::new()).await.unwrap();
        assert_eq!(export.matches("consent.granted").count(), 2);

        // Each reading is in her log, and tells who read and under what.
        let (events, _) = whole(&audit, 1, 50).await.unwrap();
        let events: Vec<_> = events.into_iter().filter_map(|event| event.event).collect();
        let mut read = of_type(&events, "audit.queried");
        read.extend(of_type(&events, "audit.exported"));
        assert_eq!(read.len(), 5);
        for event in read {
            let payload = event.payload.unwrap();
            let by = payload.on_behalf_of.map(|acted| acted.representation);
            assert_eq!(by, Some(acting.representation.name()));
            let actor = payload.actor.unwrap();
            assert_eq!((actor.id, payload.subject), (account(8).name(), account(1).name()));
        }
        // It is hers and not his: his own log tells nothing of it.
        let (his, _) = whole(&audit, 8, 50).await.unwrap();
        assert_eq!(his.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_for_one_reads_nothing_of_another_nor_in_that_session_of_his_own() {
    for audit in everywhere().await {
        let appended = audit
            .append(vec![some_event(1), some_event(2), some_event(8)])
            .await
            .unwrap();
        let guardian = he(&acting(&audit, account(1)));
        for (n, other) in [(1, account(2)), (2, account(8))] {
            let id = &appended.events[n].event_id;
            let unknown = audit
                .get(guardian.clone(), &crate::fixture::event_id())
                .await
                .unwrap_err();
            let refused = audit.get(guardian.clone(), id).await.unwrap_err();
            assert_eq!((refused.reason, &refused), (Reason::NotAvailable, &unknown));
            let request = audit::ListEventsRequest {
                subject: other.name(),
                ..Default::default()
            };
            let refused = audit.list(guardian.clone(), request).await.unwrap_err();
            assert_eq!(refused.reason, Reason::NotAvailable);
            let request = audit::ListSubjectEventsRequest {
                subject: other.name(),
                ..Default::default()
            };
            let refused = audit.subject_events(guardian.clone(), request).await.unwrap_err();
            assert_eq!(refused.reason, Reason::NotAvailable);
            let refused = exported(&audit, guardian.clone(), other.name()).await.unwrap_err();
            assert_eq!(refused, Reason::NotAvailable);
        }
        let named = audit::SummarizeAccessRequest {
            legal_basis: "as her guardian".to_owned(),
            ..Default::default()
        };
        let refused = said(audit.rpc.summarize_access(of(guardian, named)).await).unwrap_err();
        assert_eq!(
            refused.reason,
            Reason::FieldInvalid,
            "a ground is an operator's to name"
        );
        assert_eq!(
            all(&audit, &person(account(2)), &Default::default()).await.len(),
            1,
            "nobody read it"
        );
    }
}
