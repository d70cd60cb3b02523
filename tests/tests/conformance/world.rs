//! The one system that most tests share, everybody who calls it, and what it writes to its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use sammati_api::types::v1 as types;
use sammati_api::types::v1::CallerKind as Kind;
use sammati_kernel::{Clock, ManualClock, SystemClock};
use sammati_testkit::Authority;
use sammati_testkit::development::TRUST_DOMAIN;
use sammati_tests::caller::Wire;
use sammati_tests::story::{Failure, Person, Story, Who};
use sammati_tests::system::{InProcess, Setting};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use crate::contract::Rpc;
use crate::outsider::Outsider;

/// The runtime of services and clients alike: it outlives every test.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().enable_all().build().expect("a runtime"));

static WORLD: OnceCell<World> = OnceCell::const_new();

/// Runs a test in the shared system.
pub(crate) fn run(test: impl AsyncFnOnce(&'static World)) {
    RUNTIME.block_on(async {
        let world = WORLD
            .get_or_init(|| async { World::begin().await.expect("the system starts") })
            .await;
        test(world).await;
    });
}

/// Runs a test that has a system of its own.
pub(crate) fn run_alone(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

/// A new folder of this name; what a run before left there is removed.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// Somebody who can call.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) name: &'static str,
    /// What a token or an operator's or service's certificate makes it.
    pub(crate) kind: Option<Kind>,
    /// The service it is.
    pub(crate) service: Option<&'static str>,
    /// The account it is, or acts for.
    account: Option<String>,
    pub(crate) who: Who,
}

impl Caller {
    fn of(name: &'static str, kind: Kind, who: &Who) -> Self {
        Self {
            name,
            kind: Some(kind),
            service: None,
            account: None,
            who: who.clone(),
        }
    }

    /// One who acts for `principal`.
    fn representative(name: &'static str, principal: &Person, who: &Who) -> Self {
        Self {
            account: Some(principal.account.name.clone()),
            ..Self::of(name, Kind::Representative, who)
        }
    }

    fn person(name: &'static str, person: &Person) -> Self {
        Self {
            account: Some(person.account.name.clone()),
            ..Self::of(name, Kind::Person, &person.who)
        }
    }

    /// Where `rpc` is served, as this caller.
    pub(crate) fn wire(&self, world: &World, rpc: &Rpc) -> Wire {
        self.who.wire(rpc.server(), world.url(rpc.server()))
    }

    /// Whether it shows a credential of any kind to `server`.
    pub(crate) fn is_known_to(&self, server: &str) -> bool {
        self.who.certificate.is_some() || self.who.tokens.contains_key(server)
    }

    /// The account it is, or acts for.
    pub(crate) fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Whether the contract names it.
    pub(crate) fn may_call(&self, rpc: &Rpc) -> bool {
        let by_certificate = matches!(self.kind, Some(Kind::Operator | Kind::Service));
        let counts = by_certificate || self.who.tokens.contains_key(rpc.server());
        rpc.access.grants.iter().any(|grant| match grant.caller {
            Kind::Anyone => true,
            Kind::Service => self
                .service
                .is_some_and(|name| grant.services.iter().any(|s| s == name)),
            kind => counts && self.kind == Some(kind),
        })
    }
}

/// The shared system.
pub(crate) struct World {
    pub(crate) story: Story,
    pub(crate) clock: ManualClock,
    /// Who calls: one of each kind.
    pub(crate) callers: Vec<Caller>,
    /// The same kinds, but no party to anything that [`World::person`] has.
    pub(crate) strangers: Vec<Caller>,
    /// Somebody with an account.
    pub(crate) person: Person,
    /// What the representative among the callers acts under.
    pub(crate) representation: String,
    /// The log of the services.
    pub(crate) log: PathBuf,
    /// Keeps it running.
    _system: InProcess,
}

impl World {
    async fn begin() -> Result<Self, Failure> {
        let folder = folder("conformance");
        std::fs::create_dir_all(&folder)?;
        let log = folder.join("services.log");
        keep_log(&log)?;
        Self::start(&folder, log).await
    }

    /// A system of its own, in this new folder; the log is the shared one's.
    pub(crate) async fn alone(name: &str) -> Result<Self, Failure> {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance/services.log");
        Self::start(&folder(name), log).await
    }

    async fn start(folder: &Path, log: PathBuf) -> Result<Self, Failure> {
        let clock = ManualClock::at(SystemClock.now());
        certify(&folder.join("dev"))?;
        let setting = Setting {
            folder: Some(folder.join("dev")),
            ..Setting::new()
        };
        let system = InProcess::start(&setting, Arc::new(clock.clone())).await?;
        let mut story = Story::new(&system.addresses, Arc::new(clock.clone()))?;
        story.open().await?;
        let outsider = Outsider::register(&story).await?;
        let register = story.people().await?;
        let mut adults = register.iter().filter(|p| !p.mobile.is_empty() && p.parents.is_empty());
        let (first, second) = (adults.next().ok_or("nobody")?, adults.next().ok_or("nobody else")?);
        let person = story.enrol(first).await?;
        let other = story.enrol(second).await?;
        let mut callers = callers(&story, &person, &outsider).await?;
        let mut strangers = strangers(&story, &other, &outsider).await?;
        let (third, fourth) = (adults.next().ok_or("no third")?, adults.next().ok_or("no fourth")?);
        let (representation, who) = story.represent(&person, &story.enrol(third).await?).await?;
        callers.push(Caller::representative("representative", &person, &who));
        let (_, who) = story.represent(&other, &story.enrol(fourth).await?).await?;
        strangers.push(Caller::representative("another representative", &other, &who));
        Ok(Self {
            story,
            clock,
            callers,
            strangers,
            person,
            representation,
            log,
            _system: system,
        })
    }

    /// The address of a service.
    pub(crate) fn url(&self, service: &str) -> &str {
        let addresses = &self.story.addresses;
        match service {
            "identity" => &addresses.identity,
            "consent" => &addresses.consent,
            "audit" => &addresses.audit,
            _ => &addresses.sandbox,
        }
    }

    /// `127.0.0.1:port` of a service's admin port.
    pub(crate) fn admin(&self, service: &str) -> String {
        let file = self.story.addresses.folder.join(format!("{service}.toml"));
        let text = std::fs::read_to_string(file).expect("the configuration that was written");
        let table: toml::Table = text.parse().expect("TOML");
        table["server"]["admin_listen"]
            .as_str()
            .expect("admin_listen")
            .to_owned()
    }

    /// The first caller whom the contract of `rpc` names.
    pub(crate) fn allowed(&self, rpc: &Rpc) -> Option<&Caller> {
        self.all_allowed(rpc).next()
    }

    /// One caller of each kind that the contract of `rpc` names; of anyone nobody stands for all.
    pub(crate) fn all_allowed(&self, rpc: &Rpc) -> impl Iterator<Item = &Caller> {
        let anyone = rpc.serves(Kind::Anyone);
        let named = self.callers.iter().filter(|caller| caller.may_call(rpc));
        named.take(if anyone { 1 } else { usize::MAX })
    }
}

async fn callers(story: &Story, person: &Person, outsider: &Outsider) -> Result<Vec<Caller>, Failure> {
    let bare = |certificate: Option<&str>| Who::new(&story.addresses, certificate);
    let mut callers = vec![
        Caller {
            name: "nobody",
            kind: None,
            service: None,
            account: None,
            who: bare(None)?,
        },
        Caller {
            name: "a participant's certificate alone",
            kind: None,
            service: None,
            account: None,
            who: bare(Some("hospital"))?,
        },
        Caller::of("hip", Kind::Hip, &story.hospital),
        Caller::of("hiu", Kind::Hiu, &story.clinic),
        Caller::of("app", Kind::App, &story.app),
        Caller::person("person", person),
        Caller::of(
            "locker",
            Kind::Locker,
            &outsider.session(story, types::ParticipantRole::Locker).await?,
        ),
        Caller::of("researcher", Kind::Researcher, &story.institute),
        Caller::of("operator", Kind::Operator, &story.operator),
    ];
    for service in ["identity", "consent", "audit", "sandbox"] {
        let who = bare(Some(service))?;
        callers.push(Caller {
            name: service,
            kind: Some(Kind::Service),
            service: Some(service),
            account: None,
            who,
        });
    }
    Ok(callers)
}

async fn strangers(story: &Story, other: &Person, outsider: &Outsider) -> Result<Vec<Caller>, Failure> {
    use types::ParticipantRole as Role;
    let mut strangers = vec![Caller::person("another person", other)];
    for (name, kind, role) in [
        ("another hip", Kind::Hip, Role::Hip),
        ("another hiu", Kind::Hiu, Role::Hiu),
        ("another app", Kind::App, Role::PhrApp),
        ("another locker", Kind::Locker, Role::Locker),
        ("another researcher", Kind::Researcher, Role::Researcher),
    ] {
        strangers.push(Caller::of(name, kind, &outsider.session(story, role).await?));
    }
    Ok(strangers)
}

/// Makes the certificates before the services' set-up does, which keeps what it finds: the outsider has one too.
fn certify(folder: &Path) -> Result<(), Failure> {
    let authority = Authority::new(TRUST_DOMAIN)?;
    for service in ["identity", "consent", "audit", "sandbox"] {
        authority
            .issue(&format!("service/{service}"), &["localhost", "127.0.0.1"])?
            .write(folder, service)?;
    }
    for (name, path) in [
        ("operator", "operator/dev"),
        ("hospital", "participant/hospital"),
        ("clinic", "participant/clinic"),
        ("institute", "participant/institute"),
        ("app", "participant/app"),
        ("outsider", "participant/outsider"),
    ] {
        authority.issue(path, &[])?.write(folder, name)?;
    }
    authority.write(folder)?;
    Ok(())
}

/// Keeps what the services log, from debug on for our own crates, without times: digits are looked for in it.
fn keep_log(path: &Path) -> Result<(), Failure> {
    let filter = "info,sammati_server=debug,sammati_store=debug,sammati_identity=debug,sammati_consent=debug,\
                  sammati_audit=debug,sammati_sandbox=debug";
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_ansi(false)
        .with_writer(Arc::new(File::create(path)?))
        .try_init()?;
    Ok(())
}
