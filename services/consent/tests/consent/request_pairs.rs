//! C1: every pair of verbs at once on one request, on all replicas: one of them decides it, and everybody is told so.

use std::sync::Arc;

use futures::future::join_all;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request::State;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_kernel::Reason;

use crate::graph::{Ask, act};
use crate::world::{DAY, World, by, everywhere, participant};

/// Callers of each verb.
const EACH: usize = 3;

const VERBS: [Ask; 4] = [Ask::Approve, Ask::Deny, Ask::Cancel, Ask::Expire];

/// What tells that a verb was done, and where it leads.
const fn told(verb: Ask) -> (&'static str, State) {
    match verb {
        Ask::Approve => ("consent.granted", State::Granted),
        Ask::Deny => ("consent.denied", State::Denied),
        Ask::Cancel => ("consent.request_cancelled", State::Cancelled),
        Ask::Expire => ("consent.request_expired", State::Expired),
    }
}

/// Lets both verbs loose; tells what came of each call.
async fn race(
    w: &Arc<World>,
    address: &str,
    request: &api::ConsentRequest,
    pair: [Ask; 2],
) -> Vec<(Ask, Result<(), Reason>)> {
    let racers = (0..2 * EACH).map(|n| {
        let (w, address, request, verb) = (Arc::clone(w), address.to_owned(), request.clone(), pair[n % 2]);
        tokio::spawn(async move {
            if verb == Ask::Expire && n < 2 {
                w.advance(1);
            }
            (verb, act(&w, &address, &request, verb).await)
        })
    });
    join_all(racers).await.into_iter().map(Result::unwrap).collect()
}

/// The verbs that the feed says were done to a request.
async fn done_to(w: &World, request: &str) -> Vec<Ask> {
    let events = w.events().await;
    let mut done = Vec::new();
    for event in &events {
        let payload = event.payload.as_ref().unwrap();
        let names = payload.resource == request || payload.object_refs.iter().any(|name| name == request);
        let verb = VERBS.into_iter().find(|verb| told(*verb).0 == event.event_type);
        done.extend(verb.filter(|_| names));
    }
    done
}

#[test]
fn c1_any_two_verbs_at_once_decide_a_request_once() {
    everywhere(|w| async move {
        let mut n = 0;
        for (at, one) in VERBS.into_iter().enumerate() {
            for other in VERBS.into_iter().skip(at) {
                n += 1;
                let (pair, address) = ([one, other], format!("person{n:04}@sbx"));
                w.person(&address);
                let request = w.create(w.asks(&address)).await.unwrap();
                if pair.contains(&Ask::Expire) {
                    w.advance(7 * DAY - 1);
                }
                let raced = race(&w, &address, &request, pair).await;
                let done = done_to(&w, &request.name).await;
                let [winner] = done[..] else {
                    panic!("{pair:?} was decided by {done:?}");
                };
                assert!(pair.contains(&winner), "{pair:?} was decided by {winner:?}");
                let name = request.name.clone();
                let get = api::GetConsentRequestRequest { name };
                let read = w.rpc().get_consent_request(by(&participant("clinic"), get)).await;
                assert_eq!(read.unwrap().into_inner().state(), told(winner).1, "{pair:?}");
                // A sweep is told nothing; of all others one is told that it was done, if one did it.
                let callers = raced.iter().filter(|(verb, _)| *verb != Ask::Expire);
                let (won, lost): (Vec<_>, Vec<_>) = callers.partition(|(_, told)| told.is_ok());
                let won: Vec<_> = won.iter().map(|(verb, _)| *verb).collect();
                match winner {
                    Ask::Expire => assert!(won.is_empty(), "{pair:?}: {won:?}"),
                    winner => assert_eq!(won, [winner], "{pair:?}"),
                }
                let by_clock = (winner == Ask::Expire).then_some(Reason::RequestExpired);
                let why = by_clock.unwrap_or(Reason::StateConflict);
                assert!(lost.iter().all(|(_, told)| *told == Err(why)), "{pair:?}: {lost:?}");
            }
        }
    });
}
