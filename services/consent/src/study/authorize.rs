//! A run: each member decided under the lock where she lives, once for ever, and 500 of them told in one commit.

use sammati_api::audit::v1::Counts;
use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, ConsentId, Micros, ParticipantId, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{RunId, about, manifest};
use crate::decision::authorize::{Candidates, Deciding, Settled};
use crate::rows::{CohortChunkRow, CohortUseRow, ConsentRow, MemberRow, StudyRow};

/// Decides one member of a run. Harmless when repeated.
pub struct AuthorizeMember {
    /// What is decided.
    pub deciding: Deciding,
    /// Keyed hash of run and person.
    pub key: [u8; 32],
}

impl Command for AuthorizeMember {
    type Answer = MemberRow;

    const NAME: &'static str = "access.authorize_member";

    fn slot(&self) -> Slot {
        self.deciding.slot
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<CohortUseRow>(self.key.to_vec());
        self.deciding.reads(keys);
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        self.deciding.then(loaded, keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<MemberRow, Refusal> {
        let Some(before) = view.get::<CohortUseRow>(&self.key) else {
            return self.settle(view, CohortUseRow::default());
        };
        if !before.decided.permits() {
            return Ok(before.decided);
        }
        // It has its use: none is taken again. What is told is what the consent allows as it stands, by no other's strength.
        if let Some(held) = self.held(view, &before) {
            let mut told = self.told(&held.look(view)?);
            if told.permits() {
                told.r#use = before.decided.r#use;
                return Ok(told);
            }
        }
        self.settle(view, before)
    }
}

impl AuthorizeMember {
    /// Decides, and keeps what came of it. A use that was taken `before` is told with a denial too, for it was taken.
    fn settle(&self, view: &mut View<'_>, before: CohortUseRow) -> Result<MemberRow, Refusal> {
        let settled = self.deciding.settle_once(view, Some(&self.key))?;
        let (mut decided, mut consent) = (self.told(&settled), before.consent);
        match settled.consent.filter(|_| decided.permits()) {
            Some(row) => consent = row.id,
            None => decided.r#use = before.decided.r#use,
        }
        view.put(&CohortUseRow {
            key: self.key.to_vec(),
            decided: decided.clone(),
            lost: false,
            consent,
        });
        Ok(decided)
    }

    /// The question of the consent whose use the run has, as if she had given no other.
    fn held(&self, view: &View<'_>, before: &CohortUseRow) -> Option<Deciding> {
        let Candidates::InStudy(pair, study) = self.deciding.candidates else {
            return None;
        };
        let mut held = self.deciding.clone();
        let mut consent = ConsentId::from_slice(&before.consent);
        if before.consent.is_empty() {
            // The row does not say which, as those of format 1: it is known if there was but one.
            let mut rows = view.group::<ConsentRow>("pair", &pair);
            rows.retain(|row| row.study == study.as_bytes());
            consent = rows.first().filter(|_| rows.len() == 1).and_then(|row| row.id().ok());
        }
        held.candidates = Candidates::OneOf(pair, consent?);
        held.question.has_use = true;
        Some(held)
    }

    fn told(&self, settled: &Settled) -> MemberRow {
        let Settled {
            decided,
            verdict,
            consent,
            ..
        } = settled;
        let mut row = MemberRow {
            reason: decided.reason,
            version: decided.version,
            r#use: decided.r#use,
            ..MemberRow::default()
        };
        let Some(consent) = consent.as_ref().filter(|_| verdict.permits()) else {
            return row;
        };
        let question = &self.deciding.question;
        row.erase = consent.expire;
        if verdict.is_reduced() {
            row.hi_types.clone_from(&decided.hi_types);
            (row.from, row.to) = (decided.from, decided.to);
        } else {
            row.hi_types = question.hi_types.iter().map(|kind| kind.number()).collect();
            (row.from, row.to) = (question.record_range.from.0, question.record_range.to.0);
        }
        row
    }
}

/// Keeps what a run tells next. Whoever is first is right: another that tries it gets that.
pub struct KeepChunk {
    /// Who runs it.
    pub caller: Caller,
    /// The same.
    pub node: ParticipantId,
    /// Of which study.
    pub study: StudyRow,
    /// The run.
    pub run: RunId,
    /// What is told.
    pub chunk: CohortChunkRow,
}

impl Command for KeepChunk {
    type Answer = CohortChunkRow;

    const NAME: &'static str = "access.authorize_cohort";

    fn slot(&self) -> Slot {
        Slot::of_participant(self.node.as_str())
    }

    fn bytes(&self) -> usize {
        1024 + self.chunk.members.len() * 128
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<CohortChunkRow>(self.chunk.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<CohortChunkRow, Refusal> {
        if let Some(kept) = view.get::<CohortChunkRow>(&self.chunk.key) {
            return Ok(kept);
        }
        view.put(&self.chunk);
        let noted = Noted {
            event: "access.cohort_authorized",
            run: self.run.name(),
            members: self.chunk.members.len().try_into().unwrap_or(i64::MAX),
            sha256: manifest::sha256(&self.chunk.members),
        };
        noted.emit(view, &self.caller, &self.study)?;
        Ok(self.chunk.clone())
    }
}

/// That a cohort was looked at.
#[derive(Debug, Clone, Default)]
pub struct Noted {
    /// The event.
    pub event: &'static str,
    /// The run, by its name; empty without.
    pub run: String,
    /// How many people it was about.
    pub members: i64,
    /// SHA-256 of what was told; empty without.
    pub sha256: Vec<u8>,
}

impl Noted {
    /// Tells the log.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn emit(&self, view: &mut View<'_>, caller: &Caller, study: &StudyRow) -> Result<(), Refusal> {
        let mut draft = about(self.event, Action::Execute, RetentionClass::Access, caller, study)?;
        if !self.run.is_empty() {
            draft = draft.object(self.run.clone());
        }
        let payload = draft.payload();
        payload.artefact_sha256.clone_from(&self.sha256);
        payload.counts = Some(Counts {
            records: self.members,
            ..Counts::default()
        });
        draft.emit(view);
        Ok(())
    }
}

/// Tells the log that somebody looked, where he lives.
pub struct Note {
    /// Who.
    pub caller: Caller,
    /// Where.
    pub slot: Slot,
    /// At which study.
    pub study: StudyRow,
    /// What.
    pub noted: Noted,
}

impl Command for Note {
    type Answer = ();

    const NAME: &'static str = "study.note";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        self.noted.emit(view, &self.caller, &self.study)
    }
}

/// A chunk that is not kept yet.
pub fn chunk(key: Vec<u8>, members: Vec<MemberRow>, revision: String, now: Micros) -> CohortChunkRow {
    CohortChunkRow {
        key,
        members,
        revision,
        created: now.0,
        ..CohortChunkRow::default()
    }
}
