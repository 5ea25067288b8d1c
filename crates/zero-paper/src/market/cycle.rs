//! Computes one cycle on market data: fills, valuation, decision, checks. Does no I/O of its own.

use crate::account::{Costs, MarkedPosition, limit_fill_price};
use crate::candle::{Bar, Candle};
use crate::cycle::{Phase, RiskPosture, trace_id};
use crate::live::client_order_id;
use crate::order_record::{
    DECISION_SCHEMA, ExpiredOrder, FILL_SCHEMA, ORDER_SCHEMA, OpenOrder, OrderDecision, OrderFill,
};
use crate::position::to_cents;
use crate::risk::{ReduceOnlyRule, RiskDecision, TradingMode};
use crate::scenario::Side;
use crate::strategy::{Answer, Failure, Intent, Observation, StrategyIdentity};

use super::checks::{self, CycleConditions, OrderConditions};
use super::record::{
    Act, CYCLE_SCHEMA, Decide, FailureRecord, IntentRecord, Learn, MarketCycle, Observe, OnFailure, Orient,
};
use super::run_file::{FillRule, RunFile};
use super::state::RunState;

/// What stays the same during a run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The run's file.
    pub run: RunFile,
    /// How reduce-only orders that would not reduce a position are treated.
    pub reduce_only_rule: ReduceOnlyRule,
    /// What happens after a failure of the strategy.
    pub on_failure: OnFailure,
}

/// What a cycle starts from.
#[derive(Clone, Copy, Debug)]
pub struct CycleInput<'a> {
    /// Where the bar comes from.
    pub source: &'a str,
    /// The bar. In a cycle without candles, market orders fill at once at the last price.
    pub bar: &'a Bar,
    /// The price that was submitted with an order: its symbol and its price in USD.
    pub price: Option<(&'a str, f64)>,
    /// Time of everything the cycle records, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Time between the bar's end and now, in seconds, if that has a meaning.
    pub data_age_s: Option<f64>,
    /// The greatest age at which the bar is not stale, in seconds.
    pub max_data_age_s: Option<f64>,
    /// What the operator allows.
    pub trading_mode: TradingMode,
    /// Index of the flatten command to carry out.
    pub flatten: Option<u64>,
    /// The strategy.
    pub strategy: &'a StrategyIdentity,
}

/// What a strategy answered, or why it did not.
pub type Decided = Result<Answer, Failure>;

/// Source of the operator's intents.
pub const OPERATOR: &str = "operator";

/// Reason of an order that a flatten command ends.
const FLATTENED: &str = "operator flatten";

/// Computes a cycle and applies it to the state. Calls `decide` once, with what the strategy sees.
pub fn run(
    state: &mut RunState,
    rules: &Rules,
    input: &CycleInput<'_>,
    decide: impl FnOnce(&Observation<'_>) -> Decided,
) -> MarketCycle {
    let cycle_id = state.last_cycle_id() + 1;
    let seen = state.counts();
    state.begin_cycle(input.as_of, input.bar);
    let mut act = fill_open_orders(state, rules, input);
    state.account_mut().mark_bar(input.bar);
    if let Some((symbol, price)) = input.price {
        state.account_mut().mark(symbol, price);
    }
    state.value();

    let positions = state.account().positions();
    let orient = orient(state, rules, input, &positions);
    let observation = Observation {
        as_of: input.as_of,
        cycle_id,
        bar: input.bar,
        positions: &positions,
        equity_usd: state.account().equity_usd(),
        last: state.last_decisions(),
    };
    let decided = decide(&observation);
    let observe = Observe {
        cash_usd: state.account().cash_usd(),
        close_ts: input.bar.close_ts(),
        cycle_id,
        decisions_seen: seen.decisions,
        equity_usd: observation.equity_usd,
        fills_seen: state.counts().fills,
        market_source: input.source.to_owned(),
        open_orders: state.account().open_orders().to_vec(),
        open_positions: positions,
        phase: Phase::Observe,
        rejections_seen: seen.rejections,
        scenario: rules.run.name.clone(),
        ts: input.bar.ts,
    };

    let (decide, submissions) = decide_phase(state, rules, input, cycle_id, orient.risk_posture, decided);
    let conditions = CycleConditions {
        limits: &rules.run.limits,
        trading_mode: input.trading_mode,
        reduce_only_rule: rules.reduce_only_rule,
        stale: input.data_age_s.zip(input.max_data_age_s).filter(|(age, bound)| age > bound),
        worst_daily_loss_usd: orient.worst_daily_loss_usd,
        drawdown_pct: orient.drawdown_pct,
    };
    for submission in submissions {
        submit(state, rules, input, &conditions, cycle_id, submission, &mut act);
    }
    state.end_cycle(cycle_id, act.decisions.clone());
    let counts = state.counts();
    let learn = Learn {
        decisions: counts.decisions,
        failures: counts.failures,
        fills: counts.fills,
        open_orders: state.account().open_orders().len() as u64,
        open_positions: state.account().book().open_positions(),
        phase: Phase::Learn,
        rejections: counts.rejections,
    };
    MarketCycle {
        act,
        as_of: input.as_of,
        cycle_id,
        decide,
        learn,
        mode: "paper",
        observe,
        orient,
        schema_version: CYCLE_SCHEMA,
    }
}

/// An intent with its key and its source.
struct Submission {
    intent: Intent,
    key: String,
    source: String,
}

/// Fills or ends the orders of earlier cycles whose symbol has a candle in the bar, in the order in
/// which they were opened.
fn fill_open_orders(state: &mut RunState, rules: &Rules, input: &CycleInput<'_>) -> Act {
    let mut act = Act {
        decisions: Vec::new(),
        expired: Vec::new(),
        fills: Vec::new(),
        immediate_fills: Vec::new(),
        opened: Vec::new(),
        phase: Phase::Act,
    };
    if state.account().open_orders().is_empty() {
        return act;
    }
    for order in state.account().open_orders().to_vec() {
        let flattened = input.flatten.is_some() && order.limit_price.is_some();
        let reason = match input.bar.candle(&order.symbol) {
            None => flattened.then(|| FLATTENED.to_owned()),
            Some(candle) => match fill_price(&order, candle, &rules.run.costs) {
                Some(_) if !may_reduce(state, rules, &order) => {
                    Some(RiskDecision::NotReducing.reason().to_owned())
                }
                Some((reference_price, price)) => {
                    let fill = fill(state, rules, &order, reference_price, price, input.as_of);
                    state.apply_fill(&fill);
                    act.fills.push(fill);
                    continue;
                }
                None if flattened => Some(FLATTENED.to_owned()),
                None if order.bars_waited >= rules.run.limit_bars => {
                    Some(format!("not filled within {}", counted_bars(rules.run.limit_bars)))
                }
                None => None,
            },
        };
        if let Some(reason) = reason {
            act.expired.extend(expire(state, &order.order_id, reason));
        }
    }
    act
}

fn counted_bars(bars: u64) -> String {
    if bars == 1 { "1 bar".to_owned() } else { format!("{bars} bars") }
}

fn expire(state: &mut RunState, order_id: &str, reason: String) -> Option<ExpiredOrder> {
    Some(state.account_mut().close_order(order_id)?.expire(reason))
}

/// Returns the price before costs and the price at which an order fills in a candle; `None` if it
/// does not fill.
fn fill_price(order: &OpenOrder, candle: &Candle, costs: &Costs) -> Option<(f64, f64)> {
    match order.limit_price {
        None => Some((candle.open, costs.market_price(order.side, candle.open))),
        Some(limit) => limit_fill_price(order.side, limit, candle).map(|price| (price, price)),
    }
}

/// Whether an order may fill, as far as it is marked reduce-only. The position can have changed
/// since the order was accepted.
fn may_reduce(state: &RunState, rules: &Rules, order: &OpenOrder) -> bool {
    if !order.reduce_only || rules.reduce_only_rule == ReduceOnlyRule::Trust {
        return true;
    }
    let position = state.account().book().position(&order.symbol);
    let mark_price = state.account().mark_price(&order.symbol).unwrap_or_default();
    position.is_reduced_by(&position.after_fill(order.signed_quantity(), mark_price))
}

fn fill(
    state: &RunState,
    rules: &Rules,
    order: &OpenOrder,
    reference_price: f64,
    price: f64,
    as_of: f64,
) -> OrderFill {
    OrderFill {
        as_of,
        fee_usd: rules.run.costs.fee_usd(order.quantity, price),
        fill_id: format!("fill-{}", state.counts().fills + 1),
        notional_usd: to_cents(order.quantity * price),
        order_id: order.order_id.clone(),
        price,
        quantity: order.quantity,
        realized_pnl_usd: state.account().realized_by_fill(&order.symbol, order.signed_quantity(), price),
        reference_price,
        schema_version: FILL_SCHEMA,
        side: order.side,
        symbol: order.symbol.clone(),
    }
}

fn orient(state: &RunState, rules: &Rules, input: &CycleInput<'_>, positions: &[MarkedPosition]) -> Orient {
    let run = &rules.run;
    // Sums the rounded notionals that the record shows, so that a reader of the record gets the
    // same sum.
    let total = to_cents(positions.iter().fold(0.0, |sum, position| sum + position.notional_usd));
    let risk_posture = if positions.is_empty() {
        RiskPosture::Flat
    } else if total >= run.limits.max_position_notional_usd {
        RiskPosture::CapacityReached
    } else {
        RiskPosture::Exposed
    };
    Orient {
        costs: run.costs,
        daily_loss_usd: state.daily_loss_usd(),
        data_age_s: input.data_age_s,
        day_start_equity_usd: state.day_start_equity_usd(),
        drawdown_pct: state.account().drawdown_pct(),
        fill: run.fill,
        gross_exposure_usd: state.account().gross_exposure_usd(None),
        limit_bars: run.limit_bars,
        limits: run.limits,
        orders_last_minute: state.orders_last_minute(),
        phase: Phase::Orient,
        reduce_only_rule: rules.reduce_only_rule,
        risk_posture,
        stale_data: input.data_age_s.zip(input.max_data_age_s).is_some_and(|(age, bound)| age > bound),
        total_position_notional_usd: total,
        trading_mode: input.trading_mode,
        worst_daily_loss_usd: state.worst_daily_loss_usd(),
    }
}

/// Returns the decide phase, and the intents to check: those of the operator, then those of the
/// strategy.
fn decide_phase(
    state: &mut RunState,
    rules: &Rules,
    input: &CycleInput<'_>,
    cycle_id: u64,
    risk_posture: RiskPosture,
    decided: Decided,
) -> (Decide, Vec<Submission>) {
    let source = format!("runtime:{}", rules.run.name);
    let mut submissions = Vec::new();
    if let Some(command_index) = input.flatten {
        submissions = closing_orders(state, command_index, cycle_id);
    }
    let (answer, failure) = match decided {
        Ok(answer) => (answer, None),
        Err(Failure { kind, reason }) => {
            state.count_failure();
            let failure = FailureRecord { kind, on_failure: rules.on_failure, reason };
            (Answer::default(), Some(failure))
        }
    };
    state.set_strategy(input.strategy);
    if let Some(new_state) = &answer.state {
        state.set_strategy_state(new_state.clone());
    }
    let intents = (1..).zip(answer.intents);
    submissions.extend(intents.map(|(number, mut intent): (u64, Intent)| {
        let default_key = || format!("runtime-{}-{cycle_id}-{number}", rules.run.name);
        let key = intent.key.take().unwrap_or_else(default_key);
        Submission { intent, key, source: source.clone() }
    }));
    let decide = Decide {
        failure,
        flatten_command_index: input.flatten,
        hold_reason: answer.hold_reason,
        intents: submissions.iter().map(intent_record).collect(),
        phase: Phase::Decide,
        risk_posture,
        source,
        state: answer.state,
        strategy: input.strategy.clone(),
    };
    (decide, submissions)
}

fn intent_record(submission: &Submission) -> IntentRecord {
    let intent = &submission.intent;
    IntentRecord {
        confidence: intent.confidence,
        key: submission.key.clone(),
        limit_price: intent.limit_price,
        quantity: intent.quantity,
        reason: intent.reason.clone(),
        reduce_only: intent.reduce_only,
        side: intent.side,
        symbol: intent.symbol.clone(),
    }
}

/// Returns an order for each symbol that closes its position and outweighs its open orders. While
/// such orders wait for their fill, there is nothing more to close.
fn closing_orders(state: &RunState, command_index: u64, cycle_id: u64) -> Vec<Submission> {
    let account = state.account();
    let held = account.book().iter().map(|(symbol, _)| symbol);
    let mut symbols: Vec<&str> =
        held.chain(account.open_orders().iter().map(|order| order.symbol.as_str())).collect();
    symbols.sort_unstable();
    symbols.dedup();
    let closing = |symbol: &str| {
        let quantity = account.projected_quantity(symbol);
        let intent = Intent {
            symbol: symbol.to_owned(),
            side: if quantity > 0.0 { Side::Sell } else { Side::Buy },
            quantity: quantity.abs(),
            confidence: 1.0,
            reason: FLATTENED.to_owned(),
            reduce_only: true,
            limit_price: None,
            key: None,
        };
        let key = format!("{OPERATOR}-flatten-{command_index}-{cycle_id}-{symbol}");
        (quantity != 0.0).then(|| Submission { intent, key, source: OPERATOR.to_owned() })
    };
    symbols.into_iter().filter_map(closing).collect()
}

/// Checks an intent; opens the order or fills it at once if it is accepted.
fn submit(
    state: &mut RunState,
    rules: &Rules,
    input: &CycleInput<'_>,
    conditions: &CycleConditions<'_>,
    cycle_id: u64,
    submission: Submission,
    act: &mut Act,
) {
    let Submission { intent, key, source } = submission;
    let account = state.account();
    let change = (intent.symbol.as_str(), intent.side.signed(intent.quantity));
    let price = account.mark_price(&intent.symbol);
    let order_conditions = OrderConditions {
        key_used: state.cycle_of_key(&key).is_some(),
        price,
        projected: account.projected_position(&intent.symbol),
        gross_exposure_usd: account.gross_exposure_usd(Some(change)),
        orders_last_minute: state.orders_last_minute(),
    };
    let verdict = checks::check(conditions, &order_conditions, &intent);
    let order_id = client_order_id(&key);
    let decision = OrderDecision {
        allowed: verdict.allowed,
        as_of: input.as_of,
        confidence: intent.confidence,
        idempotency_key: key.clone(),
        limit: verdict.limit,
        limit_price: intent.limit_price,
        notional_usd: price.map(|price| to_cents(intent.quantity * price)).filter(|usd| usd.is_finite()),
        order_id: order_id.clone(),
        price,
        quantity: intent.quantity,
        reason: verdict.reason.to_owned(),
        reduce_only: intent.reduce_only,
        schema_version: DECISION_SCHEMA,
        side: intent.side,
        source,
        strategy_reason: intent.reason,
        symbol: intent.symbol.clone(),
        trace_id: trace_id(cycle_id),
    };
    state.apply_decision(&decision);
    act.decisions.push(decision);
    if !verdict.allowed {
        return;
    }
    let order = OpenOrder {
        cycle_id,
        idempotency_key: key,
        limit_price: intent.limit_price,
        opened_as_of: input.as_of,
        order_id,
        quantity: intent.quantity,
        reduce_only: intent.reduce_only,
        schema_version: ORDER_SCHEMA,
        side: intent.side,
        symbol: intent.symbol,
        bars_waited: 0,
    };
    match immediate_reference(state, rules, input, &order) {
        Some(reference_price) if may_reduce(state, rules, &order) => {
            let price = rules.run.costs.market_price(order.side, reference_price);
            let fill = fill(state, rules, &order, reference_price, price, input.as_of);
            state.apply_fill(&fill);
            act.immediate_fills.push(fill);
        }
        _ => {
            state.open_order(order.clone());
            act.opened.push(order);
        }
    }
}

/// Returns the price before costs at which a new order fills at once; `None` if it waits.
fn immediate_reference(
    state: &RunState,
    rules: &Rules,
    input: &CycleInput<'_>,
    order: &OpenOrder,
) -> Option<f64> {
    if order.limit_price.is_some() {
        return None;
    }
    if input.bar.candles.is_empty() {
        return state.account().mark_price(&order.symbol);
    }
    let at_close = rules.run.fill == FillRule::Close;
    input.bar.candle(&order.symbol).filter(|_| at_close).map(|candle| candle.close)
}
