//! What nodes and sponsors do in a study: ask people, check and authorize them all, count them, name them.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::invitation::Outcome as Invited;
use sammati_kernel::{Caller, Micros, ParticipantId, Reason, Refusal, Seed, Slot, StudyId, Violations};
use sammati_server::error;
use sammati_store::Outcome;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::check::Found;
use super::{Core, Rpc};
use crate::decision::authorize::{Candidates, Deciding};
use crate::decision::{Granted, decide};
use crate::notification::token::{Place, Places, ResumeTokens};
use crate::policy;
use crate::rows::{CohortChunkRow, MemberRow};
use crate::study::authorize::{AuthorizeMember, KeepChunk, Note, Noted, chunk};
use crate::study::cohort::{self, CHUNK, Member, members, question};
use crate::study::count::{TakeCount, Tally};
use crate::study::invite::{BeginInvite, Invite, patients};
use crate::study::known::{Known, not_active};
use crate::study::manifest::{self, Of, TYP, Told};
use crate::study::{Run, RunId};
use crate::wire;
use crate::wire::study::{language, member, references, run};

/// Commands in flight of one call: they share the lanes with whoever calls.
const IN_FLIGHT: usize = 64;

/// Parts that wait for a slow client; then the stream waits.
const BUFFER: usize = 1;

/// Where a part of a stream goes.
type To<M> = Sender<Result<M, Status>>;

/// As whom somebody looks at a cohort.
enum Looks {
    /// One of its nodes, at its own patients.
    Node(ParticipantId),
    /// Its sponsor: at one node, or at all.
    Sponsor(Option<ParticipantId>),
}

impl Looks {
    const fn node(&self) -> Option<&ParticipantId> {
        match self {
            Self::Node(node) => Some(node),
            Self::Sponsor(node) => node.as_ref(),
        }
    }

    fn node_name(&self) -> String {
        self.node().map(ParticipantId::name).unwrap_or_default()
    }
}

impl Core {
    /// A study that the caller takes part in, as of now or later.
    async fn study(&self, caller: &Caller, id: StudyId) -> Result<(Arc<Known>, ParticipantId), Refusal> {
        let me = policy::participant(caller)?.clone();
        self.directory.fresh()?;
        self.store.confirm().await?;
        // One that there is not is told as one of others.
        let known = self.studies.get(id).await?.ok_or_else(outside)?;
        Ok((known, me))
    }

    /// The same for a node of it.
    async fn at_node(&self, caller: &Caller, id: StudyId) -> Result<(Arc<Known>, ParticipantId), Refusal> {
        let (known, me) = self.study(caller, id).await?;
        if known.row.has_node(me.as_str()) {
            return Ok((known, me));
        }
        Err(outside())
    }

    /// The same for a node or the sponsor.
    async fn looking(
        &self,
        caller: &Caller,
        id: StudyId,
        node: Option<ParticipantId>,
    ) -> Result<(Arc<Known>, Looks), Refusal> {
        let (known, me) = self.study(caller, id).await?;
        let named = |node: &ParticipantId| known.row.has_node(node.as_str());
        if named(&me) && node.as_ref().is_none_or(|node| *node == me) {
            return Ok((known, Looks::Node(me)));
        }
        if known.row.sponsor == me.as_str() && node.as_ref().is_none_or(named) {
            return Ok((known, Looks::Sponsor(node)));
        }
        Err(outside())
    }

    pub(super) async fn invite(
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
    async fn look_at_all(&self, known: &Known, all: &[Member]) -> Result<Vec<MemberRow>, Refusal> {
        let looks: Vec<_> = all.iter().map(|one| self.look_at(known, one)).collect();
        futures::stream::iter(looks).buffered(IN_FLIGHT).try_collect().await
    }

    /// What nodes know their members by.
    async fn references_of(&self, members: &[&Member]) -> Result<HashMap<String, String>, Refusal> {
        let owners = members.iter().map(|one| (one.account.slot(), one.account.to_vec()));
        let ring = self.ring(owners.collect()).await?;
        let named = members.iter().map(|one| {
            let row = &one.consent;
            let private = ring.open(&row.subject, "consent", &row.id, &row.sealed)?;
            Ok((one.pseudonym.clone(), private.text))
        });
        named.collect()
    }

    /// The place of every partition's feed, sealed for whoever is told of the study.
    fn places(&self, study: StudyId) -> String {
        let place = |(partition, head): (i64, sammati_store::Head)| Place {
            partition,
            epoch: head.epoch,
            seen: head.next - 1,
        };
        let places = Places {
            places: self.store.heads().into_iter().map(place).collect(),
        };
        ResumeTokens::new(&self.store.key().derive("cohort")).seal(&study.name(), &places)
    }

    fn new_run(&self, caller: &Caller) -> Result<RunId, Refusal> {
        let seed = Seed::draw().map_err(|_| Refusal::new(Reason::Internal))?;
        Ok(seed.id::<Run>("cohort", self.now(), self.callers_slot(caller)))
    }

    async fn note_study(&self, caller: &Caller, known: &Known, noted: Noted) -> Result<(), Refusal> {
        let note = Note {
            caller: caller.clone(),
            slot: self.callers_slot(caller),
            study: known.row.clone(),
            noted,
        };
        self.store.once(note).await
    }

    pub(super) async fn count_cohort(
        &self,
        caller: &Caller,
        message: &api::CountCohortRequest,
    ) -> Result<api::CountCohortResponse, Refusal> {
        let study = super::study::name("study", &message.study)?;
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

    pub(super) async fn map_pseudonyms(
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

fn outside() -> Refusal {
    Refusal::new(Reason::NodeNotInStudy).saying("you take no part in this study; its sponsor names its nodes")
}

impl Rpc {
    pub(super) async fn check_cohort_of(
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
        let mut rows = core.look_at_all(&known, &all).await?;
        if matches!(looks, Looks::Sponsor(_)) {
            rows = rows.into_iter().map(MemberRow::for_sponsor).collect();
        }
        let mut told = Told::default();
        told.add(&rows);
        if matches!(looks, Looks::Sponsor(_)) && told.permits() < i64::from(known.row.min_cell) {
            return Err(Refusal::new(Reason::CellTooSmall)
                .saying("fewer people permit than the study's min_cell; a sponsor is told nothing of so few"));
        }
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

    pub(super) async fn authorize_cohort_of(
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

impl Core {
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

impl Running {
    /// Tells what is kept of the run, then decides and keeps the rest.
    async fn tell(&self, to: &To<api::AuthorizeCohortResponse>) -> Result<(), Refusal> {
        let (hash, mut told, mut last) = (
            self.core.lookup.run(self.study, &self.node, self.run),
            Told::default(),
            String::new(),
        );
        for n in 0.. {
            let key = CohortChunkRow::key_of(&hash, n);
            let chunk = match self.kept(&key).await? {
                Some(chunk) => chunk,
                None => self.next(&hash, key, &last, &told).await?,
            };
            told.add(&chunk.members);
            if let Some(member) = chunk.members.last() {
                last.clone_from(&member.pseudonym);
            }
            let part = api::AuthorizeCohortResponse {
                members: self.shown(&chunk.members).await?,
                manifest: (!chunk.manifest.is_empty())
                    .then(|| self.manifest(&chunk, told.clone()))
                    .transpose()?,
            };
            let is_last = part.manifest.is_some();
            if to.send(Ok(part)).await.is_err() || is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn kept(&self, key: &[u8]) -> Result<Option<CohortChunkRow>, Refusal> {
        let (slot, key) = (self.slot(), key.to_vec());
        let read = self.core.store.read(move |r| r.get::<CohortChunkRow>(slot, &key));
        Ok(read.await?.map(|stored| stored.record))
    }

    fn slot(&self) -> Slot {
        Slot::of_participant(self.node.as_str())
    }

    /// Decides those who come after `last`, as many as are committed at once, and keeps what came of it.
    async fn next(&self, hash: &[u8; 32], key: Vec<u8>, last: &str, told: &Told) -> Result<CohortChunkRow, Refusal> {
        let (known, _) = self.core.at_node(&self.caller, self.study).await?;
        known.active(self.core.now())?;
        let revision = self.core.places(self.study);
        let left: Vec<&Member> = self.all.iter().filter(|one| one.pseudonym.as_str() > last).collect();
        let (now, is_last) = (&left[..left.len().min(CHUNK)], left.len() <= CHUNK);
        let decided = now.iter().map(|one| self.authorize(&known, one, hash));
        let decided: Vec<_> = decided.collect();
        let members: Vec<MemberRow> = futures::stream::iter(decided).buffered(IN_FLIGHT).try_collect().await?;
        let at = self.core.now();
        let mut chunk = chunk(key, members, revision, at);
        if is_last {
            let mut told = told.clone();
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
            key: core.lookup.in_run(hash, one.account),
        };
        let mut row = core.store.apply(command).await?;
        row.pseudonym.clone_from(&one.pseudonym);
        Ok(row)
    }

    async fn shown(&self, rows: &[MemberRow]) -> Result<Vec<api::CohortMember>, Refusal> {
        let named: std::collections::HashSet<&str> = rows.iter().map(|row| row.pseudonym.as_str()).collect();
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
