//! A caller's deadline is kept, and said by its own code: what was not decided in time is DEADLINE_EXCEEDED.

use std::collections::HashMap;

use prost::Message;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use tonic::{Code, Status};

use crate::contract::rpcs;
use crate::raw::Connection;
use crate::sample::Sampler;
use crate::verdict;
use crate::world::{World, run};

/// Posts a well-formed request with this timeout, as the first caller whom the contract names.
async fn timed(world: &World, method: &str, timeout: &str) -> Result<(), Status> {
    let rpc = rpcs().into_iter().find(|rpc| rpc.name() == method).expect("a method");
    let caller = world.allowed(&rpc).expect("a caller");
    let message = Sampler {
        clock: &world.clock,
        caller: caller.kind,
    }
    .message(&rpc.method.input())
    .encode_to_vec();
    let mut headers = HashMap::from([("grpc-timeout", timeout.to_owned())]);
    if let Some(token) = caller.who.tokens.get(rpc.server()) {
        headers.insert("authorization", format!("Bearer {token}"));
    }
    let mut connection = Connection::open(world, rpc.server(), caller.who.certificate.as_deref()).await;
    connection.post(&rpc.access.path, &headers, &message).await
}

/// Methods whose answer comes from disk or from another service, never at once.
const SLOW: [&str; 5] = [
    "sammati.identity.v1.TransactionService.VerifyTransaction",
    "sammati.identity.v1.ParticipantService.CreateParticipant",
    "sammati.consent.v1.ConsentRequestService.CreateConsentRequest",
    "sammati.consent.v1.ConsentRequestService.GetConsentRequest",
    "sammati.audit.v1.ProofService.GetProof",
];

#[test]
fn a_deadline_that_passed_is_told_as_one() {
    run(async |world| {
        for method in SLOW {
            for timeout in ["1n", "1u", "0S"] {
                let status = timed(world, method, timeout).await.expect_err(method);
                let said = verdict::read(&status).unwrap_or_else(|bad| panic!("{method} {timeout}: {bad}"));
                assert!(
                    said.is(Code::DeadlineExceeded, "DEADLINE"),
                    "{method} {timeout}: {}",
                    said.line()
                );
            }
        }
    });
}

#[test]
fn a_deadline_far_away_changes_nothing() {
    run(async |world| {
        for method in SLOW {
            if let Err(status) = timed(world, method, "99999999H").await {
                assert_ne!(status.code(), Code::DeadlineExceeded, "{method}");
                verdict::read(&status).unwrap_or_else(|bad| panic!("{method}: {bad}"));
            }
        }
    });
}

#[test]
fn a_timeout_that_is_none_is_refused_by_name() {
    run(async |world| {
        for timeout in ["1", "-1S", "soon", "123456789S", "1x"] {
            let status = timed(world, SLOW[0], timeout).await.expect_err(timeout);
            let said = verdict::read(&status).unwrap_or_else(|bad| panic!("{timeout}: {bad}"));
            assert!(
                said.is(Code::InvalidArgument, "FIELD_INVALID"),
                "{timeout}: {}",
                said.line()
            );
            assert_eq!(said.fields, ["grpc-timeout"]);
        }
    });
}

#[test]
fn what_a_deadline_cut_off_can_be_repeated() {
    run(async |world| {
        let (story, name) = (&world.story, "cut-off");
        let participant = identity::Participant {
            display_name: "Cut off".into(),
            roles: vec![1],
            kind: identity::participant::Kind::Facility.into(),
            ..Default::default()
        };
        let create = identity::CreateParticipantRequest {
            request_id: story.rid(),
            participant_id: name.into(),
            participant: Some(participant),
        };
        let mut connection = Connection::open(world, "identity", Some("operator")).await;
        let headers = HashMap::from([("grpc-timeout", "1n".to_owned())]);
        let path = "/sammati.identity.v1.ParticipantService/CreateParticipant";
        let status = connection
            .post(path, &headers, &create.encode_to_vec())
            .await
            .expect_err("too late");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        // Whether it was done or not: the repeat says what became of it, and it is done once.
        let mut client = ParticipantServiceClient::new(story.operator.identity());
        let made = client
            .create_participant(create.clone())
            .await
            .expect("a repeat")
            .into_inner();
        assert_eq!(made.name, format!("participants/{name}"));
        assert_eq!(
            client.create_participant(create).await.expect("another").into_inner(),
            made
        );
    });
}
