//! Every mutation on a real object: a stale etag, a repeat, and the same `request_id` with another body (I1). A new
//! mutation fails here until `stage.rs` knows how to make what it is about.

use std::sync::Arc;
use std::time::Duration;

use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use sammati_kernel::{Clock, ManualClock, SystemClock};
use sammati_tests::caller::Addresses;
use sammati_tests::story::{Failure, Who};
use sammati_tests::system::{InProcess, Setting};
use tonic::{Code, Status};

use crate::contract::{Rpc, rpcs};
use crate::coverage::Findings;
use crate::dynamic::call;
use crate::sample::short;
use crate::stage::{Made, Stage};
use crate::verdict;
use crate::world::{folder, run_alone};

async fn set_up() -> Result<(InProcess, Stage), Failure> {
    let clock = ManualClock::at(SystemClock.now());
    let setting = Setting {
        folder: Some(folder("mutations")),
        ..Setting::new()
    };
    let system = InProcess::start(&setting, Arc::new(clock.clone())).await?;
    let stage = Stage::of(&system.addresses, &clock).await?;
    Ok((system, stage))
}

/// Calls, as often as it takes the service to know who is who.
pub(crate) async fn send(
    addresses: &Addresses,
    who: &Who,
    rpc: &Rpc,
    message: DynamicMessage,
) -> Result<DynamicMessage, Status> {
    let url = match rpc.server() {
        "identity" => &addresses.identity,
        "consent" => &addresses.consent,
        "audit" => &addresses.audit,
        _ => &addresses.sandbox,
    };
    // After the clock has moved, who is who must be heard anew.
    for _ in 0..100 {
        match call(who.wire(rpc.server(), url), rpc, message.clone()).await {
            Err(status) if sammati_tests::story::reason(&status) == "IDENTITY_STALE" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer,
        }
    }
    Err(Status::unavailable("identity was not heard of in ten seconds"))
}

#[test]
fn every_mutation_keeps_its_promises() {
    run_alone(async {
        let (system, mut stage) = set_up().await.expect("the system starts");
        let mut findings = Findings::default();
        let mutations: Vec<_> = rpcs()
            .into_iter()
            .filter(|r| ["request_id", "etag"].iter().any(|f| r.field(f).is_some()))
            .collect();
        // The one that needs the clock to move goes last: tokens live for five minutes.
        let (late, early): (Vec<_>, Vec<_>) = mutations.into_iter().partition(|r| r.name().ends_with("ResendOtp"));
        for rpc in early.iter().chain(&late) {
            stage.story.renew().await.expect("sessions");
            match stage.make(rpc.name()).await {
                Ok(Some(made)) => {
                    if let Err(what) = promises(&stage, rpc, made).await {
                        findings.add(rpc, what);
                    }
                }
                Ok(None) => findings.add(rpc, "stage.rs does not make its object"),
                Err(error) => findings.add(rpc, format!("its object could not be made: {error}")),
            }
        }
        expired_tokens(&stage, &mut findings).await;
        system.stop().await;
        findings.none();
    });
}

/// Changes without an etag: they name many at once or a secret, add to a record, or take what is there as it is then.
const WITHOUT_ETAG: [&str; 15] = [
    "BreakGlassService.OpenBreakGlass",
    "StudyService.IdentifySubject",
    "StudyService.InviteSubjects",
    "SubscriptionService.SetupLocker",
    "SessionService.RefreshSession",
    "SubjectService.EraseSubject",
    "RetentionService.ExpireClass",
    "RetentionService.LiftLegalHold",
    "SessionService.RevokeSessions",
    "DecisionService.AuthorizeAccess",
    "LinkService.IssueLinkToken",
    "LinkService.LinkCareContexts",
    "LinkService.AnnounceCareContexts",
    "LinkService.SendDeepLink",
    "NotificationService.AcknowledgeNotifications",
];

/// Whether the method makes something new, which no etag was ever read of.
fn makes_anew(rpc: &Rpc) -> bool {
    let made = rpc.method.name().strip_prefix("Create");
    let output = rpc.method.output();
    made.is_some_and(|made| made.ends_with(output.name()) || output.name() == format!("Create{made}Response"))
}

/// What one mutation must do with a stale etag, a repeat and another body.
async fn promises(stage: &Stage, rpc: &Rpc, made: Made) -> Result<(), String> {
    let addresses = &stage.story.addresses;
    let read = |bytes: &[u8]| DynamicMessage::decode(rpc.method.input(), bytes).expect("its own message");
    let (request, other) = (read(&made.request), read(&made.other));
    if rpc.field("etag").is_none() {
        if !makes_anew(rpc) && !WITHOUT_ETAG.contains(&short(rpc.name())) {
            return Err("a transition without an etag".to_owned());
        }
    } else {
        for (what, etag) in [
            ("a stale etag", "\"4711\"".to_owned()),
            ("half an etag", "\"".to_owned()),
            ("an etag with NUL", "\"\0\"".to_owned()),
            ("an etag of 1 MiB", "1".repeat(1 << 20)),
        ] {
            let mut stale = request.clone();
            stale.set_field_by_name("etag", Value::String(etag));
            stale.set_field_by_name("request_id", Value::String(stage.story.rid()));
            let answer = send(addresses, &made.who, rpc, stale.clone()).await;
            refused(rpc, &stale, answer, Code::Aborted, "ETAG_MISMATCH", what)?;
        }
    }
    let wrong = |status: Status| format!("a good request: {status:?}");
    let first = send(addresses, &made.who, rpc, request.clone()).await.map_err(wrong)?;
    let again = send(addresses, &made.who, rpc, request)
        .await
        .map_err(|s| format!("a repeat: {s:?}"))?;
    let differs = differences(&first, &again);
    if !differs.is_empty() {
        return Err(format!("a repeat answers otherwise in {differs:?}"));
    }
    refused(
        rpc,
        &other,
        send(addresses, &made.who, rpc, other.clone()).await,
        Code::AlreadyExists,
        "REQUEST_ID_REUSED",
        "another body",
    )
}

/// The fields in which two answers differ. When an answer was given, and how fresh its facts were, is no part of it.
fn differences(a: &DynamicMessage, b: &DynamicMessage) -> Vec<String> {
    const OWN: [&str; 2] = ["revision", "identity_as_of_time"];
    let mut found = Vec::new();
    for field in a.descriptor().fields().filter(|f| !OWN.contains(&f.name())) {
        let (x, y) = (a.get_field(&field), b.get_field(&field));
        let inner = match (x.as_ref(), y.as_ref()) {
            (Value::Message(x), Value::Message(y)) => differences(x, y),
            (Value::List(x), Value::List(y)) if x.len() == y.len() => {
                let pairs = x.iter().zip(y).map(|(x, y)| match (x, y) {
                    (Value::Message(x), Value::Message(y)) => differences(x, y),
                    (x, y) if x == y => Vec::new(),
                    _ => vec![String::new()],
                });
                pairs.flatten().collect()
            }
            (x, y) if x == y => Vec::new(),
            _ => vec![String::new()],
        };
        found.extend(inner.into_iter().map(|rest| format!("{}.{rest}", field.name())));
    }
    found
}

fn refused(
    rpc: &Rpc,
    sent: &DynamicMessage,
    answer: Result<DynamicMessage, Status>,
    code: Code,
    reason: &str,
    what: &str,
) -> Result<(), String> {
    let status = answer.err().ok_or_else(|| format!("{what}: it answered"))?;
    let said = verdict::of(rpc, sent, &status).map_err(|bad| format!("{what}: {bad}"))?;
    if said.is(code, reason) {
        Ok(())
    } else {
        Err(format!("{what}: {}", said.line()))
    }
}

/// Once five minutes have passed, no token of the story is good anywhere.
async fn expired_tokens(stage: &Stage, findings: &mut Findings) {
    stage.clock.advance(Duration::from_secs(301));
    let story = &stage.story;
    for rpc in rpcs()
        .iter()
        .filter(|rpc| rpc.server() != "sandbox" && rpc.method.name().starts_with("List"))
    {
        let url = match rpc.server() {
            "identity" => &story.addresses.identity,
            "consent" => &story.addresses.consent,
            _ => &story.addresses.audit,
        };
        for who in [&story.hospital, &story.clinic, &story.app] {
            let empty = DynamicMessage::new(rpc.method.input());
            let answer = call(who.wire(rpc.server(), url), rpc, empty.clone()).await;
            if let Err(what) = refused(
                rpc,
                &empty,
                answer,
                Code::Unauthenticated,
                "TOKEN_EXPIRED",
                "an expired token",
            ) {
                findings.add(rpc, what);
            }
        }
    }
}
