//! A3, I9, I14: somebody deletes her account, and years go by. After 30 days identity and consent have nothing of hers, and
//! from the log goes what the law lets go by then; the rest goes on its day, with nobody asking again. What is gone says
//! when it went and why, every proof holds for somebody who has the log's key alone, and at no time is she in a file in
//! clear.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::get_event_request::Event::EventId;
use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::{self as audit, LogEvent};
use sammati_api::consent::v1::authorize_access_request::Target;
use sammati_api::consent::v1::decision::Reason;
use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::account_service_client::AccountServiceClient;
use sammati_api::types::v1 as types;
use sammati_api::types::v1::RetentionClass::{self, Access, Admin, Consent, General};
use sammati_kernel::Clock;
use sammati_testkit::Postgres;
use sammati_testkit::disk::{files, holds};
use sammati_tests::clocks::WrongClock;
use sammati_tests::proofs;
use sammati_tests::story::{Person, Story, reason};
use sammati_tests::system::{Processes, Setting, program};

use crate::floored::{databases, server};
use crate::restored::{listed, persist, until_told};
use crate::skewed::faketime;

const DAY: i64 = 86_400;

/// A year and some days: what is told at its beginning is past a floor of a year.
const YEAR: i64 = 370 * DAY;

/// The ground on which identity has audit erase.
const GROUND: &str = "DPDP Act s.8(7): her account is deleted";

/// All services as processes that are told one time, which can be years ahead.
struct Years {
    folder: tempfile::TempDir,
    clock: Arc<WrongClock>,
    server: Option<Postgres>,
    system: Processes,
    story: Story,
    ahead: i64,
}

impl Years {
    /// On SQLite, or on a server of its own; `None` where that is not to be had.
    async fn begin(library: &Path, on_postgres: bool) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // The server's user reads the clock too.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let clock = Arc::new(WrongClock::new(library, folder.path(), "all").unwrap());
        let mut setting = Setting {
            folder: Some(folder.path().join("services")),
            ..Setting::new()
        };
        let mut own = None;
        if on_postgres {
            own = Some(tokio::task::block_in_place(|| server(&clock))?);
            setting.database = tokio::task::block_in_place(|| own.as_ref().map(databases))?;
        }
        let mut system = Processes::prepare(&setting).unwrap();
        system.launch_all_as(|program| clock.command(program)).await.unwrap();
        let time: Arc<dyn Clock> = Arc::<WrongClock>::clone(&clock);
        let mut story = Story::new(&system.addresses, time).unwrap();
        story.open().await.unwrap();
        Some(Self {
            folder,
            clock,
            server: own,
            system,
            story,
            ahead: 0,
        })
    }

    /// So many seconds later they are all started again.
    async fn pass(&mut self, seconds: i64) {
        self.system.stop().await;
        self.ahead += seconds;
        self.clock.set(self.ahead).unwrap();
        let clock = &self.clock;
        self.system
            .launch_all_as(|program| clock.command(program))
            .await
            .unwrap();
        self.story.renew().await.unwrap();
    }

    async fn event(&self, id: &str) -> LogEvent {
        let get = async || {
            let request = audit::GetEventRequest {
                event: Some(EventId(id.to_owned())),
                // What Aadhaar's regulations have kept lies in the archive after two years.
                legal_basis: "inspection".to_owned(),
                ..Default::default()
            };
            let mut client = LogServiceClient::new(self.story.operator.audit());
            Ok(client.get_event(request).await?.into_inner())
        };
        persist(get).await
    }

    /// Waits until it is erased.
    async fn erased(&self, id: &str) -> LogEvent {
        let look = async || Some(self.event(id).await).filter(|event| event.payload_state() == PayloadState::Erased);
        until(&format!("{id} is erased"), look).await
    }

    /// Waits until the log has an event of this type of about now, about her.
    async fn told(&self, event_type: &str, tag: &[u8]) {
        let look = async || {
            let found = listed(&self.story, event_type).await;
            found.into_iter().any(|event| self::tag(&event) == tag).then_some(())
        };
        until(&format!("{event_type} about her is in the log"), look).await;
    }

    /// What somebody with the log's key alone makes of a leaf and its proof.
    fn is_proved(&self, vkey: &str, leaf: &[u8], proof: &str) {
        let [of_leaf, of_proof] = ["leaf", "tlog-proof"].map(|name| self.folder.path().join(name));
        std::fs::write(&of_leaf, leaf).unwrap();
        std::fs::write(&of_proof, proof).unwrap();
        let mut verifier = Command::new(program("sammati-verify").unwrap());
        verifier
            .args(["bundle", "--vkey", vkey, "--leaf"])
            .args([of_leaf, of_proof]);
        let said = verifier.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// An erased event says when, why and by which record, which is proved; so is that it was there.
    async fn says_what_became_of_it(&self, vkey: &str, event: &LogEvent, before: &[u8], since: i64) {
        assert_eq!(event.payload, None);
        let erasure = event.erasure.as_ref().expect("it says when and why");
        // A month's key may have come to its ceiling as well: of consents none has, in these years.
        let is_hers = [Access, Consent].contains(&class(event));
        assert!(!is_hers || erasure.legal_basis == GROUND, "{}", erasure.legal_basis);
        let at = erasure.erase_time.as_ref().unwrap().seconds;
        assert!((since..=self.clock.now().seconds()).contains(&at), "erased at {at}");
        self.is_proved(vkey, &erasure.leaf, &erasure.proof);
        let id = &event.header.as_ref().unwrap().event_id;
        let proof = self.story.proof(&self.story.operator, id).await.unwrap();
        assert_eq!(proof.leaf, before, "the leaf is as it was");
        self.is_proved(vkey, &proof.leaf, &proof.proof);
    }

    /// All files of services and server.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = files(self.folder.path());
        if let Some(server) = &self.server {
            sammati_testkit::databases::psql(server.url(), "postgres", "CHECKPOINT");
            all.extend(files(Path::new(&server.data())));
        }
        all
    }

    /// Nothing that tells who she is stands in a file, in clear.
    fn has_none_of(&self, canaries: &[String]) {
        let all = tokio::task::block_in_place(|| self.files());
        // What is no secret is found, or the search is worth nothing.
        let found = |text: &str| all.iter().find(|(_, bytes)| holds(bytes, text.as_bytes()));
        assert!(found("City Hospital, Pune").is_some());
        for canary in canaries {
            assert_eq!(found(canary).map(|(path, _)| path), None, "{canary}");
        }
    }
}

fn tag(event: &LogEvent) -> &[u8] {
    event.header.as_ref().map_or(&[], |header| &header.subject_tag)
}

fn class(event: &LogEvent) -> RetentionClass {
    event.header.as_ref().unwrap().class()
}

/// What tells who she is.
fn canaries(person: &Person) -> Vec<String> {
    let names = person.entry.names.clone().unwrap();
    let number = &person.account.abha_number;
    let address = person.address();
    let (local_part, _) = address.split_once('@').unwrap();
    vec![
        names.first,
        names.last,
        person.entry.local_name.clone(),
        person.entry.mobile.clone(),
        person.entry.aadhaar.clone(),
        number.clone(),
        number.replace('-', ""),
        local_part.to_owned(),
    ]
}

/// The clinic asks for what she never gave: refused, and told.
async fn denied(story: &Story, person: &Person) {
    let number = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
    let request = sammati_api::consent::v1::AuthorizeAccessRequest {
        target: Some(Target::Subject(types::Identifier {
            identifier: Some(number),
        })),
        ..story.authorization("")
    };
    let mut client = DecisionServiceClient::new(story.hospital.consent());
    let decision = client.authorize_access(request).await.unwrap().into_inner();
    assert_eq!(decision.reason(), Reason::NoConsent);
}

/// What she can read of herself, each with its class and its leaf.
async fn trail(years: &Years, person: &Person) -> BTreeMap<String, (RetentionClass, Vec<u8>)> {
    let trail = persist(async || years.story.whole_trail(person).await).await;
    let mut hers = BTreeMap::new();
    for event in trail {
        let id = event.header.as_ref().unwrap().event_id.clone();
        let leaf = years.story.proof(&years.story.operator, &id).await.unwrap().leaf;
        hers.insert(id, (class(&event), leaf));
    }
    hers
}

async fn delete(story: &Story, person: &Person) {
    let request = identity::DeleteAccountRequest {
        request_id: story.rid(),
        name: person.account.name.clone(),
        ..Default::default()
    };
    let mut client = AccountServiceClient::new(person.who.identity());
    let account = client.delete_account(request).await.unwrap().into_inner();
    assert_eq!(account.state(), identity::account::State::Deleted);
}

async fn a_life_and_what_is_left_of_it(mut years: Years) {
    let entries = years.story.people().await.unwrap();
    let mut adults = entries.iter().filter(|p| !p.mobile.is_empty() && p.parents.is_empty());
    let [she, other] = [(); 2].map(|()| adults.next().unwrap());
    let asha = years.story.enrol(she).await.unwrap();
    let other = years.story.enrol(other).await.unwrap();
    let canaries = canaries(&asha);
    denied(&years.story, &asha).await;
    let mut kept = String::new();
    for (person, visit) in [(&asha, "OPD-1"), (&other, "OPD-2")] {
        years.story.link(person, &[visit]).await.unwrap();
        let given = persist(async || years.story.consent(person, years.story.scope()).await).await;
        persist(async || years.story.authorize(0, &given.name).await).await;
        until_told(&years.story, person, "access.authorized", "").await;
        kept = given.name;
    }
    until_told(&years.story, &asha, "access.denied", "").await;
    let early = trail(&years, &asha).await;
    let of_other = persist(async || years.story.trail(&other).await).await;
    let kept = of_other.iter().find(|event| {
        let payload = event.payload.as_ref();
        payload.is_some_and(|payload| payload.resource == kept)
    });
    let kept = kept.unwrap().header.clone().unwrap().event_id;
    let first = proofs::checkpoint(&years.story).await.unwrap();
    years.has_none_of(&canaries);

    // A year later she gives another, and has all of it deleted.
    years.pass(YEAR).await;
    let asha = years.story.log_in(&asha).await.unwrap();
    let given = persist(async || years.story.consent(&asha, years.story.scope()).await).await;
    until_told(&years.story, &asha, "consent.artefact_issued", &given.name).await;
    let mut hers = trail(&years, &asha).await;
    assert!(early.keys().all(|id| hers.contains_key(id)));
    let her_tag = tag(&years.event(hers.keys().next().unwrap()).await).to_owned();
    hers.extend(early);
    delete(&years.story, &asha).await;
    years.told("consent.withdrawn", &her_tag).await;
    for id in hers.keys() {
        assert_eq!(years.event(id).await.payload_state(), PayloadState::Readable);
    }

    // After the days of grace identity and consent have nothing more, and what is past its floor goes from the log.
    years.pass(31 * DAY).await;
    let since = years.clock.now().seconds() - DAY;
    for told in ["identity.purged", "consent.purged", "audit.erasure_executed"] {
        years.told(told, &her_tag).await;
    }
    let vkey = years.story.log().await.unwrap().vkey;
    let classes: BTreeSet<_> = hers.values().map(|(class, _)| *class as i32).collect();
    for (id, (class, leaf)) in &hers {
        if *class == Access {
            let event = years.erased(id).await;
            years.says_what_became_of_it(&vkey, &event, leaf, since).await;
        } else {
            let event = years.event(id).await;
            assert_eq!(
                event.payload_state(),
                PayloadState::Readable,
                "below its floor: {event:?}"
            );
        }
    }
    // What was proved of her Aadhaar number was told before there was an account.
    let all = [Consent, Access, General, Admin].map(|class| class as i32);
    assert_eq!(classes, BTreeSet::from(all));
    let get = identity::GetAccountRequest {
        name: asha.account.name.clone(),
        view: 0,
    };
    let gone = AccountServiceClient::new(years.story.operator.identity())
        .get_account(get)
        .await;
    assert_eq!(reason(&gone.unwrap_err()), "NOT_FOUND");
    years.has_none_of(&canaries);

    // What was booked goes on its day, and hers alone.
    years.pass(7 * YEAR + 60 * DAY).await;
    for (id, (_, leaf)) in &hers {
        let event = years.erased(id).await;
        years.says_what_became_of_it(&vkey, &event, leaf, since).await;
    }
    assert_eq!(years.event(&kept).await.payload_state(), PayloadState::Readable);
    proofs::verify_growth(&years.story, &first, 0).await.unwrap();
    years.has_none_of(&canaries);
    years.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_i14_a_deleted_account_is_gone_when_the_law_lets_it_go() {
    let Some(library) = faketime() else { return };
    let years = Years::begin(&library, false).await.unwrap();
    a_life_and_what_is_left_of_it(years).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_i14_a_deleted_account_is_gone_from_postgres_when_the_law_lets_it_go() {
    let Some(library) = faketime() else { return };
    let Some(years) = Years::begin(&library, true).await else {
        return;
    };
    a_life_and_what_is_left_of_it(years).await;
}

/// Looks until there is something, for half a minute.
async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}
