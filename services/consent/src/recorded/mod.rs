//! What recorded it? The steps of everything that is kept of one person, as the log has them, by what they were done to.

mod log;

use std::collections::HashMap;

use ring::digest::{SHA256, digest};
use sammati_api::audit::v1::LogEvent;
use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::NoticeRef;
use uuid::Uuid;

pub use log::{Asked, Logs, Proved};

/// The most steps of one person that are held; the oldest are left out, and what they made is told as incomplete.
const MOST: usize = 100_000;

/// What is done to a resource without being a step of it; reading is none either, unless she was shown a notice.
const NO_STEPS: [&str; 3] = ["data.use_consumed", "link.data_available", "policy.applied"];

/// That a request was granted is told by each consent that came of it.
const GRANTED: &str = "consent.granted";

/// What makes something, when it leaves it in version 1.
const MAKING: [&str; 12] = [
    "access.break_glass",
    GRANTED,
    "consent.requested",
    "consent.step_up_set",
    "data.requested",
    "identity.linked",
    "identity.profile_shared",
    "link.discovery_started",
    "policy.enabled",
    "rights.opened",
    "subscription.granted",
    "subscription.requested",
];

/// One event that recorded something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its id.
    pub id: Uuid,
    /// Which of the logs has it.
    pub log: u8,
    /// Its type, among those that were met.
    kind: u16,
    /// Whether it made the resource.
    is_first: bool,
}

/// What an index knows something by: names would be longer than all else.
type Key = [u8; 16];

/// All steps of one person.
#[derive(Debug, Default)]
pub struct Steps {
    /// Newest first.
    by_name: HashMap<Key, Vec<Step>>,
    kinds: Vec<String>,
    count: usize,
}

impl Steps {
    /// Takes an event of the log with this number; they come newest first.
    fn take(&mut self, log: u8, event: &LogEvent) {
        let (Some(header), Some(payload)) = (&event.header, &event.payload) else {
            return;
        };
        let Ok(id) = Uuid::parse_str(&header.event_id) else {
            return;
        };
        let kind = header.event_type.as_str();
        let is_reading = header.action() == Action::Read && payload.notice.is_none();
        if is_reading || NO_STEPS.contains(&kind) {
            return;
        }
        let step = Step {
            id,
            log,
            kind: self.kind(kind),
            is_first: payload.resource_version == 1 && MAKING.contains(&kind),
        };
        self.add(&payload.resource, step);
        for name in &payload.object_refs {
            if name.contains("/artefacts/") {
                self.add(name, Step { is_first: true, ..step });
            } else if kind == GRANTED && name.starts_with("consentRequests/") {
                // A grant is the request's last step as well.
                self.add(
                    name,
                    Step {
                        is_first: false,
                        ..step
                    },
                );
            }
        }
        if let Some(notice) = &payload.notice {
            self.add(&notice_key(notice), Step { is_first: true, ..step });
        }
    }

    fn add(&mut self, name: &str, step: Step) {
        if self.count < MOST {
            self.count += 1;
            self.by_name.entry(key(name)).or_default().push(step);
        }
    }

    fn kind(&mut self, event_type: &str) -> u16 {
        let at = self.kinds.iter().position(|kind| kind == event_type);
        let at = at.unwrap_or_else(|| {
            self.kinds.push(event_type.to_owned());
            self.kinds.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// The steps of what has this name, oldest first, and whether the one that made it is among them: then they are all.
    pub fn of(&self, name: &str) -> (Vec<Step>, bool) {
        let mut steps = self.by_name.get(&key(name)).cloned().unwrap_or_default();
        steps.reverse();
        let is_whole = steps.iter().any(|step| step.is_first);
        (steps, is_whole)
    }

    /// What kind of event it was.
    pub fn kind_of(&self, step: Step) -> &str {
        self.kinds.get(usize::from(step.kind)).map_or("", String::as_str)
    }
}

/// What the showing of a notice is known by: one version in one language.
pub fn notice_key(notice: &NoticeRef) -> String {
    format!("{} {} {}", notice.notice, notice.version, notice.language)
}

fn key(name: &str) -> Key {
    let hash = digest(&SHA256, name.as_bytes());
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sammati_api::audit::v1::{Leaf, Payload};

    fn event(n: u128, event_type: &str, resource: &str, version: i64) -> LogEvent {
        LogEvent {
            header: Some(Leaf {
                event_id: Uuid::from_u128(n).to_string(),
                event_type: event_type.to_owned(),
                ..Leaf::default()
            }),
            payload: Some(Payload {
                resource: resource.to_owned(),
                resource_version: version,
                ..Payload::default()
            }),
            ..LogEvent::default()
        }
    }

    fn ids(steps: &[Step]) -> Vec<u128> {
        steps.iter().map(|step| step.id.as_u128()).collect()
    }

    #[test]
    fn steps_come_oldest_first_and_are_whole_with_the_first() {
        let mut steps = Steps::default();
        for event in [
            event(4, "consent.paused", "consents/1", 2),
            event(3, "consent.artefact_issued", "consents/2", 1),
            event(2, "consent.granted", "consents/1", 1),
        ] {
            steps.take(0, &event);
        }
        let (of, is_whole) = steps.of("consents/1");
        assert_eq!((ids(&of), is_whole), (vec![2, 4], true));
        assert_eq!(steps.kind_of(of[1]), "consent.paused");
        let (of, is_whole) = steps.of("consents/2");
        assert_eq!((ids(&of), is_whole), (vec![3], false));
        assert_eq!(steps.of("consents/3"), (Vec::new(), false));
    }

    #[test]
    fn what_changes_nothing_is_no_step_and_what_is_erased_tells_nothing() {
        let mut steps = Steps::default();
        for (n, kind) in NO_STEPS.into_iter().enumerate() {
            steps.take(0, &event(n as u128, kind, "consents/1", 1));
        }
        let mut receipt = event(8, "consent.receipt_issued", "consents/1", 1);
        receipt.header.as_mut().unwrap().action = Action::Read.into();
        steps.take(0, &receipt);
        let erased = LogEvent {
            payload: None,
            ..event(9, "consent.granted", "consents/1", 1)
        };
        steps.take(0, &erased);
        assert_eq!(steps.of("consents/1"), (Vec::new(), false));
    }

    #[test]
    fn an_artefact_and_a_notice_are_recorded_by_what_names_them() {
        let mut steps = Steps::default();
        let mut issued = event(1, "consent.artefact_issued", "consents/1", 5);
        let notice = NoticeRef {
            notice: "notices/a".to_owned(),
            version: 2,
            language: "ta".to_owned(),
            ..NoticeRef::default()
        };
        let payload = issued.payload.as_mut().unwrap();
        payload.object_refs = vec![
            "participants/clinic".to_owned(),
            "consents/1/artefacts/hip-2".to_owned(),
        ];
        payload.notice = Some(notice.clone());
        steps.take(0, &issued);
        for name in ["consents/1/artefacts/hip-2", &notice_key(&notice)] {
            let (of, is_whole) = steps.of(name);
            assert_eq!((ids(&of), is_whole), (vec![1], true), "{name}");
        }
        assert_eq!(steps.of("participants/clinic").0, []);
    }

    #[test]
    fn a_grant_is_a_step_of_its_request_and_does_not_make_it() {
        let mut steps = Steps::default();
        let mut granted = event(2, "consent.granted", "consents/1", 1);
        granted.payload.as_mut().unwrap().object_refs = vec!["consentRequests/1".to_owned()];
        steps.take(0, &granted);
        let (of, is_whole) = steps.of("consentRequests/1");
        assert_eq!((ids(&of), is_whole), (vec![2], false));
        steps.take(0, &event(1, "consent.requested", "consentRequests/1", 1));
        let (of, is_whole) = steps.of("consentRequests/1");
        assert_eq!((ids(&of), is_whole), (vec![1, 2], true));
    }

    #[test]
    fn what_is_held_is_bounded_and_the_oldest_are_left_out() {
        let mut steps = Steps::default();
        for n in 0..=MOST as u128 {
            let version = i64::from(n == MOST as u128);
            steps.take(
                0,
                &event(n, "consent.paused", "consents/1", version + 7 * (1 - version)),
            );
        }
        let (of, is_whole) = steps.of("consents/1");
        assert_eq!((of.len(), is_whole), (MOST, false));
    }
}
