//! One batch: lock, load, decide, write, append, commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ring::digest::{Context, SHA256};
use sammati_kernel::{Micros, Refusal};

use crate::check;
use crate::claim::ClaimRow;
use crate::command::Job;
use crate::durable;
use crate::error::Error;
use crate::heads::{self, HeadRow};
use crate::keys::Keys;
use crate::later::{self, Task};
use crate::request::{self, RequestRow};
use crate::shared::{Reached, Shared};
use crate::sql;
use crate::statement::Statement;
use crate::table::{Cell, Record, Table};
use crate::view::{Changes, Loaded, NewEvent, View};
use crate::{AnyConn, Partitions, verbs};

/// What a batch is about to commit, for the caches and the watchers.
pub(crate) struct Prepared {
    pub(crate) heads: Vec<Reached>,
    /// Subjects whose state changed, in commit order.
    pub(crate) subjects: Vec<Vec<u8>>,
    pub(crate) events: usize,
}

/// Runs `jobs` as one transaction. On an error nothing of it has happened, unless it is [`Error::CommitUnknown`].
pub(crate) fn run(conn: &mut AnyConn, shared: &Shared, jobs: &mut [Box<dyn Job>]) -> Result<Prepared, Error> {
    // On Postgres it begins with the lock.
    if let AnyConn::Sqlite(_) = conn {
        sql::batch(conn, "BEGIN IMMEDIATE")?;
    }
    let mut batch = Batch {
        conn,
        shared,
        partitions: shared.partitions,
        since: shared.requests_from(),
        loaded: Loaded::default(),
        heads: BTreeMap::new(),
        requests: BTreeMap::new(),
        later: Vec::new(),
    };
    // Postgres sees by itself what an update leaves as it is.
    batch.loaded.notes_moves = matches!(batch.conn, AnyConn::Sqlite(_));
    let prepared = batch.prepare(jobs);
    let committed = prepared.and_then(|prepared| {
        if let AnyConn::Sqlite(_) = conn {
            shared.commits.begin();
        }
        commit(conn).map(|()| prepared)
    });
    committed.map_err(|error| sql::roll_back(conn, error))
}

fn commit(conn: &mut AnyConn) -> Result<(), Error> {
    let Err(error) = sql::batch(conn, "COMMIT") else {
        return Ok(());
    };
    match (&*conn, error) {
        (AnyConn::Pg(_), Error::Database(error)) if Error::Database(clone(&error)).lost_connection() => {
            Err(Error::CommitUnknown(error))
        }
        (AnyConn::Pg(_), error) => Err(error),
        // Nothing of it is in the file, and SQLite says so for sure: the disk has no room, or is read-only.
        (AnyConn::Sqlite(_), error) if error.is_of_the_disk() => Err(error),
        (AnyConn::Sqlite(_), error) => durable::end(&error),
    }
}

/// Diesel's errors do not clone; only the kind and the words matter here.
fn clone(error: &diesel::result::Error) -> diesel::result::Error {
    use diesel::result::{DatabaseErrorKind, Error as E};
    match error {
        E::DatabaseError(DatabaseErrorKind::ClosedConnection, info) => {
            E::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new(info.message().to_owned()))
        }
        E::DatabaseError(DatabaseErrorKind::UnableToSendCommand, info) => E::DatabaseError(
            DatabaseErrorKind::UnableToSendCommand,
            Box::new(info.message().to_owned()),
        ),
        E::DatabaseError(_, info) => E::DatabaseError(DatabaseErrorKind::Unknown, Box::new(info.message().to_owned())),
        _ => E::BrokenTransactionManager,
    }
}

struct Head {
    row: HeadRow,
    now: Micros,
    events: Vec<NewEvent>,
    dirty: bool,
}

struct Batch<'a> {
    conn: &'a mut AnyConn,
    shared: &'a Shared,
    partitions: Partitions,
    /// As [`crate::RequestKey`] has it for its row; the same for the whole batch.
    since: Micros,
    loaded: Loaded,
    heads: BTreeMap<i64, Head>,
    /// Request rows by key: loaded, then also those of this batch.
    requests: BTreeMap<Vec<u8>, (RequestRow, bool)>,
    /// What the commands left for later, in their order.
    later: Vec<Task>,
}

impl Batch<'_> {
    /// Everything up to the commit.
    fn prepare(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Prepared, Error> {
        self.load(jobs)?;
        for job in jobs.iter_mut() {
            self.settle(job.as_mut());
        }
        self.finish_later()?;
        self.write()
    }

    /// Does what the commands left for later.
    fn finish_later(&mut self) -> Result<(), Error> {
        let tasks = std::mem::take(&mut self.later);
        let partitions: Vec<_> = tasks.iter().map(|task| task.partition).collect();
        for (partition, done) in partitions.into_iter().zip(later::all(tasks)) {
            let mut changes = done?;
            if !changes.is_new_to(&self.loaded, partition) {
                return Err(Error::Broken("what is done later must be new".into()));
            }
            if let Some(head) = self.heads.get_mut(&partition) {
                head.events.append(&mut changes.events);
            }
            self.loaded.apply(partition, changes);
        }
        Ok(())
    }

    /// Locks what the jobs touch, then loads what they read.
    fn load(&mut self, jobs: &[Box<dyn Job>]) -> Result<(), Error> {
        let touched: BTreeSet<i64> = jobs.iter().map(|job| self.partitions.of(job.slot())).collect();
        let requests = jobs.iter().filter_map(|job| job.request());
        let requests = requests.map(|key| key.row(self.since));
        let requests = requests.map(|row| (request::home(self.partitions, &row), row));
        let mut keys = Keys::default();
        for job in jobs {
            keys.enter(self.partitions.of(job.slot()));
            job.reads(&mut keys);
        }
        let touched: Vec<_> = touched.into_iter().collect();
        let statements = self.loads(&keys, &requests.collect());
        let (rows, found) = heads::lock_and_load(self.conn, &touched, &statements)?;
        self.locked(rows)?;
        self.take_loaded(&keys, found)?;
        let mut more = Keys::default();
        for job in jobs {
            let partition = self.partitions.of(job.slot());
            more.enter(partition);
            job.then(&self.view(job.as_ref()), &mut more);
        }
        if more.is_empty() {
            return Ok(());
        }
        let found = sql::load_all(self.conn, &self.loads(&more, &BTreeSet::new()))?;
        self.take_loaded(&more, found)
    }

    fn locked(&mut self, rows: Vec<HeadRow>) -> Result<(), Error> {
        if rows.iter().any(|row| self.shared.opens_epoch(row)) {
            verbs::finished(self.conn, self.shared)?;
        }
        self.shared.expect_past(rows.iter().map(|row| row.time))?;
        for row in rows {
            let now = self.shared.clock.now().max(Micros(row.time));
            self.heads.insert(
                row.partition,
                Head {
                    row,
                    now,
                    events: Vec::new(),
                    dirty: false,
                },
            );
        }
        Ok(())
    }

    fn view<'v>(&'v self, job: &'v dyn Job) -> View<'v> {
        let partition = self.partitions.of(job.slot());
        // Every job's partition was locked in `lock`; a miss would start its feed at 0 and fail on the key.
        let (now, next) = self.heads.get(&partition).map_or((Micros::ZERO, 0), |head| {
            (
                head.now,
                head.row.next + i64::try_from(head.events.len()).unwrap_or(i64::MAX),
            )
        });
        View::new(&self.loaded, job.slot(), partition, now, next, job.seed())
    }

    /// What loads the keys: rows, groups, claims, request ids.
    fn loads(&self, keys: &Keys, requests: &BTreeSet<(i64, Vec<u8>)>) -> Vec<Statement> {
        let claims = keys.claims.iter();
        let claims: Vec<_> = claims.map(|key| (self.partitions.of_hash(key), key.to_vec())).collect();
        let rows = keys.rows.iter().map(|(table, asked)| sql::by_key(*table, asked));
        let groups = keys.groups.iter();
        let groups = groups.map(|((table, column), asked)| sql::by_column(*table, column, asked));
        let others = [
            sql::by_key(ClaimRow::TABLE, &claims),
            sql::by_key(RequestRow::TABLE, requests),
        ];
        rows.chain(groups).chain(others).collect()
    }

    /// Takes over what was found by [`Self::loads`].
    fn take_loaded(&mut self, keys: &Keys, found: Vec<Vec<sql::Loaded>>) -> Result<(), Error> {
        let mut found = found.into_iter();
        for (table, asked) in &keys.rows {
            for (partition, id) in asked {
                self.loaded.asked(*table, *partition, id.clone());
            }
            for (raw, _) in found.next().into_iter().flatten() {
                self.loaded.found(*table, raw);
            }
        }
        for ((table, column), asked) in &keys.groups {
            for (partition, value) in asked {
                self.loaded.asked_group(*table, column, *partition, value.clone());
            }
            for (raw, value) in found.next().into_iter().flatten() {
                self.loaded.found_in_group(*table, column, value, raw);
            }
        }
        let mut owners = HashMap::new();
        for (raw, _) in found.next().into_iter().flatten() {
            owners.insert(raw.id, decode::<ClaimRow>(&raw.body)?.owner);
        }
        for key in &keys.claims {
            self.loaded.asked_claim(*key, owners.remove(key.as_slice()));
        }
        for (raw, _) in found.next().into_iter().flatten() {
            self.requests.insert(raw.id, (decode::<RequestRow>(&raw.body)?, false));
        }
        Ok(())
    }

    /// The time of this attempt.
    fn now(&self, partition: i64) -> Micros {
        self.heads.get(&partition).map_or(Micros::ZERO, |head| head.now)
    }

    /// Decides one job, and takes over what it changed.
    fn settle(&mut self, job: &mut dyn Job) {
        let partition = self.partitions.of(job.slot());
        let now = self.now(partition);
        if let Some(key) = job.request().cloned() {
            if let Some((row, _)) = self.requests.get(&key.row(self.since)) {
                match row.replay(&key, now) {
                    Ok(outcome) => job.settle_known(outcome),
                    Err(refusal) => job.settle_refused(refusal),
                }
                return;
            }
            if let Err(refusal) = key.check_window(now) {
                job.settle_refused(refusal);
                return;
            }
        }
        let (decided, changes) = self.decide(job);
        self.take(partition, job, decided, changes);
    }

    fn decide(&self, job: &mut dyn Job) -> (Result<Vec<u8>, Refusal>, Changes) {
        let partition = self.partitions.of(job.slot());
        let head = self.heads.get(&partition);
        let now = head.map_or(Micros::ZERO, |h| h.now);
        let next = head.map_or(0, |h| h.row.next + i64::try_from(h.events.len()).unwrap_or(i64::MAX));
        let seed = job.seed().clone();
        let mut view = View::new(&self.loaded, job.slot(), partition, now, next, &seed);
        let decided = job.decide(&mut view);
        (decided, view.into_changes())
    }

    fn take(&mut self, partition: i64, job: &mut dyn Job, decided: Result<Vec<u8>, Refusal>, mut changes: Changes) {
        let record = match (&decided, job.request()) {
            (Ok(outcome), Some(key)) => Some(RequestRow::done(key, self.since, outcome.clone())),
            (Err(refusal), Some(key)) if refusal.recorded => {
                Some(RequestRow::refused(key, self.since, refusal, self.now(partition)))
            }
            _ => None,
        };
        let kept = decided.as_ref().map_or_else(|refusal| refusal.recorded, |_| true);
        if kept && let Some(head) = self.heads.get_mut(&partition) {
            head.events.append(&mut changes.events);
            head.dirty = true;
            let (now, later) = (head.now, std::mem::take(&mut changes.later));
            self.later
                .extend(later.into_iter().enumerate().map(|(part, later)| Task {
                    later,
                    part,
                    slot: job.slot(),
                    partition,
                    now,
                    seed: job.seed().clone(),
                }));
            self.loaded.apply(partition, changes);
        }
        if let Some(row) = record {
            self.requests.insert(row.key.clone(), (row, true));
        }
        if let Err(refusal) = decided {
            job.settle_refused(refusal);
        }
    }

    /// Claims go first and by themselves: others may wait for them. What comes then waits for nobody, but for request ids,
    /// which all that come after claims take in one order; on Postgres it goes on one way there and back.
    fn write(&mut self) -> Result<Prepared, Error> {
        self.write_claims()?;
        let requests = self.requests_written();
        let (created, changed) = self.written();
        let (events, prepared) = self.events();
        let heads = prepared.heads.iter().map(|reached| &reached.head);
        let mut statements = vec![sql::insert(RequestRow::TABLE, requests)];
        statements.extend(created.into_iter().map(|(table, rows)| sql::create(table, rows)));
        for ((table, moved), rows) in changed {
            statements.push(sql::update(table, sql::update_moved(self.conn, table, moved, rows)?));
        }
        statements.extend([sql::feed(events), heads::advance(heads)]);
        let done = sql::write_all(self.conn, &statements).map_err(sql::missed)?;
        for (n, (statement, done)) in statements.iter().zip(done).enumerate() {
            // A request row that is there: another batch did something under the id meanwhile.
            if n == 0 && done < statement.cells.len() {
                return Err(Error::ClaimTaken);
            }
            sql::expect_all(done, statement.cells.len(), statement.table)?;
        }
        Ok(prepared)
    }

    /// Claims go in sorted, after all heads: two batches never wait for each other in a circle.
    fn write_claims(&mut self) -> Result<(), Error> {
        let claimed = std::mem::take(&mut self.loaded.claimed);
        let mut rows: Vec<_> = claimed
            .iter()
            .map(|(key, owner)| {
                let row = ClaimRow {
                    key: key.to_vec(),
                    owner: owner.clone(),
                };
                (self.partitions.of_hash(key), row)
            })
            .collect();
        rows.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
        let cells: Vec<_> = rows.iter().map(|(p, row)| unchanging(*p, row)).collect();
        let claims = [sql::insert(ClaimRow::TABLE, cells)];
        if sql::write_all(self.conn, &claims)? == [claims[0].cells.len()] {
            Ok(())
        } else {
            Err(Error::ClaimTaken)
        }
    }

    /// The rows to create and to replace, each in its last state, in the order of their keys; those to replace by which of
    /// their look-up values moved.
    #[expect(clippy::type_complexity, reason = "two lists of rows by table")]
    fn written(&mut self) -> (BTreeMap<Table, Vec<Vec<Cell>>>, BTreeMap<(Table, u32), Vec<Vec<Cell>>>) {
        let (mut created, mut changed) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for ((_, partition), rows) in std::mem::take(&mut self.loaded.rows) {
            for (id, row) in rows {
                let (Some(look_up), Some(body)) = (row.changed, row.body) else {
                    continue;
                };
                let cells = cells(partition, id, row.version.max(1), row.format, body, &look_up);
                let into = if row.version == 0 {
                    created.entry(row.table).or_default()
                } else {
                    changed.entry((row.table, row.moved)).or_default()
                };
                into.push(cells);
            }
        }
        (created, changed)
    }

    /// The request rows to create, sorted as claims are.
    fn requests_written(&self) -> Vec<sql::Written> {
        let fresh = self.requests.iter().filter(|(_, (_, fresh))| *fresh);
        let mut rows: Vec<_> = fresh
            .map(|(key, (row, _))| (request::home(self.partitions, key), key, row))
            .collect();
        rows.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        rows.into_iter().map(|(p, _, row)| unchanging(p, row)).collect()
    }

    /// The rows of the feed, and what is told of them.
    fn events(&mut self) -> (Vec<Vec<Cell>>, Prepared) {
        let (mut rows, mut heads, mut subjects) = (Vec::new(), Vec::new(), Vec::new());
        for head in self.heads.values_mut().filter(|head| head.dirty) {
            head.row.time = head.now.0;
            let from = head.row.next;
            for event in head.events.drain(..) {
                head.row.chain = chain(&head.row.chain, &event.body);
                subjects.extend(event.subject.clone());
                rows.push(vec![
                    head.row.partition.into(),
                    head.row.next.into(),
                    head.row.epoch.into(),
                    head.now.0.into(),
                    event.id.as_slice().into(),
                    event.subject.into(),
                    head.row.chain.clone().into(),
                    event.body.into(),
                ]);
                head.row.next += 1;
            }
            let head = head.row.clone();
            heads.push(Reached { head, from });
        }
        let prepared = Prepared {
            heads,
            subjects,
            events: rows.len(),
        };
        (rows, prepared)
    }
}

/// The chain after an event: SHA-256 over the chain before it and its bytes. A consumer recomputes it.
pub fn chain(before: &[u8], body: &[u8]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(body);
    context.finish().as_ref().to_vec()
}

fn cells(partition: i64, id: Vec<u8>, version: i64, format: i64, body: Vec<u8>, look_up: &[Cell]) -> Vec<Cell> {
    let mut out = vec![partition.into(), id.into(), version.into(), format.into(), body.into()];
    out.extend_from_slice(look_up);
    out
}

/// A row that is written once, of a table without look-up columns.
fn unchanging<R: Record>(partition: i64, record: &R) -> Vec<Cell> {
    let id = record.key();
    let body = check::body(record, &id, 1);
    cells(partition, id, 1, R::FORMAT, body, &[])
}

fn decode<R: Record>(body: &[u8]) -> Result<R, Error> {
    R::decode(body).map_err(|_| Error::Broken(format!("a row of {} cannot be read", R::TABLE.name)))
}
