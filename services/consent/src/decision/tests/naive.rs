//! The rules against a second formulation of them, on random questions.

use proptest::prelude::*;

use super::*;

/// Whether she denies it: whom, where, what for and what of all fit one of her denials.
fn blocked(q: &Question, w: &World, c: &Granted) -> bool {
    let mut hits = 0;
    for b in &w.blocks {
        let whom = b.hiu.is_none() || b.hiu == Some(c.hiu.clone());
        let place = b.hips.is_empty() || b.hips.iter().any(|h| *h == c.hip);
        let purpose = b.purposes.is_empty() || b.purposes.iter().any(|p| *p == c.scope.purpose);
        let what = match (q.care_contexts.is_empty(), c.scope.care_contexts.is_empty()) {
            _ if b.care_contexts.is_empty() => true,
            (true, true) => true,
            (true, false) => c.scope.care_contexts.intersection(&b.care_contexts).count() > 0,
            (false, _) => q.care_contexts.intersection(&b.care_contexts).count() > 0,
        };
        hits += i32::from(whom && place && purpose && what);
    }
    hits > 0
}

/// Whether the asker may know of the consent.
fn knows(q: &Question, w: &World, c: &Granted) -> bool {
    match &q.asker {
        Asker::Participant(me) => *me == c.hip || (*me == c.hiu && c.study.is_none() && !blocked(q, w, c)),
        Asker::Person(me) => *me == c.subject,
        Asker::Service => true,
    }
}

/// The rules once more: all of them for every consent, then the lowest that fails, then the best consent.
fn naive(q: &Question, w: &World, consents: &[Granted]) -> (Reason, Option<ConsentId>) {
    let known: Vec<&Granted> = consents.iter().filter(|c| knows(q, w, c)).collect();
    let asks = |who: &ParticipantId, purpose: Option<PurposeCode>| match purpose {
        Some(PurposeCode::Caremgt | PurposeCode::Btg | PurposeCode::Pubhlth | PurposeCode::Hpaymt) | None => {
            w.is_active_as(who, Role::Hiu)
        }
        Some(_) => false,
    };
    if q.requester.as_ref().is_some_and(|r| !asks(r, q.purpose)) {
        return (Reason::RequesterNotActive, None);
    }
    if q.provider.as_ref().is_some_and(|p| !w.is_active_as(p, Role::Hip)) {
        return (Reason::ProviderNotActive, None);
    }
    let mut best: Option<(i32, (bool, i64, ConsentId), Reason)> = None;
    for c in known {
        let used = if c.granted.0 + (c.uses.window + 1) * c.scope.frequency.unit.micros() > NOW.0
            && c.granted.0 + c.uses.window * c.scope.frequency.unit.micros() <= NOW.0
        {
            c.uses.in_window
        } else {
            0
        };
        let passed = (NOW.0 - c.granted.0) / c.scope.frequency.unit.micros();
        let f = c.scope.frequency;
        let lacks = |k: &ContextKey| {
            !w.linked.contains(k) || (!c.scope.care_contexts.is_empty() && !c.scope.care_contexts.contains(k))
        };
        let missing = q.hi_types.iter().any(|t| !c.scope.hi_types.contains(t));
        let outside = q.record_range.from < c.scope.record_range.from || q.record_range.to > c.scope.record_range.to;
        let lacking = q.care_contexts.iter().any(lacks);
        let permit = if missing || outside || lacking {
            Reason::GrantedReduced
        } else {
            Reason::Granted
        };
        let fails = [
            (
                2,
                !asks(
                    q.requester.as_ref().unwrap_or(&c.hiu),
                    q.purpose.or(Some(c.scope.purpose)),
                ),
                Reason::RequesterNotActive,
            ),
            (
                3,
                !w.is_active_as(q.provider.as_ref().unwrap_or(&c.hip), Role::Hip),
                Reason::ProviderNotActive,
            ),
            (5, q.requester.iter().any(|r| *r != c.hiu), Reason::RequesterMismatch),
            (5, q.provider.iter().any(|p| *p != c.hip), Reason::ProviderMismatch),
            (6, !w.her_active, Reason::SubjectInactive),
            (7, blocked(q, w, c), Reason::BlockedBySubject),
            (8, c.state == State::Revoked, Reason::ConsentRevoked),
            (9, c.state == State::Superseded, Reason::ConsentSuperseded),
            (10, c.state == State::Expired || c.expire <= NOW, Reason::ConsentExpired),
            (
                11,
                c.state == State::Paused && c.resume.is_none_or(|at| at > NOW),
                Reason::ConsentPaused,
            ),
            (
                12,
                c.study
                    .is_some_and(|s| w.studies.iter().all(|(known, until)| *known != s || *until <= NOW)),
                Reason::StudyNotActive,
            ),
            (
                13,
                q.purpose.is_some_and(|p| p != c.scope.purpose),
                Reason::PurposeNotGranted,
            ),
            (
                14,
                q.access_mode.is_some_and(|m| {
                    m != c.scope.access_mode && !(m == AccessMode::View && c.scope.access_mode == AccessMode::Store)
                }),
                Reason::AccessModeNotGranted,
            ),
            (
                15,
                if q.allow_reduced {
                    !q.hi_types.is_empty() && q.hi_types.iter().all(|t| !c.scope.hi_types.contains(t))
                } else {
                    missing
                },
                Reason::HiTypeNotGranted,
            ),
            (
                16,
                if q.allow_reduced {
                    q.record_range.from >= c.scope.record_range.to || q.record_range.to <= c.scope.record_range.from
                } else {
                    outside
                },
                Reason::RecordRangeNotGranted,
            ),
            (
                17,
                if q.allow_reduced {
                    !q.care_contexts.is_empty() && q.care_contexts.iter().all(lacks)
                } else {
                    lacking
                },
                Reason::CareContextNotGranted,
            ),
            (
                18,
                c.scope.bind_requester && q.user != Some(c.user.clone()),
                Reason::UserMismatch,
            ),
            (
                19,
                q.asker == Asker::Participant(c.hiu.clone()) && c.hiu != c.hip && !c.acknowledged,
                Reason::ProviderNotAcknowledged,
            ),
            (
                20,
                !q.has_use && c.scope.max_uses > 0 && c.uses.count >= i64::from(c.scope.max_uses),
                Reason::UseLimitReached,
            ),
            (
                21,
                !q.has_use
                    && ((f.value > 0 && used >= i64::from(f.value))
                        || (f.repeats > 0 && passed > i64::from(f.repeats))),
                Reason::FrequencyExceeded,
            ),
        ];
        let (rule, reason) = fails
            .iter()
            .find(|(_, fails, _)| *fails)
            .map_or((99, permit), |(n, _, r)| (*n, *r));
        let limited = c.scope.max_uses > 0 || f.value > 0 || f.repeats > 0;
        let order = (limited, -c.expire.0, c.id);
        let better = match &best {
            None => true,
            Some((r, o, _)) => rule > *r || (rule == *r && order < *o),
        };
        if better {
            best = Some((rule, order, reason));
        }
    }
    best.map_or((Reason::NoConsent, None), |(_, (_, _, id), reason)| (reason, Some(id)))
}

fn world() -> impl Strategy<Value = World> {
    let somebody = prop::sample::select(vec![
        "clinic".to_owned(),
        "hospital".into(),
        "nobody".into(),
        "nobody".into(),
        "nobody".into(),
    ]);
    let block = (
        prop::sample::select(vec![None, Some(id("clinic")), Some(id("clinic2"))]),
        prop::sample::select(vec!["", "hospital", "hospital2"]),
        prop::sample::select(vec![None, Some(PurposeCode::Caremgt), Some(PurposeCode::Btg)]),
        prop::collection::btree_set((1..4_u8).prop_map(|n| [n; 32]), 0..2),
    );
    let block = block.prop_map(|(hiu, hip, purpose, care_contexts)| Block {
        hiu,
        hips: Some(hip).filter(|hip| !hip.is_empty()).map(id).into_iter().collect(),
        purposes: purpose.into_iter().collect(),
        care_contexts,
    });
    let blocks = prop::collection::vec(block, 0..2);
    (somebody, prop::bool::weighted(0.9), blocks).prop_map(|(who, her_active, blocks)| World {
        inactive: BTreeSet::from([who]),
        her_active,
        blocks,
        ..well()
    })
}

fn questions() -> impl Strategy<Value = Question> {
    let askers = vec![
        Asker::Participant(id("hospital")),
        Asker::Participant(id("clinic")),
        Asker::Participant(id("clinic2")),
        Asker::Person(her()),
        Asker::Service,
    ];
    let requester = prop::sample::select(vec![None, Some(id("clinic")), Some(id("clinic")), Some(id("clinic2"))]);
    let provider = prop::sample::select(vec![
        None,
        Some(id("hospital")),
        Some(id("hospital")),
        Some(id("hospital2")),
    ]);
    let purpose = prop::sample::select(vec![
        None,
        Some(PurposeCode::Caremgt),
        Some(PurposeCode::Caremgt),
        Some(PurposeCode::Hpaymt),
        Some(PurposeCode::Patrqt),
    ]);
    let mode = prop::sample::select(vec![
        None,
        Some(AccessMode::View),
        Some(AccessMode::View),
        Some(AccessMode::Store),
    ]);
    let types = prop::collection::btree_set(prop::sample::select(HiType::ALL[..3].to_vec()), 0..3);
    let contexts = prop::collection::btree_set((1..4_u8).prop_map(|n| [n; 32]), 0..3);
    let rest = (
        types,
        900..1_300_i64,
        contexts,
        any::<bool>(),
        (prop::bool::weighted(0.2), prop::bool::weighted(0.3)),
    );
    (prop::sample::select(askers), requester, provider, purpose, mode, rest).prop_map(
        |(
            asker,
            requester,
            provider,
            purpose,
            access_mode,
            (hi_types, from, care_contexts, user, (has_use, allow_reduced)),
        )| Question {
            asker,
            requester,
            provider,
            user: user.then(|| consent(1).user),
            purpose,
            access_mode,
            hi_types,
            record_range: Range {
                from: Micros(from),
                to: Micros(from + 100),
            },
            care_contexts,
            has_use,
            allow_reduced,
        },
    )
}

fn grants() -> impl Strategy<Value = Granted> {
    let state = prop::sample::select(vec![
        State::Granted,
        State::Granted,
        State::Granted,
        State::Paused,
        State::Revoked,
        State::Expired,
        State::Superseded,
    ]);
    let expire = prop::sample::select(vec![NOW.0 - 1, NOW.0, NOW.0 + 1, NOW.0 * 2, NOW.0 * 2]);
    let limits = (
        0..3_i32,
        0..3_i32,
        prop::sample::select(vec![0, 0, 5, 30]),
        0..4_i64,
        8..12_i64,
        0..3_i64,
    );
    let mode = prop::sample::select(vec![AccessMode::View, AccessMode::Store]);
    let contexts = prop::collection::btree_set((1..4_u8).prop_map(|n| [n; 32]), 0..2);
    let purpose = prop::sample::select(vec![
        PurposeCode::Caremgt,
        PurposeCode::Caremgt,
        PurposeCode::Hpaymt,
        PurposeCode::Patrqt,
    ]);
    (
        1..200_u8,
        state,
        expire,
        limits,
        (mode, contexts, purpose),
        (
            any::<bool>(),
            prop::sample::select(vec![None, Some(NOW.0), Some(NOW.0 + 1)]),
            prop::sample::select(vec![None, None, Some(1), Some(2), Some(3)]),
        ),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(
                n,
                state,
                expire,
                (max_uses, value, repeats, count, window, in_window),
                (access_mode, care_contexts, purpose),
                (acknowledged, resume, of),
                bind_requester,
            )| {
                let frequency = Frequency {
                    unit: Unit::Hour,
                    value,
                    repeats,
                };
                let scope = Scope {
                    max_uses,
                    frequency,
                    access_mode,
                    care_contexts,
                    purpose,
                    bind_requester,
                    ..sample()
                };
                Granted {
                    state,
                    expire: Micros(expire),
                    resume: resume.map(Micros),
                    scope,
                    acknowledged,
                    study: of.map(study),
                    uses: Uses {
                        count,
                        window,
                        in_window,
                    },
                    ..consent(n)
                }
            },
        )
}

/// How many random cases: PROPTEST_CASES, or `usually`.
fn cases(usually: u32) -> u32 {
    let told = ProptestConfig::default().cases;
    // What it is when nobody says otherwise.
    if told == 256 { usually } else { told }
}

/// Of each case below: each question is asked in each world of each list of consents. Making them takes far longer than
/// deciding, most of all in a build without optimization.
const QUESTIONS: usize = 8;
const WORLDS: usize = 4;
const LISTS: usize = 8;

/// So many that a million decisions are compared.
const MILLION: u32 = 1_000_000_u32.div_ceil((QUESTIONS * WORLDS * LISTS) as u32);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(MILLION)))]
    #[test]
    fn both_formulations_of_the_rules_agree_in_a_million_cases(
        questions in prop::collection::vec(questions(), QUESTIONS),
        worlds in prop::collection::vec(world(), WORLDS),
        lists in prop::collection::vec(prop::collection::vec(grants(), 0..4), LISTS),
    ) {
        for consents in &lists {
            let refs: Vec<&Granted> = consents.iter().collect();
            for (question, world) in questions.iter().flat_map(|q| worlds.iter().map(move |w| (q, w))) {
                let verdict = decide(question, world, &refs, NOW);
                let told = (verdict.reason, verdict.by.map(|place| consents[place].id));
                prop_assert_eq!(told, naive(question, world, consents), "{:?} {:?} {:?}", question, world, consents);
            }
        }
    }
}

/// As many as such a build decides in seconds.
const SOME: u32 = 100_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(SOME)))]
    #[test]
    fn an_explanation_is_the_decision_with_every_rule_told(question in questions(), world in world(), consents in prop::collection::vec(grants(), 0..4)) {
        let refs: Vec<&Granted> = consents.iter().collect();
        let verdict = decide(&question, &world, &refs, NOW);
        let (explained, parts) = explain::explain(&question, &world, &refs, NOW);
        prop_assert_eq!(explained, verdict);
        let known = consents.iter().filter(|consent| knows(&question, &world, consent)).count();
        prop_assert_eq!(parts.len(), 1 + known);
        for part in &parts[1..] {
            // 2, 3, twice 5, 6 to 11, 13 to 21; and 12 of what was given to a study.
            let studies = part.place.is_some_and(|place| consents[place].study.is_some());
            prop_assert_eq!(part.rules.len(), 19 + usize::from(studies));
            let chosen = part.place == verdict.by && parts[0].failed().is_none();
            if chosen && !verdict.permits() {
                prop_assert_eq!(part.failed().map(|judged| judged.reason), Some(verdict.reason));
            }
        }
    }

    #[test]
    fn a_reduced_permit_is_a_part_of_the_question_that_is_permitted_whole(question in questions(), world in world(), consents in prop::collection::vec(grants(), 1..4)) {
        let refs: Vec<&Granted> = consents.iter().collect();
        let verdict = decide(&question, &world, &refs, NOW);
        if verdict.is_reduced() {
            let by = refs[verdict.by.unwrap()];
            let part = reduce::permitted(&question, &world, by);
            let whole = Question {
                hi_types: part.hi_types,
                record_range: part.record_range,
                care_contexts: part.care_contexts,
                allow_reduced: false,
                ..question
            };
            prop_assert_eq!(decide(&whole, &world, &[by], NOW).reason, Reason::Granted);
        }
    }

    #[test]
    fn what_is_permitted_lies_inside_the_consent_that_permits_it(question in questions(), world in world(), consents in prop::collection::vec(grants(), 0..4)) {
        let refs: Vec<&Granted> = consents.iter().collect();
        let verdict = decide(&question, &world, &refs, NOW);
        if verdict.permits() {
            let by = &consents[verdict.by.unwrap()];
            let is_over = by.resume.is_some_and(|at| at <= NOW);
            prop_assert!(by.state == State::Granted || (by.state == State::Paused && is_over));
            prop_assert!(NOW < by.expire);
            prop_assert!(by.study.is_none_or(|of| of == study(1)));
            let whole = question.hi_types.is_subset(&by.scope.hi_types)
                && by.scope.record_range.contains(question.record_range);
            prop_assert!(whole || question.allow_reduced);
        }
    }
}
