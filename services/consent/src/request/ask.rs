//! What is asked, and whether it may be by the clock and by what is known of the parties.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Months};
use sammati_api::types::v1::{CareContextRef, NoticeRef, Requester};
use sammati_kernel::{ConsentId, Micros, ParticipantId, Reason, Refusal, Role, Violations};

use crate::artefact;
use crate::directory::Directory;
use crate::scope::{Range, Scope};

/// The shortest and the longest window.
const WINDOW: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(30 * 24 * 3600));

/// The longest life of a consent, in calendar years.
const YEARS: u32 = 5;

/// What is asked, well formed, whoever the patient turns out to be.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The asker.
    pub hiu: ParticipantId,
    /// The address, in lower case.
    pub patient: String,
    /// The providers.
    pub hips: Vec<ParticipantId>,
    /// The professional.
    pub requester: Requester,
    /// What is asked; without care contexts, which are hashed for their patient.
    pub scope: Scope,
    /// Care contexts that are named; then there is one provider.
    pub care_contexts: Vec<CareContextRef>,
    /// The notice.
    pub notice: NoticeRef,
    /// The end of the window, if one was asked for.
    pub expire: Option<Micros>,
    /// The consent whose place it would take.
    pub renews: Option<ConsentId>,
}

impl Ask {
    /// Whether it may be asked now. Not before the command decides: a repeat is answered with what was done, whatever
    /// the clock says by then.
    ///
    /// # Errors
    /// IDENTITY_STALE, PARTICIPANT_NOT_ACTIVE, HIP_UNKNOWN, SCOPE_INVALID or FIELD_INVALID.
    pub fn check(&self, directory: &dyn Directory, now: Micros) -> Result<(), Refusal> {
        directory.fresh()?;
        let mut roles = Role::ALL
            .into_iter()
            .filter(|role| self.scope.purpose.may_be_asked_by(*role));
        if !roles.any(|role| directory.is_active_as(&self.hiu, role)) {
            return Err(Refusal::new(Reason::ParticipantNotActive)
                .saying("your participant is not active in a role that may ask for this purpose; ask the operator"));
        }
        let mut faults = Faults::default();
        let times = Times {
            record_range: Some(self.scope.record_range),
            erase: Some(self.scope.erase_time),
            expire: self.expire,
        };
        times.check(&mut faults, now);
        for (n, hip) in self.hips.iter().enumerate() {
            if !directory.is_active_as(hip, Role::Hip) {
                let why = "no active HIP; leave it out or ask the operator";
                faults.add(Reason::HipUnknown, format!("hips[{n}]"), why);
            }
        }
        if !artefact::fits(self) {
            let why = "too many for one artefact of 16 KiB; name fewer, or none for all";
            faults.add(Reason::ScopeInvalid, "scope.care_contexts", why);
        }
        faults.check()
    }
}

/// The times of an ask, as far as they could be read.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The dates of the records.
    pub record_range: Option<Range>,
    /// When the receiver must have erased them.
    pub erase: Option<Micros>,
    /// The end of the window.
    pub expire: Option<Micros>,
}

impl Times {
    /// Where they must lie by the clock, in ABDM's words.
    pub fn check(&self, faults: &mut Faults, now: Micros) {
        if self
            .record_range
            .is_some_and(|range| range.from > now || range.to > now)
        {
            let why = "Invalid from/to date. Date must be a present/before date";
            faults.add(Reason::ScopeInvalid, "scope.record_range", why);
        }
        if self.erase.is_some_and(|at| at <= now) {
            let why = "Invalid data erase date. Date must be a future date";
            faults.add(Reason::ScopeInvalid, "scope.erase_time", why);
        }
        if self.erase.is_some_and(|at| at > years_after(now)) {
            faults.add(Reason::ScopeInvalid, "scope.erase_time", "at most 5 years from now");
        }
        let window = now.plus(WINDOW.0)..=now.plus(WINDOW.1);
        if self.expire.is_some_and(|at| !window.contains(&at)) {
            let why = "1 hour to 30 days from now, or unset for 7 days";
            faults.add(Reason::FieldInvalid, "expire_time", why);
        }
    }
}

/// The same day and hour five years on; 28 February for a leap day.
fn years_after(now: Micros) -> Micros {
    let then = DateTime::from_timestamp_micros(now.0).and_then(|t| t.checked_add_months(Months::new(12 * YEARS)));
    then.map_or(now, |then| Micros(then.timestamp_micros()))
}

/// Everything that is wrong with an ask. What stands alone is told by a reason of its own.
#[derive(Debug, Default)]
pub struct Faults {
    found: Violations,
    reasons: BTreeSet<Reason>,
}

impl Faults {
    /// `field` is wrong, for which `reason` stands.
    pub fn add(
        &mut self,
        reason: Reason,
        field: impl Into<std::borrow::Cow<'static, str>>,
        why: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        self.found.add(field, why);
        self.reasons.insert(reason);
    }

    /// Takes over what was found under `reason`, if anything was.
    pub fn merge(&mut self, reason: Reason, found: Violations) {
        if !found.is_empty() {
            self.found.merge(found);
            self.reasons.insert(reason);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// `Ok` when nothing is wrong, else one refusal that names everything.
    ///
    /// # Errors
    /// The reason of all that was found; of several, SCOPE_INVALID if one is about the scope, else FIELD_INVALID.
    pub fn check(self) -> Result<(), Refusal> {
        let mut reasons = self.reasons.into_iter();
        let reason = match (reasons.next(), reasons.next()) {
            (Some(only), None) => only,
            _ if self.found.iter().any(|v| v.field.starts_with("scope")) => Reason::ScopeInvalid,
            _ => Reason::FieldInvalid,
        };
        self.found.check_as(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Micros {
        Micros(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    #[test]
    fn five_years_are_those_of_the_calendar() {
        // Two leap days lie in the first five years, one in the second.
        assert_eq!(years_after(at("2027-11-27T10:00:00Z")), at("2032-11-27T10:00:00Z"));
        assert_eq!(years_after(at("2025-06-01T00:00:00Z")), at("2030-06-01T00:00:00Z"));
        assert_eq!(years_after(at("2028-02-29T00:00:00Z")), at("2033-02-28T00:00:00Z"));
    }

    #[test]
    fn a_fault_that_stands_alone_has_its_own_reason_and_several_share_one() {
        let reason = |found: &[(Reason, &'static str)]| {
            let mut faults = Faults::default();
            for (reason, field) in found {
                faults.add(*reason, *field, "wrong");
            }
            faults.check().unwrap_err().reason
        };
        let hip = (Reason::HipRequired, "hips");
        assert_eq!(reason(&[hip]), Reason::HipRequired);
        assert_eq!(reason(&[hip, (Reason::FieldInvalid, "patient")]), Reason::FieldInvalid);
        assert_eq!(
            reason(&[hip, (Reason::PurposeNotRequestable, "scope.purpose.code")]),
            Reason::ScopeInvalid
        );
        assert!(Faults::default().check().is_ok());
    }
}
