//! C1: every pair of state and verb has its outcome, and one that is refused leaves nothing.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent::State;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_consent::sweep;
use sammati_kernel::Reason;

use crate::verbs::{Subject, Verb};
use crate::world::{DAY, World, by, everywhere, participant, reason};

/// What a pair comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// The consent is in this state, by this verb.
    Moves(State),
    /// It answers, and nothing has changed.
    Stays,
    /// It is refused.
    Refused(Reason),
}

use To::{Moves, Refused, Stays};

/// The table: a row for each state, a column for each of [`Verb::ALL`].
const TABLE: [(State, [To; 6]); 5] = {
    const NO: To = Refused(Reason::StateConflict);
    [
        (
            State::Granted,
            [
                Moves(State::Paused),
                NO,
                Moves(State::Granted),
                Moves(State::Revoked),
                Moves(State::Superseded),
                Moves(State::Expired),
            ],
        ),
        (
            State::Paused,
            [
                NO,
                Moves(State::Granted),
                Moves(State::Paused),
                Moves(State::Revoked),
                Moves(State::Superseded),
                Moves(State::Expired),
            ],
        ),
        (State::Revoked, [NO, NO, NO, Stays, NO, Stays]),
        (State::Expired, [NO, NO, NO, Stays, NO, Stays]),
        (State::Superseded, [NO, NO, NO, NO, NO, Stays]),
    ]
};

/// A consent in this state, as its clock stands when it may be acted on.
async fn in_state(w: &std::sync::Arc<World>, n: usize, state: State, last: bool) -> Subject {
    let address = format!("person{n:04}@sbx");
    let mut subject = w.subject(&address).await;
    match state {
        State::Paused => assert_eq!(w.act(&subject, Verb::Pause).await, Ok(true)),
        State::Revoked => assert_eq!(w.act(&subject, Verb::Revoke).await, Ok(true)),
        State::Superseded => {
            assert_eq!(w.act(&subject, Verb::Renew).await, Ok(true));
            subject.renewals.pop();
        }
        _ => {}
    }
    if state == State::Expired || last {
        w.advance(DAY);
        subject.she = w.she(subject.she.account().unwrap());
    }
    if state == State::Expired {
        sweep::sweep(w.store()).await.unwrap();
    }
    subject
}

#[test]
fn c1_every_pair_of_state_and_verb_of_a_consent_has_its_outcome() {
    everywhere(|w| async move {
        let mut n = 0;
        for (from, outcomes) in TABLE {
            for (verb, expected) in Verb::ALL.into_iter().zip(outcomes) {
                n += 1;
                let subject = in_state(&w, n, from, verb == Verb::Expire).await;
                let (name, all) = (&subject.consent.name, w.events().await.len());
                let before = w.moves(name).await;
                let done = w.act(&subject, verb).await;
                let read = w.consent(&subject.she, name).await;
                let mut after = before.clone();
                match expected {
                    Moves(to) => {
                        assert_eq!((done, read.state()), (Ok(true), to), "{from:?} {verb:?}");
                        after.push(verb.event().to_owned());
                    }
                    Stays => assert_eq!((done, read.state()), (Ok(false), from), "{from:?} {verb:?}"),
                    Refused(why) => {
                        let refused = done.unwrap_err();
                        assert_eq!((refused.reason, read.state()), (why, from), "{from:?} {verb:?}");
                        let told = refused.metadata.iter().find(|(name, _)| *name == "state").unwrap();
                        assert_eq!(format!("STATE_{}", told.1), from.as_str_name());
                        assert_eq!(w.events().await.len(), all, "{from:?} {verb:?} left something");
                    }
                }
                assert_eq!(w.moves(name).await, after, "{from:?} {verb:?}");
            }
        }
    });
}

/// What may be done to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Approve,
    Deny,
    Cancel,
    Expire,
}

pub(crate) async fn act(w: &World, address: &str, request: &api::ConsentRequest, verb: Ask) -> Result<(), Reason> {
    let she = w.she(w.account(address));
    let done = match verb {
        Ask::Approve => w.approve(&she, w.approval(request)).await.map(drop),
        Ask::Deny => {
            let message = api::DenyConsentRequestRequest {
                name: request.name.clone(),
                request_id: w.request_id(),
                ..Default::default()
            };
            w.rpc().deny_consent_request(by(&she, message)).await.map(drop)
        }
        Ask::Cancel => w.cancel("clinic", &request.name).await.map(drop),
        Ask::Expire => {
            sweep::sweep(w.store()).await.unwrap();
            Ok(())
        }
    };
    done.map_err(|status| reason::<()>(Err(status)))
}

#[test]
fn c1_every_pair_of_state_and_verb_of_a_request_has_its_outcome() {
    everywhere(|w| async move {
        let verbs = [Ask::Approve, Ask::Deny, Ask::Cancel, Ask::Expire];
        let states = [
            Asked::Requested,
            Asked::Granted,
            Asked::Denied,
            Asked::Expired,
            Asked::Cancelled,
        ];
        let mut n = 0;
        for from in states {
            for verb in verbs {
                n += 1;
                let address = format!("person{n:04}@sbx");
                w.person(&address);
                let request = w.create(w.asks(&address)).await.unwrap();
                match from {
                    Asked::Granted => act(&w, &address, &request, Ask::Approve).await.unwrap(),
                    Asked::Denied => act(&w, &address, &request, Ask::Deny).await.unwrap(),
                    Asked::Cancelled => act(&w, &address, &request, Ask::Cancel).await.unwrap(),
                    _ => {}
                }
                if from == Asked::Expired || verb == Ask::Expire {
                    w.advance(7 * DAY);
                }
                if from == Asked::Expired {
                    sweep::sweep(w.store()).await.unwrap();
                }
                let expected = match (from, verb) {
                    (Asked::Requested, Ask::Approve) => Ok(Asked::Granted),
                    (Asked::Requested, Ask::Deny) => Ok(Asked::Denied),
                    (Asked::Requested, Ask::Cancel) => Ok(Asked::Cancelled),
                    (Asked::Requested, Ask::Expire) => Ok(Asked::Expired),
                    (_, Ask::Expire) => Ok(from),
                    (Asked::Expired, _) => Err(Reason::RequestExpired),
                    _ => Err(Reason::StateConflict),
                };
                let all = w.events().await.len();
                let done = act(&w, &address, &request, verb).await;
                let name = request.name.clone();
                let get = api::GetConsentRequestRequest { name };
                let read = w.rpc().get_consent_request(by(&participant("clinic"), get)).await;
                let state = read.unwrap().into_inner().state();
                match expected {
                    Ok(to) => assert_eq!((done, state), (Ok(()), to), "{from:?} {verb:?}"),
                    Err(why) => {
                        assert_eq!((done, state), (Err(why), from), "{from:?} {verb:?}");
                        assert_eq!(w.events().await.len(), all, "{from:?} {verb:?} left something");
                    }
                }
            }
        }
    });
}
