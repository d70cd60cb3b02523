//! The walk: every RPC of every contract, called by everybody, with everything wrong that its descriptor knows of. A new
//! RPC is walked as soon as it stands in a contract.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use prost_reflect::{DynamicMessage, Value};
use sammati_kernel::Clock;
use sammati_tests::caller::Wire;
use tonic::Code;

use crate::contract::{Rpc, required, rpcs};
use crate::dynamic::call;
use crate::fields::{Case, Path, all_wrong, cases, dotted, is_ours, longest, names_it};
use crate::sample::{Sampler, uuid};
use crate::verdict::{self, Said};
use crate::world::{Caller, World, run};
use crate::wrong::HUGE;

/// How many calls are in work at once: fewer than the smallest class lets one peer have.
const AT_ONCE: usize = 16;

/// All that went wrong in a walk, told at its end.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    pub(crate) fn add(&mut self, rpc: &Rpc, what: impl std::fmt::Display) {
        self.0.push(format!("{}: {what}", rpc.name()));
    }

    pub(crate) fn none(self) {
        assert!(self.0.is_empty(), "{} findings\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Calls, and reads the refusal; `Ok(None)` is an answer.
pub(crate) async fn refusal(wire: Wire, rpc: &Rpc, message: DynamicMessage) -> Result<Option<Said>, String> {
    match call(wire, rpc, message.clone()).await {
        Ok(_) => Ok(None),
        Err(status) => verdict::of(rpc, &message, &status).map(Some),
    }
}

/// Why an answer is not the refusal that was expected; `None` when it is.
pub(crate) fn differs(answer: Result<Option<Said>, String>, code: Code, reason: &str) -> Option<String> {
    match answer {
        Ok(Some(said)) if said.is(code, reason) => None,
        Ok(Some(said)) => Some(said.line()),
        Ok(None) => Some("it answered".to_owned()),
        Err(what) => Some(what),
    }
}

/// A well-formed request as `caller` would make it.
pub(crate) fn good(world: &World, caller: &Caller, rpc: &Rpc) -> DynamicMessage {
    sampler(world, caller).message(&rpc.method.input())
}

fn sampler<'a>(world: &'a World, caller: &Caller) -> Sampler<'a> {
    Sampler {
        clock: &world.clock,
        caller: caller.kind,
    }
}

#[test]
fn only_callers_whom_the_contract_names_pass_the_gate() {
    run(async |world| {
        let mut findings = Findings::default();
        for rpc in rpcs() {
            for caller in world.callers.iter().filter(|c| !c.may_call(&rpc)) {
                let known = caller.is_known_to(rpc.server());
                let (code, reason) = match known {
                    true => (Code::PermissionDenied, "CALLER_KIND"),
                    false => (Code::Unauthenticated, "TOKEN_MISSING"),
                };
                // What is asked does not matter: neither a good question nor an empty one passes.
                for message in [good(world, caller, &rpc), DynamicMessage::new(rpc.method.input())] {
                    let answer = refusal(caller.wire(world, &rpc), &rpc, message).await;
                    if let Some(what) = differs(answer, code, reason) {
                        findings.add(&rpc, format!("{} got {what}", caller.name));
                    }
                }
            }
        }
        findings.none();
    });
}

#[test]
fn every_rpc_has_a_caller_here() {
    run(async |world| {
        let without: Vec<_> = rpcs().into_iter().filter(|rpc| world.allowed(rpc).is_none()).collect();
        assert!(
            without.is_empty(),
            "nobody calls {:?}",
            without.iter().map(Rpc::name).collect::<Vec<_>>()
        );
    });
}

#[test]
fn an_empty_request_is_told_everything_it_lacks() {
    run(async |world| {
        let mut findings = Findings::default();
        for rpc in rpcs() {
            let lacks = required(&rpc.method.input());
            for caller in world.callers.iter().filter(|c| c.may_call(&rpc) && !lacks.is_empty()) {
                let empty = DynamicMessage::new(rpc.method.input());
                match refusal(caller.wire(world, &rpc), &rpc, empty).await {
                    Ok(Some(said)) if said.is(Code::InvalidArgument, "FIELD_INVALID") => {
                        let is_it = |said: &str, n: &str| said.split('.').next() == Some(n);
                        let named =
                            |names: &&Vec<String>| said.fields.iter().any(|f| names.iter().any(|n| is_it(f, n)));
                        let missing: Vec<_> = lacks
                            .iter()
                            .filter(|names| !named(names))
                            .map(|names| &names[0])
                            .collect();
                        if !missing.is_empty() {
                            findings.add(
                                &rpc,
                                format!("{}: {missing:?} not named in {}", caller.name, said.line()),
                            );
                        }
                    }
                    other => findings.add(&rpc, format!("{} got {other:?}", caller.name)),
                }
            }
        }
        findings.none();
    });
}

#[test]
fn a_well_formed_request_is_never_called_malformed() {
    run(async |world| {
        let mut findings = Findings::default();
        for rpc in rpcs() {
            let Some(caller) = world.allowed(&rpc) else { continue };
            let message = good(world, caller, &rpc);
            match refusal(caller.wire(world, &rpc), &rpc, message).await {
                Ok(Some(said)) if said.code == Code::InvalidArgument => findings.add(&rpc, said.line()),
                Ok(_) => {}
                Err(what) => findings.add(&rpc, what),
            }
        }
        findings.none();
    });
}

#[test]
fn every_wrong_field_is_refused_by_its_name() {
    run(async |world| {
        let mut findings = Findings::default();
        let mut tried: BTreeMap<String, usize> = BTreeMap::new();
        for rpc in rpcs() {
            for (n, caller) in world.all_allowed(&rpc).enumerate() {
                // What is too long for one is for all.
                let cases = cases(&rpc, &sampler(world, caller)).into_iter();
                let cases: Vec<_> = cases.filter(|case| n == 0 || case.what != HUGE).collect();
                for case in &cases {
                    *tried.entry(case.what.clone()).or_default() += 1;
                }
                let judged = futures::stream::iter(cases)
                    .map(|case| judge(world, caller, &rpc, case))
                    .buffer_unordered(AT_ONCE);
                for what in judged.collect::<Vec<_>>().await.into_iter().flatten() {
                    findings.add(&rpc, format!("{}: {what}", caller.name));
                }
            }
        }
        findings.none();
        // Comments that are no longer read, or a kind of field that is passed over, make no case and no finding.
        for what in [
            "absent",
            "one above its limit",
            "too many",
            "-1 s",
            "an unknown path",
            "NUL",
            HUGE,
        ] {
            let tried = tried.get(what).copied().unwrap_or(0);
            assert!(tried >= 5, "only {tried} cases of {what}");
        }
    });
}

/// What is not right about the answer to a wrong request.
async fn judge(world: &World, caller: &Caller, rpc: &Rpc, case: Case) -> Option<String> {
    let about = format!("{} = {}", dotted(&case.path), case.what);
    let said = match refusal(caller.wire(world, rpc), rpc, case.message).await {
        Ok(Some(said)) => said,
        Ok(None) => return Some(format!("{about}: it answered")),
        Err(what) => return Some(format!("{about}: {what}")),
    };
    let field = case.path.last()?;
    // A relayed body is known by the hash that chains it to the one before.
    let chained = field.full_name().ends_with("RelayedEvent.body");
    let is_it = |named: &String| names_it(named, &case.path) || (chained && named.ends_with("events.chain"));
    let by_name = said.code == Code::InvalidArgument && said.fields.iter().any(is_it);
    let absent = ["NOT_AVAILABLE", "NOT_FOUND", "TOKEN_MISSING"].contains(&said.reason.as_str());
    let by_reason = match is_ours(field) {
        true => absent || rpc.documents(&said.reason),
        false => said.code == Code::InvalidArgument && rpc.documents(&said.reason),
    };
    (!by_name && !by_reason).then(|| format!("{about}: {}", said.line()))
}

#[test]
fn a_request_with_every_field_wrong_is_told_of_each() {
    run(async |world| {
        let mut findings = Findings::default();
        for rpc in rpcs() {
            for caller in world.all_allowed(&rpc) {
                let (message, fields) = all_wrong(&rpc, &sampler(world, caller));
                if fields.is_empty() {
                    continue;
                }
                match refusal(caller.wire(world, &rpc), &rpc, message).await {
                    Ok(Some(said)) if said.is(Code::InvalidArgument, "FIELD_INVALID") => {
                        let is_told = |path: &Path| said.fields.iter().any(|named| names_it(named, path));
                        let untold: Vec<_> = fields.iter().filter(|path| !is_told(path)).collect();
                        if !untold.is_empty() {
                            let untold: Vec<_> = untold.into_iter().map(|path| dotted(path)).collect();
                            findings.add(&rpc, format!("{}: {untold:?} not in {}", caller.name, said.line()));
                        }
                    }
                    other => findings.add(&rpc, format!("{} got {other:?}", caller.name)),
                }
            }
        }
        findings.none();
    });
}

#[test]
fn the_longest_text_that_a_comment_allows_is_taken() {
    run(async |world| {
        let mut findings = Findings::default();
        let mut tried = 0;
        for rpc in rpcs() {
            for caller in world.all_allowed(&rpc) {
                for (path, message) in longest(&rpc, &sampler(world, caller)) {
                    tried += 1;
                    match refusal(caller.wire(world, &rpc), &rpc, message).await {
                        Ok(Some(said)) if said.fields.iter().any(|named| names_it(named, &path)) => {
                            findings.add(&rpc, format!("{}: {}: {}", caller.name, dotted(&path), said.line()));
                        }
                        Ok(_) => {}
                        Err(what) => findings.add(&rpc, format!("{}: {}: {what}", caller.name, dotted(&path))),
                    }
                }
            }
        }
        assert!(tried >= 30, "only {tried} texts");
        findings.none();
    });
}

#[test]
fn a_request_id_is_a_recent_uuid_v7() {
    const HOUR: Duration = Duration::from_secs(3600);
    run(async |world| {
        let now = world.clock.now();
        let ids = [
            ("none", String::new(), "FIELD_INVALID"),
            (
                "a UUIDv4",
                "c232ab00-9414-41e8-b2a5-5c7ef3f0a1de".to_owned(),
                "FIELD_INVALID",
            ),
            ("25 h old", uuid(now.minus(25 * HOUR)), "REQUEST_ID_EXPIRED"),
            ("10 min ahead", uuid(now.plus(HOUR / 6)), "REQUEST_ID_EXPIRED"),
        ];
        let mut findings = Findings::default();
        for rpc in rpcs() {
            let (Some(caller), Some(field)) = (world.allowed(&rpc), rpc.field("request_id")) else {
                continue;
            };
            for (what, id, reason) in &ids {
                let mut message = good(world, caller, &rpc);
                message.set_field(&field, Value::String(id.clone()));
                let answer = refusal(caller.wire(world, &rpc), &rpc, message).await;
                let named = matches!(&answer, Ok(Some(said)) if said.fields.iter().any(|f| f == "request_id"));
                if let Some(got) = differs(answer, Code::InvalidArgument, reason) {
                    findings.add(&rpc, format!("{what}: {got}"));
                } else if *reason == "FIELD_INVALID" && !named {
                    findings.add(&rpc, format!("{what}: request_id is not named"));
                }
            }
        }
        findings.none();
    });
}
