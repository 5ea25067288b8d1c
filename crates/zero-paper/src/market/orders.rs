//! Orders that another program submits, one JSON object per line: each runs one cycle and gets one
//! answer, once it is durable.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use zero_bus::{Checksum, Json, Value};

use crate::candle::Bar;
use crate::error::{Error, Result};
use crate::field::{Field, Problem};
use crate::line_reader::{LineReader, NextLine};
use crate::operator::Command;
use crate::order_record::{OrderDecision, OrderFill, ReachedLimit};
use crate::position::Position;
use crate::risk::TradingMode;
use crate::scenario::Side;
use crate::strategy::{Answer, Intent, StrategyIdentity};
use crate::text::{counted, format_money};

use super::record::{Act, MarketCycle};
use super::runtime::{MarketRuntime, NewCycle};
use super::trading::RunEnd;

/// Longest line.
const MAX_LINE_BYTES: usize = 1 << 20;

/// How long the desk waits for a line before it looks after signals and commands.
const LINE_WAIT: Duration = Duration::from_millis(100);

/// The name of the strategy of submitted orders in the records.
const STRATEGY: &str = "orders";

/// Where orders come from.
pub struct OrderInput {
    lines: LineReader,
    source: String,
}

impl OrderInput {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(input: &str) -> Result<Self> {
        let path = Path::new(input);
        let opened = match input {
            "-" => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
            _ => File::open(path),
        };
        let file = opened.map_err(Error::io("open the orders", path))?;
        Ok(Self { lines: LineReader::new(file, MAX_LINE_BYTES), source: format!("orders:{input}") })
    }
}

/// Takes orders line by line.
pub struct OrderDesk {
    runtime: MarketRuntime,
    lines: LineReader,
    source: String,
    identity: StrategyIdentity,
    /// The decisions by key, if there are no records to look them up in.
    unrecorded: HashMap<String, OrderResult>,
}

/// The answer to a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LineAnswer {
    /// The line was an order, and the decision about it is durable.
    Decided(Box<OrderAnswer>),
    /// The line was no order. Nothing was recorded.
    Invalid {
        /// What is wrong with it.
        error: String,
        /// Number of the line, from 1.
        line: u64,
    },
}

/// The decision about an order, and the account after it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderAnswer {
    /// Cash after this line, in USD.
    pub cash_usd: f64,
    /// Cash plus positions, each at the last price of its symbol, in USD.
    pub equity_usd: f64,
    /// Number of the line, from 1.
    pub line: u64,
    /// The position in the order's symbol after this line; null if it is flat.
    pub position: Option<OrderPosition>,
    /// The key was used before: the result is the earlier one, and the line had no effect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// What was decided.
    #[serde(flatten)]
    pub result: OrderResult,
}

/// What was decided about an order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderResult {
    /// Whether the order was accepted, and so filled.
    pub allowed: bool,
    /// The cycle that decided about it.
    pub cycle_id: u64,
    /// The fill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<OrderFill>,
    /// The limit that rejected the order, with its bound and the order's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ReachedLimit>,
    /// Identifies the order.
    pub order_id: String,
    /// Why the order was accepted or rejected.
    pub reason: String,
}

/// A position in an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderPosition {
    /// Average price in USD.
    pub avg_price: f64,
    /// Quantity; negative for a short position.
    pub quantity: f64,
    /// Symbol of the instrument.
    pub symbol: String,
}

impl OrderResult {
    fn new(cycle_id: u64, decision: &OrderDecision, act: &Act) -> Self {
        let fill = act.immediate_fills.iter().find(|fill| fill.order_id == decision.order_id);
        Self {
            allowed: decision.allowed,
            cycle_id,
            fill: fill.filter(|_| decision.allowed).cloned(),
            limit: decision.limit.clone(),
            order_id: decision.order_id.clone(),
            reason: decision.reason.clone(),
        }
    }
}

impl OrderDesk {
    /// Opens a desk on a runtime that has recovered its state.
    pub fn new(runtime: MarketRuntime, input: OrderInput) -> Self {
        let OrderInput { lines, source } = input;
        let identity = StrategyIdentity {
            name: STRATEGY.to_owned(),
            sha256: Checksum::of(source.as_bytes()).to_string(),
            version: String::new(),
        };
        Self { runtime, lines, source, identity, unrecorded: HashMap::new() }
    }

    /// Returns what the operator should know before the first line: orders that continue the
    /// account of a strategy.
    pub fn warnings(&self) -> Option<String> {
        let state = self.runtime.state();
        let strategy = state.strategy().filter(|strategy| strategy.name != STRATEGY)?;
        let equity = format_money(state.account().equity_usd());
        Some(format!(
            "these orders continue the account of the run `{}`, whose last cycle {} was decided by the strategy {}: \
             equity {equity} USD, {}; for an account of their own, name another journal and another bus",
            self.runtime.rules().run.name,
            state.last_cycle_id(),
            strategy.name,
            counted(state.account().book().open_positions(), "open position"),
        ))
    }

    /// Answers lines until they end, until `max_answers` were given, until `stop` returns true, or
    /// until the operator's kill. Passes each answer to `answer`, once the decision is durable.
    ///
    /// # Errors
    /// A line is too long or cannot be read: `answer` gets it as well. Any error of recording a
    /// cycle, or of `answer`.
    pub fn run(
        &mut self,
        max_answers: Option<u64>,
        stop: impl FnMut() -> bool,
        answer: impl FnMut(&LineAnswer, Option<&MarketCycle>) -> Result<()>,
    ) -> Result<RunEnd> {
        let end = self.run_until_stopped(max_answers, stop, answer);
        self.runtime.write_checkpoint_if_due(None, true);
        end
    }

    fn run_until_stopped(
        &mut self,
        max_answers: Option<u64>,
        mut stop: impl FnMut() -> bool,
        mut answer: impl FnMut(&LineAnswer, Option<&MarketCycle>) -> Result<()>,
    ) -> Result<RunEnd> {
        let mut answers = 0;
        while max_answers.is_none_or(|max| answers < max) {
            if stop() {
                return Ok(RunEnd::Stopped);
            }
            if self.apply_commands()? == TradingMode::Killed {
                return Ok(RunEnd::Killed);
            }
            let (line, text) = match self.lines.next_line(Some(Instant::now() + LINE_WAIT)) {
                Ok(NextLine::Pending) => continue,
                Ok(NextLine::End) => return Ok(RunEnd::FeedEnded),
                Ok(NextLine::Line(line)) if line.text.trim_ascii().is_empty() => continue,
                Ok(NextLine::Line(line)) => (line.number, line.text.to_owned()),
                Err(error) => {
                    let line = error.line().unwrap_or_default();
                    let error = error.to_string();
                    let problem = format!("line {line} {error}");
                    answer(&LineAnswer::Invalid { error, line }, None)?;
                    return Err(Error::Feed { place: self.source.clone(), problem });
                }
            };
            // A command may have arrived while the desk waited.
            if self.apply_commands()? == TradingMode::Killed {
                return Ok(RunEnd::Killed);
            }
            let (answered, cycle) = self.answer(line, &text)?;
            answer(&answered, cycle.as_ref())?;
            answers += 1;
        }
        Ok(RunEnd::CyclesDone)
    }

    /// Applies the operator's commands. A flatten closes every position at its last price, in a
    /// cycle of its own.
    fn apply_commands(&mut self) -> Result<TradingMode> {
        let mode = self.runtime.apply_commands()?;
        if !self.runtime.has_pending_flatten() {
            return Ok(mode);
        }
        let as_of = self.runtime.clock().now();
        let bar = Bar { ts: as_of, interval_s: 0.0, candles: Vec::new() };
        let new = new_cycle(&self.source, &bar, None);
        self.runtime.run_cycle(&new, &self.identity, |_| Ok(Ok(Answer::default())))?;
        self.runtime.apply_commands()
    }

    fn answer(&mut self, line: u64, text: &str) -> Result<(LineAnswer, Option<MarketCycle>)> {
        let order = Value::parse(text).map_err(|error| error.to_string());
        let (intent, price) = match order.and_then(|order| read_order(&Field::root(&order))) {
            Ok(order) => order,
            Err(error) => return Ok((LineAnswer::Invalid { error, line }, None)),
        };
        let used_in = intent.key.as_ref().and_then(|key| self.runtime.state().cycle_of_key(key));
        self.runtime.check_keys()?;
        if let Some(key) = &intent.key
            && let Some(cycle_id) = used_in
        {
            let result = self.recorded(key, cycle_id)?;
            return Ok((self.decided(line, true, &intent.symbol, result), None));
        }
        let as_of = self.runtime.clock().now();
        let bar = Bar { ts: as_of, interval_s: 0.0, candles: Vec::new() };
        let symbol = intent.symbol.clone();
        let new = new_cycle(&self.source, &bar, Some((&symbol, price)));
        let answer = Answer { intents: vec![intent], ..Answer::default() };
        let cycle = self.runtime.run_cycle(&new, &self.identity, |_| Ok(Ok(answer)))?;
        self.runtime.write_checkpoint_if_due(None, false);
        let Some(decision) = cycle.act.decisions.last() else {
            let problem = "the cycle has no decision about its order".to_owned();
            return Err(Error::Order { symbol, problem });
        };
        let result = OrderResult::new(cycle.cycle_id, decision, &cycle.act);
        if !self.runtime.has_records() {
            self.unrecorded.insert(decision.idempotency_key.clone(), result.clone());
        }
        Ok((self.decided(line, false, &symbol, result), Some(cycle)))
    }

    /// Adds the account to a result.
    fn decided(&self, line: u64, repeated: bool, symbol: &str, result: OrderResult) -> LineAnswer {
        let account = self.runtime.state().account();
        let Position { quantity, avg_price } = account.book().position(symbol);
        let position =
            (quantity != 0.0).then(|| OrderPosition { avg_price, quantity, symbol: symbol.to_owned() });
        let (cash_usd, equity_usd) = (account.cash_usd(), account.equity_usd());
        LineAnswer::Decided(Box::new(OrderAnswer { cash_usd, equity_usd, line, position, repeated, result }))
    }

    /// Looks up what was decided about a key that was used in a cycle.
    fn recorded(&self, key: &str, cycle_id: u64) -> Result<OrderResult> {
        if let Some(result) = self.unrecorded.get(key) {
            return Ok(result.clone());
        }
        let act = self.runtime.recorded_act(cycle_id)?;
        let decision = act.decisions.iter().find(|decision| decision.idempotency_key == key);
        let decision = decision.ok_or_else(|| Error::Refused {
            path: self.runtime.path(),
            problem: format!(
                "cycle {cycle_id} has no decision with the key `{key}`; the records were changed"
            ),
        })?;
        Ok(OrderResult::new(cycle_id, decision, &act))
    }

    /// Returns the runtime with its state.
    pub fn runtime(&self) -> &MarketRuntime {
        &self.runtime
    }

    /// Returns the command that stopped the run, if there is one.
    pub fn killed_by(&self) -> Option<&Command> {
        self.runtime.killed_by()
    }
}

fn new_cycle<'a>(source: &'a str, bar: &'a Bar, price: Option<(&'a str, f64)>) -> NewCycle<'a> {
    NewCycle { source, bar, price, as_of: bar.ts, data_age_s: None, max_data_age_s: None, observed: false }
}

/// Reads an order and its price.
fn read_order(field: &Field<'_>) -> Result<(Intent, f64), Problem> {
    const MEMBERS: [&str; 8] =
        ["symbol", "side", "quantity", "price", "confidence", "reason", "reduce_only", "key"];
    // A misspelled member must not be ignored: it could be the key, or reduce_only.
    if let Some(unknown) = field.object()?.find(|member| !member.is_one_of(&MEMBERS)) {
        return Err(unknown.problem(
            "is not known; an order has symbol, side, quantity, price, confidence, and \
                                    optionally reason, reduce_only and key",
        ));
    }
    let side = field.required("side")?;
    let intent = Intent {
        symbol: field.required("symbol")?.text()?.to_uppercase(),
        side: Side::parse(side.text()?).ok_or_else(|| side.problem("must be `buy` or `sell`"))?,
        quantity: field.required("quantity")?.number()?,
        confidence: field.required("confidence")?.number()?,
        reason: field.optional("reason").map_or(Ok(""), |reason| reason.text())?.to_owned(),
        reduce_only: field.optional("reduce_only").map_or(Ok(false), |reduce_only| reduce_only.bool())?,
        limit_price: None,
        key: field.optional("key").map(|key| key.text().map(str::to_owned)).transpose()?,
    };
    let price = field.required("price")?.positive()?;
    match intent.check() {
        Ok(()) => Ok((intent, price)),
        Err((invalid, problem)) => Err(field.required(invalid)?.problem(&problem)),
    }
}

impl LineAnswer {
    /// Returns the answer as one line of JSON, without a line break.
    ///
    /// # Errors
    /// The answer has no canonical form.
    pub fn to_line(&self) -> Result<String> {
        Ok(Json::of(self)?.to_string())
    }
}
