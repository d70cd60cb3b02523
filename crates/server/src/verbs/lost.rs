//! What does the audit log have of a feed that the feed has not?

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sammati_api::audit::v1::log::State;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::{self as audit};
use sammati_store::Error;
use sammati_store::verbs::{Recovery, Standing};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::recover::failed;
use crate::channel::Channel;
use crate::event::vocabulary::EPOCH_OPENED;

/// How many partitions are asked about in one call.
const AT_ONCE: usize = 64;

/// How long the log may take for a page.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events of a page of the log.
const ROWS: i32 = 256;

/// Events read of the feed in one go.
const PAGE: i64 = 1000;

/// What the log knows of the feed.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The highest epoch that it has seen.
    pub(super) epoch: i64,
    /// Where the feed and the log part, in partitions where they do.
    pub(super) parted: BTreeMap<i64, i64>,
    /// What it has and the feed has not.
    pub(super) lost: Vec<audit::LogEvent>,
}

/// Asks the logs behind `channels`, the oldest first. One that goes on from another is not asked while that one takes
/// events: it has not begun.
pub(super) fn find(
    runtime: &Runtime,
    channels: impl Iterator<Item = Channel>,
    recovery: &mut Recovery,
) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut logs = Vec::new();
    let mut channels = channels.peekable();
    while let Some(channel) = channels.next() {
        // So many payloads of 32 KiB may come in one page.
        let log = LogServiceClient::new(channel).max_decoding_message_size(16 << 20);
        let is_last = channels.peek().is_none() || runtime.block_on(takes_events(log.clone()))?;
        logs.push(log);
        if is_last {
            break;
        }
    }
    let standings = recovery.standings()?;
    for some in standings.chunks(AT_ONCE) {
        let mut feeds = Vec::new();
        for standing in some {
            feeds.push(end_of(recovery, standing)?);
        }
        let (mut events, mut positions) = Listed::default();
        for log in &logs {
            let (more, at) = runtime.block_on(list(log.clone(), feeds.clone()))?;
            events.extend(more);
            positions.extend(at);
        }
        found.epoch = positions.iter().map(|at| at.epoch).fold(found.epoch, i64::max);
        for standing in some {
            compare(recovery, standing, &events, &mut found)?;
        }
    }
    Ok(found)
}

/// Events that a partition has: the last ones, then ever older ones. The log walks from behind the newest it knows.
fn end_of(recovery: &mut Recovery, standing: &Standing) -> Result<audit::FeedEnd, Error> {
    let (head, floor) = (&standing.head, standing.floor);
    let steps = (0..20).map(|n| head.next - (1_i64 << n));
    let mut positions: Vec<_> = steps.filter(|position| *position >= floor).collect();
    positions.extend((floor < head.next).then_some(floor));
    let mut event_ids = Vec::new();
    for position in positions {
        let events = recovery.feed(head.partition, position, 1)?;
        event_ids.extend(events.iter().filter_map(|event| id(&event.event_id)));
    }
    Ok(audit::FeedEnd {
        partition: i32::try_from(head.partition).unwrap_or(i32::MAX),
        event_ids,
    })
}

fn id(bytes: &[u8]) -> Option<String> {
    uuid::Uuid::from_slice(bytes).ok().map(|id| id.to_string())
}

type Listed = (Vec<audit::LogEvent>, Vec<audit::SourcePosition>);

async fn takes_events(mut log: LogServiceClient<Channel>) -> Result<bool, Error> {
    match timeout(PATIENCE, log.list_logs(audit::ListLogsRequest::default())).await {
        Ok(Ok(answer)) => Ok(answer.into_inner().logs.iter().any(|log| log.state() == State::Active)),
        Ok(Err(status)) => Err(refused(&status)),
        Err(_) => Err(unreachable("it does not answer")),
    }
}

fn refused(status: &tonic::Status) -> Error {
    unreachable(&format!("{:?}: {}", status.code(), status.message()))
}

async fn list(mut log: LogServiceClient<Channel>, feeds: Vec<audit::FeedEnd>) -> Result<Listed, Error> {
    let mut listed = Listed::default();
    let mut page_token = String::new();
    loop {
        let request = audit::ListSourceEventsRequest {
            page_size: ROWS,
            page_token,
            feeds: feeds.clone(),
        };
        let page = match timeout(PATIENCE, log.list_source_events(request)).await {
            Ok(Ok(page)) => page.into_inner(),
            Ok(Err(status)) => return Err(refused(&status)),
            Err(_) => return Err(unreachable("it does not answer")),
        };
        listed.0.extend(page.events);
        listed.1.extend(page.positions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(listed);
        }
    }
}

fn unreachable(why: &str) -> Error {
    failed(format!(
        "the audit log cannot be asked what was lost: {why}. Start audit and try again; if the log is gone for good, \
         --without-log says what that means"
    ))
}

/// What of `events` a partition has not. In the epoch that it is in, the first such is where it and the log part.
fn compare(
    recovery: &mut Recovery,
    standing: &Standing,
    events: &[audit::LogEvent],
    found: &mut Found,
) -> Result<(), Error> {
    let (head, floor) = (&standing.head, standing.floor);
    let of = |event: &&audit::LogEvent| {
        let source = source(event);
        i64::from(source.partition) == head.partition && source.position >= floor
    };
    let events: Vec<_> = events.iter().filter(of).collect();
    let Some(first) = events.iter().map(|event| source(event).position).min() else {
        return Ok(());
    };
    let kept = kept(recovery, head.partition, first)?;
    for event in events {
        let (header, at) = (event.header.clone().unwrap_or_default(), source(event));
        if kept.get(&at.position) == Some(&header.event_id) {
            continue;
        }
        if at.epoch == head.epoch && at.position <= head.next {
            let parted = found.parted.entry(head.partition).or_insert(at.position);
            *parted = at.position.min(*parted);
        }
        if header.event_type != EPOCH_OPENED {
            found.lost.push(event.clone());
        }
    }
    Ok(())
}

fn source(event: &audit::LogEvent) -> audit::EventSource {
    let header = event.header.as_ref();
    header.and_then(|header| header.source.clone()).unwrap_or_default()
}

/// The ids of a partition's events by position, from `first` on.
fn kept(recovery: &mut Recovery, partition: i64, first: i64) -> Result<HashMap<i64, String>, Error> {
    let (mut kept, mut from) = (HashMap::new(), first);
    loop {
        let page = recovery.feed(partition, from, PAGE)?;
        let Some(last) = page.last() else { return Ok(kept) };
        from = last.position + 1;
        kept.extend(
            page.iter()
                .filter_map(|event| Some((event.position, id(&event.event_id)?))),
        );
    }
}
