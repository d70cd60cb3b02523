//! `NoticeService`: what a person is told.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::notice_service_server::NoticeService;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, NoticeId, PurposeCode, Refusal, Violations};
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::{Core, Rpc};
use crate::notice::publish::{PublishNotice, RetireNotice};
use crate::notice::{is_language, is_name, unknown};
use crate::rows::{LISTED, NoticeRow, NoticeTextsRow, broken};
use crate::wire::notice::{parse, render};
use crate::wire::{optional_participant, states};

#[tonic::async_trait]
impl NoticeService for Rpc {
    async fn create_notice(&self, request: Request<api::CreateNoticeRequest>) -> Result<Response<api::Notice>, Status> {
        let caller = authz::caller(&request)?.clone();
        let published = self.0.publish(&caller, request.into_inner()).await;
        published.map(Response::new).map_err(error::status)
    }

    async fn get_notice(&self, request: Request<api::GetNoticeRequest>) -> Result<Response<api::Notice>, Status> {
        let read = self.0.notice(&request.into_inner()).await;
        read.map(Response::new).map_err(error::status)
    }

    async fn list_notices(
        &self,
        request: Request<api::ListNoticesRequest>,
    ) -> Result<Response<api::ListNoticesResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_notices(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn retire_notice(&self, request: Request<api::RetireNoticeRequest>) -> Result<Response<api::Notice>, Status> {
        let caller = authz::caller(&request)?.clone();
        let retired = self.0.retire(&caller, request.into_inner()).await;
        retired.map(Response::new).map_err(error::status)
    }
}

impl Core {
    async fn publish(&self, caller: &Caller, message: api::CreateNoticeRequest) -> Result<api::Notice, Refusal> {
        let key = self.request_key(caller, "notice.publish", &message.request_id, &message);
        let (key, content) = Refusal::both(key, parse(&message))?;
        let notice = if message.name.is_empty() {
            None
        } else {
            // The built-in ones are nobody's to change.
            let id = NoticeId::parse_name(&message.name);
            Some(id.ok_or_else(|| crate::policy::unavailable(caller))?)
        };
        let command = PublishNotice {
            caller: caller.clone(),
            notice,
            content,
        };
        let (id, number) = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(row) => (row.id()?, i32::try_from(row.versions.len()).unwrap_or(0)),
            Outcome::Known(bytes) => {
                let (id, number) = bytes.split_at_checked(16).ok_or_else(|| broken("a notice's outcome"))?;
                let number = number.try_into().map_err(|_| broken("a notice's outcome"))?;
                (crate::rows::id(id)?, i32::from_be_bytes(number))
            }
        };
        self.written(id, number, "").await?.ok_or_else(|| broken("a notice"))
    }

    async fn notice(&self, message: &api::GetNoticeRequest) -> Result<api::Notice, Refusal> {
        let mut v = Violations::new();
        if !is_name(&message.name) {
            v.add("name", "must be notices/{id}, as notices/builtin-caremgt");
        }
        if message.version < 0 {
            v.add("version", "1 and up, or 0 for the newest");
        }
        if !message.language.is_empty() && !is_language(&message.language) {
            v.add("language", "BCP 47: en or a language of the Eighth Schedule, as hi");
        }
        v.check()?;
        let Some(id) = NoticeId::parse_name(&message.name) else {
            return self.notices.get(&message.name, message.version, &message.language);
        };
        let found = self.written(id, message.version, &message.language).await?;
        found.ok_or_else(|| unknown(&message.name))
    }

    /// A published version with its words.
    async fn written(&self, id: NoticeId, version: i32, language: &str) -> Result<Option<api::Notice>, Refusal> {
        let read = self.store.read(move |r| {
            let Some(row) = r.get::<NoticeRow>(id.slot(), id.as_bytes())? else {
                return Ok(None);
            };
            let row = row.record;
            let Some((number, _)) = row.numbered(version) else {
                return Ok(None);
            };
            let texts = r.get::<NoticeTextsRow>(id.slot(), &NoticeTextsRow::key_of(id.as_bytes(), number))?;
            Ok(Some((row, number, texts)))
        });
        let Some((row, number, texts)) = read.await? else {
            return Ok(None);
        };
        let texts = texts.ok_or_else(|| broken("the words of a notice"))?;
        Ok(render(&row, number, texts.record.texts, language))
    }

    /// A notice as somebody was shown it; none if it was published and a restore has lost it.
    pub(super) async fn notice_shown(
        &self,
        name: &str,
        version: i32,
        language: &str,
    ) -> Result<Option<api::Notice>, Refusal> {
        match NoticeId::parse_name(name) {
            Some(id) => self.written(id, version, language).await,
            None => self.notices.get(name, version, language).map(Some),
        }
    }

    /// The notice that a request names, if it is one that was published.
    pub(super) async fn published(&self, name: &str) -> Result<Option<NoticeRow>, Refusal> {
        let Some(id) = NoticeId::parse_name(name) else {
            return Ok(None);
        };
        let read = self.store.read(move |r| r.get::<NoticeRow>(id.slot(), id.as_bytes()));
        Ok(read.await?.map(|stored| stored.record))
    }

    /// Whether there are these words in this language to show.
    pub(super) async fn is_written(&self, shown: &types::NoticeRef) -> Result<bool, Refusal> {
        if self.notices.is_written(shown) {
            return Ok(true);
        }
        let row = self.published(&shown.notice).await?;
        let said = row.as_ref().and_then(|row| row.numbered(shown.version));
        Ok(said.is_some_and(|(_, said)| said.languages.contains(&shown.language)))
    }

    async fn retire(&self, caller: &Caller, message: api::RetireNoticeRequest) -> Result<api::Notice, Refusal> {
        let key = self.request_key(caller, "notice.retire", &message.request_id, &message);
        let mut v = Violations::new();
        if !is_name(&message.name) {
            v.add("name", "must be notices/{id}");
        }
        let (key, ()) = Refusal::both(key, v.check())?;
        let notice = NoticeId::parse_name(&message.name).ok_or_else(|| crate::policy::unavailable(caller))?;
        let command = RetireNotice {
            caller: caller.clone(),
            notice,
            etag: message.etag,
            cause: String::new(),
        };
        self.store.run(command, Some(key)).await?;
        self.written(notice, 0, "").await?.ok_or_else(|| broken("a notice"))
    }

    async fn list_notices(
        &self,
        caller: &Caller,
        mut message: api::ListNoticesRequest,
    ) -> Result<api::ListNoticesResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListNotices", &message, size, &token);
        let asked = list::asked(page, |v| {
            let owner = optional_participant(v, "owner", &message.owner);
            let purpose = PurposeCode::ALL.into_iter().find(|p| p.number() == message.purpose);
            if message.purpose != 0 && purpose.is_none() {
                v.add("purpose", "a known purpose, or unset for all");
            }
            states::<api::notice::State>(v, "states", &message.states);
            Ok((owner, purpose))
        });
        let (page, (owner, purpose)) = asked.map_err(error::status)?;
        let source = match &owner {
            Some(owner) => Whose {
                column: "owner",
                value: owner.name().into(),
            },
            None => Whose {
                column: "listed",
                value: LISTED.to_vec(),
            },
        };
        let (owned, published) = (
            owner.is_some(),
            message.states.is_empty() || message.states.contains(&1),
        );
        let states = message.states;
        let holds = move |row: &NoticeRow| {
            let state = if row.retired == 0 { 1 } else { 2 };
            let covers = |purpose: PurposeCode| {
                let newest = row.numbered(0);
                newest.is_some_and(|(_, said)| said.purposes.contains(&purpose.number()))
            };
            (states.is_empty() || states.contains(&state)) && purpose.is_none_or(covers)
        };
        // After the last that was published come the built-in ones: a token of one byte says at which to go on.
        let at = page.after.as_deref().and_then(|after| match after {
            [n] => Some(usize::from(*n)),
            _ => None,
        });
        let (rows, next) = match at {
            Some(_) => (Vec::new(), None),
            None => list::page::<NoticeRow>(&self.store, vec![source], &page, holds)
                .await
                .map_err(error::status)?,
        };
        let mut notices: Vec<_> = rows.iter().filter_map(|row| render(row, 0, Vec::new(), "")).collect();
        let mut token = next;
        if token.is_none() && !owned && published {
            let from = at.unwrap_or(0);
            let room = page.size.saturating_sub(notices.len());
            let all = self.notices.all(purpose);
            notices.extend(all.iter().skip(from).take(room).cloned());
            let to = from + room;
            token = (to < all.len()).then(|| vec![u8::try_from(to).unwrap_or(u8::MAX)]);
        }
        let next_page_token = token.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        Ok(api::ListNoticesResponse {
            notices,
            next_page_token,
        })
    }
}
