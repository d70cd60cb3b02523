//! Addresses are claimed once, for ever.

use sammati_api::identity::v1 as api;
use sammati_api::types::v1::ErrorReason;
use sammati_kernel::Reason;

use super::fixture::{Fixture, app, fixtures, person, reason};

fn claiming(fixture: &Fixture, account: &str, local: &str) -> api::CreateAddressRequest {
    api::CreateAddressRequest {
        request_id: fixture.request_id(),
        account: account.into(),
        local_part: local.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_one_address_one_gets_it() {
    for one in fixtures().await {
        let two = one.replica().await.unwrap_or_else(|| one.clone());
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..12_u64 {
            let fixture = if n % 2 == 0 { one.clone() } else { two.clone() };
            calls.spawn(async move {
                let enrolled = fixture.enrol(n * 100).await;
                let her = person(&enrolled.session.unwrap());
                let local = if n % 3 == 0 { "Asha.Rao84" } else { "asha.rao84" };
                fixture
                    .inner
                    .create_address(&her, claiming(&fixture, &enrolled.account.unwrap().name, local))
                    .await
            });
        }
        let results = calls.join_all().await;
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
        assert!(
            results
                .into_iter()
                .filter_map(Result::err)
                .all(|r| r.reason == Reason::AddressTaken)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_beside_the_default_one_and_exactly_one_preferred() {
    for fixture in fixtures().await {
        let enrolled = fixture.enrol(1).await;
        let (name, her) = (enrolled.account.unwrap().name, person(&enrolled.session.unwrap()));
        for n in 0..6 {
            let request = claiming(&fixture, &name, &format!("asha.rao{n}"));
            let request = api::CreateAddressRequest {
                preferred: n == 3,
                ..request
            };
            let account = fixture.inner.create_address(&her, request.clone()).await.unwrap();
            assert_eq!(account.addresses.len(), n + 2);
            assert_eq!(fixture.inner.create_address(&her, request).await.unwrap(), account);
        }
        fixture
            .create_account(&fixture.proved(200).await, Some("asha.theirs"))
            .await
            .unwrap();
        for local in ["asha.rao6", "asha.theirs"] {
            assert_eq!(
                reason(
                    fixture
                        .inner
                        .create_address(&her, claiming(&fixture, &name, local))
                        .await
                ),
                Reason::AddressLimit,
                "she learns nothing of {local}"
            );
        }
        let held = fixture
            .inner
            .create_address(&her, claiming(&fixture, &name, "ASHA.RAO5"))
            .await
            .unwrap();
        assert_eq!(held.addresses.len(), 7, "one she holds is no new one");
        let prefer = |address: &str, etag: &str| api::SetPreferredAddressRequest {
            request_id: fixture.request_id(),
            account: name.clone(),
            etag: etag.into(),
            address: address.into(),
        };
        assert_eq!(
            reason(
                fixture
                    .inner
                    .set_preferred_address(&her, prefer("asha.rao1@sbx", "\"1\""))
                    .await
            ),
            Reason::EtagMismatch
        );
        let after = fixture
            .inner
            .set_preferred_address(&her, prefer("Asha.Rao1@SBX", &held.etag))
            .await
            .unwrap();
        let preferred: Vec<_> = after
            .addresses
            .iter()
            .filter(|a| a.preferred)
            .map(|a| a.address.as_str())
            .collect();
        assert_eq!(preferred, ["asha.rao1@sbx"]);
        assert_eq!(
            reason(
                fixture
                    .inner
                    .set_preferred_address(&her, prefer("someone.else@sbx", ""))
                    .await
            ),
            Reason::NotAvailable
        );
        for bad in [
            "short",
            "a..b.c.d.e",
            "12345678901234",
            "9876543210",
            "_asha.rao",
            "asha rao84",
        ] {
            assert_eq!(
                reason(fixture.inner.create_address(&her, claiming(&fixture, &name, bad)).await),
                Reason::AddressForm,
                "{bad}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suggestions_are_free_and_twenty_candidates_are_enough() {
    for fixture in fixtures().await {
        let transaction = fixture.proved(1).await;
        let ask = |candidate: Option<&str>| {
            let request = api::SuggestAddressesRequest {
                transaction: transaction.clone(),
                candidate: candidate.map(Into::into),
            };
            let inner = fixture.inner.clone();
            async move { inner.suggest_addresses(&app(), request).await }
        };
        let first = ask(Some("asha.rao84")).await.unwrap();
        assert!(first.available && first.suggestions.len() >= 3);
        assert_eq!(ask(Some("x")).await.unwrap().why_not(), ErrorReason::AddressForm);
        let other = fixture.proved(100).await;
        fixture.create_account(&other, Some("asha.rao84")).await.unwrap();
        let taken = ask(Some("Asha.Rao84")).await.unwrap();
        assert!(!taken.available && taken.why_not() == ErrorReason::AddressTaken);
        for _ in 3..20 {
            ask(Some("asha.rao84")).await.unwrap();
        }
        assert_eq!(reason(ask(Some("asha.rao84")).await), Reason::ProbeLimit);
        assert!(ask(None).await.unwrap().suggestions.len() >= 3, "suggestions remain");
        assert_eq!(
            reason(fixture.create_account(&transaction, Some("asha.rao84")).await),
            Reason::AddressTaken
        );
        let enrolled = fixture.create_account(&transaction, None).await.unwrap();
        let by_app = claiming(&fixture, &enrolled.account.unwrap().name, "asha.kiosk");
        let by_app = api::CreateAddressRequest {
            transaction: transaction.clone(),
            ..by_app
        };
        assert_eq!(
            fixture
                .inner
                .create_address(&app(), by_app)
                .await
                .unwrap()
                .addresses
                .len(),
            2
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_others_are_not_to_be_listed_by_claiming_them() {
    for fixture in fixtures().await {
        let theirs = fixture.proved(100).await;
        fixture.create_account(&theirs, Some("asha.rao84")).await.unwrap();
        let transaction = fixture.proved(200).await;
        for _ in 0..40 {
            let taken = fixture.create_account(&transaction, Some("asha.rao84")).await;
            assert_eq!(reason(taken), Reason::AddressTaken);
        }
        let more = fixture.create_account(&transaction, Some("asha.rao84")).await;
        assert_eq!(reason(more), Reason::ProbeLimit);
        let enrolled = fixture.create_account(&transaction, None).await.unwrap();
        let (name, her) = (enrolled.account.unwrap().name, person(&enrolled.session.unwrap()));
        let claim = |local: &str| {
            let request = claiming(&fixture, &name, local);
            let (inner, her) = (fixture.inner.clone(), her.clone());
            async move { inner.create_address(&her, request).await }
        };
        for _ in 0..20 {
            assert_eq!(reason(claim("asha.rao84").await), Reason::AddressTaken);
        }
        for local in ["asha.rao84", "asha.mine"] {
            assert_eq!(reason(claim(local).await), Reason::ProbeLimit);
        }
        fixture.pass(24 * 3600);
        assert!(claim("asha.mine").await.is_ok());
        let bare = api::CreateAddressRequest {
            account: "accounts/x".into(),
            ..claiming(&fixture, "", "")
        };
        let refused = fixture.inner.create_address(&app(), bare).await.unwrap_err();
        let mut fields: Vec<_> = refused.violations.iter().map(|v| v.field.to_string()).collect();
        fields.sort();
        assert_eq!(fields, ["account", "local_part", "transaction"], "all at once");
    }
}
