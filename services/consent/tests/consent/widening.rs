//! C3, C2: in whatever order she pauses, resumes, narrows, renews and revokes, nothing ever allows more than a plain model
//! of it says; and time only takes away.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision::Outcome;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::types::v1 as types;

use crate::world::{DAY, World, by, everywhere, participant};

/// What is done next. Kinds of record are bits; a range begins that many times 30 days ago.
#[derive(Debug, Clone)]
enum Step {
    Pause,
    PauseFor(i64),
    Resume,
    Narrow(u8, i64),
    Renew(u8, i64),
    Revoke,
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Pause),
        1 => (1..5_i64).prop_map(Step::PauseFor),
        2 => Just(Step::Resume),
        4 => (1..8_u8, 1..4_i64).prop_map(|(kinds, back)| Step::Narrow(kinds, back)),
        2 => (1..8_u8, 1..4_i64).prop_map(|(kinds, back)| Step::Renew(kinds, back)),
        1 => Just(Step::Revoke),
        2 => (1..6_i64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 4..12)
}

const KINDS: [types::HiType; 3] = [
    types::HiType::Prescription,
    types::HiType::DiagnosticReport,
    types::HiType::OpConsultation,
];

fn kinds(bits: u8) -> Vec<i32> {
    let chosen = KINDS.into_iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0);
    chosen.map(|(_, kind)| kind.into()).collect()
}

/// The model: days from the beginning are its clock.
#[derive(Debug, Clone)]
struct Model {
    now: i64,
    kinds: u8,
    back: i64,
    end: i64,
    is_paused: bool,
    resume: Option<i64>,
    is_over: bool,
}

impl Model {
    fn tick(&mut self) {
        if self.is_paused && self.resume.is_some_and(|at| at <= self.now && at < self.end) {
            self.is_paused = false;
        }
        self.is_over |= self.now >= self.end;
    }

    const fn is_inside(&self, kinds: u8, back: i64) -> bool {
        kinds & !self.kinds == 0 && back <= self.back
    }

    /// The questions that are permitted: one kind and one range each.
    fn permitted(&self) -> BTreeSet<(usize, i64)> {
        let all = (0..3).flat_map(|kind| (1..4).map(move |back| (kind, back)));
        let holds = |(kind, back): &(usize, i64)| {
            !self.is_over && !self.is_paused && self.kinds & (1 << kind) != 0 && *back <= self.back
        };
        all.filter(holds).collect()
    }
}

/// The present consent of a person, and how she began.
struct Play {
    w: Arc<World>,
    address: String,
    begin: i64,
    consent: api::Consent,
    model: Model,
}

impl Play {
    fn days(&self, days: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp {
            seconds: self.begin + days * DAY,
            nanos: 0,
        })
    }

    fn range(&self, back: i64) -> Option<types::TimeRange> {
        Some(types::TimeRange {
            from: self.days(-30 * back),
            to: self.days(0),
        })
    }

    fn scope(&self, kinds: u8, back: i64, end: i64) -> types::Scope {
        types::Scope {
            hi_types: self::kinds(kinds),
            record_range: self.range(back),
            erase_time: self.days(end),
            ..self.w.scope()
        }
    }

    async fn permitted(&self) -> BTreeSet<(usize, i64)> {
        let mut permitted = BTreeSet::new();
        for (kind, hi_type) in KINDS.into_iter().enumerate() {
            for back in 1..4 {
                let identifier = types::identifier::Identifier::AbhaAddress(self.address.clone());
                let question = api::CheckAccessRequest {
                    target: Some(api::check_access_request::Target::Subject(types::Identifier {
                        identifier: Some(identifier),
                    })),
                    requester: "participants/clinic".into(),
                    provider: "participants/hospital".into(),
                    purpose: types::PurposeCode::Caremgt.into(),
                    access_mode: types::AccessMode::View.into(),
                    hi_types: vec![hi_type.into()],
                    record_range: self.range(back),
                    ..Default::default()
                };
                let checked = self.w.rpc().check_access(by(&participant("hospital"), question)).await;
                if checked.unwrap().into_inner().outcome() == Outcome::Permit {
                    permitted.insert((kind, back));
                }
            }
        }
        permitted
    }

    /// Does it on both sides; tells whether each says that it was done.
    async fn step(&mut self, step: &Step) -> (bool, bool) {
        let (w, name) = (Arc::clone(&self.w), self.consent.name.clone());
        let she = w.she(w.account(&self.address));
        let m = self.model.clone();
        let is_open = !m.is_over;
        match step {
            Step::Pause | Step::PauseFor(_) => {
                let resume = if let Step::PauseFor(days) = step {
                    Some(m.now + days)
                } else {
                    None
                };
                let may = is_open && !m.is_paused && resume.is_none_or(|at| at < m.end);
                let done = w.pause_until(&she, &name, resume.and_then(|at| self.days(at))).await;
                if may {
                    (self.model.is_paused, self.model.resume) = (true, resume);
                }
                (done.is_ok(), may)
            }
            Step::Resume => {
                let may = is_open && m.is_paused;
                self.model.is_paused &= !may;
                (w.resume(&she, &name).await.is_ok(), may)
            }
            Step::Narrow(kinds, back) => {
                let may = is_open && m.is_inside(*kinds, *back) && (*kinds, *back) != (m.kinds, m.back);
                let done = w.narrow(&she, &name, self.scope(*kinds, *back, m.end)).await;
                if may {
                    (self.model.kinds, self.model.back) = (*kinds, *back);
                }
                (done.is_ok(), may)
            }
            Step::Renew(kinds, back) => self.renew(*kinds, *back).await,
            Step::Revoke => {
                self.model.is_over = true;
                let done = w.revoke(&she, &[&name]).await;
                (done.is_ok_and(|done| done.changed_count == 1), is_open)
            }
            Step::Wait(days) => {
                w.advance(days * DAY);
                self.model.now += days;
                self.model.tick();
                (true, true)
            }
        }
    }

    async fn renew(&mut self, kinds: u8, back: i64) -> (bool, bool) {
        let (w, m) = (Arc::clone(&self.w), self.model.clone());
        let may = !m.is_over && m.is_inside(kinds, back);
        let end = m.now + 10;
        let mut ask = w.renewal(&self.address, &self.consent);
        ask.scope = Some(self.scope(kinds, back, end));
        let Ok(request) = w.create(ask).await else {
            return (false, may);
        };
        let she = w.she(w.account(&self.address));
        let Ok(approved) = w.approve(&she, w.approval(&request)).await else {
            return (false, may);
        };
        self.consent = approved.consents.into_iter().next().unwrap();
        self.model = Model {
            kinds,
            back,
            end,
            is_paused: false,
            resume: None,
            ..m
        };
        (true, may)
    }
}

async fn play(w: &Arc<World>, n: usize, steps: &[Step]) {
    let address = format!("person{n:04}@sbx");
    let account = w.person(&address);
    let mut play = Play {
        begin: w.at(0).unwrap().seconds,
        w: Arc::clone(w),
        address: address.clone(),
        consent: api::Consent::default(),
        model: Model {
            now: 0,
            kinds: 7,
            back: 3,
            end: 10,
            is_paused: false,
            resume: None,
            is_over: false,
        },
    };
    let mut ask = w.asks(&address);
    ask.scope = Some(play.scope(7, 3, 10));
    let request = w.create(ask).await.unwrap();
    let approved = w.approve(&w.she(account), w.approval(&request)).await.unwrap();
    play.consent = approved.consents.into_iter().next().unwrap();
    let mut widest = play.permitted().await;
    assert_eq!(widest, play.model.permitted());
    for (at, step) in steps.iter().enumerate() {
        let (done, may) = play.step(step).await;
        assert_eq!(done, may, "step {at} of {steps:?}: {:?}", play.model);
        let permitted = play.permitted().await;
        assert_eq!(permitted, play.model.permitted(), "after step {at} of {steps:?}");
        // Whatever the model says: nothing is ever permitted that was not before she last narrowed it.
        assert!(permitted.is_subset(&widest), "step {at} of {steps:?} widened it");
        if !permitted.is_empty() {
            widest = permitted;
        }
    }
}

#[test]
fn c2_c3_no_order_of_verbs_widens_anything_and_time_only_takes_away() {
    everywhere(|w| async move {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        for n in 0..30 {
            let drawn = steps().new_tree(&mut runner).unwrap().current();
            play(&w, n, &drawn).await;
        }
    });
}
