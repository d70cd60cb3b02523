//! Scan and share.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::profile_share::{Intent, State};
use sammati_api::consent::v1::profile_share_service_server::ProfileShareService;
use sammati_consent::sweep;
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::world::{World, by, everywhere, participant, reason, refused};

pub(crate) fn sharing(w: &World, address: &str) -> api::CreateProfileShareRequest {
    let tries = w.tries(address, 1990);
    api::CreateProfileShareRequest {
        hip: "participants/hospital".into(),
        counter: "OPD1".into(),
        intent: Intent::ProfileShare.into(),
        profile: Some(api::SharedProfile {
            identifier: tries.identifier,
            demographics: tries.demographics,
            day_of_birth: 7,
            month_of_birth: 3,
            address: "12 Lake Road, Pune".into(),
        }),
        request_id: w.request_id(),
    }
}

pub(crate) async fn share(
    w: &World,
    she: &Caller,
    message: api::CreateProfileShareRequest,
) -> Result<api::ProfileShare, Status> {
    let shared = w.rpc().create_profile_share(by(she, message)).await;
    shared.map(Response::into_inner)
}

pub(crate) async fn read(w: &World, who: &Caller, name: &str) -> Result<api::ProfileShare, Status> {
    let name = name.to_owned();
    let read = w
        .rpc()
        .get_profile_share(by(who, api::GetProfileShareRequest { name }))
        .await;
    read.map(Response::into_inner)
}

async fn acknowledge(w: &World, who: &str, name: &str) -> Result<api::ProfileShare, Status> {
    let message = api::AcknowledgeProfileShareRequest {
        name: name.to_owned(),
        token_number: "A-17".into(),
        etag: String::new(),
        request_id: w.request_id(),
    };
    let acknowledged = w.rpc().acknowledge_profile_share(by(&participant(who), message)).await;
    acknowledged.map(Response::into_inner)
}

#[test]
fn share_patient_profile_701_she_scans_and_gets_her_number() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let message = sharing(&w, "asha.rao@sbx");
        let sent = share(&w, &she, message.clone()).await.unwrap();
        assert_eq!(share(&w, &she, message).await.unwrap().name, sent.name);
        let told = w.notifications(&participant("hospital")).await;
        assert_eq!(
            (told.len(), told[0].kind(), &told[0].resource),
            (1, Kind::ProfileShared, &sent.name)
        );
        let seen = read(&w, &participant("hospital"), &sent.name).await.unwrap();
        let profile = seen.profile.clone().unwrap();
        assert_eq!(
            (profile.demographics.unwrap().name.as_str(), profile.day_of_birth),
            ("Asha Rao", 7)
        );
        assert_eq!((seen.counter.as_str(), seen.state()), ("OPD1", State::Sent));
        w.advance(29);
        assert_eq!(reason(acknowledge(&w, "lab", &sent.name).await), Reason::NotAvailable);
        let answered = acknowledge(&w, "hospital", &sent.name).await.unwrap();
        assert_eq!(
            (answered.state(), answered.token_number.as_str()),
            (State::Acknowledged, "A-17")
        );
        let conflict = refused(acknowledge(&w, "hospital", &sent.name).await);
        assert_eq!(
            (conflict.reason, conflict.metadata[0].1.as_str()),
            (Reason::StateConflict, "ACKNOWLEDGED")
        );
        assert_eq!(read(&w, &she, &sent.name).await.unwrap().token_number, "A-17");
        assert_eq!(
            w.notifications(&she).await.last().unwrap().kind(),
            Kind::ProfileShareAnswered
        );
        // The number is good for half an hour.
        w.advance(30 * 60 - 1);
        assert_eq!(read(&w, &she, &sent.name).await.unwrap().state(), State::Acknowledged);
        w.advance(1);
        assert_eq!(read(&w, &she, &sent.name).await.unwrap().state(), State::Expired);
        assert_eq!(
            (
                w.count("identity.profile_shared").await,
                w.count("identity.profile_share_acknowledged").await
            ),
            (1, 1)
        );
    });
}

#[test]
fn a_hip_that_is_silent_for_30_seconds_has_missed_it() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let first = share(&w, &she, sharing(&w, "asha.rao@sbx")).await.unwrap();
        let second = share(&w, &she, sharing(&w, "asha.rao@sbx")).await.unwrap();
        w.advance(30);
        assert_eq!(read(&w, &she, &first.name).await.unwrap().state(), State::Expired);
        let late = refused(acknowledge(&w, "hospital", &first.name).await);
        assert_eq!(
            (late.reason, late.metadata[0].1.as_str()),
            (Reason::StateConflict, "EXPIRED")
        );
        sweep::sweep(w.store()).await.unwrap();
        let told = w.notifications(&she).await;
        let answered: Vec<_> = told.iter().filter(|n| n.kind() == Kind::ProfileShareAnswered).collect();
        assert_eq!(answered.len(), 2);
        assert!(answered.iter().any(|n| n.resource == second.name));
        assert_eq!(w.count("identity.profile_share_expired").await, 2);
    });
}

#[test]
fn a_profile_that_is_not_hers_is_shared_with_nobody() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let ravi = w.she(w.person("ravi.kumar@sbx"));
        assert_eq!(
            reason(share(&w, &ravi, sharing(&w, "asha.rao@sbx")).await),
            Reason::ProfileMismatch
        );
        let nowhere = api::CreateProfileShareRequest {
            hip: "participants/clinic".into(),
            ..sharing(&w, "asha.rao@sbx")
        };
        assert_eq!(reason(share(&w, &she, nowhere).await), Reason::HipUnavailable);
        let sent = share(&w, &she, sharing(&w, "asha.rao@sbx")).await.unwrap();
        for stranger in [&ravi, &participant("lab")] {
            assert_eq!(reason(read(&w, stranger, &sent.name).await), Reason::NotAvailable);
        }
        let fields = |refusal: sammati_kernel::Refusal| {
            refusal
                .violations
                .iter()
                .map(|v| v.field.to_string())
                .collect::<Vec<_>>()
        };
        let mut wrong = sharing(&w, "asha.rao@sbx");
        wrong.counter = "no counter".into();
        wrong.intent = 0;
        wrong.profile.as_mut().unwrap().day_of_birth = 32;
        assert_eq!(
            fields(refused(share(&w, &she, wrong).await)),
            ["counter", "intent", "profile.day_of_birth"]
        );
        assert_eq!(w.count("identity.profile_shared").await, 1);
    });
}
