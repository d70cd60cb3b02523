//! Exports: all that is kept of her decisions and nothing of anybody else's, in pages whose digests hold.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::export_consents_response::Item;
use sammati_api::consent::v1::export_page::Kind;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_kernel::hex;
use sammati_kernel::{Caller, Reason};
use serde_json::Value;
use tokio_stream::StreamExt;
use tonic::Status;

use crate::artefacts::fetch;
use crate::discovering::{look, search};
use crate::notices;
use crate::policies::{deny, make};
use crate::rights;
use crate::sharing::{share, sharing};
use crate::step_up;
use crate::subscriptions::{ask, asking};
use crate::transfers::{open, wanted};
use crate::world::{World, by, everywhere, participant, reason};

struct Export {
    resources: BTreeMap<Kind, Vec<Value>>,
    pages: Vec<api::ExportPage>,
    manifest: api::ExportManifest,
}

async fn export(w: &World, who: &Caller) -> Result<Export, Status> {
    let stream = w.rpc().export_consents(by(who, api::ExportConsentsRequest {})).await?;
    let mut stream = stream.into_inner();
    let (mut pages, mut manifest) = (Vec::new(), None);
    while let Some(message) = stream.next().await {
        assert!(manifest.is_none(), "the manifest is the last");
        match message?.item.unwrap() {
            Item::Page(page) => pages.push(page),
            Item::Manifest(last) => manifest = Some(last),
        }
    }
    let mut resources = BTreeMap::<_, Vec<Value>>::new();
    for page in &pages {
        let read: Vec<Value> = serde_json::from_str(&page.json).unwrap();
        resources.entry(page.kind()).or_default().extend(read);
    }
    Ok(Export {
        resources,
        pages,
        manifest: manifest.unwrap(),
    })
}

fn sha256(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// What else is hers: a link, a discovery and a profile share.
async fn looked_and_shared(w: &World, she: &Caller) -> (String, String, String) {
    w.linked("asha.rao@sbx", &["OPD-7"]).await;
    let links = w.rpc().list_links(by(she, api::ListLinksRequest::default())).await;
    let link = links.unwrap().into_inner().links.remove(0).name;
    let discovery = look(w, she, search(w, "asha.rao@sbx")).await.unwrap().name;
    let shared = share(w, she, sharing(w, "asha.rao@sbx")).await.unwrap().name;
    (link, discovery, shared)
}

#[test]
fn she_gets_everything_that_is_kept_of_her_decisions_with_digests_that_hold() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let mut scope = consent.scope.clone().unwrap();
        scope.hi_types.truncate(1);
        w.narrow(&she, &consent.name, scope).await.unwrap();
        w.acknowledge_all("hospital").await;
        let transfer = open(&w, "clinic", wanted(&w, &consent.name)).await.unwrap();
        let subscription = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        let policy = make(&w, &she, deny(&w, "participants/insurer")).await.unwrap();
        let asking = rights::asking(&w, api::rights_request::Kind::Access, "participants/clinic");
        let asked = rights::ask(&w, &she, asking).await.unwrap();
        let (link, discovery, share) = looked_and_shared(&w, &she).await;
        step_up::both(&w, &she).await;
        let pin = step_up::get(&w, &she).await;
        // Somebody else's, who decides on the same.
        let (other, others) = w.granted("ravi.kumar@sbx", |_| {}).await;

        let given = export(&w, &she).await.unwrap();
        let names = |kind: Kind| -> Vec<&str> {
            let of = given.resources[&kind].iter();
            of.map(|resource| resource["name"].as_str().unwrap()).collect()
        };
        assert_eq!(names(Kind::ConsentRequest), [consent.request.as_str()]);
        assert_eq!(names(Kind::Consent), [consent.name.as_str()]);
        assert_eq!(names(Kind::Artefact).len(), 4);
        assert_eq!(names(Kind::Notice), ["notices/builtin-caremgt"]);
        assert_eq!(names(Kind::Link), [link.as_str()]);
        assert_eq!(names(Kind::Discovery), [discovery.as_str()]);
        assert_eq!(names(Kind::ProfileShare), [share.as_str()]);
        assert_eq!(names(Kind::Transfer), [transfer.name.as_str()]);
        assert_eq!(names(Kind::Policy), [policy.name.as_str()]);
        assert_eq!(names(Kind::Subscription), [subscription.name.as_str()]);
        assert_eq!(names(Kind::RightsRequest), [asked.name.as_str()]);
        assert_eq!(names(Kind::StepUp), [pin.name.as_str()]);
        let set = &given.resources[&Kind::StepUp][0];
        assert_eq!(set["actions"], serde_json::json!(["ACTION_APPROVE", "ACTION_REVOKE"]));
        assert!(set["updateTime"].is_string() && set.get("spent").is_none());
        assert_eq!(given.resources[&Kind::Consent][0]["patient"], "asha.rao@sbx");
        // What was issued, as she may fetch it.
        let newest = fetch(&w, &she, &consent.name, Audience::Hip).await.unwrap();
        assert!(
            given.resources[&Kind::Artefact]
                .iter()
                .any(|a| a["jws"] == newest.jws.as_str())
        );

        let manifest = &given.manifest;
        assert_eq!(manifest.subject, she.account().unwrap().name());
        assert_eq!(usize::try_from(manifest.page_count).unwrap(), given.pages.len());
        for (n, page) in given.pages.iter().enumerate() {
            assert_eq!(usize::try_from(page.number).unwrap(), n + 1);
            assert_eq!(page.sha256, sha256(&page.json));
            assert!(page.schema.starts_with("type.googleapis.com/sammati.consent.v1."));
            assert!(!page.json.contains(&others.name) && !page.json.contains("ravi.kumar"));
        }
        let whole: String = given.pages.iter().map(|page| page.json.as_str()).collect();
        assert_eq!(manifest.sha256, sha256(&whole));
        let counted = manifest.counts.iter().map(|count| (count.kind(), count.resource_count));
        let kinds = given.resources.iter();
        let found = kinds.map(|(kind, all)| (*kind, i32::try_from(all.len()).unwrap()));
        assert_eq!(counted.collect::<BTreeMap<_, _>>(), found.collect());

        // There is no log here that could be asked, and that is said of each line, with the name to ask for.
        let records = &given.resources[&Kind::Record];
        let lines: Vec<_> = given.pages.iter().filter(|page| page.kind() != Kind::Record).collect();
        let read = |page: &&api::ExportPage| serde_json::from_str::<Vec<Value>>(&page.json).unwrap();
        let lines: Vec<Value> = lines.iter().flat_map(read).collect();
        assert_eq!(records.len(), lines.len());
        for (record, line) in records.iter().zip(&lines) {
            assert_eq!(record["state"], "STATE_NOT_ATTACHED");
            let is_by_name = record["resource"] == line["name"] || record["resource"] == line["consent"];
            assert!(
                is_by_name || line["name"] == "notices/builtin-caremgt",
                "{record} of {line}"
            );
            assert!(record.get("events").is_none());
        }
        assert_eq!(usize::try_from(manifest.unproved_count).unwrap(), lines.len());
        assert!(manifest.checkpoints.is_empty());

        let told = w.events().await;
        let told: Vec<_> = told.iter().filter(|e| e.event_type == "consent.exported").collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].event_id, manifest.event_id);
        assert_eq!(told[0].payload.as_ref().unwrap().subject, manifest.subject);
        assert_eq!(export(&w, &other).await.unwrap().resources[&Kind::Consent].len(), 1);
    });
}

#[test]
fn an_export_has_published_notices_with_their_words_and_what_she_asked_about_her_rights() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let clinic = participant("clinic");
        let notice = notices::publish(&w, &clinic, notices::notice(&w)).await.unwrap();
        w.create(notices::asks(&w, "asha.rao@sbx", &notice.name, 1, "ta"))
            .await
            .unwrap();
        let asked = rights::asking(&w, api::rights_request::Kind::Access, "participants/clinic");
        let asked = rights::ask(&w, &she, asked).await.unwrap();
        rights::answer(&w, &clinic, &asked.name, None).await.unwrap();
        // Somebody else's.
        let other = rights::asking(&w, api::rights_request::Kind::Access, "participants/clinic");
        let other = api::CreateRightsRequestRequest {
            patient: "ravi.kumar@sbx".into(),
            ..other
        };
        let ravi = w.she(w.person("ravi.kumar@sbx"));
        rights::ask(&w, &ravi, other).await.unwrap();

        let given = export(&w, &she).await.unwrap();
        let shown = &given.resources[&Kind::Notice];
        assert_eq!((shown.len(), &shown[0]["name"]), (1, &Value::from(notice.name)));
        assert_eq!(shown[0]["language"], "ta");
        assert!(shown[0]["texts"].to_string().contains("Your records, ta"));
        let hers = &given.resources[&Kind::RightsRequest];
        assert_eq!((hers.len(), &hers[0]["name"]), (1, &Value::from(asked.name)));
        assert_eq!(hers[0]["text"], asked.text);
        assert_eq!(hers[0]["answer"]["text"], "Here it is");
    });
}

#[test]
fn an_export_of_many_comes_in_pages_and_is_whole() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        for n in 0..120 {
            let asker = if n % 2 == 0 { "clinic" } else { "insurer" };
            let asked = w
                .rpc()
                .create_consent_request(by(&participant(asker), w.asks("asha.rao@sbx")))
                .await;
            let cancel = api::CancelConsentRequestRequest {
                name: asked.unwrap().into_inner().name,
                request_id: w.request_id(),
                ..Default::default()
            };
            w.rpc()
                .cancel_consent_request(by(&participant(asker), cancel))
                .await
                .unwrap();
        }
        let given = export(&w, &w.she(account)).await.unwrap();
        assert!(
            given
                .pages
                .iter()
                .filter(|page| page.kind() == Kind::ConsentRequest)
                .count()
                >= 2
        );
        let mut names: Vec<_> = given.resources[&Kind::ConsentRequest]
            .iter()
            .map(|r| r["name"].to_string())
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 120);
    });
}

#[test]
fn nobody_exports_without_a_login_of_now_and_who_has_nothing_gets_the_manifest() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let nothing = export(&w, &she).await.unwrap();
        assert!(nothing.pages.is_empty());
        assert_eq!((nothing.manifest.page_count, nothing.manifest.sha256), (0, sha256("")));
        w.advance(301);
        assert_eq!(reason(export(&w, &she).await.map(|_| ())), Reason::StepUpRequired);
        assert_eq!(
            reason(export(&w, &participant("clinic")).await.map(|_| ())),
            Reason::CallerKind
        );
        assert_eq!(w.count("consent.exported").await, 1);
    });
}
