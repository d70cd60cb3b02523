//! What a command leaves for after its batch is decided: work that nothing else in the batch reads, as the signing of what
//! it gave. It is done on the processors that are free, the lane's own thread at it too, and is in the same commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{fmt, thread};

use sammati_kernel::{Micros, Refusal, Seed, Slot};

use crate::error::Error;
use crate::view::{Changes, Loaded, View};

/// Fewer than this are not worth waking anybody for.
const WORTH: usize = 4;

/// The most threads that help; a batch has no more to do than a few milliseconds.
const MOST: usize = 3;

/// What is done, on a view of its own.
type Deed = dyn FnOnce(&mut View<'_>) -> Result<(), Refusal> + Send;

/// One such piece of work.
pub(crate) struct Later(Box<Deed>);

impl Later {
    pub(crate) fn new(work: impl FnOnce(&mut View<'_>) -> Result<(), Refusal> + Send + 'static) -> Self {
        Self(Box::new(work))
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[later]")
    }
}

/// A piece of work with what its command was decided by.
pub(crate) struct Task {
    pub(crate) later: Later,
    /// Which of its command's it is.
    pub(crate) part: usize,
    pub(crate) slot: Slot,
    pub(crate) partition: i64,
    pub(crate) now: Micros,
    pub(crate) seed: Seed,
}

impl Task {
    /// It sees no row: what it makes is new. It was decided already, so it cannot refuse.
    fn run(self) -> Result<Changes, Error> {
        static NOTHING: LazyLock<Loaded> = LazyLock::new(Loaded::default);
        let mut view = View::later_part(&NOTHING, self.slot, self.partition, self.now, &self.seed, self.part);
        let done = catch_unwind(AssertUnwindSafe(|| (self.later.0)(&mut view)));
        let broken = |what: &str| Err(Error::Broken(format!("what a command left for later {what}")));
        match (done, view.fault()) {
            (Ok(Ok(())), None) => Ok(view.into_changes()),
            (_, Some(fault)) => broken(fault),
            (Ok(Err(refusal)), None) => broken(refusal.reason.as_str()),
            (Err(_), None) => broken("panicked"),
        }
    }
}

/// Does all of `tasks`; tells what each of them changes, in their order.
pub(crate) fn all(tasks: Vec<Task>) -> Vec<Result<Changes, Error>> {
    let helpers = helpers();
    if tasks.len() < WORTH || helpers.is_empty() {
        return tasks.into_iter().map(Task::run).collect();
    }
    let work = Arc::new(Work::new(tasks));
    for helper in helpers {
        // One that is gone helps no more.
        drop(lock(helper).send(Arc::clone(&work)));
    }
    work.help();
    work.wait()
}

/// The threads that help, of the whole process: one for each processor but the one that a lane is on.
fn helpers() -> &'static [Mutex<Sender<Arc<Work>>>] {
    static HELPERS: OnceLock<Vec<Mutex<Sender<Arc<Work>>>>> = OnceLock::new();
    HELPERS.get_or_init(|| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        (1..processors.min(MOST + 1)).filter_map(helper).collect()
    })
}

fn helper(n: usize) -> Option<Mutex<Sender<Arc<Work>>>> {
    let (sender, works) = channel::<Arc<Work>>();
    let thread = thread::Builder::new().name(format!("later-{n}"));
    let started = thread.spawn(move || works.iter().for_each(|work| work.help()));
    started.ok().map(|_| Mutex::new(sender))
}

/// What is shared out: whoever is free takes the next task.
struct Work {
    tasks: Vec<Mutex<Option<Task>>>,
    next: AtomicUsize,
    done: Mutex<Done>,
    finished: Condvar,
}

struct Done {
    results: Vec<Option<Result<Changes, Error>>>,
    left: usize,
}

impl Work {
    fn new(tasks: Vec<Task>) -> Self {
        let left = tasks.len();
        Self {
            tasks: tasks.into_iter().map(|task| Mutex::new(Some(task))).collect(),
            next: AtomicUsize::new(0),
            done: Mutex::new(Done {
                results: (0..left).map(|_| None).collect(),
                left,
            }),
            finished: Condvar::new(),
        }
    }

    /// Takes tasks until there is none left to take.
    fn help(&self) {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = self.tasks.get(n) else { return };
            let Some(task) = lock(place).take() else { return };
            let result = task.run();
            let mut done = lock(&self.done);
            done.results[n] = Some(result);
            done.left -= 1;
            if done.left == 0 {
                self.finished.notify_all();
            }
        }
    }

    /// Waits for those that others took.
    fn wait(&self) -> Vec<Result<Changes, Error>> {
        let mut done = lock(&self.done);
        while done.left > 0 {
            done = self.finished.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
        let lost = || Err(Error::Broken("what a command left for later is lost".into()));
        done.results
            .drain(..)
            .map(|result| result.unwrap_or_else(lost))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::NewEvent;

    fn task(n: u8, work: impl FnOnce(&mut View<'_>) -> Result<(), Refusal> + Send + 'static) -> Task {
        Task {
            later: Later::new(work),
            part: 0,
            slot: Slot::new(0),
            partition: 0,
            now: Micros(1),
            seed: Seed::from_bytes([n; 32]),
        }
    }

    fn event(n: u8) -> impl FnOnce(&mut View<'_>) -> Result<(), Refusal> + Send + 'static {
        move |view| {
            let id = view.next_event_id();
            view.emit(NewEvent {
                id,
                subject: None,
                body: vec![n],
            });
            Ok(())
        }
    }

    #[test]
    fn all_is_done_in_its_order_whoever_does_it() {
        for count in [1, 3, 4, 200] {
            let done = all((0..count).map(|n| task(n, event(n))).collect());
            let bodies: Vec<_> = done.into_iter().map(|done| done.unwrap().events[0].body[0]).collect();
            assert_eq!(bodies, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_parts_of_one_command_make_other_ids() {
        let part = |part| Task {
            part,
            ..task(1, event(1))
        };
        let ids = all(vec![part(0), part(1), part(0)])
            .into_iter()
            .map(|done| done.unwrap().events[0].id);
        let ids: Vec<_> = ids.collect();
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[0], ids[2], "and decided again the same");
    }

    #[test]
    fn one_that_panics_or_refuses_fails_alone() {
        let mut tasks: Vec<_> = (0..8).map(|n| task(n, event(n))).collect();
        tasks[2] = task(2, |_| panic!("a bug"));
        tasks[5] = task(5, |_| Err(sammati_kernel::Reason::Internal.into()));
        let failed = all(tasks).into_iter().map(|done| done.is_err()).collect::<Vec<_>>();
        let expected: Vec<_> = (0..8).map(|n| n == 2 || n == 5).collect();
        assert_eq!(failed, expected);
    }
}
