//! What does she give? Her grants, held against what was asked and what is linked to her.

use std::collections::BTreeSet;

use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{Fact, Key, ParticipantId, Reason, Refusal};
use sammati_store::View;

use super::approve::{ApproveRequest, Grant};
use crate::link::as_linked;
use crate::lookup::ContextKey;
use crate::rows::{self, LinkRow, RequestRow};
use crate::scope::{Scope, wider};
use crate::vault::Private;
use crate::wire::request::HIPS;

/// What a grant is measured by.
struct Asked<'a> {
    scope: &'a Scope,
    care_contexts: &'a [CareContextRef],
    patient: &'a str,
    /// The provider's reference of her, if a study asks.
    reference: &'a str,
    /// Who may give: the HIPs that are named, or else those she has links with.
    sources: &'a [ParticipantId],
    /// Opens what is hers.
    key: &'a Key,
}

/// A grant that was found good; its care contexts in the words of the provider that linked them.
pub(super) struct Given {
    pub(super) hip: ParticipantId,
    /// The address that was asked.
    pub(super) patient: String,
    /// The provider's reference of her, if a study asked.
    pub(super) reference: String,
    pub(super) scope: Scope,
    pub(super) care_contexts: Vec<CareContextRef>,
}

impl ApproveRequest {
    /// The row of a care context of hers at a provider.
    pub(super) fn context(&self, hip: &ParticipantId, context: &CareContextRef) -> ContextKey {
        self.lookup
            .context(self.account.as_bytes(), hip, &context.care_context_reference)
    }

    /// All that she gives, or why it cannot be given.
    pub(super) fn given(
        &self,
        view: &View<'_>,
        request: &RequestRow,
        private: &Private,
        key: &Key,
    ) -> Result<Vec<Given>, Refusal> {
        let scope = request.scope.read()?;
        if scope.erase_time <= view.now() {
            return Err(empty("the time asked for is over already; the asker must ask again"));
        }
        let named = request.hips()?;
        let sources = if named.is_empty() { self.linked(view)? } else { named };
        let grants = if self.grants.is_empty() {
            as_asked(&sources)?
        } else {
            self.grants.clone()
        };
        let asked = Asked {
            scope: &scope,
            care_contexts: &private.care_contexts,
            patient: &private.patient,
            reference: &private.text,
            sources: &sources,
            key,
        };
        let given = grants.into_iter().map(|grant| self.check(view, grant, &asked));
        let given = given.collect::<Result<Vec<_>, _>>()?;
        if given.iter().any(|g| g.scope.erase_time <= view.now()) {
            return Err(empty(
                "an erase_time that has passed grants nothing; choose one to come",
            ));
        }
        Ok(given)
    }

    fn check(&self, view: &View<'_>, grant: Grant, asked: &Asked<'_>) -> Result<Given, Refusal> {
        let Grant { hip, scope } = grant;
        if !asked.sources.contains(&hip) {
            return Err(too_wide(
                "hip",
                "a grant names a provider that was not asked for, or that she has no link with",
            ));
        }
        let (mut scope, named) = scope.unwrap_or_else(|| (asked.scope.clone(), asked.care_contexts.to_vec()));
        scope.care_contexts = named.iter().map(|context| self.context(&hip, context)).collect();
        if let Some(field) = wider(asked.scope, &scope) {
            return Err(too_wide(
                field,
                "a grant allows more than was asked; narrow the field that is named",
            ));
        }
        let care_contexts = named.iter().map(|named| self.as_linked(view, &hip, named, asked));
        let care_contexts = care_contexts.collect::<Result<_, _>>()?;
        Ok(Given {
            hip,
            patient: asked.patient.to_owned(),
            reference: asked.reference.to_owned(),
            scope,
            care_contexts,
        })
    }

    /// A care context as its provider linked it to her.
    fn as_linked(
        &self,
        view: &View<'_>,
        hip: &ParticipantId,
        named: &CareContextRef,
        asked: &Asked<'_>,
    ) -> Result<CareContextRef, Refusal> {
        let at = (self.account, hip, self.context(hip, named));
        // What was asked must mean it too, not only what she gives.
        as_linked(view, &at, asked.key, asked.care_contexts.iter().chain([named]))
    }

    /// The providers she has links with.
    fn linked(&self, view: &View<'_>) -> Result<Vec<ParticipantId>, Refusal> {
        let links = view.group::<LinkRow>("subject", self.account.as_bytes());
        let ids: BTreeSet<&str> = links.iter().map(|row| row.hip.as_str()).collect();
        ids.into_iter().map(rows::participant).collect()
    }
}

/// One grant for each provider, as asked.
fn as_asked(sources: &[ParticipantId]) -> Result<Vec<Grant>, Refusal> {
    if sources.is_empty() {
        return Err(empty(
            "she has no links with any provider, so nothing would be granted; link a provider first",
        ));
    }
    if sources.len() > HIPS {
        return Err(Refusal {
            reason: Reason::BatchLimit,
            ..Refusal::field(
                "grants",
                "she has links with more than 20 providers: name those that may give, at most 20",
            )
        });
    }
    let grant = |hip: &ParticipantId| Grant {
        hip: hip.clone(),
        scope: None,
    };
    Ok(sources.iter().map(grant).collect())
}

fn empty(why: &'static str) -> Refusal {
    Refusal {
        reason: Reason::GrantEmpty,
        ..Refusal::field("grants", why)
    }
}

fn too_wide(field: &'static str, why: &'static str) -> Refusal {
    Refusal::new(Reason::GrantWider).saying(why).with(Fact::Field, field)
}
