//! The invariants, after a cycle: what the journal says was acknowledged, against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::{self as consent, consent::State, consent_request};
use sammati_tests::journal::{Answer, Call};
use sammati_tests::retry::until_answered;
use sammati_tests::story::{Failure, Person, Story, count};
use tonic::{Code, Status};

use crate::answers;
use crate::case::Case;
use crate::findings::Findings;
use crate::order;
use crate::people::Enrolled;

/// How often it is looked whether the relay has caught up: twenty seconds.
const LOOKS: usize = 200;

/// A case against the services; afterwards its leaves are waited for.
pub(crate) async fn case(story: &Story, case: &Case) -> Result<Findings, Failure> {
    let mut found = Findings::default();
    let calls = case.calls();
    let told = answers::read(&case.request.name, case.max_uses, &calls, &mut found);
    order::explain(&case.request.name, case.max_uses, &calls, &mut found);
    let name = &case.request.name;
    let Some(request) = there(until_answered(async || get_request(&case.person, name).await).await)? else {
        found.lost(format!("{name} was asked for and is not there"));
        return Ok(found);
    };
    let state = request.state();
    let expected = match (told.approvals.len(), told.denials) {
        (0, 0) => consent_request::State::Requested,
        (0, _) => consent_request::State::Denied,
        _ => consent_request::State::Granted,
    };
    if state != expected {
        let what = format!("{name} is {state:?} where {expected:?} was acknowledged");
        // Further than anybody was told: somebody's change was done twice, or out of nothing.
        if state == consent_request::State::Requested || expected != consent_request::State::Requested {
            found.lost(what);
        } else {
            found.illegal(what);
        }
        return Ok(found);
    }
    let mut leaves = BTreeMap::from([("consent.denied", (name.clone(), told.denials))]);
    if let Some(given) = told.approvals.first() {
        if request.consents.join(",") != *given {
            found.duplicated(format!(
                "{name}: {given} was given, and there is {:?}",
                request.consents
            ));
        }
        let Some(consent) = there(until_answered(async || get_consent(&case.person, given).await).await)? else {
            found.lost(format!("{given} was given and is not there"));
            return Ok(found);
        };
        match (told.revoked.is_some(), consent.state()) {
            (true, State::Revoked) | (false, State::Granted) => {}
            (true, state) => found.lost(format!("{given} is {state:?} and its revoke was acknowledged")),
            (false, state) => found.illegal(format!("{given} is {state:?} and nobody was told so")),
        }
        let uses = consent.uses.unwrap_or_default().count;
        found.compare(&format!("uses of {given}"), told.uses.len(), usize::try_from(uses)?);
        leaves.insert("consent.granted", (given.clone(), 1));
        leaves.insert("consent.withdrawn", (given.clone(), told.revokes));
        leaves.insert("access.authorized", (given.clone(), told.uses.len()));
        leaves.insert("data.use_consumed", (given.clone(), told.uses.len()));
    }
    if found.is_empty() {
        trail(story, &case.person, &leaves, &mut found).await?;
    }
    Ok(found)
}

/// N1: one number, the same for all who were told; and it is there.
pub(crate) async fn enrolled(
    story: &Story,
    enrolled: &Enrolled,
    numbers: &mut BTreeMap<String, String>,
) -> Result<Findings, Failure> {
    let mut found = Findings::default();
    let person = &enrolled.person;
    let told = numbers_of(&enrolled.calls, &mut found);
    if told.len() > 1 {
        found.illegal(format!("one person was told several numbers: {told:?}"));
    }
    for number in &told {
        let owner = numbers
            .entry(number.clone())
            .or_insert_with(|| person.entry.aadhaar.clone());
        if *owner != person.entry.aadhaar {
            found.duplicated(format!("{number} was issued to two people"));
        }
    }
    let again = until_answered(async || story.enrol(&person.entry).await).await?;
    if again.is_new || !told.contains(&again.account.abha_number) {
        found.lost(format!(
            "{told:?} was issued, and enrolling again gives {}",
            again.account.abha_number
        ));
        return Ok(found);
    }
    let leaves = BTreeMap::from([("identity.enrolled", (String::new(), 1))]);
    trail(story, person, &leaves, &mut found).await?;
    Ok(found)
}

/// The numbers that were told; every enrolment gives one.
fn numbers_of(calls: &[Call], found: &mut Findings) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for call in calls {
        match &call.answer {
            Answer::Done(number) => drop(told.insert(number.clone())),
            other => found.illegal(format!("an enrolment ended with {other:?}")),
        }
    }
    told
}

/// O1: waits until the log has these leaves, by type about what and how many; more there never are, and none twice.
async fn trail(
    story: &Story,
    person: &Person,
    leaves: &BTreeMap<&str, (String, usize)>,
    found: &mut Findings,
) -> Result<(), Failure> {
    let mut events = Vec::new();
    for _ in 0..LOOKS {
        events = until_answered(async || story.whole_trail(person).await).await?;
        let missing = leaves
            .iter()
            .any(|(kind, (resource, expected))| count(&events, kind, resource) < *expected);
        if !missing {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (kind, (resource, expected)) in leaves {
        found.compare(
            &format!("leaves {kind} about {resource}"),
            *expected,
            count(&events, kind, resource),
        );
    }
    let ids = events.iter().filter_map(|event| Some(&event.header.as_ref()?.event_id));
    let distinct: BTreeSet<_> = ids.collect();
    if distinct.len() < events.len() {
        found.duplicated(format!("{} events have {} leaves", distinct.len(), events.len()));
    }
    Ok(())
}

/// Whether something is there; unknown and forbidden look alike.
fn there<T>(answer: Result<T, Status>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => Ok(None),
        Err(status) => Err(status.into()),
    }
}

async fn get_request(person: &Person, name: &str) -> Result<consent::ConsentRequest, Status> {
    let mut client = ConsentRequestServiceClient::new(person.who.consent());
    let request = consent::GetConsentRequestRequest { name: name.to_owned() };
    Ok(client.get_consent_request(request).await?.into_inner())
}

async fn get_consent(person: &Person, name: &str) -> Result<consent::Consent, Status> {
    let mut client = ConsentServiceClient::new(person.who.consent());
    let request = consent::GetConsentRequest { name: name.to_owned() };
    Ok(client.get_consent(request).await?.into_inner())
}
