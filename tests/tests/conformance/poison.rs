//! What looks like an Aadhaar number, sent wherever a text may go: whatever is taken in must reach the log without it
//! (S1), and nothing of it may stop the feed (O1).

use std::time::Duration;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use sammati_api::audit::v1::get_proof_request::Event;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::{GetCheckpointRequest, GetProofRequest, ListEventsRequest};
use sammati_api::types::v1 as types;
use sammati_kernel::Clock;
use sammati_log::checkpoint::{Verifier, open};
use sammati_tests::story::Who;
use tonic::Code;

use crate::contract::{Rpc, about, collection, rpcs};
use crate::coverage::Findings;
use crate::dynamic::call;
use crate::fields::{Path, dotted, paths, with};
use crate::mutations::send;
use crate::reflection::page;
use crate::sample::Sampler;
use crate::stage::Stage;
use crate::verdict;
use crate::world::{World, run_alone};

/// Twelve digits, the last a right check digit; nobody's.
const NUMBER: &str = "999941057058";

#[test]
fn o1_s1_an_aadhaar_number_in_any_text_reaches_no_leaf_and_stops_no_feed() {
    run_alone(async {
        let world = World::alone("poison").await.expect("the system starts");
        let mut stage = Stage::of(&world.story.addresses, &world.clock)
            .await
            .expect("the stage");
        let mut findings = Findings::default();
        let mut taken = 0;
        let (late, early): (Vec<_>, Vec<_>) = rpcs().into_iter().partition(|r| r.name().ends_with("ResendOtp"));
        for rpc in early.iter().chain(&late).filter(|rpc| rpc.server() != "sandbox") {
            stage.story.renew().await.expect("sessions");
            for path in paths(&rpc.method.input()).iter().filter(|path| is_text(path)) {
                taken += on_stage(&stage, rpc, path, &mut findings).await;
                taken += by_everybody(&world, rpc, path, &mut findings).await;
            }
        }
        assert!(taken >= 20, "only {taken} requests were taken");
        caught_up(&world).await;
        nothing_in_the_log(&world).await;
        findings.none();
    });
}

fn is_text(path: &Path) -> bool {
    path.last()
        .is_some_and(|field| field.kind() == Kind::String && !field.is_map())
}

/// The number alone, in groups, and in the forms that stricter fields take.
fn forms(field: &FieldDescriptor) -> Vec<String> {
    let mut forms = vec![NUMBER.to_owned(), "my number is 9999 4105 7058".to_owned()];
    if let Some(collection) = collection(field) {
        forms.push(format!("{collection}/{NUMBER}"));
    }
    if about(field).contains("https://") || field.name().ends_with("uri") {
        forms.push(format!("https://{NUMBER}.example"));
        forms.push(format!("https://clinic.example/{NUMBER}"));
    }
    if about(field).contains("spiffe://") {
        forms.push(format!("spiffe://sammati.local/participant/{NUMBER}"));
    }
    forms
}

/// `base` with `text` at `path`, and a request id of its own.
fn poisoned(rpc: &Rpc, base: &DynamicMessage, path: &Path, text: String, sampler: &Sampler<'_>) -> DynamicMessage {
    let field = path.last().expect("a path is not empty");
    let text = Value::String(text);
    let value = if field.is_list() { Value::List(vec![text]) } else { text };
    let mut message = base.clone();
    if let Some(id) = rpc.field("request_id") {
        message.set_field(&id, sampler.value(&id));
    }
    with(
        &sampler.fit(Sampler::making_room(message, &path[0]), field),
        path,
        value,
        sampler,
    )
}

/// Sends it about a real object; tells how many were taken.
async fn on_stage(stage: &Stage, rpc: &Rpc, path: &Path, findings: &mut Findings) -> usize {
    let sampler = Sampler {
        clock: &stage.clock,
        caller: None,
    };
    let mut taken = 0;
    let mut made = None;
    for text in forms(path.last().expect("a path is not empty")) {
        // What was refused is still as it was.
        let object = match made.take() {
            Some(object) => object,
            None => match stage.make(rpc.name()).await {
                Ok(Some(object)) => object,
                Ok(None) => return taken,
                Err(error) => {
                    findings.add(rpc, format!("its object could not be made: {error}"));
                    return taken;
                }
            },
        };
        let base = DynamicMessage::decode(rpc.method.input(), &object.request[..]).expect("its own message");
        let message = poisoned(rpc, &base, path, text, &sampler);
        if judge(
            rpc,
            path,
            &message,
            send(&stage.story.addresses, &object.who, rpc, message.clone()).await,
            findings,
        ) {
            taken += 1;
        } else {
            made = Some(object);
        }
    }
    taken
}

/// Sends it in requests about nothing, as each caller whom the contract names; tells how many were answered.
async fn by_everybody(world: &World, rpc: &Rpc, path: &Path, findings: &mut Findings) -> usize {
    let mut taken = 0;
    for caller in world.all_allowed(rpc).filter(|caller| caller.service.is_none()) {
        let sampler = Sampler {
            clock: &world.clock,
            caller: caller.kind,
        };
        for text in forms(path.last().expect("a path is not empty")) {
            let message = poisoned(rpc, &sampler.message(&rpc.method.input()), path, text, &sampler);
            let answer = call(caller.wire(world, rpc), rpc, message.clone()).await;
            taken += usize::from(judge(rpc, path, &message, answer, findings));
        }
    }
    taken
}

/// Whether it was taken; what is refused must be refused well.
fn judge(
    rpc: &Rpc,
    path: &Path,
    message: &DynamicMessage,
    answer: Result<DynamicMessage, tonic::Status>,
    findings: &mut Findings,
) -> bool {
    let Err(status) = answer else { return true };
    match verdict::of(rpc, message, &status) {
        Ok(said) if said.code != Code::Internal => {}
        Ok(said) => findings.add(rpc, format!("{}: {}", dotted(path), said.line())),
        Err(bad) => findings.add(rpc, format!("{}: {bad}", dotted(path))),
    }
    false
}

/// Waits until the log has every event that was committed.
async fn caught_up(world: &World) {
    for service in ["identity", "consent"] {
        let mut counts = (0, 0);
        let mut quiet = 0;
        for _ in 0..200 {
            let metrics = page(world, service, "/metrics").await.1;
            let now = (
                number(&metrics, "store_events_total"),
                number(&metrics, "relay_events_total"),
            );
            // Denials of checks are written up to a second behind.
            quiet = if now == counts && now.0 == now.1 { quiet + 1 } else { 0 };
            counts = now;
            if quiet >= 15 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (committed, relayed) = counts;
        assert!(committed > 0, "{service} tells no events");
        assert_eq!(committed, relayed, "the relay of {service} stands still");
    }
}

/// A counter of a page of metrics.
fn number(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name}"))
}

/// No leaf holds the number, and no payload that an operator reads.
async fn nothing_in_the_log(world: &World) {
    let operator: &Who = &world.story.operator;
    let log = world.story.log().await.expect("a log");
    let mut client = ProofServiceClient::new(operator.audit());
    let newest = GetCheckpointRequest {
        log: log.name.clone(),
        size: 0,
        min_cosignatures: 0,
    };
    let note = client
        .get_checkpoint(newest)
        .await
        .expect("a checkpoint")
        .into_inner()
        .note;
    let keys = [Verifier::parse(&log.vkey).expect("its key")];
    let size = open(&note, &keys).expect("a signed note").size();
    for index in 0..i64::try_from(size).expect("a small log") {
        let request = GetProofRequest {
            log: log.name.clone(),
            event: Some(Event::Index(index)),
            ..Default::default()
        };
        let leaf = client.get_proof(request).await.expect("a proof").into_inner().leaf;
        let found = leaf.windows(NUMBER.len()).any(|part| part == NUMBER.as_bytes());
        assert!(!found, "leaf {index} holds the number");
    }
    let now = world.clock.now();
    let range = types::TimeRange {
        from: sammati_tests::story::at(now.minus(Duration::from_secs(86_400))),
        to: sammati_tests::story::at(now.plus(Duration::from_secs(86_400))),
    };
    let mut request = ListEventsRequest {
        page_size: 1000,
        occurred_range: Some(range),
        ..Default::default()
    };
    let mut client = LogServiceClient::new(operator.audit());
    loop {
        let answer = client.list_events(request.clone()).await.expect("a page").into_inner();
        let page = format!("{:?}", answer.events);
        assert!(
            !page.contains(NUMBER) && !page.contains("9999 4105 7058"),
            "an event holds the number"
        );
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            return;
        }
    }
}
