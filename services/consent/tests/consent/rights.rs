//! What she asks beside consent: answered in time or escalated by the clock, once, and told what law keeps.

use std::sync::Arc;

use futures::future::join_all;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::close_rights_request_request::Outcome;
use sammati_api::consent::v1::notification::Kind as Told;
use sammati_api::consent::v1::rights_request::{Kind, State};
use sammati_api::consent::v1::rights_service_server::RightsService;
use sammati_consent::sweep;
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::world::{DAY, World, by, everywhere, operator, participant, reason, refused};

pub(crate) fn asking(w: &World, kind: Kind, against: &str) -> api::CreateRightsRequestRequest {
    api::CreateRightsRequestRequest {
        kind: kind.into(),
        against: against.into(),
        text: "What do you hold of me?\nPlease say.".into(),
        about: Vec::new(),
        patient: "asha.rao@sbx".into(),
        request_id: w.request_id(),
    }
}

pub(crate) async fn ask(
    w: &World,
    she: &Caller,
    message: api::CreateRightsRequestRequest,
) -> Result<api::RightsRequest, Status> {
    w.rpc()
        .create_rights_request(by(she, message))
        .await
        .map(Response::into_inner)
}

pub(crate) async fn get(w: &World, caller: &Caller, name: &str) -> Result<api::RightsRequest, Status> {
    let message = api::GetRightsRequestRequest { name: name.into() };
    w.rpc()
        .get_rights_request(by(caller, message))
        .await
        .map(Response::into_inner)
}

pub(crate) async fn answer(
    w: &World,
    caller: &Caller,
    name: &str,
    erasure: Option<api::Erasure>,
) -> Result<api::RightsRequest, Status> {
    let message = api::AnswerRightsRequestRequest {
        name: name.into(),
        text: "Here it is".into(),
        erasure,
        etag: String::new(),
        request_id: w.request_id(),
    };
    w.rpc()
        .answer_rights_request(by(caller, message))
        .await
        .map(Response::into_inner)
}

async fn close(w: &World, caller: &Caller, name: &str, outcome: Outcome) -> Result<api::RightsRequest, Status> {
    let message = api::CloseRightsRequestRequest {
        name: name.into(),
        outcome: outcome.into(),
        etag: String::new(),
        request_id: w.request_id(),
    };
    w.rpc()
        .close_rights_request(by(caller, message))
        .await
        .map(Response::into_inner)
}

async fn list(w: &World, caller: &Caller, message: api::ListRightsRequestsRequest) -> Vec<String> {
    let page = w
        .rpc()
        .list_rights_requests(by(caller, message))
        .await
        .unwrap()
        .into_inner();
    page.rights_requests.into_iter().map(|r| r.name).collect()
}

/// How often somebody was told of it.
async fn told(w: &World, who: &Caller) -> usize {
    let all = w.notifications(who).await;
    all.iter().filter(|n| n.kind() == Told::RightsChanged).count()
}

#[test]
fn she_asks_it_is_answered_and_she_is_satisfied_or_goes_to_the_board() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let clinic = participant("clinic");
        for (outcome, state, event) in [
            (Outcome::Satisfied, State::Closed, "rights.closed"),
            (Outcome::ToBoard, State::Escalated, "rights.escalated"),
        ] {
            let message = asking(&w, Kind::Access, "participants/clinic");
            let asked = ask(&w, &she, message.clone()).await.unwrap();
            assert_eq!(ask(&w, &she, message).await.unwrap().name, asked.name, "a repeat");
            assert_eq!((asked.state(), &asked.due_time), (State::Open, &w.at(90 * DAY)));
            assert_eq!(asked.subject, she.account().unwrap().name());
            // Who is asked knows her by the address that she gave, and reads her words.
            let seen = get(&w, &clinic, &asked.name).await.unwrap();
            assert_eq!((seen.subject.as_str(), seen.patient.as_str()), ("", "asha.rao@sbx"));
            assert_eq!(seen.text, asked.text);
            assert_eq!(
                reason(close(&w, &she, &asked.name, outcome).await),
                Reason::StateConflict,
                "not answered"
            );
            let answered = answer(&w, &clinic, &asked.name, None).await.unwrap();
            assert_eq!(answered.state(), State::Answered);
            assert_eq!(
                reason(answer(&w, &clinic, &asked.name, None).await),
                Reason::StateConflict,
                "twice"
            );
            let read = get(&w, &she, &asked.name).await.unwrap().answer.unwrap();
            assert_eq!(
                (read.text.as_str(), read.answered_by.as_str()),
                ("Here it is", "participants/clinic")
            );
            assert!(read.erasure.is_none());
            let closed = close(&w, &she, &asked.name, outcome).await.unwrap();
            assert_eq!((closed.state(), closed.close_time), (state, w.at(0)));
            for outcome in [Outcome::Satisfied, Outcome::ToBoard] {
                assert_eq!(
                    reason(close(&w, &she, &asked.name, outcome).await),
                    Reason::StateConflict
                );
            }
            assert_eq!(w.count(event).await, 1);
        }
        assert_eq!(
            (w.count("rights.opened").await, w.count("rights.answered").await),
            (2, 2)
        );
        assert_eq!((told(&w, &clinic).await, told(&w, &she).await), (4, 2));
        assert_eq!(told(&w, &operator()).await, 1, "what goes to the Board");
    });
}

#[test]
fn what_nobody_answers_in_ninety_days_is_escalated_once_whoever_is_alive() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let clinic = participant("clinic");
        let late = ask(&w, &she, asking(&w, Kind::Grievance, "participants/clinic"))
            .await
            .unwrap();
        let met = ask(&w, &she, asking(&w, Kind::Correction, "participants/clinic"))
            .await
            .unwrap();
        let in_time = ask(&w, &she, asking(&w, Kind::Access, "participants/clinic"))
            .await
            .unwrap();
        w.advance(90 * DAY - 1);
        answer(&w, &clinic, &in_time.name, None).await.unwrap();
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(w.count("rights.escalated").await, 0);
        w.advance(1);
        // Everybody reads it before anybody wrote it.
        assert_eq!(get(&w, &she, &late.name).await.unwrap().state(), State::Escalated);
        // A command that meets it writes it, and is refused.
        assert_eq!(
            reason(answer(&w, &clinic, &met.name, None).await),
            Reason::StateConflict
        );
        assert_eq!(w.count("rights.escalated").await, 1);
        let sweeps = (0..8).map(|n| {
            let w = Arc::clone(&w);
            tokio::spawn(async move { sweep::sweep(&w.replicas[n % w.replicas.len()].1).await.unwrap() })
        });
        join_all(sweeps).await;
        assert_eq!(w.count("rights.escalated").await, 2, "each once");
        w.advance(3600);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(w.count("rights.escalated").await, 2);
        let read = get(&w, &she, &late.name).await.unwrap();
        assert_eq!((read.state(), &read.close_time), (State::Escalated, &late.due_time));
        assert_eq!(
            get(&w, &she, &in_time.name).await.unwrap().state(),
            State::Answered,
            "answered in time"
        );
        assert_eq!(told(&w, &operator()).await, 2);
    });
}

#[test]
fn an_erasure_is_told_what_law_keeps_and_nothing_else_is() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let clinic = participant("clinic");
        let asked = ask(&w, &she, asking(&w, Kind::Erasure, "participants/clinic"))
            .await
            .unwrap();
        let refusal = refused(answer(&w, &clinic, &asked.name, None).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(
            (refusal.reason, fields),
            (Reason::FieldInvalid, vec!["erasure".to_owned()])
        );
        let kept = api::KeptData {
            what: "records of consent".into(),
            law: "DPDP Rules 2025, First Schedule B 4(c)".into(),
            until_time: w.at(7 * 365 * DAY),
        };
        let erasure = api::Erasure { kept: vec![kept] };
        let unnamed = api::Erasure {
            kept: vec![api::KeptData::default()],
        };
        let refusal = refused(answer(&w, &clinic, &asked.name, Some(unnamed)).await);
        assert_eq!(
            (refusal.reason, refusal.violations.iter().count()),
            (Reason::FieldInvalid, 3)
        );
        answer(&w, &clinic, &asked.name, Some(erasure.clone())).await.unwrap();
        let read = get(&w, &she, &asked.name).await.unwrap();
        assert_eq!(read.answer.unwrap().erasure, Some(erasure.clone()));
        let access = ask(&w, &she, asking(&w, Kind::Access, "participants/clinic"))
            .await
            .unwrap();
        assert_eq!(
            reason(answer(&w, &clinic, &access.name, Some(erasure)).await),
            Reason::FieldInvalid
        );
    });
}

#[test]
fn z1_a_stranger_learns_nothing_and_each_sees_its_own() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let other = w.she(w.person("ravi.rao@sbx"));
        let one = ask(&w, &she, asking(&w, Kind::Access, "participants/clinic"))
            .await
            .unwrap()
            .name;
        w.advance(1);
        let ours = ask(&w, &she, asking(&w, Kind::Grievance, "")).await.unwrap().name;
        let (clinic, insurer) = (participant("clinic"), participant("insurer"));
        for stranger in [&other, &insurer] {
            assert_eq!(reason(get(&w, stranger, &one).await), Reason::NotAvailable);
        }
        assert_eq!(reason(answer(&w, &insurer, &one, None).await), Reason::NotAvailable);
        assert_eq!(
            reason(answer(&w, &operator(), &one, None).await),
            Reason::NotFound,
            "the clinic's to answer"
        );
        assert_eq!(
            reason(close(&w, &other, &one, Outcome::Satisfied).await),
            Reason::NotAvailable
        );
        assert_eq!(
            reason(close(&w, &clinic, &one, Outcome::Satisfied).await),
            Reason::NotAvailable
        );
        assert_eq!(list(&w, &she, Default::default()).await, [ours.clone(), one.clone()]);
        assert_eq!(list(&w, &clinic, Default::default()).await, [one.as_str()]);
        assert!(list(&w, &insurer, Default::default()).await.is_empty());
        let named = api::ListRightsRequestsRequest {
            subject: "accounts/1".into(),
            states: vec![State::Open.into(); 2],
            ..Default::default()
        };
        let refusal = refused(w.rpc().list_rights_requests(by(&she, named)).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!((refusal.reason, fields.len()), (Reason::FieldInvalid, 2), "{fields:?}");
        assert_eq!(
            list(&w, &operator(), Default::default()).await,
            [ours.clone(), one.clone()]
        );
        answer(&w, &operator(), &ours, None).await.unwrap();
        let open = api::ListRightsRequestsRequest {
            states: vec![State::Open.into()],
            ..Default::default()
        };
        assert_eq!(list(&w, &operator(), open).await, [one]);
        // An address that is not hers names somebody else.
        let theirs = api::CreateRightsRequestRequest {
            patient: "ravi.rao@sbx".into(),
            ..asking(&w, Kind::Access, "participants/clinic")
        };
        assert_eq!(reason(ask(&w, &she, theirs).await), Reason::FieldInvalid);
        let nobody = asking(&w, Kind::Access, "participants/nobody");
        assert_eq!(reason(ask(&w, &she, nobody).await), Reason::FieldInvalid);
    });
}

#[test]
fn fifty_that_are_not_settled_are_the_most() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let mut first = None;
        for _ in 0..50 {
            let asked = ask(&w, &she, asking(&w, Kind::Grievance, "")).await.unwrap();
            first.get_or_insert(asked.name);
        }
        let more = asking(&w, Kind::Grievance, "");
        assert_eq!(reason(ask(&w, &she, more.clone()).await), Reason::OpenLimit);
        answer(&w, &operator(), &first.clone().unwrap(), None).await.unwrap();
        close(&w, &she, &first.unwrap(), Outcome::Satisfied).await.unwrap();
        ask(&w, &she, more).await.unwrap();
    });
}
