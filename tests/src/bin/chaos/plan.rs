//! What goes wrong in which cycle: drawn from the seed, and from nothing else.

use std::fmt;
use std::time::Duration;

use sammati_kernel::Seed;
use sammati_testkit::Cut;

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a process.
    Kill(String),
    /// `kill -9` of Postgres.
    KillPostgres,
    /// A process stands still for a while: SIGSTOP, SIGCONT.
    Pause(String, Duration),
    /// The network between a process and its database is down for a while.
    Disconnect(String, Duration),
    /// The connection of a process is cut at a COMMIT, some times.
    CutCommits(String, Cut, u64),
    /// From its nth on, the syncs of a process fail; then the power is cut.
    FailSyncs(String, u64),
    /// The disk of a process is full for a while.
    FillDisk(String, Duration),
    /// From the nth on, the syncs of each process of Postgres fail for its log; for a while.
    FailPostgresSyncs(u64, Duration),
    /// The disk of Postgres is full for a while.
    FillPostgresDisk(Duration),
    /// The power is cut: what was not synced is gone, or torn.
    CutPower(String, Rest),
}

/// What becomes of unsynced writes in a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Gone,
    Torn,
}

/// The kinds of fault, of which every round has each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill,
    KillPostgres,
    Pause,
    Disconnect,
    CutCommits,
    FailSyncs,
    FillDisk,
    FailPostgresSyncs,
    FillPostgresDisk,
    CutPower,
}

/// On SQLite; the weight of a kind is how often it stands here.
pub(crate) const SQLITE: &[Kind] = &[
    Kind::Kill,
    Kind::CutPower,
    Kind::FailSyncs,
    Kind::FillDisk,
    Kind::Pause,
    Kind::CutPower,
];

/// On Postgres.
pub(crate) const POSTGRES: &[Kind] = &[
    Kind::Kill,
    Kind::KillPostgres,
    Kind::CutCommits,
    Kind::Disconnect,
    Kind::Pause,
    Kind::KillPostgres,
    Kind::CutCommits,
    Kind::FailPostgresSyncs,
    Kind::FillPostgresDisk,
];

/// A cycle's faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    /// From the load's beginning to the first fault.
    pub(crate) delay: Duration,
    /// The first.
    pub(crate) first: Fault,
    /// One that comes on top of it, so much later.
    pub(crate) second: Option<(Duration, Fault)>,
}

/// The faults of cycle `n`, of these kinds, on these processes.
pub(crate) fn draw(seed: &Seed, n: usize, kinds: &[Kind], names: &[String]) -> Planned {
    let (round, place) = (n / kinds.len(), n % kinds.len());
    let mut order: Vec<usize> = (0..kinds.len()).collect();
    let shuffle = seed.child(&format!("round {round}"));
    for i in (1..order.len()).rev() {
        order.swap(i, below(&shuffle, &format!("swap {i}"), i + 1));
    }
    let kind = kinds[order[place]];
    // Each kind meets one process after the other, from round to round.
    let turn = round + below(seed, &format!("turn {}", order[place]), names.len());
    let first = names[turn % names.len()].clone();
    let seed = seed.child(&format!("cycle {n}"));
    let second = (below(&seed, "pair", 3) == 0).then(|| {
        let name = names[below(&seed, "second", names.len())].clone();
        let fault = if below(&seed, "second kind", 2) == 0 {
            Fault::Kill(name)
        } else {
            Fault::Pause(name, millis(&seed, "second pause", 200, 800))
        };
        (millis(&seed, "second delay", 0, 400), fault)
    });
    Planned {
        delay: millis(&seed, "delay", 200, 1000),
        // Two faults of one process would be one of them.
        second: second.filter(|(_, fault)| fault.name() != Some(&first)),
        first: of(kind, first, &seed),
    }
}

fn of(kind: Kind, name: String, seed: &Seed) -> Fault {
    let span = || millis(seed, "span", 300, 1500);
    let even = |label: &str| below(seed, label, 2) == 0;
    match kind {
        Kind::Kill => Fault::Kill(name),
        Kind::KillPostgres => Fault::KillPostgres,
        Kind::Pause => Fault::Pause(name, span()),
        Kind::Disconnect => Fault::Disconnect(name, span()),
        Kind::CutCommits => {
            let cut = if even("cut") { Cut::Before } else { Cut::After };
            Fault::CutCommits(name, cut, 1 + seed.below("cuts", 4))
        }
        Kind::FailSyncs => Fault::FailSyncs(name, 3 + seed.below("nth", 30)),
        Kind::FillDisk => Fault::FillDisk(name, span()),
        Kind::FailPostgresSyncs => Fault::FailPostgresSyncs(5 + seed.below("nth", 20), span()),
        Kind::FillPostgresDisk => Fault::FillPostgresDisk(span()),
        Kind::CutPower => Fault::CutPower(name, if even("rest") { Rest::Gone } else { Rest::Torn }),
    }
}

fn millis(seed: &Seed, label: &str, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + seed.below(label, to - from))
}

pub(crate) fn below(seed: &Seed, label: &str, bound: usize) -> usize {
    usize::try_from(seed.below(label, u64::try_from(bound).unwrap_or(1))).unwrap_or(0)
}

impl Fault {
    /// The process it is done to; `None` for Postgres.
    pub(crate) fn name(&self) -> Option<&String> {
        match self {
            Self::KillPostgres | Self::FailPostgresSyncs(..) | Self::FillPostgresDisk(_) => None,
            Self::Kill(name)
            | Self::Pause(name, _)
            | Self::Disconnect(name, _)
            | Self::CutCommits(name, ..)
            | Self::FailSyncs(name, _)
            | Self::FillDisk(name, _)
            | Self::CutPower(name, _) => Some(name),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(name) => write!(f, "kill -9 of {name}"),
            Self::KillPostgres => write!(f, "kill -9 of postgres"),
            Self::Pause(name, span) => write!(f, "{name} stopped for {} ms", span.as_millis()),
            Self::Disconnect(name, span) => write!(f, "{name} cut off its database for {} ms", span.as_millis()),
            Self::CutCommits(name, Cut::Before, n) => write!(f, "{name} cut off before {n} commits"),
            Self::CutCommits(name, Cut::After, n) => write!(f, "{name} cut off after {n} commits"),
            Self::FailSyncs(name, n) => write!(f, "fsync of {name} fails from the {n}th on, power cut"),
            Self::FillDisk(name, span) => write!(f, "disk of {name} full for {} ms", span.as_millis()),
            Self::FailPostgresSyncs(n, span) => {
                let millis = span.as_millis();
                write!(f, "fdatasync of postgres fails from the {n}th on, for {millis} ms")
            }
            Self::FillPostgresDisk(span) => write!(f, "disk of postgres full for {} ms", span.as_millis()),
            Self::CutPower(name, Rest::Gone) => write!(f, "power cut of {name}, unsynced gone"),
            Self::CutPower(name, Rest::Torn) => write!(f, "power cut of {name}, unsynced torn"),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        match &self.second {
            Some((_, second)) => write!(f, " + {second}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(seed: u8) -> Vec<Planned> {
        let names = ["a", "b", "c"].map(str::to_owned);
        let seed = Seed::from_bytes([seed; 32]);
        (0..60).map(|n| draw(&seed, n, SQLITE, &names)).collect()
    }

    #[test]
    fn the_seed_alone_decides() {
        assert_eq!(plans(1), plans(1));
        assert_ne!(plans(1), plans(2));
    }

    #[test]
    fn every_round_has_every_kind() {
        for round in plans(3).chunks(SQLITE.len()) {
            let has = |is: fn(&Fault) -> bool| round.iter().any(|planned| is(&planned.first));
            assert!(has(|f| matches!(f, Fault::Kill(_))) && has(|f| matches!(f, Fault::Pause(..))));
            assert!(has(|f| matches!(f, Fault::FailSyncs(..))) && has(|f| matches!(f, Fault::FillDisk(..))));
            assert!(has(|f| matches!(f, Fault::CutPower(..))));
        }
    }

    #[test]
    fn every_round_on_postgres_breaks_its_disk_too() {
        let names = ["a", "b"].map(str::to_owned);
        let seed = Seed::from_bytes([5; 32]);
        for round in 0..4 {
            let at = |n: usize| draw(&seed, round * POSTGRES.len() + n, POSTGRES, &names).first;
            let faults: Vec<_> = (0..POSTGRES.len()).map(at).collect();
            let has = |is: fn(&Fault) -> bool| faults.iter().any(is);
            assert!(
                has(|f| matches!(f, Fault::FailPostgresSyncs(..))) && has(|f| matches!(f, Fault::FillPostgresDisk(_)))
            );
        }
    }

    #[test]
    fn every_kind_meets_every_process_in_as_many_rounds() {
        let plans = plans(4);
        let full = plans[..3 * SQLITE.len()]
            .iter()
            .filter_map(|planned| match &planned.first {
                Fault::FillDisk(name, _) => Some(name.as_str()),
                _ => None,
            });
        assert_eq!(full.collect::<std::collections::BTreeSet<_>>(), ["a", "b", "c"].into());
    }
}
