//! What an event must look like to be taken: a direct appender is told what is wrong, a relayed event is mended.

mod payload;

use std::fmt::Display;

use sammati_api::audit::v1::{self as audit, event};
use sammati_api::types::v1 as types;
use sammati_kernel::{TransactionId, TransferId, Violations};
use sammati_server::event::vocabulary::{self, EPOCH_OPENED};
use sammati_server::event::{WITHHELD, micros};
use uuid::Uuid;

/// The most characters of an id or name.
const MAX_NAME: usize = 255;

/// The type of a relayed event whose own cannot be read.
const UNREADABLE: &str = "audit.unreadable";

/// What becomes of a field that is not as it must be.
pub(super) enum Judge<'a> {
    /// The appender is told: the event's path in the request, and what is wrong so far.
    Refuse(&'a dyn Display, &'a mut Violations),
    /// The field is emptied and noted: what is in a feed cannot be changed any more, and must not hold up what follows.
    Mend(&'a mut Vec<&'static str>),
}

impl Judge<'_> {
    /// `value` must be as `allowed` says, else it is refused or emptied.
    fn must<T: Default>(&mut self, holds: bool, field: &'static str, value: &mut T, allowed: &'static str) {
        self.mend(holds, field, allowed, || *value = T::default());
    }

    /// The same for a field that is mended in another way.
    fn mend(&mut self, holds: bool, field: &'static str, allowed: &'static str, mend: impl FnOnce()) {
        match self {
            _ if holds => {}
            Self::Refuse(path, wrong) => wrong.add(format!("{path}.{field}"), allowed),
            Self::Mend(mended) => {
                mended.push(field);
                mend();
            }
        }
    }

    /// What only a direct appender is held to: a relayed event may come from a newer service, which knows more words.
    fn ask(&mut self, holds: bool, field: &'static str, allowed: &'static str) {
        if matches!(self, Self::Refuse(..)) {
            self.mend(holds, field, allowed, || {});
        }
    }

    /// Every entry of `list` must be as `allowed` says, and there must not be more than `most`: what is beyond is dropped.
    fn list<T>(
        &mut self,
        (field, most): (&'static str, usize),
        list: &mut Vec<T>,
        is_good: impl Fn(&T) -> bool,
        allowed: &'static str,
    ) {
        let holds = list.len() <= most && list.iter().all(&is_good);
        self.mend(holds, field, allowed, || {
            list.retain(is_good);
            list.truncate(most);
        });
    }
}

/// Judges everything in `event`.
pub(super) fn check(event: &mut audit::Event, judge: &mut Judge<'_>) {
    judge.ask(event.schema_version == 1, "schema_version", "1");
    // Whoever relays has given a relayed event an id if it had none.
    judge.ask(
        is_uuid_v7(&event.event_id),
        "event_id",
        "must be a UUIDv7 in lower case",
    );
    judge.must(
        event.source.is_none(),
        "source",
        &mut event.source,
        "must be empty; it is filled from the call",
    );
    let kind = &mut event.event_type;
    judge.mend(
        is_event_type(kind),
        "event_type",
        "{family}.{verb} in lower case, at most 64 characters",
        || UNREADABLE.clone_into(kind),
    );
    judge.ask(
        event::Action::try_from(event.action).is_ok_and(|a| a as i32 != 0),
        "action",
        "required: what was done",
    );
    judge.ask(
        event::Outcome::try_from(event.outcome).is_ok_and(|o| o as i32 != 0),
        "outcome",
        "required: how it ended",
    );
    judge.must(
        is_word(&event.reason_code),
        "reason_code",
        &mut event.reason_code,
        "a reason in capitals and underscores, at most 64 characters",
    );
    let class = &mut event.class;
    judge.mend(
        types::RetentionClass::try_from(*class).is_ok_and(|c| c as i32 != 0),
        "class",
        "required: how long it is kept",
        // The longest of all: what is kept too long can still go, what went cannot come back.
        || *class = types::RetentionClass::Consent.into(),
    );
    judge.must(
        event.occurred_time.as_ref().and_then(micros).is_some(),
        "occurred_time",
        &mut event.occurred_time,
        "required: when it happened, in the years 1 to 9999",
    );
    check_words(event, judge);
    check_links(event, judge);
    judge.mend(event.payload.is_some(), "payload", "required", || {});
    if let Some(payload) = &mut event.payload {
        payload::check(payload, judge);
    }
}

/// Whether there is such an event, and it is kept as long as it must be. A service that is newer than the log knows more words.
fn check_words(event: &audit::Event, judge: &mut Judge<'_>) {
    let Judge::Refuse(path, wrong) = judge else { return };
    let fault = is_event_type(&event.event_type).then(|| vocabulary::fault_of_direct(event));
    if let Some(fault) = fault.flatten() {
        wrong.add(format!("{path}.{}", fault.field), fault.allowed);
    }
    let cut = event.payload.as_ref().and_then(|payload| payload.cut.as_ref());
    if cut.is_some() && event.event_type != EPOCH_OPENED {
        wrong.add(format!("{path}.payload.cut"), "only with admin.epoch_opened");
    }
}

/// What the leaf says of other things.
fn check_links(event: &mut audit::Event, judge: &mut Judge<'_>) {
    judge.must(
        event.trace_id.is_empty() || is_trace(&event.trace_id),
        "trace_id",
        &mut event.trace_id,
        "32 lower-case hexadecimal digits",
    );
    judge.must(
        event.txn_id.is_empty() || is_txn(&event.txn_id),
        "txn_id",
        &mut event.txn_id,
        "transactions/{id} or transfers/{id}",
    );
    let cause = &mut event.causation_event_id;
    judge.must(
        cause.is_empty() || is_uuid_v7(cause),
        "causation_event_id",
        cause,
        "must be a UUIDv7 in lower case",
    );
    let kind = &mut event.resource_type;
    judge.must(
        kind.len() <= 64 && kind.bytes().all(|b| b.is_ascii_alphanumeric()),
        "resource_type",
        kind,
        "a collection, as \"consents\", at most 64 characters",
    );
}

/// Makes a payload that is over the bound fit into it, the least needed first. Each field being bounded, that is enough.
pub(super) fn cut(payload: &mut audit::Payload, fits: impl Fn(&audit::Payload) -> bool) {
    if !fits(payload) {
        payload.changed_fields.clear();
    }
    if !fits(payload) {
        payload.decision.iter_mut().for_each(|decision| decision.checked = None);
    }
    if !fits(payload) {
        payload.object_refs.clear();
    }
}

/// An id for a relayed event that has none of its own: made from the chain hash after it, so that the same event gets
/// the same one again. Its time is the end of time, which no event's is.
pub(super) fn stand_in(chain: &[u8]) -> String {
    let mut id = [0xff; 16];
    for (to, from) in id[6..].iter_mut().zip(chain) {
        *to = *from;
    }
    id[6] = 0x70 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    Uuid::from_bytes(id).to_string()
}

/// Whether `id` is a lower-case, hyphenated UUIDv7.
pub(super) fn is_uuid_v7(id: &str) -> bool {
    let plain = id.len() == 36 && !id.bytes().any(|b| b.is_ascii_uppercase());
    plain && Uuid::try_parse(id).is_ok_and(|id| id.get_version_num() == 7)
}

/// Whether `id` is a W3C trace id.
pub(super) fn is_trace(id: &str) -> bool {
    id.len() == 32 && is_hex(id)
}

/// Whether `name` may be an id or a resource name: bounded, and without control characters. Empty is fine.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

fn is_txn(name: &str) -> bool {
    TransactionId::parse_name(name).is_some() || TransferId::parse_name(name).is_some()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `word` is one of a closed vocabulary in capitals, as `MOBILE_OTP`. Empty is fine, and so is what was withheld.
fn is_word(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    word == WITHHELD || word.len() <= 64 && word.bytes().all(plain)
}

fn is_event_type(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.len() <= 64
        && text
            .split_once('.')
            .is_some_and(|(family, verb)| part(family) && part(verb))
}

#[cfg(test)]
mod tests;
