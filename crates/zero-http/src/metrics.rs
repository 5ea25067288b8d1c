//! Metrics for Prometheus in the OpenMetrics text format 1.0.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The media type of [`encode_text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the duration histogram, in seconds.
const DURATION_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    operation: &'static str,
}

/// The metrics that every server has: `requests` and `request_duration_seconds`.
pub struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
}

impl RequestMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
        };
        registry.register(
            "requests",
            "Requests answered, by operation and status code",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from a request's header to its answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        metrics
    }

    /// Counts an answered request.
    pub fn observe(&self, operation: &'static str, code: u16, duration: Duration) {
        self.requests.get_or_create(&RequestLabels { operation, code }).inc();
        self.durations.get_or_create(&DurationLabels { operation }).observe(duration.as_secs_f64());
    }
}

/// All metrics of a registry as text.
pub fn encode_text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_code() {
        let mut registry = Registry::with_prefix("test");
        let metrics = RequestMetrics::register(&mut registry);
        metrics.observe("take", 200, Duration::from_millis(3));
        let text = encode_text(&registry);
        assert!(text.contains("test_requests_total{operation=\"take\",code=\"200\"} 1\n"), "{text}");
        assert!(
            text.contains("test_request_duration_seconds_bucket{le=\"0.005\",operation=\"take\"} 1\n"),
            "{text}"
        );
    }
}
