//! Far too many at once, through the real stack: who is let in is served once, whoever is not is told when to come back and
//! has no effect, and afterwards nothing of it is left in any service.
//!
//! Nothing here hangs on how fast anybody is: every call keeps its place until one too many has come, and one that a busy
//! machine did not answer is asked again, with the same request, for what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use futures::stream;
use http::uri::PathAndQuery;
use sammati_api::consent::v1::decision::Outcome;
use sammati_api::consent::v1::{AuthorizeAccessRequest, CheckAccessRequest, Decision};
use sammati_kernel::Reason;
use sammati_server::error::refusal_of;
use sammati_tests::caller::Wire;
use sammati_tests::story::{Story, Who, reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::restored::{acknowledged_within, persist};
use crate::worlds::World;

/// Connections of each caller's, and calls on each: as many as a connection carries.
const FLOOD: (usize, usize) = (8, 256);

/// Enough for whoever is let in.
const USES: i32 = 9999;

/// Calls of one peer at once for which there is room whatever the flood taught: a quarter of the fewest that are let in.
const TOGETHER: i64 = 32;

/// Tasks that may have come beside those of before: a connection between two services that was made anew has two or three.
/// What a flood leaves behind is one for each of its calls or connections.
const MORE_TASKS: usize = 8;

/// What a call is told that a busy machine did not come to in time; those of the calls let in.
const BUSY: [&str; 5] = [
    "DEADLINE",
    "IDENTITY_STALE",
    "STORAGE_UNAVAILABLE",
    "COMMIT_UNKNOWN",
    "Cancelled",
];

/// What is 0 while nobody calls and all that was committed is in the log.
const AT_REST: [&str; 7] = [
    "sammati_rpc_in_flight",
    "sammati_rpc_places_taken",
    "store_lane_waiting",
    "store_lane_waiting_bytes",
    "store_batch_age_seconds",
    "relay_behind",
    "relay_stuck_partitions",
];

/// Gauges by service, name and labels.
type Gauges = BTreeMap<String, f64>;

#[tokio::test(flavor = "multi_thread")]
async fn i1_after_a_flood_all_is_as_before() {
    for world in World::all().await {
        let (story, person) = (&world.story, world.person().await);
        let mut scope = story.scope();
        scope.max_uses = USES;
        let given = acknowledged_within(story, &person, scope).await;
        let mut used = asked_once(&world, &given).await;
        at_rest(&world, usize::MAX).await;
        let tasks = Handle::current().metrics().num_alive_tasks() + MORE_TASKS;
        for replica in 0..world.replicas {
            let (permitted, unknown) = flood(story, replica, &given).await;
            used += permitted;
            // Of what is left over of calls that were refused, a part is waited for up to ten seconds.
            at_rest(&world, tasks).await;
            for asked in unknown {
                used += asked.served(story, replica).await;
            }
        }
        for replica in 0..world.replicas {
            let decision = persist(async || story.check(replica, story.question(&given)).await).await;
            assert_eq!(
                decision.uses_left,
                Some(i64::from(USES) - used),
                "each once, and nobody's who was refused"
            );
            let together: Vec<_> = (0..TOGETHER).map(|_| Asked::new(story, &given, true)).collect();
            let together = together.iter().map(|asked| asked.served(story, replica));
            used += join_all(together).await.into_iter().sum::<i64>();
        }
        until_as_at_first(&world, &given).await;
        world.system.stop().await;
    }
}

/// A use and a check on each replica; tells how many uses those are.
async fn asked_once(world: &World, consent: &str) -> i64 {
    let mut used = 0;
    for replica in 0..world.replicas {
        for uses in [true, false] {
            let asked = Asked::new(&world.story, consent, uses);
            used += asked.served(&world.story, replica).await;
        }
    }
    used
}

/// One call of the flood.
#[derive(Clone)]
enum Asked {
    /// The hospital's, which takes a use.
    Use(AuthorizeAccessRequest),
    /// The clinic's, which takes none.
    Check(CheckAccessRequest),
}

impl Asked {
    fn new(story: &Story, consent: &str, uses: bool) -> Self {
        match uses {
            true => Self::Use(story.authorization(consent)),
            false => Self::Check(story.question(consent)),
        }
    }

    fn uses(&self) -> i64 {
        i64::from(matches!(self, Self::Use(_)))
    }

    /// The call comes at once, its message once `go` says so: until then it keeps its place, if it got one.
    async fn over(&self, wire: Wire, go: watch::Receiver<bool>) -> Result<(), Status> {
        let decision = match self.clone() {
            Self::Use(message) => send(wire, "AuthorizeAccess", message, go).await?,
            Self::Check(message) => send(wire, "CheckAccess", message, go).await?,
        };
        assert_eq!(decision.outcome(), Outcome::Permit, "{decision:?}");
        Ok(())
    }

    /// Asks until it is permitted, always with the same request: so it takes one use in all, whatever became of it before.
    /// Tells how many uses that is.
    async fn served(&self, story: &Story, replica: usize) -> i64 {
        let who = match self {
            Self::Use(_) => &story.hospital,
            Self::Check(_) => &story.clinic,
        };
        persist(async || self.over(who.consent_at(replica), at_once()).await).await;
        self.uses()
    }
}

/// Nothing is waited for.
fn at_once() -> watch::Receiver<bool> {
    watch::channel(true).1
}

async fn send<M: prost::Message + 'static>(
    wire: Wire,
    method: &str,
    message: M,
    mut go: watch::Receiver<bool>,
) -> Result<Decision, Status> {
    let path = PathAndQuery::try_from(format!("/sammati.consent.v1.DecisionService/{method}")).unwrap();
    let mut client = Grpc::new(wire);
    let ready = client.ready().await;
    ready.map_err(|error| Status::from_error(Box::new(error)))?;
    let message = stream::once(async move {
        go.wait_for(|go| *go)
            .await
            .expect("whoever says so waits for the answers");
        message
    });
    let answer = client.client_streaming(Request::new(message), path, ProstCodec::default());
    answer.await.map(Response::into_inner)
}

/// Uses and checks at once; tells how many uses were permitted, and of which calls that is not known.
async fn flood(story: &Story, replica: usize, consent: &str) -> (i64, Vec<Asked>) {
    let (uses, checks) = tokio::join!(
        flood_of(story, replica, consent, true),
        flood_of(story, replica, consent, false)
    );
    (uses.0 + checks.0, [uses.1, checks.1].concat())
}

/// Those of one caller, over many connections, which end then.
async fn flood_of(story: &Story, replica: usize, consent: &str, uses: bool) -> (i64, Vec<Asked>) {
    let full = watch::Sender::new(false);
    let (mut used, mut unknown, mut calls) = (0, Vec::new(), Vec::new());
    let caller = if uses { &story.hospital } else { &story.clinic };
    for _ in 0..FLOOD.0 {
        let mut who = Who::new(&story.addresses, caller.certificate.as_deref()).unwrap();
        who.tokens.clone_from(&caller.tokens);
        // It is connected before: then all come at once.
        let first = Asked::new(story, consent, uses);
        persist(async || first.over(who.consent_at(replica), at_once()).await).await;
        used += first.uses();
        for _ in 0..FLOOD.1 {
            let (wire, asked) = (who.consent_at(replica), Asked::new(story, consent, uses));
            let full = &full;
            calls.push(async move {
                let answer = asked.over(wire, full.subscribe()).await;
                let refused = answer.as_ref().is_err_and(is_told_to_come_back);
                full.send_if_modified(|full| refused && !std::mem::replace(full, true));
                (asked, answer)
            });
        }
    }
    for (asked, answer) in join_all(calls).await {
        match answer {
            Ok(()) => used += asked.uses(),
            Err(status) if is_told_to_come_back(&status) => {}
            Err(status) if BUSY.contains(&reason(&status).as_str()) => unknown.push(asked),
            Err(status) => panic!("{status:?}"),
        }
    }
    assert!(*full.borrow(), "more come at once than one caller may have in work");
    (used, unknown)
}

fn is_told_to_come_back(status: &Status) -> bool {
    refusal_of(status).is_some_and(|refusal| refusal.reason == Reason::Overloaded && refusal.retry_after.is_some())
}

/// The gauges of all services whose names these are, as their admin ports show them.
async fn gauges(world: &World, names: &[&str]) -> Gauges {
    let mut gauges = Gauges::new();
    for n in 1..=world.replicas {
        let named = |service: &str| {
            if n == 1 {
                service.to_owned()
            } else {
                format!("{service}-{n}")
            }
        };
        let services = ["identity", "consent"].map(named).into_iter();
        for service in services.chain((n == 1).then(|| "audit".to_owned())) {
            let config = world.system.addresses.folder.join(format!("{service}.toml"));
            let config: toml::Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
            let mut socket = TcpStream::connect(config["server"]["admin_listen"].as_str().unwrap())
                .await
                .unwrap();
            let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            socket.read_to_string(&mut text).await.unwrap();
            for line in text.lines() {
                let Some((name, value)) = line.rsplit_once(' ') else {
                    continue;
                };
                if names.contains(&name.split('{').next().unwrap_or_default()) {
                    gauges.insert(format!("{service} {name}"), value.parse().unwrap());
                }
            }
        }
    }
    gauges
}

/// Waits until nothing is in work but the streams by which the services follow one another, which a flood neither opens nor
/// ends, and there are no more tasks than `tasks`. For a minute at most: nobody tells when the last of them has ended.
async fn at_rest(world: &World, tasks: usize) {
    let mut left = (Gauges::new(), 0);
    for _ in 0..600 {
        let mut now = gauges(world, &AT_REST).await;
        now.retain(|name, value| *value != 0.0 && !name.contains("Watch") && !name.contains("class=\"stream\""));
        left = (now, Handle::current().metrics().num_alive_tasks());
        if left.0.is_empty() && left.1 <= tasks {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{left:?} is left, where there were {tasks} tasks at most");
}

/// After a second in which nobody calls as many are let in as at first, whatever the flood taught.
async fn until_as_at_first(world: &World, consent: &str) {
    let mut places = Gauges::new();
    for _ in 0..20 {
        asked_once(world, consent).await;
        places = gauges(world, &["sammati_rpc_places"]).await;
        places.retain(|name, _| {
            name.starts_with("consent") && (name.contains("\"check\"") || name.contains("\"write\""))
        });
        if places.values().all(|many| *many == 512.0) {
            return at_rest(world, usize::MAX).await;
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    panic!("fewer are let in than at first: {places:?}");
}
