//! A run that is called again tells what it has not told as it stands by then, and whose use it has.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::types::v1::HiType;
use sammati_consent::consent::State;
use sammati_consent::rows::{CohortUseRow, ConsentRow};
use sammati_consent::scope::Scope;
use sammati_kernel::{AccountId, ConsentId, Reason, Refusal, Slot, StudyId};
use sammati_store::{Command, Keys, Record, Table, View};

use crate::cohort_runs::{Taken, key_of, taken, uses};
use crate::cohorts::{Seed, authorized, seeded, seeded_from};
use crate::studies::{active, member};
use crate::world::{World, everywhere};

async fn told(w: &World, study: &api::Study, run: &str) -> Vec<api::CohortMember> {
    let told = authorized(w, w.rpc(), "hospital", &study.name, run).await;
    told.unwrap().0
}

/// Runs of which a use of the consent was taken and nothing told: one by a call that broke, one that a restore lost.
async fn broken(w: &World, study: &api::Study, whom: AccountId, consent: &[u8]) -> [String; 2] {
    let runs = [w.request_id(), w.request_id()];
    for (run, lost) in runs.iter().zip([false, true]) {
        let mut row = taken(key_of(study, run, whom), lost);
        row.consent = consent.to_vec();
        row.decided.hi_types = vec![HiType::Prescription.into(), HiType::DiagnosticReport.into()];
        w.store().apply(Taken(whom, row)).await.unwrap();
    }
    runs
}

/// What somebody who was seeded gave.
async fn given(w: &World, study: &api::Study, whom: AccountId) -> ConsentRow {
    let id = StudyId::parse_name(&study.name).unwrap();
    let read = w
        .store()
        .read(move |r| r.page::<ConsentRow>("study", id.as_bytes(), None, 1000));
    let mut rows = read.await.unwrap().into_iter().map(|row| row.record);
    rows.find(|row| row.subject == whom.as_bytes()).unwrap()
}

fn taken_back(mut row: ConsentRow) -> ConsentRow {
    row.state = State::Revoked.number();
    row.revoked = row.granted;
    row.version += 1;
    row
}

#[test]
fn c3_a_run_that_goes_on_tells_no_more_than_she_gives_by_then() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let (she, consent) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        let id = ConsentId::parse_name(&consent.name).unwrap();
        let runs = broken(&w, &study, she.account().unwrap(), id.as_bytes()).await;
        let mut scope = consent.scope.clone().unwrap();
        scope.hi_types = vec![HiType::Prescription.into()];
        w.narrow(&she, &consent.name, scope).await.unwrap();
        for run in runs {
            let one = told(&w, &study, &run).await.remove(0);
            assert_eq!((one.outcome(), one.reason()), (Outcome::Permit, Why::GrantedReduced));
            assert_eq!(one.hi_types, [i32::from(HiType::Prescription)]);
            assert_eq!((one.version, one.r#use), (2, Some(1)));
        }
        assert_eq!(uses(&w, &study).await, [0], "none is taken again");
    });
}

#[test]
fn c2_a_run_that_goes_on_takes_a_use_of_the_consent_that_permits_by_then() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let whom = seeded(&w, &study, 1).await[0];
        let first = given(&w, &study, whom).await;
        let runs = broken(&w, &study, whom, &first.id).await;
        // She takes it back, and gives another: less, and for one use.
        let less = Scope {
            hi_types: BTreeSet::from([sammati_kernel::HiType::Prescription]),
            max_uses: 1,
            ..first.scope.read().unwrap()
        };
        let other = ConsentRow {
            id: ConsentId::new(w.clock_now(), whom.slot(), [9; 8]).to_vec(),
            scope: (&less).into(),
            ..first.clone()
        };
        let both = vec![taken_back(first), other];
        w.store().apply(Seed(whom.slot(), both)).await.unwrap();
        for _ in 0..2 {
            let one = told(&w, &study, &runs[0]).await.remove(0);
            assert_eq!((one.outcome(), one.r#use), (Outcome::Permit, Some(1)));
            assert_eq!(one.hi_types, [i32::from(HiType::Prescription)]);
            assert_eq!(uses(&w, &study).await.iter().sum::<i64>(), 1);
        }
        // The other run finds none left of it, and has the use of the first to tell.
        let one = told(&w, &study, &runs[1]).await.remove(0);
        assert_eq!((one.outcome(), one.reason()), (Outcome::Deny, Why::UseLimitReached));
        assert_eq!((one.hi_types.len(), one.r#use), (0, Some(1)));
        assert_eq!(uses(&w, &study).await.iter().sum::<i64>(), 1);
    });
}

#[test]
fn c2_a_use_that_was_taken_is_told_though_she_has_taken_it_back_since() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded(&w, &study, 3).await;
        let run = w.request_id();
        assert_eq!(told(&w, &study, &run).await.len(), 3);
        let whom = seeded_from(&w, &study, 3, 1).await[0];
        let hers = given(&w, &study, whom).await;
        let mut row = taken(key_of(&study, &run, whom), false);
        row.consent.clone_from(&hers.id);
        w.store().apply(Taken(whom, row)).await.unwrap();
        let back = vec![taken_back(hers)];
        w.store().apply(Seed(whom.slot(), back)).await.unwrap();
        for _ in 0..2 {
            let all = told(&w, &study, &run).await;
            let last = &all[3];
            assert_eq!((all.len(), last.outcome()), (4, Outcome::Deny));
            assert_eq!((last.reason(), last.r#use), (Why::ConsentRevoked, Some(1)));
        }
    });
}

/// What a run decided, as code reads it that does not know of whose use.
#[derive(Clone, PartialEq, prost::Message)]
struct Old {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

impl Record for Old {
    const TABLE: Table = CohortUseRow::TABLE;

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

struct Rewrite(Slot, Old);

impl Command for Rewrite {
    type Answer = ();
    const NAME: &'static str = "test.rewrite";

    fn slot(&self) -> Slot {
        self.0
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<Old>(self.1.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        view.put(&self.1);
        Ok(())
    }
}

#[test]
fn code_that_does_not_know_whose_use_a_run_has_does_not_rewrite_that() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let (whom, run) = (seeded(&w, &study, 1).await[0], w.request_id());
        told(&w, &study, &run).await;
        let key = key_of(&study, &run, whom).to_vec();
        let rewritten = w.store().apply(Rewrite(whom.slot(), Old { key })).await;
        assert_eq!(rewritten.unwrap_err().reason, Reason::Internal);
    });
}
