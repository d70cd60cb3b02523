//! Records are opened where she lives: one consent for each HIP, under ids that were fixed before.

use std::collections::BTreeSet;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::consent::Origin;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::{CallerKind, NoticeRef, Requester};
use sammati_kernel::{
    AccessMode, AccountId, Caller, ConsentId, HiType, Micros, ParticipantId, PurposeCode, Refusal, Slot,
};
use sammati_store::{Command, Keys, View};

use super::count::limit;
use super::{AGAIN_WITHIN, LIFE, OPENINGS, REVIEW_WITHIN, refuse, refused};
use crate::artefact::issue::{Issuer, Version};
use crate::consent;
use crate::lookup::Lookup;
use crate::notification::{Recipients, notify};
use crate::rows::{BreakGlassRow, ConsentRow, PolicyRow};
use crate::scope::{Frequency, Range, Scope, Unit};
use crate::standing::Block;
use crate::status_list;
use crate::vault::{Private, Vault, seal};

/// OpenBreakGlass, the second half. Harmless when repeated.
pub struct OpenGlasses {
    /// Who asks.
    pub caller: Caller,
    /// The same.
    pub hiu: ParticipantId,
    /// The patient.
    pub account: AccountId,
    /// Her address, as it was asked.
    pub patient: String,
    /// From whom, and the consents that are made.
    pub hips: Vec<(ParticipantId, ConsentId)>,
    /// The professional.
    pub requester: Requester,
    /// The kinds of record.
    pub hi_types: BTreeSet<HiType>,
    /// `BreakGlass.Emergency` of the contract.
    pub emergency: i32,
    /// Why, in the professional's words.
    pub reason: String,
    /// What the built-in notice says of emergencies.
    pub notice: NoticeRef,
    /// Makes the artefacts.
    pub issuer: Issuer,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

impl Command for OpenGlasses {
    type Answer = Vec<ConsentRow>;

    const NAME: &'static str = "consent.open_break_glass";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        for (hip, id) in &self.hips {
            keys.row::<ConsentRow>(id.to_vec());
            keys.group::<ConsentRow>("pair", self.pair(hip));
        }
        keys.group::<PolicyRow>("enabled", self.account.to_vec());
        Vault::reads(keys, self.account.as_bytes());
        status_list::reads(keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Vec<ConsentRow>, Refusal> {
        let made = self.hips.iter().map(|(_, id)| view.get::<ConsentRow>(id.as_bytes()));
        if let Some(made) = made.collect::<Option<Vec<_>>>() {
            return Ok(made);
        }
        let hips: Vec<_> = self.hips.iter().map(|(hip, _)| hip.clone()).collect();
        let policies = view.group::<PolicyRow>("enabled", self.account.as_bytes());
        if is_shut(&policies, &self.hiu, &hips)? {
            refuse::record(view, &self.caller, Some(self.account), &hips);
            return Err(refused().recorded());
        }
        for hip in &hips {
            check_openings(&view.group::<ConsentRow>("pair", &self.pair(hip)), view.now())?;
        }
        let key = self.vault.key(view, self.account.as_bytes())?;
        let mut opened = Vec::with_capacity(self.hips.len());
        for (hip, id) in &self.hips {
            let private = Private {
                patient: self.patient.clone(),
                care_contexts: Vec::new(),
                text: self.reason.clone(),
            };
            let mut row = self.row(view.now(), hip, *id);
            row.sealed = seal(&key, view, "consent", &row.id, &private)?;
            status_list::give(view, &self.lookup, &mut row);
            view.put(&row);
            let mut told = consent::draft("access.break_glass", Action::Execute, &self.caller, &row)?;
            told.payload().purpose = PurposeCode::Btg.number();
            let told = told.emit(view);
            let (name, her) = (id.name(), Some(self.account));
            let parties = Recipients::new().participant(&row.hip).participant(&row.hiu);
            notify(view, told, Kind::ConsentGranted, &name, &parties, her);
            let others = Recipients::new().person(her).operators();
            notify(view, told, Kind::BreakGlassOpened, &name, &others, her);
            let version = Version {
                row: &row,
                private: &private,
                event_id: &told.id.to_string(),
                supersedes: None,
                caller: &self.caller,
            };
            self.issuer.issue(view, &version, &key)?;
            opened.push(row);
        }
        Ok(opened)
    }
}

impl OpenGlasses {
    fn pair(&self, hip: &ParticipantId) -> Vec<u8> {
        self.lookup.parties(self.account.as_bytes(), hip, &self.hiu).to_vec()
    }

    fn row(&self, now: Micros, hip: &ParticipantId, id: ConsentId) -> ConsentRow {
        let end = now.plus(LIFE);
        let scope = Scope {
            purpose: PurposeCode::Btg,
            hi_types: self.hi_types.clone(),
            access_mode: AccessMode::View,
            // All that there is, and what comes in while it is open.
            record_range: Range {
                from: Micros::ZERO,
                to: end,
            },
            erase_time: end,
            frequency: Frequency {
                unit: Unit::Hour,
                value: 0,
                repeats: 0,
            },
            max_uses: 0,
            bind_requester: true,
            care_contexts: BTreeSet::new(),
        };
        ConsentRow {
            id: id.to_vec(),
            subject: self.account.to_vec(),
            hip: hip.as_str().to_owned(),
            hiu: self.hiu.as_str().to_owned(),
            requester: self.requester.clone(),
            scope: (&scope).into(),
            grant_version: 1,
            state: consent::State::Granted.number(),
            granted: now.0,
            expire: end.0,
            granted_by: CallerKind::Hiu.into(),
            notice: self.notice.clone(),
            updated: now.0,
            version: 1,
            pair: self.pair(hip),
            origin: Origin::BreakGlass.into(),
            break_glass: Some(BreakGlassRow {
                emergency: self.emergency,
                due: now.plus(REVIEW_WITHIN).0,
                ..BreakGlassRow::default()
            }),
            ..ConsentRow::default()
        }
    }
}

/// Whether she has shut this off: towards this HIU, at one of these HIPs, for emergencies or for everything.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub fn is_shut(policies: &[PolicyRow], hiu: &ParticipantId, hips: &[ParticipantId]) -> Result<bool, Refusal> {
    let blocks = Block::all(policies)?;
    let shut = |hip| {
        blocks
            .iter()
            .any(|block| block.denies(hiu, std::slice::from_ref(hip), PurposeCode::Btg))
    };
    Ok(hips.iter().any(shut))
}

/// Once, and once more, in a day: `before` are the consents between the same three.
///
/// # Errors
/// BREAK_GLASS_LIMIT.
pub fn check_openings<'a>(before: impl IntoIterator<Item = &'a ConsentRow>, now: Micros) -> Result<(), Refusal> {
    let since = now.minus(AGAIN_WITHIN).0;
    let recent = before
        .into_iter()
        .filter(|row| row.break_glass.is_some() && row.granted > since);
    let mut recent: Vec<i64> = recent.map(|row| row.granted).collect();
    recent.sort_unstable();
    match recent.len().checked_sub(OPENINGS) {
        None => Ok(()),
        // Free again when all but one are a day old.
        Some(n) => {
            let free = Micros(recent[n]).plus(AGAIN_WITHIN).since(now);
            let why = "her records there were opened twice in 24 hours; ask her, or who acts for her";
            Err(limit(why).retry_after(free))
        }
    }
}
