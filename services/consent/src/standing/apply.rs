//! What do her policies say to a request that is being made? Pure: which one decides, and what it gives.

use std::collections::BTreeSet;

use sammati_kernel::{HiType, ParticipantId, PurposeCode, Refusal};

use super::{Block, Effect};
use crate::rows::PolicyRow;
use crate::scope::{Scope, wider};

/// A request as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The asker.
    pub hiu: &'a ParticipantId,
    /// The HIPs that are named; none: any she has links with.
    pub hips: &'a [ParticipantId],
    /// The HIPs she has links with.
    pub linked: &'a BTreeSet<ParticipantId>,
    /// What is asked.
    pub scope: &'a Scope,
}

/// What her policies say.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Nothing: she decides.
    Nothing,
    /// This one denies it.
    Deny(Vec<u8>),
    /// This one grants it: to each HIP what stands beside it.
    Approve(Vec<u8>, Vec<(ParticipantId, Scope)>),
}

/// What her policies in force say: a DENY first, then the first APPROVE that covers it.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub fn apply(policies: &[PolicyRow], asked: Asked<'_>) -> Result<Said, Refusal> {
    let mut blocks = Vec::new();
    for row in policies.iter().filter(|row| row.effect() == Effect::Deny) {
        for block in Block::all([row])? {
            if block.denies(asked.hiu, asked.hips, asked.scope.purpose) {
                return Ok(Said::Deny(row.id.clone()));
            }
            blocks.push(block);
        }
    }
    // What is blocked in a part is for her to look at.
    let near = |block: &Block| block.hiu.as_ref().is_none_or(|hiu| hiu == asked.hiu);
    if blocks
        .iter()
        .any(|block| near(block) && concerns(block, asked.scope.purpose))
    {
        return Ok(Said::Nothing);
    }
    for row in policies.iter().filter(|row| row.effect() == Effect::Approve) {
        if let Some(grants) = grants(row, asked)? {
            return Ok(Said::Approve(row.id.clone(), grants));
        }
    }
    Ok(Said::Nothing)
}

fn concerns(block: &Block, purpose: PurposeCode) -> bool {
    block.purposes.is_empty() || block.purposes.contains(&purpose)
}

/// What one APPROVE gives, if it covers all that is asked but what it leaves out.
fn grants(row: &PolicyRow, asked: Asked<'_>) -> Result<Option<Vec<(ParticipantId, Scope)>>, Refusal> {
    let Some(bound) = &row.scope else { return Ok(None) };
    let bound = bound.read()?;
    if row.hiu != asked.hiu.as_str() {
        return Ok(None);
    }
    let included = |hip: &&ParticipantId| row.hips.is_empty() || row.hips.iter().any(|id| id == hip.as_str());
    // A HIP that is named and not included is more than the policy covers; of those she has links with it takes its own.
    if !asked.hips.iter().all(|hip| included(&hip)) {
        return Ok(None);
    }
    let sources: Vec<_> = match asked.hips {
        [] => asked.linked.iter().filter(included).collect(),
        hips => hips.iter().collect(),
    };
    let mut grants = Vec::new();
    for hip in sources {
        let hi_types = left(row, hip, &asked.scope.hi_types);
        if hi_types.is_empty() {
            continue;
        }
        let scope = Scope {
            hi_types,
            ..asked.scope.clone()
        };
        if wider(&bound, &scope).is_some() {
            return Ok(None);
        }
        grants.push((hip.clone(), scope));
    }
    Ok((!grants.is_empty()).then_some(grants))
}

/// The kinds of record that are not left out at a HIP.
fn left(row: &PolicyRow, hip: &ParticipantId, asked: &BTreeSet<HiType>) -> BTreeSet<HiType> {
    let mut left = asked.clone();
    for excluded in &row.excluded {
        if excluded.hip.is_empty() || excluded.hip == hip.as_str() {
            left.retain(|kind| !excluded.hi_types.is_empty() && !excluded.hi_types.contains(&kind.number()));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ExcludedRow;
    use crate::scope::{Frequency, Range, Unit};
    use crate::standing::State;
    use sammati_kernel::{AccessMode, Micros};

    fn id(id: &str) -> ParticipantId {
        ParticipantId::parse(id).unwrap()
    }

    fn scope(kinds: &[HiType]) -> Scope {
        Scope {
            purpose: PurposeCode::Caremgt,
            hi_types: kinds.iter().copied().collect(),
            access_mode: AccessMode::View,
            record_range: Range {
                from: Micros(10),
                to: Micros(20),
            },
            erase_time: Micros(100),
            frequency: Frequency {
                unit: Unit::Hour,
                value: 0,
                repeats: 0,
            },
            max_uses: 0,
            bind_requester: false,
            care_contexts: BTreeSet::new(),
        }
    }

    fn approve(change: impl FnOnce(&mut PolicyRow)) -> PolicyRow {
        let mut row = PolicyRow {
            id: vec![1; 16],
            effect: Effect::Approve.number(),
            hiu: "clinic".into(),
            scope: Some((&scope(HiType::ALL)).into()),
            state: State::Enabled.number(),
            ..PolicyRow::default()
        };
        change(&mut row);
        row
    }

    fn said(policies: &[PolicyRow], hips: &[ParticipantId], scope: &Scope) -> Said {
        let linked = BTreeSet::from([id("hospital"), id("lab")]);
        let asked = Asked {
            hiu: &id("clinic"),
            hips,
            linked: &linked,
            scope,
        };
        apply(policies, asked).unwrap()
    }

    #[test]
    fn an_approve_gives_what_is_asked_but_what_it_leaves_out() {
        use HiType::{DiagnosticReport, Prescription};
        let asked = scope(&[Prescription, DiagnosticReport]);
        let policy = approve(|row| {
            row.excluded = vec![
                ExcludedRow {
                    hip: "lab".into(),
                    hi_types: Vec::new(),
                },
                ExcludedRow {
                    hip: String::new(),
                    hi_types: vec![DiagnosticReport.number()],
                },
            ];
        });
        let Said::Approve(_, grants) = said(&[policy], &[], &asked) else {
            panic!("not approved")
        };
        assert_eq!(grants, [(id("hospital"), scope(&[Prescription]))]);
    }

    #[test]
    fn more_than_the_bound_in_anything_is_hers_to_decide() {
        let kinds = [HiType::Prescription];
        let fits = approve(|_| {});
        assert!(matches!(
            said(std::slice::from_ref(&fits), &[], &scope(&kinds)),
            Said::Approve(..)
        ));
        let longer = Scope {
            erase_time: Micros(101),
            ..scope(&kinds)
        };
        let stores = Scope {
            access_mode: AccessMode::Store,
            ..scope(&kinds)
        };
        let earlier = Scope {
            record_range: Range {
                from: Micros(9),
                to: Micros(20),
            },
            ..scope(&kinds)
        };
        let pays = Scope {
            purpose: PurposeCode::Hpaymt,
            ..scope(&kinds)
        };
        for asked in [longer, stores, earlier, pays] {
            assert_eq!(said(std::slice::from_ref(&fits), &[], &asked), Said::Nothing);
        }
        let narrow = approve(|row| row.hips = vec!["hospital".into()]);
        assert_eq!(
            said(std::slice::from_ref(&narrow), &[id("lab")], &scope(&kinds)),
            Said::Nothing
        );
        let Said::Approve(_, grants) = said(&[narrow], &[], &scope(&kinds)) else {
            panic!("not approved")
        };
        assert_eq!(grants.len(), 1);
        let other = approve(|row| row.hiu = "insurer".into());
        assert_eq!(said(&[other], &[], &scope(&kinds)), Said::Nothing);
    }

    #[test]
    fn a_deny_beats_every_approve_and_a_part_of_one_leaves_it_to_her() {
        let deny = PolicyRow {
            id: vec![2; 16],
            effect: Effect::Deny.number(),
            state: State::Enabled.number(),
            ..PolicyRow::default()
        };
        let asked = scope(&[HiType::Prescription]);
        assert_eq!(
            said(&[approve(|_| {}), deny.clone()], &[], &asked),
            Said::Deny(vec![2; 16])
        );
        let hidden = PolicyRow {
            hips: vec!["hospital".into()],
            care_contexts: vec![vec![7; 32]],
            ..deny.clone()
        };
        assert_eq!(said(&[approve(|_| {}), hidden], &[], &asked), Said::Nothing);
        let emergencies = PolicyRow {
            purposes: vec![PurposeCode::Btg.number()],
            ..deny
        };
        assert!(matches!(
            said(&[approve(|_| {}), emergencies], &[], &asked),
            Said::Approve(..)
        ));
    }
}
