//! A participant may have many sessions: they end, and are let go of, so many in one commit and no more.

use std::collections::BTreeMap;

use sammati_kernel::{Caller, Refusal, SessionId, Slot};
use sammati_store::{Command, Keys, Reader, Store, View};

use super::end;
use crate::rows::SessionRow;

/// Sessions of one commit.
const AT_ONCE: usize = 500;

/// Sessions of one look for those that have run out.
const BATCH: i64 = 1000;

/// Looks in one go: more run out in a second than one look finds.
const LOOKS: usize = 10;

/// Ends those of a holder's sessions that are live. Harmless when repeated.
#[derive(Debug)]
struct End {
    caller: Caller,
    slot: Slot,
    ids: Vec<SessionId>,
}

impl Command for End {
    /// The ones that ended by it.
    type Answer = Vec<SessionId>;
    const NAME: &'static str = "identity.end_sessions";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn bytes(&self) -> usize {
        1024 + self.ids.len() * size_of::<SessionId>()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.ids.iter().for_each(|id| keys.row::<SessionRow>(id.to_vec()));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Vec<SessionId>, Refusal> {
        let now = view.now();
        let mut ended = Vec::new();
        for id in &self.ids {
            let row = view.get::<SessionRow>(id.as_bytes());
            if let Some(mut row) = row.filter(|row| row.is_live(now)) {
                end(&mut row, "identity.session_revoked", &self.caller, view);
                ended.push(*id);
            }
        }
        Ok(ended)
    }
}

/// Ends all sessions of `holder`, who lives in `slot`, that were open when this began; tells which. Whether the caller may is
/// known before. Whoever is cut off over it does it again.
pub(crate) async fn end_all(
    store: &Store,
    caller: &Caller,
    slot: Slot,
    holder: String,
) -> Result<Vec<SessionId>, Refusal> {
    let now = store.clock().now();
    let group = store
        .read(move |r: &mut Reader<'_>| r.group::<SessionRow>(slot, "live", holder.as_bytes()))
        .await?;
    let live = group.iter().map(|stored| &stored.record).filter(|row| row.is_live(now));
    let ids: Vec<SessionId> = live.filter_map(SessionRow::id).collect();
    let mut ended = Vec::new();
    for ids in ids.chunks(AT_ONCE) {
        let (caller, ids) = (caller.clone(), ids.to_vec());
        ended.extend(store.apply(End { caller, slot, ids }).await?);
    }
    Ok(ended)
}

/// Lets go of sessions that have run out. Harmless when repeated.
#[derive(Debug)]
struct LetGo {
    slot: Slot,
    /// As they were read.
    rows: Vec<SessionRow>,
}

impl Command for LetGo {
    type Answer = ();
    const NAME: &'static str = "identity.let_go_of_sessions";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn bytes(&self) -> usize {
        1024 * (1 + self.rows.len())
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.rows.iter().for_each(|row| keys.row::<SessionRow>(row.id.clone()));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let now = view.now();
        for read in &self.rows {
            // What has changed was let go of meanwhile. Older code did so before, and left what is due as it was.
            let unchanged = view.get::<SessionRow>(&read.id).filter(|row| row == read);
            if let Some(mut row) = unchanged.filter(|row| !row.is_live(now)) {
                row.released = true;
                view.put(&row);
            }
        }
        Ok(())
    }
}

/// Lets go of what has run out by now, so that the groups of live sessions stay small. Any replica may do it, and what is left
/// is due the next time.
pub(crate) async fn let_go(store: &Store) -> Result<(), Refusal> {
    for _ in 0..LOOKS {
        let now = store.clock().now();
        let due = store
            .read(move |r: &mut Reader<'_>| r.due::<SessionRow>("due", now.0, BATCH))
            .await?;
        let was_all = (due.len() as i64) < BATCH;
        let mut homes: BTreeMap<Slot, Vec<SessionRow>> = BTreeMap::new();
        for row in due.into_iter().map(|stored| stored.record) {
            if let Some(id) = row.id() {
                homes.entry(id.slot()).or_default().push(row);
            }
        }
        let runs = homes.iter().flat_map(|(slot, rows)| {
            let of = |rows: &[SessionRow]| (*slot, rows.to_vec());
            rows.chunks(AT_ONCE).map(of)
        });
        let runs = runs.map(|(slot, rows)| store.apply(LetGo { slot, rows }));
        let done = futures::future::join_all(runs).await;
        done.into_iter().collect::<Result<(), _>>()?;
        if was_all {
            break;
        }
    }
    Ok(())
}
