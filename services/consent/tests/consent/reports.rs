//! What both ends say came of a transfer, and lists of transfers.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::transfer::State;
use sammati_api::consent::v1::transfer_context::Status as Delivery;
use sammati_api::consent::v1::transfer_report::Outcome;
use sammati_api::consent::v1::transfer_service_server::TransferService;
use sammati_api::types::v1 as types;
use sammati_consent::sweep;
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::transfers::{open, state, take_on, taking, told, uses, wanted};
use crate::world::{HOUR, World, by, everywhere, participant, reason, refused};

/// A report of `transfer`: these care contexts, each delivered or not.
pub(crate) fn report(
    w: &World,
    transfer: &api::Transfer,
    outcome: Outcome,
    contexts: &[(&str, bool)],
) -> api::ReportTransferRequest {
    let context = |(reference, delivered): &(&str, bool)| api::TransferContext {
        care_context_reference: (*reference).to_owned(),
        status: if *delivered {
            Delivery::Delivered
        } else {
            Delivery::Errored
        }
        .into(),
        description: "as it went".into(),
    };
    let report = api::TransferReport {
        outcome: outcome.into(),
        contexts: contexts.iter().map(context).collect(),
        bytes: 2048,
        pages: 1,
        report_time: None,
    };
    api::ReportTransferRequest {
        name: transfer.name.clone(),
        report: Some(report),
        etag: String::new(),
        request_id: w.request_id(),
    }
}

pub(crate) async fn say(w: &World, who: &str, message: api::ReportTransferRequest) -> Result<api::Transfer, Status> {
    w.rpc()
        .report_transfer(by(&participant(who), message))
        .await
        .map(Response::into_inner)
}

/// A transfer of Asha's, taken on by the hospital, who has visits 1 and 2 of hers.
async fn taken(w: &World, max_uses: i32) -> (Caller, api::Consent, api::Transfer) {
    let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = max_uses).await;
    w.linked("asha.rao@sbx", &["visit-1", "visit-2"]).await;
    let opened = open(w, "clinic", wanted(w, &consent.name)).await.unwrap();
    let transfer = take_on(w, "hospital", taking(w, &opened)).await.unwrap();
    (she, consent, transfer)
}

#[test]
fn both_ends_report_and_both_words_are_kept() {
    everywhere(|w| async move {
        let (she, consent, transfer) = taken(&w, 2).await;
        let pushed = report(
            &w,
            &transfer,
            Outcome::Transferred,
            &[("visit-1", true), ("visit-2", true)],
        );
        let sent = say(&w, "hospital", pushed.clone()).await.unwrap();
        assert_eq!(sent.state(), State::Transferred);
        let again = say(&w, "hospital", pushed).await.unwrap();
        assert_eq!((again.state(), again.etag), (State::Transferred, sent.etag));
        // The clinic got one of two: the difference shows.
        let received = report(
            &w,
            &transfer,
            Outcome::Received,
            &[("visit-1", true), ("visit-2", false)],
        );
        let done = say(&w, "clinic", received).await.unwrap();
        assert_eq!(done.state(), State::Received);
        let (hip, hiu) = (done.hip_report.unwrap(), done.hiu_report.unwrap());
        assert_eq!(
            (hip.outcome(), hiu.outcome()),
            (Outcome::Transferred, Outcome::Received)
        );
        assert_eq!(
            (hip.contexts[1].status(), hiu.contexts[1].status()),
            (Delivery::Delivered, Delivery::Errored)
        );
        assert!(hip.report_time.is_some() && hip.bytes == 2048);
        let disclosed = told(&w, "data.disclosed").await;
        let payload = disclosed[0].payload.as_ref().unwrap();
        assert_eq!(
            (payload.consent.as_str(), payload.counts.unwrap().records),
            (consent.name.as_str(), 2)
        );
        assert_eq!(told(&w, "data.received").await.len(), 1);
        assert_eq!(w.count("data.use_returned").await, 0);
        assert_eq!(uses(&w, &she, &consent.name).await, 1);
        // It is over: neither the clock nor anybody moves it.
        w.advance(3 * HOUR);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(state(&w, &she, &transfer).await, State::Received);
        let kinds = |all: Vec<api::Notification>| {
            all.iter()
                .filter(|n| n.resource == transfer.name)
                .map(api::Notification::kind)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            kinds(w.notifications(&participant("clinic")).await),
            [Kind::TransferAcknowledged, Kind::TransferReported]
        );
        assert_eq!(
            kinds(w.notifications(&participant("hospital")).await),
            [Kind::TransferRequested, Kind::TransferReported]
        );
    });
}

#[test]
fn a_hip_that_speaks_after_the_hiu_is_still_heard_and_nobody_speaks_twice() {
    everywhere(|w| async move {
        let (_, _, transfer) = taken(&w, 0).await;
        let received = report(&w, &transfer, Outcome::Received, &[("visit-1", true)]);
        assert_eq!(say(&w, "clinic", received).await.unwrap().state(), State::Received);
        let late = report(&w, &transfer, Outcome::Transferred, &[("visit-1", true)]);
        let done = say(&w, "hospital", late).await.unwrap();
        assert_eq!(done.state(), State::Received);
        assert!(done.hip_report.is_some() && done.hiu_report.is_some());
        for (who, outcome) in [
            ("hospital", Outcome::Transferred),
            ("clinic", Outcome::Received),
            ("clinic", Outcome::Failed),
        ] {
            let message = report(&w, &transfer, outcome, &[("visit-1", true)]);
            let conflict = refused(say(&w, who, message).await);
            assert_eq!(conflict.reason, Reason::StateConflict, "{who} {outcome:?}");
            assert_eq!(conflict.metadata, [("state", "RECEIVED".to_owned())]);
        }
    });
}

#[test]
fn c2_a_use_comes_back_by_the_word_of_whom_would_know_and_only_if_nothing_was_delivered() {
    everywhere(|w| async move {
        let (she, consent, transfer) = taken(&w, 1).await;
        // The HIP took it on and sent nothing: the use is free again.
        let failed = report(&w, &transfer, Outcome::Failed, &[("visit-1", false)]);
        assert_eq!(say(&w, "hospital", failed).await.unwrap().state(), State::Failed);
        assert_eq!(uses(&w, &she, &consent.name).await, 0);
        let failed = told(&w, "data.failed").await;
        assert_eq!(
            told(&w, "data.use_returned").await[0].causation_event_id,
            failed[0].event_id
        );
        // A part was delivered: it stays taken.
        let second = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        assert_eq!(second.r#use, 1);
        take_on(&w, "hospital", taking(&w, &second)).await.unwrap();
        let part = report(&w, &second, Outcome::Failed, &[("visit-1", true), ("visit-2", false)]);
        say(&w, "hospital", part).await.unwrap();
        assert_eq!(
            (uses(&w, &she, &consent.name).await, w.count("data.use_returned").await),
            (1, 1)
        );
    });
}

#[test]
fn c2_the_receivers_word_alone_makes_no_limit_unlimited() {
    everywhere(|w| async move {
        let (she, consent, transfer) = taken(&w, 1).await;
        let nothing = report(&w, &transfer, Outcome::Failed, &[]);
        assert_eq!(say(&w, "clinic", nothing).await.unwrap().state(), State::Failed);
        assert_eq!(
            (uses(&w, &she, &consent.name).await, w.count("data.use_returned").await),
            (1, 0)
        );
        assert_eq!(
            reason(open(&w, "clinic", wanted(&w, &consent.name)).await),
            Reason::UseLimitReached
        );
        // Before anybody took it on nothing can have flowed.
        let (she, consent) = w.granted("ravi.kumar@sbx", |scope| scope.max_uses = 1).await;
        let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        say(&w, "clinic", report(&w, &opened, Outcome::Failed, &[]))
            .await
            .unwrap();
        assert_eq!(
            (uses(&w, &she, &consent.name).await, w.count("data.use_returned").await),
            (0, 1)
        );
    });
}

#[test]
fn a_report_is_of_its_own_end_about_care_contexts_of_the_consent() {
    everywhere(|w| async move {
        let (_, _, transfer) = taken(&w, 0).await;
        let fields = |refusal: sammati_kernel::Refusal| {
            refusal
                .violations
                .iter()
                .map(|v| v.field.to_string())
                .collect::<Vec<_>>()
        };
        let swapped = report(&w, &transfer, Outcome::Received, &[("visit-1", true)]);
        assert_eq!(fields(refused(say(&w, "hospital", swapped).await)), ["report.outcome"]);
        let empty = report(&w, &transfer, Outcome::Transferred, &[("visit-1", false)]);
        assert_eq!(fields(refused(say(&w, "hospital", empty).await)), ["report.contexts"]);
        let unknown = report(
            &w,
            &transfer,
            Outcome::Transferred,
            &[("visit-1", true), ("visit-9", true)],
        );
        let refusal = refused(say(&w, "hospital", unknown).await);
        assert_eq!(refusal.reason, Reason::ContextUnknown);
        assert_eq!(refusal.metadata, [("position", "1".to_owned())]);
        for who in ["lab", "insurer"] {
            let outcome = if who == "lab" {
                Outcome::Transferred
            } else {
                Outcome::Received
            };
            let message = report(&w, &transfer, outcome, &[("visit-1", true)]);
            assert_eq!(reason(say(&w, who, message).await), Reason::NotAvailable);
        }
        let stale = api::ReportTransferRequest {
            etag: "\"1\"".into(),
            ..report(&w, &transfer, Outcome::Transferred, &[("visit-1", true)])
        };
        assert_eq!(reason(say(&w, "hospital", stale).await), Reason::EtagMismatch);
        assert_eq!(w.count("data.disclosed").await, 0);
    });
}

#[test]
fn what_flowed_before_a_narrowing_is_reported_as_it_was() {
    everywhere(|w| async move {
        let (she, consent, transfer) = taken(&w, 0).await;
        let both = [("visit-1", true), ("visit-2", true)];
        say(&w, "hospital", report(&w, &transfer, Outcome::Transferred, &both))
            .await
            .unwrap();
        let mut scope = consent.scope.clone().unwrap();
        scope.care_contexts = vec![types::CareContextRef {
            care_context_reference: "visit-1".into(),
            ..Default::default()
        }];
        w.narrow(&she, &consent.name, scope).await.unwrap();
        // What was never hers there is still refused.
        let unknown = report(&w, &transfer, Outcome::Received, &[("visit-9", true)]);
        assert_eq!(reason(say(&w, "clinic", unknown).await), Reason::ContextUnknown);
        let received = say(&w, "clinic", report(&w, &transfer, Outcome::Received, &both)).await;
        assert_eq!(received.unwrap().state(), State::Received);
        // Under the new grant its scope is what counts.
        w.acknowledge_all("hospital").await;
        let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        take_on(&w, "hospital", taking(&w, &opened)).await.unwrap();
        let wider = report(&w, &opened, Outcome::Transferred, &both);
        assert_eq!(reason(say(&w, "hospital", wider).await), Reason::ContextUnknown);
    });
}

#[test]
fn every_pair_of_state_and_report_is_taken_or_refused_by_the_graph() {
    everywhere(|w| async move {
        let words = [
            ("hospital", Outcome::Transferred),
            ("clinic", Outcome::Received),
            ("clinic", Outcome::Failed),
            ("hospital", Outcome::Failed),
        ];
        // From each state the states after each word; `None`: refused.
        let edges = [
            (State::Requested, [None, None, Some(State::Failed), Some(State::Failed)]),
            (
                State::Acknowledged,
                [
                    Some(State::Transferred),
                    Some(State::Received),
                    Some(State::Failed),
                    Some(State::Failed),
                ],
            ),
            (
                State::Transferred,
                [None, Some(State::Received), Some(State::Failed), None],
            ),
            (State::Received, [Some(State::Received), None, None, None]),
            (State::Failed, [None, None, None, None]),
            (State::Cancelled, [None, None, None, None]),
            (State::Expired, [None, None, None, None]),
        ];
        for (n, (from, afters)) in edges.into_iter().enumerate() {
            for (m, ((who, outcome), after)) in words.into_iter().zip(afters).enumerate() {
                let address = format!("person{n}{m}.x@sbx");
                let (she, consent) = w.granted(&address, |_| {}).await;
                w.linked(&address, &[&format!("visit-{n}{m}")]).await;
                let context = format!("visit-{n}{m}");
                let context = [(context.as_str(), true)];
                let opened = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
                if !matches!(from, State::Requested | State::Cancelled | State::Expired) {
                    take_on(&w, "hospital", taking(&w, &opened)).await.unwrap();
                }
                match from {
                    State::Transferred => {
                        let message = report(&w, &opened, Outcome::Transferred, &context);
                        say(&w, "hospital", message).await.unwrap();
                    }
                    State::Received => {
                        let message = report(&w, &opened, Outcome::Received, &context);
                        say(&w, "clinic", message).await.unwrap();
                    }
                    State::Failed => {
                        say(&w, "hospital", report(&w, &opened, Outcome::Failed, &context))
                            .await
                            .unwrap();
                    }
                    State::Cancelled => {
                        w.revoke(&she, &[&consent.name]).await.unwrap();
                    }
                    State::Expired => w.advance(20 * 60),
                    _ => {}
                }
                assert_eq!(state(&w, &she, &opened).await, from);
                let said = say(&w, who, report(&w, &opened, outcome, &context)).await;
                match after {
                    Some(after) => assert_eq!(said.unwrap().state(), after, "{from:?} {outcome:?}"),
                    None => {
                        assert_eq!(reason(said), Reason::StateConflict, "{from:?} {outcome:?}");
                        assert_eq!(state(&w, &she, &opened).await, from);
                    }
                }
            }
        }
    });
}

#[test]
fn each_side_lists_its_transfers_and_nobody_elses() {
    everywhere(|w| async move {
        let (she, _, first) = taken(&w, 0).await;
        let (_, other) = w.granted("ravi.kumar@sbx", |_| {}).await;
        let second = open(&w, "clinic", wanted(&w, &other.name)).await.unwrap();
        let list = async |who: &Caller, change: &dyn Fn(&mut api::ListTransfersRequest)| {
            let mut message = api::ListTransfersRequest::default();
            change(&mut message);
            let listed = w.rpc().list_transfers(by(who, message)).await.unwrap().into_inner();
            listed.transfers.into_iter().map(|t| t.name).collect::<Vec<_>>()
        };
        for who in ["hospital", "clinic"] {
            let mut all = list(&participant(who), &|_| {}).await;
            all.sort();
            let mut both = vec![first.name.clone(), second.name.clone()];
            both.sort();
            assert_eq!(all, both);
        }
        assert_eq!(list(&she, &|_| {}).await, std::slice::from_ref(&first.name));
        assert!(list(&participant("lab"), &|_| {}).await.is_empty());
        let requested = |m: &mut api::ListTransfersRequest| m.states = vec![State::Requested.into()];
        assert_eq!(
            list(&participant("clinic"), &requested).await,
            std::slice::from_ref(&second.name)
        );
        let under = |m: &mut api::ListTransfersRequest| m.consent = other.name.clone();
        assert_eq!(
            list(&participant("hospital"), &under).await,
            std::slice::from_ref(&second.name)
        );
        // By the clock of now, written or not.
        w.advance(20 * 60);
        let expired = |m: &mut api::ListTransfersRequest| m.states = vec![State::Expired.into()];
        assert_eq!(list(&participant("clinic"), &expired).await, [second.name]);
    });
}
