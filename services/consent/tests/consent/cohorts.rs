//! Cohorts: checked whole, counted in steps, and cited by a manifest.

use std::collections::BTreeMap;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_consent::Rpc;
use sammati_consent::consent::State;
use sammati_consent::lookup::Lookup;
use sammati_consent::rows::{ConsentRow, ScopeRow, StudyRow};
use sammati_kernel::{AccountId, Caller, ConsentId, Key, ParticipantId, Reason, Refusal, Slot, StudyId};
use sammati_store::{Command, Keys, View};
use tokio_stream::StreamExt;
use tonic::{Response, Status};

use crate::artefacts::verified;
use crate::policies::{deny, make};
use crate::studies::{active, close, create, described, member, pseudonyms};
use crate::world::{DAY, World, by, everywhere, participant, reason};

/// Everything that CheckCohort tells.
pub(crate) async fn checked(
    w: &World,
    who: &Caller,
    study: &str,
    node: &str,
) -> Result<Vec<api::CheckCohortResponse>, Status> {
    let request = api::CheckCohortRequest {
        study: study.to_owned(),
        node: node.to_owned(),
    };
    let stream = w.rpc().check_cohort(by(who, request)).await?.into_inner();
    stream.collect::<Result<Vec<_>, _>>().await
}

pub(crate) fn running(study: &str, run: &str) -> api::AuthorizeCohortRequest {
    api::AuthorizeCohortRequest {
        study: study.to_owned(),
        run: run.to_owned(),
    }
}

/// Everything that AuthorizeCohort tells.
pub(crate) async fn authorized(
    w: &World,
    rpc: &Rpc,
    hip: &str,
    study: &str,
    run: &str,
) -> Result<(Vec<api::CohortMember>, api::CohortManifest), Status> {
    assert!(!w.replicas.is_empty());
    let stream = rpc.authorize_cohort(by(&participant(hip), running(study, run))).await?;
    let parts = stream.into_inner().collect::<Result<Vec<_>, _>>().await?;
    let manifest = parts.last().and_then(|part| part.manifest.clone()).unwrap();
    Ok((parts.into_iter().flat_map(|part| part.members).collect(), manifest))
}

async fn count(w: &World, who: &Caller, study: &str) -> Result<api::CountCohortResponse, Status> {
    let request = api::CountCohortRequest {
        study: study.to_owned(),
    };
    w.rpc().count_cohort(by(who, request)).await.map(Response::into_inner)
}

/// Consents to a study, as if their people had been asked: many at once.
pub(crate) struct Seed(pub(crate) Slot, pub(crate) Vec<ConsentRow>);

impl Command for Seed {
    type Answer = ();
    const NAME: &'static str = "test.seed";

    fn slot(&self) -> Slot {
        self.0
    }

    fn reads(&self, keys: &mut Keys) {
        for row in &self.1 {
            keys.row::<ConsentRow>(row.id.clone());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        self.1.iter().for_each(|row| view.put(row));
        Ok(())
    }
}

/// So many people of the hospital who gave the institute's study three uses each.
pub(crate) async fn seeded(w: &World, study: &api::Study, people: usize) -> Vec<AccountId> {
    seeded_from(w, study, 0, people).await
}

/// The same beside the `first` who are there.
pub(crate) async fn seeded_from(w: &World, study: &api::Study, first: usize, people: usize) -> Vec<AccountId> {
    seeded_at(w, study, "hospital", first, people).await
}

/// The same at another node, where the same numbers are the same people.
pub(crate) async fn seeded_at(
    w: &World,
    study: &api::Study,
    node: &str,
    first: usize,
    people: usize,
) -> Vec<AccountId> {
    let id = StudyId::parse_name(&study.name).unwrap();
    let row = w
        .store()
        .read(move |r| r.get::<StudyRow>(id.slot(), id.as_bytes()))
        .await
        .unwrap();
    let row = row.unwrap().record;
    let scope: ScopeRow = row.scope.clone();
    let lookup = Lookup::new(&Key::from_bytes([8; 32]));
    let [hip, hiu] = [node, "institute"].map(|id| ParticipantId::parse(id).unwrap());
    let now = w.clock_now();
    let mut slots: BTreeMap<Slot, Vec<ConsentRow>> = BTreeMap::new();
    let mut accounts = Vec::new();
    for n in first..first + people {
        let slot = Slot::new(u16::try_from(n % 16).unwrap());
        let tail = u64::try_from(n).unwrap().to_be_bytes();
        let account = AccountId::new(now, slot, tail);
        accounts.push(account);
        let mut given = tail;
        given[0] = node.as_bytes()[0];
        slots.entry(slot).or_default().push(ConsentRow {
            id: ConsentId::new(now, slot, given).to_vec(),
            subject: account.to_vec(),
            hip: node.into(),
            hiu: "institute".into(),
            requester: row.investigator.clone(),
            scope: scope.clone(),
            grant_version: 1,
            state: State::Granted.number(),
            granted: now.0,
            expire: now.0 + 80 * DAY * 1_000_000,
            pair: lookup.parties(account.as_bytes(), &hip, &hiu).to_vec(),
            updated: now.0,
            version: 1,
            study: id.to_vec(),
            ..ConsentRow::default()
        });
    }
    for (slot, rows) in slots {
        w.store().apply(Seed(slot, rows)).await.unwrap();
    }
    accounts
}

/// The digest of a manifest, from what was told, by its description alone.
pub(crate) fn digest(members: &[api::CohortMember]) -> String {
    let line = |m: &api::CohortMember| {
        let outcome = m.outcome().as_str_name().trim_start_matches("OUTCOME_");
        let reason = m.reason().as_str_name().trim_start_matches("REASON_");
        let erase = m.erase_time.as_ref().map_or(0, |at| at.seconds);
        format!("{} {outcome} {reason} {} {erase}\n", m.pseudonym, m.version)
    };
    let text: String = members.iter().map(line).collect();
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn in_order(members: &[api::CohortMember]) -> bool {
    members.windows(2).all(|two| two[0].pseudonym < two[1].pseudonym)
}

#[test]
fn a_node_checks_its_cohort_and_a_manifest_tells_what_it_saw() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let (she, consent) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        member(&w, &study.name, "meera.joshi@sbx", "MRN-2").await;
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let parts = checked(&w, &participant("hospital"), &study.name, "").await.unwrap();
        let members: Vec<_> = parts.iter().flat_map(|part| part.members.clone()).collect();
        let manifest = parts.last().unwrap().manifest.clone().unwrap();
        let mut found: Vec<_> = members
            .iter()
            .map(|m| (m.patient_reference.as_str(), m.outcome(), m.reason(), m.version))
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                ("MRN-1", Outcome::Deny, Why::ConsentRevoked, 1),
                ("MRN-2", Outcome::Permit, Why::Granted, 1)
            ]
        );
        assert!(in_order(&members) && members.iter().all(|m| m.r#use.is_none()));
        assert_eq!((manifest.member_count, manifest.permit_count), (2, 1));
        assert_eq!(
            (manifest.sha256.clone(), manifest.node.as_str()),
            (digest(&members), "participants/hospital")
        );
        let claims = verified(&w, &manifest.jws, "cohort-manifest+jwt").await;
        assert_eq!(claims["sha256"], manifest.sha256.as_str());
        assert_eq!(
            (claims["run"].as_str(), claims["aud"].as_str()),
            (Some(manifest.run.as_str()), Some("participants/hospital"))
        );
        assert_eq!(w.count("access.cohort_checked").await, 1);
        assert_eq!(w.count("data.use_consumed").await, 0);

        // The other node has nobody; a stranger is no node; a sponsor is told nothing of so few.
        let other = checked(&w, &participant("lab"), &study.name, "").await.unwrap();
        assert!(other.iter().all(|part| part.members.is_empty()));
        for (who, node, why) in [
            ("hospital-9", "", Reason::NodeNotInStudy),
            ("university", "", Reason::NodeNotInStudy),
            ("hospital", "participants/lab", Reason::NodeNotInStudy),
            ("institute", "", Reason::CellTooSmall),
            ("institute", "participants/hospital", Reason::CellTooSmall),
        ] {
            let refused = checked(&w, &participant(who), &study.name, node).await;
            assert_eq!(reason(refused), why, "{who} {node}");
        }
    });
}

#[test]
fn a_sponsor_sees_pseudonyms_once_there_are_enough_and_counts_in_steps() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded(&w, &study, 14).await;
        let sponsor = participant("institute");
        let parts = checked(&w, &sponsor, &study.name, "").await.unwrap();
        let members: Vec<_> = parts.iter().flat_map(|part| part.members.clone()).collect();
        assert_eq!(members.len(), 14);
        assert!(
            members
                .iter()
                .all(|m| m.patient_reference.is_empty() && m.pseudonym.len() == 26)
        );
        let counted = count(&w, &sponsor, &study.name).await.unwrap();
        let cells: Vec<_> = counted
            .counts
            .iter()
            .map(|c| (c.node.as_str(), c.at_least, c.fewer))
            .collect();
        let (hospital, lab) = (("participants/hospital", 10, false), ("participants/lab", 0, true));
        assert_eq!(cells, [hospital, hospital, lab, lab]);
        // A node counts itself.
        let own = count(&w, &participant("lab"), &study.name).await.unwrap();
        assert!(own.counts.iter().all(|c| c.node == "participants/lab" && c.fewer));
        for left in (0..49).rev() {
            assert_eq!(count(&w, &sponsor, &study.name).await.unwrap().left_count, left);
        }
        assert_eq!(reason(count(&w, &sponsor, &study.name).await), Reason::QueryBudget);
        assert_eq!(
            count(&w, &participant("lab"), &study.name).await.unwrap().left_count,
            48
        );
        w.advance(DAY);
        assert_eq!(count(&w, &sponsor, &study.name).await.unwrap().left_count, 49);
    });
}

#[test]
fn z1_the_list_does_not_tell_the_sponsor_who_denies_it() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded(&w, &study, 14).await;
        let sponsor = participant("institute");
        let shown = async || {
            let parts = checked(&w, &sponsor, &study.name, "").await.unwrap();
            let manifest = parts.last().unwrap().manifest.clone().unwrap();
            let members: Vec<_> = parts.into_iter().flat_map(|part| part.members).collect();
            (members, manifest.member_count, manifest.permit_count, manifest.sha256)
        };
        let never = shown().await;
        let (she, _) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        let (he, consent) = member(&w, &study.name, "ravi.rao@sbx", "MRN-2").await;
        assert_eq!(shown().await.0.len(), 16);
        make(&w, &she, deny(&w, "participants/institute")).await.unwrap();
        w.revoke(&he, &[&consent.name]).await.unwrap();
        assert_eq!(shown().await, never);
        // Her own node is told, for it must push nothing.
        let parts = checked(&w, &participant("hospital"), &study.name, "").await.unwrap();
        let why: Vec<_> = parts
            .iter()
            .flat_map(|part| &part.members)
            .map(|m| m.reason())
            .collect();
        assert_eq!((why.len(), why.contains(&Why::BlockedBySubject)), (16, true));
    });
}

#[test]
fn c4_after_a_study_was_closed_nothing_is_permitted_on_any_replica() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded(&w, &study, 20).await;
        // Every replica has the study in memory.
        for (rpc, _) in &w.replicas {
            authorized(&w, rpc, "hospital", &study.name, &w.request_id())
                .await
                .unwrap();
        }
        close(&w, &participant("institute"), &study.name).await.unwrap();
        for (rpc, _) in &w.replicas {
            let run = authorized(&w, rpc, "hospital", &study.name, &w.request_id()).await;
            assert_eq!(reason(run), Reason::StudyNotActive);
        }
        for who in ["hospital", "institute"] {
            let refused = checked(&w, &participant(who), &study.name, "").await;
            assert_eq!(reason(refused), Reason::StudyNotActive);
        }
    });
}

#[test]
fn nobody_is_named_who_is_not_in_the_study_or_not_the_nodes_own() {
    everywhere(async |w| {
        let mut request = described(&w);
        request.min_cell = 25;
        let study = create(&w, "institute", request).await.unwrap();
        assert_eq!(study.min_cell, 25);
        let study = crate::studies::activate(&w, &study.name).await.unwrap();
        crate::studies::patient(&w, "hospital", "asha.rao@sbx", "MRN-1").await;
        member(&w, &study.name, "meera.joshi@sbx", "MRN-2").await;
        let mapped = pseudonyms(&w, "hospital", &study.name, &["MRN-1", "MRN-2"]).await;
        assert_eq!(
            mapped
                .iter()
                .map(|(reference, _)| reference.as_str())
                .collect::<Vec<_>>(),
            ["MRN-2"]
        );
        assert!(pseudonyms(&w, "lab", &study.name, &["MRN-2"]).await.is_empty());
        assert_eq!(w.count("study.pseudonyms_mapped").await, 2);
    });
}
