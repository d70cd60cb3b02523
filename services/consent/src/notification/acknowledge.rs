//! Saying that notifications were taken in. A HIP's word on a grant lets records flow; on a revocation it proves the stop.

use sammati_api::audit::v1::event::{Action, Outcome};
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, ConsentId, NotificationId, Reason, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use crate::consent;
use crate::policy;
use crate::rows::{self, ConsentRow, NotificationRow, TransferRow};

/// One notification, and the consent it is about if it is about one: facts that never change.
#[derive(Debug, Clone)]
pub struct Item {
    /// Which.
    pub id: NotificationId,
    /// The consent to stamp, or to say stopped.
    pub consent: Option<ConsentId>,
}

impl Item {
    /// Of a row.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn of(row: &NotificationRow) -> Result<Self, Refusal> {
        let about = [Kind::ConsentGranted, Kind::ConsentNarrowed, Kind::ConsentRevoked]
            .map(i32::from)
            .contains(&row.kind);
        let consent = ConsentId::parse_name(&row.resource).filter(|_| about);
        Ok(Self {
            id: rows::id(&row.id)?,
            consent,
        })
    }
}

/// AcknowledgeNotifications, the part in one partition.
pub struct Acknowledge {
    /// Who asks.
    pub caller: Caller,
    /// Any slot of the partition.
    pub slot: Slot,
    /// Which.
    pub items: Vec<Item>,
    /// Whether they were acted upon.
    pub ok: bool,
    /// What went wrong, if not.
    pub error: String,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Acknowledged {
    /// Acknowledged now.
    #[prost(int32, tag = "1")]
    pub count: i32,
    /// Those of them that came late.
    #[prost(int32, tag = "2")]
    pub late: i32,
}

impl Command for Acknowledge {
    type Answer = Acknowledged;

    const NAME: &'static str = "notification.acknowledge";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn reads(&self, keys: &mut Keys) {
        for item in &self.items {
            keys.row::<NotificationRow>(item.id.to_vec());
            if let Some(consent) = &item.consent {
                keys.row::<ConsentRow>(consent.to_vec());
                keys.group::<TransferRow>("open", consent.to_vec());
            }
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Acknowledged, Refusal> {
        let mut done = Acknowledged::default();
        for item in &self.items {
            let row = view
                .get::<NotificationRow>(item.id.as_bytes())
                .filter(|row| policy::is_recipient(&self.caller, row));
            let row = row.ok_or_else(unknown)?;
            if row.acknowledged != 0 {
                continue;
            }
            if self.ok {
                done.count += 1;
                done.late += i32::from(is_late(&row, view.now().0));
                self.take_in(view, item, row)?;
            } else {
                self.complain(view, row);
            }
        }
        Ok(done)
    }

    fn outcome(&self, answer: &Acknowledged) -> Vec<u8> {
        prost::Message::encode_to_vec(answer)
    }
}

impl Acknowledge {
    fn take_in(&self, view: &mut View<'_>, item: &Item, mut row: NotificationRow) -> Result<(), Refusal> {
        row.acknowledged = view.now().0;
        row.error.clear();
        view.put(&row);
        let consent = item.consent.and_then(|id| view.get::<ConsentRow>(id.as_bytes()));
        let Some(mut consent) = consent else {
            let mut draft = self.draft("consent.notification_acknowledged", &row);
            mark(&mut draft, &row);
            draft.emit(view);
            return Ok(());
        };
        // What time has ended is written first, so that the events stand in the order in which it happened.
        consent::catch_up(view, &mut consent)?;
        // Word of a wider version says nothing of the present one.
        let is_present = match consent.narrowed_by.as_str() {
            "" => row.kind == i32::from(Kind::ConsentGranted),
            event => row.event_id == event,
        };
        if is_present {
            self.stamp(view, &mut consent);
        }
        let stopped = row.kind == i32::from(Kind::ConsentRevoked) && self.is(&consent.hip);
        let event = if stopped {
            "consent.revocation_propagated"
        } else {
            "consent.notification_acknowledged"
        };
        let id: NotificationId = rows::id(&row.id)?;
        let mut draft = consent::draft(event, Action::Update, &self.caller, &consent)?.object(id.name());
        mark(&mut draft, &row);
        draft.emit(view);
        Ok(())
    }

    /// One word of a participant that is both giver and receiver counts for both.
    fn stamp(&self, view: &mut View<'_>, consent: &mut ConsentRow) {
        let now = view.now();
        let before = (consent.hip_acknowledged, consent.hiu_acknowledged);
        if self.is(&consent.hip) && consent.hip_acknowledged == 0 {
            consent.hip_acknowledged = now.0;
        }
        if self.is(&consent.hiu) && consent.hiu_acknowledged == 0 {
            consent.hiu_acknowledged = now.0;
        }
        if before != (consent.hip_acknowledged, consent.hiu_acknowledged) {
            consent.touch(now);
            view.put(consent);
        }
    }

    fn is(&self, id: &str) -> bool {
        self.caller
            .participant()
            .is_some_and(|participant| participant.as_str() == id)
    }

    fn complain(&self, view: &mut View<'_>, mut row: NotificationRow) {
        row.error.clone_from(&self.error);
        view.put(&row);
        self.draft("consent.notification_acknowledged", &row)
            .refused(Outcome::Minor, "RECIPIENT_ERROR")
            .emit(view);
    }

    /// It changes nothing that a decision reads, so her cached state stays.
    fn draft(&self, event: &str, row: &NotificationRow) -> Draft {
        let mut draft =
            Draft::new(event, Action::Update, RetentionClass::Consent, &self.caller).object(row.resource.clone());
        // Of whom it was told its sponsor is not to read in the log either.
        if !row.study.is_empty() {
            return draft;
        }
        if let Ok(id) = rows::notification_id(&row.id) {
            draft = draft.resource(&id.name(), 1);
        }
        draft.payload().subject = rows::account(&row.subject)
            .map(|account| account.name())
            .unwrap_or_default();
        draft
    }
}

/// Whether one that is acknowledged at `at` comes late.
pub const fn is_late(row: &NotificationRow, at: i64) -> bool {
    at > row.acknowledge_by
}

/// Marks the event of one that was late: it counts, and the log says that a duty was missed.
fn mark(draft: &mut Draft, row: &NotificationRow) {
    if is_late(row, row.acknowledged) {
        LATE.clone_into(&mut draft.event.reason_code);
    }
}

/// The reason of an event about a duty that was done late.
pub const LATE: &str = "LATE";

/// A notification that is not there, or another's: the same.
pub fn unknown() -> Refusal {
    Refusal::new(Reason::NotificationUnknown)
        .saying("a name of the list is no notification of yours; read your stream again and name only what came there")
}
