//! A participant that logs in without end: each login costs the same, and all of its sessions end.

use sammati_api::identity::v1 as api;
use sammati_api::types::v1::ParticipantRole;
use sammati_kernel::{Caller, ParticipantId, Peer, Reason, Refusal, Role, SessionId, Slot};
use sammati_store::Reader;

use super::fixture::{Fixture, fixtures, operator, participant, reason};
use crate::rows::SessionRow;
use crate::session::{OpenParticipantSession, let_go};

const NAME: &str = "participants/IN27001";

/// More than end in one commit.
const MANY: usize = 501;

fn id() -> ParticipantId {
    ParticipantId::parse_name(NAME).unwrap()
}

/// A hospital in use.
async fn hospital(fixture: &Fixture) {
    let create = api::CreateParticipantRequest {
        request_id: fixture.request_id(),
        participant_id: id().as_str().to_owned(),
        participant: Some(api::Participant {
            display_name: "Asha Hospital".into(),
            roles: vec![ParticipantRole::Hip.into()],
            kind: api::participant::Kind::Facility.into(),
            registrations: vec![api::Registration {
                registry: "HFR".into(),
                id: "IN2710000001".into(),
                verified: true,
            }],
            ..Default::default()
        }),
    };
    fixture.inner.create_participant(&operator(), create).await.unwrap();
    activate(fixture).await;
}

async fn activate(fixture: &Fixture) {
    let activate = api::ActivateParticipantRequest {
        request_id: fixture.request_id(),
        name: NAME.into(),
        etag: String::new(),
    };
    fixture.inner.activate_participant(&operator(), activate).await.unwrap();
}

async fn log_in(fixture: &Fixture) -> Result<SessionId, Refusal> {
    let open = OpenParticipantSession {
        caller: Caller {
            peer: Peer::Participant(id()),
            actor: None,
        },
        participant: id(),
        roles: [Role::Hip].into(),
        certificate: "thumbprint".into(),
        assertion: None,
    };
    fixture.inner.store.apply(open).await
}

async fn log_in_often(fixture: &Fixture, times: usize) {
    let logins = (0..times).map(|_| log_in(fixture));
    let opened = futures::future::join_all(logins).await;
    assert!(opened.iter().all(Result::is_ok));
}

/// How many sessions its group has, and how many of them are live.
async fn group(fixture: &Fixture) -> (usize, usize) {
    let read = |r: &mut Reader<'_>| r.group::<SessionRow>(Slot::of_participant(id().as_str()), "live", NAME.as_bytes());
    let group = fixture.inner.store.read(read).await.unwrap();
    let now = fixture.now();
    let live = group.iter().filter(|stored| stored.record.is_live(now)).count();
    (group.len(), live)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_leaves_the_other_sessions_alone_and_they_are_let_go_of_when_they_have_run_out() {
    for fixture in fixtures().await {
        hospital(&fixture).await;
        log_in_often(&fixture, 3).await;
        let_go(&fixture.inner.store).await.unwrap();
        assert_eq!(group(&fixture).await, (3, 3));
        fixture.pass(300);
        log_in(&fixture).await.unwrap();
        assert_eq!(group(&fixture).await, (4, 1), "a login does not look at them");
        let_go(&fixture.inner.store).await.unwrap();
        assert_eq!(group(&fixture).await, (1, 1));
        fixture.pass(300);
        log_in_often(&fixture, 1001).await;
        fixture.pass(300);
        let_go(&fixture.inner.store).await.unwrap();
        assert_eq!(group(&fixture).await, (0, 0), "however many they are");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_of_a_participant_end_however_many_they_are() {
    for fixture in fixtures().await {
        hospital(&fixture).await;
        log_in_often(&fixture, MANY).await;
        let revoke = api::RevokeSessionsRequest {
            request_id: fixture.request_id(),
            names: Vec::new(),
            all_of: NAME.into(),
        };
        let it = participant(id().as_str(), &[Role::Hip]);
        let revoked = fixture.inner.revoke_sessions(&it, revoke.clone()).await.unwrap();
        assert_eq!(revoked.revoked_count, 501);
        assert_eq!(group(&fixture).await, (0, 0));
        log_in(&fixture).await.unwrap();
        let again = fixture.inner.revoke_sessions(&it, revoke).await.unwrap();
        assert_eq!(again.revoked_count, 501, "the same answer");
        assert_eq!(group(&fixture).await, (1, 1), "and nothing is done again");
        let other = participant("IN27002", &[Role::Hip]);
        let not_its = api::RevokeSessionsRequest {
            request_id: fixture.request_id(),
            names: Vec::new(),
            all_of: NAME.into(),
        };
        let refused = fixture.inner.revoke_sessions(&other, not_its).await;
        assert_eq!(reason(refused), Reason::NotAvailable);
        assert_eq!(group(&fixture).await, (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_ends_all_sessions_and_what_it_was_cut_off_over_is_not_good_again() {
    for fixture in fixtures().await {
        hospital(&fixture).await;
        log_in_often(&fixture, MANY).await;
        let suspend = api::SuspendParticipantRequest {
            request_id: fixture.request_id(),
            name: NAME.into(),
            etag: String::new(),
            reason: "audit".into(),
        };
        fixture.inner.suspend_participant(&operator(), suspend).await.unwrap();
        assert_eq!(group(&fixture).await, (0, 0));
        assert_eq!(fixture.count_events("identity.session_revoked").await, 501);
        assert_eq!(reason(log_in(&fixture).await), Reason::ParticipantNotActive);
        activate(&fixture).await;
        let left = log_in(&fixture).await.unwrap();
        let cut_off = crate::participant::Change {
            caller: operator(),
            id: id(),
            etag: String::new(),
            what: crate::participant::What::Suspend(String::new()),
        };
        fixture.inner.store.apply(cut_off).await.unwrap();
        activate(&fixture).await;
        let row = fixture.inner.session(left).await.unwrap().unwrap();
        assert!(
            !row.is_live(fixture.now()),
            "it ended before the participant was active again"
        );
    }
}
