//! A database is put back to a backup while the log goes on: what she took back is not in force again, what was given away
//! is given to nobody else, and positions that are used again get leaves of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::{ListEventsRequest, LogEvent};
use sammati_api::consent::v1::decision::Reason;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use sammati_api::types::v1 as types;
use sammati_kernel::SystemClock;
use sammati_testkit::databases::psql;
use sammati_testkit::development::DatabaseKind;
use sammati_tests::proofs;
use sammati_tests::story::{Person, Story, at, reason};
use sammati_tests::system::{Processes, Setting, program};
use tonic::Status;

use crate::rekeyed::Keys;
use crate::retaken::Before;
use crate::worlds::{count, settings};

/// The two services that are restored.
const RESTORED: [&str; 2] = ["identity", "consent"];

#[tokio::test(flavor = "multi_thread")]
async fn c4_n1_o1_restore_with_positions_used_again() {
    for setting in settings() {
        restore(setting).await;
    }
}

async fn restore(setting: Setting) {
    let database = setting.database.clone();
    let mut system = System::start(setting, database).await;
    let mut story = system.story().await;
    story
        .register("laboratory", "Hill Laboratory", types::ParticipantRole::Hip)
        .await
        .unwrap();
    let people = story.people().await.unwrap();
    let mut adults = people.iter().filter(|p| !p.mobile.is_empty() && p.parents.is_empty());
    let asha = story.enrol(adults.next().unwrap()).await.unwrap();
    story.link(&asha, &["OPD-1", "LAB-1"]).await.unwrap();
    let given = acknowledged(&story, &asha).await;
    let before = Before::of(&story, &asha).await;
    let keys = Keys::of(&story, adults.next().unwrap()).await;
    let first = proofs::checkpoint(&story).await.unwrap();
    system.back_up().await;

    // What will be lost, but for the log: each in its leaf before the databases are put back.
    story.revoke(0, &asha, &[&given]).await.unwrap();
    let lost = acknowledged(&story, &asha).await;
    story.claim_address(&asha, "asha.lost").await.unwrap();
    let late = story.enrol(adults.next().unwrap()).await.unwrap();
    suspend(&story, "laboratory").await;
    let kept = before.lose(&story, &asha).await;
    until_listed(&story, "identity.participant_suspended").await;
    until_told(&story, &asha, "identity.address_preferred", "").await;
    until_told(&story, &asha, "consent.withdrawn", &given).await;
    until_told(&story, &asha, "consent.artefact_issued", &lost).await;
    until_told(&story, &late, "identity.session_created", "").await;
    let used = keys.lose(&story).await;

    let said = system.put_back().await;
    for what in [
        format!("consent: {given} was withdrawn, and is so again"),
        "identity: participants/laboratory was suspended, and is so again".to_owned(),
        format!("identity: {} was enrolled, and is not", late.account.name),
        "consent.withdrawn: 1".to_owned(),
        // Her number, her default address's being the same, the address, and the participant's assertion.
        "identity: 3 numbers, addresses and assertions that were given away stay taken".to_owned(),
    ]
    .into_iter()
    .chain(before.said())
    .chain([keys.said()])
    {
        assert!(said.contains(&what), "{what} is not in\n{said}");
    }
    used.is_refused(&keys, &story).await;
    story.renew().await.unwrap();
    keys.are_gone(&story).await;
    let asha = story.log_in(&asha).await.unwrap();
    before.is_retaken(&story, &asha).await;
    kept.is_unknown(&story, &given).await;

    // C4: the log proves that she took it back.
    let denied = persist(async || story.check(0, story.question(&given)).await).await;
    assert_eq!(denied.reason(), Reason::ConsentRevoked);
    let unknown = story.check(0, story.question(&lost)).await;
    assert_eq!(unknown.unwrap().reason(), Reason::NoConsent, "its grant is lost");

    // N1: nobody gets what was given away, and whose account is lost enrols anew.
    let taken = story.claim_address(&asha, "asha.lost").await.unwrap_err();
    assert_eq!(reason(&taken), "ADDRESS_TAKEN");
    let again = story.enrol(&late.entry).await.unwrap();
    assert!(again.is_new && again.account.abha_number != late.account.abha_number);
    assert_eq!(
        state_of(&story, "laboratory").await,
        identity::participant::State::Suspended
    );

    // O1: the same positions, other events, and a leaf for each; the old ones are still there.
    let fresh = acknowledged(&story, &asha).await;
    let permit = story.check(0, story.question(&fresh)).await.unwrap();
    assert_eq!(permit.reason(), Reason::Granted, "caches and facts are of now");
    until_told(&story, &asha, "consent.artefact_issued", &fresh).await;
    let trail = story.trail(&asha).await.unwrap();
    assert_eq!(count(&trail, "consent.withdrawn", &given), 2, "hers, and again");
    assert_eq!(count(&trail, "consent.granted", &lost), 1);
    assert_eq!(count(&trail, "consent.granted", &fresh), 1);
    cuts(&story, system.partitions).await;
    proofs::verify_growth(&story, &first, 0).await.unwrap();

    // Once more, though nothing is lost: harmless.
    for service in RESTORED {
        system.stop(service).await;
        let said = system.verb(service, &["recover"]);
        assert!(said.contains("recovered, in epoch"), "{said}");
        system.launch(service).await;
    }
    story.renew().await.unwrap();
    let permit = persist(async || story.check(0, story.question(&fresh)).await).await;
    assert_eq!(permit.reason(), Reason::Granted);
    before.is_retaken(&story, &asha).await;
    without_the_log(&mut system).await;
    system.processes.stop().await;
}

/// A log that is gone for good is not asked, and it is said what that means.
async fn without_the_log(system: &mut System) {
    system.stop("audit").await;
    system.stop("consent").await;
    let config = system.folder.join("consent.toml");
    let recover = || {
        let mut command = Command::new(program("sammati").unwrap());
        command.args(["consent", "recover", "--config"]).arg(&config);
        command
    };
    let asked = recover().output().unwrap();
    assert!(!asked.status.success(), "the log cannot be asked");
    let said = String::from_utf8_lossy(&asked.stderr).into_owned() + &String::from_utf8_lossy(&asked.stdout);
    assert!(said.contains("the audit log cannot be asked what was lost"), "{said}");
    let said = system.verb("consent", &["recover", "--without-log"]);
    assert!(said.contains("The audit log was NOT asked what was lost"), "{said}");
    system.launch("consent").await;
}

/// Grants a consent that the hospital acknowledges; tells its name.
async fn acknowledged(story: &Story, person: &Person) -> String {
    acknowledged_within(story, person, story.scope()).await
}

/// The same within `scope`.
pub(crate) async fn acknowledged_within(story: &Story, person: &Person, scope: types::Scope) -> String {
    let given = persist(async || story.consent(person, scope.clone()).await).await;
    let heard = story.notification(&story.hospital, &given.name).await.unwrap();
    story.acknowledge(&story.hospital, &heard.name).await.unwrap();
    given.name
}

/// Waits until her trail has it.
pub(crate) async fn until_told(story: &Story, person: &Person, event_type: &str, resource: &str) {
    until_told_times(story, person, (event_type, resource), 1).await;
}

/// The same, so many times.
pub(crate) async fn until_told_times(
    story: &Story,
    person: &Person,
    (event_type, resource): (&str, &str),
    times: usize,
) {
    for _ in 0..600 {
        let trail = persist(async || story.trail(person).await).await;
        if count(&trail, event_type, resource) >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{event_type} about {resource} did not reach the log");
}

/// Waits until the log has an event of this type, whoever it is about.
async fn until_listed(story: &Story, event_type: &str) {
    for _ in 0..600 {
        if !listed(story, event_type).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{event_type} did not reach the log");
}

/// The events of this type of the last hour.
pub(crate) async fn listed(story: &Story, event_type: &str) -> Vec<LogEvent> {
    let hour = Duration::from_secs(3600);
    let now = story.clock.now();
    let request = ListEventsRequest {
        page_size: 1000,
        event_type_prefix: event_type.to_owned(),
        occurred_range: Some(types::TimeRange {
            from: at(now.minus(hour)),
            to: at(now.plus(hour)),
        }),
        ..Default::default()
    };
    let list = async || {
        let mut client = LogServiceClient::new(story.operator.audit());
        Ok(client.list_events(request.clone()).await?.into_inner().events)
    };
    persist(list).await
}

/// Tries until those who have only just started, or have too much to do, answer.
pub(crate) async fn persist<T>(call: impl AsyncFn() -> Result<T, Status>) -> T {
    for _ in 0..600 {
        match call().await {
            Ok(answer) => return answer,
            Err(status) => {
                let passing = [
                    "IDENTITY_STALE",
                    "Unavailable",
                    "Unknown",
                    "TOKEN_REVOKED",
                    "STORAGE_UNAVAILABLE",
                    "COMMIT_UNKNOWN",
                    "DEADLINE",
                ];
                assert!(passing.contains(&reason(&status).as_str()), "{status:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    panic!("nobody answered for half a minute");
}

async fn suspend(story: &Story, name: &str) {
    let request = identity::SuspendParticipantRequest {
        request_id: story.rid(),
        name: format!("participants/{name}"),
        reason: "licence withdrawn".to_owned(),
        ..Default::default()
    };
    let mut client = ParticipantServiceClient::new(story.operator.identity());
    client.suspend_participant(request).await.unwrap();
}

async fn state_of(story: &Story, name: &str) -> identity::participant::State {
    let request = identity::GetParticipantRequest {
        name: format!("participants/{name}"),
    };
    let mut client = ParticipantServiceClient::new(story.operator.identity());
    client.get_participant(request).await.unwrap().into_inner().state()
}

/// Each partition's cut is a leaf, and says where it was and who made it.
async fn cuts(story: &Story, partitions: usize) {
    let mut found: Vec<LogEvent> = Vec::new();
    for _ in 0..600 {
        found = listed(story, "admin.epoch_opened").await;
        if found.len() >= RESTORED.len() * partitions {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut places = BTreeSet::new();
    for event in &found {
        let source = event.header.clone().unwrap().source.unwrap();
        let cut = event.payload.clone().unwrap().cut.unwrap();
        assert_eq!((cut.epoch, cut.operator.as_str()), (1, "the test"));
        assert!(source.epoch > 1 && cut.next_position <= source.position);
        places.insert((source.service, source.partition));
    }
    assert_eq!((places.len(), found.len()), (RESTORED.len() * partitions, places.len()));
}

/// Processes, and what an operator does to their databases.
struct System {
    processes: Processes,
    database: DatabaseKind,
    partitions: usize,
    folder: PathBuf,
}

impl System {
    async fn start(setting: Setting, database: DatabaseKind) -> Self {
        let partitions = if setting.replicas > 1 { 64 } else { 4 };
        let processes = Processes::start(setting).await.unwrap();
        Self {
            folder: processes.addresses.folder.clone(),
            processes,
            database,
            partitions,
        }
    }

    async fn story(&self) -> Story {
        let mut story = Story::new(&self.processes.addresses, Arc::new(SystemClock)).unwrap();
        story.open().await.unwrap();
        story
    }

    /// What a verb says; it must end well.
    fn verb(&self, service: &str, args: &[&str]) -> String {
        let config = self.folder.join(format!("{service}.toml"));
        let (verb, rest) = args.split_first().unwrap();
        let out = Command::new(program("sammati").unwrap())
            .args([service, verb, "--config"])
            .arg(config)
            .args(rest)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        said
    }

    async fn stop(&mut self, service: &str) {
        for name in self.replicas(service) {
            self.processes.kill(&name).await.unwrap();
        }
    }

    async fn launch(&mut self, service: &str) {
        for name in self.replicas(service) {
            self.processes.launch(&name).await.unwrap();
        }
    }

    fn replicas(&self, service: &str) -> Vec<String> {
        let of = |name: &&str| name.split('-').next() == Some(service);
        self.processes.names().filter(of).map(str::to_owned).collect()
    }

    /// Saves both databases: SQLite's while it is served, Postgres's by its own means, which want it idle.
    async fn back_up(&mut self) {
        for service in RESTORED {
            let Some((server, name)) = self.postgres(service) else {
                self.verb(service, &["backup", "--to", &self.saved(service)]);
                continue;
            };
            self.stop(service).await;
            psql(
                &server,
                "postgres",
                &format!("CREATE DATABASE {name}_saved TEMPLATE {name}"),
            );
            self.launch(service).await;
        }
    }

    /// Puts both back as they were saved, recovers them and starts them again; tells what was said.
    async fn put_back(&mut self) -> String {
        let mut said = String::new();
        for service in RESTORED {
            self.stop(service).await;
        }
        for service in RESTORED {
            let Some((server, name)) = self.postgres(service) else {
                let from = self.saved(service);
                said += &self.verb(service, &["restore", "--replace", "--from", &from, "--by", "the test"]);
                continue;
            };
            psql(&server, "postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
            psql(
                &server,
                "postgres",
                &format!("CREATE DATABASE {name} TEMPLATE {name}_saved"),
            );
            said += &self.verb(service, &["recover", "--by", "the test"]);
        }
        for service in RESTORED {
            self.launch(service).await;
        }
        said
    }

    fn saved(&self, service: &str) -> String {
        Path::new(&self.folder)
            .join(format!("{service}.saved"))
            .display()
            .to_string()
    }

    /// Where a service's database is, if on Postgres: server and name.
    fn postgres(&self, service: &str) -> Option<(String, String)> {
        let DatabaseKind::Postgres { identity, consent, .. } = &self.database else {
            return None;
        };
        let url = if service == "identity" { identity } else { consent };
        let (server, name) = url.rsplit_once('/')?;
        Some((server.to_owned(), name.to_owned()))
    }
}
