//! The turn of the half-year: a log whose half-year is over is sealed by the clock, once another one waits to go on. Without
//! one it takes events beyond its half-year, for a seal has no way back and events would only pile up; and says so.

use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{Clock, Micros, Refusal, SystemClock};
use sammati_server::event::system;
use sammati_store::Location;
use sammati_store::verbs::Remark;
use tokio_util::sync::CancellationToken;

use crate::half_year;
use crate::log::{Log, SERVICE};
use crate::standing::{Next, Standing, holds};

/// How often it is looked whether the half-year is over, and who goes on then.
const EVERY: Duration = Duration::from_secs(5);

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// From when on it is told that nobody goes on: so long before the end of the half-year.
const NOTICE: i64 = 30 * DAY;

/// Turns a log.
pub struct Turn {
    log: Arc<Log>,
    next: Option<Location>,
    /// When it was told last that nobody goes on, and why.
    told: Option<(Micros, String)>,
}

impl Turn {
    /// Of `log`, which the log in the database `next` goes on from.
    pub const fn new(log: Arc<Log>, next: Option<Location>) -> Self {
        Self { log, next, told: None }
    }

    /// Looks once: seals the log if its half-year is over and another log waits to go on; and if that one has begun, for then
    /// a restore took the seal back, and no event may come to be in both.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn round(&mut self) -> Result<(), Refusal> {
        let log = &self.log;
        let (head, ends) = (log.head().await?, log.ends().await?);
        if ends.sealed.is_some() {
            log.stats.turned();
            return Ok(());
        }
        let Some(end) = half_year::end(&head.id).filter(|_| head.frozen.is_empty()) else {
            return Ok(());
        };
        let now = log.store.clock().now();
        let (place, origin) = (self.next.clone(), head.origin.clone());
        let look = move || Next::look(place.as_ref(), &origin, now);
        let next = tokio::task::spawn_blocking(look).await;
        let next = next.unwrap_or_else(|error| Next::Nobody(error.to_string()));
        let left = end.0 - now.0;
        log.stats.turns(left / 1_000_000, !matches!(next, Next::Nobody(_)));
        match next {
            Next::Begun(name) => log.seal(&system(SERVICE), &name).await?,
            Next::Waits if left <= 0 => log.seal_when_over().await?,
            Next::Waits => return Ok(()),
            Next::Nobody(why) => {
                self.tell(end, now, why);
                return Ok(());
            }
        }
        if let Some(sealed) = log.ends().await?.sealed {
            tracing::info!(
                log = log.name(),
                successor = sealed.other,
                leaves = sealed.size,
                "the log is sealed; its successor takes the events"
            );
            log.stats.turned();
        }
        Ok(())
    }

    /// Once a day, and when the reason changes.
    fn tell(&mut self, end: Micros, now: Micros, why: String) {
        if now.0 < end.0 - NOTICE {
            return;
        }
        if self
            .told
            .as_ref()
            .is_some_and(|(at, said)| *said == why && now.0 < at.0 + DAY)
        {
            return;
        }
        tracing::warn!(
            log = self.log.name(),
            ends = half_year::shown(end),
            why,
            "nobody goes on when this log's half-year is over: it takes events until somebody does (docs/OPERATIONS.md, The \
             next log)"
        );
        self.told = Some((now, why));
    }

    /// Looks again and again until `stop`.
    pub async fn keep(mut self, stop: CancellationToken) {
        let mut each = tokio::time::interval(EVERY);
        each.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(each.tick()).await.is_some() {
            self.try_round().await;
        }
    }

    /// Looks once, and says it when that fails.
    pub async fn try_round(&mut self) {
        if let Err(refusal) = self.round().await {
            tracing::warn!(
                reason = refusal.reason.as_str(),
                "the turn of the half-year could not be looked at; trying again"
            );
        }
    }
}

/// What `doctor` says of a log's end and beginning. It blocks.
pub(crate) fn remarks(own: &Location, before: Option<&Location>, next: Option<&Location>) -> Vec<Remark> {
    // That its database cannot be read is told of the database.
    let Ok(standing) = Standing::read(own) else {
        return Vec::new();
    };
    let mut remarks = Vec::new();
    let now = SystemClock.now();
    match (&standing.log, &standing.sealed) {
        (None, _) => remarks.extend(before.map(|before| waits(before, standing.waits.is_some()))),
        (Some(log), Some(sealed)) => {
            remarks.push(Remark::ok(format!(
                "logs/{} is sealed, and {} goes on",
                log.id, sealed.other
            )));
        }
        (Some(log), None) if log.frozen.is_empty() => {
            if let Some(end) = half_year::end(&log.id) {
                let next = Next::look(next, &log.origin, now);
                remarks.push(turns(&log.id, (end, now), next));
            }
        }
        (Some(log), None) => remarks.push(Remark::fail(
            format!("logs/{} is frozen: {}", log.id, log.frozen),
            "see docs/OPERATIONS.md, A frozen log",
        )),
    }
    if let Some(before) = before.filter(|_| standing.log.is_some()) {
        // That the one before is gone is as it may be, once this one has begun.
        let both = holds(before).and_then(|theirs| Ok((theirs, holds(own)?)));
        remarks.extend(both.ok().and_then(|(theirs, ours)| held(theirs, ours)));
    }
    remarks
}

/// A hold names its subject by a hash that is another one in each log, so none can be taken over.
fn held(before: usize, here: usize) -> Option<Remark> {
    (here < before).then(|| {
        Remark::warn(
            format!("the log before has {before} legal holds in force, and this one {here}"),
            "set those anew here that hold what is in this log too (RetentionService/CreateLegalHold)",
        )
    })
}

fn turns(id: &str, (end, now): (Micros, Micros), next: Next) -> Remark {
    let days = (end.0 - now.0).div_euclid(DAY);
    let until = match days {
        0.. => format!(
            "logs/{id} is of a half-year that ends at {}, in {days} days",
            half_year::shown(end)
        ),
        _ => format!("the half-year of logs/{id} ended at {}", half_year::shown(end)),
    };
    match next {
        Next::Waits => Remark::ok(format!("{until}; a log waits to go on then")),
        Next::Begun(name) => Remark::warn(
            format!("{until}; but {name}, which goes on from it, has begun: this one's seal was lost"),
            "start this service: it is sealed before it answers anybody",
        ),
        Next::Nobody(why) if end.0 - now.0 > NOTICE => Remark::ok(format!("{until}; {why}")),
        Next::Nobody(why) => Remark::warn(
            format!("{until}; {why}"),
            "start the next log and name its database under service.followed_by (docs/OPERATIONS.md, The next log)",
        ),
    }
}

fn waits(before: &Location, has_waited: bool) -> Remark {
    let why = match Standing::read(before) {
        Err(error) => Some(error.to_string()),
        Ok(Standing { log: None, .. }) => Some("there is no log in that database".to_owned()),
        Ok(Standing {
            log: Some(log), sealed, ..
        }) => match (sealed, log.frozen.is_empty()) {
            (Some(_), _) => return Remark::ok(format!("this log begins where {} ended", log.origin)),
            (None, true) => return Remark::ok(format!("this log waits for {} to be sealed", log.origin)),
            (None, false) if has_waited => Some(format!("this log waits for {}, which is frozen", log.origin)),
            (None, false) => {
                return Remark::ok(format!("this log begins where {} stands, which is frozen", log.origin));
            }
        },
    };
    Remark::fail(
        format!("service.follows: {}", why.unwrap_or_default()),
        "see docs/OPERATIONS.md, The next log and A frozen log",
    )
}

#[cfg(test)]
mod tests {
    use sammati_store::verbs::Health;

    use super::*;

    #[test]
    fn doctor_tells_of_holds_that_the_log_before_has_and_this_one_not() {
        assert_eq!(held(2, 2).map(|remark| remark.what), None);
        let told = held(2, 1).unwrap();
        assert_eq!(told.health, Health::Warn);
        assert!(
            told.what.contains("2 legal holds in force, and this one 1"),
            "{}",
            told.what
        );
    }

    #[test]
    fn doctor_tells_in_time_that_nobody_goes_on() {
        let end = half_year::end("2026h2").unwrap();
        let nobody = || Next::Nobody("nobody".to_owned());
        let of = |days: i64, next: Next| turns("2026h2", (end, Micros(end.0 - days * DAY)), next);
        assert_eq!(of(31, nobody()).health, Health::Ok);
        let soon = of(30, nobody());
        assert_eq!(soon.health, Health::Warn);
        assert!(
            soon.what.contains("2027-01-01 00:00 UTC, in 30 days; nobody"),
            "{}",
            soon.what
        );
        let over = of(-1, nobody());
        assert!(
            over.what.starts_with("the half-year of logs/2026h2 ended"),
            "{}",
            over.what
        );
        for days in [31, 1, -1] {
            assert_eq!(of(days, Next::Waits).health, Health::Ok);
            assert_eq!(of(days, Next::Begun("logs/2027h1".to_owned())).health, Health::Warn);
        }
    }
}
