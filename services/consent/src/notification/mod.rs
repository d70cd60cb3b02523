//! What must somebody hear? One row for each recipient of an event, in the commit of the event itself.

pub mod acknowledge;
pub mod token;
pub mod watch;

use std::time::Duration;

use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{AccountId, NotificationId};
use sammati_server::event::Emitted;
use sammati_store::View;

use crate::rows::NotificationRow;

/// How soon a notification should be acknowledged; later counts too, and is marked.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(60);

/// The recipient that every operator is.
pub const OPERATORS: &str = "operators";

/// Who is told: each once, whatever roles it has, since a recipient drops a second word of one event.
#[derive(Debug, Clone, Default)]
pub struct Recipients(Vec<String>);

impl Recipients {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this participant, by its bare id.
    #[must_use]
    pub fn participant(self, id: &str) -> Self {
        self.name(format!("participants/{id}"))
    }

    /// And this person, if there is one.
    #[must_use]
    pub fn person(self, account: Option<AccountId>) -> Self {
        match account {
            Some(account) => self.name(account.name()),
            None => self,
        }
    }

    /// And the operators.
    #[must_use]
    pub fn operators(self) -> Self {
        self.name(OPERATORS.to_owned())
    }

    fn name(mut self, name: String) -> Self {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
        self
    }
}

/// What news is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Where, a bare id.
    pub hip: String,
    /// Of which kinds of record.
    pub hi_types: Vec<i32>,
}

/// Tells `recipients` of the event `told` about `resource`.
pub fn notify(
    view: &mut View<'_>,
    told: Emitted,
    kind: Kind,
    resource: &str,
    recipients: &Recipients,
    subject: Option<AccountId>,
) {
    notify_about(view, told, kind, resource, recipients, subject, &About::default());
}

/// The same, and what is new where.
pub fn notify_about(
    view: &mut View<'_>,
    told: Emitted,
    kind: Kind,
    resource: &str,
    recipients: &Recipients,
    subject: Option<AccountId>,
    about: &About,
) {
    for recipient in &recipients.0 {
        let id: NotificationId = view.id(&format!("notification {} {recipient}", told.id));
        let now = view.now();
        view.put(&NotificationRow {
            id: id.to_vec(),
            recipient: recipient.clone(),
            kind: kind.into(),
            resource: resource.to_owned(),
            event_id: told.id.to_string(),
            position: told.position,
            subject: subject.map(AccountId::to_vec).unwrap_or_default(),
            created: now.0,
            acknowledge_by: now.plus(ACKNOWLEDGE_WITHIN).0,
            acknowledged: 0,
            error: String::new(),
            hip: about.hip.clone(),
            hi_types: about.hi_types.clone(),
            study: Vec::new(),
        });
    }
}
