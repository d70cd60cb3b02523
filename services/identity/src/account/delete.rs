//! An account is deleted: at once nobody acts in it any more, and after a time of grace what is personal in it is destroyed.

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::account::State;
use sammati_kernel::{AccountId, Caller, Fact, Micros, Reason, Refusal, SessionId, Slot};
use sammati_server::event::system;
use sammati_store::{Command, Keys, Store, View};

use super::told;
use crate::policy;
use crate::representation::end_of_account;
use crate::rows::{AccountRow, DataKeyRow, PortraitRow, SessionRow, check_etag};
use crate::session;

/// From deletion to the destruction of what is personal.
const GRACE: Duration = Duration::from_secs(30 * 86_400);

/// Accounts of one look.
const BATCH: i64 = 256;

/// From a failure to the next try: whose turn it is not yet is passed over by those who look.
const RETRY: Duration = Duration::from_secs(10);

/// How long audit may take to erase.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// Deletes an account.
#[derive(Debug)]
pub(crate) struct Delete {
    pub(crate) caller: Caller,
    pub(crate) account: AccountId,
    pub(crate) etag: String,
    /// An operator's ground.
    pub(crate) legal_basis: String,
    /// The event of an earlier deletion that a restore lost, and when it was.
    pub(crate) again: Option<(String, Micros)>,
}

impl Command for Delete {
    /// The sessions that ended.
    type Answer = Vec<SessionId>;
    const NAME: &'static str = "identity.delete_account";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.account.to_vec());
        keys.group::<SessionRow>("live", self.account.name());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Vec<SessionId>, Refusal> {
        let now = view.now();
        let row = view.get::<AccountRow>(self.account.as_bytes());
        let mut row = row.ok_or_else(|| policy::unavailable(&self.caller))?;
        // What is done again after a restore was allowed then.
        if self.again.is_none() {
            policy::may_delete(&self.caller, self.account, now)?;
        }
        match row.state() {
            State::Active | State::Deactivated | State::Blocked => {}
            state => return Err(conflict(state)),
        }
        check_etag(&self.etag, row.version)?;
        let since = self.again.as_ref().map_or(now, |(_, at)| *at);
        row.state = State::Deleted.into();
        row.delete_time = since.0;
        row.purge_time = since.plus(GRACE).0;
        row.password.clear();
        row.pin.clear();
        row.touch(now);
        view.put(&row);
        let mut draft = told("identity.deleted", Action::Delete, &row, &self.caller);
        self.legal_basis.clone_into(&mut draft.payload().legal_basis);
        if let Some((lost, _)) = &self.again {
            draft = draft.because_of(lost);
        }
        draft.emit(view);
        let mut ended = Vec::new();
        for mut row in view.group::<SessionRow>("live", self.account.name().as_bytes()) {
            if row.is_live(now) {
                session::end(&mut row, "identity.session_revoked", &self.caller, view);
                ended.extend(row.id());
            }
        }
        Ok(ended)
    }
}

fn conflict(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying("the account is gone already")
        .with(Fact::State, state.as_str_name().trim_start_matches("STATE_"))
}

/// Destroys what is personal in an account whose time of grace is over. Her claims stay: what was hers is given to nobody else.
#[derive(Debug)]
struct Purge {
    account: AccountId,
    /// Her data key.
    key: Vec<u8>,
}

impl Command for Purge {
    type Answer = ();
    const NAME: &'static str = "identity.purge_account";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.account.to_vec());
        keys.row::<DataKeyRow>(self.key.clone());
        keys.row::<PortraitRow>(self.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<AccountRow>(self.account.as_bytes());
        let due = |row: &AccountRow| row.state() == State::Deleted && !row.purged && view.now().0 >= row.purge_time;
        let Some(mut row) = row.filter(due) else {
            return Ok(());
        };
        view.put(&DataKeyRow {
            id: self.key.clone(),
            wrapped: Vec::new(),
        });
        view.put(&PortraitRow::empty(&self.key));
        row.number.clear();
        row.profile.clear();
        row.password.clear();
        row.pin.clear();
        row.addresses.iter_mut().for_each(|address| address.address.clear());
        row.purged = true;
        row.retry_time = 0;
        row.touch(view.now());
        view.put(&row);
        told("identity.purged", Action::Delete, &row, &system("identity")).emit(view);
        Ok(())
    }
}

/// What became of what is done in other partitions, or elsewhere, for an account that is deleted.
#[derive(Debug)]
enum Done {
    /// Nobody acts for her any more, nor she for anybody.
    Alone,
    /// It is purged, which older code has noted where it looked itself.
    Purged,
    /// Audit was asked.
    Asked,
    /// It did not come about.
    Failed,
}

/// Notes it.
#[derive(Debug)]
struct Note(AccountId, Done);

impl Command for Note {
    type Answer = ();
    const NAME: &'static str = "identity.note_deletion";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.0.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<AccountRow>(self.0.as_bytes());
        if let Some(mut row) = row.filter(|row| row.state() == State::Deleted) {
            row.retry_time = 0;
            match self.1 {
                Done::Alone => row.alone = true,
                Done::Purged => {}
                Done::Asked => row.erase_asked = true,
                Done::Failed => row.retry_time = view.now().plus(RETRY).0,
            }
            view.put(&row);
        }
        Ok(())
    }
}

/// Takes it on to ask audit for an account: until the answer must be there, and a little longer, nobody else asks. A process
/// that dies over it leaves it due.
#[derive(Debug)]
struct Lease(AccountId);

impl Command for Lease {
    /// Whether it is ours.
    type Answer = bool;
    const NAME: &'static str = "identity.lease_erasure";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.0.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let now = view.now();
        let row = view.get::<AccountRow>(self.0.as_bytes());
        let due = |row: &AccountRow| row.asks().is_some_and(|due| due <= now.0);
        let Some(mut row) = row.filter(due) else {
            return Ok(false);
        };
        row.retry_time = now.plus(PATIENCE).plus(RETRY).0;
        view.put(&row);
        Ok(true)
    }
}

/// Asks audit to erase the events about an account.
#[tonic::async_trait]
pub trait Erases: Send + Sync + 'static {
    /// Asks; what must be kept is booked there. Whoever asks gives up before another asks again.
    ///
    /// # Errors
    /// What audit refuses.
    async fn erase(&self, account: AccountId) -> Result<(), Refusal>;
}

/// Ends the representations of accounts that were deleted, and purges what is due, of each account whatever becomes of the
/// others. Any replica may do it; what is left is due the next time, and what failed a little later.
pub(crate) async fn purge(store: &Store) -> Result<(), Refusal> {
    let mut first = Ok(());
    for (account, row) in due(store, "due").await? {
        let done = purge_one(store, account, &row).await;
        first = first.and(noted(store, account, done).await);
    }
    first
}

/// Has the events of purged accounts erased, of each whatever becomes of the others. It waits for audit, and nothing for it.
/// Of the replicas that look at once one asks for each: what was read here may have been asked for since.
pub(crate) async fn have_erased(store: &Store, audit: &dyn Erases) -> Result<(), Refusal> {
    let (due, mut first) = (due(store, "asks").await?, Ok(()));
    // Audit has not been asked yet: nor may whoever purged have come so far. Nobody is asked before it is done, so it is done
    // once, however long audit is away.
    if due.iter().any(|(_, row)| row.retry_time == 0) {
        store.leaves_remains::<DataKeyRow>();
        store.try_scrub().await?;
    }
    store.clear_remains().await;
    for (account, row) in due {
        let done = match row.erase_asked {
            // Older code asked, and did not write when that is due.
            true => store.apply(Note(account, Done::Asked)).await,
            false => ask(store, audit, account).await,
        };
        first = first.and(done);
    }
    first
}

/// Asks for one unless another does, and notes what came of it.
async fn ask(store: &Store, audit: &dyn Erases, account: AccountId) -> Result<(), Refusal> {
    if !store.apply(Lease(account)).await? {
        return Ok(());
    }
    let done = match audit.erase(account).await {
        Ok(()) => store.apply(Note(account, Done::Asked)).await,
        Err(refusal) => Err(refusal),
    };
    noted(store, account, done).await
}

/// The accounts whose `column` is due.
async fn due(store: &Store, column: &'static str) -> Result<Vec<(AccountId, AccountRow)>, Refusal> {
    let now = store.clock().now();
    let due = store.read(move |r| r.due::<AccountRow>(column, now.0, BATCH)).await?;
    let rows = due.into_iter().map(|stored| stored.record);
    Ok(rows.filter_map(|row| Some((row.id()?, row))).collect())
}

/// Has one that failed wait behind the others.
async fn noted(store: &Store, account: AccountId, done: Result<(), Refusal>) -> Result<(), Refusal> {
    if done.is_err() {
        store.apply(Note(account, Done::Failed)).await?;
    }
    done
}

/// Ends what stands on one account, and purges it if that is due.
async fn purge_one(store: &Store, account: AccountId, row: &AccountRow) -> Result<(), Refusal> {
    if !row.alone {
        end_of_account(store, account).await?;
        store.apply(Note(account, Done::Alone)).await?;
    }
    if row.purged {
        return store.apply(Note(account, Done::Purged)).await;
    }
    if store.clock().now().0 < row.purge_time {
        return Ok(());
    }
    let key = row.key.clone();
    store.apply(Purge { account, key }).await
}
