//! The checker against histories that are known to be right or wrong, and against trying every order.

use std::time::Duration;

use proptest::prelude::*;

use super::{Answer, Consent, Model, Operation, Request, What, Why, check};

const LIMIT: u32 = 2;

const fn at(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn told(start: u64, end: u64, what: What, answer: Answer) -> Operation {
    Operation::answered(at(start), at(end), what, answer)
}

const fn lost(start: u64, what: What) -> Operation {
    Operation::unknown(at(start), what)
}

const APPROVED: Operation = told(0, 1, What::Approve, Answer::Approved);
const REVOKED: Operation = told(10, 19, What::Revoke, Answer::Revoked);

const fn permit(left: u32) -> Answer {
    Answer::Permit { taken: None, left }
}

const fn taken(n: u32) -> Answer {
    Answer::Permit {
        taken: Some(n),
        left: LIMIT - n,
    }
}

#[track_caller]
fn accepted(history: &[Operation]) {
    if let Err(violation) = check(Model::requested(LIMIT), history) {
        panic!("refused: {violation}");
    }
    assert!(tried(history), "no order explains it");
}

#[track_caller]
fn refused(history: &[Operation]) {
    assert!(check(Model::requested(LIMIT), history).is_err(), "accepted");
    assert!(!tried(history), "an order explains it");
}

#[test]
fn c4_a_permit_after_a_revoke_returned_is_refused() {
    let stale = |start| told(start, start + 10, What::Check, permit(2));
    refused(&[APPROVED, REVOKED, stale(20)]);
    accepted(&[APPROVED, REVOKED, stale(15)]);
    refused(&[APPROVED, REVOKED, told(20, 21, What::Authorize, taken(1))]);
}

#[test]
fn c1_two_winners_are_refused() {
    let deny = told(0, 9, What::Deny, Answer::Denied);
    refused(&[APPROVED, deny.clone()]);
    refused(&[APPROVED, told(0, 1, What::Approve, Answer::Approved)]);
    refused(&[APPROVED, REVOKED, told(10, 19, What::Revoke, Answer::Revoked)]);
    let decided = Answer::Decided(Request::Denied);
    accepted(&[told(0, 1, What::Approve, decided), deny]);
    refused(&[
        told(0, 1, What::Approve, decided),
        told(2, 9, What::Deny, Answer::Denied),
    ]);
    refused(&[APPROVED, told(5, 9, What::Deny, decided)]);
}

#[test]
fn a_read_that_goes_back_is_refused() {
    let read = |start, end, state| told(start, end, What::GetRequest, Answer::Request(state));
    let approve = told(0, 100, What::Approve, Answer::Approved);
    let (old, new) = (Request::Requested, Request::Granted);
    refused(&[approve.clone(), read(10, 20, new), read(30, 40, old)]);
    accepted(&[approve.clone(), read(10, 20, old), read(30, 40, new)]);
    accepted(&[approve, read(10, 35, new), read(30, 40, old)]);
    let uses = |start, n| {
        told(
            start,
            start + 1,
            What::GetConsent,
            Answer::Consent(Consent::Granted, Some(n)),
        )
    };
    let use_one = told(2, 100, What::Authorize, taken(1));
    refused(&[APPROVED, use_one.clone(), uses(10, 1), uses(20, 0)]);
    accepted(&[APPROVED, use_one, uses(10, 0), uses(20, 1)]);
}

#[test]
fn an_effect_before_its_call_is_refused() {
    let early = |start| {
        [
            told(0, 1, What::GetRequest, Answer::Request(Request::Granted)),
            told(start, 5, What::Approve, Answer::Approved),
        ]
    };
    refused(&early(2));
    accepted(&early(1));
    refused(&[told(0, 1, What::Check, permit(2)), lost(2, What::Approve)]);
}

#[test]
fn a1_an_acknowledged_write_that_is_lost_is_refused() {
    let open = told(2, 3, What::GetRequest, Answer::Request(Request::Requested));
    refused(&[APPROVED, open.clone()]);
    refused(&[
        APPROVED,
        REVOKED,
        told(20, 21, What::GetConsent, Answer::Consent(Consent::Granted, Some(0))),
    ]);
    refused(&[
        APPROVED,
        told(2, 3, What::Authorize, taken(1)),
        told(4, 5, What::Authorize, taken(1)),
    ]);
    // Nothing says that it happened.
    accepted(&[lost(0, What::Approve), open]);
}

#[test]
fn c2_a_use_limit_that_is_exceeded_is_refused() {
    let authorize = |start, answer| told(start, 99, What::Authorize, answer);
    let spent = Answer::Deny(Why::Spent);
    let two = [APPROVED, authorize(2, taken(1)), authorize(2, taken(2))];
    accepted(&[two.as_slice(), &[authorize(3, spent)]].concat());
    refused(&[two.as_slice(), &[authorize(3, taken(2))]].concat());
    refused(&[APPROVED, authorize(2, taken(1)), authorize(2, spent)]);
    // One that was not answered may have taken the last use.
    accepted(&[
        APPROVED,
        authorize(2, taken(1)),
        authorize(2, spent),
        lost(2, What::Authorize),
    ]);
    accepted(&[APPROVED, authorize(2, taken(2)), lost(2, What::Authorize)]);
    refused(&[APPROVED, authorize(2, taken(2)), lost(100, What::Authorize)]);
}

#[test]
fn c2_a_permit_after_its_end_is_refused() {
    let mut history = vec![
        APPROVED,
        told(90, 90, What::EndNears, Answer::Passed),
        told(110, 110, What::End, Answer::Passed),
    ];
    // Around the end both are told, in any order.
    history.push(told(95, 96, What::Check, Answer::Deny(Why::Expired)));
    history.push(told(97, 98, What::Authorize, taken(1)));
    accepted(&history);
    let early = told(80, 89, What::Check, Answer::Deny(Why::Expired));
    refused(&[history.as_slice(), &[early]].concat());
    let late = told(111, 112, What::Check, permit(1));
    refused(&[history.as_slice(), &[late]].concat());
    let revoke = told(111, 112, What::Revoke, Answer::Ended(Consent::Expired));
    accepted(&[history.as_slice(), &[revoke]].concat());
}

#[test]
fn what_was_not_answered_happened_at_any_time_after_its_start_or_never() {
    let granted = |start| told(start, start + 1, What::GetRequest, Answer::Request(Request::Granted));
    let open = |start| told(start, start + 1, What::GetRequest, Answer::Request(Request::Requested));
    let approve = lost(10, What::Approve);
    accepted(&[open(0), approve.clone(), open(20), granted(1000)]);
    accepted(&[open(0), approve.clone(), open(1000)]);
    refused(&[granted(0), approve.clone()]);
    refused(&[approve.clone(), granted(20), open(30)]);
    // The revoke that answers shows that the approve happened.
    accepted(&[approve, told(20, 30, What::Revoke, Answer::Revoked)]);
}

#[test]
fn many_at_once_are_searched_in_no_time() {
    let mut history = vec![APPROVED];
    let limit = 40;
    for n in 0..200 {
        history.push(told(
            2 + n,
            900,
            What::Check,
            permit(limit - u32::try_from(n).unwrap() / 5),
        ));
        history.push(lost(2 + n, What::Authorize));
    }
    for n in 1..=limit {
        let taken = Answer::Permit {
            taken: Some(n),
            left: limit - n,
        };
        history.push(told(2, 900, What::Authorize, taken));
    }
    assert_eq!(check(Model::requested(limit), &history), Ok(()));
    history.push(told(901, 902, What::Revoke, Answer::Revoked));
    history.push(told(
        903,
        904,
        What::GetConsent,
        Answer::Consent(Consent::Granted, Some(limit)),
    ));
    let violation = check(Model::requested(limit), &history).unwrap_err();
    assert!(violation.explained > 240, "{violation}");
}

/// Whether any order of any choice of operations that has all answered ones explains them: every one is tried.
fn tried(history: &[Operation]) -> bool {
    fn orders(history: &[Operation], order: &mut Vec<usize>) -> bool {
        if explains(history, order) {
            return true;
        }
        (0..history.len()).any(|n| {
            if order.contains(&n) {
                return false;
            }
            order.push(n);
            let found = orders(history, order);
            order.pop();
            found
        })
    }
    orders(history, &mut Vec::new())
}

fn explains(history: &[Operation], order: &[usize]) -> bool {
    let all = (0..history.len()).all(|n| history[n].end.is_none() || order.contains(&n));
    let before = |a: usize, b: usize| history[a].end.is_some_and(|end| end < history[b].start);
    let in_time = (0..order.len()).all(|i| (i + 1..order.len()).all(|j| !before(order[j], order[i])));
    all && in_time && {
        let mut states = vec![Model::requested(LIMIT)];
        for n in order {
            let Operation { what, answer, .. } = history[*n];
            let ways = states.iter().flat_map(|state| state.ways(what));
            let fitting = ways.filter(|(way, _)| answer.is_none_or(|told| told == *way));
            states = fitting.map(|(_, after)| after).collect();
        }
        !states.is_empty()
    }
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        2 => Just(What::Approve),
        1 => Just(What::Deny),
        2 => Just(What::Revoke),
        2 => Just(What::Check),
        3 => Just(What::Authorize),
        1 => Just(What::GetRequest),
        2 => Just(What::GetConsent),
    ]
}

/// How one operation of a history that happened lies around its instant, and whether its client heard of it.
#[derive(Debug, Clone)]
struct Happening {
    what: What,
    before: u64,
    after: u64,
    /// 0: it never happened, and was not answered; 1: it happened, and was not answered; else it was answered.
    fate: u8,
}

fn happenings(most: usize) -> impl Strategy<Value = Vec<Happening>> {
    let one = (what(), 0_u64..40, 0_u64..40, 0_u8..8);
    let one = one.prop_map(|(what, before, after, fate)| Happening {
        what,
        before,
        after,
        fate,
    });
    prop::collection::vec(one, 1..most)
}

/// The history of an execution in which they happened one after another, ten apart; time ends the consent after
/// `lives` of them.
fn history(limit: u32, lives: usize, happenings: &[Happening]) -> Vec<Operation> {
    let (mut state, mut history) = (Model::requested(limit), Vec::new());
    for (n, happening) in happenings.iter().enumerate() {
        let now = 10 * u64::try_from(n).unwrap() + 100;
        if n == lives || n == lives + 3 {
            let what = if n == lives { What::EndNears } else { What::End };
            state = state.ways(what).remove(0).1;
            history.push(told(now - 1, now - 1, what, Answer::Passed));
        }
        let Happening {
            what,
            before,
            after,
            fate,
            ..
        } = *happening;
        let start = now - before;
        if fate == 0 {
            history.push(lost(start, what));
            continue;
        }
        let mut ways = state.ways(what);
        let (answer, next) = ways.remove(usize::try_from(after).unwrap() % ways.len());
        state = next;
        history.push(match fate {
            1 => lost(start, what),
            _ => told(start, now + after, what, answer),
        });
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_one_after_another_is_accepted(
        limit in 0_u32..4, lives in 0_usize..100, happenings in happenings(60), swaps in prop::collection::vec(any::<prop::sample::Index>(), 20),
    ) {
        let mut history = history(limit, lives, &happenings);
        // In the order in which clients wrote them down.
        let length = history.len();
        for (n, other) in swaps.iter().enumerate() {
            history.swap(n % length, other.index(length));
        }
        prop_assert_eq!(check(Model::requested(limit), &history), Ok(()));
    }

    #[test]
    fn a_small_history_is_judged_as_trying_every_order_judges_it(
        lives in 0_usize..10, happenings in happenings(6), wrong in any::<prop::sample::Index>(), instead in any::<prop::sample::Index>(),
    ) {
        let mut history = history(LIMIT, lives, &happenings);
        // One answer is exchanged for another of its kind: most such histories are wrong.
        let n = wrong.index(history.len());
        if history[n].answer.is_some_and(|answer| answer != Answer::Passed) {
            history[n].answer = Some(*instead.get(&ANSWERS));
        }
        history.truncate(6);
        prop_assert_eq!(check(Model::requested(LIMIT), &history).is_ok(), tried(&history), "{:#?}", history);
    }
}

const ANSWERS: [Answer; 14] = [
    Answer::Approved,
    Answer::Denied,
    Answer::Revoked,
    Answer::Empty,
    Answer::Decided(Request::Granted),
    Answer::Ended(Consent::Revoked),
    permit(1),
    taken(1),
    taken(2),
    Answer::Deny(Why::Revoked),
    Answer::Deny(Why::Spent),
    Answer::Request(Request::Requested),
    Answer::Consent(Consent::Granted, Some(1)),
    Answer::Consent(Consent::Expired, None),
];
