//! Where a lane is entered, and what waits there.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::command::Job;
use crate::error::Error;
use crate::flight::Flight;
use crate::gate::Gate;
use crate::lane::Lane;
use crate::shared::Shared;
use crate::store::Options;

/// Where a lane is entered.
pub(crate) struct Entrance {
    pub(crate) sender: mpsc::Sender<Box<dyn Job>>,
    pub(crate) gate: Gate,
    pub(crate) flights: [Flight; 2],
}

impl Entrance {
    /// How long the batch that is run has taken so far, or the disk for those before it.
    fn age(&self) -> Duration {
        self.flights.iter().map(Flight::age).max().unwrap_or_default()
    }
}

/// Starts the `n`th lane's thread.
pub(crate) fn start_lane(
    shared: &Arc<Shared>,
    runtime: Option<Handle>,
    options: &Options,
    n: usize,
) -> Result<Entrance, Error> {
    let (sender, queue) = mpsc::channel(options.queue.max(1));
    let lane = Lane::new(Arc::clone(shared), runtime, options.max_batch.max(1))?;
    let flights = lane.flights();
    let thread = std::thread::Builder::new().name(format!("lane-{n}"));
    thread
        .spawn(move || lane.run(queue))
        .map_err(|e| Error::File(format!("cannot start a lane's thread: {e}")))?;
    let gate = Gate::new(options.queue.max(1), options.queue_bytes);
    Ok(Entrance { sender, gate, flights })
}

/// Tells what waits, when it is asked. It keeps no lane alive.
pub(crate) struct Waiting(Weak<Vec<Entrance>>);

impl Waiting {
    pub(crate) fn new(lanes: &Arc<Vec<Entrance>>) -> Self {
        Self(Arc::downgrade(lanes))
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

/// A gauge of each lane: its name, its help, and what it says.
type PerLane = (&'static str, &'static str, fn(&Entrance) -> usize);

const PER_LANE: [PerLane; 2] = [
    (
        "store_lane_waiting",
        "Commands that wait for a lane: near 4096 callers are refused",
        |lane| lane.sender.max_capacity() - lane.sender.capacity(),
    ),
    (
        "store_lane_waiting_bytes",
        "About how many bytes they hold: near 64 MiB callers are refused",
        |lane| lane.gate.taken(),
    ),
];

const BATCH_AGE: (&str, &str) = (
    "store_batch_age_seconds",
    "How long the batch that a lane runs, or that SQLite puts on the disk, has taken so far, reruns included; 0 between batches",
);

impl Collector for Waiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(lanes) = self.0.upgrade() else { return Ok(()) };
        for (name, help, value) in PER_LANE {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (n, lane) in lanes.iter().enumerate() {
                let labels = [("lane", n.to_string())];
                let value = i64::try_from(value(lane)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let (name, help) = BATCH_AGE;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (n, lane) in lanes.iter().enumerate() {
            let labels = [("lane", n.to_string())];
            ConstGauge::new(lane.age().as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
