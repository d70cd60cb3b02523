//! `recover`: after a restore, or a failover that lost commits, a new epoch begins, and what was lost that took something
//! away is done again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use prost::Message;
use sammati_api::audit::v1::event::Action;
use sammati_api::audit::v1::{self as audit};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Clock, Key, Micros, SystemClock};
use sammati_store::verbs::{self, Cut, Recovery};
use sammati_store::{Error, Location, Options, Store};
use tokio::runtime::Runtime;

use super::lost::{self, Found};
use super::{Database, How, say};
use crate::config::{Config, ConfigError};
use crate::credentials::Credentials;
use crate::event::vocabulary::EPOCH_OPENED;
use crate::event::{Draft, system, timestamp};
use crate::run::Service;
use crate::tls::Peers;

/// Epochs are numbered by seconds since 2020: two restores of one backup never open the same one, though the database
/// forgot the first and the log never heard of it.
const EPOCH_ZERO: i64 = 1_577_836_800;

/// What a service does again after a restore.
pub struct Again {
    /// Its database, in the new epoch; nobody else serves it yet, unless replicas on Postgres do.
    pub store: Store,
    /// What the log has and the database lost, in the order of the log; never the record of a cut.
    pub lost: Vec<audit::LogEvent>,
}

impl Again {
    /// The headers and payloads of what was lost. What was erased has none, and says nothing.
    pub fn events(&self) -> impl Iterator<Item = (&audit::Leaf, &audit::Payload)> {
        self.lost
            .iter()
            .filter_map(|lost| Some((lost.header.as_ref()?, lost.payload.as_ref()?)))
    }
}

/// Recovers the database of a service.
pub(super) fn recover<S: Service>(config: &Config<S::Settings>, how: &How) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let by = user(how.by.as_deref())?;
    let Database {
        location,
        partitions,
        migrations,
        ..
    } = database::<S>(config)?;
    let mut recovery = Recovery::begin(&location, partitions, migrations)?;
    let found = match how.without_log {
        true => None,
        false => Some(ask::<S>(&runtime, config, &mut recovery)?),
    };
    let epoch = open(S::NAME, &mut recovery, found.as_ref(), &by)?;
    recovery.release();
    match found {
        None => say(WITHOUT_LOG),
        Some(found) => {
            tell(S::NAME, &found);
            again::<S>(&runtime, config, location.clone(), found.lost)?;
        }
    }
    verbs::finish(&location)?;
    say(format_args!("{}: recovered, in epoch {epoch}", S::NAME));
    Ok(())
}

const WITHOUT_LOG: &str = "\
The audit log was NOT asked what was lost. Whatever was taken back after the backup is in force again: consents, sessions,
suspensions. Addresses that were given away after it can be given to others. If the log comes back, run recover again.";

/// The service's database; migrations do not copy.
fn database<S: Service>(config: &Config<S::Settings>) -> Result<Database, Error> {
    let keeps = S::keeps(config).map_err(failed)?;
    let first = keeps.databases.into_iter().next();
    first.ok_or_else(|| Error::File(format!("{} keeps nothing in a database", S::NAME)))
}

/// Asks the log what it has that the database has not.
fn ask<S: Service>(runtime: &Runtime, config: &Config<S::Settings>, recovery: &mut Recovery) -> Result<Found, Error> {
    let credentials = config.server.tls.as_ref().map(Credentials::load).transpose();
    let peers = Peers::new(config.peers.clone(), credentials.map_err(failed)?);
    let logs = runtime.block_on(async { Ok((peers.channel("audit")?, peers.next("audit")?)) });
    let (first, next) = logs.map_err(|error: ConfigError| failed(error))?;
    lost::find(runtime, std::iter::once(first).chain(next), recovery)
}

/// Opens the epoch in every partition.
fn open(service: &str, recovery: &mut Recovery, found: Option<&Found>, by: &str) -> Result<i64, Error> {
    let now = SystemClock.now();
    let standings = recovery.standings()?;
    let heads = standings.iter().map(|standing| standing.head.epoch);
    let known = heads.chain(found.map(|found| found.epoch)).max().unwrap_or(0);
    let epoch = next_epoch(known, now);
    for standing in standings {
        let partition = standing.head.partition;
        let from = found.and_then(|found| found.parted.get(&partition).copied());
        let cut = recovery.open_epoch(partition, epoch, from, now, |cut| record(service, cut, by))?;
        tracing::debug!(partition, from = cut.at.next, epoch, "opened an epoch");
    }
    Ok(epoch)
}

/// An epoch above all that are known, and never opened before.
fn next_epoch(known: i64, now: Micros) -> i64 {
    (known + 1).max(now.seconds() - EPOCH_ZERO)
}

/// The event that records a cut.
fn record(service: &str, cut: &Cut, by: &str) -> Vec<u8> {
    let mut draft = Draft::new(EPOCH_OPENED, Action::Create, RetentionClass::Admin, &system(service));
    draft.payload().cut = Some(audit::Cut {
        epoch: cut.at.epoch,
        next_position: cut.at.next,
        chain: cut.at.chain.clone(),
        operator: by.to_owned(),
    });
    draft.finish();
    let mut event = draft.event;
    event.event_id = uuid::Uuid::from_bytes(cut.event_id).to_string();
    event.occurred_time = Some(timestamp(cut.time));
    event.encode_to_vec()
}

/// Says what was lost.
fn tell(service: &str, found: &Found) {
    if found.lost.is_empty() {
        say(format_args!("{service}: the log has nothing that this database lacks"));
        return;
    }
    say(format_args!("{service}: {} events were lost:", found.lost.len()));
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for lost in &found.lost {
        let event_type = lost.header.as_ref().map_or("", |header| header.event_type.as_str());
        *types.entry(event_type).or_default() += 1;
    }
    for (event_type, count) in types {
        say(format_args!("  {event_type}: {count}"));
    }
    let erased = found.lost.iter().filter(|lost| lost.payload.is_none()).count();
    if erased > 0 {
        say(format_args!(
            "  {erased} of them cannot be read: their keys are destroyed"
        ));
    }
}

/// Lets the service do again what must be, and says what that was.
fn again<S: Service>(
    runtime: &Runtime,
    config: &Config<S::Settings>,
    location: Location,
    lost: Vec<audit::LogEvent>,
) -> Result<(), Error> {
    // Nothing that this store seals or hashes is kept.
    let key = Key::generate().map_err(|_| failed("the system has no randomness"))?;
    let store = Store::open_unfinished(
        &Options::new(location, key),
        Arc::new(SystemClock),
        database::<S>(config)?.migrations,
    )?;
    let done = runtime.block_on(S::again(Again { store, lost }));
    let done = done.map_err(|refusal| {
        failed(format!(
            "what was lost cannot be done again: {}",
            refusal.reason.as_str()
        ))
    })?;
    for line in done {
        say(format_args!("{}: {line}", S::NAME));
    }
    Ok(())
}

/// Who runs this: as said, else as the machine numbers its users.
fn user(by: Option<&str>) -> Result<String, Error> {
    let Some(by) = by else {
        let uid = std::fs::metadata("/proc/self").map(|process| process.uid());
        return Ok(uid.map_or_else(|_| "unknown".to_owned(), |uid| format!("uid {uid}")));
    };
    if by.is_empty() || by.chars().count() > 64 || by.chars().any(char::is_control) {
        return Err(failed("--by is 1 to 64 characters, none a control character"));
    }
    Ok(by.to_owned())
}

pub(super) fn failed(what: impl Display) -> Error {
    Error::File(what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_above_all_that_are_known_and_never_opened_twice() {
        let at = |seconds: i64| Micros::from_seconds(EPOCH_ZERO + seconds);
        // Two restores of one backup, which both know the first epoch only.
        assert_eq!((next_epoch(1, at(500)), next_epoch(1, at(501))), (500, 501));
        // A clock that was set back, and a log that knows better.
        assert_eq!(next_epoch(700, at(500)), 701);
    }
}
