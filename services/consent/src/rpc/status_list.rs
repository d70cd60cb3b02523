//! `ArtefactService.GetStatusList`: made of what is committed, for everybody at once, twice a minute at most.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use sammati_api::consent::v1 as api;
use sammati_kernel::{Clock, Micros, Reason, Refusal, StatusListId, Violations};
use sammati_server::event::timestamp;
use sammati_store::{Reader, Store};
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The list that was made lately, or else as `make` makes it now. Of one that is not remembered it is first asked whether
    /// it `exists`: names that somebody makes up take no place of those that do.
    async fn fresh(
        &self,
        id: StatusListId,
        clock: &dyn Clock,
        exists: impl Future<Output = Result<(), Refusal>>,
        make: impl Future<Output = Result<Made, Refusal>>,
    ) -> Result<Made, Refusal> {
        let made = match self.made.get(&id) {
            Some(made) => made,
            None => {
                exists.await?;
                self.of(id)
            }
        };
        let mut made = made.lock().await;
        if let Some(made) = made.as_ref().filter(|made| clock.now().since(made.time) < FRESH) {
            return Ok(made.clone());
        }
        let _place = self.places.acquire().await;
        Ok(made.insert(make.await?).clone())
    }

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
        let clock = self.store.clock().as_ref();
        let lists = &self.status_lists;
        let made = lists
            .fresh(id, clock, expect(&self.store, id), self.make_status_list(id))
            .await?;
        Ok(api::StatusList {
            name: id.name(),
            jwt: made.jwt,
            issue_time: Some(timestamp(made.time)),
            expire_time: Some(timestamp(made.time.plus(Duration::from_secs(LIFE.unsigned_abs())))),
        })
    }

    async fn make_status_list(&self, id: StatusListId) -> Result<Made, Refusal> {
        // The clock before the first read: the list is never said to be newer than it is.
        let time = Micros::from_seconds(self.now().seconds());
        let jwt = read(&self.store, id, time, BATCH)
            .await?
            .sign(&self.keys, &self.manager, id, time)?;
        Ok(Made { jwt, time })
    }
}

/// Refuses what is no list.
async fn expect(store: &Store, id: StatusListId) -> Result<(), Refusal> {
    let known = store.read(move |r| r.get::<StatusListRow>(id.slot(), id.as_bytes()));
    known.await?.map(drop).ok_or_else(|| Refusal::new(Reason::NotFound))
}

/// What a list says at `time`. A read for each page of `limit` consents, so that none holds the database long: a consent has
/// the same place in each, and one that is given meanwhile is as invalid as it was at `time`.
async fn read(store: &Store, id: StatusListId, time: Micros, limit: i64) -> Result<Bits, Refusal> {
    let (mut bits, mut before) = (Bits::default(), None::<Vec<u8>>);
    loop {
        let from = before.take();
        let page = move |r: &mut Reader<'_>| r.page::<ConsentRow>("status_list", id.as_bytes(), from.as_deref(), limit);
        let rows = store.read(page).await?;
        for row in &rows {
            bits.tell(id, &row.record, time);
        }
        match rows.last() {
            Some(last) if is_full(rows.len(), limit) => before = Some(last.record.id.clone()),
            _ => return Ok(bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::ready;
    use sammati_kernel::{ConsentId, ManualClock, Slot};
    use sammati_store::{Command, Keys, View};
    use tokio::sync::mpsc;

    use super::*;
    use crate::consent::State;
    use crate::testing::open;

    const NOW: Micros = Micros::from_seconds(1_800_000_000);

    fn id(n: u8) -> StatusListId {
        StatusListId::new(NOW, Slot::new(7), [n; 8])
    }

    fn made() -> Made {
        Made {
            jwt: "a list".to_owned(),
            time: NOW,
        }
    }

    #[tokio::test]
    async fn two_lists_are_made_at_once_and_a_third_waits_for_one_of_them() {
        let (lists, clock) = (Arc::new(StatusLists::default()), ManualClock::at(NOW));
        let (begun, mut begins) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let ask = |n| {
            let (lists, clock, begun, go) = (lists.clone(), clock.clone(), begun.clone(), go.clone());
            tokio::spawn(async move {
                let make = async {
                    begun.send(n).unwrap();
                    go.acquire().await.unwrap().forget();
                    Ok(made())
                };
                lists.fresh(id(n), &clock, ready(Ok(())), make).await
            })
        };
        let asked: Vec<_> = (0..3).map(ask).collect();
        let first = [begins.recv().await.unwrap(), begins.recv().await.unwrap()];
        // The third has asked too: all tasks of this thread have been run that could be.
        tokio::task::yield_now().await;
        assert!(begins.try_recv().is_err() && lists.places.available_permits() == 0);
        go.add_permits(1);
        let third = begins.recv().await.unwrap();
        assert!(!first.contains(&third));
        go.add_permits(2);
        for answer in asked {
            assert_eq!(answer.await.unwrap(), Ok(made()));
        }
        let again = lists.fresh(id(0), &clock, ready(Ok(())), async {
            unreachable!("it was made lately")
        });
        assert_eq!(again.await, Ok(made()));
    }

    #[tokio::test]
    async fn a_name_that_somebody_made_up_takes_no_place() {
        let (lists, clock) = (StatusLists::default(), ManualClock::at(NOW));
        let known = lists.fresh(id(0), &clock, ready(Ok(())), ready(Ok(made())));
        known.await.unwrap();
        let none = Refusal::new(Reason::NotFound);
        let unknown = lists.fresh(id(1), &clock, ready(Err(none)), async { unreachable!("there is none") });
        assert_eq!(unknown.await.unwrap_err().reason, Reason::NotFound);
        assert_eq!(lists.made.len(), 1);
    }

    /// Gives consents of one list, each in force.
    struct Give(Vec<ConsentRow>);

    impl Command for Give {
        type Answer = ();
        const NAME: &'static str = "consent.give_for_a_test";

        fn slot(&self) -> Slot {
            Slot::new(7)
        }

        fn reads(&self, _: &mut Keys) {}

        fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
            self.0.iter().for_each(|row| view.put(row));
            Ok(())
        }
    }

    fn consent(n: u8) -> ConsentRow {
        ConsentRow {
            id: ConsentId::new(NOW, Slot::new(7), [n; 8]).to_vec(),
            state: State::Granted.number(),
            expire: NOW.plus(FRESH).0,
            status_list: id(0).to_vec(),
            status_index: u32::from(n) * 3,
            ..Default::default()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_list_is_read_to_its_end_however_many_pages_it_has() {
        for database in sammati_testkit::databases() {
            let store = open(&database, &ManualClock::at(NOW));
            let mut expected = Bits::default();
            for n in 1..=7 {
                store.apply(Give(vec![consent(n)])).await.unwrap();
                expected.tell(id(0), &consent(n), NOW);
                for limit in [1, 2, 3, 7, 8] {
                    let bits = read(&store, id(0), NOW, limit).await.unwrap();
                    assert!(bits == expected, "{n} consents in pages of {limit}");
                }
            }
            assert!(expected != Bits::default());
        }
    }
}
