//! The rounds of erasing: each goes on past what is refused, and begins with what a restore undid.

use sammati_api::audit::v1::class_erasure::State;
use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::types::v1::RetentionClass::{Access, General};
use sammati_audit::Rounds;
use sammati_kernel::{Clock, Micros, Reason};
use sammati_store::Location;

use crate::erasing::{YEAR, classed, states};
use crate::fixture::{Audit, account, everywhere};
use crate::kept::execute;

/// Has all rows of a table as a newer release writes them, which this one does not rewrite; or as this one does.
fn set_format(location: &Location, table: &str, format: u8) {
    execute(location, &format!("UPDATE {table} SET format = {format}"));
}

impl Audit {
    async fn is_gone(&self, at: u64) -> bool {
        self.log.leaf(at).await.unwrap().unwrap().payload.is_empty()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_one_whose_erasure_is_refused_keeps_nobody_waiting() {
    for audit in everywhere().await {
        let [refused, other, due] = [1, 2, 3].map(|who| classed(who, General, &audit));
        audit.append(vec![refused]).await.unwrap();
        set_format(&audit.key_location(), "payload_key", 9);
        audit.append(vec![other, due]).await.unwrap();
        audit.erase(3, &[]).await.unwrap();
        audit.clock.advance(YEAR);
        let mut rounds = Rounds::default();
        let purged = || vec![account(1), account(2)];
        let told = rounds.round(&audit.log, purged()).await.unwrap_err();
        assert_eq!(told.reason, Reason::Internal);
        assert!(!audit.is_gone(0).await);
        assert!(audit.is_gone(1).await, "she who comes after it");
        assert!(audit.is_gone(2).await, "what was booked before");
        // Whatever was in the way of hers is out of it.
        set_format(&audit.key_location(), "payload_key", 2);
        rounds.round(&audit.log, purged()).await.unwrap();
        assert!(audit.is_gone(0).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_a_class_whose_erasure_is_refused_keeps_no_other_waiting() {
    for audit in everywhere().await {
        let events = [Access, General].map(|class| classed(1, class, &audit));
        audit.append(events.to_vec()).await.unwrap();
        assert_eq!(
            states(&audit.erase(1, &[Access]).await.unwrap()),
            [(Access, State::Booked)]
        );
        set_format(&audit.location(), "erasure", 9);
        audit.clock.advance(YEAR);
        let refused = audit.erase(1, &[Access, General]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Internal);
        assert_eq!([audit.is_gone(0).await, audit.is_gone(1).await], [false, true]);
        set_format(&audit.location(), "erasure", 2);
        audit.log.sweep().await.unwrap();
        assert!(audit.is_gone(0).await);
    }
}

/// Else what is told afterwards would move the day of what was booked before, and go with it.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_key_database_that_was_restored_takes_no_line_of_a_booking_away() {
    // Restored to before the first demand, or to before there was a key at all.
    for is_empty in [false, true] {
        for audit in everywhere().await {
            let keys = audit.key_location();
            execute(&keys, "CREATE TABLE backup AS SELECT * FROM payload_key");
            audit.append(vec![classed(1, General, &audit)]).await.unwrap();
            if !is_empty {
                execute(&keys, "INSERT INTO backup SELECT * FROM payload_key");
            }
            let mut days = Vec::new();
            for demand in 0..2 {
                if demand > 0 {
                    audit.append(vec![classed(1, General, &audit)]).await.unwrap();
                }
                let booked = audit.erase(1, &[General]).await.unwrap().remove(0);
                days.push(Micros::from_seconds(booked.due_time.unwrap().seconds + 1));
                audit.clock.advance(YEAR / 4);
            }
            execute(&keys, "DELETE FROM payload_key WHERE 1=1");
            execute(&keys, "INSERT INTO payload_key SELECT * FROM backup");
            let audit = audit.restart().await;
            assert_eq!(audit.log.erase_again().await.unwrap(), 1);
            assert_eq!(audit.log.erase_again().await.unwrap(), 0, "once");

            let later = classed(1, General, &audit);
            audit.append(vec![later.clone()]).await.unwrap();
            let header = audit.log.leaf(2).await.unwrap().unwrap().header();
            assert!(header.key_id.ends_with("/2"), "{}", header.key_id);
            assert!(audit.clock.now() < days[0]);
            for (n, day) in days.into_iter().enumerate() {
                audit.clock.set(day);
                audit.log.sweep().await.unwrap();
                let gone = [audit.is_gone(0).await, audit.is_gone(1).await, audit.is_gone(2).await];
                assert_eq!(gone, [true, n > 0, false], "on the day of {n}");
            }
            assert_eq!(audit.state(&later).await.payload_state(), PayloadState::Readable);
        }
    }
}
