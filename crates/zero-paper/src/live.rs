//! The live path, disabled. A [`LiveExecutor`] checks every order before it reaches an exchange
//! adapter. Only an executor of a [`RecordingAdapter`] can be enabled; for any other adapter, the
//! type system allows a disabled executor only.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use zero_bus::{Checksum, Json};

use crate::position::{Book, to_cents};
use crate::scenario::{Order, Side};

/// A heartbeat allows orders for this long.
pub const DEAD_MAN_SECONDS: f64 = 30.0;
/// A daily loss of this much or more, in USD, blocks risk-increasing orders.
pub const DAILY_LOSS_LIMIT_USD: f64 = 250.0;
/// Largest number of orders within [`RATE_WINDOW_SECONDS`]; further risk-increasing orders are
/// refused.
pub const RATE_LIMIT_ORDERS: usize = 6;
/// Window of the rate limit.
pub const RATE_WINDOW_SECONDS: f64 = 60.0;

/// The connection to an exchange.
pub trait ExchangeAdapter {
    /// Returns the adapter's name in records.
    fn name(&self) -> &'static str;

    /// Returns whether its orders move money.
    fn is_live(&self) -> bool;

    /// Places an order and returns the exchange's response.
    ///
    /// # Errors
    /// The exchange or the connection failed. It is then unknown whether the order was placed.
    fn place(&mut self, order: &ExchangeOrder) -> Result<Json, ExchangeError>;

    /// Cancels all open orders.
    ///
    /// # Errors
    /// The exchange or the connection failed.
    fn cancel_all(&mut self) -> Result<(), ExchangeError>;

    /// Arms the exchange's dead-man switch: at `deadline`, the exchange cancels all open orders
    /// unless this call is repeated before.
    ///
    /// # Errors
    /// The exchange or the connection failed.
    fn arm_dead_man(&mut self, deadline: f64) -> Result<(), ExchangeError>;
}

/// A failure of the exchange or of the connection to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExchangeError(pub String);

/// An order in the form that is sent to the exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeOrder {
    /// `0x` and the first 32 hex digits of SHA-256 of the idempotency key.
    pub client_order_id: String,
    /// Symbol of the instrument.
    pub symbol: String,
    /// Buy or sell.
    pub side: Side,
    /// Quantity.
    pub quantity: f64,
    /// Price in USD.
    pub price: f64,
    /// Whether the exchange may only reduce a position with it.
    pub reduce_only: bool,
}

/// An adapter that records its calls and has no exchange.
#[derive(Debug, Default)]
pub struct RecordingAdapter {
    /// The orders of all `place` calls, including those that returned an error.
    pub placed: Vec<ExchangeOrder>,
    /// Number of `cancel_all` calls.
    pub cancelled: u64,
    /// Deadline of the last successful `arm_dead_man` call.
    pub deadline: Option<f64>,
    /// While set, every call fails with this reason.
    pub outage: Option<String>,
}

impl RecordingAdapter {
    fn unless_outage<T>(&self, response: T) -> Result<T, ExchangeError> {
        self.outage.clone().map_or(Ok(response), |outage| Err(ExchangeError(outage)))
    }
}

impl ExchangeAdapter for RecordingAdapter {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn is_live(&self) -> bool {
        false
    }

    fn place(&mut self, order: &ExchangeOrder) -> Result<Json, ExchangeError> {
        self.placed.push(order.clone());
        let response =
            BTreeMap::from([("client_order_id", order.client_order_id.as_str()), ("status", "recorded")]);
        self.unless_outage(Json::of(&response).map_err(|error| ExchangeError(error.to_string()))?)
    }

    fn cancel_all(&mut self) -> Result<(), ExchangeError> {
        self.cancelled += 1;
        self.unless_outage(())
    }

    fn arm_dead_man(&mut self, deadline: f64) -> Result<(), ExchangeError> {
        self.unless_outage(())?;
        self.deadline = Some(deadline);
        Ok(())
    }
}

/// Reasons to refuse an order, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The executor is not enabled.
    Disabled,
    /// The kill switch was used.
    Killed,
    /// Entries are paused, and the order is not reduce-only.
    Paused,
    /// There was no accepted heartbeat within [`DEAD_MAN_SECONDS`].
    DeadMan,
    /// The daily loss is at [`DAILY_LOSS_LIMIT_USD`] or above.
    DailyLoss,
    /// The order's notional exceeds the executor's limit.
    OrderNotional,
    /// [`RATE_LIMIT_ORDERS`] orders were sent within [`RATE_WINDOW_SECONDS`].
    RateLimit,
}

impl Refusal {
    /// Returns the reason in records. Other programs read it, so it never changes.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Disabled => "live executor disabled",
            Self::Killed => "kill switch active",
            Self::Paused => "live entries paused",
            Self::DeadMan => "dead-man switch expired",
            Self::DailyLoss => "daily loss limit reached",
            Self::OrderNotional => "live order notional exceeds limit",
            Self::RateLimit => "live order rate limit exceeded",
        }
    }
}

/// The outcome of a submitted order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveStatus {
    /// The exchange accepted the order.
    Placed,
    /// The order was not sent.
    Refused,
    /// The order was sent and the adapter returned an error. It is never retried.
    ExchangeError,
}

/// The party on whose behalf an order is submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorContext {
    handle: &'static str,
    operator_id: &'static str,
    role: &'static str,
    schema_version: &'static str,
    scope: &'static str,
    source: &'static str,
}

impl OperatorContext {
    /// Returns the context of the parity harness.
    pub fn production_parity() -> Self {
        Self {
            handle: "production-parity-harness",
            operator_id: "production-parity-harness",
            role: "system",
            schema_version: "zero.operator_context.v1",
            scope: "public-proof",
            source: "zero.runtime.production_parity",
        }
    }
}

/// The record of an order that was submitted for live execution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveRecord {
    /// Whether the exchange accepted the order.
    pub accepted: bool,
    /// Time of the submission, in seconds since the Unix epoch.
    pub as_of: f64,
    /// The exchange's response; an empty object if there is none.
    pub exchange_response: Json,
    /// Idempotency key of the submission.
    pub idempotency_key: String,
    notional_usd: f64,
    operator_context: OperatorContext,
    price: f64,
    quantity: f64,
    /// The refusal or error; `placed` if the order was accepted.
    pub reason: String,
    reduce_only: bool,
    side: Side,
    /// Outcome of the submission.
    pub status: LiveStatus,
    symbol: String,
    trace_id: String,
}

/// Submits orders to an exchange adapter unless one of the [refusals](Refusal) applies.
#[derive(Debug)]
pub struct LiveExecutor<A> {
    adapter: A,
    context: OperatorContext,
    max_order_notional_usd: f64,
    enabled: bool,
    killed: bool,
    paused: bool,
    last_heartbeat: Option<f64>,
    daily_loss_usd: f64,
    /// Send times of the orders within the rate window, oldest first.
    sent: VecDeque<f64>,
    /// Record of each submission by idempotency key. A key is submitted at most once.
    records: BTreeMap<String, LiveRecord>,
}

impl<A: ExchangeAdapter> LiveExecutor<A> {
    /// Creates an executor that refuses every order.
    pub fn disabled(adapter: A, context: OperatorContext, max_order_notional_usd: f64) -> Self {
        Self {
            adapter,
            context,
            max_order_notional_usd,
            enabled: false,
            killed: false,
            paused: false,
            last_heartbeat: None,
            daily_loss_usd: 0.0,
            sent: VecDeque::new(),
            records: BTreeMap::new(),
        }
    }

    /// Records a sign of life of the operator. Arms the exchange's dead-man switch first, then
    /// allows orders for [`DEAD_MAN_SECONDS`].
    ///
    /// # Errors
    /// The exchange did not arm its switch. The heartbeat then does not count.
    pub fn heartbeat(&mut self, as_of: f64) -> Result<(), ExchangeError> {
        self.adapter.arm_dead_man(as_of + DEAD_MAN_SECONDS)?;
        self.last_heartbeat = Some(as_of);
        Ok(())
    }

    /// Blocks risk-increasing orders, until [`LiveExecutor::resume`].
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Allows risk-increasing orders again. Does not undo a kill.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Blocks all orders for good and cancels the open ones.
    ///
    /// # Errors
    /// The exchange did not cancel the open orders. All new orders are blocked nevertheless.
    pub fn kill(&mut self) -> Result<(), ExchangeError> {
        self.killed = true;
        self.adapter.cancel_all()
    }

    /// Adds to the daily loss. A loss that is not finite counts as [`DAILY_LOSS_LIMIT_USD`].
    pub fn add_loss(&mut self, usd: f64) {
        self.daily_loss_usd += if usd.is_finite() { usd } else { DAILY_LOSS_LIMIT_USD };
    }

    /// Resets the daily loss to 0.
    pub fn begin_day(&mut self) {
        self.daily_loss_usd = 0.0;
    }

    /// Closes every open position with a reduce-only order at the position's average price. The
    /// idempotency keys are `key` and the symbol, so a repeated flatten sends nothing.
    pub fn flatten(&mut self, book: &Book, key: &str, as_of: f64) -> Vec<LiveRecord> {
        let orders = book.iter().map(|(symbol, position)| Order {
            symbol: symbol.to_owned(),
            side: if position.quantity > 0.0 { Side::Sell } else { Side::Buy },
            quantity: position.quantity.abs(),
            price: position.avg_price,
            confidence: 1.0,
            reduce_only: true,
        });
        orders.map(|order| self.submit(&order, &format!("{key}-{}", order.symbol), key, as_of)).collect()
    }

    /// Submits an order. A repeated key returns the record of its first submission and sends
    /// nothing.
    pub fn submit(&mut self, order: &Order, idempotency_key: &str, trace_id: &str, as_of: f64) -> LiveRecord {
        if let Some(record) = self.records.get(idempotency_key) {
            return record.clone();
        }
        let (status, reason, exchange_response) = match self.refusal(order, as_of) {
            Some(refusal) => (LiveStatus::Refused, refusal.reason().to_owned(), None),
            None => self.send(order, idempotency_key, as_of),
        };
        let record = LiveRecord {
            accepted: status == LiveStatus::Placed,
            as_of,
            exchange_response: exchange_response.unwrap_or_else(Json::empty_object),
            idempotency_key: idempotency_key.to_owned(),
            notional_usd: to_cents(order.notional_usd()),
            operator_context: self.context.clone(),
            price: order.price,
            quantity: order.quantity,
            reason,
            reduce_only: order.reduce_only,
            side: order.side,
            status,
            symbol: order.symbol.clone(),
            trace_id: trace_id.to_owned(),
        };
        self.records.insert(idempotency_key.to_owned(), record.clone());
        record
    }

    /// Returns the exchange adapter.
    pub fn adapter(&self) -> &A {
        &self.adapter
    }

    fn refusal(&mut self, order: &Order, as_of: f64) -> Option<Refusal> {
        while self.sent.front().is_some_and(|sent| as_of - sent >= RATE_WINDOW_SECONDS) {
            self.sent.pop_front();
        }
        let entry = !order.reduce_only;
        // False for NaN, which is thus refused.
        let within_limit = order.notional_usd() <= self.max_order_notional_usd;
        let has_heartbeat = self
            .last_heartbeat
            .is_some_and(|heartbeat| (0.0..=DEAD_MAN_SECONDS).contains(&(as_of - heartbeat)));
        [
            (!self.enabled, Refusal::Disabled),
            (self.killed, Refusal::Killed),
            (entry && self.paused, Refusal::Paused),
            (!has_heartbeat, Refusal::DeadMan),
            (entry && self.daily_loss_usd >= DAILY_LOSS_LIMIT_USD, Refusal::DailyLoss),
            (entry && !within_limit, Refusal::OrderNotional),
            (entry && self.sent.len() >= RATE_LIMIT_ORDERS, Refusal::RateLimit),
        ]
        .into_iter()
        .find_map(|(applies, refusal)| applies.then_some(refusal))
    }

    fn send(&mut self, order: &Order, key: &str, as_of: f64) -> (LiveStatus, String, Option<Json>) {
        self.sent.push_back(as_of);
        let order = ExchangeOrder {
            client_order_id: client_order_id(key),
            symbol: order.symbol.clone(),
            side: order.side,
            quantity: order.quantity,
            price: order.price,
            reduce_only: order.reduce_only,
        };
        match self.adapter.place(&order) {
            Ok(response) => (LiveStatus::Placed, "placed".to_owned(), Some(response)),
            // It is unknown whether the order arrived, so it must not be sent again.
            Err(error) => (LiveStatus::ExchangeError, error.to_string(), None),
        }
    }
}

impl LiveExecutor<RecordingAdapter> {
    /// Creates an enabled executor of a recording adapter, for drills that exercise each refusal.
    /// No constructor enables an executor of another adapter.
    pub fn dry_run(adapter: RecordingAdapter, context: OperatorContext, max_order_notional_usd: f64) -> Self {
        Self { enabled: true, ..Self::disabled(adapter, context, max_order_notional_usd) }
    }

    /// Makes every adapter call fail with this reason until the next call with `None`.
    pub fn set_outage(&mut self, outage: Option<&str>) {
        self.adapter.outage = outage.map(str::to_owned);
    }
}

/// Returns the client order id of a key: `0x` and the first 32 hex digits of its SHA-256.
pub fn client_order_id(idempotency_key: &str) -> String {
    let digits = Checksum::of(idempotency_key.as_bytes()).to_string();
    format!("0x{}", &digits["sha256:".len()..][..32])
}
