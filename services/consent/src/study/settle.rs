//! The end of a study: what it has asked is cancelled, what was given to it expires, and in the end its key is destroyed.
//! Any number of replicas may do it; what is done is not done again.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{ConsentId, ConsentRequestId, Micros, Refusal, Slot, StudyId};
use sammati_server::event::system;
use sammati_store::{Command, Keys, Store, View};

use super::{SETTLED_AFTER, State, Verb, close, draft, expire};
use crate::consent::{self, Ending};
use crate::request;
use crate::rows::{ConsentRow, DataKeyRow, RequestRow, StudyRow, TransferRow};
use crate::sweep::{all, is_full};

/// Rows of one kind taken at once.
const BATCH: i64 = 256;

/// Does what is due of studies now.
///
/// # Errors
/// When storage fails; what was left is due the next time.
pub async fn sweep(store: &Store) -> Result<(), Refusal> {
    let now = store.clock().now();
    let due = store.read(move |r| r.due::<StudyRow>("due", now.0, BATCH)).await?;
    for row in due.into_iter().map(|stored| stored.record) {
        let id = row.id()?;
        if row.state() == State::Active {
            store.apply(Tick(id)).await?;
        }
        // Before it is settled: whoever dies in between leaves it due.
        if row.settled == 0 {
            end_all(store, id).await?;
        }
        if store.apply(Tick(id)).await? {
            store.leaves_remains::<DataKeyRow>();
            // At once: what fails of another study leaves nothing of this one's key behind.
            store.clear_remains().await;
        }
    }
    // What was in vain the last time.
    store.clear_remains().await;
    Ok(())
}

/// Ends all that is open under a study that is closed.
///
/// # Errors
/// When storage fails.
pub async fn end_all(store: &Store, study: StudyId) -> Result<(), Refusal> {
    // Requests first: what nobody can grant any more makes no consent that is overlooked.
    loop {
        let read = store.read(move |r| r.page::<RequestRow>("open_study", study.as_bytes(), None, BATCH));
        let open: Vec<_> = read.await?.into_iter().map(|stored| stored.record).collect();
        let full = is_full(open.len(), BATCH);
        let open = open.iter().map(|row| Ok(End(What::Request(row.id()?))));
        all(store, open.collect::<Result<_, Refusal>>()?).await?;
        if !full {
            break;
        }
    }
    let mut before: Option<Vec<u8>> = None;
    loop {
        let from = before.take();
        let read = store.read(move |r| r.page::<ConsentRow>("study", study.as_bytes(), from.as_deref(), BATCH));
        let rows: Vec<_> = read.await?.into_iter().map(|stored| stored.record).collect();
        before = rows.last().map(|row| row.id.clone());
        let open = rows.iter().filter(|row| row.state().is_open());
        let open = open.map(|row| Ok(End(What::Consent(row.id()?))));
        all(store, open.collect::<Result<_, Refusal>>()?).await?;
        if !is_full(rows.len(), BATCH) {
            return Ok(());
        }
    }
}

/// What the clock does with a study: it ends, it is settled, its key is destroyed.
pub struct Tick(pub StudyId);

impl Command for Tick {
    /// Whether the key was destroyed.
    type Answer = bool;

    const NAME: &'static str = "study.tick";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<StudyRow>(self.0.to_vec());
        keys.row::<DataKeyRow>(self.0.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let Some(mut row) = view.get::<StudyRow>(self.0.as_bytes()) else {
            return Ok(false);
        };
        let now = view.now();
        if expire(view, &mut row)? || row.state() != State::Closed {
            return Ok(false);
        }
        if row.settled == 0 {
            // Whoever ends all does it before: what was open by then has ended.
            if Micros(row.closed).plus(SETTLED_AFTER) <= now {
                row.settled = now.0;
                view.put(&row);
            }
            return Ok(false);
        }
        let is_due = row.destroyed == 0 && row.destroy().is_some_and(|at| at <= now);
        if is_due {
            destroy(view, &mut row)?;
        }
        Ok(is_due)
    }
}

/// Destroys the key of the pseudonyms: from now on nobody can tell whose any of them was.
fn destroy(view: &mut View<'_>, row: &mut StudyRow) -> Result<(), Refusal> {
    view.put(&DataKeyRow {
        owner: row.id.clone(),
        wrapped: Vec::new(),
    });
    row.destroyed = view.now().0;
    row.key_id.clear();
    row.touch(view.now());
    view.put(row);
    draft("study.key_destroyed", Action::Delete, &system("consent"), row)?.emit(view);
    Ok(())
}

/// Closes a study again that was closed before. Tells whether there was anything to do.
pub(crate) struct CloseAgain {
    pub(crate) study: StudyId,
    /// The event that tells of it.
    pub(crate) lost: String,
}

impl Command for CloseAgain {
    type Answer = bool;

    const NAME: &'static str = "study.close_again";

    fn slot(&self) -> Slot {
        self.study.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<StudyRow>(self.study.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let Some(mut row) = view.get::<StudyRow>(self.study.as_bytes()) else {
            return Ok(false);
        };
        if expire(view, &mut row)? || row.state().after(Verb::Close).is_none() {
            return Ok(false);
        }
        let now = view.now();
        close(view, &mut row, &system("consent"), now, &self.lost)?;
        Ok(true)
    }
}

/// What ends with a study.
#[derive(Debug, Clone, Copy)]
enum What {
    Request(ConsentRequestId),
    Consent(ConsentId),
}

/// Ends one of it. Harmless when repeated.
struct End(What);

impl Command for End {
    type Answer = ();

    const NAME: &'static str = "study.end";

    fn slot(&self) -> Slot {
        match self.0 {
            What::Request(id) => id.slot(),
            What::Consent(id) => id.slot(),
        }
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        match self.0 {
            What::Request(id) => keys.row::<RequestRow>(id.to_vec()),
            What::Consent(id) => {
                keys.row::<ConsentRow>(id.to_vec());
                keys.group::<TransferRow>("open", id.to_vec());
            }
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        match self.0 {
            What::Request(id) => cancel(view, id),
            What::Consent(id) => end(view, id),
        }
    }
}

fn cancel(view: &mut View<'_>, id: ConsentRequestId) -> Result<(), Refusal> {
    let Some(mut row) = view.get::<RequestRow>(id.as_bytes()) else {
        return Ok(());
    };
    request::expire(view, &mut row)?;
    let Some(state) = row.state().after(request::Verb::Cancel) else {
        return Ok(());
    };
    row.settle(state, view.now());
    request::cancel::cancel(view, &row, &system("consent"), Default::default())
}

fn end(view: &mut View<'_>, id: ConsentId) -> Result<(), Refusal> {
    let Some(mut row) = view.get::<ConsentRow>(id.as_bytes()) else {
        return Ok(());
    };
    if consent::expire(view, &mut row)? {
        return Ok(());
    }
    let Some(state) = row.state().after(consent::Verb::Expire) else {
        return Ok(());
    };
    row.expire = row.expire.min(view.now().0);
    let ending = Ending {
        state,
        event: "consent.expired",
        kind: Kind::ConsentExpired,
        caller: &system("consent"),
        at: view.now(),
        legal_basis: "",
        cause: "",
    };
    consent::end(view, &mut row, &ending)
}
