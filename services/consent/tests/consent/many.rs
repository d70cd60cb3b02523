//! Many questions at once, on a stream, and in part.

use futures::StreamExt;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Reason, Slot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Response, Status};

use crate::deciding::question;
use crate::world::{DAY, World, by, everywhere, participant, reason, refused};

async fn batch(
    w: &World,
    who: &Caller,
    checks: Vec<api::CheckAccessRequest>,
) -> Result<api::BatchCheckAccessResponse, Status> {
    let message = api::BatchCheckAccessRequest {
        checks,
        consistency: None,
    };
    w.rpc()
        .batch_check_access(by(who, message))
        .await
        .map(Response::into_inner)
}

#[test]
fn a_batch_answers_in_order_with_one_revision_for_each_person() {
    everywhere(|w| async move {
        let (_, first) = w.granted("asha.rao@sbx", |_| {}).await;
        let (she, second) = w.granted("ravi.kumar@sbx", |_| {}).await;
        w.revoke(&she, &[&second.name]).await.unwrap();
        let mut checks = Vec::new();
        for n in 0..250 {
            let name = if n % 3 == 0 { &second.name } else { &first.name };
            checks.push(question(&w, name).check());
            checks.push(question(&w, name).of("asha.rao@sbx", "clinic", "hospital").check());
        }
        let decisions = batch(&w, &participant("hospital"), checks).await.unwrap().decisions;
        assert_eq!(decisions.len(), 500);
        for (n, pair) in decisions.chunks(2).enumerate() {
            let expected = if n % 3 == 0 { Why::ConsentRevoked } else { Why::Granted };
            assert_eq!((pair[0].reason(), pair[1].reason()), (expected, Why::Granted), "{n}");
        }
        let of = |name: &str| {
            let mut all: Vec<_> = decisions
                .iter()
                .filter(|d| d.consent == name)
                .map(|d| &d.revision)
                .collect();
            all.dedup();
            all.len()
        };
        assert_eq!((of(&first.name), of(&second.name)), (1, 1));
    });
}

#[test]
fn z1_what_is_denied_without_a_consent_does_not_tell_where_she_is_or_whether() {
    everywhere(|w| async move {
        let people: Vec<_> = (0..12).map(|n| format!("somebody{n:02}@sbx")).collect();
        for address in &people[..6] {
            w.person(address);
        }
        let asks = |address: &String| question(&w, "").of(address, "insurer", "hospital");
        let checks = people.iter().map(|address| asks(address).check()).collect();
        let denied = batch(&w, &participant("insurer"), checks).await.unwrap().decisions;
        assert!(
            denied
                .iter()
                .all(|d| d.reason() == Why::NoConsent && d.revision == denied[0].revision)
        );
        let mut ids: Vec<_> = denied.into_iter().map(|d| d.decision_id).collect();
        for address in &people {
            let authorize = asks(address).authorize(w.request_id());
            let told = w.rpc().authorize_access(by(&participant("insurer"), authorize)).await;
            ids.push(told.unwrap().into_inner().decision_id);
        }
        // Those about nobody are recorded at the asker's: their ids say no more of it than hers do of where she is.
        let own = Slot::of_participant("insurer");
        let slot = |id: &String| {
            uuid::Uuid::parse_str(id).map(|id| u16::from_be_bytes([id.as_bytes()[6], id.as_bytes()[7]]) & 0xfff)
        };
        assert!(ids.iter().filter(|id| slot(id) == Ok(own.number())).count() <= 2);
    });
}

#[test]
fn one_bad_question_fails_a_batch_and_is_named() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let good = question(&w, &consent.name).check();
        let mut bad = good.clone();
        (bad.purpose, bad.hi_types) = (0, Vec::new());
        let hospital = participant("hospital");
        let refusal = refused(batch(&w, &hospital, vec![good.clone(), good.clone(), bad]).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(fields, ["checks[2].purpose", "checks[2].hi_types"]);
        let mut own = good.clone();
        own.consistency = Some(api::check_access_request::Consistency::FullyConsistent(true));
        assert_eq!(reason(batch(&w, &hospital, vec![own]).await), Reason::FieldInvalid);
        let foreign = question(&w, &consent.name).of("asha.rao@sbx", "insurer", "lab").check();
        let refusal = refused(batch(&w, &hospital, vec![good.clone(), foreign]).await);
        assert_eq!(refusal.reason, Reason::NotAvailable);
        assert!(refusal.message.starts_with("checks[1]"), "{}", refusal.message);
        // A person's own question, and one about somebody else.
        let (she, theirs) = w.granted("ravi.kumar@sbx", |_| {}).await;
        let own = question(&w, &theirs.name).check();
        let refusal = refused(batch(&w, &she, vec![own, good.clone()]).await);
        assert_eq!(refusal.reason, Reason::NotAvailable);
        assert!(refusal.message.starts_with("checks[1]"), "{}", refusal.message);
        assert_eq!(reason(batch(&w, &hospital, vec![good; 501]).await), Reason::BatchLimit);
        assert_eq!(reason(batch(&w, &hospital, Vec::new()).await), Reason::FieldInvalid);
    });
}

fn numbered(check: &api::CheckAccessRequest, seqs: std::ops::Range<i64>) -> api::StreamCheckAccessRequest {
    let numbered = seqs.map(|seq| api::NumberedCheck {
        seq,
        check: Some(check.clone()),
    });
    api::StreamCheckAccessRequest {
        checks: numbered.collect(),
        consistency: None,
    }
}

#[test]
fn c4_a_stream_answers_with_the_numbers_and_sees_a_revoke_that_returned() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let check = question(&w, &consent.name).check();
        let (to, asked) = tokio::sync::mpsc::unbounded_channel();
        let mut answers = w
            .rpc()
            .answer(participant("hospital"), UnboundedReceiverStream::new(asked));
        let mut ask = async |seqs: std::ops::Range<i64>| {
            to.send(Ok(numbered(&check, seqs))).unwrap();
            answers.next().await.unwrap().unwrap().decisions
        };
        for from in [0, 100, 7000] {
            let decisions = ask(from..from + 100).await;
            let seqs: Vec<_> = decisions.iter().map(|d| d.seq).collect();
            assert_eq!(seqs, (from..from + 100).collect::<Vec<_>>());
            assert!(
                decisions
                    .iter()
                    .all(|d| d.decision.as_ref().unwrap().outcome() == Outcome::Permit)
            );
        }
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let decisions = ask(0..500).await;
        let why = |d: &api::NumberedDecision| d.decision.as_ref().unwrap().reason();
        assert!(decisions.iter().all(|d| why(d) == Why::ConsentRevoked));
        drop(to);
        assert!(answers.next().await.is_none(), "it ends with the client's half");
    });
}

#[test]
fn a_stream_ends_with_what_it_refuses_and_when_too_much_is_unanswered() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let check = question(&w, &consent.name).check();
        let ask = |messages: Vec<api::StreamCheckAccessRequest>| {
            let asked = futures::stream::iter(messages.into_iter().map(Ok));
            w.rpc().answer(participant("hospital"), asked)
        };
        let bad = api::CheckAccessRequest::default();
        let mut answers = ask(vec![numbered(&bad, 0..1), numbered(&check, 0..1)]);
        let refusal = refused(answers.next().await.unwrap());
        assert!(refusal.violations.iter().any(|v| v.field == "checks[0].check.purpose"));
        assert!(answers.next().await.is_none());
        // Nobody reads before all is sent: the third message is one too many. It ends the stream while the client would go on.
        let (to, asked) = tokio::sync::mpsc::unbounded_channel();
        let mut answers = w
            .rpc()
            .answer(participant("hospital"), UnboundedReceiverStream::new(asked));
        for seqs in [0..500, 500..1000, 0..25] {
            to.send(Ok(numbered(&check, seqs))).unwrap();
        }
        let limit = std::time::Duration::from_secs(20);
        tokio::time::timeout(limit, to.closed()).await.expect("it is ended");
        // What was decided before may still be answered.
        let mut refusal = None;
        while let Some(answer) = answers.next().await {
            assert!(refusal.is_none(), "an answer after the end");
            refusal = answer.err();
        }
        let refusal = refused::<()>(Err(refusal.expect("it is refused")));
        assert!(refusal.reason == Reason::StreamWindow && refusal.retry_after.is_some());
    });
}

#[test]
fn c3_a_reduced_permit_is_what_is_granted_of_what_was_asked() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        w.linked("asha.rao@sbx", &["visit-1", "visit-2"]).await;
        let she = w.she(w.account("asha.rao@sbx"));
        let mut ask = w.asks("asha.rao@sbx");
        let context = |reference: &str| types::CareContextRef {
            care_context_reference: reference.to_owned(),
            ..Default::default()
        };
        ask.scope.as_mut().unwrap().care_contexts = vec![context("visit-1")];
        let request = w.create(ask).await.unwrap();
        let consent = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
        let mut wide = question(&w, &consent.name).check();
        wide.hi_types.push(types::HiType::Invoice.into());
        wide.record_range.as_mut().unwrap().from = w.at(-900 * DAY);
        wide.care_contexts = vec![context("visit-2"), context("visit-1")];
        let hospital = participant("hospital");
        let check = async |message: api::CheckAccessRequest| {
            w.rpc().check_access(by(&hospital, message)).await.unwrap().into_inner()
        };
        assert_eq!(check(wide.clone()).await.reason(), Why::HiTypeNotGranted);
        wide.allow_reduced = true;
        let reduced = check(wide.clone()).await;
        assert_eq!(
            (reduced.outcome(), reduced.reason()),
            (Outcome::Permit, Why::GrantedReduced)
        );
        let part = reduced.part.clone().unwrap();
        assert_eq!(part.hi_types, [i32::from(types::HiType::Prescription)]);
        assert_eq!(
            part.record_range.unwrap().from,
            consent.scope.as_ref().unwrap().record_range.unwrap().from
        );
        assert_eq!(part.care_contexts, ["visit-1"]);
        // As a command, and its repeat.
        let message = crate::deciding::Asked::from(wide.clone()).authorize(w.request_id());
        let first = w
            .rpc()
            .authorize_access(by(&hospital, message.clone()))
            .await
            .unwrap()
            .into_inner();
        let again = w
            .rpc()
            .authorize_access(by(&hospital, message))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (first.part.as_ref(), first.part.as_ref()),
            (reduced.part.as_ref(), again.part.as_ref())
        );
        wide.hi_types = vec![types::HiType::Invoice.into()];
        assert_eq!(check(wide).await.reason(), Why::HiTypeNotGranted);
        let mut whole = question(&w, &consent.name).check();
        whole.allow_reduced = true;
        let whole = check(whole).await;
        assert_eq!((whole.reason(), whole.part), (Why::Granted, None));
    });
}
