//! C1: a review that finds misuse, at once with all else that may be done to what was opened, on all replicas.

use std::sync::Arc;

use futures::future::join_all;
use sammati_api::consent::v1::break_glass::Outcome;
use sammati_api::consent::v1::consent::State;
use sammati_api::types::v1 as types;
use sammati_kernel::Reason;

use crate::emergencies::{open, opening, review};
use crate::pairs::follow;
use crate::verbs::{Subject, Verb};
use crate::world::{HOUR, World, everywhere, operator, refused};

/// Callers of each.
const EACH: usize = 3;

/// Who is at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Racer {
    Does(Verb),
    Finds(Outcome),
}

/// What a misuse is raced against; what was opened is neither resumed before it was paused, nor renewed.
const OTHERS: [Racer; 5] = [
    Racer::Does(Verb::Pause),
    Racer::Does(Verb::Narrow),
    Racer::Does(Verb::Revoke),
    Racer::Does(Verb::Expire),
    Racer::Finds(Outcome::Upheld),
];

/// Whether it was done; `Err`: why not.
async fn run(w: &Arc<World>, to: &Subject, racer: Racer) -> Result<bool, Reason> {
    match racer {
        Racer::Does(verb) => w.act(to, verb).await.map_err(|refusal| refusal.reason),
        Racer::Finds(outcome) => {
            let found = review(w, &operator(), &to.consent.name, outcome).await;
            found.map(|_| true).map_err(|status| refused::<()>(Err(status)).reason)
        }
    }
}

/// Lets both loose; tells whose calls were told that it was done.
async fn race(w: &Arc<World>, to: &Subject, other: Racer) -> Vec<Racer> {
    let racers = (0..2 * EACH).map(|n| {
        let racer = [Racer::Finds(Outcome::Misuse), other][n % 2];
        let (w, to) = (Arc::clone(w), to.clone());
        tokio::spawn(async move {
            if racer == Racer::Does(Verb::Expire) && n < 2 {
                w.advance(1);
            }
            match run(&w, &to, racer).await {
                Ok(done) => done.then_some(racer),
                Err(reason) => {
                    let is_loss = match racer {
                        Racer::Finds(_) => reason == Reason::ReviewDone,
                        // Another caller narrowed it to the same already.
                        Racer::Does(Verb::Narrow) => [Reason::StateConflict, Reason::FieldInvalid].contains(&reason),
                        Racer::Does(_) => reason == Reason::StateConflict,
                    };
                    assert!(is_loss, "{racer:?} of misuse and {other:?}: {reason:?}");
                    None
                }
            }
        })
    });
    let raced = join_all(racers).await.into_iter();
    raced.filter_map(Result::unwrap).collect()
}

#[test]
fn c1_misuse_takes_back_once_whatever_is_done_at_once() {
    everywhere(|w| async move {
        for (n, other) in OTHERS.into_iter().enumerate() {
            let address = format!("person{n:04}@sbx");
            let account = w.person(&address);
            let mut asks = opening(&w, &address);
            asks.hi_types.push(types::HiType::OpConsultation.into());
            let consent = open(&w, asks).await.unwrap().remove(0);
            if other == Racer::Does(Verb::Expire) {
                w.advance(4 * HOUR - 1);
            }
            let to = Subject {
                she: w.she(account),
                consent,
                renewals: Vec::new(),
            };
            let done = race(&w, &to, other).await;
            let moves = w.moves(&to.consent.name).await;
            let end = moves.iter().try_fold(State::Granted, |from, event| follow(from, event));
            let end = end.unwrap_or_else(|| panic!("misuse and {other:?}: {moves:?}"));
            assert_eq!(w.consent(&to.she, &to.consent.name).await.state(), end, "{other:?}");
            // It is reviewed once, and what the winner found holds.
            let found: Vec<_> = done.iter().filter(|racer| matches!(racer, Racer::Finds(_))).collect();
            let [Racer::Finds(found)] = found[..] else {
                panic!("misuse and {other:?}: {done:?}");
            };
            let is_open = [State::Granted, State::Paused].contains(&end);
            assert_eq!(is_open, *found == Outcome::Upheld, "{other:?}: {found:?} and {end:?}");
            let took_back = moves.iter().filter(|event| *event == Verb::Revoke.event()).count();
            assert!(took_back <= 1, "{other:?}: {moves:?}");
            if let Racer::Does(verb @ (Verb::Pause | Verb::Narrow)) = other {
                let told = done.iter().filter(|racer| **racer == other).count();
                let events = moves.iter().filter(|event| *event == verb.event()).count();
                assert_eq!((told, took_back), (events, 1), "{other:?}: {moves:?}");
            }
            // One opening of a professional is over before the next ones.
            w.advance(4 * HOUR);
        }
    });
}
