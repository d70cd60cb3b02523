//! What can be asked? One short function per RPC, in a file per proto service.

mod artefact;
mod break_glass;
mod check;
mod cohort;
mod consent;
mod decision;
mod deep_link;
mod discovery;
mod export;
mod guarded;
mod link;
mod list;
mod live;
mod many;
mod notice;
mod notification;
mod prove;
mod request;
mod rights;
mod share;
mod standing;
mod status_list;
mod step_up;
mod study;
mod subscription;
mod transfer;
mod why;

use std::sync::Arc;

use quick_cache::sync::Cache;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Micros, Refusal, Slot};
use sammati_server::messages::Messages;
use sammati_server::page::PageTokens;
use sammati_store::{Error, Head, Reader, RequestKey, Revision, Store};

use self::status_list::StatusLists;
use crate::artefact::ArtefactKeys;
use crate::artefact::issue::Issuer;
use crate::closing::Closings;
use crate::decision::denials::Denials;
use crate::directory::{Directory, Resolver};
use crate::link::token::LinkTokens;
use crate::lookup::Lookup;
use crate::notice::Notices;
use crate::notification::token::ResumeTokens;
use crate::recorded::Logs;
use crate::service::Parts;
use crate::study::known::Studies;
use crate::subject::Subjects;
use crate::transfer::halt::Halts;
use crate::vault::{Ring, Vault};
use crate::wire::Person;

/// How many signed artefacts are remembered.
const SIGNED: usize = 4096;

/// Serves all of `sammati.consent.v1`. Clones share everything.
#[derive(Clone)]
pub struct Rpc(Arc<Core>);

/// What the handlers work with.
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) messages: Messages,
    pub(crate) logs: Logs,
    pub(crate) subjects: Subjects,
    pub(crate) studies: Studies,
    pub(crate) denials: Denials,
    pub(crate) keys: Arc<ArtefactKeys>,
    /// Signed artefacts, by their SHA-256.
    pub(crate) signed: Cache<Vec<u8>, Arc<str>>,
    pub(crate) status_lists: StatusLists,
    pub(crate) link_tokens: LinkTokens,
    pub(crate) resume_tokens: ResumeTokens,
    pub(crate) pages: PageTokens,
    pub(crate) lookup: Lookup,
    pub(crate) vault: Vault,
    pub(crate) notices: Notices,
    pub(crate) manager: Arc<str>,
    pub(crate) portal: Arc<str>,
    pub(crate) log_origin: Arc<str>,
}

impl Rpc {
    /// Over `parts`.
    pub fn new(parts: Parts) -> Self {
        let vault = Vault::new(&parts.kek);
        let (cache, lookup) = (parts.settings.cache_bytes, Lookup::new(&parts.lookup));
        Self(Arc::new(Core {
            studies: Studies::new(parts.store.clone(), vault.clone(), lookup.clone()),
            subjects: Subjects::new(parts.store.clone(), vault.clone(), cache),
            denials: Denials::default(),
            signed: Cache::new(SIGNED),
            status_lists: StatusLists::default(),
            link_tokens: LinkTokens::new(&parts.lookup, &parts.settings.consent_manager_id),
            resume_tokens: ResumeTokens::new(parts.store.key()),
            pages: PageTokens::new(&parts.lookup),
            lookup,
            notices: Notices::built_in(&parts.settings.portal),
            portal: parts.settings.portal.into(),
            manager: parts.settings.consent_manager_id.into(),
            log_origin: parts.settings.log_origin.into(),
            keys: Arc::new(parts.artefact_keys),
            directory: parts.directory,
            resolver: parts.resolver,
            messages: parts.messages,
            logs: parts.logs,
            store: parts.store,
            vault,
        }))
    }

    /// Cancels what participants that are not active any more have open.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn halt_transfers(&self, halts: &mut Halts) -> Result<(), Refusal> {
        halts.run(&self.0.store, &self.0.directory).await
    }

    /// Closes what belongs to deleted accounts.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn close_accounts(&self, closings: &mut Closings) -> Result<(), Refusal> {
        closings.run(&self.0.store, &self.0.directory).await
    }

    /// Writes the denials that wait; `all` of them before the process ends.
    pub async fn flush_denials(&self, all: bool) {
        self.0.denials.flush(&self.0.store, all).await;
    }
}

impl Core {
    fn now(&self) -> Micros {
        self.store.clock().now()
    }

    /// The key of a request id.
    fn request_key(
        &self,
        caller: &Caller,
        method: &str,
        id: &str,
        message: &impl prost::Message,
    ) -> Result<RequestKey, Refusal> {
        self.store.request(&caller.id(), method, id, message)
    }

    /// Where a slot's partition stands in this process: after a commit of ours, at it or beyond.
    fn revision(&self, slot: Slot) -> String {
        self.store.sealed_revision(slot).unwrap_or_default()
    }

    fn seal(&self, partition: i64, head: &Head) -> String {
        let Head { epoch, next, chain } = head.clone();
        Revision {
            partition,
            epoch,
            next,
            chain,
        }
        .seal(self.store.key())
    }

    /// What artefacts are made with.
    fn issuer(&self) -> Issuer {
        Issuer {
            directory: Arc::clone(&self.directory),
            keys: Arc::clone(&self.keys),
            manager: Arc::clone(&self.manager),
            log_origin: Arc::clone(&self.log_origin),
        }
    }

    /// The data keys of several owners.
    async fn ring(&self, owners: Vec<(Slot, Vec<u8>)>) -> Result<Ring, Refusal> {
        let rows = self.store.read(move |r| Vault::load(r, &owners)).await?;
        self.vault.ring(&rows)
    }

    /// The account of a person, if she is one. An account of which something is kept here is one; of another that was
    /// named, identity must know.
    async fn find(&self, person: &Person) -> Result<Option<sammati_kernel::AccountId>, Refusal> {
        let identifier = match person {
            Person::Account(account) if self.subjects.get(*account).await?.is_known() => return Ok(Some(*account)),
            Person::Account(account) => types::Identifier {
                identifier: Some(types::identifier::Identifier::Account(account.name())),
            },
            Person::Ask(identifier) => identifier.clone(),
        };
        let found = self.resolver.resolve(identifier, None).await?;
        Ok(found.map(|found| found.account))
    }
}

/// The head of a slot's partition, read after the rows it stands for.
fn head(reader: &mut Reader<'_>, store: &Store, slot: Slot) -> Result<(i64, Head), Error> {
    let partition = store.partitions().of(slot);
    Ok((partition, reader.head(partition)?))
}
