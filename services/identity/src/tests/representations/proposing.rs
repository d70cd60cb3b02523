//! Proposing and accepting: what it tells, and what it needs.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn z1_a_proposal_tells_nobody_who_has_an_account() {
    for fixture in fixtures().await {
        let (she, _, his) = two(&fixture).await;
        let stranger = person(&fixture.enrol(300).await.session.unwrap());
        let nobody = his.replace(&his[his.len() - 6..], "abcdef");
        let child = fixture.enrol(CHILD).await.session.unwrap();
        let mut faces = Vec::new();
        for account in [&his, &nobody, &child.account] {
            let proposed = fixture
                .inner
                .create_representation(&she, delegate(&fixture, account))
                .await
                .unwrap();
            faces.push(api::Representation {
                name: String::new(),
                ..proposed.clone()
            });
            assert_eq!(
                reason(end(&fixture, &stranger, &proposed.name).await),
                Reason::NotAvailable
            );
        }
        assert!(faces.iter().all(|face| *face == faces[0]), "{faces:?}");
        // A child may be named, and is not eligible.
        let childs = &list(&fixture, &person(&child)).await[0].name;
        assert_eq!(
            reason(accept(&fixture, &person(&child), childs).await),
            Reason::RepresentativeNotEligible
        );
        // What nobody accepts ends by itself.
        fixture.pass(7 * 24 * 3600);
        assert!(
            list(&fixture, &she)
                .await
                .iter()
                .all(|r| r.end_reason() == EndReason::Time)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_gets_neither_account_nor_rights_and_ten_are_enough() {
    for fixture in fixtures().await {
        let (she, _, his) = two(&fixture).await;
        for power in [Power::ManageAccount, Power::Rights] {
            let request = api::CreateRepresentationRequest {
                powers: vec![power.into()],
                ..delegate(&fixture, &his)
            };
            assert_eq!(
                reason(fixture.inner.create_representation(&she, request).await),
                Reason::PowerNotDelegable
            );
        }
        let too_long = api::CreateRepresentationRequest {
            period: Some(prost_types::Duration {
                seconds: 366 * 24 * 3600,
                nanos: 0,
            }),
            ..delegate(&fixture, &his)
        };
        assert_eq!(
            reason(fixture.inner.create_representation(&she, too_long).await),
            Reason::FieldInvalid
        );
        for _ in 0..10 {
            fixture
                .inner
                .create_representation(&she, nominee(&fixture, &his))
                .await
                .unwrap();
        }
        assert_eq!(
            reason(fixture.inner.create_representation(&she, nominee(&fixture, &his)).await),
            Reason::OpenLimit
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_accepting_and_ending_at_once_the_end_stays() {
    for fixture in fixtures().await {
        let (she, he, his) = two(&fixture).await;
        let other = fixture.replica().await.unwrap_or_else(|| fixture.clone());
        for _ in 0..5 {
            let proposed = fixture
                .inner
                .create_representation(&she, delegate(&fixture, &his))
                .await
                .unwrap();
            let name = Arc::new(proposed.name);
            let (accepted, ended) = tokio::join!(accept(&fixture, &he, &name), end(&other, &she, &name));
            ended.unwrap();
            if let Err(refusal) = accepted {
                assert_eq!(refusal.reason, Reason::StateConflict);
            }
            assert_eq!(list(&fixture, &she).await[0].state(), State::Ended);
            assert_eq!(reason(act(&fixture, HIM, &name).await), Reason::RepresentationNotActive);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_repeated_proposal_is_answered_though_she_took_the_address_that_it_names() {
    for fixture in fixtures().await {
        let enrolled = fixture.enrol(HER).await;
        let (account, she) = (enrolled.account.unwrap(), person(&enrolled.session.unwrap()));
        let address = "asha.later@sbx".to_owned();
        let request = api::CreateRepresentationRequest {
            representative: Some(types::Identifier {
                identifier: Some(types::identifier::Identifier::AbhaAddress(address)),
            }),
            ..delegate(&fixture, "")
        };
        let create = |request: &api::CreateRepresentationRequest| {
            let (inner, she, request) = (fixture.inner.clone(), she.clone(), request.clone());
            async move { inner.create_representation(&she, request).await }
        };
        let proposed = create(&request).await.unwrap();
        let taking = api::CreateAddressRequest {
            request_id: fixture.request_id(),
            account: account.name,
            local_part: "asha.later".into(),
            ..Default::default()
        };
        fixture.inner.create_address(&she, taking).await.unwrap();
        assert_eq!(create(&request).await.unwrap(), proposed);
        let anew = api::CreateRepresentationRequest {
            request_id: fixture.request_id(),
            ..request
        };
        assert_eq!(
            reason(create(&anew).await),
            Reason::FieldInvalid,
            "nobody represents herself"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_evidence_is_told_of_that_and_of_all_else() {
    for fixture in fixtures().await {
        let child = fixture.enrol(CHILD).await.session.unwrap();
        let his = fixture.enrol(HIM).await.session.unwrap();
        let without = api::CreateRepresentationRequest {
            evidence: None,
            ..guardian(&fixture, &child.account, &his.account)
        };
        let wrong = api::CreateRepresentationRequest {
            powers: Vec::new(),
            ..without.clone()
        };
        let staff = operator();
        let fields = async |request| {
            let refusal = fixture.inner.create_representation(&staff, request).await.unwrap_err();
            let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
            (refusal.reason, fields)
        };
        let evidence = || "evidence".to_owned();
        assert_eq!(fields(without).await, (Reason::EvidenceRequired, vec![evidence()]));
        let both = vec!["powers".to_owned(), evidence()];
        assert_eq!(fields(wrong).await, (Reason::FieldInvalid, both));
    }
}
