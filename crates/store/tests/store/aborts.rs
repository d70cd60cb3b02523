//! A process that keeps an SQLite file dies at any step of any list of commands; whoever opens the file after it finds
//! what was acknowledged, and of what was not, each command whole or not at all.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use sammati_kernel::{ManualClock, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, Outcome, RequestKey, Store, View};
use sammati_testkit::Database;

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
}

fn plans() -> impl Strategy<Value = Plan> {
    let mood = prop_oneof![4 => Just(Mood::Plain), 1 => Just(Mood::RefusesRecorded), 1 => Just(Mood::Refuses)];
    let groups = prop::collection::vec(prop::collection::vec((0_u64..5, mood), 1..8), 1..8);
    (groups, 1_i64..40, 1_usize..40).prop_map(|(groups, deciding, answered)| Plan {
        groups,
        deciding,
        answered,
    })
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
        Count {
            mood: self.mood,
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
    let groups: Vec<Vec<(usize, Call)>> = lines.map(read_group).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let store = open(url, &ManualClock::at(START));
    runtime.block_on(async {
        for group in groups {
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

/// Lets a child run the plan; tells what it said it was answered, by the number of the call.
fn die(url: &str, plan: &Plan, groups: &[Vec<Call>]) -> BTreeMap<usize, String> {
    let mut child = Program::new(std::env::current_exe().unwrap())
        .args(["--exact", "aborts::a_child_that_dies", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut text = format!("{url}\n{}\n{}\n", plan.deciding, plan.answered);
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
    let told = lines.filter_map(|line| {
        // The first comes behind what the test harness says.
        let (_, told) = line.split_once("told ")?;
        let (n, answer) = told.split_once(' ')?;
        Some((n.parse().ok()?, answer.to_owned()))
    });
    let told: BTreeMap<usize, String> = told.collect();
    child.wait().unwrap();
    assert!(told.len() <= plan.answered);
    told
}

async fn survives(plan: &Plan) {
    let (database, clock) = (Database::sqlite(), ManualClock::at(START));
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
    let acknowledged = die(&database.url, plan, &groups);
    let world = World {
        replicas: vec![open(&database.url, &clock)],
        clock,
        database,
    };
    let calls: Vec<&Call> = groups.iter().flatten().collect();
    // One event for each count: nothing is there by half.
    let mut found = 0;
    for who in 0..5 {
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
        runtime.block_on(survives(&plan));
        Ok(())
    });
    tried.unwrap();
}
