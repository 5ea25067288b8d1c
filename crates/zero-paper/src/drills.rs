//! Ten dry-run drills. Each puts an enabled executor of a recording adapter through one emergency
//! and checks its behaviour.

use serde::Serialize;

use crate::live::{
    DAILY_LOSS_LIMIT_USD, DEAD_MAN_SECONDS, ExchangeAdapter, LiveExecutor, LiveRecord, LiveStatus,
    OperatorContext, RATE_LIMIT_ORDERS, RATE_WINDOW_SECONDS, RecordingAdapter, Refusal,
};
use crate::position::{Book, Position};
use crate::scenario::{Order, Side};

/// The `schema_version` of the certification.
pub const CERTIFICATION_SCHEMA: &str = "zero.live_certification.v1";

/// The result of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// The behaviour that the drill checks.
    pub name: &'static str,
    /// The first deviation from the expected behaviour, if any.
    pub failure: Option<String>,
    /// Number of orders sent to a live exchange. Must be 0.
    pub orders_placed_live: u64,
}

/// The combined result of all drills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certification {
    live_start_certified: bool,
    mode: &'static str,
    /// Whether every drill passed.
    pub passed: bool,
    schema_version: &'static str,
    summary: CertificationSummary,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct CertificationSummary {
    exchange: &'static str,
    failed: usize,
    orders_placed_live: u64,
    passed: usize,
    secrets_required: bool,
    total: usize,
}

impl Certification {
    /// Combines drill results. An empty list does not pass.
    pub fn of(drills: &[Drill]) -> Self {
        let total = drills.len();
        let failed = drills.iter().filter(|drill| drill.failure.is_some()).count();
        let orders_placed_live = drills.iter().map(|drill| drill.orders_placed_live).sum();
        let passed = total > 0 && failed == 0 && orders_placed_live == 0;
        Self {
            live_start_certified: passed,
            mode: "dry_run",
            passed,
            schema_version: CERTIFICATION_SCHEMA,
            summary: CertificationSummary {
                exchange: RecordingAdapter::default().name(),
                failed,
                orders_placed_live,
                passed: total - failed,
                secrets_required: false,
                total,
            },
        }
    }
}

type Steps = fn(&mut DryRun) -> Result<(), String>;

/// The drills by name.
const DRILLS: [(&str, Steps); 10] = [
    ("heartbeat arms the dead-man switch", heartbeat_arms),
    ("no risk without a heartbeat", no_risk_without_heartbeat),
    ("one exchange call per key", one_call_per_key),
    ("an outage fails closed without retry", outage_fails_closed),
    ("pause blocks entries", pause_blocks_entries),
    ("flatten works while paused", flatten_while_paused),
    ("kill cancels and blocks", kill_cancels_and_blocks),
    ("a refused dead-man blocks", refused_dead_man_blocks),
    ("rate limit", rate_limit),
    ("daily loss", daily_loss),
];

/// Runs all drills.
pub fn run() -> Vec<Drill> {
    DRILLS
        .map(|(name, steps)| {
            let mut dry = DryRun::new();
            let failure = steps(&mut dry).err();
            let adapter = dry.executor.adapter();
            let orders_placed_live = if adapter.is_live() { adapter.placed.len() as u64 } else { 0 };
            Drill { name, failure, orders_placed_live }
        })
        .into()
}

/// The executor under test, and a clock that a drill advances.
struct DryRun {
    executor: LiveExecutor<RecordingAdapter>,
    now: f64,
    /// Orders submitted so far, for distinct idempotency keys.
    orders: u64,
}

impl DryRun {
    fn new() -> Self {
        let context = OperatorContext::production_parity();
        let executor = LiveExecutor::dry_run(RecordingAdapter::default(), context, 1_000.0);
        Self { executor, now: 1_000_000.0, orders: 0 }
    }

    fn heartbeat(&mut self) -> Result<(), String> {
        self.executor.heartbeat(self.now).map_err(|error| format!("the heartbeat was refused: {error}"))
    }

    fn order(&mut self, reduce_only: bool) -> LiveRecord {
        self.orders += 1;
        let key = format!("drill-{}", self.orders);
        self.submit(&key, reduce_only)
    }

    fn submit(&mut self, key: &str, reduce_only: bool) -> LiveRecord {
        let order = Order {
            symbol: "DRILL".to_owned(),
            side: if reduce_only { Side::Sell } else { Side::Buy },
            quantity: 1.0,
            price: 100.0,
            confidence: 1.0,
            reduce_only,
        };
        self.executor.submit(&order, key, "drill", self.now)
    }

    fn calls(&self) -> usize {
        self.executor.adapter().placed.len()
    }
}

fn expect(condition: bool, failure: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(failure.to_owned()) }
}

fn expect_refused(record: &LiveRecord, refusal: Refusal) -> Result<(), String> {
    let refused =
        record.status == LiveStatus::Refused && !record.accepted && record.reason == refusal.reason();
    expect(
        refused,
        &format!("expected `{}`, found {:?} `{}`", refusal.reason(), record.status, record.reason),
    )
}

fn expect_placed(record: &LiveRecord) -> Result<(), String> {
    let placed = record.status == LiveStatus::Placed && record.accepted;
    expect(placed, &format!("expected a placed order, found {:?} `{}`", record.status, record.reason))
}

fn heartbeat_arms(dry: &mut DryRun) -> Result<(), String> {
    dry.heartbeat()?;
    let deadline = dry.executor.adapter().deadline;
    expect(deadline == Some(dry.now + DEAD_MAN_SECONDS), "the exchange did not arm its dead-man switch")?;
    expect_placed(&dry.order(false))?;
    dry.now += DEAD_MAN_SECONDS;
    expect_placed(&dry.order(false))?;
    dry.now += 0.001;
    expect_refused(&dry.order(false), Refusal::DeadMan)
}

fn no_risk_without_heartbeat(dry: &mut DryRun) -> Result<(), String> {
    expect_refused(&dry.order(false), Refusal::DeadMan)?;
    expect(dry.calls() == 0, "the exchange was called")
}

fn one_call_per_key(dry: &mut DryRun) -> Result<(), String> {
    dry.heartbeat()?;
    let first = dry.submit("same", false);
    expect_placed(&first)?;
    dry.now += 1.0;
    let again = dry.submit("same", false);
    expect(again == first, "the second record differs from the first")?;
    expect(dry.calls() == 1, "the exchange was called twice")
}

fn outage_fails_closed(dry: &mut DryRun) -> Result<(), String> {
    dry.heartbeat()?;
    dry.executor.set_outage(Some("connection reset"));
    let failed = dry.submit("same", false);
    expect(failed.status == LiveStatus::ExchangeError && !failed.accepted, "the failure was not recorded")?;
    dry.executor.set_outage(None);
    let again = dry.submit("same", false);
    expect(again == failed, "the failed order was retried")?;
    expect(dry.calls() == 1, "the exchange was called twice")
}

fn pause_blocks_entries(dry: &mut DryRun) -> Result<(), String> {
    dry.heartbeat()?;
    dry.executor.pause();
    expect_refused(&dry.order(false), Refusal::Paused)?;
    expect_placed(&dry.order(true))?;
    dry.executor.resume();
    expect_placed(&dry.order(false))
}

fn flatten_while_paused(dry: &mut DryRun) -> Result<(), String> {
    dry.heartbeat()?;
    dry.executor.pause();
    let mut book = Book::default();
    book.set("LONG", Position { quantity: 2.0, avg_price: 10.0 });
    book.set("SHORT", Position { quantity: -3.0, avg_price: 10.0 });
    let records = dry.executor.flatten(&book, "flatten", dry.now);
    expect(records.len() == 2, "a position was left open")?;
    records.iter().try_for_each(expect_placed)?;
    let placed = &dry.executor.adapter().placed;
    expect(placed.iter().all(|order| order.reduce_only), "an order was not reduce-only")?;
    let closes = |symbol: &str, side, quantity| {
        placed.iter().any(|order| order.symbol == symbol && order.side == side && order.quantity == quantity)
    };
    expect(
        closes("LONG", Side::Sell, 2.0) && closes("SHORT", Side::Buy, 3.0),
        "an order does not close its position",
    )
}

fn kill_cancels_and_blocks(dry: &mut DryRun) -> Result<(), String> {
    dry.heartbeat()?;
    dry.executor.kill().map_err(|error| error.to_string())?;
    expect(dry.executor.adapter().cancelled == 1, "the open orders were not cancelled")?;
    expect_refused(&dry.order(false), Refusal::Killed)?;
    expect_refused(&dry.order(true), Refusal::Killed)?;
    dry.executor.resume();
    expect_refused(&dry.order(true), Refusal::Killed)
}

fn refused_dead_man_blocks(dry: &mut DryRun) -> Result<(), String> {
    dry.executor.set_outage(Some("not available"));
    expect(dry.executor.heartbeat(dry.now).is_err(), "the heartbeat was accepted")?;
    dry.executor.set_outage(None);
    expect_refused(&dry.order(false), Refusal::DeadMan)?;
    expect(dry.calls() == 0, "the exchange was called")
}

fn rate_limit(dry: &mut DryRun) -> Result<(), String> {
    dry.heartbeat()?;
    for _ in 0..RATE_LIMIT_ORDERS {
        expect_placed(&dry.order(false))?;
    }
    expect_refused(&dry.order(false), Refusal::RateLimit)?;
    expect_placed(&dry.order(true))?;
    dry.now += RATE_WINDOW_SECONDS;
    dry.heartbeat()?;
    expect_placed(&dry.order(false))
}

fn daily_loss(dry: &mut DryRun) -> Result<(), String> {
    dry.heartbeat()?;
    dry.executor.add_loss(DAILY_LOSS_LIMIT_USD - 0.01);
    expect_placed(&dry.order(false))?;
    dry.executor.add_loss(0.01);
    expect_refused(&dry.order(false), Refusal::DailyLoss)?;
    expect_placed(&dry.order(true))
}
