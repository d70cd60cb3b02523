//! A process dies at any step of any list of commands: where it decides, before or after any statement of a batch, between a
//! COMMIT and its answers, between two batches. Whoever opens the database after it finds what was acknowledged, and of what
//! was not, each command whole or not at all.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use sammati_kernel::{ManualClock, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, Outcome, RequestKey, Store, View};
use sammati_testkit::databases::psql;
use sammati_testkit::{Database, databases};

use crate::model::FAILED;
use crate::world::{Count, Mood, START, World, account, open, request_id};

const CASES: u32 = 24;

/// What a child is given: groups of commands that run at once, and when it dies.
#[derive(Debug, Clone)]
struct Plan {
    groups: Vec<Vec<(u64, Mood)>>,
    /// In the middle of a transaction: where it decides for the `n`th time.
    deciding: i64,
    /// Between two: when it has told the `n`th answer.
    answered: usize,
    /// At the `n`th step to or from the database: just before a lane sends a statement, or when one is done.
    step: i64,
    /// The groups before those whose steps count.
    spared: usize,
}

fn plans() -> impl Strategy<Value = Plan> {
    let mood = prop_oneof![4 => Just(Mood::Plain), 1 => Just(Mood::RefusesRecorded), 1 => Just(Mood::Refuses)];
    let groups = prop::collection::vec(prop::collection::vec((0_u64..5, mood), 1..8), 1..8);
    (groups, 1_i64..40, 1_usize..40, 1_i64..200).prop_map(|(groups, deciding, answered, step)| Plan {
        groups,
        deciding,
        answered,
        step,
        spared: 0,
    })
}

/// Dies at one step alone of a batch that has every kind of statement.
fn at_step(step: i64) -> Plan {
    Plan {
        groups: vec![vec![(CLAIMS, Mood::Plain)], vec![(CLAIMS, Mood::RefusesRecorded)]],
        deciding: i64::MAX,
        answered: usize::MAX,
        step,
        spared: 1,
    }
}

/// Who claims something with each command.
const CLAIMS: u64 = 5;

/// The steps that a child has left.
static STEPS: AtomicI64 = AtomicI64::new(i64::MAX);

/// Counts the steps of lanes, and ends the process at its last, with word of where that was.
fn counting() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        let (when, statement) = match &event {
            InstrumentationEvent::StartQuery { query, .. } => ("before", query),
            InstrumentationEvent::FinishQuery { query, .. } => ("after", query),
            _ => return,
        };
        let thread = std::thread::current();
        let is_lane = thread.name().is_some_and(|name| name.starts_with("lane-"));
        if is_lane && STEPS.fetch_sub(1, Ordering::SeqCst) == 1 {
            let text = statement.to_string().replace('\n', " ");
            println!("died {when} {}", text.split(" -- binds").next().unwrap_or_default());
            std::process::abort();
        }
    }))
}

/// Counts, unless the process dies over it.
struct Fatal {
    command: Count,
    left: Arc<AtomicI64>,
}

impl Command for Fatal {
    type Answer = i64;
    const NAME: &'static str = "test.count";

    fn slot(&self) -> Slot {
        self.command.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        self.command.reads(keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let answer = self.command.decide(view);
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
        answer
    }

    fn outcome(&self, answer: &i64) -> Vec<u8> {
        self.command.outcome(answer)
    }
}

/// One command of a plan with its request id.
#[derive(Debug, Clone)]
struct Call {
    who: u64,
    mood: Mood,
    request: String,
}

impl Call {
    fn command(&self) -> Count {
        // Nobody else wants it.
        let claim = (self.who == CLAIMS).then(|| self.request.as_bytes()[..32].try_into().unwrap());
        Count {
            mood: self.mood,
            claim,
            ..Count::up(account(u16::try_from(self.who).unwrap(), self.who))
        }
    }

    fn key(&self, store: &Store) -> RequestKey {
        let body = self.who.to_string();
        store
            .request("participants/clinic", "test.count", &self.request, &body)
            .unwrap()
    }
}

/// What was answered, in one word.
fn told(result: Result<Outcome<i64>, Refusal>) -> String {
    match result {
        Ok(Outcome::Fresh(count)) => count.to_string(),
        Ok(Outcome::Known(bytes)) => i64::from_be_bytes(bytes.try_into().unwrap()).to_string(),
        Err(refusal) => refusal.reason.as_str().to_owned(),
    }
}

/// The process that dies: reads its plan, and tells `{number of the call} {answer}` of each that it was answered.
#[test]
#[ignore = "run by the test below"]
fn a_child_that_dies() {
    let mut plan = String::new();
    std::io::stdin().read_to_string(&mut plan).unwrap();
    let mut lines = plan.lines();
    let Some(url) = lines.next() else { return };
    let left = Arc::new(AtomicI64::new(lines.next().unwrap().parse().unwrap()));
    let mut answers: usize = lines.next().unwrap().parse().unwrap();
    let steps = lines.next().unwrap().parse().unwrap();
    let spared: usize = lines.next().unwrap().parse().unwrap();
    let groups: Vec<Vec<(usize, Call)>> = lines.map(read_group).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    set_default_instrumentation(counting).unwrap();
    let store = open(url, &ManualClock::at(START));
    runtime.block_on(async {
        for (at, group) in groups.into_iter().enumerate() {
            if at == spared {
                STEPS.store(steps, Ordering::SeqCst);
            }
            let runs = group.iter().map(|(_, call)| {
                let left = Arc::clone(&left);
                store.run(
                    Fatal {
                        command: call.command(),
                        left,
                    },
                    Some(call.key(&store)),
                )
            });
            for ((n, _), result) in group.iter().zip(futures::future::join_all(runs).await) {
                println!("told {n} {}", told(result));
                answers -= 1;
                if answers == 0 {
                    std::process::abort();
                }
            }
        }
    });
}

fn read_group(line: &str) -> Vec<(usize, Call)> {
    let calls = line.split(' ').map(|call| {
        let mut parts = call.split(',');
        let mut next = || parts.next().unwrap();
        let n = next().parse().unwrap();
        let who = next().parse().unwrap();
        let mood = match next() {
            "Plain" => Mood::Plain,
            "RefusesRecorded" => Mood::RefusesRecorded,
            _ => Mood::Refuses,
        };
        let request = next().to_owned();
        (n, Call { who, mood, request })
    });
    calls.collect()
}

fn write_group(from: usize, group: &[Call]) -> String {
    let calls = group.iter().enumerate();
    let calls = calls.map(|(n, Call { who, mood, request })| format!("{},{who},{mood:?},{request}", from + n));
    calls.collect::<Vec<_>>().join(" ")
}

/// What a child said before it ended.
#[derive(Default)]
struct Said {
    /// What it was answered, by the number of the call.
    told: BTreeMap<usize, String>,
    /// At which statement it died, if at one.
    died: Option<String>,
}

/// Lets a child run the plan.
fn die(url: &str, plan: &Plan, groups: &[Vec<Call>]) -> Said {
    let mut child = Program::new(std::env::current_exe().unwrap())
        .args(["--exact", "aborts::a_child_that_dies", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let Plan {
        deciding,
        answered,
        step,
        spared,
        ..
    } = plan;
    let mut text = format!("{url}\n{deciding}\n{answered}\n{step}\n{spared}\n");
    let mut from = 0;
    for group in groups {
        text += &write_group(from, group);
        text.push('\n');
        from += group.len();
    }
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let mut said = Said::default();
    // The first comes behind what the test harness says.
    for line in lines {
        if let Some((_, place)) = line.split_once("died ") {
            said.died = Some(place.to_owned());
        } else if let Some((n, answer)) = line.split_once("told ").and_then(|(_, told)| told.split_once(' ')) {
            said.told.insert(n.parse().unwrap(), answer.to_owned());
        }
    }
    child.wait().unwrap();
    assert!(said.told.len() <= plan.answered);
    said
}

/// Waits until a server has noticed that the process is gone which had these connections, for ten seconds at most.
fn wait_for_the_end_of_connections(database: &Database) {
    let Some((server, name)) = database
        .url
        .rsplit_once('/')
        .filter(|(server, _)| !server.starts_with("sqlite:"))
    else {
        return;
    };
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
    for _ in 0..1000 {
        if psql(server, "postgres", &count) == "0" {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the connections of a process that is gone are there after ten seconds");
}

/// A database that is used up.
fn drop_database(database: &Database) {
    if let Some((server, name)) = database
        .url
        .rsplit_once('/')
        .filter(|(server, _)| !server.starts_with("sqlite:"))
    {
        psql(server, "postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
    }
}

/// Tells at which statement it died, if at one.
async fn survives(plan: &Plan, database: Database) -> Option<String> {
    let clock = ManualClock::at(START);
    let call = |&(who, mood): &(u64, Mood)| Call {
        who,
        mood,
        request: request_id(&clock),
    };
    let groups: Vec<Vec<Call>> = plan
        .groups
        .iter()
        .map(|group| group.iter().map(call).collect())
        .collect();
    let Said {
        told: acknowledged,
        died,
    } = die(&database.url, plan, &groups);
    wait_for_the_end_of_connections(&database);
    let world = World {
        replicas: vec![open(&database.url, &clock)],
        clock,
        database,
    };
    let calls: Vec<&Call> = groups.iter().flatten().collect();
    // One event for each count: nothing is there by half.
    let mut found = 0;
    for who in 0..=CLAIMS {
        found += world.count(0, &account(u16::try_from(who).unwrap(), who)).await;
    }
    assert_eq!(i64::try_from(world.check_feed().await).unwrap(), found);
    let has_effect = |n: &usize| calls[*n].mood != Mood::Refuses;
    let kept = i64::try_from(acknowledged.keys().filter(|n| has_effect(n)).count()).unwrap();
    assert!(found >= kept, "{found} effects of {kept} that were acknowledged");
    // Whoever asks again with the same id gets the same, or, if nobody was told, has the effect once.
    let store = world.replica(0);
    for (n, call) in calls.iter().enumerate() {
        let again = told(store.run(call.command(), Some(call.key(store))).await);
        match acknowledged.get(&n) {
            Some(first) => assert_eq!(&again, first, "call {n}"),
            None if call.mood == Mood::Refuses => assert_eq!(again, Reason::StateConflict.as_str()),
            None => {}
        }
    }
    let effects = (0..calls.len()).filter(has_effect).count();
    assert_eq!(world.check_feed().await, effects, "each had its effect once");
    drop_database(&world.database);
    died
}

#[test]
fn a1_i1_o1_a_process_that_dies_at_any_step_loses_nothing_acknowledged_and_leaves_no_half() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let config = Config {
        cases: CASES,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(FAILED))),
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&plans(), |plan| {
        runtime.block_on(survives(&plan, Database::sqlite()));
        Ok(())
    });
    tried.unwrap();
}

/// The statements of a batch that a process died before and after, each by what is in its text.
const SQLITE: [&str; 9] = [
    "BEGIN IMMEDIATE",
    "JOIN head",
    "JOIN counter",
    "INSERT OR FAIL INTO claim",
    "INSERT OR FAIL INTO request",
    "UPDATE OR FAIL counter",
    "INSERT OR FAIL INTO feed",
    "UPDATE OR FAIL head",
    "COMMIT",
];
const POSTGRES: [&str; 9] = [
    "BEGIN",
    "FOR UPDATE",
    "JOIN counter",
    "INSERT INTO claim",
    "INSERT INTO request",
    "UPDATE counter",
    "INSERT INTO feed",
    "UPDATE head",
    "COMMIT",
];

/// The process dies at each step of a batch, in turn, until there is none left. On Postgres what a batch sends at
/// once goes before any of it is answered: to die before one of its statements is to die before the first arrives.
#[test]
fn a1_i1_o1_a_process_may_die_before_and_after_every_statement_of_a_batch() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    for database in databases() {
        let is_sqlite = database.url.starts_with("sqlite:");
        let fresh = || {
            if is_sqlite {
                Some(Database::sqlite())
            } else {
                Database::postgres()
            }
        };
        let places: Vec<String> = (1..)
            .map_while(|step| runtime.block_on(survives(&at_step(step), fresh().unwrap())))
            .collect();
        for statement in if is_sqlite { SQLITE } else { POSTGRES } {
            for when in ["before", "after"] {
                let is_it = |place: &String| place.starts_with(when) && place.contains(statement);
                assert!(places.iter().any(is_it), "never {when} {statement}: {places:#?}");
            }
        }
    }
}
