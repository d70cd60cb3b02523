//! Publishing a notice, or another version of one, and retiring it. What was published never changes.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::NoticeText;
use sammati_api::types::v1::{NoticeRef, RetentionClass};
use sammati_kernel::{Caller, CallerKind, Fact, HiType, NoticeId, PurposeCode, Reason, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use super::sha256;
use crate::policy;
use crate::rows::{self, NoticeRow, NoticeTextsRow, NoticeVersionRow, OF_OPERATORS};

/// Notices of one owner.
pub const NOTICES: usize = 100;

/// Versions of one notice.
pub const VERSIONS: usize = 100;

/// What a version says.
#[derive(Debug, Clone)]
pub struct Content {
    /// Why.
    pub purposes: Vec<PurposeCode>,
    /// Which records.
    pub items: Vec<HiType>,
    /// The words, once per language.
    pub texts: Vec<NoticeText>,
}

/// CreateNotice.
#[derive(Debug)]
pub struct PublishNotice {
    /// Who asks.
    pub caller: Caller,
    /// The notice that gets another version; `None`: a new one.
    pub notice: Option<NoticeId>,
    /// What it says.
    pub content: Content,
}

impl Command for PublishNotice {
    /// The notice, with the version as its newest.
    type Answer = NoticeRow;

    const NAME: &'static str = "notice.publish";

    fn slot(&self) -> Slot {
        self.notice.map_or_else(
            || match self.caller.participant() {
                Some(id) => Slot::of_participant(id.as_str()),
                None => Slot::of_participant(OF_OPERATORS),
            },
            |id| id.slot(),
        )
    }

    fn reads(&self, keys: &mut Keys) {
        match self.notice {
            Some(id) => keys.row::<NoticeRow>(id.to_vec()),
            None => keys.group::<NoticeRow>("owner", self.column()),
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<NoticeRow, Refusal> {
        let now = view.now();
        let mut row = match self.notice {
            Some(id) => self.existing(view.get::<NoticeRow>(id.as_bytes()))?,
            None => self.another(view)?,
        };
        let id = row.id()?;
        let number = i32::try_from(row.versions.len() + 1).map_err(|_| Reason::Internal)?;
        let Content { purposes, items, texts } = &self.content;
        let name = id.name();
        let sha256 = sha256(&name, number, &row.owner, (purposes, items), texts);
        row.versions.push(NoticeVersionRow {
            purposes: purposes.iter().map(|purpose| purpose.number()).collect(),
            items: items.iter().map(|item| item.number()).collect(),
            languages: texts.iter().map(|text| text.language.clone()).collect(),
            sha256: sha256.clone(),
            created: now.0,
        });
        row.updated = now.0;
        row.version += 1;
        view.put(&row);
        view.put(&NoticeTextsRow {
            notice: row.id.clone(),
            number: number.unsigned_abs(),
            texts: texts.clone(),
        });
        let mut draft = draft("notice.published", Action::Create, &self.caller, &row)?;
        draft.payload().notice = Some(NoticeRef {
            notice: name,
            version: number,
            language: String::new(),
            sha256,
        });
        draft.emit(view);
        Ok(row)
    }

    fn outcome(&self, row: &NoticeRow) -> Vec<u8> {
        let number = i32::try_from(row.versions.len()).unwrap_or(i32::MAX);
        NoticeTextsRow::key_of(&row.id, number)
    }
}

impl PublishNotice {
    fn owner(&self) -> String {
        self.caller.participant().map(|id| id.name()).unwrap_or_default()
    }

    fn column(&self) -> Vec<u8> {
        let owner = self.owner();
        if owner.is_empty() {
            OF_OPERATORS.into()
        } else {
            owner.into()
        }
    }

    fn existing(&self, row: Option<NoticeRow>) -> Result<NoticeRow, Refusal> {
        // Another's and none are alike: an operator adds to those of operators alone.
        let row = row.filter(|row| row.owner == self.owner());
        let row = row.ok_or_else(|| policy::unavailable(&self.caller))?;
        require_published(&row)?;
        if row.versions.len() >= VERSIONS {
            return Err(Refusal::new(Reason::OpenLimit).saying("100 versions are the most; publish another notice"));
        }
        Ok(row)
    }

    fn another(&self, view: &View<'_>) -> Result<NoticeRow, Refusal> {
        let mut all = view.group::<NoticeRow>("owner", &self.column());
        all.retain(|row| row.retired == 0);
        if all.len() >= NOTICES {
            return Err(Refusal::new(Reason::OpenLimit).saying("100 notices are the most; retire one that is not used"));
        }
        let id: NoticeId = view.id("notice");
        Ok(NoticeRow {
            id: id.to_vec(),
            owner: self.owner(),
            ..NoticeRow::default()
        })
    }
}

/// RetireNotice.
#[derive(Debug)]
pub struct RetireNotice {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub notice: NoticeId,
    /// The etag that was read.
    pub etag: String,
    /// The event that caused it; empty without one.
    pub cause: String,
}

impl Command for RetireNotice {
    type Answer = ();

    const NAME: &'static str = "notice.retire";

    fn slot(&self) -> Slot {
        self.notice.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<NoticeRow>(self.notice.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let caller = &self.caller;
        let own = caller.participant().map(|id| id.name());
        let row = view.get::<NoticeRow>(self.notice.as_bytes());
        // The service itself does again what a restore lost.
        let any = caller.is_operator() || caller.kinds().contains(&CallerKind::Service);
        let row = row.filter(|row| any || Some(&row.owner) == own.as_ref());
        let mut row = row.ok_or_else(|| policy::unavailable(caller))?;
        rows::check_etag(&self.etag, row.version)?;
        require_published(&row)?;
        row.retired = view.now().0;
        row.updated = row.retired;
        row.version += 1;
        view.put(&row);
        draft("notice.retired", Action::Update, caller, &row)?
            .because_of(&self.cause)
            .emit(view);
        Ok(())
    }
}

fn require_published(row: &NoticeRow) -> Result<(), Refusal> {
    if row.retired == 0 {
        return Ok(());
    }
    Err(Refusal::new(Reason::StateConflict)
        .saying("the notice is retired; publish another one")
        .with(Fact::State, "RETIRED"))
}

fn draft(kind: &str, action: Action, caller: &Caller, row: &NoticeRow) -> Result<Draft, Refusal> {
    Ok(Draft::new(kind, action, RetentionClass::Consent, caller).resource(&row.id()?.name(), row.version))
}
