//! What a receiver counts, for Prometheus, in the OpenMetrics text format 1.0.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use zero_bus::{Checksum, Event};

/// The media type of the text.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Most buses with gauges of their own: the first that hand events over. A label for each of any number would be a leak.
const MAX_BUSES: usize = 100;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Bus {
    bus: String,
}

/// The counters.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    seconds: Family<Operation, Histogram, fn() -> Histogram>,
    events: Counter,
    bytes: Counter,
    forks: Counter,
    index: Family<Bus, Gauge>,
    as_of: Family<Bus, Gauge<f64, AtomicU64>>,
    buses: Mutex<Vec<Checksum>>,
}

fn latencies() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("zero_ingest"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(latencies),
            events: Counter::default(),
            bytes: Counter::default(),
            forks: Counter::default(),
            index: Family::default(),
            as_of: Family::default(),
            buses: Mutex::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "requests",
            "Requests answered, by operation and status code",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from a request's header to its answer",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register("events", "Events taken durably", metrics.events.clone());
        registry.register_with_unit(
            "line",
            "Bytes of the lines of events taken, unpacked",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register("forks", "Batches refused as a fork", metrics.forks.clone());
        registry.register("bus_index", "Index of the last event taken, by bus", metrics.index.clone());
        registry.register(
            "bus_as_of_timestamp_seconds",
            "Time of the last event taken, by bus; what lies between it and now is the lag",
            metrics.as_of.clone(),
        );
        metrics
    }

    /// A request was answered.
    pub(super) fn answered(&self, operation: &'static str, code: u16, after: Duration) {
        self.requests.get_or_create(&Request { operation, code }).inc();
        self.seconds.get_or_create(&Operation { operation }).observe(after.as_secs_f64());
    }

    /// Events were taken durably.
    pub(super) fn took(&self, bus: Checksum, events: u64, bytes: u64, last: &Event) {
        self.events.inc_by(events);
        self.bytes.inc_by(bytes);
        let mut buses = self.buses.lock().unwrap_or_else(PoisonError::into_inner);
        if !buses.contains(&bus) {
            if buses.len() >= MAX_BUSES {
                return;
            }
            buses.push(bus);
        }
        let label = Bus { bus: bus.to_string() };
        self.index.get_or_create(&label).set(i64::try_from(last.index).unwrap_or(i64::MAX));
        self.as_of.get_or_create(&label).set(last.as_of);
    }

    /// A fork was refused.
    pub(super) fn forked(&self) {
        self.forks.inc();
    }

    /// All of it as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Into a string, which takes everything.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use zero_bus::Json;

    use super::*;

    #[test]
    fn the_labels_of_buses_have_a_bound() {
        let metrics = Metrics::new();
        for n in 1..=2 * MAX_BUSES as u64 {
            let bus = Checksum::of(&n.to_le_bytes());
            let event = Event {
                index: n,
                event_type: "a".into(),
                as_of: 1.5,
                payload: Json::empty_object(),
                previous_checksum: None,
                checksum: bus,
                trace_id: None,
            };
            metrics.took(bus, 1, 10, &event);
        }
        metrics.answered("take", 200, Duration::from_millis(3));
        let text = metrics.text();
        assert_eq!(text.matches("zero_ingest_bus_index{").count(), MAX_BUSES);
        assert!(text.contains("zero_ingest_events_total 200\n"), "{text}");
        assert!(text.contains("zero_ingest_line_bytes_total 2000\n"), "{text}");
        assert!(text.contains("zero_ingest_requests_total{operation=\"take\",code=\"200\"} 1\n"), "{text}");
        assert!(
            text.contains("zero_ingest_request_duration_seconds_bucket{le=\"0.005\",operation=\"take\"} 1\n"),
            "{text}"
        );
    }
}
