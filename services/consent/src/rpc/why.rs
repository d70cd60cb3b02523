//! Why would it be permitted or denied, and who can see what now?

use std::collections::BTreeSet;
use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::explain_access_request::Basis;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Micros, Refusal, Slot, Violations};
use sammati_server::event::{Draft, timestamp};
use sammati_server::page::Page;
use sammati_store::{Command, Keys, View};
use tonic::Status;

use super::check::{Found, Seen};
use super::{Core, list};
use crate::consent::State;
use crate::decision::explain::explain;
use crate::decision::{Asker, Granted};
use crate::lookup::ContextKey;
use crate::policy;
use crate::standing::Block;
use crate::subject::Held;
use crate::wire::decision::Asked;
use crate::wire::explain::{self as wire, Supposed};

/// An operator looked at what is a person's.
struct Looked {
    caller: Caller,
    slot: Slot,
    subject: Option<AccountId>,
    event: &'static str,
    legal_basis: String,
}

impl Command for Looked {
    type Answer = ();

    const NAME: &'static str = "access.looked";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut draft = Draft::new(self.event, Action::Read, RetentionClass::Access, &self.caller);
        let payload = draft.payload();
        payload.subject = self.subject.map(|account| account.name()).unwrap_or_default();
        payload.legal_basis.clone_from(&self.legal_basis);
        draft.emit(view);
        Ok(())
    }
}

impl Core {
    pub(super) async fn explain(
        &self,
        caller: &Caller,
        message: &api::ExplainAccessRequest,
    ) -> Result<api::ExplainAccessResponse, Refusal> {
        let (mut asked, legal_basis) = wire::parse(message, caller)?;
        self.directory.fresh()?;
        self.confirm(None).await?;
        let mut found = self.look(caller, &mut asked, &mut Seen::default()).await?;
        let mut now = self.now();
        match &message.basis {
            Some(Basis::AsOfTime(at)) => now = wire::time(at, now)?,
            Some(Basis::Hypothetical(grant)) => {
                let held = self.supposed(caller, &asked, wire::supposed(grant)?, &found, now)?;
                found.candidates = vec![Arc::new(held)];
            }
            None => {}
        }
        if caller.is_operator() {
            let looked = Looked {
                caller: caller.clone(),
                slot: found.slot,
                subject: found.subject,
                event: "access.explained",
                legal_basis,
            };
            self.store.once(looked).await?;
        }
        let facts = self.remembered(&found);
        let candidates: Vec<&Granted> = found.candidates.iter().map(|held| &held.granted).collect();
        let (verdict, parts) = explain(&asked.question, &facts, &candidates, now);
        let mut response = wire::render(&verdict, &parts, &candidates);
        if matches!(message.basis, Some(Basis::Hypothetical(_))) {
            response.candidates.iter_mut().for_each(|c| c.consent.clear());
        }
        Ok(api::ExplainAccessResponse {
            as_of_time: Some(timestamp(now)),
            identity_as_of_time: Some(timestamp(self.directory.as_of())),
            revision: found.revision,
            ..response
        })
    }

    /// A consent as it would be, had she just given it.
    fn supposed(
        &self,
        caller: &Caller,
        asked: &Asked,
        supposed: Supposed,
        found: &Found,
        now: Micros,
    ) -> Result<Held, Refusal> {
        let subject = match &asked.question.asker {
            Asker::Person(account) => *account,
            _ => return Err(policy::unavailable(caller)),
        };
        let Supposed {
            hip,
            hiu,
            mut scope,
            references,
        } = supposed;
        let keys = references
            .iter()
            .map(|reference| self.lookup.context(subject.as_bytes(), &hip, reference));
        scope.care_contexts = keys.collect();
        let granted = Granted {
            id: sammati_kernel::ConsentId::new(now, found.slot, [0; 8]),
            subject,
            hip,
            hiu,
            version: 1,
            state: State::Granted,
            granted: now,
            expire: scope.erase_time,
            resume: None,
            successor: None,
            acknowledged: true,
            uses: Default::default(),
            user: asked.question.user.clone().unwrap_or_default(),
            scope,
        };
        Ok(Held {
            granted,
            care_contexts: Vec::new(),
        })
    }

    pub(super) async fn grantees(
        &self,
        caller: &Caller,
        mut message: api::ListGranteesRequest,
    ) -> Result<api::ListGranteesResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListGrantees", &message, size, &token);
        let asked = list::asked(page, |v: &mut Violations| {
            crate::wire::legal_basis(v, caller, &message.legal_basis);
            list::subject(v, caller, &message.subject)
        });
        let (page, subject) = asked.map_err(sammati_server::error::status)?;
        let account = subject.ok_or_else(|| sammati_server::error::status(policy::unavailable(caller)))?;
        let listed = self.who(caller, account, &page, message.legal_basis).await;
        let (mut response, last) = listed.map_err(sammati_server::error::status)?;
        response.next_page_token = last.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        Ok(response)
    }

    async fn who(
        &self,
        caller: &Caller,
        account: AccountId,
        page: &Page,
        legal_basis: String,
    ) -> Result<(api::ListGranteesResponse, Option<Vec<u8>>), Refusal> {
        self.store.confirm().await?;
        let revision = self.revision(account.slot());
        let subject = self.subjects.get(account).await?;
        if caller.is_operator() {
            let looked = Looked {
                caller: caller.clone(),
                slot: account.slot(),
                subject: Some(account),
                event: "access.grantees_listed",
                legal_basis,
            };
            self.store.once(looked).await?;
        }
        let now = self.now();
        let mut live: Vec<&Granted> = subject.consents.iter().map(|held| &held.granted).collect();
        live.retain(|granted| permits_yet(granted, &subject.blocks, now));
        live.sort_by_key(|granted| std::cmp::Reverse(granted.id));
        let grantee_count = i32::try_from(live.len()).unwrap_or(i32::MAX);
        let after = |granted: &&Granted| {
            let after = page.after.as_deref();
            after.is_none_or(|after| granted.id.as_bytes().as_slice() < after)
        };
        live.retain(after);
        let last = live.get(page.size - 1).filter(|_| live.len() > page.size);
        let last = last.map(|granted| granted.id.to_vec());
        live.truncate(page.size);
        let response = api::ListGranteesResponse {
            grantees: live.into_iter().map(|granted| wire::grantee(granted, now)).collect(),
            next_page_token: String::new(),
            grantee_count,
            as_of_time: Some(timestamp(now)),
            revision,
        };
        Ok((response, last))
    }
}

/// Whether it permits something now, or will when it is resumed or its next window begins: its time is not over, uses of it
/// are left, and she has not shut all of it off.
fn permits_yet(granted: &Granted, blocks: &[Block], now: Micros) -> bool {
    let left = granted.left(now);
    let spent = left.total == Some(0) || (left.window_left == Some(0) && left.next_window.is_none());
    let whole = |block: &Block| block.care_contexts.is_empty() && block.forbids(granted, &BTreeSet::new());
    let hidden = |key: &ContextKey| {
        blocks
            .iter()
            .any(|block| block.forbids(granted, &BTreeSet::from([*key])))
    };
    let named = &granted.scope.care_contexts;
    let shut = blocks.iter().any(whole) || (!named.is_empty() && named.iter().all(hidden));
    now < granted.expire && !spent && !shut
}
