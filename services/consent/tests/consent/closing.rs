//! An account is deleted: what she gave ends, what was asked of her is cancelled, and what is sealed of hers opens no more.

use std::collections::BTreeSet;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::break_glass::Outcome;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::transfer::State;
use sammati_api::types::v1::RetentionClass;
use sammati_consent::closing::Closings;
use sammati_consent::rows::{
    ArtefactRow, CareContextRow, CohortChunkRow, CohortCountRow, CohortUseRow, ConsentRow, DataKeyRow, DiscoveryRow,
    GlassCountRow, LinkRow, LinkTryRow, NoticeRow, NoticeTextsRow, NotificationRow, PolicyRow, ProfileShareRow,
    RequestRow, RightsRow, StatusListRow, StepUpRow, StudyAskRow, StudyRow, SubscriptionRow, TransferRow, tables,
};
use sammati_consent::study::settle;
use sammati_kernel::{AccountId, StudyId};
use sammati_store::{Error, Reader, Traces};
use sammati_testkit::databases::psql;
use sammati_testkit::disk::holds;
use sammati_testkit::{Database, Postgres, Setup, pause};
use tonic::Response;

use crate::policies::{approve, list, make};
use crate::subscriptions::{act, ask, asking, read};
use crate::transfers::{open, state, wanted};
use crate::world::{World, by, everywhere, operator, participant, within};
use crate::{discovering, emergencies, rights, sharing, step_up, studies};

async fn consent(w: &World, name: &str) -> api::Consent {
    let request = api::GetConsentRequest { name: name.to_owned() };
    let read = w.rpc().get_consent(by(&operator(), request)).await;
    read.map(Response::into_inner).unwrap()
}

/// Where rows name her account now, and whether in what goes on. Her address and what is told of her is in none as it is.
async fn traces(w: &World, account: AccountId) -> BTreeSet<(&'static str, bool)> {
    let partitions: Vec<i64> = w.store().partitions().all().collect();
    let read = w.store().read(move |r| {
        let all = |names: Vec<Vec<u8>>, notifications: &[&str], r: &mut Reader<'_>| {
            let mut traces = Traces::of(names);
            traces.walk::<ArtefactRow>(r, &partitions, &[])?;
            traces.walk::<CareContextRow>(r, &partitions, &[])?;
            traces.walk::<CohortChunkRow>(r, &partitions, &[])?;
            traces.walk::<CohortCountRow>(r, &partitions, &[])?;
            traces.walk::<CohortUseRow>(r, &partitions, &[])?;
            traces.walk::<ConsentRow>(r, &partitions, &["live", "due"])?;
            traces.walk::<DataKeyRow>(r, &partitions, &[])?;
            traces.walk::<DiscoveryRow>(r, &partitions, &["due"])?;
            traces.walk::<GlassCountRow>(r, &partitions, &[])?;
            traces.walk::<LinkRow>(r, &partitions, &[])?;
            traces.walk::<LinkTryRow>(r, &partitions, &[])?;
            traces.walk::<NoticeRow>(r, &partitions, &[])?;
            traces.walk::<NoticeTextsRow>(r, &partitions, &[])?;
            traces.walk::<NotificationRow>(r, &partitions, notifications)?;
            traces.walk::<PolicyRow>(r, &partitions, &["enabled"])?;
            traces.walk::<ProfileShareRow>(r, &partitions, &["due"])?;
            traces.walk::<RequestRow>(r, &partitions, &["open_pair", "due"])?;
            traces.walk::<RightsRow>(r, &partitions, &["open", "due"])?;
            traces.walk::<StatusListRow>(r, &partitions, &[])?;
            traces.walk::<StepUpRow>(r, &partitions, &[])?;
            traces.walk::<StudyAskRow>(r, &partitions, &[])?;
            traces.walk::<StudyRow>(r, &partitions, &["due"])?;
            traces.walk::<SubscriptionRow>(r, &partitions, &["live", "open_pair", "due"])?;
            traces.walk::<TransferRow>(r, &partitions, &["open", "due", "open_hip", "open_hiu"])?;
            assert_eq!(traces.walked(), tables().len(), "a table is left out");
            Ok::<_, Error>(traces.found().clone())
        };
        let personal = [
            "asha.rao@sbx",
            "Asha Rao",
            "MRN-17",
            "brought in unconscious",
            "12 Lake Road",
            "What do you hold of me?",
        ];
        let open = all(personal.map(|word| word.as_bytes().to_vec()).to_vec(), &[], r)?;
        assert_eq!(open, BTreeSet::new());
        // Word to others that is about her goes on until they took it in; word to her names her account in full.
        let mut found = all(vec![account.to_vec()], &[], r)?;
        found.extend(all(vec![account.name().into_bytes()], &["pending"], r)?);
        Ok(found)
    });
    read.await.unwrap()
}

#[test]
fn a3_no_row_that_names_a_deleted_account_goes_on_and_what_stays_is_history() {
    everywhere(|w| async move {
        let (she, granted) = w.granted("asha.rao@sbx", |_| {}).await;
        let asha = w.account("asha.rao@sbx");
        open(&w, "clinic", wanted(&w, &granted.name)).await.unwrap();
        let glass = emergencies::open(&w, emergencies::opening(&w, "asha.rao@sbx"))
            .await
            .unwrap();
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let study = studies::active(&w, "institute").await;
        let asked = studies::invite(&w, "hospital", &study.name, &["MRN-17"]).await;
        assert_eq!(asked.unwrap(), [api::invitation::Outcome::Accepted]);
        studies::joins(&w, &she).await;
        // Another one waits for her word, and must never hear of her.
        let silent = studies::active(&w, "university").await;
        let asked = studies::invite(&w, "hospital", &silent.name, &["MRN-17"]).await;
        assert_eq!(asked.unwrap(), [api::invitation::Outcome::Accepted]);
        let heard = w.notifications(&participant("university")).await.len();
        let found = discovering::look(&w, &she, discovering::search(&w, "asha.rao@sbx"))
            .await
            .unwrap();
        let shared = sharing::share(&w, &she, sharing::sharing(&w, "asha.rao@sbx"))
            .await
            .unwrap();
        ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        w.create(w.asks("asha.rao@sbx")).await.unwrap();
        make(&w, &she, approve(&w)).await.unwrap();
        let asked = rights::asking(&w, api::rights_request::Kind::Access, "participants/clinic");
        let asked = rights::ask(&w, &she, asked).await.unwrap();
        step_up::both(&w, &she).await;
        let all = [
            "care_context",
            "consent",
            "consent_request",
            "data_key",
            "discovery",
            "link",
            "notification",
            "policy",
            "profile_share",
            "rights_request",
            "step_up",
            "subscription",
            "transfer",
        ];
        let go_on = [
            "consent",
            "consent_request",
            "discovery",
            "notification",
            "policy",
            "profile_share",
            "rights_request",
            "subscription",
            "transfer",
        ];
        let named = traces(&w, asha).await;
        let live = |found: &BTreeSet<(&'static str, bool)>| {
            let live = found.iter().filter(|(_, live)| *live);
            live.map(|(table, _)| *table).collect::<Vec<_>>()
        };
        assert_eq!(live(&named), go_on);

        *w.people.deleted.lock().unwrap() = vec![(asha, false)];
        let mut closings = Closings::default();
        w.rpc().close_accounts(&mut closings).await.unwrap();
        let named = traces(&w, asha).await;
        assert_eq!(live(&named), Vec::<&str>::new());
        assert_eq!(named.iter().map(|(table, _)| *table).collect::<Vec<_>>(), all);
        assert_eq!(consent(&w, &glass[0].name).await.state(), api::consent::State::Revoked);
        let hospital = participant("hospital");
        let found = discovering::read(&w, &hospital, &found.name).await.unwrap();
        assert_eq!(found.state(), api::discovery::State::Expired);
        let shared = sharing::read(&w, &hospital, &shared.name).await.unwrap();
        assert_eq!(shared.state(), api::profile_share::State::Expired);
        let closed = rights::get(&w, &participant("clinic"), &asked.name).await.unwrap();
        assert_eq!(
            (closed.state(), closed.close_time),
            (api::rights_request::State::Closed, w.at(0))
        );
        let told = w.notifications(&she).await;
        assert!(
            told.iter().all(|n| n.acknowledge_time.is_some()),
            "nothing waits for her"
        );

        assert_eq!(w.notifications(&participant("university")).await.len(), heard);

        *w.people.deleted.lock().unwrap() = vec![(asha, true)];
        w.rpc().close_accounts(&mut closings).await.unwrap();
        // What was agreed and what flowed, by an id that is nobody's; that her key is gone; and word of it to the others.
        let history = [
            "consent",
            "consent_request",
            "data_key",
            "notification",
            "policy",
            "rights_request",
            "step_up",
            "subscription",
            "transfer",
        ];
        assert_eq!(traces(&w, asha).await, history.map(|table| (table, false)).into());
        let emptied = rights::get(&w, &operator(), &asked.name).await.unwrap();
        assert_eq!((emptied.text.as_str(), emptied.patient.as_str()), ("", ""));
        assert_eq!(step_up::get(&w, &she).await.actions, Vec::<i32>::new());
        // An emergency is reviewed all the same; of the words nothing is kept, and nobody tells her.
        let reviewed = emergencies::review(&w, &operator(), &glass[0].name, Outcome::Upheld)
            .await
            .unwrap();
        let review = reviewed.break_glass.unwrap();
        assert_eq!((review.review(), review.review_comment.as_str()), (Outcome::Upheld, ""));
        assert_eq!(traces(&w, asha).await, history.map(|table| (table, false)).into());
    });
}

#[test]
fn emergencies_and_who_ended_them_are_kept_as_long_as_consents() {
    everywhere(|w| async move {
        let asha = w.person("asha.rao@sbx");
        let glass = emergencies::open(&w, emergencies::opening(&w, "asha.rao@sbx"))
            .await
            .unwrap();
        emergencies::review(&w, &operator(), &glass[0].name, Outcome::Upheld)
            .await
            .unwrap();
        *w.people.deleted.lock().unwrap() = vec![(asha, false)];
        w.rpc().close_accounts(&mut Closings::default()).await.unwrap();
        let events = w.events().await;
        for kind in ["access.break_glass", "access.break_glass_reviewed", "consent.withdrawn"] {
            let of_kind: Vec<_> = events.iter().filter(|event| event.event_type == kind).collect();
            assert_eq!(
                (of_kind.len(), of_kind[0].class()),
                (1, RetentionClass::Consent),
                "{kind}"
            );
        }
        let withdrawn = events
            .iter()
            .find(|event| event.event_type == "consent.withdrawn")
            .unwrap();
        assert_eq!(
            withdrawn.payload.as_ref().unwrap().legal_basis,
            "her account is deleted"
        );
    });
}

/// What stood in the way of emptying SQLite's log keeps nobody's closing from being done, and the log is emptied later, though
/// nothing is left to close.
#[test]
fn a3_a_log_that_is_read_all_the_time_is_emptied_later_and_what_was_closed_is_not_closed_again() {
    everywhere(|w| async move {
        let Some(file) = w.store().path().map(std::path::Path::to_owned) else {
            return;
        };
        let log = || std::fs::metadata(format!("{}-wal", file.display())).map_or(0, |log| log.len());
        w.granted("asha.rao@sbx", |_| {}).await;
        let ((pause, paused), store) = (pause(), w.store().clone());
        let reader = tokio::spawn(async move {
            let read = move |r: &mut Reader<'_>| r.head(0).map(|_| paused.here());
            store.snapshot(read).await
        });
        tokio::task::block_in_place(|| pause.until_reached());
        *w.people.deleted.lock().unwrap() = vec![(w.account("asha.rao@sbx"), true)];
        let mut closings = Closings::default();
        w.rpc().close_accounts(&mut closings).await.unwrap();
        assert!(log() > 0);
        drop(pause);
        reader.await.unwrap().unwrap();
        let events = w.events().await.len();
        w.advance(30);
        w.rpc().close_accounts(&mut closings).await.unwrap();
        assert_eq!((log(), w.events().await.len()), (0, events));
    });
}

#[test]
fn what_belongs_to_a_deleted_account_ends_and_its_key_goes_when_identity_says_so() {
    everywhere(|w| async move {
        let name = w.granted("asha.rao@sbx", |_| {}).await.1.name;
        let asha = w.account("asha.rao@sbx");
        let transfer = open(&w, "clinic", wanted(&w, &name)).await.unwrap();
        let waiting = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let other = w.granted("ravi.kumar@sbx", |_| {}).await.1.name;
        let mut closings = Closings::default();
        w.rpc().close_accounts(&mut closings).await.unwrap();
        assert_eq!(consent(&w, &name).await.state(), api::consent::State::Granted);

        *w.people.deleted.lock().unwrap() = vec![(asha, false)];
        for _ in 0..2 {
            w.rpc().close_accounts(&mut closings).await.unwrap();
        }
        let ended = consent(&w, &name).await;
        assert_eq!(ended.state(), api::consent::State::Revoked);
        assert!(!ended.patient.is_empty());
        assert_eq!(state(&w, &participant("clinic"), &transfer).await, State::Cancelled);
        assert_eq!(consent(&w, &other).await.state(), api::consent::State::Granted);
        assert_eq!(w.count("consent.withdrawn").await, 1);
        assert_eq!(w.count("consent.request_cancelled").await, 1);
        let told = w.notifications(&participant("clinic")).await;
        let cancelled =
            |n: &&api::Notification| n.kind() == Kind::ConsentRequestCancelled && n.resource == waiting.name;
        assert_eq!(told.iter().filter(cancelled).count(), 1);

        *w.people.deleted.lock().unwrap() = vec![(asha, true)];
        // A process that starts anew does it as well, once.
        for _ in 0..2 {
            w.rpc().close_accounts(&mut Closings::default()).await.unwrap();
        }
        assert_eq!(w.count("consent.purged").await, 1);
        assert_eq!(consent(&w, &name).await.patient, "", "what was sealed is gone");
    });
}

/// Commands that were committed since the start.
fn commands(w: &World) -> String {
    let (mut registry, mut text) = (Registry::default(), String::new());
    w.store().register_metrics(&mut registry);
    encode(&mut text, &registry).unwrap();
    let found = text.lines().find(|line| line.starts_with("store_commands_total "));
    found.unwrap().to_owned()
}

#[test]
fn a_process_that_starts_goes_through_no_account_that_is_gone() {
    everywhere(|w| async move {
        let node = &w.replicas[0].0;
        w.granted("asha.rao@sbx", |_| {}).await;
        let mut gone = vec![(w.account("asha.rao@sbx"), true)];
        // Nothing was ever kept of these.
        gone.extend((0..9).map(|n| (w.person(&format!("nobody-{n}@sbx")), true)));
        *w.people.deleted.lock().unwrap() = gone;
        node.close_accounts(&mut Closings::default()).await.unwrap();
        let before = commands(&w);
        for _ in 0..3 {
            node.close_accounts(&mut Closings::default()).await.unwrap();
        }
        assert_eq!(commands(&w), before);
        // One that is new is gone through, once.
        w.people.deleted.lock().unwrap().push((w.person("ravi.rao@sbx"), true));
        node.close_accounts(&mut Closings::default()).await.unwrap();
        let after = commands(&w);
        assert_ne!(after, before);
        node.close_accounts(&mut Closings::default()).await.unwrap();
        assert_eq!(commands(&w), after);
        // Of each there is a row that says so, and its event (O1).
        assert_eq!(w.count("consent.purged").await, 11);
    });
}

#[test]
fn policies_and_subscriptions_of_a_deleted_account_end_whatever_their_state() {
    everywhere(|w| async move {
        let (she, granted) = w.granted("asha.rao@sbx", |_| {}).await;
        let (name, asha) = (granted.name, w.account("asha.rao@sbx"));
        let paused = api::PauseConsentRequest {
            name: name.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().pause_consent(by(&she, paused)).await.unwrap();
        let policy = make(&w, &she, approve(&w)).await.unwrap();
        let mut subscriptions = Vec::new();
        for verb in ["", "approve", "deny", "pause"] {
            let asked = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
            if verb == "pause" {
                act(&w, &she, "approve", &asked.name, None).await.unwrap();
            }
            if !verb.is_empty() {
                act(&w, &she, verb, &asked.name, None).await.unwrap();
            }
            subscriptions.push(asked.name);
        }
        *w.people.deleted.lock().unwrap() = vec![(asha, false)];
        for _ in 0..2 {
            w.rpc().close_accounts(&mut Closings::default()).await.unwrap();
        }
        assert_eq!(consent(&w, &name).await.state(), api::consent::State::Revoked);
        let policies = list(&w, &operator(), &asha.name()).await;
        assert_eq!(
            (&policies[0].name, policies[0].state()),
            (&policy.name, api::policy::State::Disabled)
        );
        use api::subscription::State::{Denied, Revoked};
        for (subscription, state) in subscriptions.iter().zip([Denied, Revoked, Denied, Revoked]) {
            let read = read(&w, &participant("clinic"), subscription).await.unwrap();
            assert_eq!(read.state(), state);
        }
        assert_eq!(w.count("policy.disabled").await, 1);
        assert_eq!(
            (
                w.count("subscription.withdrawn").await,
                w.count("subscription.denied").await
            ),
            (2, 2)
        );
    });
}

/// A file of Postgres keeps what was overwritten until its room is used again, and a sample of it for longer.
#[test]
fn a3_a_destroyed_key_of_a_person_or_a_study_is_in_no_file_of_a_table_on_postgres() {
    let setup = Setup {
        settings: &["autovacuum=off"],
        ..Setup::default()
    };
    let Some(server) = Postgres::start_with(&setup) else {
        return;
    };
    let w = World::on(Database::on(&server, "consent"));
    let is_there = |key: &[u8]| {
        psql(server.url(), "consent", "CHECKPOINT");
        holds(&server.bytes("base"), key)
    };
    let wrapped = async |owner: Vec<u8>, slot| {
        let row = w
            .store()
            .read(move |r| r.get::<DataKeyRow>(slot, &owner))
            .await
            .unwrap();
        row.unwrap().record.wrapped
    };
    within(async {
        w.granted("asha.rao@sbx", |_| {}).await;
        w.granted("ravi.kumar@sbx", |_| {}).await;
        let name = studies::active(&w, "institute").await.name;
        let study = StudyId::parse_name(&name).unwrap();
        let asha = w.account("asha.rao@sbx");
        let hers = wrapped(asha.to_vec(), asha.slot()).await;
        let of_study = wrapped(study.to_vec(), study.slot()).await;
        psql(server.url(), "consent", "ANALYZE");
        assert!(is_there(&hers) && is_there(&of_study));

        *w.people.deleted.lock().unwrap() = vec![(asha, true)];
        w.rpc().close_accounts(&mut Closings::default()).await.unwrap();
        assert_eq!(w.count("consent.purged").await, 1);
        assert!(!is_there(&hers) && is_there(&of_study));

        studies::close(&w, &participant("institute"), &name).await.unwrap();
        for passed in [60, 7 * 365 * 86_400] {
            w.advance(passed);
            settle::sweep(w.store()).await.unwrap();
        }
        assert_eq!(w.count("study.key_destroyed").await, 1);
        assert!(!is_there(&of_study));
    });
}
