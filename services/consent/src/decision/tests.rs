//! Every rule by its name.

mod naive;

use std::collections::{BTreeMap, BTreeSet};

use sammati_kernel::{HiType, Slot};

use super::*;
use crate::scope::tests::sample;
use crate::scope::{Frequency, Range, Unit};

const NOW: Micros = Micros(3_600_000_000 * 10);

/// A world in which everything that is not named otherwise is well.
#[derive(Debug, Clone)]
struct World {
    inactive: BTreeSet<String>,
    her_active: bool,
    linked: BTreeSet<ContextKey>,
    blocks: Vec<Block>,
    studies: BTreeMap<StudyId, Micros>,
}

impl Facts for World {
    fn is_active_as(&self, id: &ParticipantId, role: Role) -> bool {
        let own = if id.as_str().starts_with("hospital") {
            Role::Hip
        } else {
            Role::Hiu
        };
        role == own && !self.inactive.contains(id.as_str())
    }

    fn is_active(&self, _: AccountId) -> bool {
        self.her_active
    }

    fn is_linked(&self, key: &ContextKey) -> bool {
        self.linked.contains(key)
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn active_until(&self, study: StudyId) -> Option<Micros> {
        self.studies.get(&study).copied()
    }
}

fn well() -> World {
    World {
        inactive: BTreeSet::new(),
        her_active: true,
        linked: BTreeSet::from([[1; 32], [2; 32]]),
        blocks: Vec::new(),
        // 1 goes on, 2 ends now; 3 is none.
        studies: BTreeMap::from([(study(1), Micros(NOW.0 + 1)), (study(2), NOW)]),
    }
}

fn id(text: &str) -> ParticipantId {
    ParticipantId::parse(text).unwrap()
}

fn her() -> AccountId {
    AccountId::new(Micros(1_000_000), Slot::new(7), [1; 8])
}

fn study(n: u8) -> StudyId {
    StudyId::new(Micros(3_000_000), Slot::new(9), [n; 8])
}

fn consent(n: u8) -> Granted {
    Granted {
        id: ConsentId::new(Micros(2_000_000), Slot::new(7), [n; 8]),
        subject: her(),
        hip: id("hospital"),
        hiu: id("clinic"),
        scope: sample(),
        version: 1,
        state: State::Granted,
        granted: Micros(0),
        expire: Micros(NOW.0 * 10),
        resume: None,
        successor: None,
        acknowledged: true,
        uses: Uses::default(),
        user: ["REGNO".into(), "MH1".into(), "https://x".into()],
        study: None,
    }
}

fn question() -> Question {
    Question {
        asker: Asker::Participant(id("hospital")),
        requester: Some(id("clinic")),
        provider: Some(id("hospital")),
        user: None,
        purpose: Some(PurposeCode::Caremgt),
        access_mode: Some(AccessMode::View),
        hi_types: BTreeSet::from([HiType::Prescription]),
        record_range: Range {
            from: Micros(1_200),
            to: Micros(1_300),
        },
        care_contexts: BTreeSet::new(),
        has_use: false,
        allow_reduced: false,
    }
}

fn ask(question: &Question, world: &World, consent: &Granted) -> (i32, Reason) {
    let verdict = decide(question, world, &[consent], NOW);
    (verdict.rule, verdict.reason)
}

#[test]
fn rule_12_the_study_is_active() {
    let given_to = |n| Granted {
        study: Some(study(n)),
        ..consent(1)
    };
    assert_eq!(ask(&question(), &well(), &given_to(1)), (0, Reason::Granted));
    for over in [2, 3] {
        assert_eq!(ask(&question(), &well(), &given_to(over)), (12, Reason::StudyNotActive));
    }
}

#[test]
fn a_sponsor_is_told_nothing_of_a_consent_that_was_given_to_its_study() {
    let sponsor = Question {
        asker: Asker::Participant(id("clinic")),
        ..question()
    };
    let given = Granted {
        study: Some(study(1)),
        ..consent(1)
    };
    assert_eq!(ask(&sponsor, &well(), &consent(1)), (0, Reason::Granted));
    assert_eq!(ask(&sponsor, &well(), &given), (4, Reason::NoConsent));
}

#[test]
fn no_rule_fails_granted() {
    assert_eq!(ask(&question(), &well(), &consent(1)), (0, Reason::Granted));
}

#[test]
fn rule_2_the_requester_is_active_in_the_role_its_purpose_needs() {
    let world = World {
        inactive: BTreeSet::from(["clinic".into()]),
        ..well()
    };
    assert_eq!(ask(&question(), &world, &consent(1)), (2, Reason::RequesterNotActive));
    let open = Question {
        requester: None,
        ..question()
    };
    assert_eq!(ask(&open, &world, &consent(1)), (2, Reason::RequesterNotActive));
    let own = Question {
        purpose: Some(PurposeCode::Patrqt),
        ..question()
    };
    assert_eq!(ask(&own, &well(), &consent(1)), (2, Reason::RequesterNotActive));
    // A transfer asks for what is granted: its receiver must be one for that, not one for anything.
    let as_granted = Question {
        purpose: None,
        ..question()
    };
    let mut hers = consent(1);
    hers.scope.purpose = PurposeCode::Patrqt;
    assert_eq!(ask(&as_granted, &well(), &hers), (2, Reason::RequesterNotActive));
    assert_eq!(ask(&as_granted, &well(), &consent(1)), (0, Reason::Granted));
}

#[test]
fn rule_7_what_she_denies_nobody_permits_and_the_asker_is_told_what_a_stranger_is() {
    let world = |block: Block| World {
        blocks: vec![block],
        ..well()
    };
    let as_clinic = Question {
        asker: Asker::Participant(id("clinic")),
        ..question()
    };
    let all = world(Block::default());
    assert_eq!(ask(&question(), &all, &consent(1)), (7, Reason::BlockedBySubject));
    assert_eq!(ask(&as_clinic, &all, &consent(1)), (4, Reason::NoConsent));
    // Being blocked is older news than being revoked.
    let mut revoked = consent(1);
    revoked.state = State::Revoked;
    assert_eq!(ask(&question(), &all, &revoked), (7, Reason::BlockedBySubject));
    let other = world(Block {
        hiu: Some(id("clinic2")),
        ..Block::default()
    });
    assert_eq!(ask(&as_clinic, &other, &consent(1)), (0, Reason::Granted));
    let hidden = world(Block {
        care_contexts: BTreeSet::from([[2; 32]]),
        ..Block::default()
    });
    let of = |n: u8| Question {
        care_contexts: BTreeSet::from([[n; 32]]),
        ..question()
    };
    assert_eq!(ask(&of(1), &hidden, &consent(1)), (0, Reason::Granted));
    assert_eq!(ask(&of(2), &hidden, &consent(1)), (7, Reason::BlockedBySubject));
    assert_eq!(ask(&question(), &hidden, &consent(1)), (7, Reason::BlockedBySubject));
    let mut named = consent(1);
    named.scope.care_contexts = BTreeSet::from([[1; 32]]);
    assert_eq!(ask(&question(), &hidden, &named), (0, Reason::Granted));
}

#[test]
fn what_has_its_use_needs_none_left() {
    let mut spent = consent(1);
    spent.scope.max_uses = 1;
    spent.uses.count = 1;
    let taken_on = Question {
        has_use: true,
        ..question()
    };
    assert_eq!(ask(&question(), &well(), &spent), (20, Reason::UseLimitReached));
    assert_eq!(ask(&taken_on, &well(), &spent), (0, Reason::Granted));
}

#[test]
fn rule_3_the_provider_is_an_active_hip() {
    let world = World {
        inactive: BTreeSet::from(["hospital".into()]),
        ..well()
    };
    assert_eq!(ask(&question(), &world, &consent(1)), (3, Reason::ProviderNotActive));
}

#[test]
fn rule_4_there_is_a_consent() {
    let verdict = decide(&question(), &well(), &[], NOW);
    assert_eq!((verdict.rule, verdict.reason, verdict.by), (4, Reason::NoConsent, None));
}

#[test]
fn rule_5_a_stranger_learns_nothing_and_the_other_party_what_differs() {
    let stranger = Question {
        asker: Asker::Participant(id("hospital2")),
        requester: None,
        provider: None,
        ..question()
    };
    let revoked = Granted {
        state: State::Revoked,
        ..consent(1)
    };
    for any in [consent(1), revoked] {
        assert_eq!(ask(&stranger, &well(), &any), (4, Reason::NoConsent));
    }
    let other = Question {
        requester: Some(id("clinic2")),
        ..question()
    };
    assert_eq!(ask(&other, &well(), &consent(1)), (5, Reason::RequesterMismatch));
    let asker = Asker::Participant(id("clinic"));
    let other = Question {
        asker,
        provider: Some(id("hospital2")),
        ..question()
    };
    assert_eq!(ask(&other, &well(), &consent(1)), (5, Reason::ProviderMismatch));
}

#[test]
fn rule_6_her_account_is_active() {
    assert_eq!(
        ask(
            &question(),
            &World {
                her_active: false,
                ..well()
            },
            &consent(1)
        ),
        (6, Reason::SubjectInactive)
    );
}

#[test]
fn rules_8_to_11_the_consent_is_in_force() {
    let states = [
        (State::Revoked, 8, Reason::ConsentRevoked),
        (State::Superseded, 9, Reason::ConsentSuperseded),
        (State::Expired, 10, Reason::ConsentExpired),
        (State::Paused, 11, Reason::ConsentPaused),
    ];
    for (state, rule, reason) in states {
        assert_eq!(
            ask(&question(), &well(), &Granted { state, ..consent(1) }),
            (rule, reason)
        );
    }
}

#[test]
fn rule_10_from_the_instant_of_its_end_it_permits_nothing_swept_or_not() {
    let at = |expire| ask(&question(), &well(), &Granted { expire, ..consent(1) });
    assert_eq!(at(NOW), (10, Reason::ConsentExpired));
    assert_eq!(at(Micros(NOW.0 + 1)), (0, Reason::Granted));
}

#[test]
fn rule_11_a_pause_ends_by_itself_at_its_time_swept_or_not() {
    let at = |resume| {
        let paused = Granted {
            state: State::Paused,
            resume: Some(Micros(resume)),
            ..consent(1)
        };
        let verdict = decide(&question(), &well(), &[&paused], NOW);
        (verdict.rule, verdict.retry)
    };
    assert_eq!(at(NOW.0 + 1), (11, Some(Micros(NOW.0 + 1))));
    assert_eq!(at(NOW.0), (0, None));
}

#[test]
fn rule_13_the_purpose_is_the_granted_one() {
    let other = Question {
        purpose: Some(PurposeCode::Hpaymt),
        ..question()
    };
    assert_eq!(ask(&other, &well(), &consent(1)), (13, Reason::PurposeNotGranted));
}

#[test]
fn rule_14_the_access_mode_is_granted() {
    let store = Question {
        access_mode: Some(AccessMode::Store),
        ..question()
    };
    assert_eq!(ask(&store, &well(), &consent(1)), (14, Reason::AccessModeNotGranted));
    let kept = Granted {
        scope: Scope {
            access_mode: AccessMode::Store,
            ..sample()
        },
        ..consent(1)
    };
    assert_eq!(ask(&question(), &well(), &kept), (0, Reason::Granted));
}

#[test]
fn rule_15_every_kind_of_record_is_granted() {
    let more = Question {
        hi_types: BTreeSet::from([HiType::Prescription, HiType::Invoice]),
        ..question()
    };
    assert_eq!(ask(&more, &well(), &consent(1)), (15, Reason::HiTypeNotGranted));
}

#[test]
fn rule_16_the_dates_lie_inside() {
    let early = Question {
        record_range: Range {
            from: Micros(999),
            to: Micros(1_300),
        },
        ..question()
    };
    assert_eq!(ask(&early, &well(), &consent(1)), (16, Reason::RecordRangeNotGranted));
}

#[test]
fn rule_17_care_contexts_are_granted_and_still_linked() {
    let named = Granted {
        scope: Scope {
            care_contexts: BTreeSet::from([[1; 32], [3; 32]]),
            ..sample()
        },
        ..consent(1)
    };
    let of = |key: u8| Question {
        care_contexts: BTreeSet::from([[key; 32]]),
        ..question()
    };
    assert_eq!(ask(&of(1), &well(), &named), (0, Reason::Granted));
    assert_eq!(ask(&of(2), &well(), &named), (17, Reason::CareContextNotGranted));
    assert_eq!(ask(&of(3), &well(), &named), (17, Reason::CareContextNotGranted));
    assert_eq!(ask(&of(3), &well(), &consent(1)), (17, Reason::CareContextNotGranted));
    assert_eq!(ask(&of(2), &well(), &consent(1)), (0, Reason::Granted));
}

#[test]
fn rule_18_a_bound_professional_looks_alone() {
    let bound = Granted {
        scope: Scope {
            bind_requester: true,
            ..sample()
        },
        ..consent(1)
    };
    assert_eq!(ask(&question(), &well(), &bound), (18, Reason::UserMismatch));
    let other = Question {
        user: Some(["REGNO".into(), "MH2".into(), "https://x".into()]),
        ..question()
    };
    assert_eq!(ask(&other, &well(), &bound), (18, Reason::UserMismatch));
    let she = Question {
        user: Some(bound.user.clone()),
        ..question()
    };
    assert_eq!(ask(&she, &well(), &bound), (0, Reason::Granted));
}

#[test]
fn rule_19_the_receiver_waits_for_the_hip_and_the_hip_does_not() {
    let fresh = Granted {
        acknowledged: false,
        ..consent(1)
    };
    let receiver = Question {
        asker: Asker::Participant(id("clinic")),
        ..question()
    };
    assert_eq!(ask(&receiver, &well(), &fresh), (19, Reason::ProviderNotAcknowledged));
    assert_eq!(ask(&question(), &well(), &fresh), (0, Reason::Granted));
}

#[test]
fn rule_20_uses_are_left() {
    let once = Granted {
        scope: Scope {
            max_uses: 1,
            ..sample()
        },
        ..consent(1)
    };
    assert_eq!(ask(&question(), &well(), &once), (0, Reason::Granted));
    let spent = Granted {
        uses: Uses {
            count: 1,
            window: 0,
            in_window: 1,
        },
        ..once
    };
    assert_eq!(ask(&question(), &well(), &spent), (20, Reason::UseLimitReached));
}

#[test]
fn rule_21_uses_are_left_in_this_window_and_it_says_when_to_come_back() {
    let hourly = Scope {
        frequency: Frequency {
            unit: Unit::Hour,
            value: 1,
            repeats: 0,
        },
        ..sample()
    };
    let spent = Granted {
        scope: hourly,
        uses: Uses {
            count: 1,
            window: 10,
            in_window: 1,
        },
        ..consent(1)
    };
    let verdict = decide(&question(), &well(), &[&spent], NOW);
    assert_eq!((verdict.rule, verdict.reason), (21, Reason::FrequencyExceeded));
    assert_eq!(verdict.retry, Some(Micros(NOW.0 + Unit::Hour.micros())));
    let over = Scope {
        frequency: Frequency {
            unit: Unit::Hour,
            value: 1,
            repeats: 2,
        },
        ..sample()
    };
    let verdict = decide(
        &question(),
        &well(),
        &[&Granted {
            scope: over,
            ..consent(1)
        }],
        NOW,
    );
    assert_eq!((verdict.reason, verdict.retry), (Reason::FrequencyExceeded, None));
}

#[test]
fn the_first_that_permits_wins_and_one_without_limits_is_spent_last() {
    let limited = Granted {
        scope: Scope {
            max_uses: 5,
            ..sample()
        },
        ..consent(1)
    };
    let longer = Granted {
        expire: Micros(NOW.0 * 20),
        ..consent(3)
    };
    let verdict = decide(&question(), &well(), &[&limited, &consent(2), &longer], NOW);
    assert_eq!(verdict.by, Some(2));
}

#[test]
fn of_all_that_deny_the_one_that_got_furthest_tells_why() {
    let revoked = Granted {
        state: State::Revoked,
        ..consent(1)
    };
    let spent = Granted {
        scope: Scope {
            max_uses: 1,
            ..sample()
        },
        uses: Uses {
            count: 1,
            window: 0,
            in_window: 1,
        },
        ..consent(2)
    };
    let verdict = decide(&question(), &well(), &[&revoked, &spent], NOW);
    assert_eq!((verdict.reason, verdict.by), (Reason::UseLimitReached, Some(1)));
}

#[test]
fn scopes_of_two_consents_are_never_added_up() {
    let with = |t| Granted {
        scope: Scope {
            hi_types: BTreeSet::from([t]),
            ..sample()
        },
        ..consent(t.number() as u8)
    };
    let both = Question {
        hi_types: BTreeSet::from([HiType::Prescription, HiType::Invoice]),
        ..question()
    };
    let verdict = decide(
        &both,
        &well(),
        &[&with(HiType::Prescription), &with(HiType::Invoice)],
        NOW,
    );
    assert_eq!(verdict.reason, Reason::HiTypeNotGranted);
}
