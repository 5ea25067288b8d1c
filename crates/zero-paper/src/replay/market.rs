//! Runs cycles on market data again: fills, valuation, checks, from the recorded observations,
//! settings and orders.

use std::path::PathBuf;

use zero_bus::{Event, Json, event_id};

use crate::account::{Account, Costs};
use crate::cycle::trace_id;
use crate::error::{Error, Result};
use crate::event_types::{CYCLE, OBSERVATION};
use crate::field::{Field, Problem};
use crate::market::cycle::{self, CycleInput, Decided, OPERATOR, Rules};
use crate::market::events::{after_record, observation, of_cycle};
use crate::market::reader::CycleStart;
use crate::market::record::{Act, MarketCycle, RecordedBar, RecordedCycle};
use crate::market::run_file::{FillRule, RunFile};
use crate::market::state::RunState;
use crate::operator::{Action, CommandsInForce};
use crate::order_record::OrderDecision;
use crate::publish::TypedPayload;
use crate::risk::{ReduceOnlyRule, TradingMode};
use crate::scenario::{Limits, Side};
use crate::state::Change;
use crate::strategy::{Answer, Failure, Intent, Observation, StrategyIdentity};

use super::commands::PossibleCommands;
use super::comparison::{Comparison, CycleFields, null};
use super::limits::LimitOverrides;
use super::results::{ChangedDecision, DecisionChanges, Outcome, Tally, WhatIf};

/// What decides in a cycle that runs again.
pub(super) trait Decider {
    /// The strategy that the cycle names.
    fn identity<'a>(&'a self, recorded: &'a RecordedMarketCycle) -> &'a StrategyIdentity;

    /// Decides, once per cycle.
    fn decide(&mut self, recorded: &RecordedMarketCycle, seen: &Observation<'_>) -> Decided;
}

/// Decides as the record says.
pub(super) struct AsRecorded;

impl Decider for AsRecorded {
    fn identity<'a>(&'a self, recorded: &'a RecordedMarketCycle) -> &'a StrategyIdentity {
        &recorded.cycle.strategy
    }

    fn decide(&mut self, recorded: &RecordedMarketCycle, _: &Observation<'_>) -> Decided {
        recorded.answer()
    }
}

/// Runs the recorded cycles again under their recorded settings.
pub(super) struct MarketReplay {
    /// `None` before the first cycle.
    state: Option<RunState>,
    /// Number of accepted reduce-only orders that did not reduce the position.
    pub(super) trusted_reduce_only: u64,
}

impl MarketReplay {
    pub(super) fn new() -> Self {
        Self { state: None, trusted_reduce_only: 0 }
    }

    /// Begins a cycle with its observation.
    pub(super) fn observe(event: &Event, bar: &RecordedBar) -> Result<Comparison> {
        let payload = observation(&bar.source, bar.cycle_id, &bar.bar)?;
        // The record decides about the rest of the cycle.
        let events = vec![(OBSERVATION, payload), (CYCLE, null())];
        Ok(Comparison::of_market(fields(bar.cycle_id, event.as_of), events, 0))
    }

    /// The runtime has applied a resume.
    pub(super) fn resume(&mut self) {
        self.state.iter_mut().for_each(RunState::resume);
    }

    /// Runs the next cycle. The observation was compared. Also returns how its time differs.
    pub(super) fn run(
        &mut self,
        recorded: &RecordedMarketCycle,
        decider: &mut dyn Decider,
    ) -> Result<(Comparison, Option<Change>)> {
        let state = self.state.get_or_insert_with(|| RunState::new(recorded.cycle.cash_usd));
        self.trusted_reduce_only += recorded.count_trusted(state.account());
        let (trading_mode, flatten) = recorded.conditions(state);
        let rules = recorded.rules(recorded.settings.limits);
        let strategy = &decider.identity(recorded).clone();
        let input = CycleInput { trading_mode, flatten, strategy, ..recorded.input(&rules.run.limits) };
        let cycle = cycle::run(state, &rules, &input, |seen| decider.decide(recorded, seen));
        let events = recorded.events(state, &cycle)?;
        let as_of = recorded.cycle.as_of;
        let time = (recorded.observed_as_of != as_of).then(|| Change {
            after: Json::of(&as_of).unwrap_or_else(|_| null()),
            before: Json::of(&recorded.observed_as_of).unwrap_or_else(|_| null()),
            path: format!("as_of of {}", event_id(recorded.observed_index)),
        });
        Ok((Comparison::of_market(fields(cycle.cycle_id, as_of), events, 1), time))
    }
}

fn fields(cycle_id: u64, as_of: f64) -> CycleFields {
    CycleFields { cycle_id, as_of, trace_id: Some(trace_id(cycle_id)) }
}

/// Runs the recorded orders under other limits.
pub(super) struct MarketWhatIf {
    limits: LimitOverrides,
    /// The state of the recorded run, and that under the other limits; `None` before the first
    /// cycle.
    states: Option<[RunState; 2]>,
    tallies: [Tally; 2],
    changes: DecisionChanges,
    cycles: u64,
    trusted_reduce_only: u64,
}

impl MarketWhatIf {
    pub(super) fn new(limits: LimitOverrides) -> Self {
        Self {
            limits,
            states: None,
            tallies: [Tally::default(), Tally::default()],
            changes: DecisionChanges::default(),
            cycles: 0,
            trusted_reduce_only: 0,
        }
    }

    /// The runtime has applied a resume.
    pub(super) fn resume(&mut self) {
        self.states.iter_mut().flatten().for_each(RunState::resume);
    }

    /// Runs the next cycle.
    pub(super) fn add(&mut self, recorded: &RecordedMarketCycle) {
        let start = || RunState::new(recorded.cycle.cash_usd);
        let [as_recorded, other] = self.states.get_or_insert_with(|| [start(), start()]);
        self.cycles += 1;
        self.trusted_reduce_only += recorded.count_trusted(as_recorded.account());
        as_recorded.apply(&recorded.bar.bar, &recorded.cycle);
        let rules = recorded.rules(self.limits.apply(recorded.settings.limits));
        let input = recorded.input(&rules.run.limits);
        let act = cycle::run(other, &rules, &input, |_| recorded.answer()).act;
        let [recorded_tally, what_if_tally] = &mut self.tallies;
        recorded_tally.add_cycle(as_recorded, &recorded.cycle.act);
        what_if_tally.add_cycle(other, &act);
        let cycle_id = recorded.cycle.cycle_id;
        for (before, after) in pairs(&recorded.cycle.act.decisions, &act.decisions) {
            self.changes.add(|| changed(cycle_id, before, after));
        }
    }

    pub(super) fn finish(self) -> WhatIf {
        let [recorded, what_if] = self.tallies;
        WhatIf {
            changed_decisions: self.changes.count,
            changes: self.changes.first,
            cycles: self.cycles,
            recorded,
            trusted_reduce_only: self.trusted_reduce_only,
            what_if,
        }
    }
}

impl Tally {
    fn add_cycle(&mut self, state: &RunState, act: &Act) {
        self.fills += (act.fills.len() + act.immediate_fills.len()) as u64;
        for decision in act.decisions.iter().filter(|decision| !decision.allowed) {
            *self.rejections.entry(decision.reason.clone()).or_default() += 1;
        }
        self.set_positions(state.account().book().records());
        self.equity_usd = Some(state.account().equity_usd());
    }
}

/// Pairs the decisions of a cycle in two runs. Both have the strategy's orders; the orders that
/// close positions for the operator follow from the account, so one run may lack some.
fn pairs<'a>(
    recorded: &'a [OrderDecision],
    other: &'a [OrderDecision],
) -> Vec<(Option<&'a OrderDecision>, Option<&'a OrderDecision>)> {
    let operator = |decisions: &'a [OrderDecision]| decisions.split_at(leading_operator_orders(decisions));
    let ((closing, orders), (other_closing, other_orders)) = (operator(recorded), operator(other));
    let same = |a: &OrderDecision, b: &OrderDecision| a.idempotency_key == b.idempotency_key;
    let partner = |decision: &'a OrderDecision| {
        (Some(decision), other_closing.iter().find(|other| same(decision, other)))
    };
    let alone = other_closing.iter().filter(|other| !closing.iter().any(|decision| same(decision, other)));
    let both = orders.iter().zip(other_orders);
    closing
        .iter()
        .map(partner)
        .chain(alone.map(|other| (None, Some(other))))
        .chain(both.map(|(decision, other)| (Some(decision), Some(other))))
        .collect()
}

fn leading_operator_orders(decisions: &[OrderDecision]) -> usize {
    decisions.iter().take_while(|decision| decision.source == OPERATOR).count()
}

/// The decision about an order if it is another one under the other limits.
fn changed(
    cycle_id: u64,
    recorded: Option<&OrderDecision>,
    what_if: Option<&OrderDecision>,
) -> Option<ChangedDecision> {
    let order = recorded.or(what_if)?;
    let key = |decision: Option<&OrderDecision>| decision.map(|d| (d.allowed, d.reason.clone()));
    let outcome = |decision: &OrderDecision| {
        let (allowed, limit, reason) = (decision.allowed, decision.limit.clone(), decision.reason.clone());
        Outcome { allowed, limit, reason }
    };
    (key(recorded) != key(what_if)).then(|| ChangedDecision {
        cycle_id,
        quantity: order.quantity,
        recorded: recorded.map(outcome),
        side: order.side,
        symbol: order.symbol.clone(),
        what_if: what_if.map(outcome),
    })
}

/// A recorded cycle, with what it takes to run it again.
pub(super) struct RecordedMarketCycle {
    /// Event of the cycle record.
    pub(super) event: Event,
    observed_index: u64,
    observed_as_of: f64,
    pub(super) bar: RecordedBar,
    pub(super) cycle: RecordedCycle,
    pub(super) settings: Settings,
    answer: Answer,
    /// The trading modes that may have been in force, and the flatten command that the runtime may
    /// have been carrying out, most likely first.
    commands: Vec<(TradingMode, Option<u64>)>,
    log: PathBuf,
}

/// What a cycle record says that its cycle was decided under.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) costs: Costs,
    pub(super) fill: FillRule,
    pub(super) limit_bars: u64,
    pub(super) reduce_only_rule: ReduceOnlyRule,
    /// `None` if the record names a mode that is not known.
    trading_mode: Option<TradingMode>,
    data_age_s: Option<f64>,
    stale_data: bool,
    flatten: Option<u64>,
}

impl RecordedMarketCycle {
    pub(super) fn read(
        event: Event,
        start: CycleStart,
        commands: &PossibleCommands,
        log: PathBuf,
    ) -> Result<Self> {
        let CycleStart { payloads: [_, record], index, as_of, bar, cycle } = start;
        let record = record.value();
        let root = Field::root(&record);
        let read = || -> Result<_, Problem> {
            let decide = root.required("decide")?;
            let operator_orders = leading_operator_orders(&cycle.act.decisions);
            Ok((read_settings(&root)?, read_answer(&decide, operator_orders, &cycle)?))
        };
        let (settings, answer) = read().map_err(|problem| Error::Refused {
            path: log.clone(),
            problem: format!("{}: {problem}; the cycle cannot be replayed", event.id()),
        })?;
        let commands = commands.sets().map(mode_and_flatten).collect();
        Ok(Self {
            event,
            observed_index: index,
            observed_as_of: as_of,
            bar,
            cycle,
            settings,
            answer,
            commands,
            log,
        })
    }

    /// What the strategy decided, as recorded.
    pub(super) fn answer(&self) -> Decided {
        match &self.cycle.failure {
            Some(failure) => Err(Failure { kind: failure.kind, reason: failure.reason.clone() }),
            None => Ok(self.answer.clone()),
        }
    }

    /// The settings with other limits.
    pub(super) fn rules(&self, limits: Limits) -> Rules {
        let Settings { costs, fill, limit_bars, reduce_only_rule, .. } = self.settings;
        let run = RunFile {
            name: self.cycle.scenario.clone(),
            limits,
            costs,
            fill,
            limit_bars,
            ..RunFile::default()
        };
        let on_failure = self.cycle.failure.as_ref().map(|failure| failure.on_failure).unwrap_or_default();
        Rules { run, reduce_only_rule, on_failure }
    }

    /// What the cycle started from, as recorded. The commands were not compared with the bus.
    fn input(&self, limits: &Limits) -> CycleInput<'_> {
        let Settings { trading_mode, data_age_s, stale_data, flatten, .. } = self.settings;
        let bar = &self.bar.bar;
        CycleInput {
            source: &self.bar.source,
            bar,
            price: self.submitted_price(),
            as_of: self.cycle.as_of,
            data_age_s,
            // Without a limit, a bar of a live feed is stale after one interval.
            max_data_age_s: limits.max_data_age_s.or(stale_data.then_some(bar.interval_s)),
            trading_mode: trading_mode.unwrap_or_default(),
            flatten,
            strategy: &self.cycle.strategy,
        }
    }

    /// The price that came with an order of another program.
    fn submitted_price(&self) -> Option<(&str, f64)> {
        if !self.bar.bar.candles.is_empty() {
            return None;
        }
        let submitted = self.cycle.act.decisions.iter().find(|decision| decision.source != OPERATOR)?;
        Some((&submitted.symbol, submitted.price?))
    }

    /// Returns trading mode and flatten command: the recorded ones if the commands on the bus allow
    /// them, otherwise the most likely ones.
    fn conditions(&self, state: &RunState) -> (TradingMode, Option<u64>) {
        let account = state.account();
        let is_flat = account.book().open_positions() == 0 && account.open_orders().is_empty();
        let mut possible = self.commands.iter().map(|(mode, flatten)| (*mode, flatten.filter(|_| !is_flat)));
        let most_likely = possible.clone().next().unwrap_or_default();
        let Settings { trading_mode, flatten, .. } = self.settings;
        possible
            .find(|possible| (Some(possible.0), possible.1) == (trading_mode, flatten))
            .unwrap_or(most_likely)
    }

    /// Returns how many reduce-only orders were accepted although they did not reduce their
    /// position. `account` is the account before the cycle.
    fn count_trusted(&self, account: &Account) -> u64 {
        if self.settings.reduce_only_rule == ReduceOnlyRule::Enforce {
            return 0;
        }
        let (mut account, act) = (account.clone(), &self.cycle.act);
        act.fills.iter().for_each(|fill| account.apply_fill(fill));
        for expired in &act.expired {
            account.close_order(&expired.order_id);
        }
        account.mark_bar(&self.bar.bar);
        self.submitted_price().into_iter().for_each(|(symbol, price)| account.mark(symbol, price));
        let mut trusted = 0;
        for decision in act.decisions.iter().filter(|decision| decision.allowed) {
            let projected = account.projected_position(&decision.symbol);
            let signed = decision.side.signed(decision.quantity);
            let after = projected.after_fill(signed, decision.price.unwrap_or_default());
            trusted += u64::from(decision.reduce_only && !projected.is_reduced_by(&after));
            let opened = act.opened.iter().find(|order| order.order_id == decision.order_id);
            opened.into_iter().for_each(|order| account.open_order(order.clone()));
            let filled = act.immediate_fills.iter().find(|fill| fill.order_id == decision.order_id);
            filled.into_iter().for_each(|fill| account.apply_fill(fill));
        }
        trusted
    }

    /// Returns the events of a cycle that ran again.
    fn events(&self, state: &RunState, cycle: &MarketCycle) -> Result<Vec<TypedPayload>> {
        let events = || -> Result<Vec<TypedPayload>> {
            let failure = cycle.decide.failure.as_ref();
            let after = after_record(state, &cycle.act, &cycle.decide.strategy, failure)?;
            let observed = observation(&self.bar.source, self.bar.cycle_id, &self.bar.bar)?;
            Ok(of_cycle(observed, Json::of(cycle)?, after))
        };
        events().map_err(|error| Error::Refused {
            path: self.log.clone(),
            problem: format!("{}: {error}; the cycle cannot be replayed", self.event.id()),
        })
    }
}

/// The trading mode of a set of commands, and the flatten command that the runtime would carry out
/// if there was something to close.
fn mode_and_flatten(commands: &CommandsInForce) -> (TradingMode, Option<u64>) {
    let mode = commands.trading_mode();
    let first = commands.first_pending().filter(|command| command.action == Some(Action::Flatten));
    (mode, first.filter(|_| mode != TradingMode::Killed).map(|command| command.index))
}

fn read_settings(root: &Field<'_>) -> Result<Settings, Problem> {
    let orient = root.required("orient")?;
    let costs = orient.required("costs")?;
    let cost = |key| costs.required(key)?.number();
    let fill = orient.required("fill")?;
    let rule = orient.required("reduce_only_rule")?;
    let (rule_name, mode_name) = (rule.text()?, orient.required("trading_mode")?.text()?);
    let rules = [ReduceOnlyRule::Enforce, ReduceOnlyRule::Trust];
    let modes = [TradingMode::Open, TradingMode::ReduceOnly, TradingMode::Paused, TradingMode::Killed];
    let flatten = root.required("decide")?.optional("flatten_command_index");
    Ok(Settings {
        limits: read_limits(&orient.required("limits")?)?,
        costs: Costs {
            fee_bps: cost("fee_bps")?,
            half_spread_bps: cost("half_spread_bps")?,
            slippage_bps: cost("slippage_bps")?,
        },
        fill: FillRule::named(fill.text()?).ok_or_else(|| fill.problem("must be `next_open` or `close`"))?,
        limit_bars: orient.required("limit_bars")?.count()?,
        reduce_only_rule: rules
            .into_iter()
            .find(|known| known.name() == rule_name)
            .ok_or_else(|| rule.problem("must be `enforce` or `trust`"))?,
        trading_mode: modes.into_iter().find(|mode| mode.name() == mode_name),
        data_age_s: orient.required("data_age_s")?.nullable_number()?,
        stale_data: orient.required("stale_data")?.bool()?,
        flatten: flatten.map(|flatten| flatten.count()).transpose()?,
    })
}

fn read_limits(limits: &Field<'_>) -> Result<Limits, Problem> {
    let required = |key| limits.required(key)?.number();
    let optional = |key| limits.optional(key).map(|limit| limit.number()).transpose();
    Ok(Limits {
        max_notional_usd: required("max_notional_usd")?,
        max_position_notional_usd: required("max_position_notional_usd")?,
        max_leverage: Limits::default().max_leverage,
        min_confidence: required("min_confidence")?,
        max_gross_exposure_usd: optional("max_gross_exposure_usd")?,
        max_daily_loss_usd: optional("max_daily_loss_usd")?,
        max_drawdown_pct: optional("max_drawdown_pct")?,
        max_orders_per_minute: optional("max_orders_per_minute")?,
        max_data_age_s: optional("max_data_age_s")?,
    })
}

/// Reads what the strategy answered: the intents after those of the operator.
fn read_answer(decide: &Field<'_>, operator_orders: usize, cycle: &RecordedCycle) -> Result<Answer, Problem> {
    let hold_reason = decide.optional("hold_reason").map(|reason| reason.text().map(str::to_owned));
    let intents = decide.required("intents")?;
    Ok(Answer {
        intents: intents
            .items()?
            .skip(operator_orders)
            .map(|intent| read_intent(&intent))
            .collect::<Result<_, _>>()?,
        state: cycle.state.clone(),
        hold_reason: hold_reason.transpose()?,
    })
}

fn read_intent(intent: &Field<'_>) -> Result<Intent, Problem> {
    let text = |key| Ok::<_, Problem>(intent.required(key)?.text()?.to_owned());
    let side = intent.required("side")?;
    Ok(Intent {
        symbol: text("symbol")?,
        side: Side::parse(side.text()?).ok_or_else(|| side.problem("must be `buy` or `sell`"))?,
        quantity: intent.required("quantity")?.positive()?,
        confidence: intent.required("confidence")?.number()?,
        reason: text("reason")?,
        reduce_only: intent.required("reduce_only")?.bool()?,
        limit_price: intent.optional_unless_null("limit_price").map(|price| price.number()).transpose()?,
        key: intent.optional_unless_null("key").map(|key| key.text().map(str::to_owned)).transpose()?,
    })
}
