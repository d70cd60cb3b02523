//! How often may one be guessed at? Counts per identifier, kept in its row under its partition's lock: over all apps,
//! all replicas and all restarts.

use std::time::Duration;

use sammati_api::identity::v1::transaction::Purpose;
use sammati_kernel::{EAST, Micros, Reason, Refusal};

use super::probe::{PROBES, probe_limit};
use crate::rows::{Credential, GuardRow, PurposeBlock};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The first and second block of a day.
const BLOCK: Duration = Duration::from_secs(30 * 60);
/// OTPs to one identifier in a day, over all apps.
const SENDS_A_DAY: usize = 10;
/// The block of a day that lasts a day.
const ABUSE: usize = 3;
/// Passwords, or PINs, tried in a day before they are refused.
const TRIES_A_DAY: i32 = 5;

impl GuardRow {
    /// The counts of nobody yet.
    pub(crate) fn of(subject: &[u8]) -> Self {
        Self {
            subject: subject.to_vec(),
            ..Self::default()
        }
    }

    /// Refuses while `purpose` is blocked.
    pub(crate) fn check(&self, purpose: Purpose, now: Micros) -> Result<(), Refusal> {
        let blocks = self
            .blocks
            .iter()
            .find(|b| b.purpose == i32::from(purpose) && now.0 < b.until);
        blocks.map_or(Ok(()), |block| Err(refusal(block, now)))
    }

    /// Counts an OTP about to be sent, or refuses and blocks: keep the row in either case.
    pub(crate) fn count_send(&mut self, purpose: Purpose, now: Micros) -> Result<(), Refusal> {
        self.check(purpose, now)?;
        self.sends.retain(|at| *at > now.minus(DAY).0);
        if self.sends.len() >= SENDS_A_DAY {
            return Err(self.block(purpose, now).recorded());
        }
        self.sends.push(now.0);
        Ok(())
    }

    /// Blocks `purpose`; tells how.
    pub(crate) fn block(&mut self, purpose: Purpose, now: Micros) -> Refusal {
        let purpose = i32::from(purpose);
        if !self.blocks.iter().any(|b| b.purpose == purpose) {
            self.blocks.push(PurposeBlock {
                purpose,
                ..PurposeBlock::default()
            });
        }
        let Some(block) = self.blocks.iter_mut().find(|b| b.purpose == purpose) else {
            return Reason::OtpBlocked.into();
        };
        block.began.retain(|at| *at > now.minus(DAY).0);
        block.began.push(now.0);
        block.abuse = block.began.len() >= ABUSE;
        block.until = now.plus(if block.abuse { DAY } else { BLOCK }).0;
        refusal(block, now)
    }

    /// Counts a password about to be compared.
    pub(crate) fn count_password(&mut self, now: Micros) -> Result<(), Refusal> {
        if let Some(until) = self.lock_until(now) {
            return Err(Refusal::new(Reason::AccountLocked)
                .saying("five wrong passwords today; log in with an OTP, or try again tomorrow")
                .retry_after(until.since(now)));
        }
        self.begin_day(now);
        self.passwords += 1;
        Ok(())
    }

    /// Counts one about to be compared.
    pub(crate) fn count(&mut self, credential: Credential, now: Micros) -> Result<(), Refusal> {
        match credential {
            Credential::Password => self.count_password(now),
            Credential::Pin => self.count_pin(now),
        }
    }

    /// Counts a PIN about to be compared.
    pub(crate) fn count_pin(&mut self, now: Micros) -> Result<(), Refusal> {
        if self.day == day(now) && self.pins >= TRIES_A_DAY {
            return Err(Refusal::new(Reason::AccountLocked)
                .saying("five wrong PINs today; set a new PIN on the strength of an OTP, or try again tomorrow")
                .retry_after(self.day_end().since(now)));
        }
        self.begin_day(now);
        self.pins += 1;
        Ok(())
    }

    /// Refuses once too many addresses were asked for today that somebody had.
    pub(crate) fn check_taken(&self, now: Micros) -> Result<(), Refusal> {
        if self.day == day(now) && self.taken >= PROBES {
            return Err(probe_limit().retry_after(self.day_end().since(now)));
        }
        Ok(())
    }

    /// Counts one.
    pub(crate) fn count_taken(&mut self, now: Micros) {
        self.begin_day(now);
        self.taken += 1;
    }

    /// Counts begin anew each day.
    fn begin_day(&mut self, now: Micros) {
        let today = day(now);
        if self.day != today {
            (self.day, self.passwords, self.pins, self.taken) = (today, 0, 0, 0);
        }
    }

    fn day_end(&self) -> Micros {
        Micros::from_seconds((self.day + 1) * 86_400).minus(EAST)
    }

    /// A right one forgives the wrong ones.
    pub(crate) const fn forgive(&mut self, credential: Credential) {
        match credential {
            Credential::Password => self.passwords = 0,
            Credential::Pin => self.pins = 0,
        }
    }

    /// Until when passwords are refused, if they are.
    pub(crate) fn lock_until(&self, now: Micros) -> Option<Micros> {
        let locked = self.day == day(now) && self.passwords >= TRIES_A_DAY;
        locked.then(|| self.day_end())
    }
}

/// A day of tries ends at midnight where people live.
fn day(now: Micros) -> i64 {
    now.plus(EAST).seconds().div_euclid(86_400)
}

fn refusal(block: &PurposeBlock, now: Micros) -> Refusal {
    let refusal = if block.abuse {
        Refusal::new(Reason::AbuseBlocked).saying("too many OTPs or wrong guesses; blocked for 24 hours")
    } else {
        Refusal::new(Reason::OtpBlocked).saying("too many OTPs or wrong guesses; blocked for 30 minutes")
    };
    refusal.retry_after(Micros(block.until).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Micros = Micros(1_790_000_000_000_000);

    #[test]
    fn the_eleventh_send_of_a_day_blocks_and_the_third_block_lasts_a_day() {
        let mut guard = GuardRow::of(b"x");
        let mut now = T;
        for _ in 0..10 {
            guard.count_send(Purpose::Login, now).unwrap();
        }
        for n in 1..=3 {
            let refused = guard.count_send(Purpose::Login, now).unwrap_err();
            let (reason, wait) = if n < 3 {
                (Reason::OtpBlocked, BLOCK)
            } else {
                (Reason::AbuseBlocked, DAY)
            };
            assert!(
                refused.recorded && refused.reason == reason && refused.retry_after == Some(wait),
                "{n}"
            );
            assert!(!guard.count_send(Purpose::Login, now).unwrap_err().recorded);
            assert!(
                guard.check(Purpose::Enrol, now).is_ok(),
                "another purpose is not blocked"
            );
            now = now.plus(BLOCK);
        }
        assert!(guard.check(Purpose::Login, now).is_err());
        now = now.plus(DAY);
        guard.count_send(Purpose::Login, now).unwrap();
    }

    #[test]
    fn five_passwords_a_day_and_a_right_one_forgives() {
        let mut guard = GuardRow::of(b"x");
        for _ in 0..4 {
            guard.count_password(T).unwrap();
        }
        guard.forgive(Credential::Password);
        for _ in 0..5 {
            guard.count_password(T).unwrap();
        }
        let refused = guard.count_password(T).unwrap_err();
        let until = guard.lock_until(T).unwrap();
        assert_eq!(
            (refused.reason, refused.retry_after),
            (Reason::AccountLocked, Some(until.since(T)))
        );
        assert_eq!(until.plus(EAST).seconds() % 86_400, 0, "midnight in India");
        assert!(guard.count_password(until).is_ok());
    }

    #[test]
    fn five_pins_a_day_beside_the_passwords() {
        let mut guard = GuardRow::of(b"x");
        for _ in 0..5 {
            guard.count_pin(T).unwrap();
        }
        let refused = guard.count_pin(T).unwrap_err();
        let wait = refused.retry_after.unwrap();
        assert_eq!(refused.reason, Reason::AccountLocked);
        assert!(guard.lock_until(T).is_none() && guard.count_password(T).is_ok());
        assert!(guard.count_pin(T.plus(wait)).is_ok(), "the next day");
        guard.forgive(Credential::Pin);
        assert_eq!(guard.pins, 0);
    }
}
