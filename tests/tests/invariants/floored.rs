//! I14: an audit process whose clock is an hour fast destroys nothing an hour before its day, where others share its database.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::class_erasure::State;
use sammati_api::audit::v1::get_event_request::Event::EventId;
use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::subject_service_client::SubjectServiceClient;
use sammati_kernel::SystemClock;
use sammati_testkit::databases::psql;
use sammati_testkit::development::DatabaseKind;
use sammati_testkit::{Postgres, Setup};
use sammati_tests::clocks::WrongClock;
use sammati_tests::direct;
use sammati_tests::retry::until_answered;
use sammati_tests::story::Story;
use sammati_tests::system::{Processes, Setting};

use crate::skewed::{add, faketime};

const HOUR: i64 = 3600;

/// The floor of what is told here.
const YEAR: i64 = 365 * 24 * HOUR;

/// A server that is told the time of a clock.
pub(crate) fn server(clock: &WrongClock) -> Option<Postgres> {
    let variables = clock.variables();
    let environment: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Postgres::start_with(&Setup {
        environment: &environment,
        ..Setup::default()
    })
}

pub(crate) fn databases(server: &Postgres) -> DatabaseKind {
    let make = |name: &str| {
        psql(server.url(), "postgres", &format!("CREATE DATABASE {name}"));
        format!("{}/{name}", server.url())
    };
    DatabaseKind::Postgres {
        identity: make("identity"),
        consent: make("consent"),
        audit: make("audit"),
        audit_keys: make("audit_keys"),
    }
}

/// Somebody is told of, and is to be erased once the floor of that has passed; tells the event.
async fn booked(story: &Story) -> String {
    let mut event = direct::event();
    let subject = format!("accounts/{}", direct::event().event_id);
    event.payload.get_or_insert_default().subject.clone_from(&subject);
    let client = direct::appender(&story.addresses.folder, &story.addresses.audit).unwrap();
    let events = [event];
    until_answered(async || direct::append(&client, &events, false).await)
        .await
        .unwrap();
    let request = audit::EraseSubjectRequest {
        request_id: story.rid(),
        subject,
        classes: Vec::new(),
        legal_basis: "DPDP Act s.12(3)".to_owned(),
    };
    let erase = async || {
        let mut client = SubjectServiceClient::new(story.operator.audit());
        client.erase_subject(request.clone()).await
    };
    let classes = until_answered(erase).await.unwrap().into_inner().classes;
    let states: Vec<_> = classes.iter().map(audit::ClassErasure::state).collect();
    assert_eq!(states, [State::Booked]);
    let [event] = events;
    event.event_id
}

async fn state(story: &Story, event: &str) -> PayloadState {
    let request = audit::GetEventRequest {
        event: Some(EventId(event.to_owned())),
        ..Default::default()
    };
    let mut client = LogServiceClient::new(story.operator.audit());
    client.get_event(request).await.unwrap().into_inner().payload_state()
}

async fn until_erased(story: &Story, event: &str) {
    for _ in 0..400 {
        if state(story, event).await == PayloadState::Erased {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("what is due is not erased");
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_a_replica_that_is_an_hour_fast_destroys_nothing_before_its_day() {
    let Some(library) = faketime() else { return };
    let folder = tempfile::tempdir().unwrap();
    // The server's user reads it too.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let clock = WrongClock::new(&library, folder.path(), "all").unwrap();
    let fast = WrongClock::new(&library, folder.path(), "fast").unwrap();
    let Some(server) = tokio::task::block_in_place(|| server(&clock)) else {
        return;
    };
    let database = tokio::task::block_in_place(|| databases(&server));
    let setting = Setting {
        database,
        ..Setting::new()
    };
    let mut system = Processes::prepare(&setting).unwrap();
    add(&mut system, "audit-2");
    let binary = system.binary().to_owned();
    let story = Story::new(&system.addresses, Arc::new(SystemClock)).unwrap();

    // The one is due two hours before the other.
    system.launch_as("audit", clock.command(&binary)).await.unwrap();
    let first = booked(&story).await;
    clock.set(2 * HOUR).unwrap();
    let second = booked(&story).await;
    system.kill("audit").await.unwrap();

    // The day of the one has come; to who is an hour fast, that of both.
    let between = YEAR + HOUR + HOUR / 2;
    clock.set(between).unwrap();
    fast.set(between + HOUR).unwrap();
    let refused = system.launch_as("audit-2", fast.command(&binary)).await.unwrap_err();
    assert!(refused.to_string().contains("ms from the database's"), "{refused}");
    system.launch_as("audit", clock.command(&binary)).await.unwrap();
    until_erased(&story, &first).await;
    assert_eq!(state(&story, &second).await, PayloadState::Readable);

    clock.set(between + HOUR).unwrap();
    system.kill("audit").await.unwrap();
    system.launch_as("audit", clock.command(&binary)).await.unwrap();
    until_erased(&story, &second).await;
    system.stop().await;
}
