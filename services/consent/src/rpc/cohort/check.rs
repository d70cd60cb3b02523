//! Looking at a cohort: what holds of each now. Nothing is counted.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use sammati_api::consent::v1 as api;
use sammati_kernel::{Caller, Reason, Refusal, Seed, Violations};
use sammati_server::error;
use tokio::sync::mpsc::channel;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{BUFFER, IN_FLIGHT, Looks, To};
use crate::decision::{Granted, decide};
use crate::rows::MemberRow;
use crate::rpc::check::Found;
use crate::rpc::{Core, Rpc};
use crate::study::authorize::Noted;
use crate::study::cohort::{self, CHUNK, Member, drop_small_nodes, members, question};
use crate::study::known::Known;
use crate::study::manifest::{self, Of, TYP, Told};
use crate::study::{Run, RunId};
use crate::wire;
use crate::wire::study::member;

impl Rpc {
    pub(in crate::rpc) async fn check_cohort_of(
        &self,
        caller: &Caller,
        message: &api::CheckCohortRequest,
    ) -> Result<ReceiverStream<Result<api::CheckCohortResponse, Status>>, Refusal> {
        let mut v = Violations::new();
        let study = wire::name(&mut v, "study", &message.study);
        let node = wire::optional_participant(&mut v, "node", &message.node);
        v.check()?;
        let (core, study) = (Arc::clone(&self.0), study.ok_or(Reason::FieldInvalid)?);
        let (known, looks) = core.looking(caller, study, node).await?;
        known.active(core.now())?;
        let revision = core.places(study);
        let all = members(&core.store, &known, looks.node()).await?;
        let rows = core.look_at_all(&known, &all).await?;
        let mut seen: Vec<_> = all.into_iter().zip(rows).collect();
        if matches!(looks, Looks::Sponsor(_)) {
            // Whoever permits nothing, for whatever reason, is not in the list, so that it does not tell the reason: that one
            // denies it by a policy is hers to tell.
            seen.retain(|(_, row)| row.permits());
            drop_small_nodes(&mut seen, known.row.min_cell);
            if seen.is_empty() {
                return Err(Refusal::new(Reason::CellTooSmall).saying(
                    "at no node do as many people permit as the study's min_cell; a sponsor is told nothing of so few",
                ));
            }
        }
        let (all, rows): (Vec<_>, Vec<_>) = seen.into_iter().unzip();
        let mut told = Told::default();
        told.add(&rows);
        let run = core.new_run(caller)?;
        let noted = Noted {
            event: "access.cohort_checked",
            run: run.name(),
            members: told.members(),
            sha256: told.sha256(),
        };
        core.note_study(caller, &known, noted).await?;
        let manifest = core.manifest(caller, &known, &looks.node_name(), &run.to_string(), &revision, told);
        let (to, stream) = channel(BUFFER);
        // It ends with the client, and the client's stream with the connection: nothing outlives a drain.
        tokio::spawn(async move {
            let sent = core.send_checked(&all, &rows, &looks, manifest, &to).await;
            if let Err(refusal) = sent {
                let _ = to.send(Err(error::status(refusal))).await;
            }
        });
        Ok(ReceiverStream::new(stream))
    }
}

impl Core {
    /// What holds of one member now, from memory, which is confirmed.
    async fn look_at(&self, known: &Known, one: &Member) -> Result<MemberRow, Refusal> {
        let hers = self.subjects.get(one.account).await?;
        let id = known.id;
        let mut candidates = hers.consents.clone();
        candidates.retain(|held| held.granted.study == Some(id) && held.granted.hip == one.hip);
        if candidates.is_empty() {
            // What has ended can only tell why not.
            candidates.extend(self.subjects.consent(&hers, one.consent.id()?).await?);
        }
        let mut found = Found {
            slot: one.account.slot(),
            subject: Some(one.account),
            hers: Some(hers),
            candidates,
            revision: String::new(),
            studies: Default::default(),
        };
        self.studied(&mut found).await?;
        let (asked, facts) = (question(known, &one.hip), self.remembered(&found));
        let candidates: Vec<&Granted> = found.candidates.iter().map(|held| &held.granted).collect();
        let verdict = decide(&asked, &facts, &candidates, self.now());
        let by = verdict.by.map(|place| candidates[place]);
        Ok(cohort::row(&one.pseudonym, &verdict, by, &asked, &facts))
    }

    /// The same of many, in their order.
    pub(super) async fn look_at_all(&self, known: &Known, all: &[Member]) -> Result<Vec<MemberRow>, Refusal> {
        let looks: Vec<_> = all.iter().map(|one| self.look_at(known, one)).collect();
        futures::stream::iter(looks).buffered(IN_FLIGHT).try_collect().await
    }

    fn new_run(&self, caller: &Caller) -> Result<RunId, Refusal> {
        let seed = Seed::draw().map_err(|_| Refusal::new(Reason::Internal))?;
        Ok(seed.id::<Run>("cohort", self.now(), self.callers_slot(caller)))
    }

    /// What a run came to, signed.
    fn manifest(
        &self,
        caller: &Caller,
        known: &Known,
        node: &str,
        run: &str,
        revision: &str,
        told: Told,
    ) -> api::CohortManifest {
        let (to, study) = (caller.id(), known.id.name());
        let of = Of {
            manager: &self.manager,
            to: &to,
            study: &study,
            node,
            run,
            revision,
            at: self.now(),
        };
        let key = self.keys.active();
        let jws = key.sign_input(&key.signing_input(TYP, manifest::claims(&of, &told).as_bytes()));
        manifest::render(&of, told, jws)
    }

    async fn send_checked(
        &self,
        all: &[Member],
        rows: &[MemberRow],
        looks: &Looks,
        manifest: api::CohortManifest,
        to: &To<api::CheckCohortResponse>,
    ) -> Result<(), Refusal> {
        for (members, rows) in all.chunks(CHUNK).zip(rows.chunks(CHUNK)) {
            let references = match looks {
                Looks::Node(_) => self.references_of(&members.iter().collect::<Vec<_>>()).await?,
                Looks::Sponsor(_) => HashMap::new(),
            };
            let shown = rows
                .iter()
                .map(|row| member(row, references.get(&row.pseudonym).cloned()));
            let part = api::CheckCohortResponse {
                members: shown.collect(),
                manifest: None,
            };
            if to.send(Ok(part)).await.is_err() {
                return Ok(());
            }
        }
        let last = api::CheckCohortResponse {
            members: Vec::new(),
            manifest: Some(manifest),
        };
        let _ = to.send(Ok(last)).await;
        Ok(())
    }
}
