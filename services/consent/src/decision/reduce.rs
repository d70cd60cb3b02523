//! All or nothing, or what is granted of what was asked.

use std::collections::BTreeSet;

use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::HiType;

use super::{Facts, Granted, Question};
use crate::lookup::ContextKey;
use crate::scope::{Range, Scope};

/// The part of a question that a consent permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permitted {
    /// The kinds of record.
    pub hi_types: BTreeSet<HiType>,
    /// The dates of the records.
    pub record_range: Range,
    /// The care contexts, of those that were named.
    pub care_contexts: BTreeSet<ContextKey>,
}

/// Rule 15. Without kinds, for a transfer: all that are granted.
pub(super) fn hi_types(question: &Question, granted: &Scope) -> bool {
    let is_all = question.hi_types.is_subset(&granted.hi_types);
    is_all || (question.allow_reduced && !question.hi_types.is_disjoint(&granted.hi_types))
}

/// Rule 16.
pub(super) fn record_range(question: &Question, granted: &Scope) -> bool {
    let (asked, granted) = (question.record_range, granted.record_range);
    granted.contains(asked) || (question.allow_reduced && !common(asked, granted).is_empty())
}

/// Rule 17.
pub(super) fn care_contexts(question: &Question, facts: &impl Facts, granted: &Scope) -> bool {
    let mut asked = question.care_contexts.iter();
    let holds = |key: &ContextKey| holds(key, facts, granted);
    if question.allow_reduced {
        question.care_contexts.is_empty() || asked.any(holds)
    } else {
        asked.all(holds)
    }
}

fn holds(key: &ContextKey, facts: &impl Facts, granted: &Scope) -> bool {
    let named = granted.care_contexts.is_empty() || granted.care_contexts.contains(key);
    named && facts.is_linked(key)
}

fn common(a: Range, b: Range) -> Range {
    Range {
        from: a.from.max(b.from),
        to: a.to.min(b.to),
    }
}

/// The reason of a permit: whether it is for all that was asked.
pub(super) fn granted(question: &Question, facts: &impl Facts, consent: &Granted) -> Reason {
    if !question.allow_reduced || permitted(question, facts, consent) == whole(question) {
        Reason::Granted
    } else {
        Reason::GrantedReduced
    }
}

fn whole(question: &Question) -> Permitted {
    Permitted {
        hi_types: question.hi_types.clone(),
        record_range: question.record_range,
        care_contexts: question.care_contexts.clone(),
    }
}

/// What a consent that permits leaves of the question.
pub fn permitted(question: &Question, facts: &impl Facts, consent: &Granted) -> Permitted {
    let scope = &consent.scope;
    let contexts = question.care_contexts.iter();
    Permitted {
        hi_types: question.hi_types.intersection(&scope.hi_types).copied().collect(),
        record_range: common(question.record_range, scope.record_range),
        care_contexts: contexts.filter(|key| holds(key, facts, scope)).copied().collect(),
    }
}
