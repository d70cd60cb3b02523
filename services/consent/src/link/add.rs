//! Linking care contexts: all of a call or none, each once for ever.

use std::collections::BTreeSet;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::SubscriptionCategory;
use sammati_api::consent::v1::link::Origin;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::{CareContextRef, RetentionClass};
use sammati_kernel::{AccountId, Caller, Fact, Key, LinkId, ParticipantId, Reason, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use super::token::Presented;
use crate::lookup::Lookup;
use crate::notification::{Recipients, notify};
use crate::rows::{CareContextRow, LinkRow};
use crate::subscription::tell::{self, News};
use crate::vault::{Private, Vault, seal};

/// Care contexts of one person at one provider: more than anybody's visits, and few enough to be looked through.
pub const MAX_CONTEXTS: i64 = 2000;

/// LinkCareContexts.
pub struct LinkContexts {
    /// Who asks.
    pub caller: Caller,
    /// The provider.
    pub hip: ParticipantId,
    /// The person, by the link token.
    pub token: Presented,
    /// Her reference there.
    pub patient_reference: String,
    /// What to link.
    pub care_contexts: Vec<CareContextRef>,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

impl Command for LinkContexts {
    type Answer = LinkRow;

    const NAME: &'static str = "link.add";

    fn slot(&self) -> Slot {
        self.token.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        self.linking().reads(keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<LinkRow, Refusal> {
        self.token.check(view.now())?;
        self.linking().write(view)
    }

    fn outcome(&self, answer: &LinkRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl LinkContexts {
    const fn linking(&self) -> Linking<'_> {
        Linking {
            caller: &self.caller,
            hip: &self.hip,
            account: self.token.account,
            patient_reference: self.patient_reference.as_str(),
            care_contexts: self.care_contexts.as_slice(),
            is_discovered: false,
            lookup: &self.lookup,
            vault: &self.vault,
        }
    }
}

/// Care contexts of one person that become linked, however they were found.
pub struct Linking<'a> {
    /// Who links.
    pub caller: &'a Caller,
    /// The provider.
    pub hip: &'a ParticipantId,
    /// The person.
    pub account: AccountId,
    /// Her reference there.
    pub patient_reference: &'a str,
    /// What becomes linked.
    pub care_contexts: &'a [CareContextRef],
    /// Whether she found them, and did not the provider.
    pub is_discovered: bool,
    /// Hashes.
    pub lookup: &'a Lookup,
    /// Seals.
    pub vault: &'a Vault,
}

impl Linking<'_> {
    /// What it reads.
    pub fn reads(&self, keys: &mut Keys) {
        Self::reads_of(keys, self.account);
        self.claims().for_each(|claim| keys.claim(claim));
        for key in self.keys() {
            keys.row::<CareContextRow>(key.to_vec());
        }
    }

    /// What it reads of her, whatever becomes linked.
    pub fn reads_of(keys: &mut Keys, account: AccountId) {
        keys.group::<LinkRow>("subject", account.to_vec());
        tell::reads(keys, account);
        Vault::reads(keys, account.as_bytes());
    }

    /// Links all, or refuses.
    ///
    /// # Errors
    /// ALREADY_LINKED, LINK_LIMIT; INTERNAL when a row is damaged.
    pub fn write(&self, view: &mut View<'_>) -> Result<LinkRow, Refusal> {
        // A care context of a provider is linked once, to whomever.
        let known = self.claims().position(|claim| view.claimed(&claim).is_some());
        if let Some(position) = known {
            return Err(Refusal::new(Reason::AlreadyLinked)
                .saying("a care context of the list is linked already, so nothing was linked; leave it out and repeat")
                .with(Fact::Position, position));
        }
        for claim in self.claims() {
            view.claim(claim, self.account.to_vec());
        }
        let key = self.vault.key(view, self.account.as_bytes())?;
        let link = self.link(view, &key)?;
        view.put(&link);
        for (place, (id, context)) in self.keys().zip(self.care_contexts).enumerate() {
            self.add(view, &link, place, id, context, &key)?;
        }
        self.tell(view, &link)?;
        Ok(link)
    }

    fn references(&self) -> impl Iterator<Item = &String> {
        self.care_contexts.iter().map(|c| &c.care_context_reference)
    }

    fn keys(&self) -> impl Iterator<Item = [u8; 32]> {
        let owner = self.account.as_bytes();
        self.references()
            .map(|reference| self.lookup.context(owner, self.hip, reference))
    }

    fn claims(&self) -> impl Iterator<Item = [u8; 32]> {
        self.references()
            .map(|reference| self.lookup.linked_once(self.hip, reference))
    }

    fn added(&self) -> i64 {
        i64::try_from(self.care_contexts.len()).unwrap_or(i64::MAX)
    }

    /// The link of this reference, extended or new.
    fn link(&self, view: &View<'_>, key: &Key) -> Result<LinkRow, Refusal> {
        let account = self.account;
        let natural = self.lookup.link(account, self.hip, self.patient_reference);
        let now = view.now().0;
        let mut links = view.group::<LinkRow>("subject", account.as_bytes());
        links.retain(|link| link.hip == self.hip.as_str());
        if links.iter().map(|link| link.contexts).sum::<i64>() + self.added() > MAX_CONTEXTS {
            return Err(Refusal::new(Reason::LinkLimit)
                .saying("2000 care contexts of one person are linked at most; keep several visits in one"));
        }
        if let Some(link) = links.into_iter().find(|link| link.natural == natural) {
            return Ok(LinkRow {
                updated: now,
                version: link.version + 1,
                contexts: link.contexts + self.added(),
                ..link
            });
        }
        let id: LinkId = view.id("link");
        let private = Private {
            text: self.patient_reference.to_owned(),
            ..Private::default()
        };
        let origin = if self.is_discovered {
            Origin::Discovery
        } else {
            Origin::HipToken
        };
        Ok(LinkRow {
            id: id.to_vec(),
            subject: account.to_vec(),
            hip: self.hip.as_str().to_owned(),
            natural: natural.to_vec(),
            sealed: seal(key, view, "link", id.as_bytes(), &private)?,
            created: now,
            updated: now,
            version: 1,
            contexts: self.added(),
            origin: origin.into(),
        })
    }

    fn add(
        &self,
        view: &mut View<'_>,
        link: &LinkRow,
        place: usize,
        id: [u8; 32],
        context: &CareContextRef,
        key: &Key,
    ) -> Result<(), Refusal> {
        let private = Private {
            care_contexts: vec![CareContextRef {
                patient_reference: self.patient_reference.to_owned(),
                ..context.clone()
            }],
            ..Private::default()
        };
        let row = CareContextRow {
            key: id.to_vec(),
            subject: self.account.to_vec(),
            link: link.id.clone(),
            hip: self.hip.as_str().to_owned(),
            sealed: seal(key, view, "care context", &id, &private)?,
            created: view.now().0,
            place: link
                .version
                .saturating_mul(64)
                .saturating_add(i64::try_from(place).unwrap_or(0)),
        };
        view.put(&row);
        Ok(())
    }

    fn tell(&self, view: &mut View<'_>, link: &LinkRow) -> Result<(), Refusal> {
        let id: LinkId = crate::rows::id(&link.id)?;
        let mut draft = Draft::new("identity.linked", Action::Create, RetentionClass::General, self.caller)
            .subject(self.account)
            .resource(&id.name(), link.version)
            .participant(self.hip);
        draft.payload().counts = Some(sammati_api::audit::v1::Counts {
            records: self.added(),
            ..Default::default()
        });
        let told = draft.emit(view);
        let her = Recipients::new().person(Some(self.account));
        notify(view, told, Kind::Linked, &id.name(), &her, Some(self.account));
        let kinds = |context: &CareContextRef| BTreeSet::from([context.hi_type]);
        let contexts: Vec<_> = self.keys().zip(self.care_contexts.iter().map(kinds)).collect();
        let news = News {
            account: self.account,
            category: SubscriptionCategory::Link,
            hip: self.hip,
            contexts: &contexts,
        };
        tell::tell(view, told, news).map(drop)
    }
}
