//! Runs over a cohort: each member once for each run, whatever breaks and whoever calls beside, and told.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_consent::lookup::Lookup;
use sammati_consent::rows::{CohortUseRow, ConsentRow, MemberRow};
use sammati_kernel::{AccountId, Key, ParticipantId, Reason, Refusal, Slot, StudyId};
use sammati_store::{Command, Keys, View};
use tokio_stream::StreamExt;

use crate::artefacts::verified;
use crate::cohorts::{authorized, checked, digest, in_order, running, seeded, seeded_from};
use crate::studies::{active, close};
use crate::world::{World, by, everywhere, operator, participant, reason};

/// Uses that were taken of each consent to a study.
pub(crate) async fn uses(w: &World, study: &api::Study) -> Vec<i64> {
    let id = StudyId::parse_name(&study.name).unwrap();
    let read = w
        .store()
        .read(move |r| r.page::<ConsentRow>("study", id.as_bytes(), None, 100_000));
    read.await.unwrap().iter().map(|row| row.record.uses).collect()
}

/// That a call of the run took a use of hers, and lost to another when it was to be kept; or that a restore lost all but that.
pub(crate) struct Taken(pub(crate) AccountId, pub(crate) CohortUseRow);

impl Command for Taken {
    type Answer = ();
    const NAME: &'static str = "test.taken";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<CohortUseRow>(self.1.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        view.put(&self.1);
        Ok(())
    }
}

/// That the first use was taken, of a consent that is not named: as rows of format 1.
pub(crate) fn taken(key: [u8; 32], lost: bool) -> CohortUseRow {
    CohortUseRow {
        key: key.to_vec(),
        decided: MemberRow {
            reason: Why::Granted.into(),
            version: 1,
            r#use: 1,
            ..MemberRow::default()
        },
        lost,
        consent: Vec::new(),
    }
}

/// The key of what a run of the hospital's decides of somebody.
pub(crate) fn key_of(study: &api::Study, run: &str, whom: AccountId) -> [u8; 32] {
    let (lookup, hip) = (
        Lookup::new(&Key::from_bytes([8; 32])),
        ParticipantId::parse("hospital").unwrap(),
    );
    let run = lookup.run(StudyId::parse_name(&study.name).unwrap(), &hip, run.parse().unwrap());
    lookup.in_run(&run, whom)
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

#[test]
fn c2_a_use_that_was_taken_when_another_call_ended_the_run_is_told() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded(&w, &study, 5).await;
        let (run, last) = (w.request_id(), &w.replicas[w.replicas.len() - 1].0);
        let before = authorized(&w, w.rpc(), "hospital", &study.name, &run).await.unwrap();
        // Two join; of one a call took the use that came before and ends after.
        let joined = seeded_from(&w, &study, 5, 2).await;
        let hers = taken(key_of(&study, &run, joined[0]), false);
        w.store().apply(Taken(joined[0], hers)).await.unwrap();
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
        // The log names each use of a run, so that it is found again.
        let other = w.request_id();
        authorized(&w, w.rpc(), "hospital", &study.name, &other).await.unwrap();
        let events = w.events().await;
        let told = events.iter().filter(|e| e.event_type == "access.authorized");
        let told: std::collections::BTreeSet<_> = told
            .flat_map(|e| &e.payload.as_ref().unwrap().claims)
            .cloned()
            .collect();
        let named = people.iter().map(|one| key_of(&study, &other, *one).to_vec());
        assert_eq!(told, named.collect());

        let hers = taken(key_of(&study, &run, people[0]), true);
        w.store().apply(Taken(people[0], hers)).await.unwrap();
        let first = authorized(&w, w.rpc(), "hospital", &study.name, &run).await.unwrap();
        assert!(
            first
                .0
                .iter()
                .all(|m| m.outcome() == Outcome::Permit && m.record_range.is_some())
        );
        let mut used = uses(&w, &study).await;
        used.sort_unstable();
        assert_eq!(used, [1, 2, 2], "of her the one that is known to be taken");
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
