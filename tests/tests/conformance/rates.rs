//! What an operator writes into a participant's row holds in every service.

use std::time::Duration;

use futures::stream;
use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use sammati_tests::story::Failure;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::world::{World, run_alone};

/// How often it is looked whether a service has heard of a row, and how long is waited between.
const LOOKS: (usize, Duration) = (100, Duration::from_millis(100));

#[test]
fn a_participant_calls_as_often_as_its_row_says_in_identity_and_in_consent() {
    run_alone(async {
        let world = World::alone("rates").await.expect("the system starts");
        limited(&world).await.expect("its row is changed");
        each_question(&world).await.expect("questions are counted");
    });
}

/// What a call came to: how long to wait, if it was refused for its rate.
type Limit = Option<Duration>;

/// A row that says so many checks a second.
fn saying(world: &World, name: &str, checks_per_second: i32) -> identity::UpdateParticipantRequest {
    let row = identity::Participant {
        name: name.to_owned(),
        rates: Some(identity::CallRates {
            checks_per_second,
            requests_per_second: 0,
        }),
        ..Default::default()
    };
    identity::UpdateParticipantRequest {
        request_id: world.story.rid(),
        participant: Some(row),
        ..Default::default()
    }
}

/// A batch and a stream count each of their questions.
async fn each_question(world: &World) -> Result<(), Failure> {
    let story = &world.story;
    let mut operator = ParticipantServiceClient::new(story.operator.identity());
    operator
        .update_participant(saying(world, "participants/clinic", 2))
        .await?;
    let lists = async || {
        let mut client = ConsentServiceClient::new(story.clinic.consent());
        limit(client.list_consents(consent::ListConsentsRequest::default()).await)
    };
    until(world, &lists, true).await?;
    world.clock.advance(Duration::from_secs(2));

    let mut client = DecisionServiceClient::new(story.clinic.consent());
    let check = story.question(&format!("consents/{}", story.rid()));
    let three = consent::BatchCheckAccessRequest {
        checks: vec![check.clone(); 3],
        consistency: None,
    };
    assert_eq!(limit(client.batch_check_access(three.clone()).await)?, None);
    let refused = limit(client.batch_check_access(three).await)?;
    // The call itself took the last one.
    assert_eq!(refused, Some(Duration::from_secs(1)), "two more than there are");

    world.clock.advance(Duration::from_secs(2));
    let numbered = |seq| consent::StreamCheckAccessRequest {
        checks: vec![consent::NumberedCheck {
            seq,
            check: Some(check.clone()),
        }],
        consistency: None,
    };
    let asked: Vec<_> = (0..10).map(numbered).collect();
    let mut answers = client.stream_check_access(stream::iter(asked)).await?.into_inner();
    let mut answered = 0;
    let ended = loop {
        match answers.message().await {
            Ok(Some(_)) => answered += 1,
            Ok(None) => return Err("all of ten were answered".into()),
            Err(status) => break limit(Err::<(), _>(status))?,
        }
    };
    assert!(answered <= 3 && ended.is_some(), "{answered} {ended:?}");
    Ok(())
}

async fn limited(world: &World) -> Result<(), Failure> {
    let story = &world.story;
    let hospital = "participants/hospital".to_owned();
    let mut operator = ParticipantServiceClient::new(story.operator.identity());
    let rates = |checks_per_second| saying(world, &hospital, checks_per_second);
    let reads = async || {
        let mut client = ParticipantServiceClient::new(story.hospital.identity());
        let read = identity::GetParticipantRequest { name: hospital.clone() };
        limit(client.get_participant(read).await)
    };
    let lists = async || {
        let mut client = ConsentServiceClient::new(story.hospital.consent());
        limit(client.list_consents(consent::ListConsentsRequest::default()).await)
    };

    operator.update_participant(rates(2)).await?;
    until(world, &reads, true).await?;
    until(world, &lists, true).await?;
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(
        (passes(&reads, 10).await?, passes(&lists, 10).await?),
        (4, 4),
        "of each service"
    );
    assert_eq!(reads().await?, Some(Duration::from_millis(500)));
    world.clock.advance(Duration::from_millis(500));
    assert_eq!(
        (reads().await?, reads().await?.is_some()),
        (None, true),
        "as it was told"
    );

    // It reads its rates itself, and does not set them.
    world.clock.advance(Duration::from_secs(2));
    let mut own = ParticipantServiceClient::new(story.hospital.identity());
    let read = identity::GetParticipantRequest { name: hospital.clone() };
    let row = own.get_participant(read).await?.into_inner();
    assert_eq!(row.rates.map(|rates| rates.checks_per_second), Some(2));
    let higher = own.update_participant(rates(1000)).await.unwrap_err();
    assert_eq!(higher.code(), Code::PermissionDenied);

    operator.update_participant(rates(0)).await?;
    until(world, &reads, false).await?;
    until(world, &lists, false).await?;
    assert_eq!((passes(&reads, 50).await?, passes(&lists, 50).await?), (50, 50));
    Ok(())
}

/// Of so many calls at once, how many go through.
async fn passes(call: &impl AsyncFn() -> Result<Limit, Failure>, calls: usize) -> Result<usize, Failure> {
    let mut passed = 0;
    for _ in 0..calls {
        passed += usize::from(call().await?.is_none());
    }
    Ok(passed)
}

/// Waits until a service has heard that the participant is bounded, or is not any more.
async fn until(world: &World, call: &impl AsyncFn() -> Result<Limit, Failure>, bounded: bool) -> Result<(), Failure> {
    for _ in 0..LOOKS.0 {
        // What is known of a rate is read again after a second.
        world.clock.advance(Duration::from_secs(1));
        if (passes(call, 5).await? < 5) == bounded {
            return Ok(());
        }
        tokio::time::sleep(LOOKS.1).await;
    }
    Err(format!("the service has not heard within {LOOKS:?}").into())
}

/// How long to wait, of what is refused for its rate.
fn limit<T>(answer: Result<T, Status>) -> Result<Limit, Failure> {
    let Err(status) = answer else { return Ok(None) };
    let details = status.get_error_details();
    if details.error_info().is_none_or(|info| info.reason != "RATE_LIMITED") {
        return Err(status.into());
    }
    assert_eq!(status.code(), Code::ResourceExhausted);
    let wait = details.retry_info().and_then(|info| info.retry_delay);
    Ok(Some(wait.ok_or("without RetryInfo")?))
}
