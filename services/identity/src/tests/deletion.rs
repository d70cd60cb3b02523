//! An account is deleted: at once nobody acts in it, and after 30 days nothing personal of it is left.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::account::State;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_kernel::{AccountId, Actor, Caller, Micros, Reason, Refusal, Slot, TransactionId};
use sammati_store::{Command, Keys, Reader, Store, Traces, View};
use tokio::sync::Notify;

use super::fixture::{Fixture, aadhaar, app, fixtures, mobile, operator, person, reason};
use super::step_up;
use crate::account::{ApplyCredential, Erases, have_erased};
use crate::rows::{
    AccountRow, DataKeyRow, GuardRow, ParticipantRow, PortraitRow, RepresentationRow, SessionRow, TransactionRow,
    tables,
};
use crate::transaction::forget;

pub(super) const DAY: u64 = 86_400;

/// In which tables rows name an account, and whether in what goes on. What is personal in it is in none as it is.
async fn traces(fixture: &Fixture, account: AccountId, n: u64) -> BTreeSet<(&'static str, bool)> {
    let partitions: Vec<i64> = fixture.inner.store.partitions().all().collect();
    let read = move |r: &mut Reader<'_>| {
        let all = |names: Vec<Vec<u8>>, r: &mut Reader<'_>| {
            let mut traces = Traces::of(names);
            traces.walk::<AccountRow>(r, &partitions, &["due", "asks"])?;
            traces.walk::<DataKeyRow>(r, &partitions, &[])?;
            traces.walk::<GuardRow>(r, &partitions, &[])?;
            traces.walk::<ParticipantRow>(r, &partitions, &[])?;
            traces.walk::<PortraitRow>(r, &partitions, &[])?;
            traces.walk::<RepresentationRow>(r, &partitions, &["open", "due"])?;
            traces.walk::<SessionRow>(r, &partitions, &["live"])?;
            traces.walk::<TransactionRow>(r, &partitions, &["due"])?;
            assert_eq!(traces.walked(), tables().len(), "a table is left out");
            Ok::<_, sammati_store::Error>(traces)
        };
        let personal = [mobile(n), aadhaar(n), "Asha".to_owned(), "12 Temple Road".to_owned()];
        let open = all(personal.map(String::into_bytes).to_vec(), r)?;
        assert!(open.found().is_empty(), "{:?}", open.found());
        let of_her = all(vec![account.to_vec(), account.name().into_bytes()], r)?;
        Ok(of_her.found().clone())
    };
    fixture.inner.store.read(read).await.unwrap()
}

/// After the time of grace rows of an account are history, each of a kind that may stay.
pub(super) async fn is_history(fixture: &Fixture, account: AccountId, n: u64) {
    let before = traces(fixture, account, n).await;
    assert!(before.contains(&("account", true)), "{before:?}");
    fixture.pass(31 * DAY);
    for _ in 0..2 {
        tidy(fixture, &Asked::default()).await.unwrap();
    }
    forget(&fixture.inner.store).await.unwrap();
    let mut left = traces(fixture, account, n).await;
    // By its id, which is nobody's any more: that it was, under what proofs, who acted, and which proofs were counted.
    for allowed in ["account", "session", "representation", "txn", "guard"] {
        left.remove(&(allowed, false));
    }
    assert!(left.is_empty(), "{left:?}");
}

/// Audit, as it is asked.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) of: Mutex<Vec<AccountId>>,
    pub(super) away: Mutex<bool>,
    /// Of whom it takes nothing.
    refuses: Mutex<Option<AccountId>>,
}

#[tonic::async_trait]
impl Erases for Asked {
    async fn erase(&self, account: AccountId) -> Result<(), Refusal> {
        if *self.away.lock().unwrap() || *self.refuses.lock().unwrap() == Some(account) {
            return Err(Reason::StorageUnavailable.into());
        }
        self.of.lock().unwrap().push(account);
        Ok(())
    }
}

/// What a process does for deleted accounts, here and at audit.
pub(super) async fn tidy(fixture: &Fixture, audit: &Asked) -> Result<(), Refusal> {
    let store = &fixture.inner.store;
    crate::account::purge(store).await.and(have_erased(store, audit).await)
}

/// The person in her session, who logged in just now.
pub(super) fn proved(fixture: &Fixture, session: &api::Session) -> Caller {
    let mut she = person(session);
    if let Some(Actor::Person { auth_time, .. }) = &mut she.actor {
        *auth_time = fixture.inner.now().seconds();
    }
    she
}

pub(super) fn deleting(fixture: &Fixture, account: &str) -> api::DeleteAccountRequest {
    api::DeleteAccountRequest {
        request_id: fixture.request_id(),
        name: account.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_is_gone_for_everybody_at_once() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let (account, she) = (session.account.clone(), proved(&fixture, &session));
        let other = fixture.enrol(2).await.session.unwrap();
        let refused = fixture
            .inner
            .delete_account(&proved(&fixture, &other), deleting(&fixture, &account))
            .await;
        assert_eq!(reason(refused), Reason::NotAvailable);
        let refused = fixture
            .inner
            .delete_account(&person(&session), deleting(&fixture, &account))
            .await;
        assert_eq!(reason(refused), Reason::StepUpRequired, "she logged in long ago");
        let stale = api::DeleteAccountRequest {
            etag: "\"4711\"".to_owned(),
            ..deleting(&fixture, &account)
        };
        assert_eq!(
            reason(fixture.inner.delete_account(&she, stale).await),
            Reason::EtagMismatch
        );
        let deleted = fixture
            .inner
            .delete_account(&she, deleting(&fixture, &account))
            .await
            .unwrap();
        assert_eq!(deleted.state(), State::Deleted);
        let (from, to) = (deleted.delete_time.unwrap(), deleted.purge_time.unwrap());
        assert_eq!(to.seconds - from.seconds, 30 * DAY as i64);
        let again = api::DeleteAccountRequest {
            legal_basis: "court".to_owned(),
            ..deleting(&fixture, &account)
        };
        let again = fixture.inner.delete_account(&operator(), again).await;
        assert_eq!(reason(again), Reason::StateConflict);
        assert_eq!(fixture.count_events("identity.deleted").await, 1);
        assert_eq!(fixture.count_events("identity.session_revoked").await, 1);
        // Her refresh token is dead, and nobody logs in.
        let refresh = api::RefreshSessionRequest {
            request_id: fixture.request_id(),
            refresh_token: session.refresh_token.clone(),
            audiences: vec!["consent".into()],
        };
        assert!(fixture.inner.refresh_session(&app(), refresh).await.is_err());
        let login = fixture.logging_in(1).await;
        let verified = fixture
            .verify_otp(&app(), &login.name, &fixture.inbox.last(&mobile(1)).unwrap())
            .await
            .unwrap();
        let offered: Vec<_> = verified.candidates.iter().map(|candidate| candidate.index).collect();
        assert_eq!(offered, [2], "who shares her mobile; she is not offered any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deletion_that_fails_keeps_no_other_waiting() {
    for fixture in fixtures().await {
        let mut all = Vec::new();
        for person in [1, 2, 3] {
            let session = fixture.enrol(person).await.session.unwrap();
            let deleted = deleting(&fixture, &session.account);
            let she = proved(&fixture, &session);
            fixture.inner.delete_account(&she, deleted).await.unwrap();
            all.push(AccountId::parse_name(&session.account).unwrap());
        }
        fixture.pass(30 * DAY);
        let audit = Asked::default();
        *audit.refuses.lock().unwrap() = Some(all[0]);
        let done = tidy(&fixture, &audit).await;
        assert_eq!(reason(done), Reason::StorageUnavailable);
        let asked: BTreeSet<_> = audit.of.lock().unwrap().iter().copied().collect();
        assert_eq!(asked, BTreeSet::from([all[1], all[2]]));
        *audit.refuses.lock().unwrap() = None;
        audit.of.lock().unwrap().clear();
        tidy(&fixture, &audit).await.unwrap();
        assert!(audit.of.lock().unwrap().is_empty(), "it has its turn behind the others");
        fixture.pass(10);
        tidy(&fixture, &audit).await.unwrap();
        assert_eq!(*audit.of.lock().unwrap(), [all[0]], "the others were asked for once");
        assert_eq!(fixture.count_events("identity.purged").await, 3);
    }
}

/// As many accounts as one look takes, deleted and purged, of which audit has not heard.
struct Purged(Slot, i64);

impl Command for Purged {
    type Answer = Vec<AccountId>;
    const NAME: &'static str = "test.purged";

    fn slot(&self) -> Slot {
        self.0
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<Vec<AccountId>, Refusal> {
        let ids = (0..256_u64).map(|n| AccountId::new(Micros(self.1), self.0, n.to_be_bytes()));
        let ids: Vec<_> = ids.collect();
        for id in &ids {
            view.put(&AccountRow {
                id: id.to_vec(),
                version: 1,
                state: State::Deleted.into(),
                delete_time: self.1,
                purge_time: self.1,
                purged: true,
                alone: true,
                ..AccountRow::default()
            });
        }
        Ok(ids)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_deletions_that_wait_for_audit_keep_no_later_one_waiting() {
    for fixture in fixtures().await {
        let store = &fixture.inner.store;
        let session = fixture.enrol(1).await.session.unwrap();
        let she = proved(&fixture, &session);
        let deleted = deleting(&fixture, &session.account);
        fixture.inner.delete_account(&she, deleted).await.unwrap();
        let old = fixture.inner.now().0 - 60_000_000;
        let waiting = store.apply(Purged(Slot::new(3), old)).await.unwrap();
        fixture.pass(30 * DAY);
        let audit = Asked::default();
        *audit.away.lock().unwrap() = true;
        assert!(tidy(&fixture, &audit).await.is_err());
        assert_eq!(
            fixture.count_events("identity.purged").await,
            1,
            "hers is gone, though audit is away"
        );
        // Those that audit did not take stand behind her at the next look.
        *audit.away.lock().unwrap() = false;
        tidy(&fixture, &audit).await.unwrap();
        let account = AccountId::parse_name(&session.account).unwrap();
        assert_eq!(*audit.of.lock().unwrap(), [account]);
        fixture.pass(10);
        tidy(&fixture, &audit).await.unwrap();
        let asked: BTreeSet<_> = audit.of.lock().unwrap().drain(..).collect();
        assert_eq!(asked.len(), 1 + waiting.len());
        fixture.pass(10);
        tidy(&fixture, &audit).await.unwrap();
        assert!(audit.of.lock().unwrap().is_empty(), "each was asked for once");
    }
}

/// Audit, asked by one replica; meanwhile another looks.
struct Meanwhile {
    other: Store,
    audit: Asked,
}

#[tonic::async_trait]
impl Erases for Meanwhile {
    async fn erase(&self, account: AccountId) -> Result<(), Refusal> {
        have_erased(&self.other, &self.audit).await?;
        self.audit.erase(account).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_asks_audit_for_each_account() {
    for fixture in fixtures().await {
        let other = fixture.replica().await.unwrap_or_else(|| fixture.clone());
        let store = &fixture.inner.store;
        let old = fixture.inner.now().0 - 60_000_000;
        let waiting = store.apply(Purged(Slot::new(3), old)).await.unwrap();
        let audit = Meanwhile {
            other: other.inner.store.clone(),
            audit: Asked::default(),
        };
        have_erased(store, &audit).await.unwrap();
        let asked = audit.audit.of.lock().unwrap();
        let each: BTreeSet<_> = asked.iter().copied().collect();
        assert_eq!((asked.len(), each.len()), (waiting.len(), waiting.len()));
    }
}

/// Audit, asked by a replica that dies over it.
struct Dying(Arc<Notify>);

#[tonic::async_trait]
impl Erases for Dying {
    async fn erase(&self, _: AccountId) -> Result<(), Refusal> {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_what_a_replica_died_over_is_asked_for_when_its_answer_should_be_there() {
    for fixture in fixtures().await {
        let store = fixture.inner.store.clone();
        let old = fixture.inner.now().0 - 60_000_000;
        let waiting = store.apply(Purged(Slot::new(3), old)).await.unwrap();
        let begun = Arc::new(Notify::new());
        let dying = Dying(Arc::clone(&begun));
        let first = tokio::spawn(async move { have_erased(&store, &dying).await });
        begun.notified().await;
        first.abort();
        let (store, audit) = (&fixture.inner.store, Asked::default());
        have_erased(store, &audit).await.unwrap();
        assert_eq!(audit.of.lock().unwrap().len(), waiting.len() - 1);
        fixture.pass(35);
        have_erased(store, &audit).await.unwrap();
        let each: BTreeSet<_> = audit.of.lock().unwrap().drain(..).collect();
        assert_eq!(each.len(), waiting.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_was_being_set_is_not_set_on_a_deleted_account() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let she = proved(&fixture, &session);
        let by_an_app = fixture
            .inner
            .delete_account(&app(), deleting(&fixture, &session.account))
            .await;
        assert_eq!(reason(by_an_app), Reason::NotAvailable);
        let consumed = fixture.inner.now();
        let deleted = deleting(&fixture, &session.account);
        fixture.inner.delete_account(&she, deleted).await.unwrap();
        let late = ApplyCredential {
            caller: she,
            transaction: TransactionId::new(consumed, Slot::new(0), [0; 8]),
            name: String::new(),
            consumed,
            account: AccountId::parse_name(&session.account).unwrap(),
            etag: String::new(),
            credential: crate::rows::Credential::Pin,
            hash: vec![1],
            keep: None,
        };
        assert_eq!(reason(fixture.inner.store.apply(late).await), Reason::AccountDeleted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_after_the_time_of_grace_nothing_personal_is_left_and_audit_is_asked() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let account = AccountId::parse_name(&session.account).unwrap();
        let her = (person(&session), session.account.clone());
        step_up::set(&fixture, &her, 1, Credential::Pin("2580".into()))
            .await
            .unwrap();
        let store = &fixture.inner.store;
        let row = || async {
            store
                .read(move |r| r.get::<AccountRow>(account.slot(), account.as_bytes()))
                .await
        };
        let before = row().await.unwrap().unwrap().record;
        assert!(!before.pin.is_empty());
        fixture
            .inner
            .delete_account(&proved(&fixture, &session), deleting(&fixture, &session.account))
            .await
            .unwrap();
        let audit = Asked::default();
        fixture.pass(30 * DAY - 1);
        tidy(&fixture, &audit).await.unwrap();
        assert_eq!(fixture.count_events("identity.purged").await, 0);
        // Audit is away: her data goes all the same, and audit is asked until it answers.
        *audit.away.lock().unwrap() = true;
        fixture.pass(1);
        assert!(tidy(&fixture, &audit).await.is_err());
        *audit.away.lock().unwrap() = false;
        fixture.pass(10);
        tidy(&fixture, &audit).await.unwrap();
        tidy(&fixture, &audit).await.unwrap();
        assert_eq!(*audit.of.lock().unwrap(), [account], "once it has answered, no more");
        assert_eq!(fixture.count_events("identity.purged").await, 1);
        let after = row().await.unwrap().unwrap().record;
        assert!(after.purged && after.number.is_empty() && after.profile.is_empty());
        assert!(after.password.is_empty() && after.pin.is_empty());
        assert!(after.addresses.iter().all(|address| address.address.is_empty()));
        let key = before.key.clone();
        let (data_key, portrait) = store
            .read(move |r| {
                let slot = account.slot();
                Ok((r.get::<DataKeyRow>(slot, &key)?, r.get::<PortraitRow>(slot, &key)?))
            })
            .await
            .unwrap();
        assert!(data_key.unwrap().record.wrapped.is_empty() && portrait.unwrap().record.sealed.is_empty());
        // What was sealed, and the key that it was sealed under, are in no file.
        if let Some(path) = store.path() {
            let folder = std::fs::read_dir(path.parent().unwrap()).unwrap();
            let files = folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
            let all: Vec<u8> = files.flat_map(|file| std::fs::read(file).unwrap()).collect();
            for gone in [&before.profile, &before.number, &before.pin] {
                assert!(!all.windows(gone.len()).any(|part| part == gone.as_slice()));
            }
        }
        // She is as absent, and her number and address are nobody's.
        let get = api::GetAccountRequest {
            name: session.account.clone(),
            view: 0,
        };
        assert_eq!(
            reason(fixture.inner.get_account(&operator(), get).await),
            Reason::NotFound
        );
        let begin = fixture.beginning(Purpose::Login, Factor::MobileOtp, Some(Subject::Mobile(mobile(1))));
        fixture.inner.create_transaction(&app(), begin).await.unwrap();
    }
}
