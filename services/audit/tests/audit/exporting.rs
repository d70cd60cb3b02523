//! Her file: machine-readable, proved line by line, and in the words of others.

use prost::Message;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_api::audit::v1::{self as audit, ExportFormat, event};
use sammati_api::types::v1 as types;
use sammati_kernel::Caller;
use sammati_log::bundle::Bundle;
use sammati_log::hash::leaf_hash;
use serde_json::Value;
use tokio_stream::StreamExt;

use crate::fixture::{Audit, account, consent, everywhere, of, person, some_event};
use crate::subject::judged;

impl Audit {
    async fn export(&self, caller: Caller, format: ExportFormat) -> Vec<Value> {
        let text = self.export_text(caller, format).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The file as it is.
    pub(crate) async fn export_text(&self, caller: Caller, format: ExportFormat) -> String {
        let request = audit::ExportSubjectRequest {
            format: format.into(),
            ..Default::default()
        };
        let mut stream = self.rpc.export_subject(of(caller, request)).await.unwrap().into_inner();
        let mut file = Vec::new();
        while let Some(part) = stream.next().await {
            file.extend(part.unwrap().content);
        }
        String::from_utf8(file).unwrap()
    }
}

/// A decision, a disclosure, and a change, each with all that it can have.
fn events() -> Vec<audit::Event> {
    let full = |kind: &str, action: event::Action| {
        let mut event = some_event(1);
        event.event_type = kind.to_owned();
        event.action = action.into();
        event.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
        let payload = event.payload.as_mut().unwrap();
        payload.purpose = types::PurposeCode::Caremgt.into();
        payload.consent = consent(1);
        payload.object_refs.push("participants/clinic".to_owned());
        payload.client = Some(audit::Client {
            network: "203.0.113.0/24".to_owned(),
            app: "participants/app".to_owned(),
        });
        event
    };
    let mut denied = full("access.denied", event::Action::Execute);
    denied.outcome = event::Outcome::Serious.into();
    denied.reason_code = "CONSENT_REVOKED".to_owned();
    vec![
        denied,
        full("data.disclosed", event::Action::Execute),
        full("data.received", event::Action::Execute),
        full("consent.withdrawn", event::Action::Update),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_an_export_is_complete_and_says_what_the_list_says() {
    for audit in everywhere().await {
        let sent = events();
        audit.append(sent.clone()).await.unwrap();
        let file = audit.export(person(account(1)), ExportFormat::Native).await;
        let (end, events) = file.split_last().unwrap();
        assert_eq!(events.len(), sent.len());
        let events: Vec<_> = events
            .iter()
            .map(|line| audit::SubjectEvent {
                event: None,
                leaf: base64(&line["leaf"]),
                proof: line["proof"].as_str().unwrap().to_owned(),
            })
            .collect();
        let head = audit::SubjectHead {
            note: end["subjectHead"]["note"].as_str().unwrap().to_owned(),
            ..Default::default()
        };
        judged(&audit, &events, &head).unwrap();
        let newest = &file[0]["event"];
        assert_eq!(newest["header"]["eventType"], "consent.withdrawn");
        assert_eq!(newest["payload"]["consent"], consent(1).as_str());
        // The export stands in her log.
        let again = audit.export(person(account(1)), ExportFormat::Native).await;
        assert_eq!(again[0]["event"]["header"]["eventType"], "audit.exported");
    }
}

fn base64(value: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(value.as_str().unwrap())
        .unwrap()
}

/// What changes from run to run is put out of sight.
fn still(mut value: Value) -> Value {
    match &mut value {
        Value::Object(object) => {
            for (name, value) in object.iter_mut() {
                let moves =
                    ["data", "tlog_proof", "id", "recorded", "logged_time", "uid", "value"].contains(&name.as_str());
                let is_stable = value.as_str().is_some_and(|text| text.contains("participants/"));
                *value = if moves && !is_stable {
                    "…".into()
                } else {
                    still(value.take())
                };
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = still(value.take())),
        _ => {}
    }
    value
}

fn golden(name: &str, lines: Vec<Value>) {
    let lines: Vec<_> = lines.into_iter().map(still).collect();
    let text = format!("{}\n", serde_json::to_string_pretty(&lines).unwrap());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/audit/golden")
        .join(name);
    if std::env::var_os("SAMMATI_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(&path).unwrap_or_default(),
        "{name}: run with SAMMATI_GOLDEN=1 and look at it"
    );
}

/// The elements that FHIR R4 and the BALP profiles require, and the codes they must come from.
fn is_audit_event(event: &Value) {
    assert_eq!(event["resourceType"], "AuditEvent");
    let profile = event["meta"]["profile"][0].as_str().unwrap();
    assert!(profile.starts_with("https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."));
    assert!(event["type"]["system"].is_string() && event["type"]["code"].is_string());
    assert!(["C", "R", "U", "D", "E"].contains(&event["action"].as_str().unwrap()));
    assert!(["0", "4", "8", "12"].contains(&event["outcome"].as_str().unwrap()));
    chrono::DateTime::parse_from_rfc3339(event["recorded"].as_str().unwrap()).unwrap();
    let agents = event["agent"].as_array().unwrap();
    assert!(!agents.is_empty() && agents.iter().all(|agent| agent["requestor"].is_boolean()));
    assert_eq!(agents.iter().filter(|agent| agent["requestor"] == true).count(), 1);
    assert!(event["source"]["observer"].is_object());
    let entities = event["entity"].as_array().unwrap();
    let patients = entities
        .iter()
        .filter(|entity| entity["role"]["code"] == "1" && entity["type"]["code"] == "1");
    assert_eq!(patients.count(), 1);
    if profile.ends_with("AuthZconsent") {
        assert_eq!(
            (&event["type"]["code"], &event["subtype"][0]["code"]),
            (&"110113".into(), &"AuthZ-Consent".into())
        );
    }
    let fixed = [
        ("AuthZconsent", "E"),
        ("Disclosure.Source", "R"),
        ("Disclosure.Recipient", "C"),
    ];
    for (_, action) in fixed.iter().filter(|(name, _)| profile.ends_with(name)) {
        assert_eq!(event["action"], *action);
        let receivers = agents
            .iter()
            .filter(|agent| agent["type"]["coding"][0]["code"] == "110152");
        assert!(receivers.count() <= 1, "one receiver at most");
    }
    let proof = base64(&event["extension"][0]["valueAttachment"]["data"]);
    String::from_utf8(proof).unwrap().parse::<Bundle>().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_fhir_has_the_elements_that_its_profiles_require() {
    for audit in everywhere().await {
        audit.append(events()).await.unwrap();
        let file = audit.export(person(account(1)), ExportFormat::Fhir).await;
        file.iter().for_each(is_audit_event);
        let profiles: Vec<_> = file
            .iter()
            .map(|event| {
                event["meta"]["profile"][0]
                    .as_str()
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap()
            })
            .collect();
        assert_eq!(
            profiles,
            [
                "IHE.BasicAudit.PatientUpdate",
                "IHE.BasicAudit.PrivacyDisclosure.Recipient",
                "IHE.BasicAudit.PrivacyDisclosure.Source",
                "IHE.BasicAudit.AuthZconsent",
            ]
        );
        golden("fhir.json", file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_ocsf_has_what_its_classes_require() {
    for audit in everywhere().await {
        audit.append(events()).await.unwrap();
        let file = audit.export(person(account(1)), ExportFormat::Ocsf).await;
        for event in &file {
            let number = |name: &str| event[name].as_i64().unwrap_or_else(|| panic!("{name} in {event}"));
            assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
            assert!(number("time") > 0 && number("severity_id") > 0 && number("category_uid") > 0);
            assert!(
                event["metadata"]["product"]["vendor_name"].is_string() && event["metadata"]["version"].is_string()
            );
            let proof: Bundle = event["unmapped"]["tlog_proof"].as_str().unwrap().parse().unwrap();
            let leaf = audit.prove(proof.index as i64, 0).await.unwrap().leaf;
            proof.verify(leaf_hash(&leaf), &[audit.verifier()]).unwrap();
            audit::Leaf::decode(leaf.as_slice()).unwrap();
        }
        golden("ocsf.json", file);
    }
}
