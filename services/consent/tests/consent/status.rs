//! Status lists: what they say of each consent, verified with nothing but the key set.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::inflate::decompress_to_vec_zlib;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_kernel::{Caller, Reason};
use serde_json::Value;
use tonic::{Response, Status};

use crate::artefacts::{claims, fetch, verified};
use crate::world::{DAY, World, by, everywhere, reason};

const VALID: u8 = 0;
const INVALID: u8 = 1;
const SUSPENDED: u8 = 2;

async fn list(w: &World, name: &str) -> Result<api::StatusList, Status> {
    let message = api::GetStatusListRequest { name: name.to_owned() };
    let list = w.rpc().get_status_list(by(&Caller::ANYONE, message)).await;
    list.map(Response::into_inner)
}

/// The list of a consent and its place there, as its artefact says.
async fn place(w: &World, she: &Caller, consent: &str) -> (String, usize) {
    let artefact = fetch(w, she, consent, Audience::Hiu).await.unwrap();
    let status = claims(w, &artefact).await["status"]["status_list"].clone();
    let place = status["idx"].as_u64().unwrap();
    (status["uri"].as_str().unwrap().to_owned(), place.try_into().unwrap())
}

/// The claims of a list, and its entries.
async fn entries(w: &World, name: &str) -> (Value, Vec<u8>) {
    let list = list(w, name).await.unwrap();
    let claims = verified(w, &list.jwt, "statuslist+jwt").await;
    assert_eq!(
        (claims["sub"].as_str(), claims["status_list"]["bits"].as_u64()),
        (Some(name), Some(2))
    );
    let packed = URL_SAFE_NO_PAD
        .decode(claims["status_list"]["lst"].as_str().unwrap())
        .unwrap();
    let bytes = decompress_to_vec_zlib(&packed).unwrap();
    (
        claims,
        bytes
            .iter()
            .flat_map(|byte| (0..4).map(move |n| byte >> (n * 2) & 0b11))
            .collect(),
    )
}

async fn entry(w: &World, (name, place): &(String, usize)) -> u8 {
    entries(w, name).await.1[*place]
}

#[test]
fn a_status_list_tells_of_each_consent_and_of_nobody() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let at = place(&w, &she, &consent.name).await;
        let (claims, all) = entries(&w, &at.0).await;
        assert_eq!((all.len(), all[at.1]), (131_072, VALID));
        assert_eq!(all.iter().filter(|entry| **entry != INVALID).count(), 1);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
        assert_eq!(claims["ttl"], 60);
        for id in [she.account().unwrap().to_string(), consent.name.clone()] {
            assert!(!claims.to_string().contains(id.trim_start_matches("consents/")));
        }

        let pause = api::PauseConsentRequest {
            name: consent.name.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().pause_consent(by(&she, pause)).await.unwrap();
        w.advance(30);
        assert_eq!(entry(&w, &at).await, SUSPENDED);
        let resume = api::ResumeConsentRequest {
            name: consent.name.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().resume_consent(by(&she, resume)).await.unwrap();
        w.advance(30);
        assert_eq!(entry(&w, &at).await, VALID);
        w.revoke(&she, &[&consent.name]).await.unwrap();
        w.advance(30);
        assert_eq!(entry(&w, &at).await, INVALID);
    });
}

#[test]
fn consents_of_one_partition_share_a_list_at_places_of_their_own() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let she = w.she(account);
        let mut places = Vec::new();
        for _ in 0..4 {
            let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
            let consent = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
            places.push(place(&w, &she, &consent.name).await);
        }
        let list = places[0].0.clone();
        assert!(places.iter().all(|(of, _)| *of == list));
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 4);
        let (_, all) = entries(&w, &list).await;
        assert_eq!(all.iter().filter(|entry| **entry == VALID).count(), 4);
        // By the clock, whether swept or not.
        w.advance(30 * DAY);
        let (_, all) = entries(&w, &list).await;
        assert!(all.iter().all(|entry| *entry == INVALID));
    });
}

#[test]
fn a_narrowed_consent_keeps_its_place() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let before = place(&w, &she, &consent.name).await;
        let mut scope = consent.scope.clone().unwrap();
        scope.hi_types.truncate(1);
        w.narrow(&she, &consent.name, scope).await.unwrap();
        assert_eq!(place(&w, &she, &consent.name).await, before);
    });
}

#[test]
fn a_list_is_made_at_most_twice_a_minute_and_one_that_is_none_is_not_found() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let (name, place) = place(&w, &she, &consent.name).await;
        let one = &w.replicas[0].0;
        let get = async || {
            let message = api::GetStatusListRequest { name: name.clone() };
            one.get_status_list(by(&Caller::ANYONE, message))
                .await
                .unwrap()
                .into_inner()
        };
        let first = get().await;
        w.revoke(&she, &[&consent.name]).await.unwrap();
        w.advance(29);
        assert_eq!(get().await, first);
        w.advance(1);
        let second = get().await;
        assert!(second.jwt != first.jwt && second.issue_time == w.at(0) && second.expire_time == w.at(60));
        assert_eq!(entry(&w, &(name.clone(), place)).await, INVALID);
        let none = "statusLists/01890000-0000-7000-8000-000000000000";
        assert_eq!(reason(list(&w, none).await), Reason::NotFound);
        assert_eq!(reason(list(&w, &consent.name).await), Reason::FieldInvalid);
    });
}
