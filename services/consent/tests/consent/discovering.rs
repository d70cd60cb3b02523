//! She looks for her records at a provider, chooses, answers its challenge, and they are linked.

use ring::agreement::{EphemeralPrivateKey, X25519};
use ring::rand::SystemRandom;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::answer_discovery_request::{Answer, Candidates, Nothing};
use sammati_api::consent::v1::discovery::State;
use sammati_api::consent::v1::discovery_challenge::Medium;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1 as types;
use sammati_consent::discovery::sealed;
use sammati_consent::rows::DiscoveryRow;
use sammati_consent::sweep;
use sammati_kernel::{Caller, DiscoveryId, Reason};
use tonic::{Response, Status};

use crate::world::{DAY, World, by, everywhere, participant, reason, refused};

/// An answer that says everything by being there.
const NOTHING: Nothing = Nothing {};

/// What she asks of the hospital.
pub(crate) fn search(w: &World, address: &str) -> api::CreateDiscoveryRequest {
    let tries = w.tries(address, 1990);
    api::CreateDiscoveryRequest {
        hip: "participants/hospital".into(),
        identifier: tries.identifier,
        demographics: tries.demographics,
        unverified_identifiers: vec![api::UnverifiedIdentifier {
            r#type: api::IdentifierType::Mr.into(),
            value: "MRN-17".into(),
        }],
        request_id: w.request_id(),
    }
}

pub(crate) async fn look(
    w: &World,
    she: &Caller,
    message: api::CreateDiscoveryRequest,
) -> Result<api::Discovery, Status> {
    w.rpc()
        .create_discovery(by(she, message))
        .await
        .map(Response::into_inner)
}

pub(crate) async fn read(w: &World, who: &Caller, name: &str) -> Result<api::Discovery, Status> {
    let name = name.to_owned();
    let read = w.rpc().get_discovery(by(who, api::GetDiscoveryRequest { name })).await;
    read.map(Response::into_inner)
}

pub(crate) fn found(references: &[&str]) -> Answer {
    let context = |reference: &&str| types::CareContextRef {
        patient_reference: "MRN-17".into(),
        care_context_reference: (*reference).to_owned(),
        hi_type: types::HiType::Prescription.into(),
        display: "OPD visit".into(),
    };
    Answer::Candidates(Candidates {
        care_contexts: references.iter().map(context).collect(),
        matched_by: vec![api::IdentifierType::Mr.into()],
    })
}

/// A challenge of the hospital's, and its half of the key that she answers to.
pub(crate) fn challenge(w: &World, seconds: i64) -> (Answer, EphemeralPrivateKey) {
    let own = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
    let challenge = api::DiscoveryChallenge {
        medium: Medium::Mobile.into(),
        hint: "******5852".into(),
        expire_time: w.at(seconds),
        token_key: own.compute_public_key().unwrap().as_ref().to_vec(),
    };
    (Answer::Challenge(challenge), own)
}

pub(crate) async fn answer(w: &World, who: &str, name: &str, answer: Answer) -> Result<api::Discovery, Status> {
    let message = api::AnswerDiscoveryRequest {
        name: name.to_owned(),
        answer: Some(answer),
        etag: String::new(),
        request_id: w.request_id(),
    };
    let answered = w.rpc().answer_discovery(by(&participant(who), message)).await;
    answered.map(Response::into_inner)
}

pub(crate) async fn choose(w: &World, she: &Caller, name: &str, references: &[&str]) -> Result<api::Discovery, Status> {
    let message = api::SelectCareContextsRequest {
        name: name.to_owned(),
        care_context_references: references.iter().map(|r| (*r).to_owned()).collect(),
        etag: String::new(),
        request_id: w.request_id(),
    };
    let chosen = w.rpc().select_care_contexts(by(she, message)).await;
    chosen.map(Response::into_inner)
}

pub(crate) async fn confirm(w: &World, she: &Caller, name: &str, token: &str) -> Result<api::Discovery, Status> {
    let message = api::ConfirmCareContextsRequest {
        name: name.to_owned(),
        token: token.to_owned(),
        etag: String::new(),
        request_id: w.request_id(),
    };
    let confirmed = w.rpc().confirm_care_contexts(by(she, message)).await;
    confirmed.map(Response::into_inner)
}

/// Asha, and a discovery of hers that has come as far as `state`, with the HIP's key if it has one.
async fn at(w: &World, address: &str, state: State) -> (Caller, String, Option<EphemeralPrivateKey>) {
    let she = w.she(w.person(address));
    let name = look(w, &she, search(w, address)).await.unwrap().name;
    let visit = format!("visit-{}", &address[..9]);
    let mut key = None;
    let steps: &[State] = match state {
        State::Pending | State::Unmatched => &[],
        State::Matched => &[State::Matched],
        State::Selected | State::Failed => &[State::Matched, State::Selected],
        State::Linked => &[State::Matched, State::Selected, State::Linked],
        State::Challenged => &[State::Matched, State::Selected, State::Challenged],
        _ => &[State::Matched, State::Selected, State::Challenged, State::Confirmed],
    };
    for step in steps {
        match step {
            State::Matched => answer(w, "hospital", &name, found(&[&visit])).await.unwrap(),
            State::Selected => choose(w, &she, &name, &[&visit]).await.unwrap(),
            State::Challenged => {
                let (sent, own) = challenge(w, 300);
                key = Some(own);
                answer(w, "hospital", &name, sent).await.unwrap()
            }
            State::Confirmed => confirm(w, &she, &name, "483920").await.unwrap(),
            _ => answer(w, "hospital", &name, Answer::Linked(NOTHING)).await.unwrap(),
        };
    }
    match state {
        State::Unmatched => drop(answer(w, "hospital", &name, Answer::None(NOTHING)).await.unwrap()),
        State::Failed => drop(answer(w, "hospital", &name, Answer::Failed(NOTHING)).await.unwrap()),
        State::Expired => w.advance(30),
        _ => {}
    }
    assert_eq!(read(w, &she, &name).await.unwrap().state(), state);
    (she, name, key)
}

#[test]
fn she_finds_her_records_and_links_them_with_the_hips_otp() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let message = search(&w, "asha.rao@sbx");
        let begun = look(&w, &she, message.clone()).await.unwrap();
        assert_eq!(look(&w, &she, message).await.unwrap().name, begun.name);
        // The HIP is told who she is; what nobody has checked stands beside it.
        let hospital = participant("hospital");
        let told = w.notifications(&hospital).await;
        assert_eq!(
            (told[0].kind(), &told[0].resource),
            (Kind::DiscoveryChanged, &begun.name)
        );
        let asked = read(&w, &hospital, &begun.name).await.unwrap();
        assert_eq!(asked.demographics.unwrap().year_of_birth, 1990);
        assert!(asked.identifier.is_some() && asked.unverified_identifiers[0].value == "MRN-17");
        let matched = answer(&w, "hospital", &begun.name, found(&["visit-1", "visit-2"]))
            .await
            .unwrap();
        assert_eq!(matched.state(), State::Matched);
        let seen = read(&w, &she, &begun.name).await.unwrap();
        assert_eq!((seen.candidates.len(), seen.identifier), (2, None));
        let chosen = choose(&w, &she, &begun.name, &["visit-2"]).await.unwrap();
        assert_eq!(chosen.state(), State::Selected);
        let (sent, own) = challenge(&w, 300);
        answer(&w, "hospital", &begun.name, sent).await.unwrap();
        assert_eq!(
            read(&w, &she, &begun.name).await.unwrap().challenge.unwrap().hint,
            "******5852"
        );
        let confirmed = confirm(&w, &she, &begun.name, "483920").await.unwrap();
        // Nobody reads her answer but the HIP: not even she does again.
        assert_eq!(
            (confirmed.state(), confirmed.sealed_token.is_empty()),
            (State::Confirmed, true)
        );
        let answered = read(&w, &hospital, &begun.name).await.unwrap();
        assert_eq!(
            sealed::open(own, &begun.name, &answered.sealed_token).unwrap(),
            "483920"
        );
        let linked = answer(&w, "hospital", &begun.name, Answer::Linked(NOTHING))
            .await
            .unwrap();
        assert_eq!((linked.state(), linked.sealed_token.is_empty()), (State::Linked, true));
        let links = w
            .rpc()
            .list_links(by(&she, Default::default()))
            .await
            .unwrap()
            .into_inner()
            .links;
        assert_eq!((links.len(), &links[0].name), (1, &linked.link));
        assert_eq!(links[0].origin(), api::link::Origin::Discovery);
        let references: Vec<_> = links[0]
            .care_contexts
            .iter()
            .map(|c| c.care_context_reference.as_str())
            .collect();
        assert_eq!(references, ["visit-2"]);
        assert_eq!(
            (w.count("identity.linked").await, w.count("link.confirmed").await),
            (1, 1)
        );
        // She is told at each turn of hers, and at the end.
        let told = w.notifications(&she).await;
        assert_eq!(told.iter().filter(|n| n.resource == begun.name).count(), 3);
    });
}

#[test]
fn s1_her_answer_is_in_no_row_and_no_event() {
    everywhere(|w| async move {
        let (_, name, _) = at(&w, "asha.rao@sbx", State::Confirmed).await;
        let id = DiscoveryId::parse_name(&name).unwrap();
        let row = w
            .store()
            .read(move |r| r.get::<DiscoveryRow>(id.slot(), id.as_bytes()))
            .await
            .unwrap()
            .unwrap();
        let holds = |bytes: &[u8]| bytes.windows(6).any(|part| part == b"483920");
        assert!(!row.record.sealed_token.is_empty());
        assert!(!holds(&prost::Message::encode_to_vec(&row.record)));
        for event in w.events().await {
            assert!(!holds(&prost::Message::encode_to_vec(&event)), "{}", event.event_type);
        }
        // With the HIP's word the sealed one is gone as well.
        answer(&w, "hospital", &name, Answer::Failed(NOTHING)).await.unwrap();
        let row = w
            .store()
            .read(move |r| r.get::<DiscoveryRow>(id.slot(), id.as_bytes()))
            .await
            .unwrap()
            .unwrap();
        assert!(row.record.sealed_token.is_empty());
    });
}

#[test]
fn what_is_linked_already_is_not_found_again() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let first = look(&w, &she, search(&w, "asha.rao@sbx")).await.unwrap();
        let matched = answer(&w, "hospital", &first.name, found(&["visit-1", "visit-2"]))
            .await
            .unwrap();
        let references: Vec<_> = matched
            .candidates
            .iter()
            .map(|c| c.care_context_reference.as_str())
            .collect();
        assert_eq!(references, ["visit-2"]);
        let refusal = refused(choose(&w, &she, &first.name, &["visit-2", "visit-1"]).await);
        assert_eq!(
            (refusal.reason, refusal.metadata[0].1.as_str()),
            (Reason::CandidateUnknown, "1")
        );
        let second = look(&w, &she, search(&w, "asha.rao@sbx")).await.unwrap();
        let nothing = answer(&w, "hospital", &second.name, found(&["visit-1"])).await.unwrap();
        assert_eq!((nothing.state(), nothing.candidates.len()), (State::Unmatched, 0));
        // Linked by the HIP between her choice and its word: nothing is linked twice.
        choose(&w, &she, &first.name, &["visit-2"]).await.unwrap();
        w.linked("asha.rao@sbx", &["visit-2"]).await;
        let linked = answer(&w, "hospital", &first.name, Answer::Linked(NOTHING)).await;
        assert_eq!(reason(linked), Reason::AlreadyLinked);
    });
}

#[test]
fn each_turn_has_its_time_and_the_whole_ten_minutes() {
    everywhere(|w| async move {
        let expired = async |she: &Caller, name: &str| read(&w, she, name).await.unwrap().state() == State::Expired;
        let (she, name, _) = at(&w, "asha.rao@sbx", State::Pending).await;
        w.advance(29);
        assert!(!expired(&she, &name).await);
        w.advance(1);
        assert!(expired(&she, &name).await);
        let late = refused(answer(&w, "hospital", &name, found(&["visit-1"])).await);
        assert_eq!(
            (late.reason, late.metadata[0].1.as_str()),
            (Reason::StateConflict, "EXPIRED")
        );
        // She has longer than the HIP, but not for ever.
        let (she, name, _) = at(&w, "ravi.kumar@sbx", State::Matched).await;
        w.advance(599);
        assert!(!expired(&she, &name).await);
        w.advance(1);
        assert!(expired(&she, &name).await);
        // A challenge says its own time.
        let (she, name, _) = at(&w, "meera.joshi@sbx", State::Challenged).await;
        w.advance(300);
        assert_eq!(
            reason(confirm(&w, &she, &name, "483920").await),
            Reason::ChallengeExpired
        );
        // The same once that is written.
        assert_eq!(
            reason(confirm(&w, &she, &name, "483920").await),
            Reason::ChallengeExpired
        );
        let other = choose(&w, &she, &name, &["visit-1"]).await;
        assert_eq!(reason(other), Reason::StateConflict);
        // The sweep writes what nobody met, once, and both are told.
        sweep::sweep(w.store()).await.unwrap();
        sweep::sweep(w.store()).await.unwrap();
        let events = w.events().await;
        let expired = events
            .iter()
            .filter(|e| e.event_type == "link.discovery_answered" && e.reason_code == "EXPIRED");
        assert_eq!(expired.count(), 3);
        assert_eq!(w.notifications(&she).await.last().unwrap().resource, name);
    });
}

#[test]
fn a_wrong_answer_gets_another_challenge_and_another_key() {
    everywhere(|w| async move {
        let (she, name, _) = at(&w, "asha.rao@sbx", State::Confirmed).await;
        let (sent, own) = challenge(&w, 60);
        let again = answer(&w, "hospital", &name, sent).await.unwrap();
        assert_eq!(again.state(), State::Challenged);
        confirm(&w, &she, &name, "112233").await.unwrap();
        let sealed_token = read(&w, &participant("hospital"), &name).await.unwrap().sealed_token;
        assert_eq!(sealed::open(own, &name, &sealed_token).unwrap(), "112233");
        let fields = |refusal: sammati_kernel::Refusal| refusal.violations.iter().next().unwrap().field.to_string();
        let (Answer::Challenge(mut bad), _) = challenge(&w, 60) else {
            unreachable!()
        };
        bad.token_key = vec![0; 32];
        let refusal = refused(answer(&w, "hospital", &name, Answer::Challenge(bad)).await);
        assert_eq!(fields(refusal), "challenge.token_key");
        let (past, _) = challenge(&w, 0);
        assert_eq!(
            fields(refused(answer(&w, "hospital", &name, past).await)),
            "challenge.expire_time"
        );
    });
}

#[test]
fn every_pair_of_state_and_call_is_taken_or_refused_by_the_graph() {
    everywhere(|w| async move {
        use State::*;
        let states = [
            Pending, Matched, Unmatched, Selected, Challenged, Confirmed, Linked, Failed, Expired,
        ];
        let verbs = ["find", "nothing", "challenge", "link", "fail", "select", "confirm"];
        let edges = [
            (Pending, "find", Matched),
            (Pending, "nothing", Unmatched),
            (Pending, "fail", Failed),
            (Matched, "select", Selected),
            (Selected, "challenge", Challenged),
            (Selected, "link", Linked),
            (Selected, "fail", Failed),
            (Challenged, "confirm", Confirmed),
            (Confirmed, "challenge", Challenged),
            (Confirmed, "link", Linked),
            (Confirmed, "fail", Failed),
        ];
        let mut n = 0;
        for from in states {
            for verb in verbs {
                n += 1;
                let address = format!("person{n:03}.x@sbx");
                let (she, name, _) = at(&w, &address, from).await;
                let visit = format!("visit-{}", &address[..9]);
                let said = match verb {
                    "find" => answer(&w, "hospital", &name, found(&[&visit])).await,
                    "nothing" => answer(&w, "hospital", &name, Answer::None(NOTHING)).await,
                    "challenge" => answer(&w, "hospital", &name, challenge(&w, 60).0).await,
                    "link" => answer(&w, "hospital", &name, Answer::Linked(NOTHING)).await,
                    "fail" => answer(&w, "hospital", &name, Answer::Failed(NOTHING)).await,
                    "select" => choose(&w, &she, &name, &[&visit]).await,
                    _ => confirm(&w, &she, &name, "483920").await,
                };
                match edges.iter().find(|(f, v, _)| *f == from && *v == verb) {
                    Some((_, _, to)) => assert_eq!(said.unwrap().state(), *to, "{from:?} {verb}"),
                    None => {
                        let refusal = refused(said);
                        assert_eq!(refusal.reason, Reason::StateConflict, "{from:?} {verb}");
                        assert_eq!(read(&w, &she, &name).await.unwrap().state(), from, "{from:?} {verb}");
                    }
                }
            }
        }
    });
}

#[test]
fn nobody_looks_for_anothers_records_or_speaks_for_another() {
    everywhere(|w| async move {
        let (she, name, _) = at(&w, "asha.rao@sbx", State::Matched).await;
        let ravi = w.she(w.person("ravi.kumar@sbx"));
        // Her address is not his; a year that does not fit is not hers.
        assert_eq!(
            reason(look(&w, &ravi, search(&w, "asha.rao@sbx")).await),
            Reason::ProfileMismatch
        );
        let mut wrong = search(&w, "asha.rao@sbx");
        wrong.demographics.as_mut().unwrap().year_of_birth = 1980;
        assert_eq!(reason(look(&w, &she, wrong).await), Reason::ProfileMismatch);
        for stranger in [&ravi, &participant("lab")] {
            assert_eq!(reason(read(&w, stranger, &name).await), Reason::NotAvailable);
        }
        assert_eq!(
            reason(choose(&w, &ravi, &name, &["visit-asha.rao@"]).await),
            Reason::NotAvailable
        );
        assert_eq!(
            reason(answer(&w, "lab", &name, Answer::Failed(NOTHING)).await),
            Reason::NotAvailable
        );
        let nowhere = api::CreateDiscoveryRequest {
            hip: "participants/clinic".into(),
            ..search(&w, "asha.rao@sbx")
        };
        assert_eq!(reason(look(&w, &she, nowhere).await), Reason::HipUnavailable);
    });
}

#[test]
fn she_looks_ten_times_a_day_at_one_provider() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        for _ in 0..10 {
            look(&w, &she, search(&w, "asha.rao@sbx")).await.unwrap();
        }
        let refusal = refused(look(&w, &she, search(&w, "asha.rao@sbx")).await);
        assert_eq!(
            (refusal.reason, refusal.retry_after.unwrap().as_secs()),
            (Reason::RequestLimit, 86_400)
        );
        let elsewhere = api::CreateDiscoveryRequest {
            hip: "participants/lab".into(),
            ..search(&w, "asha.rao@sbx")
        };
        assert!(look(&w, &she, elsewhere).await.is_ok());
        w.advance(DAY);
        assert!(look(&w, &she, search(&w, "asha.rao@sbx")).await.is_ok());
    });
}

#[test]
fn new_data_is_announced_of_what_is_linked_only() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let link = w
            .rpc()
            .list_links(by(&she, Default::default()))
            .await
            .unwrap()
            .into_inner()
            .links
            .remove(0);
        let message = api::AnnounceCareContextsRequest {
            name: link.name.clone(),
            care_context_references: vec!["visit-1".into()],
            hi_types: vec![types::HiType::Prescription.into()],
            request_id: w.request_id(),
        };
        let announce = async |who: &str, message| {
            w.rpc()
                .announce_care_contexts(by(&participant(who), message))
                .await
                .map(Response::into_inner)
        };
        for _ in 0..2 {
            assert_eq!(announce("hospital", message.clone()).await.unwrap().notified_count, 0);
        }
        assert_eq!(w.count("link.data_available").await, 1);
        let told = w.notifications(&she).await;
        assert_eq!(
            (told.last().unwrap().kind(), &told.last().unwrap().resource),
            (Kind::DataAvailable, &link.name)
        );
        let again = |references: &[&str]| api::AnnounceCareContextsRequest {
            care_context_references: references.iter().map(|r| (*r).to_owned()).collect(),
            request_id: w.request_id(),
            ..message.clone()
        };
        let refusal = refused(announce("hospital", again(&["visit-1", "visit-2"])).await);
        assert_eq!(
            (refusal.reason, refusal.metadata[0].1.as_str()),
            (Reason::CareContextNotLinked, "1")
        );
        assert_eq!(reason(announce("lab", again(&["visit-1"])).await), Reason::NotAvailable);
    });
}
