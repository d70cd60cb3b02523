//! How a command tells the audit log what it did: one event for each change, in the change's own commit.

mod forbidden;
pub mod vocabulary;

use std::time::Duration;

use prost::Message;
use sammati_api::audit::v1::{self as audit, event};
use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, Actor, Caller, CallerKind, Micros, ParticipantId, Peer, Reason, Role};
use sammati_store::{NewEvent, View};

pub use forbidden::{WITHHELD, each_forbidden, withhold};

/// An event being written. Set the fields of `event` that the methods here do not cover; never anything personal but
/// ids: names, numbers, addresses and health content do not belong in it.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The event as it will stand in the feed.
    pub event: audit::Event,
    subject: Option<AccountId>,
    /// Of something else than a person: what memory holds of it ends with the commit.
    spoils: Option<Vec<u8>>,
}

/// An event that is in the feed once the batch commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emitted {
    /// Its id, a UUIDv7.
    pub id: uuid::Uuid,
    /// Its position in the partition's feed.
    pub position: i64,
}

impl Draft {
    /// `event_type` as `consent.granted`, done by `caller`.
    pub fn new(event_type: &str, action: event::Action, class: types::RetentionClass, caller: &Caller) -> Self {
        let payload = audit::Payload {
            actor: Some(actor_of(caller)),
            on_behalf_of: caller.representing().map(|acting| audit::OnBehalfOf {
                representation: acting.representation.name(),
            }),
            ..Default::default()
        };
        let event = audit::Event {
            schema_version: 1,
            event_type: event_type.to_owned(),
            action: action.into(),
            outcome: event::Outcome::Success.into(),
            class: class.into(),
            payload: Some(payload),
            ..Default::default()
        };
        Self {
            event,
            subject: None,
            spoils: None,
        }
    }

    /// About this person. Her cached state ends with the commit.
    #[must_use]
    pub fn subject(mut self, account: AccountId) -> Self {
        self.payload().subject = account.name();
        self.subject = Some(account);
        self
    }

    /// What memory holds under this key, which is no person's, ends with the commit.
    #[must_use]
    pub fn spoils(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.spoils = Some(key.into());
        self
    }

    /// Done to this resource, `collection/id`, leaving it in `version`.
    #[must_use]
    pub fn resource(mut self, name: &str, version: i64) -> Self {
        self.event.resource_type = name.split('/').next().unwrap_or_default().to_owned();
        let payload = self.payload();
        payload.resource = name.to_owned();
        payload.resource_version = version;
        self
    }

    /// It concerns this resource too.
    #[must_use]
    pub fn object(mut self, name: impl Into<String>) -> Self {
        self.payload().object_refs.push(name.into());
        self
    }

    /// It concerns this participant too.
    #[must_use]
    pub fn participant(self, id: &ParticipantId) -> Self {
        self.object(id.name())
    }

    /// This event caused it.
    #[must_use]
    pub fn because_of(mut self, event_id: &str) -> Self {
        event_id.clone_into(&mut self.event.causation_event_id);
        self
    }

    /// With it this was given away for ever, or taken once: after a restore that loses the event it is not given to another,
    /// nor taken again.
    #[must_use]
    pub fn claims<C: Into<Vec<u8>>>(mut self, claims: impl IntoIterator<Item = C>) -> Self {
        self.payload().claims.extend(claims.into_iter().map(Into::into));
        self
    }

    /// It was refused, for this reason.
    #[must_use]
    pub fn refused(mut self, outcome: event::Outcome, reason: &str) -> Self {
        self.event.outcome = outcome.into();
        self.event.reason_code = reason.to_owned();
        self
    }

    /// It was refused as `reason` says.
    #[must_use]
    pub fn refused_for(self, outcome: event::Outcome, reason: Reason) -> Self {
        self.refused(outcome, reason.as_str())
    }

    /// When it happened, if not now: an expiry happens when it is due.
    #[must_use]
    pub fn occurred(mut self, time: Micros) -> Self {
        self.event.occurred_time = Some(timestamp(time));
        self
    }

    /// Makes of it what may leave the service: it withholds what must never be in an event, and says in the log where it
    /// stood. Whoever words an event newly gives it its place in the [`vocabulary`]: without one, tests fail here.
    pub fn finish(&mut self) {
        let fault = || vocabulary::fault(&self.event);
        debug_assert_eq!(fault(), None, "{:?}", self.event);
        let fields = withhold(&mut self.event);
        if !fields.is_empty() {
            let event = self.event.event_type.as_str();
            tracing::warn!(
                event,
                ?fields,
                "withheld from an event what looks like an Aadhaar number, VID, OTP or PID"
            );
        }
    }

    /// The payload, for the fields that have no method here.
    pub fn payload(&mut self) -> &mut audit::Payload {
        self.event.payload.get_or_insert_default()
    }

    /// Appends it to the feed, without what must never be in it: texts that callers wrote pass here and nowhere else.
    pub fn emit(mut self, view: &mut View<'_>) -> Emitted {
        self.finish();
        let id = view.next_event_id();
        self.event.event_id = uuid::Uuid::from_bytes(id).to_string();
        if self.event.occurred_time.is_none() {
            self.event.occurred_time = Some(timestamp(view.now()));
        }
        let subject = self.subject.map(AccountId::to_vec).or(self.spoils);
        let position = view.emit(NewEvent {
            id,
            subject,
            body: self.event.encode_to_vec(),
        });
        Emitted {
            id: uuid::Uuid::from_bytes(id),
            position,
        }
    }
}

/// Who did it, for the payload.
fn actor_of(caller: &Caller) -> audit::Actor {
    let kind = caller.kinds().first().copied().unwrap_or(CallerKind::Anyone);
    let roles = match &caller.actor {
        Some(Actor::Participant { roles, .. }) => roles.iter().map(|role| role_number(*role)).collect(),
        _ => Vec::new(),
    };
    // Of a representative the account is told here, the representation beside it: every act names both.
    let id = caller
        .representing()
        .map_or_else(|| caller.id(), |acting| acting.representative.name());
    let session = caller.session().map(|session| session.name()).unwrap_or_default();
    audit::Actor {
        kind: kind_of(kind).into(),
        id,
        roles,
        factors: Vec::new(),
        session,
    }
}

/// The clock, or a feed, acting through this service.
pub fn system(service: &str) -> Caller {
    Caller {
        peer: Peer::Service(service.to_owned()),
        actor: None,
    }
}

fn role_number(role: Role) -> i32 {
    Role::ALL
        .iter()
        .position(|r| *r == role)
        .and_then(|n| i32::try_from(n + 1).ok())
        .unwrap_or(0)
}

const fn kind_of(kind: CallerKind) -> types::CallerKind {
    match kind {
        CallerKind::Anyone => types::CallerKind::Anyone,
        CallerKind::App => types::CallerKind::App,
        CallerKind::Person => types::CallerKind::Person,
        CallerKind::Representative => types::CallerKind::Representative,
        CallerKind::Hip => types::CallerKind::Hip,
        CallerKind::Hiu => types::CallerKind::Hiu,
        CallerKind::Locker => types::CallerKind::Locker,
        CallerKind::Researcher => types::CallerKind::Researcher,
        CallerKind::Operator => types::CallerKind::Operator,
        CallerKind::Service => types::CallerKind::Service,
    }
}

/// A time on the wire.
pub fn timestamp(time: Micros) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.0.rem_euclid(1_000_000) * 1000).unwrap_or(0);
    prost_types::Timestamp {
        seconds: time.0.div_euclid(1_000_000),
        nanos,
    }
}

/// A time from the wire, to the microsecond below; `None` when out of range (years 1 to 9999).
pub fn micros(timestamp: &prost_types::Timestamp) -> Option<Micros> {
    let in_range = (-62_135_596_800..=253_402_300_799).contains(&timestamp.seconds);
    let nanos = u64::try_from(timestamp.nanos).ok().filter(|n| *n < 1_000_000_000)?;
    in_range.then(|| Micros::from_seconds(timestamp.seconds).plus(Duration::from_micros(nanos / 1000)))
}
