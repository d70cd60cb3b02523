//! Three times of what the consent service can do, for a minute: what becomes of the served, of the rest, of another
//! participant, of memory, and of the service afterwards. Real processes; where there are two processors, theirs is one and
//! the callers' the other, so that the service is what is short.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::consent::v1 as consent;
use sammati_kernel::SystemClock;
use sammati_testkit::Database;
use sammati_testkit::development::DatabaseKind;
use sammati_tests::story::Story;
use sammati_tests::system::{Processes, Setting};
use tokio::time::Instant;

use crate::goal::Goal;
use crate::line::{Credential, Line, framed};
use crate::measure::{CALLERS, Failure, Pace};
use crate::open_loop::{Flood, Rhythm, flood};
use crate::process::{self, Memory};
use crate::summary::Summary;
use crate::system::{self, Relays};

/// How many times of what it can do it is asked for.
const TIMES: f64 = 3.0;

/// Of what it can do, the part at which it counts as unloaded.
const UNLOADED: f64 = 0.2;

/// Consents that are asked about.
const CONSENTS: usize = 32;

/// Connections of the one who floods: one carries at most 256 calls at once.
const CONNECTIONS: usize = 16;

/// How often another participant checks meanwhile, in a second.
const NOW_AND_THEN: f64 = 200.0;

/// `overload.{check,authorize}.{sqlite,postgres}…`, each flooded for `time`.
pub(crate) async fn run(pace: Pace, time: Duration, summary: &mut Summary) -> Result<(), Failure> {
    on("sqlite", system::sqlite(), pace, time, summary).await?;
    match system::postgres() {
        Some(home) => on("postgres", home, pace, time, summary).await,
        None => {
            eprintln!("SKIPPED: overload on Postgres: no Postgres to be had");
            Ok(())
        }
    }
}

async fn on(
    database: &str,
    (kind, _databases): (DatabaseKind, Vec<Database>),
    pace: Pace,
    time: Duration,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let setting = Setting {
        database: kind,
        ..Setting::new()
    };
    let apart = Apart::begin().await?;
    let mut processes = Processes::start(setting).await?;
    apart.rest().await?;
    let mut story = Story::new(&processes.addresses, Arc::new(SystemClock))?;
    story.open().await?;
    let relays = Relays::of(&processes)?;
    let consents: Arc<[String]> = system::consents(&Arc::new(story), &relays, CONSENTS).await?.into();
    for what in [What::Check, What::Authorize] {
        let mut story = Story::new(&processes.addresses, Arc::new(SystemClock))?;
        story.renew().await?;
        let story = Arc::new(story);
        let (name, bystander) = match what {
            What::Check => ("clinic", "hospital"),
            What::Authorize => ("hospital", "clinic"),
        };
        let caller = |name, what, connections| Caller {
            story: Arc::clone(&story),
            name,
            what,
            consents: Arc::clone(&consents),
            connections,
        };
        let pid = u32::try_from(processes.pid("consent")?)?;
        let tried = Trial {
            caller: caller(name, what, CONNECTIONS),
            bystander: caller(bystander, What::Check, 1),
            pid,
            pace,
            time,
            relays: relays.clone(),
        };
        tried
            .run(&format!("overload.{}.{database}", what.name()), summary)
            .await?;
    }
    apart.end().await?;
    processes.stop().await;
    Ok(())
}

/// Keeps the services on one processor and this process on the others.
struct Apart(usize);

impl Apart {
    /// What is started from now on is on the first processor, and finds no other: a service makes itself as many threads as
    /// it has processors.
    async fn begin() -> Result<Self, Failure> {
        let apart = Self(std::thread::available_parallelism()?.get());
        if apart.0 < 2 {
            eprintln!("  one processor: callers and services share it");
        }
        apart.keep("0".to_owned()).await?;
        Ok(apart)
    }

    /// The services have started: this process goes away from them.
    async fn rest(&self) -> Result<(), Failure> {
        self.keep(format!("1-{}", self.0 - 1)).await
    }

    /// This process may use all of them again.
    async fn end(self) -> Result<(), Failure> {
        self.keep(format!("0-{}", self.0 - 1)).await
    }

    async fn keep(&self, processors: String) -> Result<(), Failure> {
        if self.0 < 2 {
            return Ok(());
        }
        process::pin(std::process::id(), &processors).await
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// From memory.
    Check,
    /// A write.
    Authorize,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Authorize => "authorize",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Check => "/sammati.consent.v1.DecisionService/CheckAccess",
            Self::Authorize => "/sammati.consent.v1.DecisionService/AuthorizeAccess",
        }
    }
}

/// Somebody who calls over many connections.
struct Caller {
    story: Arc<Story>,
    /// By which certificate, in the story.
    name: &'static str,
    what: What,
    consents: Arc<[String]>,
    connections: usize,
}

impl Caller {
    /// Opens its connections.
    async fn lines(&self) -> Result<Vec<Line>, Failure> {
        let who = match self.name {
            "clinic" => &self.story.clinic,
            _ => &self.story.hospital,
        };
        let credential = Credential {
            folder: &self.story.addresses.folder,
            name: self.name,
            token: who.tokens.get("consent").ok_or("no token for consent")?,
        };
        let mut lines = Vec::new();
        for _ in 0..self.connections {
            lines.push(Line::open(&self.story.addresses.consent, self.what.path(), &credential).await?);
        }
        Ok(lines)
    }

    async fn call(&self, rhythm: Rhythm, time: Duration) -> Result<Flood, Failure> {
        let (story, consents, what) = (Arc::clone(&self.story), Arc::clone(&self.consents), self.what);
        let message = move |n: usize| {
            let consent = &consents[n % consents.len()];
            match what {
                What::Check => framed(&consent::CheckAccessRequest {
                    requester: "participants/clinic".into(),
                    ..story.question(consent)
                }),
                What::Authorize => framed(&story.authorization(consent)),
            }
        };
        flood(self.lines().await?, rhythm, time, message).await
    }

    /// As many calls as it answers, from callers who wait, per second.
    async fn capacity(&self, time: Duration) -> Result<f64, Failure> {
        let flood = self.call(Rhythm::Closed(CALLERS), time).await?;
        Ok(flood.served_rate())
    }

    async fn open(&self, per_second: f64, time: Duration) -> Result<Flood, Failure> {
        self.call(Rhythm::Open(per_second), time).await
    }
}

/// What is found out about one kind of call.
struct Trial {
    caller: Caller,
    /// Another participant, who checks now and then.
    bystander: Caller,
    pid: u32,
    pace: Pace,
    time: Duration,
    relays: Relays,
}

impl Trial {
    async fn run(&self, name: &str, summary: &mut Summary) -> Result<(), Failure> {
        let short = self.pace.time * 4;
        self.caller.capacity(short).await?;
        let can = self.caller.capacity(short).await?;
        summary.value(&format!("{name}.capacity"), can, "1/s");
        let unloaded = self.caller.open(can * UNLOADED, short).await?;
        told(&format!("{name}.unloaded"), &unloaded, summary);
        let alone = self.bystander.open(NOW_AND_THEN, short).await?;
        told(&format!("{name}.bystander"), &alone, summary);
        let before = process::memory(self.pid)?;
        process::forget_peak(self.pid)?;

        let flood = self.caller.open(can * TIMES, self.time);
        let (loaded, beside) = tokio::try_join!(flood, self.bystander.open(NOW_AND_THEN, self.time))?;
        self.flooded(name, &loaded, &unloaded, (can, before), summary)?;
        Self::beside(name, &beside, &alone, summary);

        let ended = Instant::now();
        self.relays.quiet(&self.caller.story).await?;
        summary.value(&format!("{name}.relay_behind"), ended.elapsed().as_secs_f64(), "s");
        let again = self.caller.open(can * UNLOADED, short).await?;
        let can_again = self.caller.capacity(short).await?;
        let after = process::memory(self.pid)?;
        summary.quotient(
            &format!("{name}.after.p99"),
            micros(again.served()[1]),
            "µs",
            (&format!("{name}.unloaded.p99"), micros(unloaded.served()[1])),
        );
        summary.quotient(
            &format!("{name}.after.capacity"),
            can_again,
            "1/s",
            (&format!("{name}.capacity"), can),
        );
        summary.quotient(
            &format!("{name}.after.memory"),
            mib(after.now),
            "MiB",
            (&format!("{name}.memory"), mib(before.now)),
        );
        Ok(())
    }

    /// What the flood was to the other participant.
    fn beside(name: &str, beside: &Flood, alone: &Flood, summary: &mut Summary) {
        let name = &format!("{name}.3x.bystander");
        told(name, beside, summary);
        let p99 = format!("{name}.served.p99");
        let alone = ("bystander alone", micros(alone.served()[1]));
        summary.quotient(&p99, micros(beside.served()[1]), "µs", alone);
        summary.value(&format!("{name}.refused"), beside.refused_rate(), "1/s");
    }

    fn flooded(
        &self,
        name: &str,
        loaded: &Flood,
        unloaded: &Flood,
        (can, before): (f64, Memory),
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        let name = &format!("{name}.3x");
        told(name, loaded, summary);
        summary.quotient(
            &format!("{name}.goodput"),
            loaded.served_rate(),
            "1/s",
            ("capacity", can),
        );
        summary.value(
            &format!("{name}.due"),
            f64::from(u32::try_from(loaded.due)?) / self.time.as_secs_f64(),
            "1/s",
        );
        summary.value(&format!("{name}.refused"), loaded.refused_rate(), "1/s");
        summary.value(&format!("{name}.refused.p99"), micros(loaded.refused()[1]), "µs");
        let count = |n: usize| u32::try_from(n).map(f64::from);
        summary.value(&format!("{name}.without_retry_info"), count(loaded.silent)?, "");
        summary.value(
            &format!("{name}.other_answers"),
            count(loaded.others.values().sum())?,
            "",
        );
        for name in [format!("{name}.without_retry_info"), format!("{name}.other_answers")] {
            summary.goal(&name, Goal::AtMost(0.0));
        }
        for (what, count) in &loaded.others {
            eprintln!("    {count} times: {what}");
        }
        let p99 = format!("{name}.served.p99");
        summary.quotient(
            &p99,
            micros(loaded.served()[1]),
            "µs",
            ("unloaded p99", micros(unloaded.served()[1])),
        );
        summary.goal(&p99, Goal::AtMost(3.0));
        let peak = process::memory(self.pid)?.peak;
        summary.quotient(
            &format!("{name}.memory.peak"),
            mib(peak),
            "MiB",
            ("memory before", mib(before.now)),
        );
        Ok(())
    }
}

/// What both ends of a flood saw.
fn told(name: &str, flood: &Flood, summary: &mut Summary) {
    let [half, most] = flood.served();
    summary.value(&format!("{name}.served"), flood.served_rate(), "1/s");
    summary.value(&format!("{name}.p50"), micros(half), "µs");
    summary.value(&format!("{name}.p99"), micros(most), "µs");
    summary.value(&format!("{name}.sent_late.p99"), micros(flood.lag()), "µs");
    if flood.is_generators() {
        let late = flood.lag().as_millis();
        eprintln!(
            "    it was asked for less: {} calls not sent, others up to {late} ms late",
            flood.unsent
        );
        summary.value(&format!("{name}.generator_was_the_limit"), 1.0, "");
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
