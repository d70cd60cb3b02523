//! Her file: machine-readable, proved line by line, and in the words of others.

use prost::Message;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_api::audit::v1::{self as audit, ExportFormat, event};
use sammati_api::types::v1 as types;
use sammati_kernel::Caller;
use sammati_log::bundle::Bundle;
use sammati_log::hash::leaf_hash;
use sammati_server::event::timestamp;
use serde_json::Value;
use tokio_stream::StreamExt;

use crate::balp;
use crate::fixture::{Audit, account, consent, everywhere, of, of_type, operator, person, some_event};
use crate::selected::verified;
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
        self.export_of(caller, request).await
    }

    /// The same of any request. The last message, and no other, says that it is whole.
    async fn export_of(&self, caller: Caller, request: audit::ExportSubjectRequest) -> String {
        let mut stream = self.rpc.export_subject(of(caller, request)).await.unwrap().into_inner();
        let (mut file, mut is_whole) = (Vec::new(), false);
        while let Some(part) = stream.next().await {
            let part = part.unwrap();
            assert!(!is_whole, "nothing comes after the last");
            is_whole = part.complete;
            file.extend(part.content);
        }
        assert!(is_whole);
        String::from_utf8(file).unwrap()
    }
}

/// A decision, a disclosure, and a change, each with all that it can have.
fn events() -> Vec<audit::Event> {
    let full = |kind: &str, action: event::Action| {
        let mut event = some_event(1);
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
        of_type(event, kind)
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

/// A login that failed.
fn login() -> audit::Event {
    let mut event = of_type(some_event(1), "identity.authn_failed");
    event.action = event::Action::Execute.into();
    event.outcome = event::Outcome::Minor.into();
    event.reason_code = "OTP_WRONG".to_owned();
    event
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

/// Of a time she gets what occurred then, each line proved; the signed head states of the whole and is not there.
#[tokio::test(flavor = "multi_thread")]
async fn i12_a_part_of_her_file_is_proved_line_by_line_and_claims_not_to_be_all() {
    let day = |n: i64| sammati_kernel::Micros::from_seconds(1_795_305_600 + n * 86_400);
    let range = |from: i64, to: i64| {
        Some(types::TimeRange {
            from: Some(timestamp(day(from))),
            to: Some(timestamp(day(to))),
        })
    };
    for audit in everywhere().await {
        for n in -400..0 {
            // Each in a call of its own would take long; the order in the log is not that of the days.
            if n % 100 == 0 {
                let at = |k: i64| {
                    let mut event = some_event((k % 2 + 1) as u8);
                    event.occurred_time = Some(timestamp(day(n + k)));
                    event
                };
                audit.append((0..100).rev().map(at).collect()).await.unwrap();
            }
        }
        let request = |caller_names: bool| audit::ExportSubjectRequest {
            subject: if caller_names { account(1).name() } else { String::new() },
            legal_basis: if caller_names {
                "order 7".to_owned()
            } else {
                String::new()
            },
            occurred_range: range(-250, -50),
            ..Default::default()
        };
        for (caller, request) in [(person(account(1)), request(false)), (operator(), request(true))] {
            let text = audit.export_of(caller, request).await;
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines.len(), 100, "every second of 200 days");
            for line in &lines {
                assert!(line.get("subjectHead").is_none());
                let proof: Bundle = line["proof"].as_str().unwrap().parse().unwrap();
                proof
                    .verify(leaf_hash(&base64(&line["leaf"])), &[audit.verifier()])
                    .unwrap();
                let leaf = audit::Leaf::decode(base64(&line["leaf"]).as_slice()).unwrap();
                let at = leaf.occurred_time.unwrap().seconds;
                assert!((day(-250).seconds()..day(-50).seconds()).contains(&at));
            }
            let (code, said) = verified(&audit, "export", text.as_bytes());
            assert_eq!(code, Some(0), "{said}");
            assert!(
                said.starts_with("verified: 100 events, each once, are in log "),
                "{said}"
            );
            // It does not pass for the whole.
            let (code, said) = verified(&audit, "subject", text.as_bytes());
            assert_eq!(code, Some(3), "{said}");
        }
        // A part without an event is a whole file without a line.
        let request = audit::ExportSubjectRequest {
            occurred_range: range(3, 4),
            ..Default::default()
        };
        assert_eq!(audit.export_of(person(account(1)), request).await, "");
        let request = audit::ExportSubjectRequest {
            occurred_range: range(4, 3),
            format: 77,
            ..Default::default()
        };
        let refused = audit
            .rpc
            .export_subject(of(person(account(1)), request))
            .await
            .err()
            .unwrap();
        let refused = sammati_server::error::refusal_of(&refused).unwrap();
        let fields: Vec<_> = refused.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(fields, ["format", "occurred_range"]);
        // All of it verifies as all.
        let text = audit.export_text(person(account(1)), ExportFormat::Native).await;
        let (code, said) = verified(&audit, "subject", text.as_bytes());
        assert_eq!(code, Some(0), "{said}");
    }
}

/// What was claimed with an event is for the service that claimed it, in files as in lists.
#[tokio::test(flavor = "multi_thread")]
async fn s1_an_export_shows_of_a_payload_what_a_list_shows() {
    for audit in everywhere().await {
        let mut event = some_event(1);
        event.payload.as_mut().unwrap().claims = vec![vec![7; 32]];
        audit.append(vec![event]).await.unwrap();
        let file = audit.export(person(account(1)), ExportFormat::Native).await;
        let payload = &file[0]["event"]["payload"];
        assert_eq!(payload["subject"], account(1).name());
        assert!(payload.get("claims").is_none(), "{payload}");
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
                let moves = [
                    "data",
                    "valueBase64Binary",
                    "valueString",
                    "leaf",
                    "tlog_proof",
                    "id",
                    "recorded",
                    "logged_time",
                    "uid",
                    "value",
                ]
                .contains(&name.as_str());
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

/// What the proof of a line is, and the leaf that it proves.
fn fhir_proof(event: &Value) -> (Vec<u8>, Bundle) {
    let [proof, leaf, _, ..] = &event["extension"].as_array().unwrap()[..] else {
        panic!("proof, leaf and type")
    };
    let proof = String::from_utf8(base64(&proof["valueAttachment"]["data"])).unwrap();
    (base64(&leaf["valueBase64Binary"]), proof.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_fhir_has_the_elements_that_its_profiles_require() {
    for audit in everywhere().await {
        audit.append(events()).await.unwrap();
        let file = audit.export(person(account(1)), ExportFormat::Fhir).await;
        for event in &file {
            balp::conforms(event);
            let (leaf, proof) = fhir_proof(event);
            proof.verify(leaf_hash(&leaf), &[audit.verifier()]).unwrap();
        }
        let profiles: Vec<_> = file.iter().map(balp::profile).collect();
        assert_eq!(
            profiles,
            [
                "PatientUpdate",
                "PrivacyDisclosure.Recipient",
                "PrivacyDisclosure.Source",
                "AuthZconsent",
            ]
        );
        golden("fhir.json", file);
    }
}

/// A profile is claimed by what has all that it demands, and by nothing else: whatever an event lacks.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_claims_the_profile_that_it_has_the_elements_for() {
    use event::Action::{Create, Delete, Execute, Read, Update};
    use types::CallerKind::{Hiu, Operator, Representative, Service};
    let of = |kind: &str, action: event::Action, change: &dyn Fn(&mut audit::Event)| {
        let mut event = some_event(1);
        event.action = action.into();
        change(&mut event);
        of_type(event, kind)
    };
    let payload =
        |change: fn(&mut audit::Payload)| move |event: &mut audit::Event| change(event.payload.as_mut().unwrap());
    let by = |kind: types::CallerKind, id: &str| audit::Actor {
        kind: kind.into(),
        id: id.to_owned(),
        ..Default::default()
    };
    let failed = |event: &mut audit::Event| {
        event.outcome = event::Outcome::Minor.into();
        event.reason_code = "OTP_WRONG".to_owned();
    };
    let clinic = by(Hiu, "participants/clinic");
    let asked = |consent: &str| {
        let (clinic, consent) = (clinic.clone(), consent.to_owned());
        move |event: &mut audit::Event| {
            let payload = event.payload.as_mut().unwrap();
            payload.actor = Some(clinic.clone());
            payload.consent.clone_from(&consent);
            payload.resource.clear();
        }
    };
    let sent: Vec<(audit::Event, &str)> = vec![
        (of("consent.granted", Create, &|_| ()), "PatientCreate"),
        (of("consent.receipt_issued", Read, &|_| ()), "PatientRead"),
        (of("policy.disabled", Delete, &|_| ()), "PatientDelete"),
        (of("consent.withdrawn", Update, &failed), ""),
        (of("identity.viewed", Execute, &|_| ()), ""),
        (of("consent.paused", Update, &payload(|p| p.resource.clear())), ""),
        (
            of(
                "consent.paused",
                Update,
                &payload(|p| {
                    p.resource.clear();
                    p.consent = consent(1);
                }),
            ),
            "PatientUpdate",
        ),
        (
            of(
                "key.rotated",
                Update,
                &payload(|p| {
                    p.subject.clear();
                    p.object_refs.clear();
                    p.resource = "logs/2026h2".to_owned();
                }),
            ),
            "Update",
        ),
        (of("access.authorized", Execute, &asked(&consent(1))), "AuthZconsent"),
        (of("access.denied", Execute, &asked("")), ""),
        (
            of(
                "access.denied",
                Execute,
                &payload(|p| {
                    p.consent = consent(1);
                    p.object_refs.clear();
                }),
            ),
            "",
        ),
        (of("data.disclosed", Execute, &payload(|p| p.consent = consent(1))), ""),
        (
            of("data.received", Execute, &|event| {
                let payload = event.payload.as_mut().unwrap();
                payload.actor = Some(clinic.clone());
                payload.object_refs.push("participants/clinic".to_owned());
                payload.resource = "transfers/1".to_owned();
            }),
            "PrivacyDisclosure.Recipient",
        ),
        (
            of("consent.expired", Update, &|event| {
                event.payload.as_mut().unwrap().actor = Some(by(Service, "services/consent"));
            }),
            "PatientUpdate",
        ),
        (
            of("consent.withdrawn", Update, &|event| {
                let payload = event.payload.as_mut().unwrap();
                payload.actor = Some(by(Representative, &account(2).name()));
                let representation = account(3).name().replace("accounts/", "representations/");
                payload.on_behalf_of = Some(audit::OnBehalfOf { representation });
            }),
            "PatientUpdate",
        ),
        (
            of("admin.epoch_opened", Create, &|event| {
                let payload = event.payload.as_mut().unwrap();
                *payload = audit::Payload {
                    actor: Some(by(Operator, "operators/asha")),
                    ..Default::default()
                };
            }),
            "",
        ),
    ];
    for audit in everywhere().await {
        let (events, expected): (Vec<_>, Vec<_>) = sent.iter().cloned().unzip();
        let events = events.into_iter().map(|event| audit::Event {
            event_id: crate::fixture::event_id(),
            ..event
        });
        audit.append(events.collect()).await.unwrap();
        let file = audit.select_lines(ExportFormat::Fhir).await;
        file.iter().for_each(balp::conforms);
        let profiles: Vec<_> = file.iter().map(balp::profile).collect();
        assert_eq!(profiles, expected);
        let file = audit.select_lines(ExportFormat::Ocsf).await;
        file.iter().for_each(is_ocsf);
        // Without its keys all is erased; what is left is an AuditEvent all the same.
        let audit = audit.restart_without_keys().await;
        for event in audit.select_lines(ExportFormat::Fhir).await.iter().take(expected.len()) {
            balp::conforms(event);
            assert_eq!(balp::profile(event), "");
        }
        audit.select_lines(ExportFormat::Ocsf).await.iter().for_each(is_ocsf);
    }
}

/// What OCSF 1.3 requires of the two classes, and of the objects in them.
fn is_ocsf(event: &Value) {
    let number = |name: &str| event[name].as_i64().unwrap_or_else(|| panic!("{name} in {event}"));
    let class = number("class_uid");
    assert_eq!(number("type_uid"), class * 100 + number("activity_id"));
    assert_eq!(number("category_uid"), class / 1000);
    assert!(number("time") > 0 && (0..=6).contains(&number("severity_id")));
    assert!([0, 1, 2, 99].contains(&number("status_id")));
    assert!(number("activity_id") != 99 || event["activity_name"].is_string());
    let metadata = &event["metadata"];
    assert!(metadata["version"] == "1.3.0" && metadata["product"]["vendor_name"].is_string());
    assert!(metadata["uid"].is_string() && metadata["sequence"].is_u64() && metadata["log_name"].is_string());
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let has_one = |object: &Value, names: &[&str]| names.iter().any(|name| is_text(&object[name]));
    let is_user = |user: &Value| has_one(user, &["name", "uid"]) && (user["type_id"] != 99 || user["type"].is_string());
    let actor = &event["actor"];
    assert!(is_text(&actor["app_name"]) || is_user(&actor["user"]), "{actor}");
    let is_endpoint = |endpoint: &Value| has_one(endpoint, &["ip", "uid", "name", "hostname", "svc_name"]);
    match class {
        6003 => {
            assert!(is_text(&event["api"]["operation"]) && is_endpoint(&event["src_endpoint"]));
            assert!(event.get("user").is_none());
        }
        3002 => {
            assert!(is_user(&event["user"]) && is_text(&event["service"]["name"]));
            assert!(event.get("resources").is_none() && event.get("api").is_none());
        }
        other => panic!("{other} is no class of ours"),
    }
    for resource in event["resources"].as_array().into_iter().flatten() {
        assert!(has_one(resource, &["name", "uid"]), "{resource}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_ocsf_has_what_its_classes_require() {
    for audit in everywhere().await {
        audit.append([events(), vec![login()]].concat()).await.unwrap();
        let file = audit.export(person(account(1)), ExportFormat::Ocsf).await;
        for event in &file {
            is_ocsf(event);
            let proof: Bundle = event["unmapped"]["tlog_proof"].as_str().unwrap().parse().unwrap();
            let leaf = base64(&event["unmapped"]["leaf"]);
            assert_eq!(leaf, audit.prove(proof.index as i64, 0).await.unwrap().leaf);
            proof.verify(leaf_hash(&leaf), &[audit.verifier()]).unwrap();
            audit::Leaf::decode(leaf.as_slice()).unwrap();
        }
        golden("ocsf.json", file);
    }
}
