//! Whom a node may ask for a study, and how often.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::invitation::Outcome;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::policy::Effect;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Reason};

use crate::studies::{activate, active, create, described, get, invite, inviting, member, patient, requests, send};
use crate::world::{DAY, by, everywhere, operator, participant, reason};

#[test]
fn a_node_asks_patients_of_its_own_and_each_once_in_half_a_year() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let asha = patient(&w, "hospital", "asha.rao@sbx", "MRN-1").await;
        let away = patient(&w, "hospital", "away.now@sbx", "MRN-2").await;
        w.people.inactive.lock().unwrap().insert(away);
        let shy = patient(&w, "hospital", "shy.rao1990@sbx", "MRN-3").await;
        let deny = api::CreatePolicyRequest {
            effect: Effect::Deny.into(),
            purposes: vec![types::PurposeCode::Dsrch.into()],
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().create_policy(by(&w.she(shy), deny)).await.unwrap();
        let all = ["MRN-1", "MRN-2", "MRN-3", "MRN-4"];
        let call = inviting(&w, &study.name, &all);
        let expected = [
            Outcome::Accepted,
            Outcome::Unavailable,
            Outcome::Unavailable,
            Outcome::NotLinked,
        ];
        assert_eq!(send(&w, "hospital", call.clone()).await.unwrap(), expected);
        // A repeat asks nobody twice.
        assert_eq!(send(&w, "hospital", call).await.unwrap(), expected);
        assert_eq!(w.count("consent.requested").await, 1);
        let again = invite(&w, "hospital", &study.name, &["MRN-1"]).await.unwrap();
        assert_eq!(again, [Outcome::AskedBefore]);

        let asked = requests(&w, &w.she(asha)).await;
        assert_eq!((asked.len(), asked[0].study.as_str()), (1, study.name.as_str()));
        assert_eq!(asked[0].hips, ["participants/hospital"]);
        assert_eq!(
            (asked[0].hiu.as_str(), asked[0].patient.len()),
            ("participants/institute", 26)
        );
        assert_eq!(asked[0].notice.as_ref().unwrap().language, "hi");
        let told = w.notifications(&w.she(asha)).await;
        assert!(
            told.iter()
                .any(|n| n.kind() == Kind::ConsentRequested && n.resource == asked[0].name)
        );
        // She sees who asks; a stranger to the study does not.
        assert_eq!(get(&w, &w.she(asha), &study.name).await.unwrap().title, study.title);
        assert_eq!(reason(get(&w, &w.she(shy), &study.name).await), Reason::NotAvailable);
        let listed = async |who: &Caller| {
            let listed = w.rpc().list_studies(by(who, Default::default())).await;
            listed.unwrap().into_inner().studies.len()
        };
        for (who, count) in [
            (w.she(asha), 1),
            (w.she(shy), 0),
            (participant("institute"), 1),
            (participant("lab"), 1),
            (participant("university"), 0),
            (operator(), 1),
        ] {
            assert_eq!(listed(&who).await, count, "{}", who.id());
        }

        // Half a year later, in a study that lasts so long.
        let mut long = described(&w);
        long.ethics_approval.as_mut().unwrap().until_time = w.at(400 * DAY);
        long.scope.as_mut().unwrap().erase_time = w.at(399 * DAY);
        let long = create(&w, "institute", long).await.unwrap();
        activate(&w, &long.name).await.unwrap();
        for (days, outcome) in [
            (0, Outcome::Accepted),
            (179, Outcome::AskedBefore),
            (1, Outcome::Accepted),
        ] {
            w.advance(days * DAY);
            let told = invite(&w, "hospital", &long.name, &["MRN-1"]).await.unwrap();
            assert_eq!(told, [outcome], "{days}");
        }
        assert_eq!(
            reason(invite(&w, "hospital-9", &long.name, &["MRN-1"]).await),
            Reason::NodeNotInStudy
        );
    });
}

#[test]
fn a_list_of_consents_is_narrowed_to_those_of_one_study() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        let (she, given) = member(&w, &study.name, "asha.rao@sbx", "MRN-1").await;
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let other = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
        let listed = async |who: &Caller, study: &str| {
            let message = api::ListConsentsRequest {
                study: study.to_owned(),
                ..Default::default()
            };
            let listed = w.rpc().list_consents(by(who, message)).await;
            let listed = listed.map(|listed| listed.into_inner().consents);
            listed.map(|consents| consents.into_iter().map(|consent| consent.name).collect::<Vec<_>>())
        };
        let all = listed(&she, "").await.unwrap();
        assert!(all.len() == 2 && all.contains(&other.name) && all.contains(&given.name));
        for who in [&she, &participant("hospital")] {
            let found = listed(who, &study.name).await.unwrap();
            assert_eq!(found, std::slice::from_ref(&given.name));
        }
        // One that nobody is in, and whoever is no party, learn nothing by it.
        let empty = active(&w, "university").await;
        assert_eq!(listed(&she, &empty.name).await.unwrap(), Vec::<String>::new());
        for who in ["institute", "lab", "clinic"] {
            let found = listed(&participant(who), &study.name).await.unwrap();
            assert_eq!(found, Vec::<String>::new(), "{who}");
        }
        assert_eq!(reason(listed(&she, "studies/7").await), Reason::FieldInvalid);
    });
}
