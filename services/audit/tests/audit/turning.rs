//! A log whose half-year is over is sealed by the clock, once and only when another one waits to go on; and of what happens
//! before, during and after that, everything is in exactly one of the two.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use sammati_api::audit::v1::log::State;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_api::audit::v1::{self as audit, get_proof_request};
use sammati_api::types::v1::RetentionClass;
use sammati_audit::rows::{MIGRATIONS, SourceRow};
use sammati_audit::{Audit as Service, Beside, Turn, Waiting, open_with};
use sammati_kernel::{Key, ManualClock, Micros, Reason, Slot};
use sammati_server::relay::Relay;
use sammati_server::{Config, Running, serve_on};
use sammati_store::{Location, Options, Store, verbs};
use sammati_testkit::Authority;
use sammati_testkit::databases::{Database, databases};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::erasing::classed;
use crate::fixture::{Audit, Feed, account, append, everywhere, of, operator, said, service, some_event};
use crate::http::get;
use crate::serving::{CONFIG, Did, SOURCE, channel_to, lay_out, write_log_key};
use crate::succession::{empty, listed, parts, relay, seal, start};

/// 1 January 2027.
const END: Micros = Micros::from_seconds(1_798_761_600);

const NEXT: &str = "sammati.test/next";

fn location(database: &Database) -> Location {
    Location::parse(&database.url).unwrap()
}

/// A log that waits for `audit` in these databases.
fn waiting(audit: &Audit, databases: &[Database; 2]) -> Waiting {
    Waiting::new(parts(audit, databases, NEXT).store, audit.location())
}

/// That it waits, said once.
async fn wait(audit: &Audit, databases: &[Database; 2]) -> String {
    waiting(audit, databases).look().await.unwrap().expect("it waits").why
}

async fn state(audit: &Audit) -> State {
    listed(&audit.rpc).await.state()
}

/// How many events of a type the log has.
async fn count(audit: &Audit, event_type: &str) -> usize {
    let mut found = 0;
    for index in 0.. {
        let Some(leaf) = audit.log.leaf(index).await.unwrap() else {
            break;
        };
        found += usize::from(leaf.header().event_type == event_type);
    }
    found
}

fn shown(registry: &Registry, line: &str) {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    assert!(text.lines().any(|one| one == line), "{line} in {text}");
}

/// By the time of the commit, and once, whoever looks first.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_log_is_sealed_by_the_clock_once_and_not_before() {
    for audit in everywhere().await {
        let next = empty(&audit);
        let mut registry = Registry::default();
        audit.log.register_metrics(&mut registry);
        let log = Arc::clone(&audit.log);
        let turn = move |next: &Database| Turn::new(Arc::clone(&log), Some(location(next)));

        audit.clock.set(Micros(END.0 - 1));
        wait(&audit, &next).await;
        turn(&next[0]).round().await.unwrap();
        assert_eq!(state(&audit).await, State::Active);
        shown(&registry, "audit_half_year_left_seconds 0");
        shown(&registry, "audit_successor_waits 1");
        shown(&registry, "audit_sealed 0");
        let direct = some_event(1);
        audit.append(vec![direct.clone()]).await.unwrap();

        audit.clock.set(END);
        let replica = audit.replica().await;
        let logs = [Some(Arc::clone(&audit.log)), replica.map(|(_, log)| log)];
        let rounds = logs.into_iter().flatten().flat_map(|log| vec![log; 4]).map(|log| {
            let mut turn = Turn::new(log, Some(location(&next[0])));
            async move { turn.round().await }
        });
        for done in futures::future::join_all(rounds).await {
            done.unwrap();
        }
        assert_eq!(count(&audit, "audit.sealed").await, 1);
        // Who watches the log is told by this event where it goes on.
        let told = audit.log.leaf(1).await.unwrap().unwrap().header();
        let told = audit.get(operator(), &told.event_id).await.unwrap();
        assert_eq!(told.payload.unwrap().object_refs, ["logs/2027h1"]);
        let log = listed(&audit.rpc).await;
        assert_eq!((log.state(), log.successor.as_str()), (State::Sealed, "logs/2027h1"));
        turn(&next[0]).round().await.unwrap();
        shown(&registry, "audit_sealed 1");
        assert_eq!(
            audit.append(vec![some_event(2)]).await.unwrap_err().reason,
            Reason::LogSealed
        );
        audit.append(vec![direct]).await.unwrap();
        // An operator who comes too late is told who follows.
        assert_eq!(
            seal(&audit, "logs/other").await.unwrap_err().reason,
            Reason::StateConflict
        );
    }
}

/// A seal has no way back, and events would only pile up.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_follows_takes_events_beyond_its_half_year() {
    for audit in everywhere().await {
        let [next, others] = [empty(&audit), empty(&audit)];
        let mut registry = Registry::default();
        audit.log.register_metrics(&mut registry);
        let round = async |next: Option<&Database>| {
            let mut turn = Turn::new(Arc::clone(&audit.log), next.map(location));
            turn.round().await.unwrap();
            state(&audit).await
        };
        wait(&audit, &next).await;
        audit.clock.set(Micros(END.0 + 90_000_000));
        assert_eq!(round(None).await, State::Active);
        shown(&registry, "audit_half_year_left_seconds -90");
        shown(&registry, "audit_successor_waits 0");
        // Nobody is there; one was, and is not heard of any more; and one that does not wait for this log.
        assert_eq!(round(Some(&others[0])).await, State::Active);
        assert_eq!(round(Some(&next[0])).await, State::Active);
        let begun = start(&audit, others, NEXT, false).await.unwrap();
        assert_eq!(round(Some(&begun.databases[0])).await, State::Active);
        shown(&registry, "audit_successor_waits 0");
        audit.append(vec![some_event(1)]).await.unwrap();

        // A process that was away over the end of the half-year finds it over.
        wait(&audit, &next).await;
        assert_eq!(round(Some(&next[0])).await, State::Sealed);
        assert_eq!(listed(&audit.rpc).await.successor, "logs/2027h1");
    }
}

/// Under the name that the seal says, though its own clock is a little behind; and not before.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_log_that_waits_begins_where_the_one_before_was_sealed() {
    for audit in everywhere().await {
        let feed = Feed::of(20);
        relay(&audit.rpc, feed.stretch(0, 10)).await.unwrap();
        let next = empty(&audit);
        assert_eq!(
            wait(&audit, &next).await,
            "waits for sammati.test/audit/2026h2 to be sealed"
        );
        audit.clock.set(END);
        wait(&audit, &next).await;
        let mut turn = Turn::new(Arc::clone(&audit.log), Some(location(&next[0])));
        turn.round().await.unwrap();
        audit.clock.set(Micros(END.0 - 500_000));

        assert_eq!(waiting(&audit, &next).look().await.unwrap(), None);
        // Whoever begins it first: it is one log.
        let parts = parts(&audit, &next, NEXT);
        let both = futures::future::join_all((0..2).map(|_| {
            let beside = Beside {
                follows: Some(audit.location()),
                ..Beside::default()
            };
            open_with(&parts, beside)
        }));
        let mut both: Vec<_> = both.await.into_iter().map(|log| log.unwrap()).collect();
        let log = both.pop().unwrap();
        assert_eq!(
            (log.name().as_str(), log.origin()),
            ("logs/2027h1", "sammati.test/next/2027h1")
        );
        assert_eq!(log.leaf(0).await.unwrap().unwrap().header().event_type, "audit.begun");
        assert_eq!(log.newest().await.unwrap().size, 1);
        let rpc = sammati_audit::Rpc::new(log, &parts.lookup);
        assert_eq!(
            relay(&rpc, feed.stretch(11, 15)).await.unwrap_err().reason,
            Reason::FeedGap
        );
        assert_eq!(relay(&rpc, feed.stretch(10, 20)).await, Ok(20));
        assert_eq!(
            waiting(&audit, &empty(&audit)).look().await.unwrap(),
            None,
            "sealed is sealed"
        );
        // And its own half-year is the next.
        drop((both, rpc, parts));
        audit.clock.set(Micros(END.0 + 1));
        let again = start(&audit, next, NEXT, true).await.unwrap();
        assert_eq!(again.log.name(), "logs/2027h1");
    }
}

/// What froze may be mended, and then both would take the same events.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_log_that_waited_does_not_begin_because_the_one_before_is_frozen() {
    for audit in everywhere().await {
        let next = empty(&audit);
        wait(&audit, &next).await;
        audit.log.freeze("for the test".to_owned()).await;
        let why = wait(&audit, &next).await;
        assert!(why.contains("which is frozen"), "{why}");
        // An operator who begins with nothing says that it is gone for good.
        assert_eq!(waiting(&audit, &empty(&audit)).look().await.unwrap(), None);
        // Nor is it sealed by the clock.
        audit.clock.set(END);
        let mut turn = Turn::new(Arc::clone(&audit.log), Some(location(&next[0])));
        turn.round().await.unwrap();
        assert_eq!(state(&audit).await, State::Frozen);
    }
}

/// The log that goes on has begun, and no event may come to be in both.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_seal_that_a_restore_took_back_is_made_again() {
    for audit in everywhere().await {
        let feed = Feed::of(20);
        relay(&audit.rpc, feed.stretch(0, 10)).await.unwrap();
        let backup = audit.backup().await;
        seal(&audit, "logs/2027h1").await.unwrap();
        let next = start(&audit, empty(&audit), NEXT, true).await.unwrap();
        assert_eq!(next.log.name(), "logs/2027h1", "as the seal says");
        relay(&next.rpc, feed.stretch(10, 15)).await.unwrap();

        let audit = audit.restart_from(backup, Default::default()).await;
        assert_eq!(state(&audit).await, State::Active);
        let mut turn = Turn::new(Arc::clone(&audit.log), Some(location(&next.databases[0])));
        turn.round().await.unwrap();
        assert_eq!(listed(&audit.rpc).await.successor, "logs/2027h1");
        assert_eq!(
            relay(&audit.rpc, feed.stretch(10, 15)).await.unwrap_err().reason,
            Reason::LogSealed
        );
    }
}

/// What the next log has of a consent that was given in the one before is kept as if it were given there.
#[tokio::test(flavor = "multi_thread")]
async fn i14_a_consent_of_the_log_before_keeps_its_record_here_too() {
    for audit in everywhere().await {
        seal(&audit, "logs/2027h1").await.unwrap();
        let next = start(&audit, empty(&audit), NEXT, true).await.unwrap();
        let tell = async |event_type: &str| {
            let mut event = classed(1, RetentionClass::Consent, &audit);
            event.event_type = event_type.to_owned();
            append(&next.rpc, vec![event]).await.unwrap();
            let request = audit::EraseSubjectRequest {
                request_id: audit.rid(),
                subject: account(1).name(),
                classes: vec![RetentionClass::Consent.into()],
                legal_basis: "DPDP Act s.12(3)".to_owned(),
            };
            let answer = said(next.rpc.erase_subject(of(service("identity"), request)).await);
            answer.unwrap().classes[0].due_time.unwrap().seconds
        };
        let in_force = tell("consent.paused").await;
        let over = tell("consent.withdrawn").await;
        assert_eq!((in_force - over) / 86_400, 5 * 365 + 1, "five years less");
    }
}

/// Two audit services, each with a folder of its own.
struct Pair {
    folder: tempfile::TempDir,
    authority: Authority,
    clock: ManualClock,
    databases: [Database; 4],
}

impl Pair {
    fn new([log, keys, next, next_keys]: [Database; 4]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = lay_out(folder.path());
        let beside = folder.path().join("next");
        std::fs::create_dir(&beside).unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            if file.path().is_file() {
                std::fs::copy(file.path(), beside.join(file.file_name())).unwrap();
            }
        }
        write_log_key(&beside);
        Self {
            folder,
            authority,
            clock: ManualClock::at(Micros(END.0 - 30_000_000)),
            databases: [log, keys, next, next_keys],
        }
    }

    fn serve(&self, folder: &Path, urls: [&str; 2], more: String, on: [TcpListener; 2]) -> JoinHandle<Running> {
        let text = CONFIG
            .replace("sqlite:audit.db", urls[0])
            .replace("sqlite:audit-keys.db", urls[1]);
        let config: Config<_> = Config::parse(&format!("{text}{more}\n"), &folder.join("audit.toml")).unwrap();
        let (clock, [rpc, admin]) = (self.clock.clone(), on);
        tokio::spawn(async move { serve_on::<Service>(config, rpc, admin, Arc::new(clock)).await.unwrap() })
    }

    /// The log of the half-year that ends.
    async fn first(&self, on: [TcpListener; 2]) -> Running {
        let [log, keys, next, _] = &self.databases;
        let more = format!("followed_by = \"{}\"", next.url);
        let running = self.serve(self.folder.path(), [&log.url, &keys.url], more, on);
        running.await.unwrap()
    }

    /// The one that waits for its end.
    fn next(&self, on: [TcpListener; 2]) -> JoinHandle<Running> {
        let [log, _, next, next_keys] = &self.databases;
        let more = format!("follows = \"{}\"", log.url);
        self.serve(&self.folder.path().join("next"), [&next.url, &next_keys.url], more, on)
    }

    fn relay(&self, source: &Store, logs: [SocketAddr; 2], stop: &CancellationToken) -> JoinHandle<()> {
        let [first, next] = logs.map(|log| channel_to(log, &self.authority, Some("service/consent")).into());
        let relay = Relay::new(source.clone(), first, "consent", &mut Registry::default()).then(Some(next));
        tokio::spawn(relay.run(stop.clone()))
    }

    /// Waits until the event is in the log.
    async fn proved(&self, log: SocketAddr, event_id: &str) {
        let request = audit::GetProofRequest {
            event: Some(get_proof_request::Event::EventId(event_id.to_owned())),
            wait: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..audit::GetProofRequest::default()
        };
        let mut anyone = ProofServiceClient::new(channel_to(log, &self.authority, None));
        anyone.get_proof(request).await.unwrap();
    }

    async fn listed(&self, log: SocketAddr) -> audit::Log {
        let mut anyone = LogServiceClient::new(channel_to(log, &self.authority, None));
        let listed = anyone.list_logs(audit::ListLogsRequest::default()).await;
        listed.unwrap().into_inner().logs.remove(0)
    }

    /// What the log has of the source's feed: partition, position and id, in its order.
    async fn events(&self, log: SocketAddr, partitions: i32) -> Vec<(i32, i64, String)> {
        let service = channel_to(log, &self.authority, Some("service/consent"));
        let mut client = LogServiceClient::new(service).max_decoding_message_size(64 << 20);
        let feeds = (0..partitions).map(|partition| audit::FeedEnd {
            partition,
            event_ids: Vec::new(),
        });
        let (feeds, mut found, mut page_token): (Vec<_>, _, _) = (feeds.collect(), Vec::new(), String::new());
        loop {
            let request = audit::ListSourceEventsRequest {
                page_size: 1000,
                page_token,
                feeds: feeds.clone(),
            };
            let page = client.list_source_events(request).await.unwrap().into_inner();
            for header in page.events.into_iter().filter_map(|event| event.header) {
                let source = header.source.unwrap();
                found.push((source.partition, source.position, header.event_id));
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    }
}

async fn listeners() -> [TcpListener; 2] {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    [bind().await, bind().await]
}

async fn did(source: &Store, n: usize) -> String {
    source.apply(Did(Slot::new((n % 16) as u16))).await.unwrap()
}

/// O1, over the border: the log runs or is away, two replicas relay, and events come all the time.
#[tokio::test(flavor = "multi_thread")]
async fn o1_what_happens_at_the_turn_of_the_half_year_is_in_exactly_one_log() {
    let four = || [databases(), databases(), databases(), databases()];
    for is_away in [false, true] {
        let [log, keys, next, next_keys] = four();
        let all = log.into_iter().zip(keys).zip(next.into_iter().zip(next_keys));
        for ((log, keys), (next, next_keys)) in all {
            over_the_border(Pair::new([log, keys, next, next_keys]), is_away).await;
        }
    }
}

async fn over_the_border(pair: Pair, is_away: bool) {
    let file = Location::Sqlite(pair.folder.path().join("consent.db"));
    let options = Options::new(file, Key::from_bytes([6; 32]));
    let source = Store::open(&options, Arc::new(pair.clock.clone()), SOURCE).unwrap();
    let mut first = pair.first(listeners().await).await;
    let on = listeners().await;
    let logs = [first.address, on[0].local_addr().unwrap()];
    let admin = on[1].local_addr().unwrap();
    let next = pair.next(on);
    let stop = CancellationToken::new();
    let relays = [pair.relay(&source, logs, &stop), pair.relay(&source, logs, &stop)];

    let mut ids = Vec::new();
    for n in 0..100 {
        ids.push(did(&source, n).await);
    }
    pair.proved(logs[0], &ids[99]).await;
    let waits = async || {
        let got = get(admin, "/readyz");
        let text = String::from_utf8(got.body).unwrap();
        (
            got.status,
            text.contains("waits for sammati.test/audit/2026h2 to be sealed"),
        )
    };
    while waits().await != (503, true) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(pair.listed(logs[0]).await.state(), State::Active);

    if is_away {
        first.shutdown().await;
        pair.clock.set(Micros(END.0 + 1));
        ids.push(did(&source, 0).await);
        let again = TcpListener::bind(logs[0]).await.unwrap();
        let [_, admin] = listeners().await;
        first = pair.first([again, admin]).await;
    } else {
        pair.clock.set(END);
    }
    for n in 0.. {
        ids.push(did(&source, n).await);
        if next.is_finished() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let next = next.await.unwrap();
    let last: Vec<_> = futures::future::join_all((0..16).map(|n| did(&source, n))).await;
    for id in &last {
        pair.proved(logs[1], id).await;
    }
    ids.extend(last);
    assert!(
        String::from_utf8(get(first.admin_address, "/metrics").body)
            .unwrap()
            .contains("audit_sealed 1")
    );
    let listed = [pair.listed(logs[0]).await, pair.listed(logs[1]).await];
    assert_eq!(
        (listed[0].state(), listed[0].successor.as_str()),
        (State::Sealed, "logs/2027h1")
    );
    assert_eq!(
        (listed[1].state(), listed[1].name.as_str()),
        (State::Active, "logs/2027h1")
    );
    assert_eq!(listed[1].predecessor, listed[0].origin);

    // A replica that starts now goes to the second at once, and also when the first is not there any more.
    stop.cancel();
    futures::future::join_all(relays).await;
    let partitions = source.heads().len() as i32;
    let before = pair.events(logs[0], partitions).await;
    first.shutdown().await;
    let stop = CancellationToken::new();
    let fresh = pair.relay(&source, logs, &stop);
    ids.push(did(&source, 3).await);
    pair.proved(logs[1], ids.last().unwrap()).await;
    stop.cancel();
    fresh.await.unwrap();

    // Each event once, each partition without a gap, the first part of it in one log and the rest in the other.
    let after = pair.events(logs[1], partitions).await;
    assert!(
        before.len() >= 100 && after.len() > 16,
        "{} {}",
        before.len(),
        after.len()
    );
    let mut found: Vec<_> = before.iter().chain(&after).map(|(_, _, id)| id.clone()).collect();
    found.sort_unstable();
    ids.sort_unstable();
    assert_eq!(found, ids);
    let mut positions = BTreeMap::<i32, Vec<i64>>::new();
    for (partition, position, _) in before.iter().chain(&after) {
        positions.entry(*partition).or_default().push(*position);
    }
    for (partition, positions) in positions {
        let whole: Vec<i64> = (0..positions.len() as i64).collect();
        assert_eq!(positions, whole, "partition {partition}");
    }
    // What the second log has computed over its part goes on from the first one's, and ends as the feed does.
    let place = location(&pair.databases[2]);
    let kept = tokio::task::spawn_blocking(move || verbs::read(&place, &MIGRATIONS, |at| at.all::<SourceRow>(0)));
    let kept = kept.await.unwrap().unwrap();
    for (partition, head) in source.heads() {
        let row = kept.iter().find(|row| i64::from(row.partition) == partition).unwrap();
        assert_eq!(
            (row.next, &row.chain),
            (head.next, &head.chain),
            "partition {partition}"
        );
    }
    next.shutdown().await;
}
