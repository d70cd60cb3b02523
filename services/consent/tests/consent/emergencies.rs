//! Emergencies: opened without her word, for hours, to look; told to her at once, limited, and reviewed.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::break_glass::{Emergency, Outcome};
use sammati_api::consent::v1::break_glass_service_server::BreakGlassService;
use sammati_api::consent::v1::check_access_request::Target;
use sammati_api::consent::v1::consent::{Origin, State};
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::policy::Effect;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, Caller, Reason};
use tonic::Response;

use crate::artefacts::{claims, fetch};
use crate::world::{DAY, HOUR, World, by, everywhere, operator, participant, professional, reason, refused};

pub(crate) fn opening(w: &World, address: &str) -> api::OpenBreakGlassRequest {
    api::OpenBreakGlassRequest {
        patient: address.to_owned(),
        hips: vec!["participants/hospital".into()],
        requester: Some(professional()),
        hi_types: vec![types::HiType::Prescription.into()],
        emergency: Emergency::Unconscious.into(),
        reason: "brought in unconscious and alone".into(),
        request_id: w.request_id(),
    }
}

pub(crate) async fn open(w: &World, request: api::OpenBreakGlassRequest) -> Result<Vec<api::Consent>, tonic::Status> {
    let opened = w.rpc().open_break_glass(by(&participant("clinic"), request)).await;
    opened.map(|answer| answer.into_inner().consents)
}

pub(crate) async fn review(
    w: &World,
    who: &Caller,
    name: &str,
    outcome: Outcome,
) -> Result<api::Consent, tonic::Status> {
    let request = api::ReviewBreakGlassRequest {
        name: name.to_owned(),
        etag: String::new(),
        outcome: outcome.into(),
        comment: "nobody was brought in that night".into(),
        request_id: w.request_id(),
    };
    w.rpc()
        .review_break_glass(by(who, request))
        .await
        .map(Response::into_inner)
}

/// What the clinic may, by the consent, for a purpose.
async fn may(w: &World, consent: &str, purpose: types::PurposeCode) -> api::Decision {
    let check = api::CheckAccessRequest {
        target: Some(Target::Consent(consent.to_owned())),
        provider: "participants/hospital".into(),
        purpose: purpose.into(),
        access_mode: types::AccessMode::View.into(),
        hi_types: vec![types::HiType::Prescription.into()],
        record_range: Some(types::TimeRange {
            from: w.at(-100 * DAY),
            to: w.at(-DAY),
        }),
        user: Some(professional()),
        ..Default::default()
    };
    let answer = w.rpc().check_access(by(&participant("clinic"), check)).await;
    answer.unwrap().into_inner()
}

async fn told(w: &World, who: &Caller, kind: Kind) -> usize {
    let all = w.notifications(who).await;
    all.iter().filter(|n| n.kind() == kind).count()
}

/// She shuts emergencies off at these HIPs.
async fn shut(w: &World, account: AccountId, hips: Vec<String>) {
    let policy = api::CreatePolicyRequest {
        effect: Effect::Deny.into(),
        purposes: vec![types::PurposeCode::Btg.into()],
        hips,
        request_id: w.request_id(),
        ..Default::default()
    };
    w.rpc().create_policy(by(&w.she(account), policy)).await.unwrap();
}

#[test]
fn an_emergency_opens_for_four_hours_to_look_and_everybody_is_told() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let request = opening(&w, "asha.rao@sbx");
        let opened = open(&w, request.clone()).await.unwrap();
        assert_eq!(open(&w, request).await.unwrap()[0].name, opened[0].name, "a repeat");
        let consent = &opened[0];
        assert_eq!(
            (consent.origin(), consent.state()),
            (Origin::BreakGlass, State::Granted)
        );
        assert_eq!(consent.effective_expire_time, w.at(4 * HOUR));
        let glass = consent.break_glass.as_ref().unwrap();
        assert_eq!(
            (glass.emergency(), glass.review()),
            (Emergency::Unconscious, Outcome::Unspecified)
        );
        assert!(consent.requester.as_ref().unwrap().verified);

        w.acknowledge_all("hospital").await;
        let permit = may(&w, &consent.name, types::PurposeCode::Btg).await;
        assert_eq!(permit.reason(), api::decision::Reason::Granted);
        assert!(permit.obligations.unwrap().show_break_glass_banner);
        let care = may(&w, &consent.name, types::PurposeCode::Caremgt).await;
        assert_eq!(care.reason(), api::decision::Reason::PurposeNotGranted);

        for who in [w.she(account), operator()] {
            assert_eq!(told(&w, &who, Kind::BreakGlassOpened).await, 1);
        }
        assert_eq!(w.count("access.break_glass").await, 1);
        // She reads why; it is nowhere in the feed.
        let name = consent.name.clone();
        let read = w
            .rpc()
            .get_consent(by(&w.she(account), api::GetConsentRequest { name }))
            .await;
        let read = read.unwrap().into_inner().break_glass.unwrap();
        assert_eq!(read.reason, "brought in unconscious and alone");
        assert!(!format!("{:?}", w.events().await).contains("unconscious and alone"));

        // Both copies say what it is, and that it is no word of hers.
        let artefact = fetch(&w, &participant("clinic"), &consent.name, Audience::Hiu)
            .await
            .unwrap();
        let claims = claims(&w, &artefact).await;
        assert_eq!(
            (&claims["origin"], &claims["granted_by"]["kind"]),
            (&"BREAK_GLASS".into(), &"HIU".into())
        );

        // C2: by the clock.
        w.advance(4 * HOUR);
        let late = may(&w, &consent.name, types::PurposeCode::Btg).await;
        assert_eq!(late.reason(), api::decision::Reason::ConsentExpired);
    });
}

#[test]
fn z1_nobody_learns_why_the_glass_does_not_break() {
    everywhere(|w| async move {
        let known = w.person("asha.rao@sbx");
        let closed: AccountId = w.person("leela.rao@sbx");
        w.people.inactive.lock().unwrap().insert(closed);
        let mut quack = opening(&w, "asha.rao@sbx");
        quack.requester.as_mut().unwrap().identifier.as_mut().unwrap().value = "MH9999".into();
        // She has shut it off, for emergencies alone, at this hospital.
        let shy = w.person("mira.rao@sbx");
        shut(&w, shy, vec!["participants/hospital".into()]).await;
        let mut faces = Vec::new();
        let others = ["nobody.there@sbx", "leela.rao@sbx", "mira.rao@sbx"].map(|address| opening(&w, address));
        for request in std::iter::once(quack).chain(others) {
            faces.push(refused(open(&w, request).await));
        }
        assert!(faces.iter().all(|face| *face == faces[0]), "{faces:?}");
        assert_eq!(faces[0].reason, Reason::BreakGlassRefused);
        // Each is on record, hers in her own log.
        let tried = w.events().await;
        let tried: Vec<_> = tried.iter().filter(|e| e.event_type == "access.break_glass").collect();
        assert_eq!(tried.len(), 4);
        assert!(tried.iter().all(|e| e.reason_code == "BREAK_GLASS_REFUSED"));
        for account in [known, shy] {
            let hers = tried
                .iter()
                .filter(|e| e.payload.as_ref().unwrap().subject == account.name());
            assert_eq!(hers.count(), 1);
        }
        // Nothing was opened, and nothing of it is held against the professional.
        for n in 0..5 {
            let address = format!("person.{n}@sbx");
            w.person(&address);
            open(&w, opening(&w, &address)).await.unwrap();
        }
        // Over the limit nobody's address looks like anybody else's.
        for address in ["asha.rao@sbx", "nobody.there@sbx", "mira.rao@sbx"] {
            assert_eq!(reason(open(&w, opening(&w, address)).await), Reason::BreakGlassLimit);
        }
    });
}

#[test]
fn what_she_shuts_off_stops_what_is_open_and_elsewhere_opens_still() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let consent = open(&w, opening(&w, "asha.rao@sbx")).await.unwrap().remove(0);
        w.acknowledge_all("hospital").await;
        let permit = may(&w, &consent.name, types::PurposeCode::Btg).await;
        assert_eq!(permit.reason(), api::decision::Reason::Granted);
        shut(&w, account, vec!["participants/hospital".into()]).await;
        // On every replica; who would look is told what a stranger is told.
        for _ in 0..4 {
            let denied = may(&w, &consent.name, types::PurposeCode::Btg).await;
            assert_eq!(denied.reason(), api::decision::Reason::NoConsent);
        }
        let mut both = opening(&w, "asha.rao@sbx");
        both.hips.push("participants/lab".into());
        assert_eq!(reason(open(&w, both).await), Reason::BreakGlassRefused);
        let mut elsewhere = opening(&w, "asha.rao@sbx");
        elsewhere.hips = vec!["participants/lab".into()];
        assert_eq!(open(&w, elsewhere).await.unwrap().len(), 1);
    });
}

#[test]
fn a_reason_is_needed_and_openings_are_limited() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let mut short = opening(&w, "asha.rao@sbx");
        short.reason = "urgent".into();
        assert_eq!(reason(open(&w, short).await), Reason::ReasonRequired);
        // Once, and once more in a day, of one patient.
        for _ in 0..2 {
            open(&w, opening(&w, "asha.rao@sbx")).await.unwrap();
        }
        assert_eq!(
            reason(open(&w, opening(&w, "asha.rao@sbx")).await),
            Reason::BreakGlassLimit
        );
        w.advance(DAY);
        open(&w, opening(&w, "asha.rao@sbx")).await.unwrap();
        // Five open of one professional.
        for n in 0..5 {
            let address = format!("person.{n}@sbx");
            w.person(&address);
            let answer = open(&w, opening(&w, &address)).await;
            assert_eq!(answer.is_ok(), n < 4, "{n}: {answer:?}");
        }
    });
}

#[test]
fn c4_misuse_takes_back_at_once_and_is_said_once() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let consent = open(&w, opening(&w, "asha.rao@sbx")).await.unwrap().remove(0);
        w.acknowledge_all("hospital").await;
        let stranger = w.she(w.person("leela.rao@sbx"));
        assert_eq!(
            reason(review(&w, &stranger, &consent.name, Outcome::Disputed).await),
            Reason::NotAvailable
        );
        assert_eq!(
            reason(review(&w, &she, &consent.name, Outcome::Misuse).await),
            Reason::FieldInvalid
        );
        let disputed = review(&w, &she, &consent.name, Outcome::Disputed).await.unwrap();
        assert_eq!(disputed.state(), State::Granted);
        assert_eq!(
            disputed.break_glass.unwrap().dispute,
            "nobody was brought in that night"
        );
        let reviewed = review(&w, &operator(), &consent.name, Outcome::Misuse).await.unwrap();
        assert_eq!(reviewed.state(), State::Revoked);
        assert_eq!(reviewed.break_glass.unwrap().review(), Outcome::Misuse);
        // On every replica.
        for _ in 0..4 {
            let denied = may(&w, &consent.name, types::PurposeCode::Btg).await;
            assert_eq!(denied.reason(), api::decision::Reason::ConsentRevoked);
        }
        for (who, outcome) in [(&she, Outcome::Disputed), (&operator(), Outcome::Upheld)] {
            assert_eq!(
                reason(review(&w, who, &consent.name, outcome).await),
                Reason::ReviewDone
            );
        }
        assert_eq!(
            (
                w.count("access.break_glass_reviewed").await,
                w.count("consent.withdrawn").await
            ),
            (2, 1)
        );
    });
}

#[test]
fn a_consent_that_she_gave_is_not_reviewed() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        assert_eq!(
            reason(review(&w, &she, &consent.name, Outcome::Disputed).await),
            Reason::NotAvailable
        );
        assert_eq!(
            reason(review(&w, &operator(), &consent.name, Outcome::Upheld).await),
            Reason::NotFound
        );
    });
}
