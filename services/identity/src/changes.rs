//! What must others know? The feed, read for what changes who may act, and a snapshot to begin with.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use prost::Message;
use sammati_api::audit::v1::Event;
use sammati_kernel::{AccountId, Key, Micros, ParticipantId, Reason, Refusal, SessionId, Slot};
use sammati_store::{FeedEvent, Head, Reader, Record, Store};

use crate::rows::{AccountRow, EndedSession, ParticipantRow, SessionRow};

/// How far back ended sessions are told: longer than any access token lives.
pub(crate) const ENDED_WITHIN: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// Events read of one partition in one go.
const AT_ONCE: i64 = 512;

/// Where one has got to in the feed of each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor(BTreeMap<i64, Place>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    epoch: i64,
    next: i64,
}

/// A cursor as it travels.
#[derive(Clone, PartialEq, Eq, Message)]
struct Positions {
    #[prost(int64, repeated, tag = "1")]
    partition: Vec<i64>,
    #[prost(int64, repeated, tag = "2")]
    epoch: Vec<i64>,
    #[prost(int64, repeated, tag = "3")]
    next: Vec<i64>,
}

/// Who or what an event changed, as far as others must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    Participant(ParticipantId),
    Account(AccountId),
    Session(SessionId),
}

/// The same as it is now.
#[derive(Debug, Clone)]
pub(crate) enum Now {
    Participant(ParticipantRow),
    Account(AccountRow),
    Session(SessionRow),
}

/// Everything that others must know, at one point of the feed.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) cursor: Cursor,
    pub(crate) participants: Vec<ParticipantRow>,
    /// Those that are not ACTIVE.
    pub(crate) accounts: Vec<AccountRow>,
    /// Those that ended within [`ENDED_WITHIN`].
    pub(crate) sessions: Vec<SessionRow>,
}

/// What has come in since.
#[derive(Debug)]
pub(crate) struct News {
    /// In commit order per partition, each with where to go on after it.
    pub(crate) items: Vec<(FeedEvent, Now, Cursor)>,
    /// Whether nothing more was there.
    pub(crate) drained: bool,
}

impl Cursor {
    /// As text that means nothing to whoever carries it.
    pub(crate) fn seal(&self, key: &Key) -> Result<String, Refusal> {
        let mut positions = Positions::default();
        for (partition, place) in &self.0 {
            positions.partition.push(*partition);
            positions.epoch.push(place.epoch);
            positions.next.push(place.next);
        }
        let sealed = key.derive("watch").seal(b"watch", &positions.encode_to_vec());
        sealed
            .map(|bytes| B64.encode(bytes))
            .map_err(|_| Reason::Internal.into())
    }

    /// Reads what [`Self::seal`] made.
    pub(crate) fn open(key: &Key, text: &str) -> Option<Self> {
        let plain = key.derive("watch").open(b"watch", &B64.decode(text).ok()?)?;
        let Positions { partition, epoch, next } = Positions::decode(plain.as_slice()).ok()?;
        let places = epoch.into_iter().zip(next).map(|(epoch, next)| Place { epoch, next });
        Some(Self(partition.into_iter().zip(places).collect()))
    }

    /// Refuses a place that the feed never had, or has no more: then everything is to be told again.
    pub(crate) async fn check(&self, store: &Store) -> Result<(), Refusal> {
        let partitions = store.partitions();
        let heads = store
            .read(move |r| {
                partitions
                    .all()
                    .map(|p| Ok((p, r.head(p)?, r.floor(p)?)))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        let known = heads.iter().all(|(partition, head, floor)| {
            self.0
                .get(partition)
                .is_some_and(|at| at.epoch == head.epoch && (*floor..=head.next).contains(&at.next))
        });
        if known && heads.len() == self.0.len() {
            Ok(())
        } else {
            Err(begin_anew())
        }
    }

    /// Refuses when a partition is in another epoch by now: it was restored, and what was told may never have happened.
    fn check_epochs(&self, store: &Store) -> Result<(), Refusal> {
        let is_other = |(partition, head): &(i64, Head)| self.0.get(partition).is_none_or(|at| at.epoch != head.epoch);
        if store.heads().iter().any(is_other) {
            return Err(begin_anew());
        }
        Ok(())
    }

    /// Reads what was committed since, and moves on.
    ///
    /// # Errors
    /// POSITION_UNKNOWN in another epoch; STORAGE_UNAVAILABLE.
    pub(crate) async fn advance(&mut self, store: &Store) -> Result<News, Refusal> {
        self.check_epochs(store)?;
        let behind: Vec<(i64, i64)> = store
            .heads()
            .into_iter()
            .filter_map(|(partition, head)| self.0.get(&partition).map(|at| (partition, at.next, head.next)))
            .filter(|(_, at, head)| at < head)
            .map(|(partition, at, _)| (partition, at))
            .collect();
        if behind.is_empty() {
            return Ok(News {
                items: Vec::new(),
                drained: true,
            });
        }
        let read = move |r: &mut Reader<'_>| {
            let mut read = Vec::new();
            for (partition, from) in &behind {
                for event in r.feed(*partition, *from, AT_ONCE)? {
                    let now = match changed(&event) {
                        Some(what) => current(r, &what)?,
                        None => None,
                    };
                    read.push((event, now));
                }
            }
            Ok(read)
        };
        let read = store.read(read).await?;
        let mut items = Vec::new();
        for (event, now) in read {
            // Restored, or pruned, since the heads were looked at.
            let follows = |at: &Place| at.epoch == event.epoch && at.next == event.position;
            if !self.0.get(&event.partition).is_some_and(follows) {
                return Err(begin_anew());
            }
            self.0.insert(
                event.partition,
                Place {
                    epoch: event.epoch,
                    next: event.position + 1,
                },
            );
            if let Some(now) = now {
                items.push((event, now, self.clone()));
            }
        }
        let drained = store
            .heads()
            .iter()
            .all(|(p, head)| self.0.get(p).is_some_and(|at| at.next >= head.next));
        Ok(News { items, drained })
    }
}

/// To whom another epoch, or a place that is gone, is all that is known.
pub(crate) fn begin_anew() -> Refusal {
    Refusal::new(Reason::PositionUnknown).saying("drop everything and begin without a resume token")
}

/// Reads the snapshot, all in one view of the database.
pub(crate) async fn snapshot(store: &Store, now: Micros) -> Result<Snapshot, Refusal> {
    let partitions = store.partitions();
    let since = now.minus(ENDED_WITHIN).0;
    store
        .snapshot(move |r| {
            let mut snapshot = Snapshot {
                cursor: Cursor(BTreeMap::new()),
                participants: Vec::new(),
                accounts: inactive_accounts(r)?,
                sessions: Vec::new(),
            };
            for partition in partitions.all() {
                let head = r.head(partition)?;
                snapshot.cursor.0.insert(
                    partition,
                    Place {
                        epoch: head.epoch,
                        next: head.next,
                    },
                );
                snapshot.participants.extend(all_participants(r, partition)?);
                snapshot.sessions.extend(ended_sessions(r, partition, since)?);
            }
            Ok(snapshot)
        })
        .await
}

const PAGE: usize = 1000;

fn all_participants(r: &mut Reader<'_>, partition: i64) -> Result<Vec<ParticipantRow>, sammati_store::Error> {
    let mut all: Vec<ParticipantRow> = Vec::new();
    loop {
        let after = all.last().map(Record::key).unwrap_or_default();
        let page = r.scan::<ParticipantRow>((partition, &after), 1000)?;
        let last = page.len() < PAGE;
        all.extend(page.into_iter().map(|stored| stored.record));
        if last {
            return Ok(all);
        }
    }
}

fn inactive_accounts(r: &mut Reader<'_>) -> Result<Vec<AccountRow>, sammati_store::Error> {
    let mut all: Vec<AccountRow> = Vec::new();
    loop {
        let before = all.last().map(Record::key);
        let page = r.page::<AccountRow>("inactive", &[1], before.as_deref(), 1000)?;
        let last = page.len() < PAGE;
        all.extend(page.into_iter().map(|stored| stored.record));
        if last {
            return Ok(all);
        }
    }
}

fn ended_sessions(r: &mut Reader<'_>, partition: i64, since: i64) -> Result<Vec<SessionRow>, sammati_store::Error> {
    // Sessions that end together have one time, so a page cannot begin after a time: the limit grows instead.
    let mut limit = 1000;
    loop {
        let ended = r.range::<SessionRow>(partition, ("ended", &EndedSession::MARK), ("end_time", since), limit)?;
        if i64::try_from(ended.len()).unwrap_or(i64::MAX) < limit {
            return Ok(ended.into_iter().map(|stored| stored.record).collect());
        }
        limit *= 4;
    }
}

/// What an event says has changed.
fn changed(event: &FeedEvent) -> Option<Changed> {
    let event = Event::decode(event.body.as_slice()).ok()?;
    let payload = event.payload?;
    match event.event_type.as_str() {
        "identity.session_revoked" | "identity.session_reuse_detected" => {
            SessionId::parse_name(&payload.resource).map(Changed::Session)
        }
        "identity.participant_created"
        | "identity.participant_updated"
        | "identity.participant_activated"
        | "identity.participant_suspended" => ParticipantId::parse_name(&payload.resource)
            .ok()
            .map(Changed::Participant),
        "identity.deactivated"
        | "identity.reactivated"
        | "identity.blocked"
        | "identity.unblocked"
        | "identity.deleted"
        | "identity.purged"
        | "identity.merged" => AccountId::parse_name(&payload.resource).map(Changed::Account),
        _ => None,
    }
}

/// What it is now, which may be newer than the event.
fn current(r: &mut Reader<'_>, what: &Changed) -> Result<Option<Now>, sammati_store::Error> {
    Ok(match what {
        Changed::Participant(id) => {
            let row = r.get::<ParticipantRow>(Slot::of_participant(id.as_str()), id.as_str().as_bytes())?;
            row.map(|stored| Now::Participant(stored.record))
        }
        Changed::Account(id) => r
            .get::<AccountRow>(id.slot(), id.as_bytes())?
            .map(|stored| Now::Account(stored.record)),
        Changed::Session(id) => r
            .get::<SessionRow>(id.slot(), id.as_bytes())?
            .map(|stored| Now::Session(stored.record)),
    })
}
