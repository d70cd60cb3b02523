//! A run over a cohort: what is kept of it is told again, the rest decided and kept, 500 members a commit.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use sammati_api::consent::v1 as api;
use sammati_kernel::{Caller, Micros, ParticipantId, Reason, Refusal, Slot, StudyId, Violations};
use sammati_server::error;
use tokio::sync::mpsc::channel;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{BUFFER, IN_FLIGHT, To};
use crate::decision::authorize::{Candidates, Deciding};
use crate::rows::{CohortChunkRow, CohortUseRow, MemberRow};
use crate::rpc::{Core, Rpc};
use crate::study::RunId;
use crate::study::authorize::{AuthorizeMember, KeepChunk, chunk};
use crate::study::cohort::{CHUNK, Member, members, question};
use crate::study::known::Known;
use crate::study::manifest::{self, Of, TYP, Told};
use crate::wire;
use crate::wire::study::{member, run};

impl Rpc {
    pub(in crate::rpc) async fn authorize_cohort_of(
        &self,
        caller: &Caller,
        message: &api::AuthorizeCohortRequest,
    ) -> Result<ReceiverStream<Result<api::AuthorizeCohortResponse, Status>>, Refusal> {
        let mut v = Violations::new();
        let study = wire::name(&mut v, "study", &message.study);
        let run = run(&mut v, &message.run);
        v.check()?;
        let study = study.ok_or(Reason::FieldInvalid)?;
        let core = Arc::clone(&self.0);
        // Whether the study is active matters to what is not decided yet: what is told again was.
        let (known, node) = core.at_node(caller, study).await?;
        let all = members(&core.store, &known, Some(&node)).await?;
        let running = Running {
            core,
            caller: caller.clone(),
            study,
            node,
            run: run.ok_or(Reason::FieldInvalid)?,
            all,
        };
        let (to, stream) = channel(BUFFER);
        tokio::spawn(async move {
            if let Err(refusal) = running.tell(&to).await {
                let _ = to.send(Err(error::status(refusal))).await;
            }
        });
        Ok(ReceiverStream::new(stream))
    }
}

/// A run at a node.
struct Running {
    core: Arc<Core>,
    caller: Caller,
    study: StudyId,
    node: ParticipantId,
    run: RunId,
    /// Who was a member when the call came.
    all: Vec<Member>,
}

/// How far a run is told.
#[derive(Default)]
struct SoFar {
    told: Told,
    /// The pseudonyms that were told.
    named: HashSet<String>,
    /// Whether there is a manifest: nobody new is decided any more.
    is_over: bool,
}

impl SoFar {
    fn add(&mut self, chunk: &CohortChunkRow) {
        self.told.add(&chunk.members);
        self.named
            .extend(chunk.members.iter().map(|member| member.pseudonym.clone()));
        self.is_over |= !chunk.manifest.is_empty();
    }
}

impl Running {
    /// Tells what is kept of the run, then decides and keeps the rest.
    async fn tell(mut self, to: &To<api::AuthorizeCohortResponse>) -> Result<(), Refusal> {
        let hash = self.core.lookup.run(self.study, &self.node, self.run);
        let (mut far, mut ahead) = (SoFar::default(), None);
        for n in 0.. {
            let chunk = match ahead.take() {
                Some(chunk) => Some(chunk),
                None => self.part(&hash, n, &far).await?,
            };
            let Some(chunk) = chunk else { return Ok(()) };
            far.add(&chunk);
            if far.is_over {
                ahead = self.part(&hash, n + 1, &far).await?;
            }
            let is_last = far.is_over && ahead.is_none();
            let part = api::AuthorizeCohortResponse {
                members: self.shown(&chunk.members).await?,
                manifest: is_last.then(|| self.manifest(&chunk, far.told.clone())).transpose()?,
            };
            if to.send(Ok(part)).await.is_err() || is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The `n`th part: as it is kept, or made now; `None` when everybody is told.
    ///
    /// Another call of the same run may know of other members, since it came earlier or later: so whoever is not told yet is
    /// told next, wherever her pseudonym lies. Once the run is over that are those of whom another call has taken a use, and
    /// lost to this one when it was to be kept.
    async fn part(&self, hash: &[u8; 32], n: u32, far: &SoFar) -> Result<Option<CohortChunkRow>, Refusal> {
        let key = CohortChunkRow::key_of(hash, n);
        if let Some(kept) = self.kept(&key).await? {
            return Ok(Some(kept));
        }
        let untold = self.all.iter().filter(|one| !far.named.contains(&one.pseudonym));
        let mut left: Vec<&Member> = untold.collect();
        if far.is_over {
            left = self.taken(hash, left).await?;
            if left.is_empty() {
                return Ok(None);
            }
        }
        let (known, _) = self.core.at_node(&self.caller, self.study).await?;
        match known.active(self.core.now()) {
            Err(_) if far.is_over => return Ok(None),
            active => active?,
        };
        self.next(&known, hash, key, &left, far).await.map(Some)
    }

    /// Those of whom the run has taken a use.
    async fn taken<'a>(&self, hash: &[u8; 32], all: Vec<&'a Member>) -> Result<Vec<&'a Member>, Refusal> {
        let mut taken = Vec::new();
        for some in all.chunks(CHUNK) {
            let keys = some
                .iter()
                .map(|one| (one.account.slot(), self.key(hash, one).to_vec()));
            let keys: Vec<_> = keys.collect();
            let rows = self.core.store.read(move |r| r.many::<CohortUseRow>(&keys)).await?;
            let used = rows.into_iter().filter(|row| row.record.decided.r#use != 0);
            let used: HashSet<Vec<u8>> = used.map(|row| row.record.key).collect();
            taken.extend(some.iter().filter(|one| used.contains(self.key(hash, one).as_slice())));
        }
        Ok(taken)
    }

    fn key(&self, hash: &[u8; 32], one: &Member) -> [u8; 32] {
        self.core.lookup.in_run(hash, one.account)
    }

    async fn kept(&self, key: &[u8]) -> Result<Option<CohortChunkRow>, Refusal> {
        let (slot, key) = (self.slot(), key.to_vec());
        let read = self.core.store.read(move |r| r.get::<CohortChunkRow>(slot, &key));
        Ok(read.await?.map(|stored| stored.record))
    }

    fn slot(&self) -> Slot {
        Slot::of_participant(self.node.as_str())
    }

    /// Decides those who are `left`, as many as are committed at once, and keeps what came of it.
    async fn next(
        &self,
        known: &Arc<Known>,
        hash: &[u8; 32],
        key: Vec<u8>,
        left: &[&Member],
        far: &SoFar,
    ) -> Result<CohortChunkRow, Refusal> {
        let revision = self.core.places(self.study);
        let (now, is_last) = (&left[..left.len().min(CHUNK)], left.len() <= CHUNK || far.is_over);
        let decided = now.iter().map(|one| self.authorize(known, one, hash));
        let decided: Vec<_> = decided.collect();
        let members: Vec<MemberRow> = futures::stream::iter(decided).buffered(IN_FLIGHT).try_collect().await?;
        let at = self.core.now();
        let mut chunk = chunk(key, members, revision, at);
        if is_last {
            let mut told = far.told.clone();
            told.add(&chunk.members);
            let active = self.core.keys.active();
            let claims = self.claims(&chunk.revision, at, &told);
            chunk.manifest = active.signing_input(TYP, claims.as_bytes());
            active.kid().clone_into(&mut chunk.kid);
        }
        let keep = KeepChunk {
            caller: self.caller.clone(),
            node: self.node.clone(),
            study: known.row.clone(),
            run: self.run,
            chunk,
        };
        self.core.store.apply(keep).await
    }

    async fn authorize(&self, known: &Arc<Known>, one: &Member, hash: &[u8; 32]) -> Result<MemberRow, Refusal> {
        let core = &self.core;
        let sponsor = crate::rows::participant(&known.row.sponsor)?;
        let pair = core.lookup.parties(one.account.as_bytes(), &self.node, &sponsor);
        let deciding = Deciding {
            slot: one.account.slot(),
            subject: Some(one.account),
            candidates: Candidates::InStudy(pair, self.study),
            question: question(known, &self.node),
            caller: self.caller.clone(),
            directory: Arc::clone(&core.directory),
            revision: core.revision(one.account.slot()),
            studies: core.studies.active_until(vec![self.study]).await?,
        };
        let command = AuthorizeMember {
            deciding,
            key: self.key(hash, one),
        };
        let mut row = core.store.apply(command).await?;
        row.pseudonym.clone_from(&one.pseudonym);
        Ok(row)
    }

    async fn shown(&mut self, rows: &[MemberRow]) -> Result<Vec<api::CohortMember>, Refusal> {
        let named: HashSet<&str> = rows.iter().map(|row| row.pseudonym.as_str()).collect();
        let found = self
            .all
            .iter()
            .filter(|one| named.contains(one.pseudonym.as_str()))
            .count();
        if found < named.len() {
            // Another call came later, and knows of more.
            let (known, _) = self.core.at_node(&self.caller, self.study).await?;
            self.all = members(&self.core.store, &known, Some(&self.node)).await?;
        }
        let members: Vec<&Member> = self
            .all
            .iter()
            .filter(|one| named.contains(one.pseudonym.as_str()))
            .collect();
        let references = self.core.references_of(&members).await?;
        Ok(rows
            .iter()
            .map(|row| member(row, references.get(&row.pseudonym).cloned()))
            .collect())
    }

    fn of<'a>(&'a self, names: &'a [String; 4], revision: &'a str, at: Micros) -> Of<'a> {
        let [to, study, node, run] = names;
        Of {
            manager: &self.core.manager,
            to,
            study,
            node,
            run,
            revision,
            at,
        }
    }

    fn names(&self) -> [String; 4] {
        let node = self.node.name();
        [self.caller.id(), self.study.name(), node, self.run.to_string()]
    }

    fn claims(&self, revision: &str, at: Micros, told: &Told) -> String {
        let names = self.names();
        manifest::claims(&self.of(&names, revision, at), told)
    }

    fn manifest(&self, last: &CohortChunkRow, told: Told) -> Result<api::CohortManifest, Refusal> {
        let jws = self.core.keys.sign(&last.kid, &last.manifest);
        let jws = jws.ok_or_else(|| crate::rows::broken("the key of a manifest"))?;
        let names = self.names();
        let of = self.of(&names, &last.revision, Micros(last.created));
        Ok(manifest::render(&of, told, jws))
    }
}
