//! Deciding for good: under the lock, taking one use, leaving one event, whichever way it goes.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::{AccountId, Caller, ConsentId, Fact, Micros, ParticipantId, Refusal, Role, Slot, StudyId};
use sammati_store::{Command, Keys, View};

use super::{Facts, Granted, Question, Verdict, record, reduce};
use crate::consent;
use crate::directory::Directory;
use crate::lookup::ContextKey;
use crate::rows::{CareContextRow, ConsentRow, PolicyRow, TransferRow};
use crate::standing::Block;
use crate::study::known::ActiveUntil;

/// Which consents are asked about.
#[derive(Debug, Clone)]
pub enum Candidates {
    /// The one that is named.
    Named(ConsentId),
    /// All of a person between two participants: the hash of the three.
    Between([u8; 32]),
    /// Those of them that were given to one study.
    InStudy([u8; 32], StudyId),
    /// One of them alone.
    OneOf([u8; 32], ConsentId),
    /// None: the person is nobody.
    None,
}

/// What deciding under the lock needs; shared with transfers.
#[derive(Clone)]
pub struct Deciding {
    /// Where.
    pub slot: Slot,
    /// About whom, as far as that is known at admission.
    pub subject: Option<AccountId>,
    /// Which consents.
    pub candidates: Candidates,
    /// The question.
    pub question: Question,
    /// Who asks.
    pub caller: Caller,
    /// Facts of identity.
    pub directory: Arc<dyn Directory>,
    /// What this process knew of the partition when the call was admitted.
    pub revision: String,
    /// Until when the studies are active that matter here, as of the same moment or later.
    pub studies: ActiveUntil,
}

/// A decision with the consent it rests on, as it stands after it.
pub struct Settled {
    /// As it is told.
    pub decided: record::Decided,
    /// The verdict.
    pub verdict: Verdict,
    /// The consent, if one decided.
    pub consent: Option<ConsentRow>,
    /// The window of the use that was taken.
    pub window: i64,
}

impl Deciding {
    /// What it reads.
    pub fn reads(&self, keys: &mut Keys) {
        match &self.candidates {
            Candidates::Named(id) => {
                keys.row::<ConsentRow>(id.to_vec());
                keys.group::<TransferRow>("open", id.to_vec());
            }
            Candidates::Between(pair) | Candidates::InStudy(pair, _) | Candidates::OneOf(pair, _) => {
                keys.group::<ConsentRow>("pair", pair.to_vec());
            }
            Candidates::None => {}
        }
        for key in &self.question.care_contexts {
            keys.row::<CareContextRow>(key.to_vec());
        }
        if let Some(subject) = self.subject {
            keys.group::<PolicyRow>("enabled", subject.to_vec());
        }
    }

    /// What else it reads: whatever ends with the consents that time has ended.
    pub fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if let Candidates::Between(pair) | Candidates::InStudy(pair, _) | Candidates::OneOf(pair, _) = &self.candidates
        {
            for row in overdue(loaded, pair) {
                keys.group::<TransferRow>("open", row.id);
            }
        }
    }

    /// Decides, takes the use and leaves the events.
    ///
    /// # Errors
    /// IDENTITY_STALE; INTERNAL when a row is damaged.
    pub fn settle(&self, view: &mut View<'_>) -> Result<Settled, Refusal> {
        self.settle_once(view, None)
    }

    /// The same of what a run does once, under its keyed hash: a restore that loses it finds it in the log.
    ///
    /// # Errors
    /// IDENTITY_STALE; INTERNAL when a row is damaged.
    pub fn settle_once(&self, view: &mut View<'_>, once: Option<&[u8; 32]>) -> Result<Settled, Refusal> {
        let (mut settled, by) = self.looked(view)?;
        let permits = settled.verdict.permits();
        let once = once.filter(|_| permits);
        self.record(view, by.as_ref(), &settled.verdict, once, &mut settled.decided);
        if let Some(row) = settled.consent.as_mut().filter(|_| permits && !self.question.has_use) {
            self.take_use(view, row, settled.window, &mut settled.decided)?;
        }
        Ok(settled)
    }

    /// What it would decide now; nothing is told and no use is taken.
    ///
    /// # Errors
    /// IDENTITY_STALE; INTERNAL when a row is damaged.
    pub fn look(&self, view: &mut View<'_>) -> Result<Settled, Refusal> {
        Ok(self.looked(view)?.0)
    }

    fn looked(&self, view: &mut View<'_>) -> Result<(Settled, Option<Granted>), Refusal> {
        self.directory.fresh()?;
        let mut rows = self.load(view)?;
        let mut granted = rows.iter().map(Granted::try_from).collect::<Result<Vec<_>, _>>()?;
        let linked = self.linked(view);
        let facts = self.facts(view, &linked)?;
        let verdict = super::decide(&self.question, &facts, &granted.iter().collect::<Vec<_>>(), view.now());
        let by = verdict.by.map(|place| granted.swap_remove(place));
        let mut decided = record::decided(&verdict, by.as_ref(), view.now(), self.directory.as_of());
        if let Some(granted) = by.as_ref().filter(|_| verdict.is_reduced()) {
            decided.reduce(&reduce::permitted(&self.question, &facts, granted));
        }
        let settled = Settled {
            window: by.as_ref().map_or(0, |consent| consent.left(view.now()).window),
            consent: verdict.by.map(|place| rows.swap_remove(place)),
            decided,
            verdict,
        };
        Ok((settled, by))
    }

    /// The candidates, after what time has done to them is written.
    fn load(&self, view: &mut View<'_>) -> Result<Vec<ConsentRow>, Refusal> {
        match &self.candidates {
            Candidates::Named(id) => {
                let mut row = view.get::<ConsentRow>(id.as_bytes());
                if let Some(row) = &mut row {
                    consent::catch_up(view, row)?;
                }
                Ok(row.into_iter().collect())
            }
            Candidates::Between(pair) => between(view, pair),
            Candidates::InStudy(pair, study) => {
                let mut rows = between(view, pair)?;
                rows.retain(|row| row.study == study.as_bytes());
                Ok(rows)
            }
            Candidates::OneOf(pair, id) => {
                let mut rows = between(view, pair)?;
                rows.retain(|row| row.id == id.as_bytes());
                Ok(rows)
            }
            Candidates::None => Ok(Vec::new()),
        }
    }

    fn facts<'a>(&'a self, view: &View<'_>, linked: &'a [ContextKey]) -> Result<Locked<'a>, Refusal> {
        Ok(Locked {
            directory: self.directory.as_ref(),
            linked,
            blocks: self.blocks(view)?,
            studies: &self.studies,
        })
    }

    /// What she denies, as the lock has it.
    fn blocks(&self, view: &View<'_>) -> Result<Vec<Block>, Refusal> {
        match self.subject {
            Some(subject) => Block::all(&view.group::<PolicyRow>("enabled", subject.as_bytes())),
            None => Ok(Vec::new()),
        }
    }

    fn linked(&self, view: &View<'_>) -> Vec<ContextKey> {
        let asked = self.question.care_contexts.iter();
        asked
            .filter(|key| view.get::<CareContextRow>(key.as_slice()).is_some())
            .copied()
            .collect()
    }

    fn record(
        &self,
        view: &mut View<'_>,
        by: Option<&Granted>,
        verdict: &Verdict,
        once: Option<&[u8; 32]>,
        decided: &mut record::Decided,
    ) {
        let subject = by.map(|consent| consent.subject).or(self.subject);
        let id = uuid::Uuid::from_bytes(view.next_event_id()).to_string();
        let draft = record::draft(&self.caller, &self.question, subject, by, verdict);
        let mut draft = draft.claims(once.map(|key| key.to_vec()));
        draft.payload().decision = Some(record::record(&id, &self.revision, verdict.rule, &self.question));
        decided.id = draft.emit(view).id.to_string();
    }

    fn take_use(
        &self,
        view: &mut View<'_>,
        row: &mut ConsentRow,
        window: i64,
        decided: &mut record::Decided,
    ) -> Result<(), Refusal> {
        let uses = super::uses::Uses::of(row).take(window);
        uses.write(row);
        row.updated = view.now().0;
        view.put(row);
        decided.r#use = uses.count;
        decided.left = Granted::try_from(&*row)?.left(view.now()).smaller();
        let mut draft = consent::draft("data.use_consumed", Action::Update, &self.caller, row)?;
        decided.id.clone_into(&mut draft.event.causation_event_id);
        draft.emit(view);
        Ok(())
    }
}

/// The consents of a pair, after what time has done to them is written.
fn between(view: &mut View<'_>, pair: &[u8; 32]) -> Result<Vec<ConsentRow>, Refusal> {
    for mut row in overdue(view, pair) {
        consent::expire(view, &mut row)?;
    }
    Ok(view.group::<ConsentRow>("pair", pair))
}

/// The consents of a pair that time has ended and no command has yet.
fn overdue(view: &View<'_>, pair: &[u8; 32]) -> Vec<ConsentRow> {
    let mut rows = view.group::<ConsentRow>("pair", pair);
    rows.retain(|row| row.state() != row.state_at(view.now()));
    rows
}

/// Facts of identity, and the care contexts that were found linked.
struct Locked<'a> {
    directory: &'a dyn Directory,
    linked: &'a [ContextKey],
    blocks: Vec<Block>,
    studies: &'a ActiveUntil,
}

impl Facts for Locked<'_> {
    fn is_active_as(&self, id: &ParticipantId, role: Role) -> bool {
        self.directory.is_active_as(id, role)
    }

    fn is_active(&self, account: AccountId) -> bool {
        self.directory.is_active(account)
    }

    fn is_linked(&self, key: &ContextKey) -> bool {
        self.linked.contains(key)
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn active_until(&self, study: StudyId) -> Option<Micros> {
        self.studies.get(&study).copied()
    }
}

/// AuthorizeAccess.
pub struct Authorize(pub Deciding);

impl Command for Authorize {
    type Answer = Settled;

    const NAME: &'static str = "access.authorize";

    fn slot(&self) -> Slot {
        self.0.slot
    }

    fn reads(&self, keys: &mut Keys) {
        self.0.reads(keys);
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        self.0.then(loaded, keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Settled, Refusal> {
        self.0.settle(view)
    }

    fn outcome(&self, settled: &Settled) -> Vec<u8> {
        prost::Message::encode_to_vec(&settled.decided)
    }
}

/// The kernel's reason for a decision's, where a decision becomes a refusal.
pub fn refusal(verdict: &Verdict, decided: &record::Decided, now: Micros) -> Refusal {
    let text = record::reason_text(verdict.reason);
    let reason = sammati_kernel::Reason::parse(text).unwrap_or(sammati_kernel::Reason::NoConsent);
    let refusal = Refusal::new(reason)
        .saying(sentence(verdict.reason))
        .with(Fact::DecisionId, &decided.id);
    match verdict.retry {
        Some(at) => refusal.retry_after(at.since(now)),
        None => refusal,
    }
}

/// What to do about a refused transfer.
const fn sentence(reason: Reason) -> &'static str {
    match reason {
        Reason::RequesterNotActive => "the receiver is not active for this purpose; try later or ask the operator",
        Reason::ProviderNotActive => "the provider is not active now; try later or ask the operator",
        Reason::RequesterMismatch | Reason::ProviderMismatch => {
            "the consent is between other participants; read it again"
        }
        Reason::SubjectInactive => "her account is not active now",
        Reason::BlockedBySubject => {
            "she denies this whatever she has granted; push nothing, and tell the asker nothing"
        }
        Reason::ConsentRevoked => "she took the consent back; what was received under it must not be shown any more",
        Reason::ConsentExpired => "the consent's time is over; ask her again if you still need the records",
        Reason::ConsentPaused => "she has paused the consent; wait until she resumes it",
        Reason::ConsentSuperseded => "a renewal took the consent's place; read it, and name the one in `renewed_by`",
        Reason::HiTypeNotGranted => "a kind of record was not granted; read the consent and ask only for what it names",
        Reason::RecordRangeNotGranted => "the dates reach outside what was granted; read the consent and narrow them",
        Reason::UserMismatch => "the consent is for one professional only; send her or him as user",
        Reason::ProviderNotAcknowledged => "the provider has not acknowledged the consent yet; try again in a minute",
        Reason::UseLimitReached => "all uses of the consent are taken; ask her for a new one",
        Reason::FrequencyExceeded => "all uses of this window are taken; wait for the next one",
        _ => "no consent of hers permits it; read your consents and ask for one if you need it",
    }
}
