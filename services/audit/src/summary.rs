//! Who was allowed to see one person's data, and who tried: counted from her decisions and transfers.

use std::collections::{BTreeMap, BTreeSet};

use sammati_api::audit::v1::{self as audit, Leaf, Payload, event};
use sammati_api::types::v1::ParticipantRole;
use sammati_kernel::Micros;
use sammati_server::event::{micros, timestamp};

use crate::keyring::Opened;

/// The lines so far.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// By recipient and purpose.
    lines: BTreeMap<(String, i32), Line>,
    erased: i64,
}

#[derive(Debug, Default)]
struct Line {
    first: Option<Micros>,
    last: Option<Micros>,
    allowed: i64,
    denied: i64,
    hi_types: BTreeSet<i32>,
}

/// Whether somebody was allowed or refused to see data in it. A transfer that a decision caused is in that one's event.
fn counts(header: &Leaf) -> bool {
    match header.event_type.as_str() {
        "access.authorized" | "access.denied" | "access.break_glass" => true,
        "data.requested" => header.causation_event_id.is_empty(),
        _ => false,
    }
}

impl Summary {
    /// Counts one event, if it belongs here and occurred within the range.
    pub(crate) fn take(&mut self, header: &Leaf, opened: &Opened, occurred: Option<(i64, i64)>) {
        let at = header.occurred_time.as_ref().and_then(micros).unwrap_or_default();
        if !counts(header) || occurred.is_some_and(|(from, to)| !(from..to).contains(&at.0)) {
            return;
        }
        let Opened::Readable(payload) = opened else {
            self.erased += 1;
            return;
        };
        let line = self
            .lines
            .entry((recipient(header, payload), payload.purpose))
            .or_default();
        line.first = Some(line.first.map_or(at, |first| first.min(at)));
        line.last = Some(line.last.map_or(at, |last| last.max(at)));
        let times = payload.counts.as_ref().map_or(1, |counts| counts.repeats.max(1));
        if header.outcome == i32::from(event::Outcome::Success) {
            line.allowed += times;
            let checked = payload.decision.as_ref().and_then(|decision| decision.checked.as_ref());
            line.hi_types
                .extend(checked.into_iter().flat_map(|scope| &scope.hi_types));
        } else {
            line.denied += times;
        }
    }

    /// The summary on the wire.
    pub(crate) fn answer(self, events: u64) -> audit::AccessSummary {
        let mut lines: Vec<_> = self.lines.into_iter().collect();
        lines.sort_by_key(|(_, line)| std::cmp::Reverse(line.last));
        let line = |((recipient, purpose), line): ((String, i32), Line)| audit::RecipientAccess {
            recipient,
            purpose,
            first_time: line.first.map(timestamp),
            last_time: line.last.map(timestamp),
            allowed_count: line.allowed,
            denied_count: line.denied,
            hi_types: line.hi_types.into_iter().collect(),
        };
        audit::AccessSummary {
            recipients: lines.into_iter().map(line).collect(),
            erased_count: self.erased,
            event_count: crate::wire::number(events),
        }
    }
}

/// Who was to see the data. Who breaks the glass sees it. A transfer names the HIP, then the HIU; a decision the requester
/// first, but for two: one that a HIP asked about a consent alone begins with the HIP, and whom it would have sent the data
/// to is not known when there was no such consent; and one of a requester whom she blocks does not name it as a party.
pub(crate) fn recipient(header: &Leaf, payload: &Payload) -> String {
    // What a study was told of it learned under a pseudonym: its sponsor is no party to the event, its name stands there.
    if let Some(study) = payload.object_refs.iter().find(|name| name.starts_with("studies/")) {
        return study.clone();
    }
    let actor = payload.actor.clone().unwrap_or_default();
    let mut parties = payload
        .object_refs
        .iter()
        .filter(|name| name.starts_with("participants/"));
    let (first, second) = (parties.next(), parties.next());
    let only_hip = actor.roles == [i32::from(ParticipantRole::Hip)];
    if header.event_type == "access.break_glass" || (header.reason_code == "BLOCKED_BY_SUBJECT" && !only_hip) {
        return actor.id;
    }
    let provider_first = header.event_type.starts_with("data.") || (only_hip && first == Some(&actor.id));
    let found = if provider_first { second } else { first };
    found.cloned().unwrap_or_default()
}
