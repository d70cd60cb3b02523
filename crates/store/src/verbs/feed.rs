//! Is the feed of a partition what its head says? Positions, times, epochs and the hash chain, made again.

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary};
use sammati_kernel::hex;

use super::fsck::{Fsck, PAGE};
use crate::batch::chain;
use crate::error::Error;
use crate::feed::FeedEvent;
use crate::heads::{self, HeadRow};
use crate::{on_conn, readers};

#[derive(diesel::QueryableByName)]
struct CursorSql {
    #[diesel(sql_type = Binary)]
    consumer: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    next: i64,
}

/// What is known after the events so far.
struct Walk {
    next: i64,
    epoch: i64,
    time: i64,
    /// `None` where the event before is not there: then the next chain hash is taken as it stands.
    chain: Option<Vec<u8>>,
}

impl Fsck<'_> {
    pub(super) fn feed(&mut self, partition: i64) -> Result<(), Error> {
        let Some(head) = heads::find_head(self.conn, partition)? else {
            self.disagree(
                Some(partition),
                "head",
                "there is none: nothing of this partition can be written",
            );
            return Ok(());
        };
        let mut walk = Walk {
            next: head.floor,
            epoch: 0,
            time: i64::MIN,
            // Before the first event the chain is 32 zeros.
            chain: (head.floor == 0).then(|| vec![0; 32]),
        };
        let mut from = i64::MIN;
        loop {
            let page = readers::feed(self.conn, partition, from, PAGE)?;
            let Some(last) = page.last() else { break };
            from = last.position.saturating_add(1);
            for event in &page {
                self.event(&mut walk, &head, event);
            }
        }
        self.end(partition, &walk, &head);
        self.cursors(partition, &head)
    }

    fn event(&mut self, walk: &mut Walk, head: &HeadRow, event: &FeedEvent) {
        self.summary.events += 1;
        let (partition, position) = (Some(event.partition), event.position);
        let place = format!("feed position {position}");
        if position < head.floor {
            self.disagree(
                partition,
                &place,
                format!("lies below the floor {}, where nothing should be", head.floor),
            );
            return;
        }
        if position > walk.next {
            let missing = match position - 1 {
                last if last == walk.next => format!("feed position {last}"),
                last => format!("feed positions {} to {last}", walk.next),
            };
            self.disagree(
                partition,
                missing,
                "missing: events that were committed are not there any more",
            );
            walk.chain = None;
        }
        if let Some(before) = &walk.chain
            && chain(before, &event.body) != event.chain
        {
            let what = "its chain hash is not that of the hash before it and its body: one of the three was changed";
            self.disagree(partition, &place, what);
        }
        if event.chain.len() != 32 {
            self.disagree(
                partition,
                &place,
                format!("its chain hash has {} bytes, not 32", event.chain.len()),
            );
        }
        if event.event_id.len() != 16 {
            self.disagree(
                partition,
                &place,
                format!("its event id is {}, not 16 bytes", hex(&event.event_id)),
            );
        }
        if event.epoch < walk.epoch || event.epoch > head.epoch {
            let (epoch, before) = (event.epoch, walk.epoch);
            let what = format!(
                "its epoch {epoch} is not between that before it, {before}, and the head's, {}",
                head.epoch
            );
            self.disagree(partition, &place, what);
        }
        if event.time < walk.time {
            let what = format!(
                "its time {} is before that of the event before it, {}",
                event.time, walk.time
            );
            self.disagree(partition, &place, what);
        }
        *walk = Walk {
            next: position.saturating_add(1),
            epoch: event.epoch.max(walk.epoch),
            time: event.time.max(walk.time),
            chain: Some(event.chain.clone()),
        };
    }

    fn end(&mut self, partition: i64, walk: &Walk, head: &HeadRow) {
        let partition = Some(partition);
        if walk.next != head.next {
            let what = format!(
                "says that the next position is {}, but the feed ends before {}",
                head.next, walk.next
            );
            self.disagree(partition, "head", what);
        }
        if walk.chain.as_ref().is_some_and(|chain| *chain != head.chain) {
            let what = format!("its chain hash {} is not that of the last event", hex(&head.chain));
            self.disagree(partition, "head", what);
        }
        if head.time < walk.time {
            let what = format!("its time {} is before that of the last event, {}", head.time, walk.time);
            self.disagree(partition, "head", what);
        }
    }

    /// A consumer cannot have got what was never committed: if it has, this database was set back.
    fn cursors(&mut self, partition: i64, head: &HeadRow) -> Result<(), Error> {
        let text = "SELECT consumer,next FROM cursor WHERE partition=$1 ORDER BY consumer";
        let cursors: Vec<CursorSql> = on_conn!(&mut *self.conn, |c| diesel::sql_query(text)
            .bind::<BigInt, _>(partition)
            .load(c))?;
        for cursor in cursors.iter().filter(|cursor| cursor.next > head.next) {
            let consumer = String::from_utf8_lossy(&cursor.consumer);
            let what = format!(
                "has got all before {}, but the feed ends before {}",
                cursor.next, head.next
            );
            self.disagree(Some(partition), format!("consumer {consumer}"), what);
        }
        Ok(())
    }
}
