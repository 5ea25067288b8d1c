//! The live path, closed. [`LiveExecutor`] stands in front of an exchange adapter and refuses everything it
//! has a reason to refuse; over any adapter but the recording one it can only be had disabled.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use zero_bus::{Checksum, Json};

use crate::position::{Book, to_cents};
use crate::scenario::{Order, Side};

/// A heartbeat keeps the dead-man switch open for this long.
pub const DEAD_MAN_SECONDS: f64 = 30.0;
/// From this loss in a day on, in USD, nothing risk-increasing goes out.
pub const DAILY_LOSS_LIMIT_USD: f64 = 250.0;
/// At most this many orders in [`RATE_WINDOW_SECONDS`].
pub const RATE_LIMIT_ORDERS: usize = 6;
/// The window of the rate limit.
pub const RATE_WINDOW_SECONDS: f64 = 60.0;

/// What an exchange is asked to do.
pub trait ExchangeAdapter {
    /// What it is called in records.
    fn name(&self) -> &'static str;

    /// Whether an order placed here moves money.
    fn is_live(&self) -> bool;

    /// Places an order. Gives the exchange's answer.
    ///
    /// # Errors
    /// What the exchange, or the way to it, reports. Whether the order was placed is unknown then.
    fn place(&mut self, order: &ExchangeOrder) -> Result<Json, ExchangeError>;

    /// Cancels all open orders.
    ///
    /// # Errors
    /// What the exchange, or the way to it, reports.
    fn cancel_all(&mut self) -> Result<(), ExchangeError>;

    /// Asks the exchange to cancel all open orders by itself at a time, unless it hears of us before.
    ///
    /// # Errors
    /// What the exchange, or the way to it, reports.
    fn arm_dead_man(&mut self, deadline: f64) -> Result<(), ExchangeError>;
}

/// An exchange that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExchangeError(pub String);

/// An order as the exchange gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeOrder {
    /// `0x` and the first 32 hex digits of SHA-256 of the idempotency key.
    pub client_order_id: String,
    /// Of what.
    pub symbol: String,
    /// Which way.
    pub side: Side,
    /// How much.
    pub quantity: f64,
    /// At what price in USD.
    pub price: f64,
    /// Whether it may only reduce.
    pub reduce_only: bool,
}

/// An adapter that keeps what it was asked, and does nothing.
#[derive(Debug, Default)]
pub struct RecordingAdapter {
    /// Orders it was asked to place, also those it then failed.
    pub placed: Vec<ExchangeOrder>,
    /// How often it was asked to cancel all orders.
    pub cancelled: u64,
    /// The last deadline it was asked to arm.
    pub deadline: Option<f64>,
    /// Why it fails whatever it is asked, while it does.
    pub outage: Option<String>,
}

impl RecordingAdapter {
    fn answer<T>(&self, answer: T) -> Result<T, ExchangeError> {
        self.outage.clone().map_or(Ok(answer), |outage| Err(ExchangeError(outage)))
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
        self.answer(Json::of(&response).map_err(|error| ExchangeError(error.to_string()))?)
    }

    fn cancel_all(&mut self) -> Result<(), ExchangeError> {
        self.cancelled += 1;
        self.answer(())
    }

    fn arm_dead_man(&mut self, deadline: f64) -> Result<(), ExchangeError> {
        self.answer(())?;
        self.deadline = Some(deadline);
        Ok(())
    }
}

/// Why an order was refused, in the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The executor is not enabled.
    Disabled,
    /// Somebody killed it.
    Killed,
    /// Entries are paused, and this is one.
    Paused,
    /// No accepted heartbeat within [`DEAD_MAN_SECONDS`].
    DeadMan,
    /// The day's loss is at its limit.
    DailyLoss,
    /// The order is worth too much.
    OrderNotional,
    /// Too many orders in too little time.
    RateLimit,
}

impl Refusal {
    /// The words other programs read.
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

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveStatus {
    /// The exchange took it.
    Placed,
    /// It never went out.
    Refused,
    /// It went out and came back as an error. Never tried again.
    ExchangeError,
}

/// On whose behalf an order is handed in.
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
    /// The parity harness.
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

/// The record of an order that was handed in for live execution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveRecord {
    /// Whether the exchange took it.
    pub accepted: bool,
    /// When, in seconds since the Unix epoch.
    pub as_of: f64,
    /// What the exchange answered; empty where it was not asked.
    pub exchange_response: Json,
    /// The key under which it was handed in.
    pub idempotency_key: String,
    notional_usd: f64,
    operator_context: OperatorContext,
    price: f64,
    quantity: f64,
    /// Why.
    pub reason: String,
    reduce_only: bool,
    side: Side,
    /// What became of it.
    pub status: LiveStatus,
    symbol: String,
    trace_id: String,
}

/// Stands in front of an exchange.
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
    /// When the orders of the last minute went out.
    sent: VecDeque<f64>,
    records: BTreeMap<String, LiveRecord>,
}

impl<A: ExchangeAdapter> LiveExecutor<A> {
    /// An executor that refuses everything.
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

    /// Says that the operator is there: asks the exchange to arm its dead-man switch, and where it does,
    /// opens ours for [`DEAD_MAN_SECONDS`].
    ///
    /// # Errors
    /// What the exchange reports. The heartbeat does not count then.
    pub fn heartbeat(&mut self, as_of: f64) -> Result<(), ExchangeError> {
        self.adapter.arm_dead_man(as_of + DEAD_MAN_SECONDS)?;
        self.last_heartbeat = Some(as_of);
        Ok(())
    }

    /// Blocks risk-increasing orders, until [`LiveExecutor::resume`].
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Lets risk-increasing orders through again. Does not undo a kill.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Blocks everything from now on, and cancels all open orders.
    ///
    /// # Errors
    /// What the exchange reports about cancelling; everything is blocked all the same.
    pub fn kill(&mut self) -> Result<(), ExchangeError> {
        self.killed = true;
        self.adapter.cancel_all()
    }

    /// Adds to the day's loss, in USD. A loss that is no number is taken for one at the limit.
    pub fn lose(&mut self, usd: f64) {
        self.daily_loss_usd += if usd.is_finite() { usd } else { DAILY_LOSS_LIMIT_USD };
    }

    /// Begins a new day without losses.
    pub fn begin_day(&mut self) {
        self.daily_loss_usd = 0.0;
    }

    /// Closes every open position by a reduce-only order at its average price. The keys are `key` and the
    /// symbol, so that the same flatten is not sent twice.
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

    /// Hands an order in. A key that was used before gives the first record, without asking the exchange.
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

    /// What it stands in front of.
    pub fn adapter(&self) -> &A {
        &self.adapter
    }

    fn refusal(&mut self, order: &Order, as_of: f64) -> Option<Refusal> {
        while self.sent.front().is_some_and(|sent| as_of - sent >= RATE_WINDOW_SECONDS) {
            self.sent.pop_front();
        }
        let entry = !order.reduce_only;
        // Written so that what is no number is not within it.
        let within_limit = order.notional_usd() <= self.max_order_notional_usd;
        let alive = self
            .last_heartbeat
            .is_some_and(|heartbeat| (0.0..=DEAD_MAN_SECONDS).contains(&(as_of - heartbeat)));
        [
            (!self.enabled, Refusal::Disabled),
            (self.killed, Refusal::Killed),
            (entry && self.paused, Refusal::Paused),
            (!alive, Refusal::DeadMan),
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
            // Whether it arrived is unknown, so it must not be sent again.
            Err(error) => (LiveStatus::ExchangeError, error.to_string(), None),
        }
    }
}

impl LiveExecutor<RecordingAdapter> {
    /// An enabled executor in front of nothing, to show that each of its refusals works. For any other
    /// adapter there is no enabled one.
    pub fn dry_run(adapter: RecordingAdapter, context: OperatorContext, max_order_notional_usd: f64) -> Self {
        Self { enabled: true, ..Self::disabled(adapter, context, max_order_notional_usd) }
    }

    /// The exchange fails whatever it is asked, or, with `None`, works again.
    pub fn set_outage(&mut self, outage: Option<&str>) {
        self.adapter.outage = outage.map(str::to_owned);
    }
}

/// `0x` and the first 32 hex digits of SHA-256 of the key.
pub fn client_order_id(idempotency_key: &str) -> String {
    let digits = Checksum::of(idempotency_key.as_bytes()).to_string();
    format!("0x{}", &digits["sha256:".len()..][..32])
}
