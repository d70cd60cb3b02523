//! The systems that every race is run on.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::LogEvent;
use sammati_api::consent::v1::ListConsentsRequest;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_kernel::{Clock, ManualClock, Micros, SystemClock};
use sammati_testkit::databases::{psql, server_url};
use sammati_testkit::development::DatabaseKind;
pub(crate) use sammati_tests::story::count;
use sammati_tests::story::{Person, Story, reason};
use sammati_tests::system::{InProcess, Setting};
use tonic::Status;

/// One on SQLite, and two replicas over Postgres where there is one.
pub(crate) fn settings() -> Vec<Setting> {
    let mut settings = vec![Setting::new()];
    if let Some(server) = server_url() {
        settings.push(Setting {
            database: new_databases(&server),
            replicas: 2,
            ..Setting::new()
        });
    }
    settings
}

/// A running system and everybody in it.
pub(crate) struct World {
    pub(crate) system: InProcess,
    pub(crate) story: Story,
    pub(crate) clock: ManualClock,
    pub(crate) replicas: usize,
}

impl World {
    /// One in each setting.
    pub(crate) async fn all() -> Vec<Self> {
        let mut worlds = Vec::new();
        for setting in settings() {
            worlds.push(Self::start(setting).await);
        }
        worlds
    }

    async fn start(setting: Setting) -> Self {
        // The machine's time to begin with: Postgres and certificates have their own idea of it.
        let clock = ManualClock::at(SystemClock.now());
        let system = InProcess::start(&setting, Arc::new(clock.clone())).await.unwrap();
        let mut story = Story::new(&system.addresses, Arc::new(clock.clone())).unwrap();
        story.open().await.unwrap();
        Self {
            system,
            story,
            clock,
            replicas: setting.replicas,
        }
    }

    /// The first person of the register, enrolled, with two care contexts at the hospital.
    pub(crate) async fn person(&self) -> Person {
        let entry = self.story.people().await.unwrap().remove(0);
        let person = self.story.enrol(&entry).await.unwrap();
        self.story.link(&person, &["OPD-1", "LAB-1"]).await.unwrap();
        person
    }

    /// Waits until every service has heard from identity since the clock was moved: before that they refuse, as they
    /// must, whatever rests on its facts.
    pub(crate) async fn settled(&self, person: &Person) {
        for replica in 0..self.replicas {
            let list = || async {
                let mut client = ConsentServiceClient::new(person.who.consent_at(replica));
                client.list_consents(ListConsentsRequest::default()).await.map(drop)
            };
            until_fresh(list).await;
        }
        until_fresh(|| async { self.story.trail(person).await.map(drop) }).await;
    }

    /// Her whole trail once it holds `event_type` about `consent` or request `resource`.
    pub(crate) async fn trail_with(&self, person: &Person, wanted: impl Fn(&[LogEvent]) -> bool) -> Vec<LogEvent> {
        for _ in 0..400 {
            let trail = self.story.trail(person).await.unwrap();
            if wanted(&trail) {
                return trail;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the trail did not become what was waited for");
    }
}

async fn until_fresh<F: Future<Output = Result<(), Status>>>(call: impl Fn() -> F) {
    loop {
        match call().await {
            Ok(()) => return,
            Err(status) => assert_eq!(reason(&status), "IDENTITY_STALE", "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn new_databases(server: &str) -> DatabaseKind {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("world_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
    let make = |name: &str| {
        psql(server, "postgres", &format!("CREATE DATABASE {prefix}_{name}"));
        format!("{server}/{prefix}_{name}")
    };
    DatabaseKind::Postgres {
        identity: make("identity"),
        consent: make("consent"),
        audit: make("audit"),
        audit_keys: make("audit_keys"),
    }
}

/// For expectations about time.
pub(crate) fn now(clock: &ManualClock) -> Micros {
    clock.now()
}
