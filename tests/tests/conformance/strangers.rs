//! Unknown and forbidden are indistinguishable: whoever is no party is told of somebody's object the very same as of one
//! that does not exist (Z1).

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use sammati_api::audit::v1::LogEvent;
use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::consent::v1::policy_service_client::PolicyServiceClient;
use sammati_api::consent::v1::profile_share_service_client::ProfileShareServiceClient;
use sammati_api::consent::v1::rights_service_client::RightsServiceClient;
use sammati_api::consent::v1::subscription_service_client::SubscriptionServiceClient;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::types::v1 as types;
use sammati_api::types::v1::CallerKind;
use sammati_tests::story::Failure;
use tokio::sync::OnceCell;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::contract::{Need, Rpc, collection, need, rpcs};
use crate::coverage::Findings;
use crate::dynamic::call;
use crate::sample::{Sampler, short};
use crate::stage::links::{denial, search, sharing};
use crate::stage::proved;
use crate::stage::subscriptions::subscribing;
use crate::verdict::{self, Said};
use crate::world::{Caller, World, run};

/// Names of things that exist and belong to the person and the parties of the story, by collection.
struct Things(HashMap<&'static str, String>);

impl Things {
    /// The same for every test here.
    async fn of_story(world: &World) -> &'static Self {
        static THINGS: OnceCell<Things> = OnceCell::const_new();
        THINGS
            .get_or_init(|| async { Self::make(world).await.expect("the story goes well") })
            .await
    }

    async fn make(world: &World) -> Result<Self, Failure> {
        let (story, person) = (&world.story, &world.person);
        let link = story.link(person, &["strangers"]).await?;
        let request = story.ask(person, story.scope()).await?;
        let approved = story.approve(person, &request, None).await?;
        let given = approved.consents.into_iter().next().ok_or("no consent")?;
        let notification = story.notification(&story.hospital, &given.name).await?;
        story.acknowledge(&story.hospital, &notification.name).await?;
        let transfer = story.open_transfer(story.transfer(&given.name)).await?;
        let proved = story.prove_aadhaar(0, &person.entry).await?;
        let open = open_request(world).await?;
        let event = given_event(world, &given.name).await?;
        let header = event.header.unwrap_or_default();
        let things = [
            ("accounts", person.account.name.clone()),
            ("links", link.name),
            ("discoveries", discovery(world).await?),
            ("profileShares", share(world).await?),
            ("policies", policy(world).await?),
            ("subscriptions", subscription(world).await?),
            ("rightsRequests", rights_request(world).await?),
            ("consents", given.name),
            ("consentRequests", open),
            ("transfers", transfer.name),
            ("notifications", notification.name),
            ("representations", world.representation.clone()),
            ("transactions", proved.name),
            ("sessions", session(world).await?),
            ("legalHolds", hold(world).await?),
            ("studies", story.active_study().await?.name),
            ("events", event.name),
            ("event ids", header.event_id),
        ];
        Ok(Self(things.into()))
    }

    fn of(&self, field: &FieldDescriptor) -> Option<&str> {
        let kind = if short(field.full_name()) == "GetEventRequest.event_id" {
            Some("event ids".to_owned())
        } else {
            collection(field)
        };
        self.0.get(kind?.as_str()).map(String::as_str)
    }
}

/// A request that she has not decided yet.
async fn open_request(world: &World) -> Result<String, Failure> {
    let request = world.story.ask(&world.person, world.story.scope()).await?;
    let mut client = ConsentRequestServiceClient::new(world.story.clinic.consent());
    let read = consent::GetConsentRequestRequest { name: request.name };
    Ok(client.get_consent_request(read).await?.into_inner().name)
}

/// A discovery of hers.
async fn discovery(world: &World) -> Result<String, Failure> {
    let mut client = LinkServiceClient::new(world.person.who.consent());
    let created = client.create_discovery(search(&world.story, &world.person)).await?;
    Ok(created.into_inner().name)
}

/// A profile that she shared.
async fn share(world: &World) -> Result<String, Failure> {
    let mut client = ProfileShareServiceClient::new(world.person.who.consent());
    let created = client
        .create_profile_share(sharing(&world.story, &world.person))
        .await?;
    Ok(created.into_inner().name)
}

/// A policy of hers.
async fn policy(world: &World) -> Result<String, Failure> {
    let mut client = PolicyServiceClient::new(world.person.who.consent());
    let created = client.create_policy(denial(&world.story, "nobody-at-all")).await?;
    Ok(created.into_inner().name)
}

/// A subscription that asks her.
async fn subscription(world: &World) -> Result<String, Failure> {
    let mut client = SubscriptionServiceClient::new(world.story.clinic.consent());
    let asking = subscribing(&world.story, &world.person.address());
    Ok(client.create_subscription(asking).await?.into_inner().name)
}

/// What she asks of the consent manager.
async fn rights_request(world: &World) -> Result<String, Failure> {
    let mut client = RightsServiceClient::new(world.person.who.consent());
    let asking = consent::CreateRightsRequestRequest {
        kind: consent::rights_request::Kind::Grievance.into(),
        text: "I was never there".into(),
        request_id: world.story.rid(),
        ..Default::default()
    };
    Ok(client.create_rights_request(asking).await?.into_inner().name)
}

/// A hold, of nobody.
async fn hold(world: &World) -> Result<String, Failure> {
    use sammati_api::audit::v1::CreateLegalHoldRequest;
    use sammati_api::audit::v1::retention_service_client::RetentionServiceClient;
    let request = CreateLegalHoldRequest {
        request_id: world.story.rid(),
        subject: format!("accounts/{}", world.story.rid()),
        classes: Vec::new(),
        legal_basis: "an order".to_owned(),
    };
    let mut client = RetentionServiceClient::new(world.story.operator.audit());
    Ok(client.create_legal_hold(request).await?.into_inner().name)
}

/// A session of hers.
async fn session(world: &World) -> Result<String, Failure> {
    let (story, person) = (&world.story, &world.person);
    let number = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
    let subject = Subject::Identifier(types::Identifier {
        identifier: Some(number),
    });
    let login = identity::CreateSessionRequest {
        request_id: story.rid(),
        transaction: proved(story, &story.app, &person.entry, Purpose::Login, Some(subject)).await?,
        audiences: vec!["identity".into()],
        ..Default::default()
    };
    let mut client = SessionServiceClient::new(story.app.identity());
    Ok(client.create_session(login).await?.into_inner().name)
}

/// An event about a consent, once it is in the log.
async fn given_event(world: &World, consent: &str) -> Result<LogEvent, Failure> {
    use sammati_api::audit::v1::ListEventsRequest;
    use sammati_api::audit::v1::log_service_client::LogServiceClient;
    let notification = world.story.notification(&world.story.clinic, consent).await?;
    world.story.proof(&world.story.operator, &notification.event_id).await?;
    let mut client = LogServiceClient::new(world.person.who.audit());
    let request = ListEventsRequest {
        consent: consent.to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let events = client.list_events(request).await?.into_inner().events;
    Ok(events.into_iter().next().ok_or("no event of the consent")?)
}

/// The fields that say what a method is about: names that this caller must send, and of a required choice each name.
/// Lists are about nothing: what they name narrows them. Of a person the log knows but a tag: it has as much of somebody who is not
/// as of somebody of whom nothing was told.
fn targets(rpc: &Rpc, sampler: &Sampler<'_>) -> Vec<FieldDescriptor> {
    if rpc.method.name().starts_with("List") || short(rpc.name()).starts_with("SubjectService.") {
        return Vec::new();
    }
    const ALSO: [&str; 2] = ["AcknowledgeNotificationsRequest.names", "RevokeSessionsRequest.names"];
    let is_target = |f: &FieldDescriptor| {
        need(f) == Need::Required || sampler.conditional(f) || ALSO.contains(&short(f.full_name()))
    };
    let named = |f: &FieldDescriptor| collection(f).is_some() || short(f.full_name()) == "GetEventRequest.event_id";
    rpc.method
        .input()
        .fields()
        .filter(|f| is_target(f) && named(f))
        .collect()
}

/// All fields that name something, whether a request must have them or not.
fn named(rpc: &Rpc) -> Vec<FieldDescriptor> {
    let names = |f: &FieldDescriptor| collection(f).is_some() || short(f.full_name()) == "GetEventRequest.event_id";
    rpc.method.input().fields().filter(names).collect()
}

/// A well-formed request of `caller` about `name`; beside that a person names her own account, so that it is the name
/// that decides.
fn about(rpc: &Rpc, field: &FieldDescriptor, name: &str, caller: &Caller, sampler: &Sampler<'_>) -> DynamicMessage {
    let mut message = Sampler::making_room(sampler.message(&rpc.method.input()), field);
    let accounts = |f: &FieldDescriptor| collection(f).as_deref() == Some("accounts");
    if let Some(own) = caller.account() {
        for account in rpc.method.input().fields().filter(accounts) {
            if message.has_field(&account) {
                message.set_field(&account, Value::String(own.to_owned()));
            }
        }
    }
    let name = Value::String(name.to_owned());
    message.set_field(field, if field.is_list() { Value::List(vec![name]) } else { name });
    message
}

/// What tells one answer about `name` from another about another: code, sentence and details; of a decision what was
/// decided. Each decision has an id of its own.
fn face(name: &str, answer: &Result<DynamicMessage, Status>) -> (Option<Code>, String) {
    let face = match answer {
        Err(status) => {
            let mut details = status.get_error_details();
            let mut facts = BTreeMap::new();
            if let Some(mut info) = details.error_info().cloned() {
                info.metadata.remove("decision_id");
                facts = info.metadata.drain().collect();
                details.set_error_info(info.reason, info.domain, HashMap::new());
            }
            format!("{} {facts:?} {details:?}", status.message())
        }
        Ok(message) => {
            let mut message = message.clone();
            for own in ["decision_id", "decide_time", "revision", "identity_as_of_time"] {
                message.clear_field_by_name(own);
            }
            message.to_string()
        }
    };
    (answer.as_ref().err().map(Status::code), face.replace(name, "…"))
}

/// Whether the contract lets this be said about what does not exist.
fn may_be_said(rpc: &Rpc, caller: &Caller, said: &Said) -> bool {
    let public = rpc.access.grants.iter().any(|grant| grant.caller == CallerKind::Anyone);
    let absent = caller.kind == Some(CallerKind::Operator) || public;
    let decided = rpc.documents("Decision") && said.is(Code::FailedPrecondition, "NO_CONSENT");
    match said.reason.as_str() {
        "NOT_AVAILABLE" => caller.kind != Some(CallerKind::Operator),
        "NOT_FOUND" => absent,
        reason => decided || rpc.documents(reason),
    }
}

/// Whether an answer that is no refusal tells nothing: a decision that denies, or an operator's summary of nobody's events,
/// for the log knows whom its events name and not who is enrolled.
fn denies(rpc: &Rpc, caller: &Caller, answer: &DynamicMessage) -> bool {
    let outcome = answer
        .get_field_by_name("outcome")
        .and_then(|value| value.as_enum_number());
    let summary = rpc.method.name() == "SummarizeAccess" && caller.kind == Some(CallerKind::Operator);
    outcome == Some(consent::decision::Outcome::Deny.into()) || (summary && is_of_nobody(answer))
}

/// Whether a summary is made from no event at all.
fn is_of_nobody(summary: &DynamicMessage) -> bool {
    let none = |field: &str| {
        let value = summary.get_field_by_name(field);
        value.is_some_and(|value| match value.as_ref() {
            Value::List(list) => list.is_empty(),
            other => other.as_i64() == Some(0),
        })
    };
    ["recipients", "event_count", "erased_count"].into_iter().all(none)
}

#[test]
fn a_summary_of_nobody_has_no_event_at_all() {
    let rpc = rpcs().into_iter().find(|rpc| rpc.method.name() == "SummarizeAccess");
    let mut summary = DynamicMessage::new(rpc.unwrap().method.output());
    assert!(is_of_nobody(&summary));
    summary.set_field_by_name("event_count", Value::I64(1));
    assert!(
        !is_of_nobody(&summary),
        "without a recipient it still tells that she is known"
    );
}

#[test]
fn an_unknown_name_is_not_available() {
    run(async |world| {
        let mut findings = Findings::default();
        for rpc in rpcs() {
            for caller in world.callers.iter().filter(|c| c.may_call(&rpc)) {
                let sampler = Sampler {
                    clock: &world.clock,
                    caller: caller.kind,
                };
                for field in targets(&rpc, &sampler) {
                    let Some(name) = sampler.element(&field, 0).as_str().map(str::to_owned) else {
                        continue;
                    };
                    let message = about(&rpc, &field, &name, caller, &sampler);
                    let what = format!("{} asks about an unknown {}", caller.name, field.name());
                    match call(caller.wire(world, &rpc), &rpc, message.clone()).await {
                        Ok(answer) if denies(&rpc, caller, &answer) => {}
                        Ok(_) => findings.add(&rpc, format!("{what}: it answered")),
                        Err(status) => match verdict::of(&rpc, &message, &status) {
                            Ok(said) if may_be_said(&rpc, caller, &said) => {}
                            Ok(said) => findings.add(&rpc, format!("{what}: {}", said.line())),
                            Err(bad) => findings.add(&rpc, format!("{what}: {bad}")),
                        },
                    }
                }
            }
        }
        findings.none();
    });
}

#[test]
fn a_stranger_is_told_the_same_of_what_exists() {
    run(async |world| {
        let things = Things::of_story(world).await;
        let mut findings = Findings::default();
        let mut compared = 0;
        for rpc in rpcs() {
            for field in named(&rpc) {
                let Some(thing) = things.of(&field) else { continue };
                for caller in world.strangers.iter().filter(|c| c.may_call(&rpc)) {
                    let sampler = Sampler {
                        clock: &world.clock,
                        caller: caller.kind,
                    };
                    let Some(unknown) = sampler.element(&field, 0).as_str().map(str::to_owned) else {
                        continue;
                    };
                    let ask = async |name: &str| {
                        call(
                            caller.wire(world, &rpc),
                            &rpc,
                            about(&rpc, &field, name, caller, &sampler),
                        )
                        .await
                    };
                    let (absent, foreign) = (ask(&unknown).await, ask(thing).await);
                    compared += 1;
                    if face(&unknown, &absent) != face(thing, &foreign) {
                        findings.add(
                            &rpc,
                            format!(
                                "{} by {}: unknown {absent:?}, somebody's {foreign:?}",
                                caller.name,
                                field.name()
                            ),
                        );
                    }
                }
            }
        }
        assert!(compared >= 20, "only {compared} comparisons");
        findings.none();
    });
}

#[test]
fn every_collection_of_the_contracts_has_a_thing_to_compare() {
    run(async |world| {
        let things = Things::of_story(world).await;
        let public = ["participants", "notices", "logs", "statusLists"];
        for rpc in rpcs() {
            for field in named(&rpc) {
                let known = things.of(&field).is_some();
                let public = collection(&field).is_some_and(|c| public.contains(&c.as_str()));
                assert!(known || public, "nothing to compare for {}", field.full_name());
            }
        }
    });
}
