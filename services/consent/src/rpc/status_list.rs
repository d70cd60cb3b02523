//! `ArtefactService.GetStatusList`: made of what is committed, for everybody at once, twice a minute at most.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use sammati_api::consent::v1 as api;
use sammati_kernel::{Micros, Reason, Refusal, StatusListId, Violations};
use sammati_server::event::timestamp;
use sammati_store::Reader;
use tokio::sync::{Mutex, Semaphore};

use super::Core;
use crate::rows::{ConsentRow, StatusListRow};
use crate::status_list::{Bits, LIFE};
use crate::sweep::is_full;
use crate::wire;

/// Lists that are remembered.
const REMEMBERED: usize = 256;

/// How long one is given out: whoever gets it may use it for as long again.
const FRESH: Duration = Duration::from_secs(LIFE.unsigned_abs() / 2);

/// Consents read at once.
const BATCH: i64 = 4096;

/// How many are made at once, whoever asks: each holds a reader and a processor for a while.
const AT_ONCE: usize = 2;

/// The lists that were made lately. Whoever asks for one that is being made waits for it.
pub(crate) struct StatusLists {
    made: Cache<StatusListId, Arc<Mutex<Option<Made>>>>,
    places: Semaphore,
}

/// One of them.
#[derive(Clone)]
struct Made {
    jwt: String,
    time: Micros,
}

impl Default for StatusLists {
    fn default() -> Self {
        Self {
            made: Cache::new(REMEMBERED),
            places: Semaphore::new(AT_ONCE),
        }
    }
}

impl StatusLists {
    fn of(&self, id: StatusListId) -> Arc<Mutex<Option<Made>>> {
        let made = self
            .made
            .get_or_insert_with(&id, || Ok::<_, Infallible>(Arc::default()));
        made.unwrap_or_else(|never| match never {})
    }
}

impl Core {
    pub(super) async fn status_list(&self, request: &api::GetStatusListRequest) -> Result<api::StatusList, Refusal> {
        let mut v = Violations::new();
        let id: Option<StatusListId> = wire::name(&mut v, "name", &request.name);
        v.check()?;
        let id = id.ok_or_else(|| Refusal::new(Reason::FieldInvalid))?;
        let made = self.fresh_status_list(id).await?;
        Ok(api::StatusList {
            name: id.name(),
            jwt: made.jwt,
            issue_time: Some(timestamp(made.time)),
            expire_time: Some(timestamp(made.time.plus(Duration::from_secs(LIFE.unsigned_abs())))),
        })
    }

    /// The one that was made lately, or else one made now.
    async fn fresh_status_list(&self, id: StatusListId) -> Result<Made, Refusal> {
        let made = self.status_lists.of(id);
        let mut made = made.lock().await;
        if let Some(made) = made.as_ref().filter(|made| self.now().since(made.time) < FRESH) {
            return Ok(made.clone());
        }
        let _place = self.status_lists.places.acquire().await;
        Ok(made.insert(self.make_status_list(id).await?).clone())
    }

    async fn make_status_list(&self, id: StatusListId) -> Result<Made, Refusal> {
        // The clock before the first read: the list is never said to be newer than it is.
        let time = Micros::from_seconds(self.now().seconds());
        let known = self
            .store
            .read(move |r| r.get::<StatusListRow>(id.slot(), id.as_bytes()));
        known.await?.ok_or_else(|| Refusal::new(Reason::NotFound))?;
        let (mut bits, mut before) = (Bits::default(), None::<Vec<u8>>);
        loop {
            // A read for each page, so that none holds the database long. A consent has the same place in each, and one that is
            // given meanwhile is as invalid as it was at `time`.
            let from = before.take();
            let read =
                move |r: &mut Reader<'_>| r.page::<ConsentRow>("status_list", id.as_bytes(), from.as_deref(), BATCH);
            let rows = self.store.read(read).await?;
            for row in &rows {
                bits.tell(id, &row.record, time);
            }
            match rows.last() {
                Some(last) if is_full(rows.len(), BATCH) => before = Some(last.record.id.clone()),
                _ => break,
            }
        }
        let jwt = bits.sign(&self.keys, &self.manager, id, time)?;
        Ok(Made { jwt, time })
    }
}
