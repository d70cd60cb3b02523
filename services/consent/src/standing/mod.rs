//! What has a person decided beforehand? Her policies: what they approve, what they deny, and whether they are in force.

pub mod apply;
pub mod create;
pub mod switch;

use std::collections::BTreeSet;

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, ParticipantId, PurposeCode, Refusal};
use sammati_server::event::Draft;

use crate::decision::Granted;
use crate::lookup::ContextKey;
use crate::representative;
use crate::rows::{self, PolicyRow, broken};

/// Policies of one person in force: more than anybody looks through, and few enough to be read by each decision.
pub const MAX: usize = 200;

/// What a policy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Grants what it covers.
    Approve,
    /// Denies what it covers.
    Deny,
}

impl Effect {
    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number denies.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Approve,
            _ => Self::Deny,
        }
    }
}

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It decides.
    Enabled,
    /// It does not.
    Disabled,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// She puts it into force.
    Enable,
    /// She takes it out of force.
    Disable,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 2] = [Self::Enabled, Self::Disabled];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number is in force: of a DENY that takes away, and an APPROVE has its bound.
    pub const fn from_number(number: i32) -> Self {
        match number {
            2 => Self::Disabled,
            _ => Self::Enabled,
        }
    }

    /// As refusals name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
        }
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Disabled, Verb::Enable) => Some(Self::Enabled),
            (Self::Enabled, Verb::Disable) => Some(Self::Disabled),
            _ => None,
        }
    }
}

/// A DENY in force, as decisions see it. Empty is all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// Towards whom.
    pub hiu: Option<ParticipantId>,
    /// At which HIPs.
    pub hips: BTreeSet<ParticipantId>,
    /// For which purposes.
    pub purposes: BTreeSet<PurposeCode>,
    /// Which care contexts.
    pub care_contexts: BTreeSet<ContextKey>,
}

impl Block {
    /// Those among her policies that are in force and deny.
    ///
    /// # Errors
    /// INTERNAL when a row is damaged.
    pub fn all<'a>(rows: impl IntoIterator<Item = &'a PolicyRow>) -> Result<Vec<Self>, Refusal> {
        let denies = |row: &&PolicyRow| row.effect() == Effect::Deny && row.state() == State::Enabled;
        rows.into_iter().filter(denies).map(Self::of).collect()
    }

    fn of(row: &PolicyRow) -> Result<Self, Refusal> {
        let hiu = Some(&row.hiu).filter(|id| !id.is_empty());
        let keys = row.care_contexts.iter().map(|key| key.as_slice().try_into());
        let purposes = row.purposes.iter().map(|number| PurposeCode::from_number(*number));
        Ok(Self {
            hiu: hiu.map(|id| rows::participant(id)).transpose()?,
            hips: row
                .hips
                .iter()
                .map(|id| rows::participant(id))
                .collect::<Result<_, _>>()?,
            purposes: purposes
                .collect::<Option<_>>()
                .ok_or_else(|| broken("a policy's purpose"))?,
            care_contexts: keys
                .collect::<Result<_, _>>()
                .map_err(|_| broken("a policy's care context"))?,
        })
    }

    /// Whether it forbids what is asked under `consent`: these care contexts, or, where none is named, all that the
    /// consent covers.
    pub fn forbids(&self, consent: &Granted, asked: &BTreeSet<ContextKey>) -> bool {
        let covered = if asked.is_empty() {
            &consent.scope.care_contexts
        } else {
            asked
        };
        let touches = self.care_contexts.is_empty()
            || covered.is_empty()
            || covered.iter().any(|key| self.care_contexts.contains(key));
        self.is_about(&consent.hiu, &consent.hip, consent.scope.purpose) && touches
    }

    /// Whether it denies a request of `hiu` for `purpose` outright: at all HIPs that are named, whatever the care contexts.
    pub fn denies(&self, hiu: &ParticipantId, hips: &[ParticipantId], purpose: PurposeCode) -> bool {
        let about = |hip: &ParticipantId| self.is_about(hiu, hip, purpose);
        let everywhere = match hips {
            [] => self.hips.is_empty() && self.is_towards(hiu, purpose),
            hips => hips.iter().all(about),
        };
        self.care_contexts.is_empty() && everywhere
    }

    /// Whether who subscribed for `purpose` hears nothing of this care context.
    pub fn silences(
        &self,
        holder: &ParticipantId,
        hip: &ParticipantId,
        purpose: PurposeCode,
        key: &ContextKey,
    ) -> bool {
        self.is_about(holder, hip, purpose) && (self.care_contexts.is_empty() || self.care_contexts.contains(key))
    }

    fn is_about(&self, hiu: &ParticipantId, hip: &ParticipantId, purpose: PurposeCode) -> bool {
        (self.hips.is_empty() || self.hips.contains(hip)) && self.is_towards(hiu, purpose)
    }

    fn is_towards(&self, hiu: &ParticipantId, purpose: PurposeCode) -> bool {
        let purposes = self.purposes.is_empty() || self.purposes.contains(&purpose);
        purposes && self.hiu.as_ref().is_none_or(|id| id == hiu)
    }
}

/// Refuses a representative a policy that reaches beyond his limits.
///
/// # Errors
/// POWER_MISSING; INTERNAL when the row is damaged.
fn within(caller: &Caller, row: &PolicyRow) -> Result<(), Refusal> {
    let purposes: Option<Vec<_>> = match &row.scope {
        Some(bound) => bound.purpose().map(|purpose| vec![purpose]),
        None => row
            .purposes
            .iter()
            .map(|number| PurposeCode::from_number(*number))
            .collect(),
    };
    let purposes = purposes.ok_or_else(|| broken("a policy's purpose"))?;
    representative::within_standing(caller, &purposes, &row.hiu, &row.hips)
}

/// Notes who puts it into force.
fn decided(caller: &Caller, row: &mut PolicyRow) {
    row.decided_by = representative::kind(caller);
    row.decided_under = representative::representation(caller);
}

/// An event about a policy. Her cached state ends with it: decisions read it. Whom it is towards stands in no event: that
/// is hers to tell.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn draft(kind: &str, action: Action, caller: &Caller, row: &PolicyRow) -> Result<Draft, Refusal> {
    let subject = rows::account(&row.subject).ok_or_else(|| broken("a policy's subject"))?;
    let draft = Draft::new(kind, action, RetentionClass::Consent, caller);
    Ok(draft.subject(subject).resource(&row.id()?.name(), row.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_verb_goes_where_the_graph_says() {
        for from in State::ALL {
            for verb in [Verb::Enable, Verb::Disable] {
                let expected = match (from, verb) {
                    (State::Enabled, Verb::Disable) => Some(State::Disabled),
                    (State::Disabled, Verb::Enable) => Some(State::Enabled),
                    _ => None,
                };
                assert_eq!(from.after(verb), expected, "{from:?} {verb:?}");
            }
            assert_eq!(State::from_number(from.number()), from);
        }
    }

    #[test]
    fn a_block_denies_a_request_only_where_nothing_of_it_would_be_left() {
        let id = |id: &str| ParticipantId::parse(id).unwrap();
        let (clinic, hospital, lab) = (id("clinic"), id("hospital"), id("lab"));
        let care = PurposeCode::Caremgt;
        let everybody = Block::default();
        assert!(
            everybody.denies(&clinic, &[], care) && everybody.denies(&clinic, std::slice::from_ref(&hospital), care)
        );
        let one = Block {
            hips: BTreeSet::from([hospital.clone()]),
            ..Block::default()
        };
        assert!(one.denies(&clinic, std::slice::from_ref(&hospital), care));
        assert!(!one.denies(&clinic, &[hospital.clone(), lab], care) && !one.denies(&clinic, &[], care));
        let other = Block {
            hiu: Some(id("insurer")),
            ..Block::default()
        };
        assert!(!other.denies(&clinic, &[], care) && other.denies(&id("insurer"), &[], care));
        let emergencies = Block {
            purposes: BTreeSet::from([PurposeCode::Btg]),
            ..Block::default()
        };
        assert!(!emergencies.denies(&clinic, &[], care) && emergencies.denies(&clinic, &[], PurposeCode::Btg));
        let hidden = Block {
            hips: BTreeSet::from([hospital.clone()]),
            care_contexts: BTreeSet::from([[1; 32]]),
            ..Block::default()
        };
        assert!(!hidden.denies(&clinic, &[hospital], care));
    }
}
