//! C1: every pair of verbs at once on one consent, on all replicas: one legal history, as everybody was told.

use std::sync::Arc;

use futures::future::join_all;
use sammati_api::consent::v1::consent::State;
use sammati_kernel::Reason;

use crate::verbs::{Subject, Verb};
use crate::world::{DAY, World, everywhere};

/// Callers of each verb.
const EACH: usize = 3;

/// Where an event leads, in a formulation of its own; `None` where it is no legal move.
pub(crate) fn follow(from: State, event: &str) -> Option<State> {
    let open = [State::Granted, State::Paused].contains(&from);
    match event {
        "consent.paused" if from == State::Granted => Some(State::Paused),
        "consent.resumed" if from == State::Paused => Some(State::Granted),
        "consent.modified" if open => Some(from),
        "consent.withdrawn" if open => Some(State::Revoked),
        "consent.superseded" if open => Some(State::Superseded),
        "consent.expired" if open => Some(State::Expired),
        _ => None,
    }
}

/// Whether a verb may be refused so because it lost to its pair.
fn is_loss(verb: Verb, pair: [Verb; 2], reason: Reason) -> bool {
    match (verb, reason) {
        (_, Reason::StateConflict) => true,
        // Another caller narrowed it to the same already: that one did is looked at below.
        (Verb::Narrow, Reason::FieldInvalid) => true,
        // What is renewed is narrower than what was asked for by now.
        (Verb::Renew, Reason::RenewalWider) => pair.contains(&Verb::Narrow),
        // The time to decide is over with that of the consent.
        (Verb::Renew, Reason::RequestExpired) => pair.contains(&Verb::Expire),
        _ => false,
    }
}

/// Lets both verbs loose, and tells how many of each were told that it was done.
async fn race(w: &Arc<World>, to: &Subject, pair: [Verb; 2]) -> [usize; 2] {
    let mut done = [0, 0];
    let racers = (0..2 * EACH).map(|n| {
        let (w, to, verb) = (Arc::clone(w), to.clone(), pair[n % 2]);
        tokio::spawn(async move {
            if verb == Verb::Expire && n < 2 {
                w.advance(1);
            }
            let done = w.act(&to, verb).await.unwrap_or_else(|refusal| {
                assert!(is_loss(verb, pair, refusal.reason), "{verb:?} of {pair:?}: {refusal:?}");
                false
            });
            (n % 2, done)
        })
    });
    for raced in join_all(racers).await {
        let (which, did) = raced.unwrap();
        done[which] += usize::from(did);
    }
    done
}

#[test]
fn c1_any_two_verbs_at_once_leave_one_legal_history() {
    everywhere(|w| async move {
        let mut n = 0;
        for paused in [false, true] {
            for (at, one) in Verb::ALL.into_iter().enumerate() {
                for other in Verb::ALL.into_iter().skip(at) {
                    n += 1;
                    let pair = [one, other];
                    let mut subject = w.subject(&format!("person{n:04}@sbx")).await;
                    if paused {
                        w.act(&subject, Verb::Pause).await.unwrap();
                    }
                    if pair.contains(&Verb::Expire) {
                        w.advance(DAY - 1);
                        subject.she = w.she(subject.she.account().unwrap());
                    }
                    let name = &subject.consent.name;
                    let before = w.moves(name).await.len();
                    let start = w.consent(&subject.she, name).await.state();
                    let done = race(&w, &subject, pair).await;
                    let moves = w.moves(name).await.split_off(before);
                    let end = moves.iter().try_fold(start, |from, event| follow(from, event));
                    let read = w.consent(&subject.she, name).await.state();
                    // What the clock has ended and nobody met yet reads EXPIRED all the same.
                    let end = end.unwrap_or_else(|| panic!("{pair:?} from {start:?}: {moves:?}"));
                    let overdue = read == State::Expired && [State::Granted, State::Paused].contains(&end);
                    assert!(
                        end == read || overdue,
                        "{pair:?} from {start:?}: {moves:?}, but reads {read:?}"
                    );
                    // Somebody wins where the graph lets anybody.
                    if pair.iter().any(|verb| follow(start, verb.event()).is_some()) {
                        assert!(!moves.is_empty(), "{pair:?} from {start:?}: nobody did anything");
                    }
                    // A scope is narrowed to the same once, and by one unless somebody ended it before.
                    let narrowed = moves.iter().filter(|event| *event == Verb::Narrow.event()).count();
                    let ends = [Verb::Revoke, Verb::Renew, Verb::Expire];
                    if pair.contains(&Verb::Narrow) {
                        let fewest = usize::from(!pair.iter().any(|verb| ends.contains(verb)));
                        assert!((fewest..=1).contains(&narrowed), "{pair:?} from {start:?}: {moves:?}");
                    }
                    if one == other && one != Verb::Expire {
                        assert_eq!(done[0] + done[1], moves.len(), "{pair:?} from {start:?}");
                    }
                    // Who finds that the clock has moved it was told nothing of a sweep.
                    for (verb, done) in pair.into_iter().zip(done) {
                        if verb != Verb::Expire && one != other {
                            let events = moves.iter().filter(|event| *event == verb.event()).count();
                            assert_eq!(done, events, "{pair:?} from {start:?}: told otherwise of {verb:?}");
                        }
                    }
                }
            }
        }
    });
}
