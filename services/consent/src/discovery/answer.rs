//! The HIP's turns: what it found, its challenge, and the end.

use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{AccountId, Caller, DiscoveryId, Key, Micros, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{State, To, Verb, draft, next, tell};
use crate::link::add::Linking;
use crate::lookup::Lookup;
use crate::policy;
use crate::rows::{self, CareContextRow, DiscoveryRow, Known, LinkRow};
use crate::vault::{Vault, open_as, seal};

/// What a HIP answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// What it found, and by what.
    Found(Vec<CareContextRef>, Vec<i32>),
    /// Nothing.
    Nothing,
    /// It sent a challenge.
    Challenge(Challenge),
    /// It linked what she chose.
    Linked,
    /// It gives up.
    Failed,
}

/// A challenge, well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The contract's `Medium`.
    pub medium: i32,
    /// Where to, masked.
    pub hint: String,
    /// Until when it can be answered.
    pub expire: Micros,
    /// What her answer is sealed to.
    pub token_key: Vec<u8>,
}

/// AnswerDiscovery.
pub struct AnswerDiscovery {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub discovery: DiscoveryId,
    /// The person, as the discovery names her.
    pub account: AccountId,
    /// The HIP, as the discovery names it.
    pub hip: ParticipantId,
    /// What it answers.
    pub answer: Answer,
    /// The etag that was read.
    pub etag: String,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

impl Command for AnswerDiscovery {
    type Answer = DiscoveryRow;

    const NAME: &'static str = "discovery.answer";

    fn slot(&self) -> Slot {
        self.discovery.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<DiscoveryRow>(self.discovery.to_vec());
        Vault::reads(keys, self.account.as_bytes());
        match &self.answer {
            Answer::Found(found, _) => found.iter().for_each(|context| keys.claim(self.claim(context))),
            Answer::Linked => Linking::reads_of(keys, self.account),
            _ => {}
        }
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        let row = loaded.get::<DiscoveryRow>(self.discovery.as_bytes());
        if let (Answer::Linked, Some(row)) = (&self.answer, row) {
            for key in &row.selected {
                keys.row::<CareContextRow>(key.clone());
            }
            for claim in row.claims.iter().filter_map(|claim| claim.as_slice().try_into().ok()) {
                keys.claim(claim);
            }
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<DiscoveryRow, Refusal> {
        let row = view.get::<DiscoveryRow>(self.discovery.as_bytes());
        let mut row = policy::may_answer(&self.caller, row)?;
        rows::check_etag(&self.etag, row.version)?;
        let mut to = next(view, &mut row, self.verb())?;
        let key = self.vault.key(view, &row.subject)?;
        let mut known: Known = open_as(&key, "discovery", &row.id, &row.sealed)?;
        match &self.answer {
            Answer::Found(found, matched_by) => {
                known.candidates = self.not_linked(view, found);
                row.matched_by.clone_from(matched_by);
                if known.candidates.is_empty() {
                    to = State::Unmatched;
                }
            }
            Answer::Challenge(challenge) => challenge.keep(view.now(), &mut row, &mut known)?,
            Answer::Linked => row.link = self.link(view, &known)?.id,
            Answer::Nothing | Answer::Failed => {}
        }
        self.settle(view, &mut row, &known, &key, to)?;
        Ok(row)
    }

    fn outcome(&self, answer: &DiscoveryRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl AnswerDiscovery {
    const fn verb(&self) -> Verb {
        match self.answer {
            Answer::Found(..) => Verb::Find,
            Answer::Nothing => Verb::FindNothing,
            Answer::Challenge(_) => Verb::Challenge,
            Answer::Linked => Verb::Link,
            Answer::Failed => Verb::Fail,
        }
    }

    fn claim(&self, context: &CareContextRef) -> [u8; 32] {
        self.lookup.linked_once(&self.hip, &context.care_context_reference)
    }

    fn not_linked(&self, view: &View<'_>, found: &[CareContextRef]) -> Vec<CareContextRef> {
        let free = |context: &&CareContextRef| view.claimed(&self.claim(context)).is_none();
        found.iter().filter(free).cloned().collect()
    }

    /// Links what she chose, as the HIP found it.
    fn link(&self, view: &mut View<'_>, known: &Known) -> Result<LinkRow, Refusal> {
        let chosen = known.selected.iter().filter_map(|reference| {
            let mut candidates = known.candidates.iter();
            candidates.find(|context| context.care_context_reference == *reference)
        });
        let care_contexts: Vec<_> = chosen.cloned().collect();
        let reference = care_contexts.first().map(|context| context.patient_reference.clone());
        let linking = Linking {
            caller: &self.caller,
            hip: &self.hip,
            account: self.account,
            patient_reference: &reference.unwrap_or_default(),
            care_contexts: &care_contexts,
            is_discovered: true,
            lookup: &self.lookup,
            vault: &self.vault,
        };
        linking.write(view)
    }

    /// Her answer to a challenge goes with the HIP's next word, whichever it is.
    fn settle(
        &self,
        view: &mut View<'_>,
        row: &mut DiscoveryRow,
        known: &Known,
        key: &Key,
        to: State,
    ) -> Result<(), Refusal> {
        row.sealed_token.clear();
        row.settle(to, view.now());
        row.sealed = seal(key, view, "discovery", &row.id, known)?;
        view.put(row);
        let mut draft = draft("link.discovery_answered", &self.caller, row)?;
        to.as_str().clone_into(&mut draft.event.reason_code);
        let told = draft.emit(view);
        tell(view, told, row, To::Her)
    }
}

impl Challenge {
    fn keep(&self, now: Micros, row: &mut DiscoveryRow, known: &mut Known) -> Result<(), Refusal> {
        if self.expire <= now {
            return Err(Refusal {
                reason: Reason::FieldInvalid,
                ..Refusal::field("challenge.expire_time", "a time to come")
            });
        }
        row.medium = self.medium;
        row.challenge_expire = self.expire.0;
        row.token_key.clone_from(&self.token_key);
        known.hint.clone_from(&self.hint);
        Ok(())
    }
}
