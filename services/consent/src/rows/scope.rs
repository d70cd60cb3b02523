//! A scope as it is kept: care contexts only as keyed hashes.

use std::collections::BTreeSet;

use sammati_kernel::{AccessMode, HiType, Micros, PurposeCode, Refusal};

use super::broken;
use crate::scope::{Frequency, Range, Scope, Unit};

/// See [`Scope`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ScopeRow {
    #[prost(int32, tag = "1")]
    purpose: i32,
    #[prost(int32, repeated, tag = "2")]
    hi_types: Vec<i32>,
    #[prost(int32, tag = "3")]
    access_mode: i32,
    #[prost(int64, tag = "4")]
    from: i64,
    #[prost(int64, tag = "5")]
    to: i64,
    #[prost(int64, tag = "6")]
    erase: i64,
    #[prost(int32, tag = "7")]
    unit: i32,
    #[prost(int32, tag = "8")]
    value: i32,
    #[prost(int32, tag = "9")]
    repeats: i32,
    #[prost(int32, tag = "10")]
    max_uses: i32,
    #[prost(bool, tag = "11")]
    bind_requester: bool,
    #[prost(bytes = "vec", repeated, tag = "12")]
    care_contexts: Vec<Vec<u8>>,
}

impl From<&Scope> for ScopeRow {
    fn from(scope: &Scope) -> Self {
        Self {
            purpose: scope.purpose.number(),
            hi_types: scope.hi_types.iter().map(|t| t.number()).collect(),
            access_mode: scope.access_mode.number(),
            from: scope.record_range.from.0,
            to: scope.record_range.to.0,
            erase: scope.erase_time.0,
            unit: scope.frequency.unit.number(),
            value: scope.frequency.value,
            repeats: scope.frequency.repeats,
            max_uses: scope.max_uses,
            bind_requester: scope.bind_requester,
            care_contexts: scope.care_contexts.iter().map(|key| key.to_vec()).collect(),
        }
    }
}

impl ScopeRow {
    /// Whether it is bound to care contexts that are named.
    pub fn names_care_contexts(&self) -> bool {
        !self.care_contexts.is_empty()
    }

    /// Its purpose, if this code knows it.
    pub fn purpose(&self) -> Option<PurposeCode> {
        PurposeCode::from_number(self.purpose)
    }

    /// When it ends.
    pub const fn erase_time(&self) -> i64 {
        self.erase
    }

    /// Ends it at `time`.
    pub const fn end_at(&mut self, time: i64) {
        self.erase = time;
    }

    /// Reads it back.
    ///
    /// # Errors
    /// INTERNAL when it was not written by [`From`].
    pub fn read(&self) -> Result<Scope, Refusal> {
        self.scope().ok_or_else(|| broken("a scope"))
    }

    fn scope(&self) -> Option<Scope> {
        let keys = self.care_contexts.iter().map(|key| key.as_slice().try_into().ok());
        Some(Scope {
            purpose: self.purpose()?,
            hi_types: self
                .hi_types
                .iter()
                .map(|n| HiType::from_number(*n))
                .collect::<Option<BTreeSet<_>>>()?,
            access_mode: AccessMode::from_number(self.access_mode)?,
            record_range: Range {
                from: Micros(self.from),
                to: Micros(self.to),
            },
            erase_time: Micros(self.erase),
            frequency: Frequency {
                unit: Unit::from_number(self.unit)?,
                value: self.value,
                repeats: self.repeats,
            },
            max_uses: self.max_uses,
            bind_requester: self.bind_requester,
            care_contexts: keys.collect::<Option<BTreeSet<_>>>()?,
        })
    }
}
