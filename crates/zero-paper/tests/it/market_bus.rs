//! Writes buses of runs on market data, event by event as `docs/FORMAT.md` describes them, without
//! the runtime: readers are tested against the format and not against the code that writes it.
//!
//! Other crates include this file, so it uses only `zero-bus`, `serde_json` and the standard
//! library.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use zero_bus::{Bus, Checksum, Draft, Json};

/// The close time of the first bar.
pub(crate) const START: f64 = 1_777_593_600.0;

pub(crate) const START_CASH_USD: f64 = 5_000.0;

/// Writes a run of `cycles` cycles on two symbols. The seed determines prices and orders.
pub(crate) fn write_run(dir: &Path, seed: u64, cycles: u64) {
    let bus = Bus::open(dir).unwrap();
    let mut run = Run::new(&bus, seed);
    for _ in 0..cycles {
        run.cycle();
    }
}

/// A pseudo-random sequence (xorshift).
struct Numbers(u64);

impl Numbers {
    /// A number from 0 to `bound - 1`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A number between -1 and 1.
    fn signed(&mut self) -> f64 {
        self.below(2_000_001) as f64 / 1e6 - 1.0
    }
}

#[derive(Clone)]
struct Order {
    record: Value,
    symbol: String,
    signed: f64,
    limit_price: Option<f64>,
    bars: u64,
}

struct Run<'a> {
    bus: &'a Bus,
    numbers: Numbers,
    cycle_id: u64,
    prices: BTreeMap<&'static str, f64>,
    /// Quantity and average price.
    positions: BTreeMap<String, (f64, f64)>,
    open_orders: Vec<Order>,
    cash: f64,
    realized: f64,
    fees: f64,
    peak: f64,
    fills: u64,
    decisions: u64,
    rejections: u64,
    failures: u64,
    /// The events of the cycle so far.
    batch: Vec<Draft>,
}

const SYMBOLS: [&str; 2] = ["BTC", "ETH"];
const MAX_NOTIONAL: f64 = 900.0;
const MIN_CONFIDENCE: f64 = 0.25;
const MAX_GROSS: f64 = 1500.0;
const HALF_SPREAD_AND_SLIPPAGE_BPS: f64 = 3.0;
const FEE_BPS: f64 = 5.0;

impl<'a> Run<'a> {
    fn new(bus: &'a Bus, seed: u64) -> Self {
        Self {
            bus,
            numbers: Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            cycle_id: 0,
            prices: BTreeMap::from([("BTC", 640.0), ("ETH", 31.0)]),
            positions: BTreeMap::new(),
            open_orders: Vec::new(),
            cash: START_CASH_USD,
            realized: 0.0,
            fees: 0.0,
            peak: START_CASH_USD,
            fills: 0,
            decisions: 0,
            rejections: 0,
            failures: 0,
            batch: Vec::new(),
        }
    }

    fn as_of(&self) -> f64 {
        START + self.cycle_id as f64 * 60.0
    }

    fn append(&mut self, event_type: &str, payload: &Value) {
        let draft = Draft {
            event_type: event_type.into(),
            as_of: self.as_of(),
            payload: Json::of(payload).unwrap(),
            trace_id: Some(format!("runtime-cycle-{}", self.cycle_id)),
        };
        self.batch.push(draft);
    }

    fn equity(&self) -> f64 {
        let value = |(symbol, (quantity, _)): (&String, &(f64, f64))| quantity * self.prices[symbol.as_str()];
        self.cash + self.positions.iter().map(value).fold(0.0, |sum, value| sum + value)
    }

    fn unrealized(&self) -> f64 {
        let profit = |(symbol, (quantity, average)): (&String, &(f64, f64))| {
            quantity * (self.prices[symbol.as_str()] - average)
        };
        self.positions.iter().map(profit).fold(0.0, |sum, profit| sum + profit)
    }

    fn position_records(&self) -> Vec<Value> {
        let record = |(symbol, (quantity, average)): (&String, &(f64, f64))| {
            let mark = self.prices[symbol.as_str()];
            json!({
                "symbol": symbol, "quantity": quantity, "avg_price": average, "mark_price": mark,
                "notional_usd": cents((quantity * average).abs()), "unrealized_pnl_usd": quantity * (mark - average),
            })
        };
        self.positions.iter().map(record).collect()
    }

    fn open_order_records(&self) -> Vec<Value> {
        self.open_orders.iter().map(|order| order.record.clone()).collect()
    }

    /// Fills an order and returns the fill record.
    fn fill(&mut self, order: &Order, reference: f64, price: f64) -> Value {
        let (quantity, side) = (order.signed.abs(), side(order.signed));
        let fee = quantity * price * FEE_BPS / 10_000.0;
        self.cash -= order.signed * price;
        self.cash -= fee;
        self.fees += fee;
        self.fills += 1;
        let (held, average) = self.positions.remove(&order.symbol).unwrap_or_default();
        let after = held + order.signed;
        let mut realized = 0.0;
        let average = if held == 0.0 || (held > 0.0) == (order.signed > 0.0) {
            (average * held.abs() + price * quantity) / after.abs()
        } else {
            let crosses = after != 0.0 && (after > 0.0) != (held > 0.0);
            realized = if crosses { held.abs() } else { quantity } * (price - average) * held.signum();
            if crosses { price } else { average }
        };
        self.realized += realized;
        if after != 0.0 {
            self.positions.insert(order.symbol.clone(), (after, average));
        }
        json!({
            "schema_version": "zero.paper.fill.v2", "as_of": self.as_of(), "fill_id": format!("fill-{}", self.fills),
            "order_id": order.record["order_id"], "symbol": order.symbol, "side": side, "quantity": quantity,
            "price": price, "reference_price": reference, "notional_usd": cents(quantity * price), "fee_usd": fee,
            "realized_pnl_usd": realized,
        })
    }

    /// Fills the open orders at the opens of this bar, or lets them expire.
    fn settle(&mut self, candles: &[Value]) -> (Vec<Value>, Vec<Value>) {
        let (mut fills, mut expired) = (Vec::new(), Vec::new());
        for mut order in std::mem::take(&mut self.open_orders) {
            let candle = candles.iter().find(|candle| candle["symbol"] == order.symbol).unwrap();
            let number = |key: &str| candle[key].as_f64().unwrap();
            let open = number("open");
            let Some(limit) = order.limit_price else {
                let factor = 1.0 + order.signed.signum() * HALF_SPREAD_AND_SLIPPAGE_BPS / 10_000.0;
                fills.push(self.fill(&order, open, open * factor));
                continue;
            };
            let buys = order.signed > 0.0;
            order.bars += 1;
            if if buys { number("low") < limit } else { number("high") > limit } {
                let price = if buys { open.min(limit) } else { open.max(limit) };
                fills.push(self.fill(&order, price, price));
            } else if order.bars >= 2 {
                let mut record = order.record.clone();
                record["reason"] = json!("not filled within 2 bars");
                expired.push(record);
            } else {
                self.open_orders.push(order);
            }
        }
        (fills, expired)
    }

    fn candles(&mut self) -> Vec<Value> {
        let mut candles = Vec::new();
        for symbol in SYMBOLS {
            let open = self.prices[symbol] * (1.0 + self.numbers.signed() * 0.005);
            let close = open * (1.0 + self.numbers.signed() * 0.03);
            let (high, low) = (open.max(close) * 1.001, open.min(close) * 0.999);
            self.prices.insert(symbol, close);
            candles.push(json!({
                "symbol": symbol, "ts": self.as_of() - 60.0, "open": open, "high": high, "low": low, "close": close,
                "volume": self.numbers.below(1000) as f64,
            }));
        }
        candles
    }

    /// Decides about one intent. Returns the decision, its event types and payloads.
    fn decide(&mut self, intent: &Value, k: usize) -> Vec<(&'static str, Value)> {
        let (symbol, number) =
            (intent["symbol"].as_str().unwrap(), |key: &str| intent[key].as_f64().unwrap());
        let signed = if intent["side"] == "buy" { number("quantity") } else { -number("quantity") };
        let price = self.prices[symbol];
        let notional = number("quantity") * price;
        let held = |symbol: &str| self.positions.get(symbol).map_or(0.0, |(quantity, _)| *quantity);
        let gross: f64 = SYMBOLS
            .iter()
            .map(|other| {
                let added = if *other == symbol { signed } else { 0.0 };
                ((held(other) + added) * self.prices[other]).abs()
            })
            .sum();
        let reduces = (held(symbol) + signed).abs() < held(symbol).abs();
        let limit =
            |name: &str, bound: f64, value: f64| Some(json!({"name": name, "bound": bound, "value": value}));
        let (reason, limit) = if reduces {
            ("allowed", None)
        } else if number("confidence") < MIN_CONFIDENCE {
            ("confidence below minimum", limit("min_confidence", MIN_CONFIDENCE, number("confidence")))
        } else if notional > MAX_NOTIONAL {
            ("order notional exceeds limit", limit("max_notional_usd", MAX_NOTIONAL, notional))
        } else if gross > MAX_GROSS {
            ("gross exposure exceeds limit", limit("max_gross_exposure_usd", MAX_GROSS, gross))
        } else {
            ("allowed", None)
        };
        let key = format!("runtime-drift-{}-{k}", self.cycle_id);
        let order_id = format!("0x{}", &Checksum::of(key.as_bytes()).to_string()["sha256:".len()..][..32]);
        let allowed = limit.is_none();
        let mut decision = json!({
            "schema_version": "zero.paper.decision.v2", "allowed": allowed, "as_of": self.as_of(),
            "confidence": intent["confidence"], "idempotency_key": key, "notional_usd": cents(notional),
            "order_id": order_id, "price": price, "quantity": intent["quantity"], "reason": reason,
            "reduce_only": false, "side": intent["side"], "source": "runtime:drift", "strategy_reason": intent["reason"],
            "symbol": symbol, "trace_id": format!("runtime-cycle-{}", self.cycle_id),
        });
        if let Some(limit) = limit {
            decision["limit"] = limit;
        }
        let limit_price = intent.get("limit_price").and_then(Value::as_f64);
        if let Some(limit_price) = limit_price {
            decision["limit_price"] = json!(limit_price);
        }
        self.decisions += 1;
        let outcome = if allowed {
            let mut record = json!({
                "schema_version": "zero.paper.order.v1", "order_id": order_id, "idempotency_key": key,
                "symbol": symbol, "side": intent["side"], "quantity": intent["quantity"], "reduce_only": false,
                "opened_as_of": self.as_of(), "cycle_id": self.cycle_id,
            });
            if let Some(limit_price) = limit_price {
                record["limit_price"] = json!(limit_price);
            }
            let symbol = symbol.to_owned();
            self.open_orders.push(Order { record: record.clone(), symbol, signed, limit_price, bars: 0 });
            ("order.open", record)
        } else {
            self.rejections += 1;
            ("rejection.record", decision.clone())
        };
        vec![("decision.record", decision), outcome]
    }

    fn intents(&mut self) -> Vec<Value> {
        let count = self.numbers.below(3);
        let mut intents = Vec::new();
        for _ in 0..count {
            let symbol = SYMBOLS[self.numbers.below(2) as usize];
            let quantity = (self.numbers.below(40) + 1) as f64 / if symbol == "BTC" { 25.0 } else { 1.0 };
            let side = if self.numbers.below(2) == 0 { "buy" } else { "sell" };
            let confidence = self.numbers.below(101) as f64 / 100.0;
            let mut intent = json!({
                "symbol": symbol, "side": side, "quantity": quantity, "confidence": confidence,
                "reason": "drift", "reduce_only": false, "key": null,
            });
            if self.numbers.below(4) == 0 {
                let towards = if side == "buy" { 0.99 } else { 1.01 };
                intent["limit_price"] = json!(self.prices[symbol] * towards);
            }
            intents.push(intent);
        }
        intents
    }

    fn cycle(&mut self) {
        self.cycle_id += 1;
        let as_of = self.as_of();
        let before = (self.decisions, self.fills, self.rejections);
        let candles = self.candles();
        let (fills, expired) = self.settle(&candles);
        let equity = self.equity();
        self.peak = self.peak.max(equity);
        let drawdown_pct = (self.peak - equity) / self.peak * 100.0;
        let observe = json!({
            "phase": "observe", "cycle_id": self.cycle_id, "market_source": "synthetic", "scenario": "drift",
            "ts": as_of - 60.0, "close_ts": as_of, "decisions_seen": before.0, "fills_seen": before.1,
            "rejections_seen": before.2, "open_positions": self.position_records(),
            "open_orders": self.open_order_records(), "cash_usd": self.cash, "equity_usd": equity,
        });
        let notionals = self.position_records();
        let total: f64 = notionals.iter().map(|record| record["notional_usd"].as_f64().unwrap()).sum();
        let gross: f64 = self.positions.iter().map(|(s, (q, _))| (q * self.prices[s.as_str()]).abs()).sum();
        let posture = if self.positions.is_empty() { "flat" } else { "exposed" };
        let orient = json!({
            "phase": "orient", "risk_posture": posture, "stale_data": false, "data_age_s": null,
            "limits": {"max_notional_usd": MAX_NOTIONAL, "max_position_notional_usd": 2500.0,
                "min_confidence": MIN_CONFIDENCE, "max_gross_exposure_usd": MAX_GROSS},
            "total_position_notional_usd": cents(total + 0.0), "gross_exposure_usd": gross + 0.0, "daily_loss_usd": 0.0,
            "drawdown_pct": drawdown_pct, "orders_last_minute": 0, "day_start_equity_usd": START_CASH_USD,
            "worst_daily_loss_usd": 0.0, "fill": "next_open", "limit_bars": 2, "reduce_only_rule": "enforce",
            "trading_mode": "open",
            "costs": {"fee_bps": FEE_BPS, "half_spread_bps": 1.0, "slippage_bps": HALF_SPREAD_AND_SLIPPAGE_BPS - 1.0},
        });
        let strategy = json!({"name": "drift", "version": "1", "sha256": Checksum::of(b"drift").to_string()});
        let failed = self.numbers.below(25) == 0;
        let intents = if failed { Vec::new() } else { self.intents() };
        let mut decide = json!({
            "phase": "decide", "risk_posture": posture, "source": "runtime:drift", "strategy": strategy,
            "intents": intents,
        });
        if failed {
            decide["failure"] =
                json!({"kind": "timeout", "on_failure": "hold", "reason": "no answer within 5 s"});
            self.failures += 1;
        } else if intents.is_empty() {
            decide["hold_reason"] = json!("no signal");
        }
        let mut events = Vec::new();
        for (k, intent) in intents.iter().enumerate() {
            events.extend(self.decide(intent, k + 1));
        }
        let payloads = |wanted: &str| {
            let wanted = events.iter().filter(|(event_type, _)| *event_type == wanted);
            wanted.map(|(_, payload)| payload.clone()).collect::<Vec<_>>()
        };
        let act = json!({
            "phase": "act", "fills": fills, "expired": expired, "decisions": payloads("decision.record"),
            "opened": payloads("order.open"), "immediate_fills": [],
        });
        let counts = json!({
            "decisions": self.decisions, "fills": self.fills, "rejections": self.rejections,
            "open_positions": self.positions.len(), "open_orders": self.open_orders.len(), "failures": self.failures,
        });
        let mut learn = counts.clone();
        learn["phase"] = json!("learn");
        self.append(
            "market.observation",
            &json!({
                "schema_version": "zero.market.observation.v1", "cycle_id": self.cycle_id, "source": "synthetic",
                "ts": as_of - 60.0, "close_ts": as_of, "interval_s": 60.0, "candles": candles,
            }),
        );
        self.append(
            "runtime.cycle",
            &json!({
                "schema_version": "zero.runtime.cycle.v2", "as_of": as_of, "cycle_id": self.cycle_id, "mode": "paper",
                "observe": observe, "orient": orient, "decide": decide, "act": act, "learn": learn,
            }),
        );
        if failed {
            self.append(
                "strategy.failed",
                &json!({
                    "schema_version": "zero.strategy.failed.v1", "cycle_id": self.cycle_id, "strategy": strategy,
                    "kind": "timeout", "reason": "no answer within 5 s", "on_failure": "hold",
                }),
            );
        }
        fills.iter().for_each(|fill| self.append("fill.record", fill));
        expired.iter().for_each(|order| self.append("order.expired", order));
        events.iter().for_each(|(event_type, payload)| self.append(event_type, payload));
        self.append(
            "position.snapshot",
            &json!({
                "schema_version": "zero.paper.positions.v2", "positions": self.position_records(),
                "cash_usd": self.cash, "equity_usd": equity, "realized_pnl_usd": self.realized,
                "unrealized_pnl_usd": self.unrealized(), "fees_usd": self.fees, "peak_equity_usd": self.peak,
                "drawdown_pct": drawdown_pct,
            }),
        );
        let mut health = counts;
        health["schema_version"] = json!("zero.runtime.health.v2");
        health["last_cycle_id"] = json!(self.cycle_id);
        health["mode"] = json!("paper");
        self.append("runtime.health", &health);
        self.bus.append_batch(std::mem::take(&mut self.batch)).unwrap();
    }
}

fn side(signed: f64) -> &'static str {
    if signed > 0.0 { "buy" } else { "sell" }
}

fn cents(usd: f64) -> f64 {
    format!("{usd:.2}").parse().unwrap()
}
