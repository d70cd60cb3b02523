//! Everything about her: each line of her export is recorded in the log, and says so with proofs that hold offline (O1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use sammati_api::audit::v1::Leaf;
use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::export_consents_response::Item;
use sammati_api::consent::v1::export_page::Kind;
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::consent::v1::policy_service_client::PolicyServiceClient;
use sammati_api::consent::v1::profile_share_service_client::ProfileShareServiceClient;
use sammati_api::consent::v1::rights_service_client::RightsServiceClient;
use sammati_api::consent::v1::subscription_service_client::SubscriptionServiceClient;
use sammati_api::types::v1 as types;
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::Verifier;
use sammati_log::hash::leaf_hash;
use sammati_server::event::timestamp;
use sammati_tests::story::{Person, Story};
use serde_json::Value;

use crate::worlds::World;

/// What her story here has; that she set what needs her PIN is exported where that is tested.
const KINDS: [Kind; 11] = [
    Kind::ConsentRequest,
    Kind::Consent,
    Kind::Artefact,
    Kind::Notice,
    Kind::Link,
    Kind::Discovery,
    Kind::ProfileShare,
    Kind::Transfer,
    Kind::Policy,
    Kind::Subscription,
    Kind::RightsRequest,
];

pub(crate) struct Export {
    /// The resources of each page, by its number.
    pages: BTreeMap<u64, (Kind, Vec<Value>)>,
    records: Vec<Value>,
    manifest: consent::ExportManifest,
}

pub(crate) async fn export(person: &Person, replica: usize) -> Export {
    let mut client = ConsentServiceClient::new(person.who.consent_at(replica));
    let mut stream = client
        .export_consents(consent::ExportConsentsRequest {})
        .await
        .unwrap()
        .into_inner();
    let (mut pages, mut records, mut manifest) = (BTreeMap::new(), Vec::new(), None);
    while let Some(message) = stream.message().await.unwrap() {
        match message.item.unwrap() {
            Item::Page(page) => {
                let read: Vec<Value> = serde_json::from_str(&page.json).unwrap();
                match page.kind() {
                    Kind::Record => records.extend(read),
                    kind => drop(pages.insert(u64::try_from(page.number).unwrap(), (kind, read))),
                }
            }
            Item::Manifest(last) => manifest = Some(last),
        }
    }
    Export {
        pages,
        records,
        manifest: manifest.expect("the manifest is the last"),
    }
}

impl Export {
    /// The line that a record is about.
    fn line(&self, record: &Value) -> (Kind, &Value) {
        let place = |field: &str| record[field].as_u64().unwrap_or_default();
        let (kind, lines) = &self.pages[&place("page")];
        (*kind, &lines[usize::try_from(place("line")).unwrap()])
    }

    /// The logs and types of a record's events, each verified offline.
    fn prove(&self, record: &Value, keys: &[Verifier]) -> Vec<(String, String)> {
        assert_eq!(record["state"], "STATE_PROVED", "{record}");
        let verify = |event: &Value| {
            let leaf = STANDARD.decode(event["leaf"].as_str().unwrap()).unwrap();
            let bundle: Bundle = event["proof"].as_str().unwrap().parse().unwrap();
            assert!(self.manifest.checkpoints.contains(&bundle.checkpoint_note));
            bundle.verify(leaf_hash(&leaf), keys).unwrap();
            let header = Leaf::decode(leaf.as_slice()).unwrap();
            assert_eq!(event["eventId"], header.event_id.as_str());
            assert_eq!(event["eventType"], header.event_type.as_str());
            (event["log"].as_str().unwrap().to_owned(), header.event_type)
        };
        record["events"].as_array().unwrap().iter().map(verify).collect()
    }

    /// Proves each line, and tells by the name of what it is about which logs have its events.
    pub(crate) fn logs(&self, keys: &[Verifier]) -> BTreeMap<String, BTreeSet<String>> {
        let mut logs = BTreeMap::<_, BTreeSet<_>>::new();
        for record in &self.records {
            let of = record["resource"].as_str().unwrap().to_owned();
            let proved = self.prove(record, keys).into_iter().map(|(log, _)| log);
            logs.entry(of).or_default().extend(proved);
        }
        logs
    }

    /// Whether each line has its records, and no other is spoken of.
    fn assert_every_line_is_told(&self) {
        let place = |record: &Value| (record["page"].as_u64(), record["line"].as_u64().unwrap_or_default());
        let told: BTreeSet<_> = self.records.iter().map(place).collect();
        let lines = self
            .pages
            .iter()
            .flat_map(|(page, (_, lines))| (0..lines.len() as u64).map(|line| (Some(*page), line)));
        assert_eq!(told, lines.collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_each_line_of_her_export_is_proved_offline_and_is_hers_without_the_log_too() {
    for mut world in World::all().await {
        let person = world.person().await;
        let story = &world.story;
        let types = live(story, &person).await;
        let log = story.log().await.unwrap();
        let keys = [Verifier::parse(&log.vkey).unwrap()];

        let given = export(&person, world.replicas - 1).await;
        given.assert_every_line_is_told();
        let kinds: BTreeSet<_> = given.pages.values().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, KINDS.into_iter().collect());
        let mut told: BTreeMap<Kind, BTreeSet<String>> = BTreeMap::new();
        for record in &given.records {
            let (kind, line) = given.line(record);
            for (in_log, event_type) in given.prove(record, &keys) {
                assert_eq!(in_log, log.name);
                told.entry(kind).or_default().insert(event_type);
            }
            if kind != Kind::Notice {
                let own = if kind == Kind::Artefact { "consent" } else { "name" };
                assert_eq!(record["resource"], line[own]);
            }
        }
        for (kind, expected) in types {
            assert_eq!(
                told[&kind],
                expected.iter().map(|t| (*t).to_owned()).collect(),
                "{kind:?}"
            );
        }
        assert_eq!(given.manifest.unproved_count, 0);

        // The log goes away: what is hers she gets all the same, and is told how to prove it later.
        world.system.stop_one("audit").await.unwrap();
        let without = export(&person, 0).await;
        without.assert_every_line_is_told();
        let names = |export: &Export| -> BTreeSet<String> {
            let lines = export.pages.values().flat_map(|(_, lines)| lines);
            lines.map(|line| line["name"].to_string()).collect()
        };
        assert_eq!(names(&without), names(&given));
        for record in &without.records {
            assert_eq!(record["state"], "STATE_NOT_ATTACHED");
            assert!(record["resource"].as_str().is_some_and(|name| name.contains('/')));
        }
        assert!(without.manifest.checkpoints.is_empty());
        let lines: usize = without.pages.values().map(|(_, lines)| lines.len()).sum();
        assert_eq!(usize::try_from(without.manifest.unproved_count).unwrap(), lines);
        world.system.stop().await;
    }
}

/// She does a bit of everything; by which events each kind must be recorded.
async fn live(story: &Story, person: &Person) -> Vec<(Kind, &'static [&'static str])> {
    let given = story.consent(person, story.scope()).await.unwrap();
    let heard = story.notification(&story.hospital, &given.name).await.unwrap();
    story.acknowledge(&story.hospital, &heard.name).await.unwrap();
    story.open_transfer(story.transfer(&given.name)).await.unwrap();
    story.authorize(0, &given.name).await.unwrap();
    story.pause(person, &given.name).await.unwrap();
    story.resume(person, &given.name).await.unwrap();
    around(story, person).await;
    vec![
        (
            Kind::ConsentRequest,
            &[
                "consent.granted",
                "consent.notice_bound",
                "consent.notice_shown",
                "consent.requested",
            ],
        ),
        (
            Kind::Consent,
            &[
                "consent.artefact_issued",
                "consent.granted",
                "consent.notification_acknowledged",
                "consent.paused",
                "consent.resumed",
            ],
        ),
        (Kind::Artefact, &["consent.artefact_issued"]),
        (Kind::Link, &["identity.linked"]),
        (Kind::Discovery, &["link.discovery_started"]),
        (Kind::ProfileShare, &["identity.profile_shared"]),
        (
            Kind::Transfer,
            &["data.requested", "data.use_returned", "transfer.cancelled"],
        ),
        (Kind::Policy, &["policy.enabled"]),
        (Kind::Subscription, &["subscription.requested"]),
        (Kind::RightsRequest, &["rights.opened"]),
    ]
}

/// What is not about a consent.
async fn around(story: &Story, person: &Person) {
    let own = story.described(person);
    let search = consent::CreateDiscoveryRequest {
        hip: "participants/hospital".into(),
        identifier: own.identifier.clone(),
        demographics: own.demographics.clone(),
        unverified_identifiers: Vec::new(),
        request_id: story.rid(),
    };
    LinkServiceClient::new(person.who.consent())
        .create_discovery(search)
        .await
        .unwrap();
    let share = consent::CreateProfileShareRequest {
        hip: "participants/hospital".into(),
        counter: "OPD1".into(),
        intent: consent::profile_share::Intent::ProfileShare.into(),
        profile: Some(consent::SharedProfile {
            identifier: own.identifier,
            demographics: own.demographics,
            ..Default::default()
        }),
        request_id: story.rid(),
    };
    ProfileShareServiceClient::new(person.who.consent())
        .create_profile_share(share)
        .await
        .unwrap();
    let deny = consent::CreatePolicyRequest {
        effect: consent::policy::Effect::Deny.into(),
        hiu: "participants/insurer".into(),
        request_id: story.rid(),
        ..Default::default()
    };
    PolicyServiceClient::new(person.who.consent())
        .create_policy(deny)
        .await
        .unwrap();
    let grievance = consent::CreateRightsRequestRequest {
        kind: consent::rights_request::Kind::Grievance.into(),
        against: "participants/clinic".into(),
        text: "I was never there".into(),
        about: Vec::new(),
        patient: person.address(),
        request_id: story.rid(),
    };
    RightsServiceClient::new(person.who.consent())
        .create_rights_request(grievance)
        .await
        .unwrap();
    let now = story.clock.now();
    let subscription = consent::CreateSubscriptionRequest {
        patient: person.address(),
        purpose: types::PurposeCode::Caremgt.into(),
        sources: Some(consent::SubscribedSources {
            categories: vec![consent::SubscriptionCategory::Link.into()],
            hi_types: vec![types::HiType::Prescription.into()],
            period: Some(types::TimeRange {
                from: Some(timestamp(now)),
                to: Some(timestamp(now.plus(Duration::from_secs(86_400)))),
            }),
            ..Default::default()
        }),
        request_id: story.rid(),
    };
    SubscriptionServiceClient::new(story.clinic.consent())
        .create_subscription(subscription)
        .await
        .unwrap();
}
