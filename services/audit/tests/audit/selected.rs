//! Events of a time as a file: the oldest first, proved against one checkpoint, and taken up where it broke off.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::{self as audit, ExportEventsRequest, ExportEventsResponse, ExportFormat, event};
use sammati_api::types::v1 as types;
use sammati_kernel::{Micros, Reason, Refusal};
use sammati_log::bundle::Bundle;
use sammati_server::event::timestamp;
use serde_json::Value;
use tokio_stream::StreamExt;

use crate::fixture::{Audit, account, consent, everywhere, of, operator, person, said, some_event};
use crate::reading::all;
use crate::verifying::verifier;

/// The start of a day, counted from the one on which the tests begin.
fn day(n: i64) -> Micros {
    Micros::from_seconds(1_795_305_600 + n * 86_400)
}

fn days(from: i64, to: i64) -> Option<types::TimeRange> {
    Some(types::TimeRange {
        from: Some(timestamp(day(from))),
        to: Some(timestamp(day(to))),
    })
}

/// A request with a ground.
fn asked(change: impl FnOnce(&mut ExportEventsRequest)) -> ExportEventsRequest {
    let mut request = ExportEventsRequest {
        legal_basis: "incident 12".to_owned(),
        ..Default::default()
    };
    change(&mut request);
    request
}

impl Audit {
    /// All messages of an export, whole or not.
    async fn select(&self, request: ExportEventsRequest) -> Result<Vec<ExportEventsResponse>, Refusal> {
        let stream = said(self.rpc.export_events(of(operator(), request)).await)?;
        Ok(stream.map(Result::unwrap).collect().await)
    }

    /// The native lines of all events of the days around now in the tree of this size.
    pub(crate) async fn select_in(&self, tree_size: i64) -> Vec<Value> {
        let request = asked(|r| {
            r.occurred_range = days(-1, 2);
            r.tree_size = tree_size;
        });
        lines(&content(&self.select(request).await.unwrap()))
    }

    /// The lines of all events of the days around now.
    pub(crate) async fn select_lines(&self, format: ExportFormat) -> Vec<Value> {
        let request = asked(|r| {
            r.format = format.into();
            r.occurred_range = days(-1, 2);
        });
        lines(&content(&self.select(request).await.unwrap()))
    }
}

fn content(parts: &[ExportEventsResponse]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.content.clone()).collect()
}

fn lines(content: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(content).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The indexes of native lines.
fn indexes(content: &[u8]) -> Vec<i64> {
    let name = |line: &Value| line["event"]["name"].as_str().unwrap().to_owned();
    let index = |line: &Value| name(line).rsplit('/').next().unwrap().parse().unwrap();
    lines(content).iter().map(index).collect()
}

/// What the verifier says of a file, with the log's key and nothing else.
pub(crate) fn verified(audit: &Audit, command: &str, file: &[u8]) -> (Option<i32>, String) {
    let mut child = Command::new(verifier())
        .args([command, "--vkey", &audit.log.vkey(), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have seen enough before the end.
    let _ = child.stdin.take().unwrap().write_all(file);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn at(n: i64, who: u8) -> audit::Event {
    let mut event = some_event(who);
    event.occurred_time = Some(timestamp(day(n).plus(Duration::from_secs(60))));
    event
}

/// The events of some days, whatever order the log has them in; none of another day, and not the record of the export.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_time_is_exported_oldest_day_first_and_each_line_verifies_offline() {
    for audit in everywhere().await {
        let sent = [3, 1, 2, 9, 1, 3, 2, 2, -1, 1];
        audit.append(sent.iter().map(|n| at(*n, 1)).collect()).await.unwrap();
        let size = audit.checkpoint(0).await.unwrap().size;
        for format in [ExportFormat::Native, ExportFormat::Fhir, ExportFormat::Ocsf] {
            let request = asked(|r| {
                r.format = format.into();
                r.occurred_range = days(1, 4);
                r.tree_size = size;
            });
            let parts = audit.select(request).await.unwrap();
            let [before @ .., last] = &parts[..] else {
                panic!("no message")
            };
            assert!(last.complete && before.iter().all(|part| !part.complete));
            assert!(parts.iter().all(|part| part.tree_size == size));
            let file = content(&parts);
            if format == ExportFormat::Native {
                assert_eq!(indexes(&file), [1, 4, 9, 2, 6, 7, 0, 5]);
                assert_eq!(parts.iter().rev().find_map(|part| part.last_index), Some(5));
            }
            assert_eq!(lines(&file).len(), 8);
            let (code, said) = verified(&audit, "export", &file);
            assert_eq!(code, Some(0), "{said}");
            let expected = format!(
                "verified: 8 events, each once, are in log {} at {size} leaves",
                audit.log.origin()
            );
            assert!(said.starts_with(&expected), "{said}");
            // The type of all of them is changed, in whatever words.
            let text = String::from_utf8(file)
                .unwrap()
                .replace("consent.granted", "consent.denied");
            let (code, said) = verified(&audit, "export", text.as_bytes());
            assert_eq!(code, Some(1), "{said}");
            assert!(
                said.contains("line 1: the line tells of type \"consent.denied\""),
                "{said}"
            );
        }
    }
}

/// Each call is in the log before its first byte, with ground, tree and whom it is about; what is refused is not.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_recorded_once_before_its_first_byte() {
    for audit in everywhere().await {
        audit
            .append((0..5).map(|n| some_event(n % 2 + 1)).collect())
            .await
            .unwrap();
        let size = async || audit.checkpoint(0).await.unwrap().size;
        let before = size().await;
        let request = asked(|r| r.subject = account(1).name());
        let stream = audit.rpc.export_events(of(operator(), request)).await.unwrap();
        assert_eq!(size().await, before + 1, "nothing was taken yet");
        let parts: Vec<_> = stream.into_inner().collect().await;
        assert_eq!(parts.len(), 1);
        assert_eq!(size().await, before + 1, "once");
        let hers = all(&audit, &person(account(1)), &audit::ListEventsRequest::default()).await;
        let record = &hers[0];
        assert_eq!(record.header.as_ref().unwrap().event_type, "audit.exported");
        let payload = record.payload.as_ref().unwrap();
        assert_eq!(payload.actor.as_ref().unwrap().id, "operators/asha");
        assert_eq!(payload.legal_basis, "incident 12");
        assert_eq!(payload.resource, audit.log.name());
        assert_eq!(
            payload.object_refs,
            [format!("{}/checkpoints/{before}", audit.log.name())]
        );
        let before = size().await;
        for (request, reason, fields) in [
            (asked(|_| ()), Reason::QueryTooWide, vec!["subject", "occurred_range"]),
            (
                asked(|r| r.occurred_range = days(0, 32)),
                Reason::QueryTooWide,
                vec!["subject", "occurred_range"],
            ),
            (
                asked(|r| {
                    r.legal_basis.clear();
                    r.format = 9;
                    r.after_index = Some(-1);
                    r.tree_size = -1;
                    r.trace_id = "1".to_owned();
                }),
                Reason::FieldInvalid,
                vec!["trace_id", "format", "legal_basis", "after_index", "tree_size"],
            ),
            (
                asked(|r| {
                    r.occurred_range = days(0, 1);
                    r.tree_size = 77;
                }),
                Reason::CheckpointUnknown,
                vec![],
            ),
            (
                asked(|r| {
                    r.occurred_range = days(0, 1);
                    r.after_index = Some(77);
                }),
                Reason::IndexBeyondTree,
                vec![],
            ),
        ] {
            let refused = audit.select(request).await.unwrap_err();
            let named: Vec<_> = refused.violations.iter().map(|v| v.field.to_string()).collect();
            assert_eq!(
                (refused.reason, named),
                (reason, fields.into_iter().map(str::to_owned).collect())
            );
        }
        assert_eq!(size().await, before);
    }
}

/// Events of four days, so many that there are postings of most of them, in messages of the size that is promised.
async fn filled(audit: &Audit) -> usize {
    let mut count = 0;
    for n in 0..5 {
        let of = |k: i64| {
            let mut event = at(k % 4, (k % 50) as u8);
            if k % 7 == 0 {
                event.event_type = "consent.paused".to_owned();
                event.action = event::Action::Update.into();
                event.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
            }
            event
        };
        let events: Vec<_> = (n * 131..(n + 1) * 131).map(of).collect();
        count += events.len();
        audit.append_unsigned(events).await.unwrap();
    }
    count
}

/// However a stream ends, what arrived is a beginning of the file, and the rest is what the next call brings: the same bytes,
/// against the same checkpoint, though the log has grown and its postings were made meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a1_an_export_that_broke_off_goes_on_where_it_was() {
    for audit in everywhere().await {
        let sent = filled(&audit).await;
        let whole = |r: &mut ExportEventsRequest| r.occurred_range = days(0, 4);
        let parts = audit.select(asked(whole)).await.unwrap();
        let file = content(&parts);
        assert_eq!(lines(&file).len(), sent);
        assert!(parts.len() > 5, "{} messages", parts.len());
        for part in &parts[..parts.len() - 1] {
            let length = part.content.len();
            assert!((128 << 10..192 << 10).contains(&length), "{length} bytes");
            assert_eq!(part.content.last(), Some(&b'\n'), "whole lines");
        }
        for (n, arrived) in [1, 3, parts.len() - 1].into_iter().enumerate() {
            // Whoever has the file alone finds there where to go on: its last line.
            let have = content(&parts[..arrived]);
            let last = lines(&have).pop().unwrap();
            let bundle: Bundle = last["proof"].as_str().unwrap().parse().unwrap();
            assert_eq!(parts[arrived - 1].last_index, Some(bundle.index as i64));
            let rest = asked(|r| {
                whole(r);
                r.after_index = Some(bundle.index as i64);
                r.tree_size = parts[0].tree_size;
            });
            let rest = audit.select(rest).await.unwrap();
            assert!(rest.last().unwrap().complete);
            let joined = [have, content(&rest)].concat();
            assert!(joined == file, "the same bytes after {arrived} messages");
            let (code, said) = verified(&audit, "export", &joined);
            assert_eq!(code, Some(0), "{said}");
            audit.append((0..9).map(|k| at(k % 4, 1)).collect()).await.unwrap();
            if n == 0 {
                audit.log.post().await.unwrap();
            }
        }
        // Of another tree it is another file, and the two do not pass for one.
        let rest = asked(|r| {
            whole(r);
            r.after_index = parts[0].last_index;
        });
        let joined = [parts[0].content.clone(), content(&audit.select(rest).await.unwrap())].concat();
        let (code, said) = verified(&audit, "export", &joined);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("export all with one tree_size"), "{said}");
        // After the last there is nothing, and that is whole.
        let rest = asked(|r| {
            whole(r);
            r.after_index = indexes(&file).last().copied();
            r.tree_size = parts[0].tree_size;
        });
        let rest = audit.select(rest).await.unwrap();
        assert!(rest.len() == 1 && rest[0].complete && rest[0].content.is_empty());
    }
}

/// What passes a filter is what a list has, the other way round; by whatever it is looked up, with postings and without.
#[tokio::test(flavor = "multi_thread")]
async fn i12_an_export_has_what_the_list_has() {
    for audit in everywhere().await {
        filled(&audit).await;
        let filters: Vec<ExportEventsRequest> = vec![
            asked(|r| r.subject = account(7).name()),
            asked(|r| {
                r.subject = account(7).name();
                r.occurred_range = days(1, 3);
            }),
            asked(|r| {
                r.subject = account(8).name();
                r.consent = consent(8);
            }),
            asked(|r| r.occurred_range = days(2, 4)),
            asked(|r| {
                r.occurred_range = days(0, 4);
                r.event_type_prefix = "consent.pa".to_owned();
            }),
            asked(|r| {
                r.occurred_range = days(0, 4);
                r.resource = consent(9);
            }),
            asked(|r| {
                r.occurred_range = days(0, 4);
                r.actor = account(9).name();
            }),
            asked(|r| {
                r.occurred_range = days(0, 4);
                r.participant = "participants/city-hospital".to_owned();
            }),
            asked(|r| {
                r.occurred_range = days(0, 31);
                r.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
            }),
            asked(|r| {
                r.occurred_range = days(0, 4);
                r.actor = account(90).name();
            }),
        ];
        for posted in [false, true] {
            if posted {
                audit.log.post().await.unwrap();
            }
            for filter in &filters {
                let request = filter.clone();
                let list = audit::ListEventsRequest {
                    page_size: 1000,
                    subject: request.subject,
                    actor: request.actor,
                    resource: request.resource,
                    consent: request.consent,
                    participant: request.participant,
                    event_type_prefix: request.event_type_prefix,
                    trace_id: request.trace_id,
                    occurred_range: request.occurred_range,
                    ..Default::default()
                };
                let listed = all(&audit, &operator(), &list).await;
                // Readings are recorded meanwhile, of this subject too.
                let told = |kind: &str| kind.starts_with("consent.");
                let mut expected: Vec<_> = listed
                    .iter()
                    .filter(|event| told(&event.header.as_ref().unwrap().event_type))
                    .map(|event| event.index)
                    .collect();
                expected.reverse();
                let exported = content(&audit.select(filter.clone()).await.unwrap());
                let is_told = |line: &&Value| told(line["event"]["header"]["eventType"].as_str().unwrap());
                let index = |line: &Value| {
                    line["event"]["name"]
                        .as_str()
                        .unwrap()
                        .rsplit('/')
                        .next()
                        .unwrap()
                        .parse()
                };
                let found: Vec<i64> = lines(&exported)
                    .iter()
                    .filter(is_told)
                    .map(|line| index(line).unwrap())
                    .collect();
                assert_eq!(found, expected, "{filter:?}, posted: {posted}");
                assert!(found.len() > 4 || filter.actor == account(90).name(), "{filter:?}");
            }
        }
    }
}

/// Of what is erased the header is told, and its proof holds.
#[tokio::test(flavor = "multi_thread")]
async fn a3_what_is_erased_is_exported_with_its_header_alone() {
    for audit in everywhere().await {
        audit
            .append((0..6).map(|n| some_event(n % 2 + 1)).collect())
            .await
            .unwrap();
        let audit = audit.restart_without_keys().await;
        for format in [ExportFormat::Native, ExportFormat::Fhir, ExportFormat::Ocsf] {
            let request = asked(|r| {
                r.format = format.into();
                r.occurred_range = days(0, 1);
                r.event_type_prefix = "consent.".to_owned();
            });
            let file = content(&audit.select(request).await.unwrap());
            let (code, said) = verified(&audit, "export", &file);
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(lines(&file).len(), 6);
            let text = String::from_utf8(file).unwrap();
            assert!(!text.contains("accounts/") && !text.contains("city-hospital"), "{text}");
        }
        let native = audit.select_lines(ExportFormat::Native).await;
        assert_eq!(native[0]["event"]["payloadState"], "PAYLOAD_STATE_ERASED");
        assert_eq!(native[0]["event"]["header"]["eventType"], "consent.granted");
    }
}

/// An export that nobody takes holds nothing up and makes nothing in advance; whoever goes away is not worked for.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_waits_for_its_reader_and_nobody_waits_for_it() {
    for audit in everywhere().await {
        let sent = filled(&audit).await;
        let idle = Arc::strong_count(&audit.log);
        let request = || asked(|r| r.occurred_range = days(0, 4));
        let mut stream = audit
            .rpc
            .export_events(of(operator(), request()))
            .await
            .unwrap()
            .into_inner();
        let first = stream.next().await.unwrap().unwrap();
        // Events are taken in and erased, and the log is signed, while it stands.
        audit.append((0..50).map(|k| at(k % 4, 3)).collect()).await.unwrap();
        assert!(audit.checkpoint(0).await.unwrap().size > first.tree_size);
        let mut file = first.content;
        while let Some(part) = stream.next().await {
            file.extend(part.unwrap().content);
        }
        assert_eq!(lines(&file).len(), sent, "of the tree that it began with");
        drop(stream);
        let mut stream = audit
            .rpc
            .export_events(of(operator(), request()))
            .await
            .unwrap()
            .into_inner();
        stream.next().await.unwrap().unwrap();
        assert!(Arc::strong_count(&audit.log) > idle);
        drop(stream);
        // Its task holds the log until it notices.
        let gone = async {
            while Arc::strong_count(&audit.log) > idle {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone)
            .await
            .expect("it ends");
    }
}

/// A leaf that was changed beside the service: the export ends with the refusal, and the log is frozen.
#[tokio::test(flavor = "multi_thread")]
async fn a2_an_export_of_changed_leaves_ends_with_a_refusal() {
    for audit in everywhere().await {
        audit.append((0..4).map(|_| some_event(1)).collect()).await.unwrap();
        let sql = match audit.is_postgres() {
            true => r"DELETE FROM leaf WHERE id='\x0000000000000002'",
            false => "DELETE FROM leaf WHERE id=X'0000000000000002'",
        };
        crate::kept::execute(&audit.location(), sql);
        let request = asked(|r| r.occurred_range = days(0, 1));
        let mut stream = audit
            .rpc
            .export_events(of(operator(), request))
            .await
            .unwrap()
            .into_inner();
        let mut last = None;
        while let Some(part) = stream.next().await {
            assert!(!part.as_ref().is_ok_and(|part| part.complete));
            last = Some(part);
        }
        let refused = sammati_server::error::refusal_of(&last.unwrap().unwrap_err()).unwrap();
        assert_eq!(refused.reason, Reason::LogFrozen);
    }
}
