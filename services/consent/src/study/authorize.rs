//! A run: each member decided under the lock where she lives, once for ever, and 500 of them told in one commit.

use sammati_api::audit::v1::Counts;
use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Micros, ParticipantId, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{RunId, about, manifest};
use crate::decision::authorize::{Deciding, Settled};
use crate::rows::{CohortChunkRow, CohortUseRow, MemberRow, StudyRow};

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
        let before = view.get::<CohortUseRow>(&self.key);
        let mut deciding = self.deciding.clone();
        if let Some(before) = before {
            // It has its use, if it took one: none is taken again, and what has ended since is not permitted for that.
            deciding.question.has_use = true;
            if before.lost {
                let mut decided = self.told(&deciding.look(view)?);
                if decided.permits() {
                    decided.r#use = before.decided.r#use;
                    return Ok(self.keep(view, decided));
                }
            } else if !before.decided.permits() || deciding.look(view)?.verdict.permits() {
                return Ok(before.decided);
            }
        }
        let settled = deciding.settle_once(view, Some(&self.key))?;
        Ok(self.keep(view, self.told(&settled)))
    }
}

impl AuthorizeMember {
    fn keep(&self, view: &mut View<'_>, decided: MemberRow) -> MemberRow {
        view.put(&CohortUseRow {
            key: self.key.to_vec(),
            decided: decided.clone(),
            lost: false,
        });
        decided
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
