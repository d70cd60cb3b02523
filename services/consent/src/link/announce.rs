//! Saying that there is new data in what is linked.

use std::collections::BTreeSet;

use sammati_api::audit::v1::Counts;
use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::SubscriptionCategory;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Fact, HiType, LinkId, Reason, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use crate::lookup::Lookup;
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::rows::{self, CareContextRow, LinkRow, broken};
use crate::subscription::tell::{self, News};

/// AnnounceCareContexts.
pub struct Announce {
    /// Who asks.
    pub caller: Caller,
    /// Which link.
    pub link: LinkId,
    /// Which of its care contexts.
    pub references: Vec<String>,
    /// Of which kinds the new records are.
    pub hi_types: Vec<HiType>,
    /// Hashes.
    pub lookup: Lookup,
}

impl Command for Announce {
    /// How many subscribers were told.
    type Answer = i32;

    const NAME: &'static str = "link.announce";

    fn slot(&self) -> Slot {
        self.link.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LinkRow>(self.link.to_vec());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if let Some(link) = loaded.get::<LinkRow>(self.link.as_bytes()) {
            for key in self.keys(&link) {
                keys.row::<CareContextRow>(key);
            }
            if let Some(account) = rows::account(&link.subject) {
                tell::reads(keys, account);
            }
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i32, Refusal> {
        let link = policy::may_announce(&self.caller, view.get::<LinkRow>(self.link.as_bytes()))?;
        for (n, key) in self.keys(&link).into_iter().enumerate() {
            let row = view.get::<CareContextRow>(&key).filter(|row| row.link == link.id);
            if row.is_none() {
                return Err(Refusal::new(Reason::CareContextNotLinked)
                    .saying("a care context of the list is not under this link; link it first, or leave it out")
                    .with(Fact::Position, n));
            }
        }
        let account = rows::account(&link.subject).ok_or_else(|| broken("a link's subject"))?;
        let mut draft = Draft::new(
            "link.data_available",
            Action::Update,
            RetentionClass::General,
            &self.caller,
        )
        .resource(&self.link.name(), link.version)
        .participant(&rows::participant(&link.hip)?);
        let payload = draft.payload();
        payload.subject = account.name();
        payload.counts = Some(Counts {
            records: i64::try_from(self.references.len()).unwrap_or(i64::MAX),
            ..Counts::default()
        });
        let told = draft.emit(view);
        let her = Recipients::new().person(Some(account));
        notify(view, told, Kind::DataAvailable, &self.link.name(), &her, Some(account));
        let hip = rows::participant(&link.hip)?;
        let hi_types: BTreeSet<_> = self.hi_types.iter().map(|kind| kind.number()).collect();
        let contexts: Vec<_> = self
            .keys(&link)
            .into_iter()
            .map(|key| (key, hi_types.clone()))
            .collect();
        let news = News {
            account,
            category: SubscriptionCategory::Data,
            hip: &hip,
            contexts: &contexts,
        };
        tell::tell(view, told, news)
    }

    fn outcome(&self, answer: &i32) -> Vec<u8> {
        answer.to_be_bytes().to_vec()
    }
}

impl Announce {
    fn keys(&self, link: &LinkRow) -> Vec<[u8; 32]> {
        let Ok(hip) = rows::participant(&link.hip) else {
            return Vec::new();
        };
        let key = |reference: &String| self.lookup.context(&link.subject, &hip, reference);
        self.references.iter().map(key).collect()
    }
}
