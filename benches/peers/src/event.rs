//! The events that all appenders write: decisions of a paper runtime, with lines of about 650
//! bytes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::Serialize;
use zero_bus::{Bus, Draft, LOG};

use crate::storage::NoSync;

/// The type of most events.
pub const TYPE: &str = "decision.record";
/// The type of one event in [`RARE_EVERY`].
pub const RARE_TYPE: &str = "rejection.record";
pub const RARE_EVERY: u64 = 1000;

/// The length of a line without its line break.
const LINE_BYTES: std::ops::RangeInclusive<usize> = 640..=660;

#[derive(Serialize)]
pub struct Decision {
    allowed: bool,
    as_of: f64,
    confidence: f64,
    idempotency_key: String,
    notional_usd: f64,
    order: Order,
    price: f64,
    quantity: f64,
    reason: &'static str,
    side: &'static str,
    symbol: &'static str,
}

#[derive(Serialize)]
struct Order {
    price: f64,
    quantity: f64,
    side: &'static str,
    symbol: &'static str,
}

impl Decision {
    /// Decision `n`. Its numbers differ from event to event but have about the same length.
    pub fn nth(n: u64) -> Self {
        let symbol = ["BTC", "ETH", "SOL"][n as usize % 3];
        let side = ["buy", "sell"][n as usize % 2];
        let price = (6_400_015 + n % 800 * 100) as f64 / 100.0;
        let quantity = 0.0125;
        let confidence = 0.825;
        Self {
            allowed: true,
            as_of: as_of(n),
            confidence,
            idempotency_key: format!("order-{n:012}"),
            notional_usd: (price * quantity * 100.0).round() / 100.0,
            order: Order { price, quantity, side, symbol },
            price,
            quantity,
            reason: "within the limits",
            side,
            symbol,
        }
    }

    pub fn draft(&self, n: u64) -> Result<Draft> {
        let event_type = if n.is_multiple_of(RARE_EVERY) { RARE_TYPE } else { TYPE };
        Ok(Draft::new(event_type, self.as_of, self)?.traced(format!("runtime-cycle-{n}")))
    }
}

fn as_of(n: u64) -> f64 {
    1_777_593_600.5 + n as f64
}

/// Drafts `from..=to`.
pub fn drafts(from: u64, to: u64) -> Result<Vec<Draft>> {
    (from..=to).map(|n| Decision::nth(n).draft(n)).collect()
}

/// Returns lines of a bus with their line breaks, for the peers to store.
pub fn lines(dir: &Path, count: u64) -> Result<Vec<String>> {
    let temp_dir = tempfile::tempdir_in(dir)?;
    let bus = Bus::open_in(Arc::new(NoSync::create(temp_dir.path())?))?;
    bus.append_batch(drafts(1, count + 1)?)?;
    let text = std::fs::read_to_string(temp_dir.path().join(LOG))?;
    // The first line is shorter: it has no checksum of an event before it.
    let lines: Vec<String> = text.split_inclusive('\n').skip(1).map(str::to_owned).collect();
    for line in &lines {
        let length = line.len() - 1;
        ensure!(LINE_BYTES.contains(&length), "a line has {length} bytes, not {LINE_BYTES:?}: {line}");
    }
    Ok(lines)
}
