//! The cycle record `zero.runtime.cycle.v2`: what a cycle on market data saw, decided and did.

use serde::{Serialize, Serializer};
use zero_bus::{Json, Value};

use crate::account::{Costs, MarkedPosition};
use crate::candle::{Bar, Candle};
use crate::cycle::{MARKET_CYCLE_SCHEMA, Phase, RiskPosture};
use crate::cycle_settings::CycleSettings;
use crate::field::{Field, Problem};
use crate::order_record::{ExpiredOrder, OpenOrder, OrderDecision, OrderFill};
use crate::risk::{ReduceOnlyRule, TradingMode};
use crate::scenario::{Limits, Side};
use crate::strategy::{FailureKind, StrategyIdentity};

use super::run_file::FillRule;

/// The `schema_version` of a cycle on market data.
pub const CYCLE_SCHEMA: &str = MARKET_CYCLE_SCHEMA;

/// The `schema_version` of an observation.
pub const OBSERVATION_SCHEMA: &str = "zero.market.observation.v1";

/// A cycle record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MarketCycle {
    /// What came of the intents and of the open orders.
    pub act: Act,
    /// Time of the cycle, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Number of the cycle, from 1.
    pub cycle_id: u64,
    /// What the strategy asked for.
    pub decide: Decide,
    /// Counts over the whole run, this cycle included.
    pub learn: Learn,
    /// Always `paper`.
    pub mode: &'static str,
    /// The account after the fills of earlier orders, at the closes of the bar.
    pub observe: Observe,
    /// The account against the limits.
    pub orient: Orient,
    /// [`CYCLE_SCHEMA`].
    pub schema_version: &'static str,
}

/// The observe phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observe {
    /// Cash in USD.
    pub cash_usd: f64,
    /// End of the bar, in seconds since the Unix epoch.
    pub close_ts: f64,
    /// Number of the cycle.
    pub cycle_id: u64,
    /// Decisions of earlier cycles.
    pub decisions_seen: u64,
    /// Cash plus marked positions, in USD.
    pub equity_usd: f64,
    /// Fills so far, those of this bar's open included.
    pub fills_seen: u64,
    /// Where the bars come from.
    pub market_source: String,
    /// The orders that still wait.
    pub open_orders: Vec<OpenOrder>,
    /// The open positions, by symbol.
    pub open_positions: Vec<MarkedPosition>,
    /// Always `observe`.
    pub phase: Phase,
    /// Rejections of earlier cycles.
    pub rejections_seen: u64,
    /// Name of the run.
    pub scenario: String,
    /// Start of the bar, in seconds since the Unix epoch.
    pub ts: f64,
}

/// The orient phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Orient {
    /// What a fill costs.
    pub costs: Costs,
    /// Loss of equity in this UTC day, in USD; negative for a profit.
    pub daily_loss_usd: f64,
    /// Time between the bar's end and the decision, in seconds; `None` if it has no meaning.
    pub data_age_s: Option<f64>,
    /// The equity that the loss of the day is counted from, in USD.
    pub day_start_equity_usd: f64,
    /// Loss of equity since its peak, in percent.
    pub drawdown_pct: f64,
    /// When market orders fill.
    pub fill: FillRule,
    /// Positions and open orders, each symbol at its mark, in USD.
    pub gross_exposure_usd: f64,
    /// Number of bars after which a limit order expires.
    pub limit_bars: u64,
    /// The limits that are set.
    pub limits: Limits,
    /// Number of orders that were accepted in the last minute.
    pub orders_last_minute: u64,
    /// Always `orient`.
    pub phase: Phase,
    /// How reduce-only orders that would not reduce are treated.
    #[serde(serialize_with = "rule_name")]
    pub reduce_only_rule: ReduceOnlyRule,
    /// How much exposure the limits still allow.
    pub risk_posture: RiskPosture,
    /// Whether the bar is too old to take risk on.
    pub stale_data: bool,
    /// Sum of the positions at their average prices, in USD, rounded to cents.
    pub total_position_notional_usd: f64,
    /// What the operator allows.
    #[serde(serialize_with = "mode_name")]
    pub trading_mode: TradingMode,
    /// Greatest loss of equity after a bar of this UTC day, in USD.
    pub worst_daily_loss_usd: f64,
}

fn rule_name<S: Serializer>(rule: &ReduceOnlyRule, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(rule.name())
}

fn mode_name<S: Serializer>(mode: &TradingMode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.name())
}

/// The decide phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decide {
    /// Why the strategy gave no valid answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureRecord>,
    /// Index of the flatten command that this cycle carries out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flatten_command_index: Option<u64>,
    /// Why there are no intents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_reason: Option<String>,
    /// The intents in the order of their decisions; those of the operator come first.
    pub intents: Vec<IntentRecord>,
    /// Always `decide`.
    pub phase: Phase,
    /// As in [`Orient`].
    pub risk_posture: RiskPosture,
    /// `runtime:` and the name of the run.
    pub source: String,
    /// The state that the strategy has sent with its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Json>,
    /// The strategy.
    pub strategy: StrategyIdentity,
}

/// The failure of a strategy in a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureRecord {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// What the runtime does next: `hold` or `stop`.
    pub on_failure: OnFailure,
    /// What happened.
    pub reason: String,
}

/// What the runtime does after a failure of the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Hold, and continue.
    Hold,
    /// End the run.
    #[default]
    Stop,
}

/// An intent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IntentRecord {
    /// The confidence in the order, 0 to 1.
    pub confidence: f64,
    /// The idempotency key.
    pub key: String,
    /// The worst price to fill at, in USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_price: Option<f64>,
    /// Quantity.
    pub quantity: f64,
    /// Why.
    pub reason: String,
    /// Whether the order is marked reduce-only.
    pub reduce_only: bool,
    /// Buy or sell.
    pub side: Side,
    /// Symbol of the instrument.
    pub symbol: String,
}

/// The act phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Act {
    /// One decision per intent, in their order.
    pub decisions: Vec<OrderDecision>,
    /// Orders of earlier cycles that ended without a fill.
    pub expired: Vec<ExpiredOrder>,
    /// Fills of orders of earlier cycles.
    pub fills: Vec<OrderFill>,
    /// Fills of this cycle's orders.
    pub immediate_fills: Vec<OrderFill>,
    /// This cycle's orders that wait for their fill.
    pub opened: Vec<OpenOrder>,
    /// Always `act`.
    pub phase: Phase,
}

/// The learn phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learn {
    /// Decisions about intents.
    pub decisions: u64,
    /// Cycles whose strategy failed.
    pub failures: u64,
    /// Fills.
    pub fills: u64,
    /// Orders that wait for their fill.
    pub open_orders: u64,
    /// Open positions.
    pub open_positions: u64,
    /// Always `learn`.
    pub phase: Phase,
    /// Rejected intents.
    pub rejections: u64,
}

/// What a restart or a replay reads from a cycle record.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedCycle {
    /// Time of the cycle, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Number of the cycle.
    pub cycle_id: u64,
    /// Name of the run.
    pub scenario: String,
    /// Cash after the fills of earlier orders, in USD.
    pub cash_usd: f64,
    /// Equity at the closes of the bar, in USD.
    pub equity_usd: f64,
    /// The positions that the strategy saw.
    pub open_positions: Vec<MarkedPosition>,
    /// The equity that the loss of the day is counted from, in USD.
    pub day_start_equity_usd: f64,
    /// Greatest loss after a bar of the day, in USD.
    pub worst_daily_loss_usd: f64,
    /// The strategy.
    pub strategy: StrategyIdentity,
    /// Its state, if it sent one.
    pub state: Option<Json>,
    /// Its failure.
    pub failure: Option<FailureRecord>,
    /// The limits, costs and rules of fills that it was decided under.
    pub(crate) settings: CycleSettings,
    /// The act phase.
    pub act: Act,
}

impl RecordedCycle {
    /// Reads a cycle record.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    pub fn from_value(record: &Value) -> Result<Self, String> {
        let root = Field::root(record);
        root.check_schema(CYCLE_SCHEMA)?;
        let (observe, orient) = (root.required("observe")?, root.required("orient")?);
        let (decide, act) = (root.required("decide")?, root.required("act")?);
        let state = decide.optional("state").map(|state| state.json()).transpose()?;
        let open_positions = observe.required("open_positions")?;
        Ok(Self {
            as_of: root.required("as_of")?.number()?,
            cycle_id: root.required("cycle_id")?.count()?,
            scenario: observe.required("scenario")?.text()?.to_owned(),
            cash_usd: observe.required("cash_usd")?.number()?,
            equity_usd: observe.required("equity_usd")?.number()?,
            open_positions: open_positions
                .items()?
                .map(|item| read_position(&item))
                .collect::<Result<_, _>>()?,
            day_start_equity_usd: orient.required("day_start_equity_usd")?.number()?,
            worst_daily_loss_usd: orient.required("worst_daily_loss_usd")?.number()?,
            strategy: read_strategy(&decide.required("strategy")?)?,
            state,
            failure: decide.optional("failure").map(|failure| read_failure(&failure)).transpose()?,
            settings: CycleSettings::read(orient.value()),
            act: read_act(&act)?,
        })
    }
}

impl OnFailure {
    /// Returns the value with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Hold, Self::Stop].into_iter().find(|value| value.name() == name)
    }

    /// Returns the name in the records and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Stop => "stop",
        }
    }
}

/// An observation, as its event has it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedBar {
    /// Number of the cycle.
    pub cycle_id: u64,
    /// Where the bar came from.
    pub source: String,
    /// The bar. It has no candles if an order was submitted with its price.
    pub bar: Bar,
}

impl RecordedBar {
    /// Reads an observation.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    pub fn from_value(record: &Value) -> Result<Self, String> {
        let root = Field::root(record);
        root.check_schema(OBSERVATION_SCHEMA)?;
        let candles = root.required("candles")?;
        let candles = candles.items()?.map(|candle| read_candle(&candle)).collect::<Result<_, _>>()?;
        Ok(Self {
            cycle_id: root.required("cycle_id")?.count()?,
            source: root.required("source")?.text()?.to_owned(),
            bar: Bar {
                ts: root.required("ts")?.number()?,
                interval_s: root.required("interval_s")?.number()?,
                candles,
            },
        })
    }
}

pub(super) fn read_candle(field: &Field<'_>) -> Result<Candle, Problem> {
    let price = |key| field.required(key)?.positive();
    Ok(Candle {
        close: price("close")?,
        high: price("high")?,
        low: price("low")?,
        open: price("open")?,
        symbol: field.required("symbol")?.text()?.to_owned(),
        ts: field.required("ts")?.number()?,
        volume: field.required("volume")?.number()?,
    })
}

fn read_act(act: &Field<'_>) -> Result<Act, Problem> {
    fn list<T>(
        act: &Field<'_>,
        key: &'static str,
        read: impl Fn(&Field<'_>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        act.required(key)?.items()?.map(|item| read(&item)).collect()
    }
    Ok(Act {
        decisions: list(act, "decisions", OrderDecision::read)?,
        expired: list(act, "expired", ExpiredOrder::read)?,
        fills: list(act, "fills", OrderFill::read)?,
        immediate_fills: list(act, "immediate_fills", OrderFill::read)?,
        opened: list(act, "opened", OpenOrder::read)?,
        phase: Phase::Act,
    })
}

fn read_position(field: &Field<'_>) -> Result<MarkedPosition, Problem> {
    let number = |key| field.required(key)?.number();
    Ok(MarkedPosition {
        avg_price: number("avg_price")?,
        mark_price: number("mark_price")?,
        notional_usd: number("notional_usd")?,
        quantity: number("quantity")?,
        symbol: field.required("symbol")?.text()?.to_owned(),
        unrealized_pnl_usd: number("unrealized_pnl_usd")?,
    })
}

pub(super) fn read_strategy(field: &Field<'_>) -> Result<StrategyIdentity, Problem> {
    let text = |key| Ok::<_, Problem>(field.required(key)?.text()?.to_owned());
    Ok(StrategyIdentity { name: text("name")?, sha256: text("sha256")?, version: text("version")? })
}

fn read_failure(field: &Field<'_>) -> Result<FailureRecord, Problem> {
    let kind = field.required("kind")?;
    let on_failure = field.required("on_failure")?;
    Ok(FailureRecord {
        kind: FailureKind::named(kind.text()?).ok_or_else(|| kind.problem("is not known"))?,
        on_failure: OnFailure::named(on_failure.text()?)
            .ok_or_else(|| on_failure.problem("must be `hold` or `stop`"))?,
        reason: field.required("reason")?.text()?.to_owned(),
    })
}
