//! What must not be kept is not: Aadhaar numbers in events, and what a transaction held of a person.

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::types::v1::ConsentStamp;
use sammati_kernel::{Reason, Refusal, Slot, TransactionId};
use sammati_store::{Command, Keys, View};

use super::fixture::{Fixture, OTP, aadhaar, app, fixtures, mobile, operator, person, reason};
use crate::rows::{PortraitRow, TransactionRow};
use crate::transaction::forget;

/// What is wrong with a stamp.
type Bend<'a> = &'a dyn Fn(&mut ConsentStamp);

fn fields(refusal: &Refusal) -> Vec<String> {
    refusal.violations.iter().map(|v| v.field.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_what_looks_like_an_aadhaar_number_reaches_no_event() {
    for fixture in fixtures().await {
        let bent = |factor: Factor, purpose: Purpose, subject: Subject, bend: Bend<'_>| {
            let mut stamp = fixture
                .beginning(Purpose::Enrol, Factor::AadhaarOtp, None)
                .consent
                .unwrap();
            bend(&mut stamp);
            api::CreateTransactionRequest {
                consent: Some(stamp),
                ..fixture.beginning(purpose, factor, Some(subject))
            }
        };
        let number = aadhaar(1);
        let bends: [(&str, Bend<'_>); 4] = [
            ("consent.language", &|s| s.language.clone_from(&number)),
            ("consent.version", &|s| s.version.clone_from(&number)),
            ("consent.code", &|s| s.code = format!("text {number}")),
            ("consent.notice", &|s| s.notice = format!("notices/{number}")),
        ];
        for (field, bend) in bends {
            for (factor, purpose, subject) in [
                (Factor::AadhaarOtp, Purpose::Enrol, Subject::Aadhaar(aadhaar(1))),
                (Factor::AadhaarOtp, Purpose::Login, Subject::Aadhaar(aadhaar(1))),
                (Factor::MobileOtp, Purpose::Login, Subject::Mobile(mobile(1))),
            ] {
                let request = bent(factor, purpose, subject, bend);
                let refused = fixture.inner.create_transaction(&app(), request).await.unwrap_err();
                assert_eq!(refused.reason, Reason::FieldInvalid);
                assert!(fields(&refused).iter().all(|f| f.starts_with("consent.")), "{field}");
                assert!(!fields(&refused).is_empty(), "{field}");
            }
        }
        let french = bent(Factor::MobileOtp, Purpose::Login, Subject::Mobile(mobile(1)), &|s| {
            s.language = "fr".into();
        });
        let refused = fixture.inner.create_transaction(&app(), french).await.unwrap_err();
        assert_eq!(fields(&refused), ["consent.language"]);
        let suspend = api::SuspendParticipantRequest {
            request_id: fixture.request_id(),
            name: "participants/IN27001".into(),
            etag: String::new(),
            reason: format!("complaint of {number}"),
        };
        let refused = fixture
            .inner
            .suspend_participant(&operator(), suspend)
            .await
            .unwrap_err();
        assert_eq!(fields(&refused), ["reason"]);
    }
}

/// Of two attempts that the agency was to compare one was answered late: her account has been made meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_agency_says_late_neither_changes_nor_empties_what_an_account_took_over() {
    use std::sync::atomic::Ordering;
    for fixture in fixtures().await {
        let begun = fixture.enrolling(1).await;
        let late = api::VerifyTransactionRequest {
            request_id: fixture.request_id(),
            name: begun.name.clone(),
            etag: String::new(),
            proof: Some(api::verify_transaction_request::Proof::Otp(OTP.into())),
        };
        fixture.agency.away.store(true, Ordering::SeqCst);
        let away = fixture.inner.verify_transaction(&app(), late.clone()).await;
        assert_eq!(reason(away), Reason::KycUnavailable);
        fixture.agency.away.store(false, Ordering::SeqCst);
        fixture.verify_otp(&app(), &begun.name, OTP).await.unwrap();
        let made = fixture.create_account(&begun.name, None).await.unwrap();
        let taken_over = kept(&fixture, &begun.name).await;
        fixture.inner.verify_transaction(&app(), late).await.unwrap();
        let (row, portrait) = kept(&fixture, &begun.name).await;
        assert!(row.profile.is_empty(), "it holds nothing of her again");
        assert_eq!(portrait, taken_over.1);
        // As older code left it.
        fixture.inner.store.apply(Refill(row)).await.unwrap();
        fixture.pass(15 * 60);
        forget(&fixture.inner.store).await.unwrap();
        let (row, portrait) = kept(&fixture, &begun.name).await;
        assert!(!row.holds_data());
        assert_eq!(portrait, taken_over.1, "the portrait is her account's");
        let full = api::GetAccountRequest {
            name: made.account.unwrap().name,
            view: api::AccountView::Full.into(),
        };
        let her = person(&made.session.unwrap());
        let account = fixture.inner.get_account(&her, full).await.unwrap();
        assert_eq!(account.postal.unwrap().pincode, "560001");
    }
}

/// Writes a profile into a transaction again.
struct Refill(TransactionRow);

impl Command for Refill {
    type Answer = ();
    const NAME: &'static str = "identity.test_refill";

    fn slot(&self) -> Slot {
        self.0.id().unwrap().slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.0.id.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let profile = vec![1];
        view.put(&TransactionRow {
            profile,
            ..self.0.clone()
        });
        Ok(())
    }
}

/// What is kept of a transaction, and of a portrait under its key.
async fn kept(fixture: &Fixture, name: &str) -> (TransactionRow, Option<PortraitRow>) {
    let id = fixture.inner.lookup.veiled(TransactionId::parse_name(name).unwrap());
    fixture
        .inner
        .store
        .read(move |r| {
            let row = r.get::<TransactionRow>(id.slot(), id.as_bytes())?.unwrap().record;
            let portrait = r.get::<PortraitRow>(id.slot(), &row.key)?.map(|p| p.record);
            Ok((row, portrait))
        })
        .await
        .unwrap()
}

fn is_empty(kept: &(TransactionRow, Option<PortraitRow>)) -> bool {
    !kept.0.holds_data() && kept.1.as_ref().is_none_or(|p| p.sealed.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_keeps_nothing_of_a_person_when_it_is_over() {
    for fixture in fixtures().await {
        let first = fixture.proved(1).await;
        assert!(!is_empty(&kept(&fixture, &first).await));
        let enrolled = fixture.create_account(&first, None).await.unwrap();
        let second = fixture.proved(1).await;
        assert!(!fixture.create_account(&second, None).await.unwrap().is_new);
        assert!(is_empty(&kept(&fixture, &second).await), "she is known already");
        let unused = fixture.proved(100).await;
        let login = fixture.logging_in(1).await;
        forget(&fixture.inner.store).await.unwrap();
        assert!(!is_empty(&kept(&fixture, &unused).await), "it may still be used");
        fixture.pass(15 * 60);
        forget(&fixture.inner.store).await.unwrap();
        for over in [&unused, &login.name] {
            assert!(is_empty(&kept(&fixture, over).await));
        }
        let full = api::GetAccountRequest {
            name: enrolled.account.unwrap().name,
            view: api::AccountView::Full.into(),
        };
        let her = person(&enrolled.session.unwrap());
        let account = fixture.inner.get_account(&her, full).await.unwrap();
        assert_eq!(account.postal.unwrap().pincode, "560001", "what is hers stays");
        assert_eq!(
            reason(fixture.create_account(&unused, None).await),
            Reason::TransactionState
        );
    }
}
