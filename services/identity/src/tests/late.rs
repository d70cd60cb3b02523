//! A login that was begun before all of her sessions ended opens none after it, in whatever order its halves come.

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::representation::Kind;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::types::v1::{Identifier, Power, identifier};
use sammati_kernel::{AccountId, Caller, Reason, Refusal, RepresentationId, Slot, TransactionId};
use sammati_store::{Command, Reader};

use super::fixture::{Fixture, app, fixtures, mobile, operator, person, reason};
use super::step_up::{PIN, set, she};
use crate::account::ApplyCredential;
use crate::rows::{self, AccountRow, TransactionRow};
use crate::session::ConsumeLogin;
use crate::transaction::{CountAttempt, Matched, Proof, Settle};

const PASSWORD: &str = "Gulmohar#27";

/// A VERIFIED login of person `n`.
async fn verified(fixture: &Fixture, n: u64) -> String {
    fixture.pass(61);
    let begun = fixture.logging_in(n).await;
    let otp = fixture.inbox.last(&mobile(n)).unwrap();
    fixture.verify_otp(&app(), &begun.name, &otp).await.unwrap().name
}

fn opening(fixture: &Fixture, transaction: &str) -> api::CreateSessionRequest {
    api::CreateSessionRequest {
        request_id: fixture.request_id(),
        transaction: transaction.into(),
        audiences: vec!["identity".into()],
        ..Default::default()
    }
}

/// The first half alone, as of a caller who is gone before the second.
async fn consume(fixture: &Fixture, request: &api::CreateSessionRequest) {
    let transaction = TransactionId::parse_name(&request.transaction).unwrap();
    let consume = ConsumeLogin {
        caller: app(),
        transaction: fixture.inner.lookup.veiled(transaction),
        candidate: request.candidate_index,
        representation: RepresentationId::parse_name(&request.representation),
    };
    let store = &fixture.inner.store;
    let key = store.request(&app().id(), ConsumeLogin::NAME, &request.request_id, request);
    store.run(consume, Some(key.unwrap())).await.unwrap();
}

async fn revoke(fixture: &Fixture, caller: &Caller, all_of: &str) -> i32 {
    let request = api::RevokeSessionsRequest {
        request_id: fixture.request_id(),
        names: Vec::new(),
        all_of: all_of.into(),
    };
    let revoked = fixture.inner.revoke_sessions(caller, request).await;
    revoked.unwrap().revoked_count
}

async fn account(fixture: &Fixture, name: &str) -> AccountRow {
    let id = AccountId::parse_name(name).unwrap();
    let read = move |r: &mut Reader<'_>| r.get::<AccountRow>(id.slot(), id.as_bytes());
    fixture.inner.store.read(read).await.unwrap().unwrap().record
}

async fn transaction(fixture: &Fixture, name: &str) -> TransactionRow {
    let id = fixture.inner.lookup.veiled(TransactionId::parse_name(name).unwrap());
    let read = move |r: &mut Reader<'_>| r.get::<TransactionRow>(id.slot(), id.as_bytes());
    fixture.inner.store.read(read).await.unwrap().unwrap().record
}

/// Both ways of ending all of her sessions.
async fn ends(fixture: &Fixture, way: usize, her: &(Caller, String)) {
    match way {
        0 => assert!(revoke(fixture, &operator(), &her.1).await > 0),
        _ => drop(
            set(fixture, her, 1, Credential::Password(format!("{PASSWORD}{way}")))
                .await
                .unwrap(),
        ),
    }
}

fn is_late(result: Result<api::Session, Refusal>) {
    let refused = result.unwrap_err();
    assert_eq!(refused.reason, Reason::TransactionState);
    assert!(refused.message.contains("since this was proved"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_proved_before_all_sessions_ended_opens_none() {
    for fixture in fixtures().await {
        for way in 0..2 {
            let her = she(&fixture, 1).await;
            let proved = verified(&fixture, 1).await;
            ends(&fixture, way, &her).await;
            let before = fixture.count_events("identity.session_created").await;
            is_late(fixture.inner.create_session(&app(), opening(&fixture, &proved)).await);
            let row = transaction(&fixture, &proved).await;
            assert_eq!(row.state_at(fixture.now()), State::Verified, "it is not used up");
            assert_eq!(fixture.count_events("identity.session_created").await, before);
            let anew = opening(&fixture, &verified(&fixture, 1).await);
            fixture.inner.create_session(&app(), anew).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_consumed_before_all_sessions_ended_opens_none_when_it_is_repeated() {
    for fixture in fixtures().await {
        for way in 0..2 {
            let her = she(&fixture, 1).await;
            let request = opening(&fixture, &verified(&fixture, 1).await);
            consume(&fixture, &request).await;
            ends(&fixture, way, &her).await;
            let before = fixture.count_events("identity.session_created").await;
            for hours in [0, 23] {
                fixture.pass(hours * 3600);
                is_late(fixture.inner.create_session(&app(), request.clone()).await);
            }
            assert_eq!(fixture.count_events("identity.session_created").await, before);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_login_that_did_open_its_session_is_answered_again_after_all_sessions_ended() {
    for fixture in fixtures().await {
        let her = she(&fixture, 1).await;
        let request = opening(&fixture, &verified(&fixture, 1).await);
        let session = fixture.inner.create_session(&app(), request.clone()).await.unwrap();
        assert_eq!(revoke(&fixture, &person(&session), &her.1).await, 2);
        let again = fixture.inner.create_session(&app(), request).await.unwrap();
        assert_eq!(again.name, session.name);
        assert_eq!(revoke(&fixture, &operator(), &her.1).await, 0, "it is not open again");
    }
}

/// The old password was compared before she changed it, and what was found is noted after.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_compared_before_it_was_changed_opens_no_session() {
    for fixture in fixtures().await {
        let her = she(&fixture, 1).await;
        let old = set(&fixture, &her, 1, Credential::Password(PASSWORD.into()))
            .await
            .unwrap();
        let address = identifier::Identifier::AbhaAddress(old.addresses[0].address.clone());
        let subject = Subject::Identifier(Identifier {
            identifier: Some(address),
        });
        let begun = fixture
            .begin(&app(), Purpose::Login, Factor::Password, Some(subject))
            .await
            .unwrap();
        let row = transaction(&fixture, &begun.name).await;
        let id = row.id().unwrap();
        let count = CountAttempt {
            caller: app(),
            lookup: fixture.inner.lookup.clone(),
            id,
            etag: String::new(),
            proof: Proof::Password(PASSWORD.to_owned().into()),
            subject: row.subject.clone(),
            claims: Vec::new(),
        };
        let number = fixture.inner.store.apply(count).await.unwrap();
        set(&fixture, &her, 1, Credential::Password("Jacaranda#58".into()))
            .await
            .unwrap();
        fixture.pass(1);
        let settle = Settle {
            caller: app(),
            id,
            subject: row.subject,
            number,
            found: Matched::Credential,
        };
        fixture.inner.store.apply(settle).await.unwrap();
        is_late(
            fixture
                .inner
                .create_session(&app(), opening(&fixture, &begun.name))
                .await,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_representatives_login_is_late_after_he_or_an_operator_ended_his_sessions() {
    for fixture in fixtures().await {
        let (hers, his) = (she(&fixture, 100).await, she(&fixture, 200).await);
        let propose = api::CreateRepresentationRequest {
            request_id: fixture.request_id(),
            kind: Kind::Delegate.into(),
            representative: Some(Identifier {
                identifier: Some(identifier::Identifier::Account(his.1.clone())),
            }),
            powers: vec![Power::Decide.into()],
            period: Some(prost_types::Duration {
                seconds: 30 * 24 * 3600,
                nanos: 0,
            }),
            ..Default::default()
        };
        let proposed = fixture.inner.create_representation(&hers.0, propose).await.unwrap();
        let accept = api::AcceptRepresentationRequest {
            request_id: fixture.request_id(),
            name: proposed.name.clone(),
            etag: String::new(),
        };
        fixture.inner.accept_representation(&his.0, accept).await.unwrap();
        let acting = |transaction: &str| api::CreateSessionRequest {
            representation: proposed.name.clone(),
            ..opening(&fixture, transaction)
        };
        for (caller, all_of) in [(&his.0, &his.1), (&operator(), &proposed.name)] {
            let consumed = acting(&verified(&fixture, 200).await);
            consume(&fixture, &consumed).await;
            let proved = acting(&verified(&fixture, 200).await);
            revoke(&fixture, caller, all_of).await;
            for late in [consumed, proved] {
                is_late(fixture.inner.create_session(&app(), late).await);
            }
            let anew = acting(&verified(&fixture, 200).await);
            let session = fixture.inner.create_session(&app(), anew.clone()).await.unwrap();
            revoke(&fixture, caller, all_of).await;
            let again = fixture.inner.create_session(&app(), anew).await.unwrap();
            assert_eq!(again.name, session.name, "what was opened is answered again");
        }
    }
}

/// The session would be one of no time at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_read_before_it_was_verified_opens_no_session() {
    for fixture in fixtures().await {
        she(&fixture, 1).await;
        fixture.pass(61);
        let begun = fixture.logging_in(1).await;
        let read = transaction(&fixture, &begun.name).await;
        let otp = fixture.inbox.last(&mobile(1)).unwrap();
        fixture.verify_otp(&app(), &begun.name, &otp).await.unwrap();
        let refused = fixture.inner.may_choose(&read, None, None).await;
        assert_eq!(reason(refused), Reason::TransactionState);
        let session = fixture
            .inner
            .create_session(&app(), opening(&fixture, &begun.name))
            .await
            .unwrap();
        let id = sammati_kernel::SessionId::parse_name(&session.name).unwrap();
        let row = fixture.inner.session(id).await.unwrap().unwrap();
        assert_eq!(row.auth_time, fixture.now().0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_of_a_password_whose_proofs_were_consumed_at_once_are_both_made_and_neither_twice() {
    for fixture in fixtures().await {
        let her = she(&fixture, 1).await;
        let id = AccountId::parse_name(&her.1).unwrap();
        let consumed = fixture.now();
        let change = |n: u8, consumed| ApplyCredential {
            caller: her.0.clone(),
            transaction: TransactionId::new(fixture.now(), Slot::new(0), [n; 8]),
            name: String::new(),
            consumed,
            account: id,
            etag: String::new(),
            credential: rows::Credential::Password,
            hash: vec![n],
            keep: None,
        };
        let store = &fixture.inner.store;
        for (n, hash) in [(1, 1), (2, 2), (1, 2), (2, 2)] {
            store.apply(change(n, consumed)).await.unwrap();
            assert_eq!(account(&fixture, &her.1).await.password, [hash], "after that of {n}");
        }
        let older = consumed.minus(std::time::Duration::from_micros(1));
        store.apply(change(3, older)).await.unwrap();
        assert_eq!(account(&fixture, &her.1).await.password, [2], "an older wish");
        assert_eq!(fixture.count_events("identity.credential_set").await, 2);
        set(&fixture, &her, 1, Credential::Pin(PIN.into())).await.unwrap();
        assert_eq!(account(&fixture, &her.1).await.password_proofs.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_accounts_those_that_are_gone_are_not_to_be_chosen_from() {
    for fixture in fixtures().await {
        let (first, second) = (she(&fixture, 0).await, she(&fixture, 1).await);
        let delete = |account: &str| api::DeleteAccountRequest {
            request_id: fixture.request_id(),
            name: account.into(),
            legal_basis: "court order".into(),
            etag: String::new(),
        };
        fixture
            .inner
            .delete_account(&operator(), delete(&first.1))
            .await
            .unwrap();
        let proved = verified(&fixture, 0).await;
        let session = fixture
            .inner
            .create_session(&app(), opening(&fixture, &proved))
            .await
            .unwrap();
        assert_eq!(session.account, second.1, "the only one that is offered");
        fixture
            .inner
            .delete_account(&operator(), delete(&second.1))
            .await
            .unwrap();
        let proved = verified(&fixture, 0).await;
        let gone = fixture.inner.create_session(&app(), opening(&fixture, &proved)).await;
        assert_eq!(reason(gone), Reason::AccountDeleted);
    }
}
