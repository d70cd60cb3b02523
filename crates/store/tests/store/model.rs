//! The store against a model: random commands, some of them at once and on any replica, repeats and reused ids among
//! them; what they answered must be what plain counting in memory allows. On Postgres the connection may end at any message
//! of a transaction, before the server saw it or after it did it. What once failed is tried first, ever after.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use sammati_kernel::{AccountId, ManualClock, Reason, Refusal};
use sammati_store::Outcome;
use sammati_testkit::{Cut, Database, Line, databases};

use crate::world::{Count, Mood, START, World, account, open, request_id};

/// The seeds of lists that failed once.
pub(crate) const FAILED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store/failed.txt");

/// Lists of commands that are tried, on each kind of database.
const CASES: u32 = 40;

#[derive(Debug, Clone)]
enum Op {
    /// Counts up, in one of the moods that leave the store whole.
    Up { who: u8, mood: Mood },
    /// Counts up if it gets a claim that others want too.
    Claim { who: u8, claim: u8 },
    /// Sends again what was done before.
    Again { of: Index },
    /// Sends another body, about somebody else, under an id that was used.
    Other { of: Index, who: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let mood = prop_oneof![
        6 => Just(Mood::Plain),
        1 => Just(Mood::Refuses),
        2 => Just(Mood::RefusesRecorded),
        1 => Just(Mood::Panics),
        1 => Just(Mood::PanicsReading),
        1 => Just(Mood::BreaksARule),
    ];
    let who = 0_u8..6;
    prop_oneof![
        6 => (who.clone(), mood).prop_map(|(who, mood)| Op::Up { who, mood }),
        2 => (who.clone(), 0_u8..3).prop_map(|(who, claim)| Op::Claim { who, claim }),
        2 => any::<Index>().prop_map(|of| Op::Again { of }),
        1 => (any::<Index>(), who).prop_map(|(of, who)| Op::Other { of, who }),
    ]
}

/// Commands that run at once, and where the line to the database is cut meanwhile.
#[derive(Debug, Clone)]
struct Group {
    ops: Vec<Op>,
    cut: Option<(usize, Cut)>,
}

/// More than the messages of a transaction: some cuts never come.
const MESSAGES: usize = 8;

/// Groups of commands, one group after another.
fn groups() -> impl Strategy<Value = Vec<Group>> {
    let cut = (0..MESSAGES, prop_oneof![Just(Cut::Before), Just(Cut::After)]);
    let group = (prop::collection::vec(op(), 1..12), prop::option::of(cut));
    prop::collection::vec(group.prop_map(|(ops, cut)| Group { ops, cut }), 1..8)
}

/// A call that had its effect.
#[derive(Debug, Clone)]
struct Done {
    command: Count,
    request: String,
    answer: Result<i64, Reason>,
}

/// What is known of one case.
#[derive(Default)]
struct Model {
    done: Vec<Done>,
    /// Who tried for a claim, and whether somebody got it.
    claims: BTreeMap<u8, bool>,
}

/// A call on its way, and what the model says of its answer.
struct Call {
    command: Count,
    request: String,
    body: &'static str,
    expect: Expect,
}

enum Expect {
    /// Decided now.
    Fresh,
    /// The answer that was given before.
    Same(Result<i64, Reason>),
    /// The id was used.
    Reused,
}

/// The people of a case, each in a partition of its own or sharing one.
fn person(case: u64, who: u8) -> AccountId {
    account(u16::from(who) * 3 % 8, case * 16 + u64::from(who))
}

impl Model {
    fn call(&self, world: &World, case: u64, op: &Op) -> Call {
        let known = |of: &Index| (!self.done.is_empty()).then(|| of.get(&self.done).clone());
        let fresh = |command| Call {
            command,
            request: request_id(&world.clock),
            body: "a",
            expect: Expect::Fresh,
        };
        let up = |who: u8, mood| Count {
            mood,
            ..Count::up(person(case, who))
        };
        match op {
            Op::Up { who, mood } => fresh(up(*who, *mood)),
            Op::Claim { who, claim } => fresh(Count {
                claim: Some(claim_key(case, *claim)),
                ..up(*who, Mood::Plain)
            }),
            Op::Again { of } => known(of).map_or_else(
                || fresh(up(0, Mood::Plain)),
                |done| Call {
                    command: done.command,
                    request: done.request,
                    body: "a",
                    expect: Expect::Same(done.answer),
                },
            ),
            Op::Other { of, who } => known(of).map_or_else(
                || fresh(up(*who, Mood::Plain)),
                |done| Call {
                    command: up(*who, Mood::Plain),
                    request: done.request,
                    body: "b",
                    expect: Expect::Reused,
                },
            ),
        }
    }

    /// Holds an answer against what it may be, and keeps what had its effect.
    fn take(&mut self, case: u64, call: Call, result: Result<Outcome<i64>, Refusal>) {
        let told = match &result {
            Ok(Outcome::Fresh(count)) => Ok(*count),
            Ok(Outcome::Known(bytes)) => Ok(i64::from_be_bytes(bytes.as_slice().try_into().unwrap())),
            Err(refusal) => Err(refusal.reason),
        };
        match call.expect {
            Expect::Same(answer) => return assert_eq!(told, answer, "a repeat was answered otherwise"),
            Expect::Reused => return assert_eq!(told, Err(Reason::RequestIdReused)),
            Expect::Fresh => {}
        }
        if let Some(key) = call.command.claim {
            let claim = (0..3).find(|n| claim_key(case, *n) == key).unwrap();
            let taken = self.claims.entry(claim).or_default();
            match told {
                Ok(_) => assert!(!std::mem::replace(taken, true), "a claim was given twice"),
                Err(reason) => return assert_eq!(reason, Reason::AddressTaken),
            }
        }
        let had_effect = match call.command.mood {
            Mood::Plain => told.is_ok(),
            Mood::RefusesRecorded => told == Err(Reason::OtpMismatch),
            Mood::Refuses => return assert_eq!(told, Err(Reason::StateConflict)),
            Mood::Panics | Mood::PanicsReading | Mood::BreaksARule => return assert_eq!(told, Err(Reason::Internal)),
        };
        assert!(had_effect, "{told:?}");
        self.done.push(Done {
            command: call.command,
            request: call.request,
            answer: told,
        });
    }

    /// Each effect counted once, and every answer is another count.
    async fn check(&self, world: &World, case: u64) {
        for who in 0..6 {
            let id = person(case, who);
            let mine: Vec<_> = self.done.iter().filter(|done| done.command.id == id).collect();
            let total = i64::try_from(mine.len()).unwrap();
            assert_eq!(world.count(usize::from(who), &id).await, total);
            let told: Vec<i64> = mine.iter().filter_map(|done| done.answer.ok()).collect();
            assert_eq!(
                told.iter().collect::<BTreeSet<_>>().len(),
                told.len(),
                "one count for two: {told:?}"
            );
            assert!(told.iter().all(|count| (1..=total).contains(count)));
        }
        assert!(
            self.claims.values().all(|taken| *taken),
            "nobody got a claim that was free"
        );
    }
}

fn claim_key(case: u64, claim: u8) -> [u8; 32] {
    let mut key = [claim; 32];
    // Its first bytes choose its partition.
    key[8..16].copy_from_slice(&case.to_be_bytes());
    key
}

async fn run(world: &World, line: Option<&Line>, case: u64, groups: &[Group]) -> usize {
    let mut model = Model::default();
    for Group { ops, cut } in groups {
        line.inspect(|line| line.cut_inside(*cut));
        let calls: Vec<Call> = ops.iter().map(|op| model.call(world, case, op)).collect();
        let runs = calls.iter().enumerate().map(|(n, call)| {
            let store = world.replica(n);
            let key = store.request(
                "participants/clinic",
                "test.count",
                &call.request,
                &call.body.to_owned(),
            );
            store.run(call.command.clone(), Some(key.unwrap()))
        });
        let results = futures::future::join_all(runs).await;
        for (call, result) in calls.into_iter().zip(results) {
            model.take(case, call, result);
        }
    }
    line.inspect(|line| line.cut_inside(None));
    model.check(world, case).await;
    model.done.len()
}

/// A world whose stores reach their database over `line`.
fn over(line: Option<&Line>, database: Database) -> World {
    let Some(line) = line else { return World::on(database) };
    let clock = ManualClock::at(START);
    let url = line.url(database.url.rsplit_once('/').unwrap().1);
    World {
        replicas: vec![open(&url, &clock), open(&url, &clock)],
        clock,
        database,
    }
}

#[test]
fn i1_o1_any_list_of_commands_is_answered_as_plain_counting_allows() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    for database in databases() {
        let line = (!database.url.starts_with("sqlite:")).then(|| Line::to(database.url.rsplit_once('/').unwrap().0));
        let world = over(line.as_ref(), database);
        let (case, effects) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let config = Config {
            cases: CASES,
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct(FAILED))),
            ..Config::default()
        };
        let tried = TestRunner::new(config).run(&groups(), |groups| {
            case.set(case.get() + 1);
            effects.set(effects.get() + runtime.block_on(run(&world, line.as_ref(), case.get(), &groups)));
            Ok(())
        });
        tried.unwrap();
        assert_eq!(
            runtime.block_on(world.check_feed()),
            effects.get(),
            "one event for each effect"
        );
    }
}
