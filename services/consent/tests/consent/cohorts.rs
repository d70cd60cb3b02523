//! Cohorts: checked and authorized whole, once for each run whatever breaks, counted in steps, and cited by a manifest.

use std::collections::BTreeMap;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_consent::Rpc;
use sammati_consent::consent::State;
use sammati_consent::lookup::Lookup;
use sammati_consent::rows::{CohortUseRow, ConsentRow, MemberRow, ScopeRow, StudyRow};
use sammati_kernel::{AccountId, Caller, ConsentId, Key, ParticipantId, Reason, Refusal, Slot, StudyId};
use sammati_store::{Command, Keys, View};
use tokio_stream::StreamExt;
use tonic::{Response, Status};

use crate::artefacts::verified;
use crate::policies::{deny, make};
use crate::studies::{active, close, create, described, member, pseudonyms};
use crate::world::{DAY, World, by, everywhere, operator, participant, reason};

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

fn running(study: &str, run: &str) -> api::AuthorizeCohortRequest {
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
struct Seed(Slot, Vec<ConsentRow>);

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
async fn seeded(w: &World, study: &api::Study, people: usize) -> Vec<AccountId> {
    seeded_from(w, study, 0, people).await
}

/// The same beside the `first` who are there.
async fn seeded_from(w: &World, study: &api::Study, first: usize, people: usize) -> Vec<AccountId> {
    let id = StudyId::parse_name(&study.name).unwrap();
    let row = w
        .store()
        .read(move |r| r.get::<StudyRow>(id.slot(), id.as_bytes()))
        .await
        .unwrap();
    let row = row.unwrap().record;
    let scope: ScopeRow = row.scope.clone();
    let lookup = Lookup::new(&Key::from_bytes([8; 32]));
    let [hip, hiu] = ["hospital", "institute"].map(|id| ParticipantId::parse(id).unwrap());
    let now = w.clock_now();
    let mut slots: BTreeMap<Slot, Vec<ConsentRow>> = BTreeMap::new();
    let mut accounts = Vec::new();
    for n in first..first + people {
        let slot = Slot::new(u16::try_from(n % 16).unwrap());
        let tail = u64::try_from(n).unwrap().to_be_bytes();
        let account = AccountId::new(now, slot, tail);
        accounts.push(account);
        slots.entry(slot).or_default().push(ConsentRow {
            id: ConsentId::new(now, slot, tail).to_vec(),
            subject: account.to_vec(),
            hip: "hospital".into(),
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

/// Uses that were taken of each consent to a study.
async fn uses(w: &World, study: &api::Study) -> Vec<i64> {
    let id = StudyId::parse_name(&study.name).unwrap();
    let read = w
        .store()
        .read(move |r| r.page::<ConsentRow>("study", id.as_bytes(), None, 100_000));
    read.await.unwrap().iter().map(|row| row.record.uses).collect()
}

/// The digest of a manifest, from what was told, by its description alone.
fn digest(members: &[api::CohortMember]) -> String {
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

fn in_order(members: &[api::CohortMember]) -> bool {
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
fn c2_each_run_takes_one_use_and_the_fourth_finds_none() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded(&w, &study, 3).await;
        let (node, mut told) = (w.rpc(), Vec::new());
        for n in 1..=3 {
            let run = w.request_id();
            let first = authorized(&w, node, "hospital", &study.name, &run).await.unwrap();
            assert!(
                first
                    .0
                    .iter()
                    .all(|m| m.outcome() == Outcome::Permit && m.r#use == Some(n))
            );
            // The same run on any replica tells the same, signed alike.
            let again = authorized(&w, w.rpc(), "hospital", &study.name, &run).await.unwrap();
            assert_eq!(first, again);
            assert_eq!(first.1.sha256, digest(&first.0));
            let claims = verified(&w, &first.1.jws, "cohort-manifest+jwt").await;
            assert_eq!(claims["sha256"], first.1.sha256.as_str());
            told.push((run, first));
        }
        let (members, manifest) = authorized(&w, node, "hospital", &study.name, &w.request_id())
            .await
            .unwrap();
        assert!(
            members
                .iter()
                .all(|m| m.reason() == Why::UseLimitReached && m.r#use.is_none())
        );
        assert_eq!((manifest.member_count, manifest.permit_count), (3, 0));
        assert_eq!(uses(&w, &study).await, [3; 3]);
        assert_eq!(w.count("access.cohort_authorized").await, 4);
        let outside = authorized(&w, node, "hospital-9", &study.name, &w.request_id()).await;
        assert_eq!(reason(outside), Reason::NodeNotInStudy);
        close(&w, &operator(), &study.name).await.unwrap();
        let closed = authorized(&w, node, "hospital", &study.name, &w.request_id()).await;
        assert_eq!(reason(closed), Reason::StudyNotActive);
        // What was told is told again.
        for (run, first) in told {
            let again = authorized(&w, node, "hospital", &study.name, &run).await.unwrap();
            assert_eq!(first, again);
        }
    });
}

#[test]
fn a_run_that_broke_goes_on_and_no_use_is_taken_twice() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded(&w, &study, 3600).await;
        let run = w.request_id();
        // A process that dies while it decides the eighth chunk or one before: its tasks end where they stand.
        let (dying, name, id) = (w.replicas[0].0.clone(), study.name.clone(), run.clone());
        let broken = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let told = runtime.block_on(async {
                let begun = dying
                    .authorize_cohort(by(&participant("hospital"), running(&name, &id)))
                    .await;
                let mut stream = begun.unwrap().into_inner();
                let mut told = Vec::new();
                for _ in 0..3 {
                    told.extend(stream.next().await.unwrap().unwrap().members);
                }
                told
            });
            runtime.shutdown_background();
            told
        });
        let told = broken.join().unwrap();
        let taken: i64 = uses(&w, &study).await.iter().sum();
        assert!((1500..3600).contains(&taken), "{taken}");

        // Two at once go on with it, on two replicas where there are two.
        let replicas = [&w.replicas[0].0, &w.replicas[w.replicas.len() - 1].0];
        let both = replicas.map(|rpc| authorized(&w, rpc, "hospital", &study.name, &run));
        let mut both = futures::future::join_all(both).await.into_iter();
        let (one, two) = (both.next().unwrap().unwrap(), both.next().unwrap().unwrap());
        assert_eq!(one, two);
        assert_eq!((one.0.len(), one.0[..1500] == told), (3600, true));
        assert!(in_order(&one.0) && one.1.sha256 == digest(&one.0));
        assert_eq!(uses(&w, &study).await, vec![1; 3600]);
        assert_eq!(w.count("data.use_consumed").await, 3600);
        assert_eq!(w.count("access.cohort_authorized").await, 8);
    });
}

/// That a call of the run took a use of hers, and lost to another when it was to be kept; or that a restore lost all but that.
struct Taken(AccountId, [u8; 32], bool);

impl Command for Taken {
    type Answer = ();
    const NAME: &'static str = "test.taken";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        view.put(&CohortUseRow {
            key: self.1.to_vec(),
            decided: MemberRow {
                reason: Why::Granted.into(),
                version: 1,
                r#use: 1,
                ..MemberRow::default()
            },
            lost: self.2,
        });
        Ok(())
    }
}

#[test]
fn c2_a_use_that_was_taken_when_another_call_ended_the_run_is_told() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded(&w, &study, 5).await;
        let (run, last) = (w.request_id(), &w.replicas[w.replicas.len() - 1].0);
        let before = authorized(&w, w.rpc(), "hospital", &study.name, &run).await.unwrap();
        // Two join; of one a call took the use that came before and ends after.
        let joined = seeded_from(&w, &study, 5, 2).await;
        let id = StudyId::parse_name(&study.name).unwrap();
        let (lookup, hip) = (
            Lookup::new(&Key::from_bytes([8; 32])),
            ParticipantId::parse("hospital").unwrap(),
        );
        let hash = lookup.run(id, &hip, run.parse().unwrap());
        let hers = lookup.in_run(&hash, joined[0]);
        w.store().apply(Taken(joined[0], hers, false)).await.unwrap();
        let after = authorized(&w, last, "hospital", &study.name, &run).await.unwrap();
        assert_eq!(
            (after.0.len(), &after.0[..5]),
            (6, &before.0[..]),
            "who joined otherwise is of the next run"
        );
        assert_eq!((after.0[5].outcome(), after.0[5].r#use), (Outcome::Permit, Some(1)));
        assert_eq!(
            (after.1.member_count, after.1.sha256.as_str()),
            (6, digest(&after.0).as_str())
        );
        let again = authorized(&w, w.rpc(), "hospital", &study.name, &run).await.unwrap();
        assert_eq!(after, again);
        close(&w, &operator(), &study.name).await.unwrap();
        assert_eq!(
            authorized(&w, last, "hospital", &study.name, &run).await.unwrap(),
            again
        );
    });
}

#[test]
fn c2_a_run_that_a_restore_lost_takes_no_second_use() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let people = seeded(&w, &study, 3).await;
        let run = w.request_id();
        let id = StudyId::parse_name(&study.name).unwrap();
        let (lookup, hip) = (
            Lookup::new(&Key::from_bytes([8; 32])),
            ParticipantId::parse("hospital").unwrap(),
        );
        let hash = lookup.run(id, &hip, run.parse().unwrap());
        // The log names each use of a run, so that it is found again.
        let other = w.request_id();
        authorized(&w, w.rpc(), "hospital", &study.name, &other).await.unwrap();
        let others = lookup.run(id, &hip, other.parse().unwrap());
        let events = w.events().await;
        let told = events.iter().filter(|e| e.event_type == "access.authorized");
        let told: std::collections::BTreeSet<_> = told
            .flat_map(|e| &e.payload.as_ref().unwrap().claims)
            .cloned()
            .collect();
        let named = people.iter().map(|one| lookup.in_run(&others, *one).to_vec());
        assert_eq!(told, named.collect());

        let hers = lookup.in_run(&hash, people[0]);
        w.store().apply(Taken(people[0], hers, true)).await.unwrap();
        let first = authorized(&w, w.rpc(), "hospital", &study.name, &run).await.unwrap();
        assert!(
            first
                .0
                .iter()
                .all(|m| m.outcome() == Outcome::Permit && m.record_range.is_some())
        );
        let mut taken = uses(&w, &study).await;
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 2], "of her the one that is known to be taken");
        let again = authorized(&w, w.rpc(), "hospital", &study.name, &run).await.unwrap();
        assert_eq!(first, again);
    });
}

#[test]
fn c2_of_two_calls_of_a_run_at_once_one_tells_every_use_that_was_taken() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let replicas = [&w.replicas[0].0, &w.replicas[w.replicas.len() - 1].0];
        let mut people = 1300;
        seeded(&w, &study, people).await;
        let (mut taken, hospital) = (0, participant("hospital"));
        for _ in 0..4 {
            let run = w.request_id();
            // The first call knows who is there, and stops after two parts that nobody reads; then others join, and the
            // second call knows of them too. Both go on at once.
            let begun = replicas[0].authorize_cohort(by(&hospital, running(&study.name, &run)));
            let one = begun.await.unwrap().into_inner();
            seeded_from(&w, &study, people, 150).await;
            people += 150;
            let begun = replicas[1].authorize_cohort(by(&hospital, running(&study.name, &run)));
            let two = begun.await.unwrap().into_inner();
            let (one, two) = futures::future::join(one.collect::<Vec<_>>(), two.collect::<Vec<_>>()).await;
            let told: Vec<_> = one
                .into_iter()
                .chain(two)
                .flat_map(|part| part.unwrap().members)
                .collect();
            let used = told.iter().filter(|m| m.r#use.is_some());
            let used: std::collections::BTreeSet<_> = used.map(|m| m.pseudonym.as_str()).collect();
            let now: i64 = uses(&w, &study).await.iter().sum();
            assert_eq!(
                used.len() as i64,
                now - taken,
                "each use is told by one of them at least"
            );
            taken = now;
        }
    });
}

#[test]
fn z1_who_denies_it_is_to_the_sponsor_as_who_was_never_asked() {
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
fn c4_who_takes_it_back_between_chunks_is_denied_in_the_rest_and_in_the_next_run() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let accounts = seeded(&w, &study, 3600).await;
        let parts = checked(&w, &participant("hospital"), &study.name, "").await.unwrap();
        let last = parts
            .iter()
            .flat_map(|part| &part.members)
            .last()
            .unwrap()
            .pseudonym
            .clone();
        // Who she is the test finds out by taking back, on the other replica, what the last one told gave.
        let run = w.request_id();
        let (first, second) = (&w.replicas[0].0, &w.replicas[w.replicas.len() - 1].0);
        let begun = first
            .authorize_cohort(by(&participant("hospital"), running(&study.name, &run)))
            .await;
        let mut stream = begun.unwrap().into_inner();
        let mut members = stream.next().await.unwrap().unwrap().members;
        let (id, whom) = {
            let id = StudyId::parse_name(&study.name).unwrap();
            let key = w.pseudonym_key(id).await;
            let whom = accounts
                .iter()
                .find(|a| sammati_consent::study::pseudonym::of(&key, **a) == last)
                .unwrap();
            (id, *whom)
        };
        let name = {
            let read = w
                .store()
                .read(move |r| r.page::<ConsentRow>("study", id.as_bytes(), None, 100_000));
            let rows = read.await.unwrap();
            let row = rows.iter().find(|row| row.record.subject == whom.to_vec()).unwrap();
            row.record.id().unwrap().name()
        };
        let revoke = api::RevokeConsentsRequest {
            names: vec![name],
            request_id: w.request_id(),
            ..Default::default()
        };
        use sammati_api::consent::v1::consent_service_server::ConsentService;
        second.revoke_consents(by(&w.she(whom), revoke)).await.unwrap();
        while let Some(part) = stream.next().await {
            members.extend(part.unwrap().members);
        }
        let hers = |members: &[api::CohortMember]| {
            let hers = members.iter().find(|m| m.pseudonym == last).unwrap();
            (hers.outcome(), hers.reason())
        };
        assert_eq!(members.len(), 3600);
        assert_eq!(hers(&members), (Outcome::Deny, Why::ConsentRevoked));
        assert_eq!(members.iter().filter(|m| m.outcome() == Outcome::Permit).count(), 3599);
        let (next, _) = authorized(&w, first, "hospital", &study.name, &w.request_id())
            .await
            .unwrap();
        assert_eq!(hers(&next), (Outcome::Deny, Why::ConsentRevoked));
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
