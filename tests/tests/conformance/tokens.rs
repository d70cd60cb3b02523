//! Whoever comes with a token that is none, or another's, is nobody.

use prost_reflect::DynamicMessage;
use sammati_kernel::Clock;
use sammati_kernel::jws::SigningKey;
use sammati_server::token::{self, Claims};
use sammati_tests::caller::{Bearer, Wire, channel};
use tonic::Code;

use crate::contract::rpcs;
use crate::coverage::{Findings, differs, good, refusal};
use crate::world::{Caller, World, run};

#[test]
fn a_bad_token_is_refused_at_every_method() {
    run(async |world| {
        let mut findings = Findings::default();
        for rpc in rpcs().iter().filter(|rpc| rpc.server() != "sandbox") {
            for caller in world
                .callers
                .iter()
                .filter(|c| c.may_call(rpc) && c.who.tokens.contains_key(rpc.server()))
            {
                for (what, token, reason) in bad_tokens(world, caller, rpc.server()) {
                    let mut who = caller.who.clone();
                    who.tokens = [(rpc.server().to_owned(), token)].into();
                    let wire = who.wire(rpc.server(), world.url(rpc.server()));
                    let answer = refusal(wire, rpc, good(world, caller, rpc)).await;
                    if let Some(got) = differs(answer, Code::Unauthenticated, reason) {
                        findings.add(rpc, format!("{} with {what}: {got}", caller.name));
                    }
                }
            }
        }
        findings.none();
    });
}

/// Tokens like the caller's own, each with something wrong.
fn bad_tokens(world: &World, caller: &Caller, server: &str) -> Vec<(&'static str, String, &'static str)> {
    let key = signing_key(world);
    let good = &caller.who.tokens[server];
    let claims = token::read(good, |kid| (kid == key.kid()).then(|| key.public())).expect("our own token");
    let now = world.clock.now().seconds();
    let elsewhere = if server == "audit" { "consent" } else { "audit" };
    let sign = |claims: &Claims| token::issue(&key, claims).expect("a token");
    vec![
        (
            "an expired token",
            sign(&Claims {
                iat: now - 400,
                exp: now - 100,
                ..claims.clone()
            }),
            "TOKEN_EXPIRED",
        ),
        (
            "a token from tomorrow",
            sign(&Claims {
                nbf: Some(now + 86_400),
                ..claims
            }),
            "TOKEN_EXPIRED",
        ),
        (
            "another service's token",
            caller.who.tokens[elsewhere].clone(),
            "TOKEN_MISSING",
        ),
        ("a bent token", bent(good), "TOKEN_MISSING"),
        ("half a token", good[..good.len() / 2].to_owned(), "TOKEN_MISSING"),
        ("no token at all", "x".to_owned(), "TOKEN_MISSING"),
    ]
}

/// The key that identity signs tokens with: a test may look at the development secrets.
fn signing_key(world: &World) -> SigningKey {
    use base64::Engine;
    let file = world.story.addresses.folder.join("secrets/identity/token_key.pem");
    let pem = std::fs::read_to_string(file).expect("the key that was written");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).expect("PEM");
    SigningKey::from_pkcs8(&der).expect("an Ed25519 key")
}

/// The same with another first letter of the signature.
fn bent(token: &str) -> String {
    let (input, signature) = token.rsplit_once('.').expect("a compact JWS");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{input}.{first}{}", &signature[1..])
}

#[test]
fn what_is_not_one_token_is_none() {
    run(async |world| {
        let rpc = rpcs()
            .into_iter()
            .find(|r| r.name().ends_with("ConsentService.ListConsents"))
            .expect("ListConsents");
        let caller = world.allowed(&rpc).expect("a caller");
        let good = &caller.who.tokens["consent"];
        let certificate = caller.who.certificate.as_deref();
        for bad in [format!("{good} {good}"), format!("Basic {good}"), String::new()] {
            let channel = channel(&world.story.addresses.folder, certificate, world.url("consent")).expect("a channel");
            let wire = Wire::new(channel, Bearer::new(&bad));
            let answer = refusal(wire, &rpc, DynamicMessage::new(rpc.method.input())).await;
            assert_eq!(differs(answer, Code::Unauthenticated, "TOKEN_MISSING"), None, "{bad:?}");
        }
    });
}
