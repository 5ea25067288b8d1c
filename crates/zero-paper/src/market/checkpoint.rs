//! What the start-up checkpoint of a run on market data holds.

use serde::Serialize;
use zero_bus::{Json, Reader};

use crate::account::Costs;
use crate::cycle_settings::CycleSettings;
use crate::error::Result;
use crate::field::{Field, Problem};
use crate::scenario::Limits;
use crate::start_checkpoint::{Companions, EarlierKeys, StartCheckpoint, Unusable};
use crate::strategy::StrategyIdentity;

use super::cycle::Rules;
use super::journal::MarketJournal;
use super::record::read_strategy;
use super::recovery::{Basis, History, Place};
use super::run_file::FillRule;
use super::state::RunState;

/// What a strategy remembers of the bars that it has seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StrategyMemory {
    /// The strategy.
    pub(super) identity: StrategyIdentity,
    /// What [`Strategy::memory`](crate::strategy::Strategy::memory) returned.
    pub(super) memory: Json,
}

/// Returns what must be equal for a checkpoint to be used.
pub(super) fn run_settings(rules: &Rules) -> Result<Json> {
    #[derive(Serialize)]
    struct Settings<'a> {
        costs: Costs,
        fill: FillRule,
        kind: &'a str,
        limit_bars: u64,
        limits: &'a Limits,
        name: &'a str,
        reduce_only_rule: &'a str,
        start_cash_usd: f64,
    }
    let run = &rules.run;
    Ok(Json::of(&Settings {
        costs: run.costs,
        fill: run.fill,
        kind: "market",
        limit_bars: run.limit_bars,
        limits: &run.limits,
        name: &run.name,
        reduce_only_rule: rules.reduce_only_rule.name(),
        start_cash_usd: run.start_cash_usd,
    })?)
}

/// Says which settings of the run differ from those of the last recorded cycle.
pub(super) fn settings_warning(
    rules: &Rules,
    cycle_id: u64,
    recorded: &CycleSettings,
) -> Result<Option<String>> {
    let changes = CycleSettings::read(&run_settings(rules)?.value()).changes_since(recorded);
    Ok(changes.map(|changes| {
        format!("the settings changed after cycle {cycle_id}: {changes}; the records name the new ones from here on")
    }))
}

/// Returns the state in the form of a checkpoint.
pub(super) fn state_json(
    state: &RunState,
    history: &History,
    memory: Option<&StrategyMemory>,
) -> Result<Json> {
    #[derive(Serialize)]
    struct Form<'a> {
        history: Json,
        memory: Option<&'a StrategyMemory>,
        run: Json,
    }
    Ok(Json::of(&Form { history: history.to_json()?, memory, run: state.to_json()? })?)
}

/// A place in the records, with all that a start needs to know of what is before it.
#[derive(Default)]
pub(super) struct Found {
    pub(super) basis: Basis,
    pub(super) place: Place,
    pub(super) memory: Option<StrategyMemory>,
    /// See [`EarlierKeys::later`].
    pub(super) later_keys: u64,
}

/// Reads the checkpoint. Returns why it cannot be used, if that is so.
///
/// # Errors
/// As [`Companions::find`].
pub(super) fn find(
    companions: &Companions,
    rules: &Rules,
    bus: Option<&Reader>,
    journal: Option<&MarketJournal>,
) -> Result<Result<Found, Unusable>> {
    let journal = journal.map(MarketJournal::file);
    let found = companions.find(&run_settings(rules)?, bus, journal, None)?;
    let (checkpoint, keys) = match found {
        Ok(found) => found,
        Err(unusable) => return Ok(Err(unusable)),
    };
    Ok(read(checkpoint, keys).map_err(Unusable::Problem))
}

fn read(checkpoint: StartCheckpoint, keys: EarlierKeys) -> Result<Found, Problem> {
    let StartCheckpoint { cycle_id, bus, journal, state, .. } = checkpoint;
    let value = state.value();
    let root = Field::root(&value);
    let state = RunState::read(&root.required("run")?, keys.used)?;
    if state.last_cycle_id() != cycle_id {
        return Err("its state is that of another cycle".to_owned());
    }
    let history = History::read(&root.required("history")?)?;
    let memory = root.optional_unless_null("memory").map(|memory| {
        let identity = read_strategy(&memory.required("identity")?)?;
        Ok::<_, Problem>(StrategyMemory { identity, memory: memory.required("memory")?.json()? })
    });
    let journal = journal.map(|head| head.start()).unwrap_or_default();
    let cursor = bus.unwrap_or_default();
    let place = Place { cycle_id, journal, event_index: cursor.last().index };
    let basis = Basis { state: Some((state, history)), journal, cursor };
    Ok(Found { basis, place, memory: memory.transpose()?, later_keys: keys.later })
}
