//! A clock that is an hour wrong, either way: nothing stops, time in the log does not go back, and nothing goes before its day.

use std::time::Duration;

use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::types::v1::RetentionClass::General;
use sammati_kernel::{Clock, Micros};
use sammati_log::checkpoint;
use sammati_log::proof::{parse_path, verify_consistency};
use sammati_server::event::micros;

use crate::erasing::{YEAR, classed};
use crate::fixture::{Audit, everywhere, some_event};
use crate::subject::{judged, whole};

const HOUR: Duration = Duration::from_secs(3600);

impl Audit {
    /// Sets the clock back.
    fn set_back(&self, by: Duration) {
        let now = self.clock.now();
        self.clock.set(Micros(now.0 - i64::try_from(by.as_micros()).unwrap()));
    }

    /// Whether the payloads of the first leaves are gone. Read from the rows: reading by an RPC is recorded.
    async fn cleared(&self) -> [bool; 3] {
        let mut cleared = [false; 3];
        for (index, cleared) in cleared.iter_mut().enumerate() {
            *cleared = self.log.leaf(index as u64).await.unwrap().unwrap().payload.is_empty();
        }
        cleared
    }

    /// When the leaf at `index` was taken in.
    async fn accepted(&self, index: u64) -> Micros {
        let leaf = self.log.leaf(index).await.unwrap().unwrap();
        micros(&leaf.header().accept_time.unwrap()).unwrap()
    }
}

/// Fast, right, slow, right and fast again, with a restart at each turn.
#[tokio::test(flavor = "multi_thread")]
async fn i10_time_in_the_log_does_not_go_back_and_its_checkpoints_hold() {
    for mut audit in everywhere().await {
        let mut notes = Vec::new();
        for turn in 0..6 {
            match turn {
                0 | 4 => audit.clock.advance(HOUR),
                1 | 2 | 5 => audit.set_back(HOUR),
                _ => audit.clock.advance(HOUR),
            }
            audit.clock.advance(Duration::from_secs(1));
            audit.append((0..3).map(some_event).collect()).await.unwrap();
            notes.push(audit.log.newest().await.unwrap().note);
            let (list, head) = whole(&audit, 1, 100).await.unwrap();
            judged(&audit, &list, &head).unwrap();
            audit = audit.restart().await;
        }
        let newest = audit.log.newest().await.unwrap();
        let mut last = Micros::ZERO;
        for index in 0..newest.size {
            let accepted = audit.accepted(index).await;
            assert!(accepted >= last, "leaf {index}");
            last = accepted;
        }
        let keys = [audit.verifier()];
        notes.push(newest.note);
        let signed: Vec<_> = notes
            .iter()
            .map(|note| checkpoint::open(note, &keys).unwrap())
            .collect();
        for (at, old) in signed.iter().enumerate() {
            for new in &signed[at + 1..] {
                let proof = audit.consistency(old.size() as i64, new.size() as i64).await.unwrap();
                let path = parse_path(&proof.proof).unwrap();
                verify_consistency(old.size(), new.size(), old.root(), new.root(), &path).unwrap();
            }
        }
    }
}

/// The floor counts from the log's time, which a clock that goes back is behind and a clock that was fast is ahead of.
#[tokio::test(flavor = "multi_thread")]
async fn i14_a_clock_that_is_wrong_destroys_nothing_before_its_day() {
    for audit in everywhere().await {
        let [right, fast, slow] = [1, 2, 3].map(|who| classed(who, General, &audit));
        audit.append(vec![right.clone()]).await.unwrap();
        audit.set_back(HOUR);
        audit.append(vec![slow.clone()]).await.unwrap();
        audit.clock.advance(2 * HOUR);
        audit.append(vec![fast.clone()]).await.unwrap();
        audit.set_back(HOUR);
        let day = 365 * Duration::from_secs(86_400);
        let accepted = [
            audit.accepted(0).await,
            audit.accepted(1).await,
            audit.accepted(2).await,
        ];
        assert_eq!(
            accepted,
            [audit.clock.now(), audit.clock.now(), audit.clock.now().plus(HOUR)]
        );
        for who in [1, 2, 3] {
            audit.erase(who, &[]).await.unwrap();
        }
        audit.clock.advance(day - Duration::from_secs(1));
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.cleared().await, [false; 3], "a second before");
        audit.set_back(HOUR);
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.cleared().await, [false; 3], "the clock goes back");
        audit.clock.advance(HOUR + Duration::from_secs(1));
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.cleared().await, [true, true, false], "on the day of two");
        audit.clock.advance(HOUR);
        audit.log.sweep().await.unwrap();
        assert_eq!(audit.cleared().await, [true; 3]);
        assert_eq!(audit.state(&fast).await.payload_state(), PayloadState::Erased);
        // What a clock that is a year fast wrote waits a year longer, and nothing stops.
        audit.clock.advance(YEAR);
        audit.append(vec![some_event(4)]).await.unwrap();
    }
}
