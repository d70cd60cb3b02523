//! What decisions read of one person, from memory: all her live consents, complete, and what is linked to her.

use std::collections::HashSet;
use std::sync::Arc;

use quick_cache::sync::Cache;
use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{AccountId, ConsentId, ParticipantId, Refusal};
use sammati_store::{Store, SubjectCache};

use crate::decision::Granted;
use crate::lookup::ContextKey;
use crate::rows::{CareContextRow, ConsentRow, DataKeyRow, PolicyRow};
use crate::standing::Block;
use crate::vault::{Ring, Vault};

/// How many consents' parties are remembered.
const PARTIES: usize = 64 * 1024;

/// A consent with the care contexts it names, for showing.
#[derive(Debug, Clone)]
pub struct Held {
    /// As the rules see it.
    pub granted: Granted,
    /// What it names.
    pub care_contexts: Vec<CareContextRef>,
}

impl Held {
    /// From its row and her key.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn of(row: &ConsentRow, ring: &Ring) -> Result<Self, Refusal> {
        let granted = Granted::try_from(row)?;
        if granted.scope.care_contexts.is_empty() {
            return Ok(Self {
                granted,
                care_contexts: Vec::new(),
            });
        }
        let private = ring.open(&row.subject, "consent", &row.id, &row.sealed)?;
        Ok(Self {
            granted,
            care_contexts: private.care_contexts,
        })
    }
}

/// Everything of one person that can permit.
#[derive(Debug, Default)]
pub struct Subject {
    /// Her live consents.
    pub consents: Vec<Arc<Held>>,
    /// Her linked care contexts.
    pub linked: HashSet<ContextKey>,
    /// What she denies.
    pub blocks: Vec<Block>,
}

impl Subject {
    /// Whether anything of hers is here.
    pub fn is_known(&self) -> bool {
        !self.consents.is_empty() || !self.linked.is_empty()
    }
}

/// What a block weighs in memory, in bytes.
fn weight(block: &Block) -> usize {
    256 + block.care_contexts.len() * 64 + block.hips.len() * 128 + block.purposes.len() * 16
}

/// What never changes of a consent: whose it is and between whom.
#[derive(Debug, Clone)]
pub struct Parties {
    /// The person.
    pub subject: AccountId,
    /// Who gives.
    pub hip: ParticipantId,
    /// Who receives.
    pub hiu: ParticipantId,
}

/// The memory of decisions.
pub struct Subjects {
    store: Store,
    vault: Vault,
    live: Arc<SubjectCache<Arc<Subject>>>,
    parties: Cache<ConsentId, Arc<Parties>>,
}

impl Subjects {
    /// A memory of at most `bytes`.
    pub fn new(store: Store, vault: Vault, bytes: u64) -> Self {
        let live = store.cache(bytes);
        Self {
            store,
            vault,
            live,
            parties: Cache::new(PARTIES),
        }
    }

    /// Everything of hers, as of the last confirmation or later.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn get(&self, account: AccountId) -> Result<Arc<Subject>, Refusal> {
        self.live.get(account.as_bytes(), || self.load(account)).await
    }

    async fn load(&self, account: AccountId) -> Result<(Arc<Subject>, u64), Refusal> {
        let slot = account.slot();
        let read = self.store.snapshot(move |r| {
            let consents = r.group::<ConsentRow>(slot, "live", account.as_bytes())?;
            let contexts = r.group::<CareContextRow>(slot, "subject", account.as_bytes())?;
            let policies = r.group::<PolicyRow>(slot, "enabled", account.as_bytes())?;
            let key = r.get::<DataKeyRow>(slot, account.as_bytes())?;
            Ok((consents, contexts, policies, key))
        });
        let (consents, contexts, policies, key) = read.await?;
        let blocks = Block::all(policies.iter().map(|row| &row.record))?;
        let ring = self
            .vault
            .ring(&key.map(|key| key.record).into_iter().collect::<Vec<_>>())?;
        let consents = consents
            .iter()
            .map(|row| Held::of(&row.record, &ring).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let linked: HashSet<_> = contexts
            .into_iter()
            .filter_map(|row| row.record.key.try_into().ok())
            .collect();
        let named: usize = consents.iter().map(|held| held.care_contexts.len()).sum();
        let bytes =
            128 + consents.len() * 640 + named * 640 + linked.len() * 48 + blocks.iter().map(weight).sum::<usize>();
        let subject = Subject {
            consents,
            linked,
            blocks,
        };
        Ok((Arc::new(subject), u64::try_from(bytes).unwrap_or(u64::MAX)))
    }

    /// Whose a consent is and between whom; `None` when there is none.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn parties(&self, id: ConsentId) -> Result<Option<Arc<Parties>>, Refusal> {
        if let Some(known) = self.parties.get(&id) {
            return Ok(Some(known));
        }
        let row = self
            .store
            .read(move |r| r.get::<ConsentRow>(id.slot(), id.as_bytes()))
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (hip, hiu) = row.record.parties()?;
        let parties = Arc::new(Parties {
            subject: row.record.subject()?,
            hip,
            hiu,
        });
        self.parties.insert(id, Arc::clone(&parties));
        Ok(Some(parties))
    }

    /// One consent, live or ended.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn consent(&self, subject: &Subject, id: ConsentId) -> Result<Option<Arc<Held>>, Refusal> {
        if let Some(held) = subject.consents.iter().find(|held| held.granted.id == id) {
            return Ok(Some(Arc::clone(held)));
        }
        // What has ended stays ended, so a read of now is as good as the confirmation.
        let rows = self.store.read(move |r| {
            Ok(r.get::<ConsentRow>(id.slot(), id.as_bytes())?
                .into_iter()
                .collect::<Vec<_>>())
        });
        Ok(self.open(rows.await?).await?.pop())
    }

    /// All of hers between two participants: the live ones, or, where there is none, the ended ones, which can only
    /// tell why not.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn between(
        &self,
        account: AccountId,
        subject: &Subject,
        parties: &(ParticipantId, ParticipantId),
        pair: [u8; 32],
    ) -> Result<Vec<Arc<Held>>, Refusal> {
        let (hip, hiu) = parties;
        let live = subject
            .consents
            .iter()
            .filter(|held| held.granted.hip == *hip && held.granted.hiu == *hiu);
        let live: Vec<_> = live.cloned().collect();
        if !live.is_empty() {
            return Ok(live);
        }
        let rows = self
            .store
            .read(move |r| r.group::<ConsentRow>(account.slot(), "pair", &pair))
            .await?;
        self.open(rows).await
    }

    /// Those that have ended. One that is open is not among the live ones of the state that was confirmed, so it is newer
    /// than the blocks that stand beside it: it is no candidate yet.
    async fn open(&self, mut rows: Vec<sammati_store::Stored<ConsentRow>>) -> Result<Vec<Arc<Held>>, Refusal> {
        rows.retain(|row| !row.record.state().is_open());
        let Some(first) = rows.first() else {
            return Ok(Vec::new());
        };
        let subject = first.record.subject()?;
        let owner = vec![(subject.slot(), subject.to_vec())];
        let ring = self
            .vault
            .ring(&self.store.read(move |r| Vault::load(r, &owner)).await?)?;
        let held = rows.iter().map(|row| Held::of(&row.record, &ring).map(Arc::new));
        held.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_block_weighs_what_it_names() {
        let small = Block::default();
        let large = Block {
            care_contexts: (0..=255).map(|n| [n; 32]).collect(),
            hips: BTreeSet::from([ParticipantId::parse("hospital").unwrap()]),
            ..Block::default()
        };
        assert!(weight(&large) >= weight(&small) + 256 * size_of::<ContextKey>() + size_of::<ParticipantId>());
    }
}
