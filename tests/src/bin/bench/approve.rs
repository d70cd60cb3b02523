//! Approvals over mTLS, from the person's call to the durable commit: many in one transaction against one each. Beside them the
//! store alone with as many rows: of an empty call, so much there would be left if all else cost nothing.

use std::sync::Arc;

use sammati_api::consent::v1::ConsentRequest;
use sammati_consent::Consent;
use sammati_server::Service;
use sammati_testkit::Database;
use sammati_testkit::development::DatabaseKind;
use sammati_tests::story::Person;

use crate::goal::Goal;
use crate::hollow::PerRequest;
use crate::measure::{CALLERS, Contender, Failure, Pace, Sample, interleave, work_off};
use crate::rpc;
use crate::store;
use crate::summary::Summary;
use crate::system::{self, System};

/// People who are asked.
const PEOPLE: usize = 64;

/// Requests that are approved in one round.
const REQUESTS: usize = 384;

/// `consent.approve.sqlite…`.
pub(crate) async fn sqlite(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    let names = ("consent.approve.sqlite.per_request", "consent.approve.sqlite");
    let goals = [Goal::AtLeast(3.0), Goal::AtLeast(0.15)];
    let store = store::approve(Database::sqlite(), "sqlite", pace)?;
    compare(names, (system::sqlite(), system::sqlite()), store, goals, pace, summary).await
}

/// `consent.approve.postgres…`.
pub(crate) async fn postgres(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    let (Some(first), Some(second)) = (system::postgres(), system::postgres()) else {
        eprintln!("SKIPPED: consent.approve.postgres: no Postgres to be had");
        return Ok(());
    };
    let store = store::approve(store::home()?, "postgres", pace)?;
    compare(
        ("consent.approve.postgres.per_request", "consent.approve.postgres"),
        (first, second),
        store,
        [Goal::AtLeast(5.0), Goal::AtLeast(0.20)],
        pace,
        summary,
    )
    .await
}

type Home = (DatabaseKind, Vec<Database>);

/// Held against one transaction a request, an empty call and the store alone.
async fn compare(
    names: (&'static str, &'static str),
    homes: (Home, Home),
    store: Contender,
    goals: [Goal; 2],
    pace: Pace,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let each = Approvals::start::<PerRequest>(homes.0).await?;
    let grouped = Approvals::start::<Consent>(homes.1).await?;
    let mut contenders = [
        each.contender(names.0),
        grouped.contender(names.1),
        rpc::empty(&grouped.system, pace.time),
        store,
    ];
    let measured = interleave(pace.rounds, &mut contenders).await?;
    drop(contenders);
    if let [first, second, empty, store] = &measured[..] {
        summary.alone(first, "1/s");
        summary.compared(second, "1/s", first);
        summary.goal(names.1, goals[0]);
        let ratio = summary.ratio(second, empty);
        summary.goal(&ratio, goals[1]);
        summary.ratio(second, store);
        summary.ratio(store, empty);
    }
    for approvals in [each, grouped] {
        approvals.stop().await;
    }
    Ok(())
}

/// A system with people who will be asked.
#[derive(Clone)]
struct Approvals {
    system: Arc<System>,
    people: Arc<[Person]>,
}

impl Approvals {
    async fn start<C: Service>(home: Home) -> Result<Self, Failure> {
        let system = Arc::new(System::start::<C>(home, 1).await?);
        let people = system::enrol(&system.story, PEOPLE).await?.into();
        Ok(Self { system, people })
    }

    async fn stop(self) {
        if let Some(system) = Arc::into_inner(self.system) {
            system.stop().await;
        }
    }

    fn contender(&self, name: &str) -> Contender {
        let this = self.clone();
        Contender::new(name, move || this.clone().round())
    }

    /// The clinic asks, uncounted; then they approve.
    async fn round(self) -> Result<Sample, Failure> {
        let requests = self.ask().await?;
        self.system.quiet().await?;
        let this = self.clone();
        let rate = work_off(CALLERS, requests, move |(person, request)| {
            let this = this.clone();
            async move {
                this.system.story.approve(&this.people[person], &request, None).await?;
                Ok(())
            }
        });
        let rate = rate.await?;
        self.system.quiet().await?;
        Ok(rate)
    }

    async fn ask(&self) -> Result<Vec<(usize, ConsentRequest)>, Failure> {
        let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let this = self.clone();
        work_off(CALLERS, (0..REQUESTS).collect(), move |n| {
            let (this, sender) = (this.clone(), sender.clone());
            async move {
                let (person, story) = (n % this.people.len(), &this.system.story);
                let request = story.ask(&this.people[person], story.scope()).await?;
                Ok(sender.send((person, request))?)
            }
        })
        .await?;
        let mut requests = Vec::with_capacity(REQUESTS);
        while let Some(request) = asked.recv().await {
            requests.push(request);
        }
        Ok(requests)
    }
}
