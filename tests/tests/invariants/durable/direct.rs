//! The same of events that are appended to the log directly: of each, one after another, and of several in one call.

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::ListLogsRequest;
use sammati_kernel::{Clock, SystemClock};
use sammati_tests::direct;
use sammati_tests::retry::until_answered;
use sammati_tests::system::{Processes, Setting};

use super::trace::{Asked, Call, parse, violations};
use super::{REQUESTS, has_strace, launch, port, stop};
use crate::worlds::settings;

#[tokio::test(flavor = "multi_thread")]
async fn a1_no_byte_of_an_append_is_acknowledged_before_it_is_durable() {
    if !has_strace() {
        return;
    }
    for setting in settings() {
        let (calls, port, asked) = traced(setting, &[]).await;
        assert_eq!(violations(&calls, port, &asked), Vec::<String>::new());
    }
}

/// The control: a log whose syncs do nothing is found out, by each append.
#[tokio::test(flavor = "multi_thread")]
async fn a1_appends_without_a_sync_are_found_out() {
    if !has_strace() {
        return;
    }
    let (calls, port, asked) = traced(Setting::new(), &["-e", "inject=fdatasync,fsync:retval=0"]).await;
    let found = violations(&calls, port, &asked);
    assert_eq!(found.len(), asked.len(), "{found:?}");
    assert!(
        found.iter().all(|wrong| wrong.ends_with("nothing made it durable")),
        "{found:?}"
    );
}

/// Events are appended, one call after another, to an audit service under strace that nobody else calls. Each event of a
/// call counts for itself.
async fn traced(setting: Setting, options: &[&str]) -> (Vec<Call>, u16, Vec<Asked>) {
    let mut system = Processes::start(setting).await.unwrap();
    let names: Vec<_> = system.names().map(str::to_owned).collect();
    for name in names {
        system.kill(&name).await.unwrap();
    }
    let folder = system.addresses.folder.clone();
    let service = launch("audit", &folder, options).await;
    let client = direct::appender(&folder, &system.addresses.audit).unwrap();
    // The connection is made, and what HTTP/2 has to say at its beginning is said; and the keys of the month are there.
    let list = async || client.clone().list_logs(ListLogsRequest::default()).await;
    until_answered(list).await.unwrap();
    direct::append(&client, &[direct::event()], false).await.unwrap();
    let mut asked = Vec::new();
    for n in 0..REQUESTS {
        let events: Vec<_> = (0..=n % 3).map(|_| direct::event()).collect();
        let from = SystemClock.now().0;
        direct::append(&client, &events, n % 2 == 0).await.unwrap();
        let to = SystemClock.now().0;
        let asks = |event: audit::Event| Asked {
            from,
            to,
            id: event.event_id.into_bytes(),
        };
        asked.extend(events.into_iter().map(asks));
    }
    // The connection is asked for something more once strace has written down what it answered last.
    client.clone().list_logs(ListLogsRequest::default()).await.unwrap();
    let port = port(&system.addresses.audit);
    let calls = parse(&stop(service, &folder).await);
    system.stop().await;
    (calls, port, asked)
}
