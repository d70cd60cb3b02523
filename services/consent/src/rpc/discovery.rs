//! The part of `LinkService` in which she looks for her records, and what she shares at a counter.

use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, Caller, DiscoveryId, Micros, Reason, Refusal, Violations};
use sammati_store::Outcome;

use super::request::person;
use super::{Core, head};
use crate::discovery::answer::AnswerDiscovery;
use crate::discovery::choose::{Confirm, Select};
use crate::discovery::sealed;
use crate::discovery::start::Start;
use crate::discovery::subject;
use crate::policy;
use crate::rows::{self, DiscoveryRow, broken};
use crate::wire::discovery::{parse_answer, parse_confirm, parse_select, parse_start, render};
use crate::wire::{self, Person};

impl Core {
    /// Refuses unless all that she says of herself fits her own account.
    pub(super) async fn check_profile(
        &self,
        account: AccountId,
        who: &Person,
        demographics: &types::Demographics,
    ) -> Result<(), Refusal> {
        let found = match who {
            Person::Ask(identifier) => {
                let (identifier, demographics) = (identifier.clone(), demographics.clone());
                self.resolver.resolve(identifier, Some(demographics)).await?
            }
            Person::Account(_) => None,
        };
        if found.is_some_and(|found| found.account == account && found.fits && found.active) {
            return Ok(());
        }
        Err(Refusal::new(Reason::ProfileMismatch)
            .saying("name, gender, year of birth, mobile or address does not fit your account; correct it and repeat"))
    }

    pub(super) async fn discover(
        &self,
        caller: &Caller,
        message: api::CreateDiscoveryRequest,
    ) -> Result<api::Discovery, Refusal> {
        let key = self.request_key(caller, "discovery.create", &message.request_id, &message);
        let (key, wanted) = Refusal::both(key, parse_start(&message, self.now()))?;
        // Before anybody is looked up: a repeat needs no one else to say the same again.
        if let Some(id) = self.store.known(&key).await? {
            return self.show_discovery(caller, rows::discovery_id(&id)?).await;
        }
        let account = person(caller)?;
        let demographics = wanted.known.demographics.clone().unwrap_or_default();
        self.check_profile(account, &wanted.who, &demographics).await?;
        let command = Start {
            caller: caller.clone(),
            account,
            hip: wanted.hip,
            known: wanted.known,
            directory: Arc::clone(&self.directory),
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_discovery(caller, outcome).await
    }

    pub(super) async fn read_discovery(&self, caller: &Caller, text: &str) -> Result<api::Discovery, Refusal> {
        let mut v = Violations::new();
        let id: Option<DiscoveryId> = wire::name(&mut v, "name", text);
        v.check()?;
        self.show_discovery(caller, id.ok_or(Reason::FieldInvalid)?).await
    }

    async fn tell_discovery(&self, caller: &Caller, outcome: Outcome<DiscoveryRow>) -> Result<api::Discovery, Refusal> {
        let id = match outcome {
            Outcome::Fresh(row) => row.id,
            Outcome::Known(id) => id,
        };
        self.show_discovery(caller, rows::discovery_id(&id)?).await
    }

    pub(super) async fn show_discovery(&self, caller: &Caller, id: DiscoveryId) -> Result<api::Discovery, Refusal> {
        let store = self.store.clone();
        let read = self.store.read(move |r| {
            let row = r.get::<DiscoveryRow>(id.slot(), id.as_bytes())?;
            Ok((row.map(|stored| stored.record), head(r, &store, id.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let row = policy::may_see_discovery(caller, row)?;
        let ring = self.ring(vec![(id.slot(), row.subject.clone())]).await?;
        render(&row, &ring, caller, self.now(), self.seal(partition, &head))
    }

    pub(super) async fn show_discoveries(
        &self,
        caller: &Caller,
        rows: &[DiscoveryRow],
        now: Micros,
    ) -> Result<Vec<api::Discovery>, Refusal> {
        let of = |row: &DiscoveryRow| Ok((row.id()?.slot(), row.subject.clone()));
        self.shown(rows, of, |row, ring, revision| render(row, ring, caller, now, revision))
            .await
    }

    /// The row as it was when the call came: whose it is, and with whom, never changes.
    async fn discovery(&self, id: DiscoveryId) -> Result<Option<DiscoveryRow>, Refusal> {
        let read = self
            .store
            .read(move |r| r.get::<DiscoveryRow>(id.slot(), id.as_bytes()));
        Ok(read.await?.map(|stored| stored.record))
    }

    pub(super) async fn answer_discovery(
        &self,
        caller: &Caller,
        message: api::AnswerDiscoveryRequest,
    ) -> Result<api::Discovery, Refusal> {
        let key = self.request_key(caller, "discovery.answer", &message.request_id, &message);
        let (key, (discovery, answer)) = Refusal::both(key, parse_answer(&message))?;
        let row = policy::may_answer(caller, self.discovery(discovery).await?)?;
        let command = AnswerDiscovery {
            caller: caller.clone(),
            discovery,
            account: subject(&row)?,
            hip: rows::participant(&row.hip)?,
            answer,
            etag: message.etag,
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_discovery(caller, outcome).await
    }

    pub(super) async fn select(
        &self,
        caller: &Caller,
        message: api::SelectCareContextsRequest,
    ) -> Result<api::Discovery, Refusal> {
        let key = self.request_key(caller, "discovery.select", &message.request_id, &message);
        let (key, discovery) = Refusal::both(key, parse_select(&message))?;
        let command = Select {
            caller: caller.clone(),
            account: person(caller)?,
            discovery,
            references: message.care_context_references,
            etag: message.etag,
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_discovery(caller, outcome).await
    }

    /// Her answer is sealed here, in memory, to the HIP's key; no further than this it goes in clear.
    pub(super) async fn confirm_contexts(
        &self,
        caller: &Caller,
        message: api::ConfirmCareContextsRequest,
    ) -> Result<api::Discovery, Refusal> {
        let key = self.request_key(caller, "discovery.confirm", &message.request_id, &message);
        let (key, discovery) = Refusal::both(key, parse_confirm(&message))?;
        let row = policy::may_choose(caller, self.discovery(discovery).await?)?;
        let sealed_token = match row.token_key.as_slice() {
            [] => None,
            to => Some(sealed::seal(to, &discovery.name(), &message.token).map_err(|_| broken("a token key"))?),
        };
        let command = Confirm {
            caller: caller.clone(),
            discovery,
            sealed_token,
            token_key: row.token_key,
            etag: message.etag,
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_discovery(caller, outcome).await
    }
}
