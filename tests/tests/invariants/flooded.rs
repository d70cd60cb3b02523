//! Far too many at once, through the real stack: who is let in is served once, whoever is not is told when to come back and
//! has no effect, and afterwards every count of every service is what it was.

use std::collections::BTreeMap;
use std::time::Duration;

use sammati_api::consent::v1::decision::Outcome;
use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_server::error::refusal_of;
use sammati_tests::story::Who;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tonic::{Code, Status};

use crate::restored::acknowledged_within;
use crate::worlds::World;

/// Connections of each caller's, and calls on each: as many as a connection carries.
const FLOOD: (usize, usize) = (8, 256);

/// Enough for whoever is let in.
const USES: i32 = 9999;

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
        let mut used = 0;
        for replica in 0..world.replicas {
            assert_eq!(ask(&world, &story.hospital, replica, &given, true).await, Ok(true));
            assert_eq!(ask(&world, &story.clinic, replica, &given, false).await, Ok(true));
            used += 1;
        }
        let before = at_rest(&world, &BTreeMap::new(), usize::MAX).await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        for replica in 0..world.replicas {
            used += flood(&world, replica, &given).await;
        }
        // Of what is left over of calls that were refused, a part is waited for up to ten seconds.
        at_rest(&world, &before, tasks).await;
        for replica in 0..world.replicas {
            let decision = story.check(replica, story.question(&given)).await.unwrap();
            assert_eq!(
                decision.uses_left,
                Some(i64::from(USES) - used),
                "each once, and nobody's who was refused"
            );
            let together = (0..64).map(|_| ask(&world, &story.hospital, replica, &given, true));
            let together = futures::future::join_all(together).await;
            assert!(together.iter().all(|answer| *answer == Ok(true)), "{together:?}");
            used += 64;
        }
        until_as_at_first(&world, &before, &given).await;
        world.system.stop().await;
    }
}

/// One call over the caller's connection: whether it was permitted, or the code and reason of its refusal.
async fn ask(world: &World, who: &Who, replica: usize, consent: &str, uses: bool) -> Result<bool, (Code, String)> {
    let mut client = DecisionServiceClient::new(who.consent_at(replica));
    let answer = match uses {
        true => client.authorize_access(world.story.authorization(consent)).await,
        false => client.check_access(world.story.question(consent)).await,
    };
    let permitted = answer.map(|decision| decision.into_inner().outcome() == Outcome::Permit);
    permitted.map_err(|status| (status.code(), told(&status)))
}

fn told(status: &Status) -> String {
    match refusal_of(status) {
        Some(refusal) if refusal.retry_after.is_some() => refusal.reason.as_str().to_owned(),
        _ => format!("{status:?}"),
    }
}

/// Uses and checks at once over many connections, which end then; tells how many uses were permitted.
async fn flood(world: &World, replica: usize, consent: &str) -> i64 {
    let mut calls = Vec::new();
    for (caller, uses) in [(&world.story.hospital, true), (&world.story.clinic, false)] {
        for _ in 0..FLOOD.0 {
            let mut who = Who::new(&world.story.addresses, caller.certificate.as_deref()).unwrap();
            who.tokens.clone_from(&caller.tokens);
            for _ in 0..FLOOD.1 {
                let who = who.clone();
                calls.push(async move { (uses, ask(world, &who, replica, consent, uses).await) });
            }
        }
    }
    let (mut used, mut refused) = (0, 0);
    for (uses, answer) in futures::future::join_all(calls).await {
        match answer {
            Ok(true) => used += i64::from(uses),
            Err((Code::ResourceExhausted, reason)) if reason == "OVERLOADED" => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(used > 0 && refused > 0, "{used} used, {refused} refused");
    used
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

/// Waits until nothing is in work but the streams by which the services follow one another: those of `before`, if that is
/// told, and no more tasks than `tasks`. For a minute at most: nobody tells when the last of them has ended.
async fn at_rest(world: &World, before: &Gauges, tasks: usize) -> Gauges {
    let mut left = (Gauges::new(), 0);
    for _ in 0..600 {
        let mut now = gauges(world, &AT_REST).await;
        now.retain(|_, value| *value != 0.0);
        left = (now.clone(), Handle::current().metrics().num_alive_tasks());
        let streams = now
            .keys()
            .all(|name| name.contains("Watch") || name.contains("class=\"stream\""));
        if streams && (before.is_empty() || now == *before) && left.1 <= tasks {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{left:?} is left, where {before:?} and {tasks} tasks were before");
}

/// After a second in which nobody calls as many are let in as at first, whatever the flood taught.
async fn until_as_at_first(world: &World, before: &Gauges, consent: &str) {
    let mut places = Gauges::new();
    for _ in 0..20 {
        for replica in 0..world.replicas {
            assert_eq!(
                ask(world, &world.story.hospital, replica, consent, true).await,
                Ok(true)
            );
            assert_eq!(ask(world, &world.story.clinic, replica, consent, false).await, Ok(true));
        }
        places = gauges(world, &["sammati_rpc_places"]).await;
        let of =
            |name: &&String| name.starts_with("consent") && (name.contains("\"check\"") || name.contains("\"write\""));
        if places
            .iter()
            .filter(|(name, _)| of(name))
            .all(|(_, many)| *many == 512.0)
        {
            at_rest(world, before, usize::MAX).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    panic!("fewer are let in than at first: {places:?}");
}
