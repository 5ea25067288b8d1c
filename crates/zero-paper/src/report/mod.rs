//! Profit and loss, costs, drawdown, trades and rejections of a run, from the events of its bus
//! alone.
//!
//! The figures are sums over the fills; what the records say about cash and equity is compared with
//! them, not used. A figure is in USD unless its name says otherwise. Any program's events count
//! that have the documented fields (`docs/PAYLOADS.md`).
//!
//! [`read`] folds one event at a time. Memory is bounded except for the symbols: the equity curve
//! is thinned, and the oldest trades are left out once there are many.

mod curve;
mod events;
mod ledger;

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use zero_bus::{Event, Head, Json, JsonError, Progress, RECOVERED_TYPE, RETIRED_TYPE, Reader, event_id};

use crate::cycle::trace_id;
use crate::cycle_settings::CycleSettings;
use crate::event_types::{
    CYCLE, DECISION, FILL, OBSERVATION, ORDER_EXPIRED, POSITIONS, REJECTION, STRATEGY_FAILED,
};

pub use curve::EquityPoint;
pub use events::{RejectionRow, Strategy};
pub use ledger::{FillRow, OpenPosition, SymbolFigures, Trade, TradeFigures};

use curve::Curve;
use events::CycleFields;
use ledger::{Ledger, MAX_KEPT_TRADES, MarkSource};

/// The start cash of a run whose records state none, in USD: the default of a run file.
pub const DEFAULT_START_CASH_USD: f64 = 10_000.0;

/// Rejection reasons, and symbols of rejected orders, that are told apart. Producers choose both,
/// so their number is bounded here.
const MAX_NAMES: usize = 1000;

/// Characters of a reason that are kept.
const MAX_REASON_CHARACTERS: usize = 80;

/// Changes of the settings that a report describes.
const MAX_SETTINGS_CHANGES: usize = 20;

const OTHER_REASONS: &str = "(others)";

/// The report about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The position snapshot after which the report begins, if it does not begin with the run. The
    /// positions of the snapshot count as opened then, at their average price.
    pub begins_after: Option<u64>,
    /// Figures by symbol, for each symbol with a fill or a rejection.
    pub by_symbol: BTreeMap<String, SymbolFigures>,
    /// Start cash plus sales minus purchases and fees.
    pub cash_usd: f64,
    /// The first place where the records contradict the sums over the fills.
    pub contradiction: Option<String>,
    /// The equity curve, thinned to at most some thousand points.
    pub curve: Vec<EquityPoint>,
    /// Number of cycle records.
    pub cycles: u64,
    /// Number of decisions.
    pub decisions: u64,
    /// Runs on the bus before this one.
    pub earlier_runs: u64,
    /// Cash plus positions at their marks.
    pub equity_usd: f64,
    /// Number of orders that ended without a fill.
    pub expired: u64,
    /// Fees in USD.
    pub fees_usd: f64,
    /// Number of fills.
    pub fills: u64,
    /// Time of the first event, in seconds since the Unix epoch.
    pub from: Option<f64>,
    /// The last event.
    pub head: Head,
    /// Events that lack a field that the report needs: how many, and what the first one lacks.
    pub ignored: Option<(u64, String)>,
    /// The newest closed trades, at most 1000 of them.
    pub last_trades: VecDeque<Trade>,
    /// The source of the market data, as the first cycle record states it.
    pub market_source: Option<String>,
    /// The largest drawdown; `None` if the equity was never above 0.
    pub max_drawdown: Option<Drawdown>,
    /// The open positions, ordered by symbol.
    pub positions: Vec<OpenPosition>,
    /// What spread and slippage cost in USD, for the fills that state their reference price.
    pub price_costs_usd: f64,
    /// Profit at average cost, before fees.
    pub realized_pnl_usd: f64,
    /// Number of rejections by reason.
    pub rejections: BTreeMap<String, u64>,
    /// The name of the run, as the first cycle record states it.
    pub run_name: Option<String>,
    /// The first changes of limits, costs or rules of fills within the run.
    pub settings_changes: Vec<SettingsChange>,
    /// How many more there are.
    pub settings_changes_left_out: u64,
    /// The cash before the first fill; with [`Report::begins_after`], cash and positions of that
    /// snapshot, these at their average price.
    pub start_cash_usd: f64,
    /// Whether the records state the start cash. Otherwise it is [`DEFAULT_START_CASH_USD`].
    pub start_cash_recorded: bool,
    /// The strategy of the last cycle that names one.
    pub strategy: Option<Strategy>,
    /// Strategies that failed in a cycle, with the number of failures.
    pub strategy_failures: u64,
    /// Time of the last event, in seconds since the Unix epoch.
    pub to: Option<f64>,
    /// Figures over the closed trades.
    pub trades: TradeFigures,
    /// Profit of the open positions at their marks.
    pub unrealized_pnl_usd: f64,
}

/// A change of limits, costs or rules of fills within a run, which a restart makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsChange {
    /// What changed, as in `max_notional_usd from 500 to 1000 (looser)`.
    pub changes: String,
    /// Index of the first cycle record that states the new settings.
    pub event_index: u64,
}

/// A fall of the equity from a peak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawdown {
    /// Time of the lowest point, in seconds since the Unix epoch.
    pub lowest_as_of: f64,
    /// Time of the peak; `None` if that is the start cash.
    pub peak_as_of: Option<f64>,
    /// The peak in USD.
    pub peak_usd: f64,
    /// The fall in percent of the peak.
    pub pct: f64,
    /// The fall in USD.
    pub usd: f64,
}

/// A row of one of the lists that a report is made of. [`read`] passes each on as soon as it is
/// known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Row<'a> {
    /// A fill.
    Fill(&'a FillRow),
    /// A rejected order.
    Rejection(&'a RejectionRow),
    /// A round trip that the last fill closed.
    Trade(&'a Trade),
    /// The account after a cycle. Unlike [`Report::curve`], these are all points.
    Point(&'a EquityPoint),
}

/// A report, and why it ends where it does.
#[derive(Debug)]
pub struct Reading {
    /// The report about the events that could be read.
    pub report: Report,
    /// The damage after them.
    pub damage: Option<zero_bus::Error>,
    /// Bytes of a torn tail that were skipped.
    pub torn_bytes: u64,
}

/// Reads a bus and reports about its last run, or about all events if the bus has one run or none.
/// `row` receives each row of the lists; its first error ends the reading.
///
/// # Errors
/// The log cannot be opened, or the error of `row`.
pub fn read<E: From<zero_bus::Error>>(
    reader: &Reader,
    row: &mut dyn FnMut(Row<'_>) -> Result<(), E>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Reading, E> {
    let LastRun { first_index, earlier_runs } = find_last_run(reader);
    read_events(reader, first_index, Fold { earlier_runs, ..Fold::default() }, row, progress)
}

/// Reads a bus from an event on, and reports about what came after the first position snapshot from
/// there on. If a run begins later, that run is reported about instead, as by [`read`]. For logs
/// whose first events were retired, and for a part of a long run.
///
/// # Errors
/// As [`read`].
pub fn read_from<E: From<zero_bus::Error>>(
    reader: &Reader,
    from: u64,
    row: &mut dyn FnMut(Row<'_>) -> Result<(), E>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Reading, E> {
    let LastRun { first_index, earlier_runs } = find_last_run(reader);
    if first_index >= from && first_index > 1 {
        return read_events(reader, first_index, Fold { earlier_runs, ..Fold::default() }, row, progress);
    }
    read_events(reader, from, Fold { waits_for_snapshot: true, ..Fold::default() }, row, progress)
}

fn read_events<E: From<zero_bus::Error>>(
    reader: &Reader,
    first_index: u64,
    mut fold: Fold,
    row: &mut dyn FnMut(Row<'_>) -> Result<(), E>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Reading, E> {
    let mut events = reader.events(first_index)?;
    let mut damage = None;
    while let Some(event) = events.next() {
        match event {
            Ok(event) => {
                if event.index % 4096 == 0 {
                    progress(events.position());
                }
                fold.add(&event, row)?;
            }
            Err(error) => {
                damage = Some(error);
                break;
            }
        }
    }
    Ok(Reading { report: fold.finish(), damage, torn_bytes: events.torn_bytes() })
}

/// The last run on a bus. A run begins with its cycle 1.
struct LastRun {
    /// Index of its first event; 1 if the bus has one run or none.
    first_index: u64,
    earlier_runs: u64,
}

fn find_last_run(reader: &Reader) -> LastRun {
    let (mut runs, mut first_index, mut observation) = (0u64, 1, None);
    let first_trace = trace_id(1);
    let is_needed = |event_type: &str, trace: Option<&str>| {
        trace == Some(&first_trace) && [CYCLE, OBSERVATION].contains(&event_type)
    };
    // Damage ends the search here; the reading after it reports the damage.
    let first_held = reader.first_index().unwrap_or(1);
    let _ = reader.select(first_held, is_needed, |event| {
        if event.event_type == OBSERVATION {
            observation = Some(event.index);
        } else if events::is_first_cycle(&event) {
            runs += 1;
            let begins_with_observation = observation == Some(event.index - 1);
            first_index = event.index - u64::from(begins_with_observation);
        }
        Ok::<(), zero_bus::Error>(())
    });
    match runs {
        // A run that began before the start of the log cannot be reported about.
        0 => LastRun { first_index: 1, earlier_runs: 0 },
        1 if first_held == 1 => LastRun { first_index: 1, earlier_runs: 0 },
        _ => LastRun { first_index, earlier_runs: runs - 1 },
    }
}

/// What the events so far add up to.
struct Fold {
    begins_after: Option<u64>,
    /// Events count only after the next position snapshot.
    waits_for_snapshot: bool,
    contradiction: Option<String>,
    curve: Curve,
    cycles: u64,
    decisions: u64,
    earlier_runs: u64,
    expired: u64,
    from: Option<f64>,
    head: Head,
    ignored: Option<(u64, String)>,
    ledger: Ledger,
    market_source: Option<String>,
    max_drawdown: Option<Drawdown>,
    /// The highest equity so far, and its time; `None` for the time of the start cash.
    peak: (f64, Option<f64>),
    rejections: BTreeMap<String, u64>,
    run_name: Option<String>,
    /// The settings of the last cycle.
    settings: Option<CycleSettings>,
    settings_changes: Vec<SettingsChange>,
    settings_changes_left_out: u64,
    start_cash_recorded: bool,
    start_cash_usd: f64,
    strategy: Option<Strategy>,
    strategy_failures: u64,
    to: Option<f64>,
}

impl Default for Fold {
    fn default() -> Self {
        Self {
            begins_after: None,
            waits_for_snapshot: false,
            contradiction: None,
            curve: Curve::default(),
            cycles: 0,
            decisions: 0,
            earlier_runs: 0,
            expired: 0,
            from: None,
            head: Head::default(),
            ignored: None,
            ledger: Ledger::new(DEFAULT_START_CASH_USD),
            market_source: None,
            max_drawdown: None,
            peak: (DEFAULT_START_CASH_USD, None),
            rejections: BTreeMap::new(),
            run_name: None,
            settings: None,
            settings_changes: Vec::new(),
            settings_changes_left_out: 0,
            start_cash_recorded: false,
            start_cash_usd: DEFAULT_START_CASH_USD,
            strategy: None,
            strategy_failures: 0,
            to: None,
        }
    }
}

impl Fold {
    fn add<E>(&mut self, event: &Event, row: &mut dyn FnMut(Row<'_>) -> Result<(), E>) -> Result<(), E> {
        self.head = Head { index: event.index, checksum: Some(event.checksum) };
        if [RETIRED_TYPE, RECOVERED_TYPE].contains(&event.event_type.as_str()) {
            // Not of the run: these have the time of the machine, also in a run on old bars.
            return Ok(());
        }
        if self.waits_for_snapshot {
            if event.event_type == POSITIONS {
                self.begin_after(event);
            }
            return Ok(());
        }
        self.from.get_or_insert(event.as_of);
        self.to = Some(event.as_of);
        match event.event_type.as_str() {
            OBSERVATION => self.add_prices(event),
            CYCLE => self.add_cycle(event),
            DECISION => self.add_decision(event),
            FILL => self.add_fill(event, row)?,
            REJECTION => self.add_rejection(event, row)?,
            ORDER_EXPIRED => self.expired += 1,
            POSITIONS => self.compare(event),
            STRATEGY_FAILED => self.strategy_failures += 1,
            _ => {}
        }
        // A producer without cycles has no other end of a step than its fills and prices.
        let ends_step = match event.event_type.as_str() {
            POSITIONS => true,
            FILL | OBSERVATION => self.cycles == 0 && self.ledger.fills > 0,
            _ => false,
        };
        if ends_step { self.add_point(event, row) } else { Ok(()) }
    }

    /// Begins with the positions and the cash of a snapshot. Without a cash, the default is what
    /// cash and positions were worth.
    fn begin_after(&mut self, event: &Event) {
        let positions = match events::positions(event) {
            Ok(positions) => positions,
            // The next snapshot may have what is needed.
            Err(problem) => return self.ignore(event, &problem),
        };
        self.waits_for_snapshot = false;
        self.begins_after = Some(event.index);
        (self.from, self.to) = (Some(event.as_of), Some(event.as_of));
        let cost_usd: f64 = positions.iter().map(|held| held.quantity * held.avg_price).sum();
        for held in &positions {
            self.ledger.begin_with(held, event.as_of);
        }
        let cash_usd = events::stated_cash_and_equity(event).0;
        self.start_cash_recorded = cash_usd.is_some();
        self.ledger.cash_usd = cash_usd.unwrap_or(DEFAULT_START_CASH_USD - cost_usd);
        self.start_cash_usd = self.ledger.cash_usd + cost_usd;
        self.peak = (self.ledger.cash_usd + self.ledger.exposure().net_usd, Some(event.as_of));
    }

    fn add_prices(&mut self, event: &Event) {
        match events::closes(event) {
            Ok(closes) => {
                for (symbol, close) in closes {
                    self.ledger.set_mark(&symbol, MarkSource::Candle, close);
                }
            }
            Err(problem) => self.ignore(event, &problem),
        }
    }

    fn add_cycle(&mut self, event: &Event) {
        let CycleFields { cash_usd, market_source, run_name, settings, strategy } =
            events::cycle_fields(event);
        self.cycles += 1;
        self.add_settings(event, settings);
        self.run_name = self.run_name.take().or(run_name);
        self.market_source = self.market_source.take().or(market_source);
        self.strategy = strategy.or(self.strategy.take());
        // Only before the first fill is the recorded cash the start cash.
        let is_start = self.cycles == 1 && self.ledger.fills == 0 && self.begins_after.is_none();
        if let Some(cash_usd) = cash_usd.filter(|_| is_start) {
            self.start_cash_recorded = true;
            self.start_cash_usd = cash_usd;
            self.ledger.cash_usd = cash_usd;
            self.peak = (cash_usd, None);
        }
    }

    fn add_settings(&mut self, event: &Event, settings: CycleSettings) {
        let earlier = self.settings.replace(settings);
        let changes = self.settings.as_ref().zip(earlier).and_then(|(new, old)| new.changes_since(&old));
        let Some(changes) = changes else { return };
        if self.settings_changes.len() < MAX_SETTINGS_CHANGES {
            self.settings_changes.push(SettingsChange { changes, event_index: event.index });
        } else {
            self.settings_changes_left_out += 1;
        }
    }

    fn add_decision(&mut self, event: &Event) {
        self.decisions += 1;
        if let Some((symbol, price)) = events::decision_price(event) {
            self.ledger.set_mark(&symbol, MarkSource::Decision, price);
        }
        // Fills at the close follow their decision and cost something, so the equity may be highest
        // here.
        let equity_usd = self.ledger.cash_usd + self.ledger.exposure().net_usd;
        self.raise_peak(equity_usd, event.as_of);
    }

    fn raise_peak(&mut self, equity_usd: f64, as_of: f64) {
        if equity_usd > self.peak.0 {
            self.peak = (equity_usd, Some(as_of));
        }
    }

    fn add_fill<E>(&mut self, event: &Event, row: &mut dyn FnMut(Row<'_>) -> Result<(), E>) -> Result<(), E> {
        let fill = events::fill(event);
        let applied = fill.and_then(|fill| self.ledger.fill(&fill).map(|trade| (fill, trade)));
        match applied {
            Ok((fill, trade)) => {
                row(Row::Fill(&fill))?;
                trade.as_ref().map_or(Ok(()), |trade| row(Row::Trade(trade)))
            }
            Err(problem) => {
                self.ignore(event, &problem);
                Ok(())
            }
        }
    }

    fn add_rejection<E>(
        &mut self,
        event: &Event,
        row: &mut dyn FnMut(Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let rejection = events::rejection(event);
        if let Some(symbol) = &rejection.symbol {
            self.ledger.reject(symbol, MAX_NAMES);
        }
        let mut reason: String = rejection.reason.chars().take(MAX_REASON_CHARACTERS).collect();
        if self.rejections.len() >= MAX_NAMES && !self.rejections.contains_key(&reason) {
            reason = OTHER_REASONS.to_owned();
        }
        *self.rejections.entry(reason).or_default() += 1;
        row(Row::Rejection(&rejection))
    }

    fn add_point<E>(
        &mut self,
        event: &Event,
        row: &mut dyn FnMut(Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let exposure = self.ledger.exposure();
        let cash_usd = self.ledger.cash_usd;
        let equity_usd = cash_usd + exposure.net_usd;
        self.raise_peak(equity_usd, event.as_of);
        let (peak_usd, peak_as_of) = self.peak;
        let fall_usd = peak_usd - equity_usd;
        let pct = if peak_usd > 0.0 { fall_usd / peak_usd * 100.0 } else { 0.0 };
        if peak_usd > 0.0 && self.max_drawdown.is_none_or(|drawdown| pct > drawdown.pct) {
            let lowest_as_of = event.as_of;
            self.max_drawdown = Some(Drawdown { lowest_as_of, peak_as_of, peak_usd, pct, usd: fall_usd });
        }
        let point = EquityPoint {
            as_of: event.as_of,
            cash_usd,
            drawdown_pct: pct,
            equity_usd,
            event_index: event.index,
            gross_exposure_usd: exposure.gross_usd,
            net_exposure_usd: exposure.net_usd,
        };
        self.curve.add(point);
        row(Row::Point(&point))
    }

    /// Compares the cash and the equity that a position snapshot states with the sums.
    fn compare(&mut self, event: &Event) {
        if self.contradiction.is_some() {
            return;
        }
        let net_usd = self.ledger.exposure().net_usd;
        let equity_usd = self.ledger.cash_usd + net_usd;
        // Sums of doubles may differ in their last digits.
        let tolerance = 1e-9 * (self.ledger.cash_usd.abs() + net_usd.abs() + 1.0);
        let stated = events::stated_cash_and_equity(event);
        for (name, stated, computed) in
            [("cash_usd", stated.0, self.ledger.cash_usd), ("equity_usd", stated.1, equity_usd)]
        {
            if let Some(stated) = stated.filter(|stated| (stated - computed).abs() > tolerance) {
                let id = event.id();
                self.contradiction = Some(format!(
                    "{id} states {name} {stated}, but the events up to it add up to {computed}"
                ));
                return;
            }
        }
    }

    fn ignore(&mut self, event: &Event, problem: &str) {
        let first = || (0, format!("{} ({}): {problem}", event_id(event.index), event.event_type));
        self.ignored.get_or_insert_with(first).0 += 1;
    }

    fn finish(self) -> Report {
        let exposure = self.ledger.exposure();
        Report {
            begins_after: self.begins_after,
            by_symbol: self.ledger.by_symbol(),
            cash_usd: self.ledger.cash_usd,
            contradiction: self.contradiction,
            curve: self.curve.points(),
            cycles: self.cycles,
            decisions: self.decisions,
            earlier_runs: self.earlier_runs,
            equity_usd: self.ledger.cash_usd + exposure.net_usd,
            expired: self.expired,
            fees_usd: self.ledger.fees_usd,
            fills: self.ledger.fills,
            from: self.from,
            head: self.head,
            ignored: self.ignored,
            market_source: self.market_source,
            max_drawdown: self.max_drawdown,
            positions: self.ledger.positions(),
            price_costs_usd: self.ledger.price_costs_usd,
            realized_pnl_usd: self.ledger.realized_pnl_usd,
            rejections: self.rejections,
            run_name: self.run_name,
            settings_changes: self.settings_changes,
            settings_changes_left_out: self.settings_changes_left_out,
            start_cash_usd: self.start_cash_usd,
            start_cash_recorded: self.start_cash_recorded,
            strategy: self.strategy,
            strategy_failures: self.strategy_failures,
            to: self.to,
            trades: self.ledger.trades,
            unrealized_pnl_usd: exposure.unrealized_pnl_usd,
            last_trades: self.ledger.last_trades,
        }
    }
}

impl Report {
    /// Returns the number of rejected orders.
    pub fn rejected(&self) -> u64 {
        self.rejections.values().sum()
    }

    /// Returns the profit after all costs, in USD: equity minus start cash.
    pub fn net_pnl_usd(&self) -> f64 {
        self.equity_usd - self.start_cash_usd
    }

    /// Returns the profit after all costs in percent of the start cash; `None` if that is 0.
    pub fn return_pct(&self) -> Option<f64> {
        (self.start_cash_usd > 0.0).then(|| self.net_pnl_usd() / self.start_cash_usd * 100.0)
    }

    /// Returns how many of the closed trades are not in [`Report::last_trades`].
    pub fn trades_left_out(&self) -> u64 {
        self.trades.count.saturating_sub(MAX_KEPT_TRADES as u64)
    }

    /// Returns the JSON document of the command `report`. `verdict` is what the verification of the
    /// log says.
    ///
    /// # Errors
    /// A figure exceeds the range of a double.
    pub fn to_json(&self, verdict: &str) -> Result<Json, JsonError> {
        #[derive(Serialize)]
        struct Document<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            begins_after: Option<u64>,
            by_symbol: &'a BTreeMap<String, SymbolFigures>,
            cash_usd: f64,
            equity_usd: f64,
            expired: u64,
            fees_usd: f64,
            fills: u64,
            from: Option<f64>,
            head: Head,
            max_drawdown_pct: Option<f64>,
            positions: &'a [OpenPosition],
            realized_pnl_usd: f64,
            rejections: &'a BTreeMap<String, u64>,
            settings_changes: &'a [SettingsChange],
            to: Option<f64>,
            trades: u64,
            unrealized_pnl_usd: f64,
            verdict: &'a str,
        }
        Json::of(&Document {
            begins_after: self.begins_after,
            by_symbol: &self.by_symbol,
            cash_usd: self.cash_usd,
            equity_usd: self.equity_usd,
            expired: self.expired,
            fees_usd: self.fees_usd,
            fills: self.fills,
            from: self.from,
            head: self.head,
            max_drawdown_pct: self.max_drawdown.map(|drawdown| drawdown.pct),
            positions: &self.positions,
            realized_pnl_usd: self.realized_pnl_usd,
            rejections: &self.rejections,
            settings_changes: &self.settings_changes,
            to: self.to,
            trades: self.trades.count,
            unrealized_pnl_usd: self.unrealized_pnl_usd,
            verdict,
        })
    }
}
