//! The metrics of a witness server.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zero_http::metrics::{RequestMetrics, encode_text};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LogLabel {
    origin: String,
}

pub(super) struct Metrics {
    registry: Registry,
    requests: RequestMetrics,
    cosigned: Counter,
    conflicts: Counter,
    /// Only logs that the operator listed have labels, so their number is bounded.
    sizes: Family<LogLabel, Gauge>,
    times: Family<LogLabel, Gauge>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("zero_witness");
        let requests = RequestMetrics::register(&mut registry);
        let (cosigned, conflicts) = (Counter::default(), Counter::default());
        let (sizes, times) = (Family::<LogLabel, Gauge>::default(), Family::<LogLabel, Gauge>::default());
        registry.register("cosigned", "Checkpoints cosigned", cosigned.clone());
        registry.register(
            "inconsistent",
            "Checkpoints signed by their log that were not proven to extend the last one",
            conflicts.clone(),
        );
        registry.register("log_size", "Events of the last cosigned checkpoint, by log", sizes.clone());
        registry.register(
            "log_cosigned_timestamp_seconds",
            "Time of the last cosignature since the start, by log",
            times.clone(),
        );
        Self { registry, requests, cosigned, conflicts, sizes, times }
    }

    pub(super) fn observe_request(&self, operation: &'static str, code: u16, duration: Duration) {
        self.requests.observe(operation, code, duration);
    }

    /// Sets the size of a log that was cosigned before the start.
    pub(super) fn set_size(&self, origin: &str, size: u64) {
        self.sizes.get_or_create(&label(origin)).set(saturate(size));
    }

    pub(super) fn count_cosigned(&self, origin: &str, size: u64, timestamp: u64) {
        self.cosigned.inc();
        self.set_size(origin, size);
        self.times.get_or_create(&label(origin)).set(saturate(timestamp));
    }

    pub(super) fn count_inconsistent(&self) {
        self.conflicts.inc();
    }

    /// All metrics in the OpenMetrics text format.
    pub(super) fn text(&self) -> String {
        encode_text(&self.registry)
    }
}

fn label(origin: &str) -> LogLabel {
    LogLabel { origin: origin.to_owned() }
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
