//! Emergencies: opened without her word, for hours, to look; told to her at once, limited, and reviewed.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::acknowledge_notifications_request::Outcome::Ok as TakenIn;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::break_glass::{Emergency, Outcome};
use sammati_api::consent::v1::break_glass_service_server::BreakGlassService;
use sammati_api::consent::v1::check_access_request::Target;
use sammati_api::consent::v1::consent::{Origin, State};
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_api::consent::v1::policy::Effect;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::types::v1 as types;
use sammati_consent::rows::ConsentRow;
use sammati_consent::sweep;
use sammati_kernel::{AccountId, Caller, ConsentId, Peer, Reason};
use tonic::Response;

use crate::artefacts::{claims, fetch};
use crate::proving::receipt;
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
        // Verified is whom identity knows, not what was said of her name.
        let requester = consent.requester.as_ref().unwrap();
        assert!(requester.verified);
        assert_eq!(requester.name, "Dr Manju Nair");

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

        // And so does her receipt.
        let receipt = receipt(&w, &w.she(account), &consent.name).await.unwrap();
        let record: serde_json::Value = serde_json::from_str(&receipt.json).unwrap();
        assert_eq!(record["purposes"][0]["lawful_basis"], "medical emergency");
        assert_eq!(record["given_by"]["kind"], "HIU");
        assert_eq!(record["events"][0]["event_type"], "opened-in-an-emergency");

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
        // The number of another registry.
        let mut elsewhere = opening(&w, "asha.rao@sbx");
        elsewhere
            .requester
            .as_mut()
            .unwrap()
            .identifier
            .as_mut()
            .unwrap()
            .system = "https://other.example".into();
        // She has shut it off, for emergencies alone, at this hospital.
        let shy = w.person("mira.rao@sbx");
        shut(&w, shy, vec!["participants/hospital".into()]).await;
        let mut faces = Vec::new();
        let others = ["nobody.there@sbx", "leela.rao@sbx", "mira.rao@sbx"].map(|address| opening(&w, address));
        for request in [quack, elsewhere].into_iter().chain(others) {
            faces.push(refused(open(&w, request).await));
        }
        assert!(faces.iter().all(|face| *face == faces[0]), "{faces:?}");
        assert_eq!(faces[0].reason, Reason::BreakGlassRefused);
        // Each is on record, hers in her own log.
        let tried = w.events().await;
        let tried: Vec<_> = tried.iter().filter(|e| e.event_type == "access.break_glass").collect();
        assert_eq!(tried.len(), 5);
        assert!(tried.iter().all(|e| e.reason_code == "BREAK_GLASS_REFUSED"));
        // There is no consent that they would be part of: they are kept as long as any access that was refused.
        assert!(tried.iter().all(|e| e.class() == types::RetentionClass::Access));
        for (account, times) in [(known, 2), (shy, 1)] {
            let hers = tried
                .iter()
                .filter(|e| e.payload.as_ref().unwrap().subject == account.name());
            assert_eq!(hers.count(), times);
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
fn a_refused_opening_costs_nothing_and_no_spelling_gives_more() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        for _ in 0..2 {
            open(&w, opening(&w, "asha.rao@sbx")).await.unwrap();
        }
        // Refused for the patient's sake, again and again.
        for _ in 0..4 {
            let refused = refused(open(&w, opening(&w, "asha.rao@sbx")).await);
            assert_eq!(refused.reason, Reason::BreakGlassLimit);
            assert!(
                refused.retry_after.unwrap().as_secs() > 5 * 3600,
                "of the patient, not of the professional"
            );
        }
        // Three are left, and one more under no other spelling.
        for n in 0..4 {
            let address = format!("person.{n}@sbx");
            w.person(&address);
            let mut request = opening(&w, &address);
            request.requester.as_mut().unwrap().identifier.as_mut().unwrap().r#type = format!("REG{n}");
            let answer = open(&w, request).await;
            assert_eq!(answer.is_ok(), n < 3, "{n}: {answer:?}");
        }
    });
}

#[test]
fn a_review_that_is_due_is_called_to_mind_once() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let reviewed = open(&w, opening(&w, "asha.rao@sbx")).await.unwrap().remove(0);
        let forgotten = open(&w, opening(&w, "asha.rao@sbx")).await.unwrap().remove(0);
        review(&w, &operator(), &reviewed.name, Outcome::Upheld).await.unwrap();
        // A word of hers is no review.
        let she = w.she(account);
        let disputed = review(&w, &she, &forgotten.name, Outcome::Disputed).await.unwrap();
        let due = async || {
            for (_, store) in &w.replicas {
                sweep::sweep(store).await.unwrap();
            }
            told(&w, &operator(), Kind::BreakGlassReviewDue).await
        };
        w.advance(7 * DAY - 1);
        assert_eq!(due().await, 0);
        w.advance(1);
        for _ in 0..2 {
            assert_eq!(due().await, 1);
        }
        let all = w.notifications(&operator()).await;
        let reminder = all.iter().find(|n| n.kind() == Kind::BreakGlassReviewDue).unwrap();
        assert_eq!(reminder.resource, forgotten.name);
        assert_eq!(told(&w, &she, Kind::BreakGlassReviewDue).await, 0);
        assert_eq!(w.count("access.break_glass_review_due").await, 1);
        // Whoever had begun to review it goes on.
        let now = w.consent(&operator(), &forgotten.name).await;
        assert!(now.state() == State::Expired && disputed.state() == State::Granted);
        let request = api::ReviewBreakGlassRequest {
            name: forgotten.name,
            etag: now.etag,
            outcome: Outcome::Upheld.into(),
            comment: "she was brought in that night".into(),
            request_id: w.request_id(),
        };
        w.rpc().review_break_glass(by(&operator(), request)).await.unwrap();
        // What code without reminders left in the index is taken out: it is written once more, and nothing is told.
        let id = ConsentId::parse_name(&reviewed.name).unwrap();
        let written = async || {
            let read = w.store().read(move |r| r.get::<ConsentRow>(id.slot(), id.as_bytes()));
            read.await.unwrap().unwrap().version
        };
        let (before, events) = (written().await, w.events().await.len());
        w.store().apply(sweep::Expire(sweep::Due::Review(id))).await.unwrap();
        assert_eq!((written().await, w.events().await.len()), (before + 1, events));
    });
}

#[test]
fn one_operator_takes_in_for_all_what_operators_are_told() {
    everywhere(|w| async move {
        let other = Caller {
            peer: Peer::Operator("ravi".into()),
            actor: None,
        };
        let pending = async |who: &Caller| {
            let pending = api::ListNotificationsRequest {
                unacknowledged: true,
                ..Default::default()
            };
            let listed = w.rpc().list_notifications(by(who, pending)).await.unwrap();
            let listed = listed.into_inner().notifications.into_iter();
            listed.map(|n| n.name).collect::<Vec<_>>()
        };
        let take = async |who: &Caller, names: Vec<String>, up_to: String| {
            let message = api::AcknowledgeNotificationsRequest {
                names,
                up_to,
                outcome: TakenIn.into(),
                request_id: w.request_id(),
                ..Default::default()
            };
            let done = w.rpc().acknowledge_notifications(by(who, message)).await;
            done.map(|done| done.into_inner().acknowledged_count)
        };
        w.person("asha.rao@sbx");
        for _ in 0..2 {
            open(&w, opening(&w, "asha.rao@sbx")).await.unwrap();
        }
        let mut told = pending(&other).await;
        assert_eq!(told.len(), 2);
        let names = vec![told.pop().unwrap()];
        let foreign = take(&participant("clinic"), names.clone(), String::new()).await;
        assert_eq!(reason(foreign), Reason::NotificationUnknown);
        assert_eq!(take(&operator(), names.clone(), String::new()).await.unwrap(), 1);
        assert_eq!(take(&other, names, String::new()).await.unwrap(), 0);
        assert_eq!(pending(&other).await, told);
        let place = w.notifications(&other).await.pop().unwrap().position;
        assert_eq!(take(&other, Vec::new(), place).await.unwrap(), 1);
        assert!(pending(&operator()).await.is_empty());
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
