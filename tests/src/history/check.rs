//! The search for an order: Wing and Gong's, with Lowe's memory of where it has been.
//!
//! An operation may come next when no other that is left was answered before it started. What changes nothing is taken
//! as soon as it fits: it could not fit worse later. Of those without an answer that ask the same, the first that
//! started is as good as any. So only the order of changes is searched.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::{Model, Operation, What};

/// No order explains the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// How many operations the longest order explains.
    pub explained: usize,
    /// What is after them.
    pub state: Model,
    /// Those that could come next, of which none fits.
    pub stuck: Vec<Operation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} operations make {:?}; then none of these fits:",
            self.explained, self.state
        )?;
        for operation in &self.stuck {
            writeln!(f, "  {operation:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}

/// Whether the history of one consent, beginning at `from`, is as if its operations had happened one after another, each
/// between its start and its end.
///
/// # Errors
/// Where the best order gets stuck.
pub fn check(from: Model, history: &[Operation]) -> Result<(), Violation> {
    let mut search = Search {
        history,
        been: HashSet::new(),
        best: Violation {
            explained: 0,
            state: from,
            stuck: Vec::new(),
        },
    };
    if search.goes_on(Taken::none_of(history.len()), from) {
        Ok(())
    } else {
        Err(search.best)
    }
}

/// The operations that an order has, as bits.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken(Vec<u64>);

impl Taken {
    fn none_of(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn has(&self, n: usize) -> bool {
        self.0[n / 64] & (1 << (n % 64)) != 0
    }

    fn take(&mut self, n: usize) {
        self.0[n / 64] |= 1 << (n % 64);
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

struct Search<'a> {
    history: &'a [Operation],
    been: HashSet<(Taken, Model)>,
    best: Violation,
}

impl Search<'_> {
    /// Whether some order of what is left explains its answers.
    fn goes_on(&mut self, mut taken: Taken, state: Model) -> bool {
        loop {
            let fitting = self.next(&taken).find(|n| self.fits_unchanged(*n, state));
            let Some(n) = fitting else { break };
            taken.take(n);
        }
        if self.left(&taken).all(|operation| operation.answer.is_none()) {
            return true;
        }
        if !self.been.insert((taken.clone(), state)) {
            return false;
        }
        self.note(&taken, state);
        if self
            .left(&taken)
            .filter_map(|operation| operation.answer)
            .any(|told| !state.may_answer(told))
        {
            return false;
        }
        self.changes(&taken).into_iter().any(|n| {
            let Operation { what, answer, .. } = self.history[n];
            let mut with = taken.clone();
            with.take(n);
            let ways = state.ways(what).into_iter();
            let mut fitting = ways.filter(|(way, _)| way.changes() && answer.is_none_or(|told| told == *way));
            fitting.any(|(_, after)| self.goes_on(with.clone(), after))
        })
    }

    /// Those that may come next and may change something: first those that were answered.
    fn changes(&self, taken: &Taken) -> Vec<usize> {
        let (answered, unknown): (Vec<_>, Vec<_>) = self.next(taken).partition(|n| self.history[*n].answer.is_some());
        let mut firsts: HashMap<What, usize> = HashMap::new();
        for n in unknown {
            let first = firsts.entry(self.history[n].what).or_insert(n);
            if self.history[n].start < self.history[*first].start {
                *first = n;
            }
        }
        answered.into_iter().chain(firsts.into_values()).collect()
    }

    /// Whether an operation's answer is one that it could have had without changing anything. One without an answer
    /// need not have happened.
    fn fits_unchanged(&self, n: usize, state: Model) -> bool {
        let Operation { what, answer, .. } = &self.history[n];
        answer.is_some_and(|told| !told.changes() && state.ways(*what).iter().any(|(answer, _)| *answer == told))
    }

    fn left<'s>(&'s self, taken: &'s Taken) -> impl Iterator<Item = &'s Operation> + 's {
        let all = self.history.iter().enumerate();
        all.filter(|(n, _)| !taken.has(*n)).map(|(_, operation)| operation)
    }

    /// Those that may come next.
    fn next<'s>(&'s self, taken: &'s Taken) -> impl Iterator<Item = usize> + 's {
        let ends = self.left(taken).filter_map(|operation| operation.end);
        let first = ends.min().unwrap_or(Duration::MAX);
        (0..self.history.len()).filter(move |n| !taken.has(*n) && self.history[*n].start <= first)
    }

    fn note(&mut self, taken: &Taken, state: Model) {
        if self.best.stuck.is_empty() || taken.count() > self.best.explained {
            self.best = Violation {
                explained: taken.count(),
                state,
                stuck: self.next(taken).map(|n| self.history[n].clone()).collect(),
            };
        }
    }
}
