//! One cycle: people enrol and race over consents, events are appended, something goes wrong, and what was acknowledged is
//! looked for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sammati_kernel::Seed;
use sammati_tests::journal::Journal;
use sammati_tests::proofs;
use sammati_tests::story::{Failure, Person, Story};
use tokio::time::sleep;

use crate::appended::{self, Appended, Leaves};
use crate::case::Case;
use crate::client::{Clients, Dice};
use crate::findings::Findings;
use crate::people::{Enrolled, Register, enrol};
use crate::plan::{Fault, Planned};
use crate::verify;
use crate::world::World;

/// How many consents are raced over at once.
const RACES: usize = 4;

/// How many append to the log at once.
const APPENDERS: usize = 2;

/// The most who are enrolled during one cycle's load.
const NEWCOMERS: usize = 8;

/// How long the load goes on when everything is up again.
const AFTERWARDS: Duration = Duration::from_millis(400);

/// A run of cycles on one world.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) acknowledged: usize,
    /// How often a client of the last cycle did not know its outcome.
    pub(crate) unknown: usize,
    journal: Arc<Journal>,
    register: Register,
    seed: Seed,
    /// Who has which number.
    numbers: BTreeMap<String, String>,
    /// The newest checkpoint, and up to which leaf it is proved.
    checkpoint: String,
    proved: u64,
    cases: Vec<Case>,
    /// What was appended directly, and every leaf that is proved.
    appended: Appended,
    leaves: Leaves,
}

impl Run {
    pub(crate) async fn on(world: World, seed: Seed) -> Result<Self, Failure> {
        let story = world.story().await?;
        let journal = Arc::new(Journal::create(&world.folder().join("journal.jsonl"))?);
        Ok(Self {
            register: Register::read(&story).await?,
            checkpoint: proofs::checkpoint(&story).await?,
            proved: 0,
            acknowledged: 0,
            unknown: 0,
            numbers: BTreeMap::new(),
            cases: Vec::new(),
            appended: Appended::default(),
            leaves: Leaves::default(),
            journal,
            world,
            seed,
        })
    }

    /// Runs cycle `n`.
    pub(crate) async fn cycle(&mut self, n: usize, planned: &Planned, is_durable: bool) -> Result<Findings, Failure> {
        let story = self.world.story().await?;
        let seed = self.seed.child(&format!("load {n}"));
        let clients = Clients {
            story,
            replicas: self.world.replicas,
            cycle: n,
            journal: Arc::clone(&self.journal),
            over: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
            unknown: AtomicUsize::new(0),
            findings: std::sync::Mutex::default(),
        };
        let mut enrolled = Vec::new();
        for i in 0..2 {
            let dice = vec![Dice::new(seed.child(&format!("before {i}")))];
            enrolled.push(enrol(&clients, &self.register.next()?, dice).await?);
        }
        let armed = self.world.arm(&planned.first, is_durable).await?;
        let load = async {
            let races = (0..RACES).map(|i| races(&clients, &enrolled[i % 2].person, seed.child(&format!("race {i}"))));
            let newcomers = newcomers(&clients, &mut self.register, &seed);
            let appends = (0..APPENDERS).map(|i| appended::load(&clients, seed.child(&format!("appender {i}"))));
            let (races, appends) = (
                futures::future::try_join_all(races),
                futures::future::try_join_all(appends),
            );
            tokio::try_join!(newcomers, races, appends)
        };
        let world = &mut self.world;
        let faults = async {
            let done = wrong(world, planned, armed, &seed).await;
            if done.is_ok() {
                sleep(AFTERWARDS).await;
            }
            clients.over.store(true, Ordering::SeqCst);
            done
        };
        let ((newcomers, cases, appended), ()) = tokio::try_join!(load, faults)?;
        enrolled.extend(newcomers);
        self.acknowledged += clients.acknowledged.load(Ordering::SeqCst);
        self.unknown = clients.unknown.load(Ordering::SeqCst);
        let mut found = self.verify(&clients.story, &enrolled, cases, appended).await?;
        found.extend(clients.findings.into_inner().unwrap_or_default());
        Ok(found)
    }

    async fn verify(
        &mut self,
        story: &Story,
        enrolled: &[Enrolled],
        cases: Vec<Vec<Case>>,
        appended: Vec<Appended>,
    ) -> Result<Findings, Failure> {
        let mut found = Findings::default();
        for case in cases.into_iter().flatten() {
            found.extend(verify::case(story, &case).await?);
            self.cases.push(case);
        }
        for person in enrolled {
            found.extend(verify::enrolled(story, person, &mut self.numbers).await?);
        }
        let mut appended: Appended = appended.into_iter().collect();
        found.extend(appended::there(story, &appended).await?);
        // Where something is lost the log cannot be whole either.
        if found.is_empty() {
            let notes = std::mem::take(&mut appended.notes);
            self.appended.extend(appended);
            match proofs::verify_growth(story, &self.checkpoint, self.proved).await {
                Ok(grown) => {
                    self.leaves.take(&grown, &mut found);
                    self.leaves.have(&self.appended, &mut found);
                    (self.checkpoint, self.proved) = (grown.checkpoint, grown.size);
                }
                Err(error) => found.illegal(format!("the log: {error}")),
            }
            if let Err(error) = proofs::one_history(story, &notes, &self.checkpoint).await {
                found.illegal(format!("a checkpoint: {error}"));
            }
            self.appended.notes.extend(notes);
        }
        Ok(found)
    }

    /// After the last cycle: every case once more, the whole log, and every database by its own service.
    pub(crate) async fn finish(&mut self) -> Result<Findings, Failure> {
        let story = self.world.story().await?;
        let mut found = Findings::default();
        let mut known = BTreeMap::new();
        for case in std::mem::take(&mut self.cases) {
            let name = case.person.account.name.clone();
            let person = match known.entry(name) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(story.log_in(&case.person).await?),
            };
            let person = person.clone();
            found.extend(verify::case(&story, &case.of(person)).await?);
        }
        match proofs::verify_growth(&story, &self.checkpoint, 0).await {
            Ok(grown) => {
                let mut leaves = Leaves::default();
                leaves.take(&grown, &mut found);
                leaves.have(&self.appended, &mut found);
                if let Err(error) = proofs::one_history(&story, &self.appended.notes, &grown.checkpoint).await {
                    found.illegal(format!("a checkpoint: {error}"));
                }
            }
            Err(error) => found.illegal(format!("the log: {error}")),
        }
        for wrong in self.world.fsck().await? {
            found.illegal(wrong);
        }
        Ok(found)
    }
}

/// One race after another, until the load is over.
async fn races(clients: &Clients, person: &Person, seed: Seed) -> Result<Vec<Case>, Failure> {
    let mut dice = Dice::new(seed);
    let mut cases = Vec::new();
    while !clients.is_over() {
        let Some(case) = Case::ask(clients, person, &mut dice).await? else {
            break;
        };
        case.race(clients, &mut dice).await?;
        cases.push(case);
    }
    Ok(cases)
}

/// One newcomer after another, each enrolled twice at once, until the load is over.
async fn newcomers(clients: &Clients, register: &mut Register, seed: &Seed) -> Result<Vec<Enrolled>, Failure> {
    let mut dice = Dice::new(seed.child("newcomers"));
    let mut enrolled = Vec::new();
    while !clients.is_over() && enrolled.len() < NEWCOMERS {
        let twice = vec![Dice::new(dice.seed()), Dice::new(dice.seed())];
        enrolled.push(enrol(clients, &register.next()?, twice).await?);
        dice.pause(100, 300).await;
    }
    Ok(enrolled)
}

/// Everything that goes wrong in one cycle, until it is over.
async fn wrong(world: &mut World, planned: &Planned, armed: crate::strike::Armed, seed: &Seed) -> Result<(), Failure> {
    sleep(planned.delay).await;
    world.strike(&planned.first, &armed).await?;
    let second = match &planned.second {
        None => None,
        Some((delay, second)) => {
            sleep(*delay).await;
            let armed = crate::strike::Armed::default();
            world.strike(second, &armed).await?;
            Some((second, armed))
        }
    };
    // Whoever stands still keeps others from ending in order; whoever was killed needs the database to start.
    let (now, later) = match second {
        Some((fault @ Fault::Pause(..), armed)) => (Some((fault, armed)), None),
        second => (None, second),
    };
    for (fault, armed) in now.into_iter().chain([(&planned.first, armed)]).chain(later) {
        world.mend(fault, armed, seed).await?;
    }
    Ok(())
}
