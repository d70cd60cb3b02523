//! Why, and who can.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent::State;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::explain_access_request::{Basis, Hypothetical};
use sammati_api::consent::v1::policy::Effect;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::deciding::question;
use crate::world::{DAY, HOUR, World, by, everywhere, operator, participant, reason, refused};

async fn explain(
    w: &World,
    who: &Caller,
    check: api::CheckAccessRequest,
    basis: Option<Basis>,
) -> Result<api::ExplainAccessResponse, Status> {
    let legal_basis = if *who == operator() {
        "Order 12".to_owned()
    } else {
        String::new()
    };
    let message = api::ExplainAccessRequest {
        check: Some(check),
        basis,
        legal_basis,
    };
    w.rpc().explain_access(by(who, message)).await.map(Response::into_inner)
}

#[test]
fn an_explanation_tells_every_rule_and_decides_nothing() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 1).await;
        let check = question(&w, &consent.name).check();
        for who in [&she, &participant("hospital"), &participant("clinic"), &operator()] {
            let told = explain(&w, who, check.clone(), None).await.unwrap();
            assert_eq!(
                (told.outcome(), told.reason(), told.rule),
                (Outcome::Permit, Why::Granted, 0)
            );
            let candidate = &told.candidates[0];
            assert!(candidate.chosen && candidate.consent == consent.name && candidate.rules.iter().all(|r| r.holds));
            let numbers: Vec<_> = candidate.rules.iter().map(|r| r.number).collect();
            assert_eq!(
                numbers,
                [2, 3, 5, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21]
            );
        }
        let mut other = check.clone();
        other.purpose = types::PurposeCode::Hpaymt.into();
        other.hi_types = vec![types::HiType::Invoice.into()];
        let told = explain(&w, &she, other, None).await.unwrap();
        assert_eq!((told.reason(), told.rule), (Why::PurposeNotGranted, 13));
        let failed: Vec<_> = told.candidates[0].rules.iter().filter(|r| !r.holds).collect();
        let told: Vec<_> = failed
            .iter()
            .map(|r| (r.number, r.asked.as_str(), r.found.as_str()))
            .collect();
        assert_eq!(told[0], (13, "HPAYMT", "CAREMGT"));
        assert_eq!(told[1].0, 15);
        assert_eq!(
            reason(
                explain(
                    &w,
                    &participant("lab"),
                    question(&w, &consent.name)
                        .of("asha.rao@sbx", "clinic", "hospital")
                        .check(),
                    None
                )
                .await
            ),
            Reason::NotAvailable
        );
        // To a stranger it is as if it were not there.
        let stranger = explain(&w, &participant("lab"), check.clone(), None).await.unwrap();
        assert_eq!((stranger.reason(), stranger.candidates.len()), (Why::NoConsent, 0));
        let other = w.she(w.person("ravi.kumar@sbx"));
        assert_eq!(reason(explain(&w, &other, check, None).await), Reason::NotAvailable);
        w.replicas[0].0.flush_denials(true).await;
        let written = (w.count("access.denied").await, w.count("access.explained").await);
        assert_eq!(written, (0, 1), "only the operator's look is written");
        assert_eq!(w.consent(&she, &consent.name).await.uses.unwrap().count, 0);
    });
}

#[test]
fn an_explanation_tells_what_will_be_and_what_would_be() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let check = question(&w, &consent.name).check();
        let later = |seconds| w.at(seconds).map(Basis::AsOfTime);
        let at = async |basis| explain(&w, &she, check.clone(), basis).await.unwrap().reason();
        assert_eq!(at(later(29 * DAY)).await, Why::Granted);
        assert_eq!(at(later(30 * DAY)).await, Why::ConsentExpired);
        w.pause_until(&she, &consent.name, w.at(HOUR)).await.unwrap();
        assert_eq!(
            (at(None).await, at(later(HOUR)).await),
            (Why::ConsentPaused, Why::Granted)
        );
        let past = refused(explain(&w, &she, check.clone(), later(-1)).await);
        assert_eq!((past.reason, past.violations.iter().count()), (Reason::FieldInvalid, 1));
        // What a grant would allow, before she gives it.
        let asked = question(&w, &consent.name).of("asha.rao@sbx", "insurer", "lab").check();
        let grant = |kind: types::HiType| Hypothetical {
            hip: "participants/lab".into(),
            hiu: "participants/insurer".into(),
            scope: Some(types::Scope {
                hi_types: vec![kind.into()],
                ..w.scope()
            }),
        };
        let would = async |kind| {
            let basis = Some(Basis::Hypothetical(grant(kind)));
            explain(&w, &she, asked.clone(), basis).await.unwrap()
        };
        assert_eq!(
            explain(&w, &she, asked.clone(), None).await.unwrap().reason(),
            Why::NoConsent
        );
        let yes = would(types::HiType::Prescription).await;
        assert_eq!((yes.reason(), yes.candidates[0].consent.as_str()), (Why::Granted, ""));
        assert_eq!(would(types::HiType::Invoice).await.reason(), Why::HiTypeNotGranted);
        let basis = Some(Basis::Hypothetical(grant(types::HiType::Invoice)));
        // Only she can suppose that she gave something.
        assert_eq!(
            reason(explain(&w, &participant("hospital"), check, basis).await),
            Reason::NotAvailable
        );
    });
}

#[test]
fn she_sees_everybody_who_can_see_her_records_and_nobody_else() {
    everywhere(|w| async move {
        let mut names = Vec::new();
        let she = w.she(w.person("asha.rao@sbx"));
        for n in 0..6 {
            let mut ask = w.asks("asha.rao@sbx");
            ask.scope.as_mut().unwrap().erase_time = w.at((n + 2) * DAY);
            let request = w.create(ask).await.unwrap();
            names.push(
                w.approve(&she, w.approval(&request))
                    .await
                    .unwrap()
                    .consents
                    .remove(0)
                    .name,
            );
            w.advance(1);
        }
        w.granted("ravi.kumar@sbx", |_| {}).await;
        w.revoke(&she, &[&names[5]]).await.unwrap();
        w.pause(&she, &names[4]).await.unwrap();
        w.advance(2 * DAY);
        let she = w.she(she.account().unwrap());
        let list = async |who: &Caller, page_size: i32, page_token: String| {
            let message = api::ListGranteesRequest {
                page_size,
                page_token,
                subject: if *who == operator() {
                    she.account().unwrap().name()
                } else {
                    String::new()
                },
                legal_basis: if *who == operator() {
                    "Order 12".into()
                } else {
                    String::new()
                },
            };
            w.rpc().list_grantees(by(who, message)).await.map(Response::into_inner)
        };
        // The first has expired, swept or not; the last is taken back.
        let expected: Vec<_> = names[1..5].iter().rev().cloned().collect();
        for who in [&she, &operator()] {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let page = list(who, 3, token).await.unwrap();
                assert_eq!(page.grantee_count, 4);
                seen.extend(page.grantees);
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen.iter().map(|g| g.consent.clone()).collect::<Vec<_>>(), expected);
            let states: Vec<_> = seen.iter().map(api::Grantee::state).collect();
            assert_eq!(states, [State::Paused, State::Granted, State::Granted, State::Granted]);
            assert_eq!(
                (seen[0].hiu.as_str(), seen[0].hip.as_str()),
                ("participants/clinic", "participants/hospital")
            );
        }
        assert_eq!(w.count("access.grantees_listed").await, 2);
        assert_eq!(
            reason(list(&participant("clinic"), 0, String::new()).await),
            Reason::NotAvailable
        );
    });
}

#[test]
fn who_is_shut_off_or_has_used_it_up_is_no_grantee() {
    everywhere(|w| async move {
        let (she, once) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 1).await;
        let account = she.account().unwrap();
        w.advance(1);
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let many = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
        let listed = async || {
            let message = api::ListGranteesRequest::default();
            let listed = w.rpc().list_grantees(by(&she, message)).await.unwrap().into_inner();
            assert_eq!(listed.grantee_count as usize, listed.grantees.len());
            listed.grantees.into_iter().map(|g| g.consent).collect::<Vec<_>>()
        };
        assert_eq!(listed().await, [many.name.clone(), once.name.clone()]);
        let spend = question(&w, &once.name).authorize(w.request_id());
        let used = w.rpc().authorize_access(by(&participant("hospital"), spend)).await;
        assert_eq!(used.unwrap().into_inner().reason(), Why::Granted);
        assert_eq!(listed().await, [many.name.as_str()]);
        let policy = |hiu: &str| api::CreatePolicyRequest {
            effect: Effect::Deny.into(),
            hiu: hiu.into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc()
            .create_policy(by(&w.she(account), policy("participants/insurer")))
            .await
            .unwrap();
        assert_eq!(listed().await, [many.name.as_str()], "another is shut off");
        w.rpc()
            .create_policy(by(&w.she(account), policy("participants/clinic")))
            .await
            .unwrap();
        assert!(listed().await.is_empty());
    });
}
