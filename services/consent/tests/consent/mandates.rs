//! What whoever acts for her does to her consents while they live, and reads of them.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent::State;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_kernel::{PurposeCode, Reason, Representing};

use crate::deciding::question;
use crate::proving::receipt;
use crate::representing::{acting, he};
use crate::verbs::less;
use crate::world::{by, everywhere, reason};

#[test]
fn a_delegate_pauses_resumes_and_narrows_within_the_limits_alone() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let account = she.account().unwrap();
        let limited = |purpose: PurposeCode| {
            he(&Representing {
                purposes: [purpose].into(),
                ..acting(&w, account)
            })
        };
        let (within, outside) = (limited(PurposeCode::Caremgt), limited(PurposeCode::Hpaymt));
        let (name, scope) = (&consent.name, less(consent.scope.as_ref().unwrap()));
        assert_eq!(reason(w.pause(&outside, name).await), Reason::PowerMissing);
        let paused = w.pause(&within, name).await.unwrap();
        assert_eq!(paused.state(), State::Paused);
        assert_eq!(reason(w.resume(&outside, name).await), Reason::PowerMissing);
        assert_eq!(w.resume(&within, name).await.unwrap().state(), State::Granted);
        assert_eq!(
            reason(w.narrow(&outside, name, scope.clone()).await),
            Reason::PowerMissing
        );
        assert_eq!(w.narrow(&within, name, scope).await.unwrap().version, 2);
    });
}

#[test]
fn a_representative_reads_her_receipt_and_who_can_see_her_records() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let guardian = he(&acting(&w, she.account().unwrap()));
        assert!(receipt(&w, &guardian, &consent.name).await.is_ok());
        let listed = w.rpc().list_grantees(by(&guardian, Default::default())).await;
        assert_eq!(listed.unwrap().into_inner().grantee_count, 1);
        let checks = api::BatchCheckAccessRequest {
            checks: vec![question(&w, &consent.name).check()],
            consistency: None,
        };
        let checked = w.rpc().batch_check_access(by(&guardian, checks)).await;
        assert_eq!(checked.unwrap().into_inner().decisions.len(), 1);
        let explained = api::ExplainAccessRequest {
            check: Some(question(&w, &consent.name).check()),
            ..Default::default()
        };
        let explained = w.rpc().explain_access(by(&guardian, explained)).await;
        assert_eq!(explained.unwrap().into_inner().candidates.len(), 1);
    });
}
