//! O1: the relay brings every event to the log, whatever is in it, wherever the log stands, whatever became of the feed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use diesel::RunQueryDsl;
use prometheus_client::registry::Registry;
use prost::Message;
use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::{self as audit, get_event_request, get_proof_request};
use sammati_api::types::v1::RetentionClass;
use sammati_audit::rows::MIGRATIONS;
use sammati_kernel::{Key, ManualClock, Micros, Refusal, Slot};
use sammati_server::Running;
use sammati_server::event::{Draft, WITHHELD, system};
use sammati_server::relay::Relay;
use sammati_store::verbs;
use sammati_store::{AnyConn, Command, Keys, Location, NewEvent, Options, Store, View};
use sammati_testkit::Authority;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Feed, some_event};
use crate::serving::{Did, SOURCE, channel, lay_out, serve, serve_at};

/// An audit service, and a service whose feed is to reach it.
struct World {
    folder: tempfile::TempDir,
    authority: Authority,
    running: Running,
    source: Store,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = lay_out(folder.path());
        let running = serve(folder.path()).await;
        let location = Location::Sqlite(folder.path().join("consent.db"));
        let options = Options::new(location, Key::from_bytes([6; 32]));
        let clock = ManualClock::at(Micros::from_seconds(1_795_305_600));
        let source = Store::open(&options, Arc::new(clock), SOURCE).unwrap();
        Self {
            folder,
            authority,
            running,
            source,
        }
    }

    /// A relay, its metrics, and what stops it.
    fn relay(&self) -> (Registry, CancellationToken, JoinHandle<()>) {
        let to = channel(&self.running, &self.authority, Some("service/consent"));
        let (mut registry, stop) = (Registry::default(), CancellationToken::new());
        let relay = Relay::new(self.source.clone(), to.into(), "consent", &mut registry);
        let task = tokio::spawn(relay.run(stop.clone()));
        (registry, stop, task)
    }

    async fn did(&self, slot: u16) -> String {
        self.source.apply(Did(Slot::new(slot))).await.unwrap()
    }

    /// Waits until the event is in the log.
    async fn proved(&self, event_id: &str) -> audit::InclusionProof {
        let request = audit::GetProofRequest {
            event: Some(get_proof_request::Event::EventId(event_id.to_owned())),
            wait: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..audit::GetProofRequest::default()
        };
        let mut anyone = ProofServiceClient::new(channel(&self.running, &self.authority, None));
        anyone.get_proof(request).await.unwrap().into_inner()
    }

    /// Changes the source's database behind its back, as pruning and restoring do.
    fn alter(&self, statements: &[&str]) {
        let location = Location::Sqlite(self.folder.path().join("consent.db"));
        let AnyConn::Sqlite(mut conn) = location.connect().unwrap() else {
            panic!("SQLite was asked for");
        };
        for statement in statements {
            diesel::sql_query(*statement).execute(&mut conn).unwrap();
        }
    }

    async fn end(self, stop: CancellationToken, relay: JoinHandle<()>) {
        stop.cancel();
        relay.await.unwrap();
        self.running.shutdown().await;
    }
}

/// An event that went into the feed as it is, as a producer's bug would have it.
struct Raw(audit::Event);

impl Command for Raw {
    type Answer = String;
    const NAME: &'static str = "test.raw";

    fn slot(&self) -> Slot {
        Slot::new(1)
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<String, Refusal> {
        let id = view.next_event_id();
        let event_id = uuid::Uuid::from_bytes(id).to_string();
        let event = audit::Event {
            event_id: event_id.clone(),
            ..self.0.clone()
        };
        let body = event.encode_to_vec();
        view.emit(NewEvent {
            id,
            subject: None,
            body,
        });
        Ok(event_id)
    }
}

/// A suspension whose reason an operator wrote without thinking.
struct Suspended;

impl Command for Suspended {
    type Answer = i64;
    const NAME: &'static str = "test.suspended";

    fn slot(&self) -> Slot {
        Slot::new(1)
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let (action, class) = (audit::event::Action::Update, RetentionClass::Admin);
        let draft = Draft::new("identity.participant_suspended", action, class, &system("identity"));
        let mut draft = draft.resource("participants/hip", 2);
        draft.payload().legal_basis = "complaint of 9999 4105 7058".to_owned();
        Ok(draft.emit(view).position)
    }
}

/// What must never be in an event does not even enter the feed.
#[tokio::test(flavor = "multi_thread")]
async fn s1_an_event_is_emitted_without_what_must_not_be_in_it() {
    let world = World::new().await;
    let position = world.source.apply(Suspended).await.unwrap();
    let read = world.source.read(move |r| r.feed(1, position, 1)).await.unwrap();
    let event = audit::Event::decode(read[0].body.as_slice()).unwrap();
    let payload = event.payload.unwrap();
    assert_eq!(
        (payload.resource.as_str(), payload.legal_basis.as_str()),
        ("participants/hip", WITHHELD)
    );
    world.running.shutdown().await;
}

/// One that holds what it must not.
fn poisoned() -> audit::Event {
    let mut event = some_event(1);
    let payload = event.payload.as_mut().unwrap();
    payload.object_refs.push("participants/999941057058".to_owned());
    payload.legal_basis = "order\0 of 999941057058".to_owned();
    event
}

/// Whatever a feed holds gets its leaf, and so does what follows it.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_poisoned_event_gets_its_leaf_and_does_not_stop_the_next() {
    let world = World::new().await;
    let (_, stop, relay) = world.relay();
    let first = world.source.apply(Raw(poisoned())).await.unwrap();
    let next = world.did(1).await;
    world.proved(&next).await;
    let proof = world.proved(&first).await;
    let leaf = audit::Leaf::decode(proof.leaf.as_slice()).unwrap();
    assert_eq!(
        (leaf.event_type.as_str(), leaf.source.unwrap().position),
        ("consent.granted", 0)
    );

    let operator = channel(&world.running, &world.authority, Some("operator/asha"));
    let request = audit::GetEventRequest {
        event: Some(get_event_request::Event::EventId(first)),
        ..Default::default()
    };
    let read = LogServiceClient::new(operator).get_event(request).await.unwrap();
    let payload = read.into_inner().payload.unwrap();
    assert_eq!(payload.object_refs, ["participants/city-hospital", WITHHELD]);
    assert_eq!(payload.legal_basis, "");
    world.end(stop, relay).await;
}

/// A partition whose history is not the one that the log knows is told apart, as long or longer though that may be.
#[tokio::test(flavor = "multi_thread")]
async fn o1_another_history_is_found_before_anything_is_sent() {
    for events in [1, 3] {
        refused(events, 1).await;
    }
}

/// And the other partitions do not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_refused_partition_holds_up_no_other() {
    refused(1, 20).await;
}

/// The log has so many events of another history of one partition; so many rounds in another one go on.
async fn refused(events: usize, rounds: u32) {
    let world = World::new().await;
    let consent = channel(&world.running, &world.authority, Some("service/consent"));
    let foreign = audit::AppendEventsRequest {
        batch: Some(Batch::Relayed(Feed::of(events).stretch(0, events))),
        with_checkpoint: false,
        ..audit::AppendEventsRequest::default()
    };
    LogServiceClient::new(consent).append_events(foreign).await.unwrap();

    let (registry, stop, relay) = world.relay();
    world.did(2).await;
    let said = |registry: &Registry| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text.lines().any(|line| line == "relay_stuck_partitions 1")
    };
    tokio::time::timeout(Duration::from_secs(20), async {
        while !said(&registry) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the partition is counted as stuck");
    let begun = Instant::now();
    for _ in 0..rounds {
        let id = world.did(1).await;
        world.proved(&id).await;
    }
    let most = Duration::from_millis(500) * rounds;
    assert!(begun.elapsed() < most, "the others went at their own pace");
    assert!(said(&registry), "and it is still stuck");
    world.end(stop, relay).await;
}

/// A relay that begins anew asks the log where it stands, and reads nothing of the feed before that.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_relay_begins_where_the_log_stands() {
    let world = World::new().await;
    let (_, stop, relay) = world.relay();
    for n in 0..20 {
        let id = world.did(n % 2).await;
        world.proved(&id).await;
    }
    stop.cancel();
    relay.await.unwrap();
    world.alter(&["DELETE FROM feed WHERE position < 9"]);
    let (_, stop, relay) = world.relay();
    for n in 0..6 {
        let id = world.did(n % 3).await;
        let proof = world.proved(&id).await;
        assert_eq!(proof.index, 20 + i64::from(n));
    }
    world.end(stop, relay).await;
}

/// Who commits all the time is not sent all the time: what comes while a call is on its way goes together with the next beat.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_fast_go_together() {
    let world = World::new().await;
    let (_, stop, relay) = world.relay();
    let first = world.did(1).await;
    world.proved(&first).await;
    let (begun, mut ids) = (Instant::now(), Vec::new());
    for n in 0..300 {
        ids.push(world.did(n % 4).await);
    }
    let mut taken_in = BTreeSet::new();
    for id in &ids {
        let leaf = audit::Leaf::decode(world.proved(id).await.leaf.as_slice()).unwrap();
        let at = leaf.accept_time.unwrap();
        taken_in.insert((at.seconds, at.nanos));
    }
    // Five beats a second, and before the first beat each partition's first event at once.
    let most = 5 + usize::try_from(begun.elapsed().as_millis()).unwrap() / 200 + 1;
    assert!(taken_in.len() <= most, "{} calls for {most} beats", taken_in.len());
    world.end(stop, relay).await;
}

/// A restore opens a new epoch: what the feed lost stays in the log, and what is new gets its leaf, though its positions
/// were there before.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_new_epoch_goes_on_from_its_cut() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.did(1).await);
    }
    // Nothing was relayed yet: both epochs are before the relay at once.
    world.alter(&["UPDATE head SET epoch=2 WHERE partition=1"]);
    for _ in 0..5 {
        ids.push(world.did(1).await);
    }
    let (_, stop, relay) = world.relay();
    for (index, id) in ids.iter().enumerate() {
        let proof = world.proved(id).await;
        let leaf = audit::Leaf::decode(proof.leaf.as_slice()).unwrap();
        let source = leaf.source.unwrap();
        assert_eq!((source.epoch, source.position), (1 + index as i64 / 5, index as i64));
    }
    // The last two are lost.
    world.alter(&[
        "DELETE FROM feed WHERE partition=1 AND position>=8",
        "UPDATE head SET epoch=3, next=8, chain=(SELECT chain FROM feed WHERE partition=1 AND position=7) WHERE partition=1",
    ]);
    for index in 10..13 {
        let id = world.did(1).await;
        assert_eq!(world.proved(&id).await.index, index);
    }
    world.end(stop, relay).await;
}

/// Epochs are numbered by time: the one before may be far below, and none is asked for twice.
#[tokio::test(flavor = "multi_thread")]
async fn o1_an_epoch_may_be_far_above_the_one_before() {
    let world = World::new().await;
    let (_, stop, relay) = world.relay();
    let first = world.did(1).await;
    assert_eq!(world.proved(&first).await.index, 0);
    for (index, epoch) in [(1, 217_000_000), (2, 217_000_999)] {
        world.alter(&[&format!("UPDATE head SET epoch={epoch} WHERE partition=1")]);
        let id = world.did(1).await;
        let proof = world.proved(&id).await;
        let source = audit::Leaf::decode(proof.leaf.as_slice()).unwrap().source.unwrap();
        assert_eq!((proof.index, source.epoch, source.position), (index, epoch, index));
    }
    world.end(stop, relay).await;
}

/// A log whose database was restored gets again what its sources still have: of the partition that has news, and of all
/// others too.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_log_that_was_restored_is_sent_what_it_lost() {
    let world = World::new().await;
    let (_, stop, relay) = world.relay();
    let kept = world.did(1).await;
    world.proved(&kept).await;
    let World {
        folder,
        authority,
        running,
        source,
    } = world;
    let address = running.address;
    running.shutdown().await;
    let (log, saved) = (folder.path().join("audit.db"), folder.path().join("saved.db"));
    let log = Location::Sqlite(log);
    verbs::backup(&log, &saved).unwrap();
    let running = serve_at(folder.path(), address).await;
    let world = World {
        folder,
        authority,
        running,
        source,
    };
    let mut lost = Vec::new();
    for slot in [1, 2, 3, 1] {
        lost.push(world.did(slot).await);
    }
    for id in &lost {
        world.proved(id).await;
    }
    let World {
        folder,
        authority,
        running,
        source,
    } = world;
    running.shutdown().await;
    verbs::restore(&log, &saved, &MIGRATIONS, true, false, Micros::from_seconds(1)).unwrap();
    let running = serve_at(folder.path(), address).await;
    let world = World {
        folder,
        authority,
        running,
        source,
    };
    lost.push(world.did(1).await);
    for id in lost.iter().rev() {
        world.proved(id).await;
    }
    world.end(stop, relay).await;
}
