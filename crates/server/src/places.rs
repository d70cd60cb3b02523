//! How many calls of each class may be in work now, and how many are? Read when somebody asks: nothing is spent on it
//! meanwhile.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::shed::Shed;

/// The gauges.
pub(crate) struct Places(pub(crate) Shed);

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Places")
    }
}

/// A class's calls in work and the bound on them.
type Told = fn((usize, usize)) -> usize;

const GAUGES: [(&str, &str, Told); 2] = [
    (
        "sammati_rpc_places",
        "Calls of a class that may be in work now, of which one peer has half: it follows how long they take",
        |(_, most)| most,
    ),
    (
        "sammati_rpc_places_taken",
        "Calls of a class that are in work: near its places callers are refused",
        |(taken, _)| taken,
    ),
];

impl Collector for Places {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, told) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (class, taken, most) in self.0.classes() {
                let value = i64::try_from(told((taken, most))).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&[("class", class)])?)?;
            }
        }
        Ok(())
    }
}
