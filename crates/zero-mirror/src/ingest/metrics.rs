//! The receiver's metrics.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use zero_bus::{Checksum, Event};
use zero_http::metrics::{RequestMetrics, encode_text};

/// Maximum number of buses with gauges of their own. Clients choose the buses, so without a bound
/// the labels could exhaust the memory.
const MAX_LABELLED_BUSES: usize = 100;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BusLabel {
    bus: String,
}

pub(super) struct Metrics {
    registry: Registry,
    requests: RequestMetrics,
    events: Counter,
    line_bytes: Counter,
    forks: Counter,
    last_index: Family<BusLabel, Gauge>,
    last_as_of: Family<BusLabel, Gauge<f64, AtomicU64>>,
    labelled_buses: Mutex<Vec<Checksum>>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("zero_ingest");
        let requests = RequestMetrics::register(&mut registry);
        let (events, line_bytes, forks) = (Counter::default(), Counter::default(), Counter::default());
        let last_index = Family::<BusLabel, Gauge>::default();
        let last_as_of = Family::<BusLabel, Gauge<f64, AtomicU64>>::default();
        registry.register("events", "Events stored durably", events.clone());
        registry.register_with_unit(
            "line",
            "Bytes of the lines of stored events, decompressed",
            Unit::Bytes,
            line_bytes.clone(),
        );
        registry.register("forks", "Batches refused as a fork", forks.clone());
        registry.register("bus_index", "Index of the last stored event, by bus", last_index.clone());
        registry.register(
            "bus_as_of_timestamp_seconds",
            "Time of the last stored event, by bus; the time since then is the lag",
            last_as_of.clone(),
        );
        let labelled_buses = Mutex::default();
        Self { registry, requests, events, line_bytes, forks, last_index, last_as_of, labelled_buses }
    }

    pub(super) fn observe_request(&self, operation: &'static str, code: u16, duration: Duration) {
        self.requests.observe(operation, code, duration);
    }

    /// Counts a batch that the store holds durably.
    pub(super) fn count_stored(&self, bus: Checksum, events: u64, line_bytes: u64, last: &Event) {
        self.events.inc_by(events);
        self.line_bytes.inc_by(line_bytes);
        let mut buses = self.labelled_buses.lock().unwrap_or_else(PoisonError::into_inner);
        if !buses.contains(&bus) {
            if buses.len() >= MAX_LABELLED_BUSES {
                return;
            }
            buses.push(bus);
        }
        let label = BusLabel { bus: bus.to_string() };
        self.last_index.get_or_create(&label).set(i64::try_from(last.index).unwrap_or(i64::MAX));
        self.last_as_of.get_or_create(&label).set(last.as_of);
    }

    pub(super) fn count_fork(&self) {
        self.forks.inc();
    }

    /// All metrics in the OpenMetrics text format.
    pub(super) fn text(&self) -> String {
        encode_text(&self.registry)
    }
}

#[cfg(test)]
mod tests {
    use zero_bus::Json;

    use super::*;

    #[test]
    fn the_number_of_labelled_buses_is_bounded() {
        let metrics = Metrics::new();
        for n in 1..=2 * MAX_LABELLED_BUSES as u64 {
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
            metrics.count_stored(bus, 1, 10, &event);
        }
        metrics.observe_request("take", 200, Duration::from_millis(3));
        let text = metrics.text();
        assert_eq!(text.matches("zero_ingest_bus_index{").count(), MAX_LABELLED_BUSES);
        assert!(text.contains("zero_ingest_events_total 200\n"), "{text}");
        assert!(text.contains("zero_ingest_line_bytes_total 2000\n"), "{text}");
        assert!(text.contains("zero_ingest_requests_total{operation=\"take\",code=\"200\"} 1\n"), "{text}");
        assert!(
            text.contains("zero_ingest_request_duration_seconds_bucket{le=\"0.005\",operation=\"take\"} 1\n"),
            "{text}"
        );
    }
}
