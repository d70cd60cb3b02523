//! Notices that somebody publishes: whole or not at all, never changed, bound by their hash, readable for ever.

use std::sync::Arc;

use futures::future::join_all;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::notice::State;
use sammati_api::consent::v1::notice_service_server::NoticeService;
use sammati_api::types::v1 as types;
use sammati_api::types::v1::{HiType, PurposeCode};
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::world::{World, by, everywhere, operator, participant, reason, refused};

/// What is done to a good notice.
type Bend = fn(&mut api::CreateNoticeRequest);

fn text(language: &str) -> api::NoticeText {
    api::NoticeText {
        language: language.into(),
        title: format!("Your records, {language}"),
        body: "Why: your doctor asks.\n\nWhich: two kinds.".into(),
        goods_or_services: "A safer diagnosis".into(),
        withdraw_uri: "https://clinic.example/consents".into(),
        rights_uri: "https://clinic.example/rights".into(),
        board_uri: "https://clinic.example/board".into(),
    }
}

pub(crate) fn notice(w: &World) -> api::CreateNoticeRequest {
    api::CreateNoticeRequest {
        purposes: vec![PurposeCode::Caremgt.into()],
        items: vec![HiType::Prescription.into(), HiType::DiagnosticReport.into()],
        texts: vec![text("en"), text("ta")],
        request_id: w.request_id(),
        ..Default::default()
    }
}

pub(crate) async fn publish(
    w: &World,
    caller: &Caller,
    message: api::CreateNoticeRequest,
) -> Result<api::Notice, Status> {
    w.rpc()
        .create_notice(by(caller, message))
        .await
        .map(Response::into_inner)
}

async fn get(w: &World, name: &str, version: i32, language: &str) -> Result<api::Notice, Status> {
    let message = api::GetNoticeRequest {
        name: name.into(),
        version,
        language: language.into(),
    };
    w.rpc()
        .get_notice(by(&Caller::ANYONE, message))
        .await
        .map(Response::into_inner)
}

async fn retire(w: &World, caller: &Caller, name: &str, etag: &str) -> Result<api::Notice, Status> {
    let message = api::RetireNoticeRequest {
        name: name.into(),
        etag: etag.into(),
        request_id: w.request_id(),
    };
    w.rpc()
        .retire_notice(by(caller, message))
        .await
        .map(Response::into_inner)
}

async fn list(w: &World, message: api::ListNoticesRequest) -> api::ListNoticesResponse {
    w.rpc()
        .list_notices(by(&Caller::ANYONE, message))
        .await
        .unwrap()
        .into_inner()
}

/// What the clinic asks, showing this notice.
pub(crate) fn asks(
    w: &World,
    address: &str,
    notice: &str,
    version: i32,
    language: &str,
) -> api::CreateConsentRequestRequest {
    api::CreateConsentRequestRequest {
        notice: notice.into(),
        notice_version: version,
        language: language.into(),
        ..w.asks(address)
    }
}

#[test]
fn a_version_never_changes_and_stays_readable_and_usable_beside_the_next() {
    everywhere(|w| async move {
        let clinic = participant("clinic");
        let message = notice(&w);
        let first = publish(&w, &clinic, message.clone()).await.unwrap();
        assert_eq!(
            (first.version, first.owner.as_str(), first.state()),
            (1, "participants/clinic", State::Published)
        );
        assert_eq!(publish(&w, &clinic, message).await.unwrap(), first, "a repeat");
        let next = api::CreateNoticeRequest {
            name: first.name.clone(),
            texts: vec![text("en")],
            ..notice(&w)
        };
        let second = publish(&w, &clinic, next).await.unwrap();
        assert_eq!((second.version, &second.name), (2, &first.name));
        assert_ne!(second.sha256, first.sha256);
        let read = get(&w, &first.name, 1, "ta").await.unwrap();
        assert_eq!((&read.texts, &read.sha256), (&first.texts, &first.sha256));
        assert_eq!((read.language.as_str(), read.fell_back), ("ta", false));
        // The newest has no Tamil, and says so.
        let newest = get(&w, &first.name, 0, "ta").await.unwrap();
        assert_eq!(
            (newest.version, newest.language.as_str(), newest.fell_back),
            (2, "en", true)
        );
        assert_eq!(reason(get(&w, &first.name, 3, "").await), Reason::NotFound);
        assert_eq!(w.count("notice.published").await, 2);
    });
}

#[test]
fn what_the_law_wants_told_is_there_in_each_language_or_nothing_is_published() {
    everywhere(|w| async move {
        let clinic = participant("clinic");
        let lacks: [(&str, Bend); 10] = [
            ("purposes", |n| n.purposes.clear()),
            ("items", |n| n.items.clear()),
            ("texts", |n| n.texts.clear()),
            ("texts", |n| drop(n.texts.remove(0))),
            ("texts[1].title", |n| n.texts[1].title.clear()),
            ("texts[1].body", |n| n.texts[1].body = " \n".into()),
            ("texts[0].goods_or_services", |n| n.texts[0].goods_or_services.clear()),
            ("texts[1].withdraw_uri", |n| n.texts[1].withdraw_uri.clear()),
            ("texts[1].rights_uri", |n| n.texts[1].rights_uri.clear()),
            ("texts[1].board_uri", |n| n.texts[1].board_uri.clear()),
        ];
        for (field, lack) in lacks {
            let mut message = notice(&w);
            lack(&mut message);
            let refusal = refused(publish(&w, &clinic, message).await);
            let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
            assert_eq!(
                (refusal.reason, fields),
                (Reason::NoticeIncomplete, vec![field.to_owned()])
            );
        }
        let wrong: [(&str, Bend); 5] = [
            ("texts", |n| n.texts.push(text("ta"))),
            ("texts[1].language", |n| n.texts[1].language = "fr".into()),
            ("texts[0].board_uri", |n| {
                n.texts[0].board_uri = "http://clinic.example".into()
            }),
            ("items", |n| n.items.push(1)),
            ("name", |n| n.name = "consents/1".into()),
        ];
        for (field, bend) in wrong {
            let mut message = notice(&w);
            bend(&mut message);
            let refusal = refused(publish(&w, &clinic, message).await);
            let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
            assert_eq!((refusal.reason, fields), (Reason::FieldInvalid, vec![field.to_owned()]));
        }
        assert_eq!(w.count("notice.published").await, 0);
    });
}

#[test]
fn a_request_is_bound_to_the_version_it_shows_and_she_approves_those_words_alone() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let clinic = participant("clinic");
        let first = publish(&w, &clinic, notice(&w)).await.unwrap();
        let next = api::CreateNoticeRequest {
            name: first.name.clone(),
            ..notice(&w)
        };
        let second = publish(&w, &clinic, next).await.unwrap();
        let request = w.create(asks(&w, "asha.rao@sbx", &first.name, 1, "ta")).await.unwrap();
        let bound = request.notice.clone().unwrap();
        let expected = types::NoticeRef {
            notice: first.name.clone(),
            version: 1,
            language: "ta".into(),
            sha256: first.sha256.clone(),
        };
        assert_eq!(bound, expected);
        let newest = w.create(asks(&w, "asha.rao@sbx", &first.name, 0, "hi")).await.unwrap();
        let newest = newest.notice.unwrap();
        assert_eq!(
            (newest.version, newest.language.as_str(), newest.sha256),
            (2, "en", second.sha256.clone())
        );
        // Shown other words, or in a language in which there are none, she has not been told.
        for (version, sha256, language) in [
            (2, &second.sha256, "en"),
            (1, &second.sha256, "en"),
            (1, &first.sha256, "hi"),
        ] {
            let shown = types::NoticeRef {
                version,
                sha256: sha256.clone(),
                language: language.into(),
                ..bound.clone()
            };
            let approval = api::ApproveConsentRequestRequest {
                notice: Some(shown),
                ..w.approval(&request)
            };
            assert_eq!(
                reason(w.approve(&she, approval).await),
                Reason::NoticeMismatch,
                "{version} {language}"
            );
        }
        let shown = types::NoticeRef {
            language: "en".into(),
            ..bound
        };
        let approval = api::ApproveConsentRequestRequest {
            notice: Some(shown.clone()),
            ..w.approval(&request)
        };
        let granted = w.approve(&she, approval).await.unwrap().consents.remove(0);
        assert_eq!(granted.notice, Some(shown));
    });
}

#[test]
fn an_asker_uses_its_own_and_the_operators_that_cover_what_it_asks() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let theirs = publish(&w, &participant("insurer"), notice(&w)).await.unwrap();
        let common = publish(&w, &operator(), notice(&w)).await.unwrap();
        assert_eq!(common.owner, "");
        w.create(asks(&w, "asha.rao@sbx", &common.name, 0, "en")).await.unwrap();
        let narrow = api::CreateNoticeRequest {
            items: vec![HiType::Prescription.into()],
            ..notice(&w)
        };
        let narrow = publish(&w, &participant("clinic"), narrow).await.unwrap();
        let payment = api::CreateNoticeRequest {
            purposes: vec![PurposeCode::Hpaymt.into()],
            ..notice(&w)
        };
        let payment = publish(&w, &participant("clinic"), payment).await.unwrap();
        for (name, version) in [
            (&theirs.name, 0),
            (&narrow.name, 0),
            (&payment.name, 0),
            (&common.name, 2),
        ] {
            let refusal = refused(w.create(asks(&w, "asha.rao@sbx", name, version, "en")).await);
            let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
            assert_eq!(
                (refusal.reason, fields),
                (Reason::NoticeMismatch, vec!["notice".to_owned()])
            );
        }
    });
}

#[test]
fn a_retired_notice_takes_no_new_request_and_keeps_the_old_ones() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let clinic = participant("clinic");
        let published = publish(&w, &clinic, notice(&w)).await.unwrap();
        let ask = asks(&w, "asha.rao@sbx", &published.name, 1, "en");
        let request = w.create(ask.clone()).await.unwrap();
        assert_eq!(
            reason(retire(&w, &clinic, &published.name, "\"9\"").await),
            Reason::EtagMismatch
        );
        let retired = retire(&w, &clinic, &published.name, &published.etag).await.unwrap();
        assert_eq!(
            (retired.state(), retired.sha256),
            (State::Retired, published.sha256.clone())
        );
        // On no replica.
        for _ in 0..2 {
            let another = asks(&w, "asha.rao@sbx", &published.name, 1, "en");
            assert_eq!(reason(w.create(another).await), Reason::NoticeMismatch);
        }
        assert_eq!(w.create(ask).await.unwrap().name, request.name, "a repeat");
        assert_eq!(w.approve(&she, w.approval(&request)).await.unwrap().consents.len(), 1);
        assert_eq!(get(&w, &published.name, 1, "en").await.unwrap().texts, published.texts);
        let refusal = refused(retire(&w, &clinic, &published.name, "").await);
        assert_eq!(refusal.reason, Reason::StateConflict);
        let next = api::CreateNoticeRequest {
            name: published.name.clone(),
            ..notice(&w)
        };
        assert_eq!(reason(publish(&w, &clinic, next).await), Reason::StateConflict);
        assert_eq!(w.count("notice.retired").await, 1);
    });
}

#[test]
fn nobody_changes_anothers_and_the_built_in_ones_are_nobodys() {
    everywhere(|w| async move {
        let clinic = participant("clinic");
        let published = publish(&w, &clinic, notice(&w)).await.unwrap();
        let add = |name: &str| api::CreateNoticeRequest {
            name: name.into(),
            ..notice(&w)
        };
        let insurer = participant("insurer");
        assert_eq!(
            reason(publish(&w, &insurer, add(&published.name)).await),
            Reason::NotAvailable
        );
        assert_eq!(
            reason(publish(&w, &operator(), add(&published.name)).await),
            Reason::NotFound
        );
        assert_eq!(
            reason(retire(&w, &insurer, &published.name, "").await),
            Reason::NotAvailable
        );
        for name in ["notices/builtin-caremgt", "notices/nothing"] {
            assert_eq!(reason(publish(&w, &operator(), add(name)).await), Reason::NotFound);
            assert_eq!(reason(retire(&w, &clinic, name, "").await), Reason::NotAvailable);
        }
        retire(&w, &operator(), &published.name, "").await.unwrap();
    });
}

#[test]
fn of_racing_versions_each_has_its_number_and_of_racing_retirements_one_wins() {
    everywhere(|w| async move {
        let clinic = participant("clinic");
        let published = publish(&w, &clinic, notice(&w)).await.unwrap();
        let racers = (0..8).map(|_| {
            let (w, clinic, name) = (Arc::clone(&w), clinic.clone(), published.name.clone());
            tokio::spawn(async move {
                let next = api::CreateNoticeRequest { name, ..notice(&w) };
                publish(&w, &clinic, next).await.unwrap().version
            })
        });
        let mut numbers: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (2..=9).collect::<Vec<_>>());
        let racers = (0..8).map(|_| {
            let (w, clinic, name) = (Arc::clone(&w), clinic.clone(), published.name.clone());
            tokio::spawn(async move { retire(&w, &clinic, &name, "").await.is_ok() })
        });
        let won = join_all(racers)
            .await
            .into_iter()
            .filter(|won| *won.as_ref().unwrap())
            .count();
        assert_eq!(won, 1);
    });
}

#[test]
fn the_list_has_all_newest_first_then_the_built_in_ones_a_page_at_a_time() {
    everywhere(|w| async move {
        let clinic = participant("clinic");
        let mut names = Vec::new();
        for _ in 0..3 {
            w.advance(1);
            names.push(publish(&w, &clinic, notice(&w)).await.unwrap().name);
        }
        w.advance(1);
        names.push(publish(&w, &operator(), notice(&w)).await.unwrap().name);
        retire(&w, &clinic, &names[0], "").await.unwrap();
        names.reverse();
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let message = api::ListNoticesRequest {
                page_size: 3,
                page_token: token,
                ..Default::default()
            };
            let page = list(&w, message).await;
            assert!(page.notices.len() <= 3 && page.notices.iter().all(|n| n.texts.is_empty()));
            seen.extend(page.notices.into_iter().map(|n| n.name));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), names.len() + 6);
        assert_eq!(seen[..4], names);
        assert!(seen[4..].iter().all(|name| name.starts_with("notices/builtin-")));
        let own = api::ListNoticesRequest {
            owner: "participants/clinic".into(),
            states: vec![State::Published.into()],
            ..Default::default()
        };
        assert_eq!(list(&w, own).await.notices.len(), 2);
        let payment = api::ListNoticesRequest {
            purpose: PurposeCode::Hpaymt.into(),
            ..Default::default()
        };
        let found: Vec<_> = list(&w, payment).await.notices.into_iter().map(|n| n.name).collect();
        assert_eq!(found, ["notices/builtin-hpaymt"]);
    });
}
