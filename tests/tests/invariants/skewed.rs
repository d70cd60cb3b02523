//! A1, A2: the clock of an audit process is an hour wrong, either way, and is set while it runs. Beside Postgres it takes
//! nothing until it is right, and others go on; where it is alone, it goes on, and time in the log does not go back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{Clock, SystemClock};
use sammati_testkit::{DatabaseKind, Port};
use sammati_tests::clocks::{WrongClock, library};
use sammati_tests::direct::{self, Told};
use sammati_tests::proofs::{self, Grown};
use sammati_tests::retry::until_answered;
use sammati_tests::story::{Person, Story, count, reason};
use sammati_tests::system::{Processes, Setting, with_ports};

use crate::worlds::settings;

const HOUR: i64 = 3600;

/// How far replicas may be apart.
const APART: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "a setting of the test suite itself")]
pub(crate) fn faketime() -> Option<PathBuf> {
    let found = library();
    if found.is_none() {
        assert!(
            std::env::var("CI").is_err(),
            "no libfaketime found: run scripts/machine.sh"
        );
        eprintln!("SKIPPED: no libfaketime found; run scripts/machine.sh to run this test");
    }
    found
}

/// A system, somebody in it, and what the log was seen to do.
struct Seen {
    system: Processes,
    story: Story,
    person: Person,
    first: String,
    told: Vec<Told>,
    asked: usize,
}

impl Seen {
    async fn of(system: Processes) -> Self {
        let mut story = Story::new(&system.addresses, Arc::new(SystemClock)).unwrap();
        story.open().await.unwrap();
        let entry = story.people().await.unwrap().remove(0);
        let person = story.enrol(&entry).await.unwrap();
        let first = proofs::checkpoint(&story).await.unwrap();
        Self {
            system,
            story,
            person,
            first,
            told: Vec::new(),
            asked: 0,
        }
    }

    /// Somebody appends at `url`, some calls, each until it is answered.
    async fn append(&mut self, url: &str) {
        let client = direct::appender(&self.system.addresses.folder, url).unwrap();
        for _ in 0..5 {
            let events: Vec<_> = (0..3).map(|_| direct::event()).collect();
            let told = until_answered(async || direct::append(&client, &events, true).await);
            self.told.push(told.await.unwrap());
        }
    }

    /// Consent has something to tell of.
    async fn ask(&mut self) {
        self.story.ask(&self.person, self.story.scope()).await.unwrap();
        self.asked += 1;
    }

    /// All that was acknowledged is in the log, once, with what consent told; its times do not go back, and there is one
    /// history.
    async fn judged(mut self) -> Grown {
        self.story.until_logged("consent.requested", self.asked).await.unwrap();
        let trail = self.story.trail(&self.person).await.unwrap();
        assert_eq!(
            count(&trail, "consent.requested", ""),
            self.asked,
            "what consent has told"
        );
        let grown = proofs::verify_growth(&self.story, &self.first, 0).await.unwrap();
        let mut ids: Vec<_> = grown.leaves.iter().map(|leaf| &leaf.event_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), grown.leaves.len(), "an event is there twice");
        for place in self.told.iter().flat_map(|told| &told.places) {
            let leaf = &grown.leaves[usize::try_from(place.index).unwrap()];
            assert_eq!(
                (&leaf.event_id, leaf.hash.0.as_slice()),
                (&place.event_id, place.leaf_hash.as_slice())
            );
        }
        let times: Vec<_> = grown.leaves.iter().map(|leaf| leaf.accepted).collect();
        assert!(times.is_sorted(), "time goes back: {times:?}");
        let notes: Vec<_> = self.told.iter().map(|told| told.checkpoint.clone()).collect();
        proofs::one_history(&self.story, &notes, &grown.checkpoint)
            .await
            .unwrap();
        self.system.stop().await;
        grown
    }
}

/// Another audit process on the same databases; tells its address.
pub(crate) fn add(system: &mut Processes, name: &str) -> String {
    let port = Port::free().unwrap();
    let text = std::fs::read_to_string(system.config("audit")).unwrap();
    let config = system.addresses.folder.join(format!("{name}.toml"));
    std::fs::write(&config, with_ports(&text, port).unwrap()).unwrap();
    system.add(name, config);
    format!("https://127.0.0.1:{}", port.rpc)
}

/// Refuses to append now, as one that has no database.
async fn takes_nothing(seen: &Seen, url: &str) {
    let client = direct::appender(&seen.system.addresses.folder, url).unwrap();
    let refused = direct::append(&client, &[direct::event()], false).await.unwrap_err();
    assert_eq!(reason(&refused), "STORAGE_UNAVAILABLE", "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a2_replicas_whose_clocks_are_an_hour_wrong_take_nothing_and_others_go_on() {
    let Some(library) = faketime() else { return };
    let shared = |setting: &Setting| matches!(setting.database, DatabaseKind::Postgres { .. });
    for setting in settings().into_iter().filter(shared) {
        let mut system = Processes::start(setting).await.unwrap();
        let (right, folder) = (system.addresses.audit.clone(), system.addresses.folder.clone());
        let mut wrong = Vec::new();
        for name in ["audit-2", "audit-3"] {
            let (url, clock) = (
                add(&mut system, name),
                WrongClock::new(&library, &folder, name).unwrap(),
            );
            let command = clock.command(system.binary());
            system.launch_as(name, command).await.unwrap();
            wrong.push((url, clock));
        }
        let mut seen = Seen::of(system).await;
        for hours in [[1, -1], [-1, 1]] {
            for ((url, clock), hours) in wrong.iter().zip(hours) {
                seen.append(url).await;
                clock.set(hours * HOUR).unwrap();
                takes_nothing(&seen, url).await;
            }
            seen.append(&right).await;
            seen.ask().await;
            for (url, clock) in &wrong {
                takes_nothing(&seen, url).await;
                clock.set(0).unwrap();
                seen.append(url).await;
            }
        }
        let grown = seen.judged().await;
        let last = grown.leaves.last().unwrap().accepted;
        assert!(
            last <= SystemClock.now().plus(APART),
            "nobody's wrong time is in the log"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a2_a_log_alone_goes_on_while_its_clock_is_set_to_and_fro() {
    let Some(library) = faketime() else { return };
    let mut system = Processes::prepare(&Setting::new()).unwrap();
    system.launch_all().await.unwrap();
    let clock = WrongClock::new(&library, &system.addresses.folder, "audit").unwrap();
    let url = system.addresses.audit.clone();
    let mut seen = Seen::of(system).await;
    let began = SystemClock.now();
    for (n, hours) in [0, 1, -1, 0, -1, 1, 0].into_iter().enumerate() {
        clock.set(hours * HOUR).unwrap();
        // Now and then it is set while nobody runs.
        if n % 3 == 0 {
            seen.system.kill("audit").await.unwrap();
            let command = clock.command(seen.system.binary());
            seen.system.launch_as("audit", command).await.unwrap();
        }
        seen.append(&url).await;
        seen.ask().await;
    }
    let grown = seen.judged().await;
    let last = grown.leaves.last().unwrap().accepted;
    let ahead = Duration::from_secs(HOUR.unsigned_abs());
    assert!(
        last >= began.plus(ahead),
        "it was an hour fast once, and waits for that hour to come"
    );
    assert!(last <= SystemClock.now().plus(ahead), "and is no further");
}
