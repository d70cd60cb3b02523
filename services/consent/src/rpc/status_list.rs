//! `ArtefactService.GetStatusList`: made of what is committed, for everybody at once, twice a minute at most.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use sammati_api::consent::v1 as api;
use sammati_kernel::{Micros, Reason, Refusal, StatusListId, Violations};
use sammati_server::event::timestamp;
use tokio::sync::Mutex;

use super::Core;
use crate::rows::{ConsentRow, StatusListRow};
use crate::status_list::{Bits, LIFE};
use crate::wire;

/// Lists that are remembered.
const REMEMBERED: usize = 256;

/// How long one is given out: whoever gets it may use it for as long again.
const FRESH: Duration = Duration::from_secs(LIFE.unsigned_abs() / 2);

/// Consents read at once.
const BATCH: i64 = 4096;

/// The lists that were made lately. One is made at a time, whoever asks.
pub(crate) struct StatusLists {
    made: Cache<StatusListId, Arc<Made>>,
    making: Mutex<()>,
}

/// One of them.
struct Made {
    jwt: String,
    time: Micros,
}

impl Default for StatusLists {
    fn default() -> Self {
        Self {
            made: Cache::new(REMEMBERED),
            making: Mutex::default(),
        }
    }
}

impl StatusLists {
    fn fresh(&self, id: StatusListId, now: Micros) -> Option<Arc<Made>> {
        self.made.get(&id).filter(|made| now.since(made.time) < FRESH)
    }
}

impl Core {
    pub(super) async fn status_list(&self, request: &api::GetStatusListRequest) -> Result<api::StatusList, Refusal> {
        let mut v = Violations::new();
        let id: Option<StatusListId> = wire::name(&mut v, "name", &request.name);
        v.check()?;
        let id = id.ok_or_else(|| Refusal::new(Reason::FieldInvalid))?;
        let made = match self.status_lists.fresh(id, self.now()) {
            Some(made) => made,
            None => self.make_status_list(id).await?,
        };
        Ok(api::StatusList {
            name: id.name(),
            jwt: made.jwt.clone(),
            issue_time: Some(timestamp(made.time)),
            expire_time: Some(timestamp(made.time.plus(Duration::from_secs(LIFE.unsigned_abs())))),
        })
    }

    async fn make_status_list(&self, id: StatusListId) -> Result<Arc<Made>, Refusal> {
        let _one = self.status_lists.making.lock().await;
        // The clock before the read: the list is never said to be newer than it is.
        let time = Micros::from_seconds(self.now().seconds());
        if let Some(made) = self.status_lists.fresh(id, time) {
            return Ok(made);
        }
        let read = self.store.read(move |r| {
            if r.get::<StatusListRow>(id.slot(), id.as_bytes())?.is_none() {
                return Ok(None);
            }
            let (mut bits, mut before) = (Bits::default(), None::<Vec<u8>>);
            loop {
                let rows = r.page::<ConsentRow>("status_list", id.as_bytes(), before.as_deref(), BATCH)?;
                for row in &rows {
                    bits.tell(id, &row.record, time);
                }
                match rows.last() {
                    Some(last) if i64::try_from(rows.len()) == Ok(BATCH) => before = Some(last.record.id.clone()),
                    _ => return Ok(Some(bits)),
                }
            }
        });
        let bits = read.await?.ok_or_else(|| Refusal::new(Reason::NotFound))?;
        let jwt = bits.sign(&self.keys, &self.manager, id, time)?;
        let made = Arc::new(Made { jwt, time });
        self.status_lists.made.insert(id, Arc::clone(&made));
        Ok(made)
    }
}
