//! A guardian's day: what he does for her, service by service, in a session of his own; and that her log tells of it.

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::subject_service_client::SubjectServiceClient;
use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::consent::v1::policy_service_client::PolicyServiceClient;
use sammati_api::consent::v1::profile_share_service_client::ProfileShareServiceClient;
use sammati_api::consent::v1::subscription_service_client::SubscriptionServiceClient;
use sammati_api::types::v1::{CallerKind, Power};
use sammati_tests::story::{Failure, Who};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::stage::links::{denial, search, sharing};
use crate::stage::subscriptions::subscribing;
use crate::world::{World, run_alone};

#[test]
fn a_guardian_does_for_her_what_she_could_and_her_log_tells_of_it() {
    run_alone(async {
        let world = World::alone("guardians").await.expect("the system starts");
        let guardian = world.callers.iter().find(|caller| caller.name == "representative");
        let guardian = &guardian.expect("he is among the callers").who;
        decides(&world, guardian).await.expect("he decides for her");
        reads(&world, guardian).await.expect("he reads her log");
        delegate(&world).await.expect("a delegate reads alone");
    });
}

async fn decides(world: &World, guardian: &Who) -> Result<(), Failure> {
    let (story, her) = (&world.story, &world.person);
    let mut policies = PolicyServiceClient::new(guardian.consent());
    let policy = policies.create_policy(denial(story, "clinic")).await?.into_inner();
    let asked = story.ask(her, story.scope()).await?;
    assert_eq!(asked.state(), Asked::Denied);
    let disable = consent::DisablePolicyRequest {
        name: policy.name,
        etag: String::new(),
        request_id: story.rid(),
    };
    policies.disable_policy(disable).await?;
    assert_eq!(story.ask(her, story.scope()).await?.state(), Asked::Requested);

    let mut links = LinkServiceClient::new(guardian.consent());
    let found = links.create_discovery(search(story, her)).await?.into_inner();
    assert_eq!(found.state(), consent::discovery::State::Pending);
    let mut shares = ProfileShareServiceClient::new(guardian.consent());
    let shared = shares.create_profile_share(sharing(story, her)).await?.into_inner();
    assert_eq!(shared.state(), consent::profile_share::State::Sent);
    Ok(())
}

/// Grants a subscription and reads of it in her log.
async fn reads(world: &World, guardian: &Who) -> Result<(), Failure> {
    let (story, her) = (&world.story, &world.person);
    let mut clinic = SubscriptionServiceClient::new(story.clinic.consent());
    let asking = subscribing(story, &her.address());
    let asked = clinic.create_subscription(asking).await?.into_inner();
    let approve = consent::ApproveSubscriptionRequest {
        name: asked.name.clone(),
        request_id: story.rid(),
        ..Default::default()
    };
    let mut subscriptions = SubscriptionServiceClient::new(guardian.consent());
    let granted = subscriptions.approve_subscription(approve).await?.into_inner();
    let decider = consent::Decider {
        kind: CallerKind::Representative.into(),
        representation: world.representation.clone(),
    };
    assert_eq!(granted.decided_by, Some(decider));

    let told = story.notification(&story.clinic, &asked.name).await?;
    let mut log = LogServiceClient::new(guardian.audit());
    let event = audit::GetEventRequest {
        event: Some(audit::get_event_request::Event::EventId(told.event_id)),
        wait: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..Default::default()
    };
    let payload = log.get_event(event).await?.into_inner().payload.ok_or("no payload")?;
    let under = payload.on_behalf_of.map(|acted| acted.representation);
    assert_eq!(under.as_deref(), Some(world.representation.as_str()));
    let listed = log.list_events(audit::ListEventsRequest::default()).await?.into_inner();
    assert!(!listed.events.is_empty());
    let mut subject = SubjectServiceClient::new(guardian.audit());
    let listed = subject.list_subject_events(audit::ListSubjectEventsRequest::default());
    assert!(!listed.await?.into_inner().events.is_empty());
    let summary = subject.summarize_access(audit::SummarizeAccessRequest::default());
    assert!(summary.await?.into_inner().event_count > 0);
    let export = subject.export_subject(audit::ExportSubjectRequest::default());
    assert!(export.await?.into_inner().message().await?.is_some());

    // She sees that he looked: five times.
    let mut hers = LogServiceClient::new(her.who.audit());
    let mine = audit::ListEventsRequest {
        event_type_prefix: "audit.".into(),
        ..Default::default()
    };
    let events = hers.list_events(mine).await?.into_inner().events;
    let by_him = events.into_iter().filter_map(|event| event.payload?.on_behalf_of);
    let by_him: Vec<_> = by_him.map(|acted| acted.representation).collect();
    assert_eq!(by_him, vec![world.representation.clone(); 5]);
    Ok(())
}

fn reason<T>(answer: Result<T, Status>) -> Option<(Code, String)> {
    let status = answer.err()?;
    let reason = status.get_error_details().error_info()?.reason.clone();
    Some((status.code(), reason))
}

/// Who was given POWER_READ sees what she sees, and changes nothing.
async fn delegate(world: &World) -> Result<(), Failure> {
    let (story, her) = (&world.story, &world.person);
    let register = story.people().await?;
    let mut adults = register.iter().filter(|p| !p.mobile.is_empty() && p.parents.is_empty());
    let delegate = story.enrol(adults.nth(6).ok_or("nobody is left")?).await?;
    let proposal = story.delegation(&delegate, &[Power::Read]);
    let proposed = story.propose(&her.who, proposal).await?;
    story.accept(&delegate, &proposed.name).await?;
    let who = story.act(&delegate, &proposed.name).await?;
    let mut log = LogServiceClient::new(who.audit());
    assert!(log.list_events(audit::ListEventsRequest::default()).await.is_ok());
    let missing = Some((Code::PermissionDenied, "POWER_MISSING".to_owned()));
    let mut policies = PolicyServiceClient::new(who.consent());
    let refused = policies.create_policy(denial(story, "clinic")).await;
    assert_eq!(reason(refused), missing);
    let mut links = LinkServiceClient::new(who.consent());
    assert_eq!(reason(links.create_discovery(search(story, her)).await), missing);
    let mut shares = ProfileShareServiceClient::new(who.consent());
    assert_eq!(reason(shares.create_profile_share(sharing(story, her)).await), missing);
    Ok(())
}
