//! Asking people for a study, counting those who permit, and naming them to their node.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::invitation::Outcome as Invited;
use sammati_kernel::{Caller, Reason, Refusal, Violations};
use sammati_store::Outcome;

use super::IN_FLIGHT;
use crate::rpc::Core;
use crate::study::authorize::Noted;
use crate::study::cohort::members;
use crate::study::count::{TakeCount, Tally};
use crate::study::invite::{BeginInvite, Invite, patients};
use crate::study::known::not_active;
use crate::wire;
use crate::wire::study::{language, references};

impl Core {
    pub(in crate::rpc) async fn invite(
        &self,
        caller: &Caller,
        message: api::InviteSubjectsRequest,
    ) -> Result<api::InviteSubjectsResponse, Refusal> {
        let key = self.request_key(caller, "study.invite", &message.request_id, &message);
        let mut v = Violations::new();
        let study = wire::name(&mut v, "study", &message.study);
        let batch = references(&mut v, &message.patient_references);
        language(&mut v, &message.language);
        let (key, ()) = Refusal::both(key, batch.and_then(|()| v.check()))?;
        let (known, node) = self.at_node(caller, study.ok_or(Reason::FieldInvalid)?).await?;
        // A repeat is told what was done, whatever the study is by now.
        if self.store.known(&key).await?.is_none() {
            known.active(self.now())?;
        }
        let call = match self.store.run(BeginInvite { node: node.clone() }, Some(key)).await? {
            Outcome::Fresh(call) | Outcome::Known(call) => call,
        };
        let hashes = message.patient_references.iter();
        let hashes: Vec<_> = hashes.map(|text| self.lookup.patient(&node, text)).collect();
        let found = self.store.read(move |r| patients(r, &hashes)).await?;
        let mut notice = known.row.notice.clone();
        if let Some(bound) = self.notices.bind(
            &notice.notice,
            notice.version,
            &message.language,
            sammati_kernel::PurposeCode::Dsrch,
        ) {
            notice.language = bound.language;
        }
        let asks = message.patient_references.iter().zip(found).map(|(reference, found)| {
            let (known, node, call, notice) = (Arc::clone(&known), node.clone(), call.clone(), notice.clone());
            async move {
                let Some(account) = found else {
                    return Ok(Invited::NotLinked);
                };
                let invite = Invite {
                    caller: caller.clone(),
                    node,
                    pseudonym: known.pseudonym(account)?,
                    known,
                    account,
                    reference: reference.clone(),
                    call,
                    notice,
                    directory: Arc::clone(&self.directory),
                    lookup: self.lookup.clone(),
                    vault: self.vault.clone(),
                };
                self.store.apply(invite).await
            }
        });
        let asks: Vec<_> = asks.collect();
        let outcomes: Vec<Invited> = futures::stream::iter(asks).buffered(IN_FLIGHT).try_collect().await?;
        let accepted = outcomes.iter().filter(|outcome| **outcome == Invited::Accepted).count();
        let told = message.patient_references.into_iter().zip(outcomes);
        Ok(api::InviteSubjectsResponse {
            invitations: told
                .map(|(patient_reference, outcome)| api::Invitation {
                    patient_reference,
                    outcome: outcome.into(),
                })
                .collect(),
            accepted_count: i32::try_from(accepted).unwrap_or(i32::MAX),
        })
    }

    pub(in crate::rpc) async fn count_cohort(
        &self,
        caller: &Caller,
        message: &api::CountCohortRequest,
    ) -> Result<api::CountCohortResponse, Refusal> {
        let study = crate::rpc::study::name("study", &message.study)?;
        let (known, looks) = self.looking(caller, study, None).await?;
        known.active(self.now())?;
        let take = TakeCount {
            caller: caller.clone(),
            study: known.row.clone(),
            slot: study.slot(),
            key: self.lookup.counter(study, &caller.id()),
        };
        let left_count = self.store.once(take).await?;
        let mine: Vec<String> = match looks.node() {
            Some(node) => vec![node.as_str().to_owned()],
            None => known.row.nodes.clone(),
        };
        let kinds = known.scope.hi_types.iter().copied();
        let mut tally = Tally::of(&mine, kinds);
        let all = members(&self.store, &known, looks.node()).await?;
        for (one, row) in all.iter().zip(self.look_at_all(&known, &all).await?) {
            tally.add(one.hip.as_str(), &row.hi_types);
        }
        Ok(api::CountCohortResponse {
            counts: tally.rounded(known.row.min_cell),
            left_count,
        })
    }

    pub(in crate::rpc) async fn map_pseudonyms(
        &self,
        caller: &Caller,
        message: &api::MapPseudonymsRequest,
    ) -> Result<api::MapPseudonymsResponse, Refusal> {
        let mut v = Violations::new();
        let study = wire::name(&mut v, "study", &message.study);
        references(&mut v, &message.patient_references)?;
        v.check()?;
        let (known, node) = self.at_node(caller, study.ok_or(Reason::FieldInvalid)?).await?;
        if known.key.is_none() {
            return Err(not_active());
        }
        let hashes = message.patient_references.iter();
        let hashes: Vec<_> = hashes.map(|text| self.lookup.patient(&node, text)).collect();
        let found = self.store.read(move |r| patients(r, &hashes)).await?;
        let all = members(&self.store, &known, Some(&node)).await?;
        let all: HashMap<_, _> = all.into_iter().map(|one| (one.account, one.pseudonym)).collect();
        let named = message.patient_references.iter().zip(found);
        let pseudonyms: Vec<_> = named
            .filter_map(|(reference, account)| {
                Some(api::MappedPseudonym {
                    patient_reference: reference.clone(),
                    pseudonym: all.get(&account?)?.clone(),
                })
            })
            .collect();
        let noted = Noted {
            event: "study.pseudonyms_mapped",
            members: i64::try_from(pseudonyms.len()).unwrap_or(i64::MAX),
            ..Noted::default()
        };
        self.note_study(caller, &known, noted).await?;
        Ok(api::MapPseudonymsResponse { pseudonyms })
    }
}
