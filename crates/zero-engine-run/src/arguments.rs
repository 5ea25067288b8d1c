//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use zero_bus::AmbiguousTail;
use zero_paper::RecordPaths;
use zero_paper::market::record::OnFailure;
use zero_paper::market::trading::CycleTime;
use zero_paper::risk::ReduceOnlyRule;
use zero_paper::start_checkpoint::CheckpointOptions;

/// Name of the program, for messages.
pub(crate) const PROGRAM: &str = "zero-engine-run";

/// Run the paper trading runtime.
///
/// Each cycle observes, orients, decides, acts and learns, and is recorded. Standard output gets
/// the last cycle record (or the parity report, or the answers to orders) and nothing else. On a
/// terminal, standard error
/// shows the cycles and a summary. SIGINT, SIGTERM and SIGHUP end the run after the current cycle;
/// a second signal ends it at once.
#[derive(Debug, Parser)]
#[command(name = "zero-engine-run", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The scenario to trade, or the run file of a run on market data. Default: for a scenario,
    /// examples/paper-trading/scenario.json, or a built-in copy of it if that file does not exist;
    /// for market data, the default limits, 10000 USD and no costs.
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// Trade on market data from this source: a .jsonl or .csv file with candles, a directory of
    /// them, `-` for standard input, exec:COMMAND, or hyperliquid:SYM,SYM[@INTERVAL].
    #[arg(long, value_name = "SOURCE", requires = "strategy", conflicts_with = "orders")]
    pub(crate) market: Option<String>,
    /// Decide with this strategy: close-above-open:FILE, sma-cross:fast=N,slow=M,quantity=Q, or
    /// exec:COMMAND.
    #[arg(long, value_name = "SPEC", requires = "market", conflicts_with = "orders")]
    pub(crate) strategy: Option<String>,
    /// Take orders from this file, or from standard input with `-`: one JSON object per line, with
    /// its price. Standard output gets one answer per line, once it is durable.
    #[arg(long, value_name = "FILE")]
    pub(crate) orders: Option<String>,
    /// The time of a cycle on market data: the end of its bar, or the wall clock.
    #[arg(long, value_name = "bar|wall", default_value = "bar", value_parser = parse_clock, requires = "market")]
    pub(crate) clock: CycleTime,
    /// How long a strategy's program may take for an answer.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "5.0",
        value_parser = parse_timeout,
        allow_negative_numbers = true,
        requires = "market"
    )]
    pub(crate) strategy_timeout: Duration,
    /// What to do once the strategy has failed. The cycle holds in any case.
    #[arg(
        long,
        value_name = "stop|hold",
        default_value = "stop",
        value_parser = parse_on_failure,
        requires = "market"
    )]
    pub(crate) on_failure: OnFailure,
    /// Keep no records.
    #[arg(long, conflicts_with_all = ["journal", "cycle_journal", "runtime_bus"])]
    pub(crate) dry: bool,
    /// Keep the decisions in this file, and resume from the decisions in it. A run on market data
    /// keeps its whole cycles there.
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Append every cycle record to this file. Not for runs on market data.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["market", "orders"])]
    pub(crate) cycle_journal: Option<PathBuf>,
    /// Publish every cycle on the bus in this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_bus: Option<PathBuf>,
    /// Rebuild the decision journal from the bus before the start. The old journal is kept next to
    /// it.
    #[arg(long, requires = "journal", requires = "runtime_bus")]
    pub(crate) rebuild_journal: bool,
    /// Read and compare all records before the start. Without this option, a start trusts the
    /// start-up checkpoint if the records still have what it names, and reads what comes after it.
    #[arg(long)]
    pub(crate) full_check: bool,
    /// What to do about an ambiguous tail of the bus, which a power cut can leave: valid events
    /// after an invalid line. `refuse` does not start; `quarantine` moves the tail to a file next
    /// to the log, records that on the bus, and starts.
    #[arg(long, value_name = "ACTION", value_enum, default_value_t = OnAmbiguousTail::Refuse)]
    pub(crate) on_ambiguous_tail: OnAmbiguousTail,
    /// Run one cycle.
    #[arg(long, conflicts_with = "max_cycles")]
    pub(crate) once: bool,
    /// Run this many cycles. Without this option and --once, the runtime runs until it is stopped.
    #[arg(long, value_name = "N", value_parser = parse_cycles, allow_negative_numbers = true)]
    pub(crate) max_cycles: Option<u64>,
    /// Pause this long between two cycles. Not for runs on market data.
    #[arg(
        long,
        conflicts_with_all = ["market", "orders"],
        value_name = "SECONDS",
        default_value = "5.0",
        value_parser = parse_interval,
        allow_negative_numbers = true
    )]
    pub(crate) interval: Duration,
    /// Give every record this time, in seconds since the Unix epoch, so that a run can be repeated
    /// byte for byte.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, allow_negative_numbers = true)]
    pub(crate) fixed_clock: Option<f64>,
    /// Accept every order marked reduce-only, whatever it does to the position. This is the rule of
    /// older recorded runs. Without this option, a reduce-only order that would open, increase or
    /// reverse a position is rejected.
    #[arg(long)]
    pub(crate) trust_reduce_only: bool,
    /// Write the production-parity report instead: run the scenario on paper and show that the live
    /// path refuses its orders.
    #[arg(long, conflicts_with_all = ["market", "orders"])]
    pub(crate) production_parity: bool,
    /// Directory of the parity report and its records. Used with --production-parity only.
    #[arg(long, value_name = "DIR", default_value = "artifacts/runtime-parity")]
    pub(crate) output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  zero-engine-run --once
  zero-engine-run --scenario my.json --journal decisions.jsonl --runtime-bus bus --interval 1
  zero-engine-run --market candles.csv --strategy sma-cross:fast=5,slow=20,quantity=1 --runtime-bus bus
  zero-engine-run --orders - --scenario run.json --runtime-bus bus
  zero-engine-run --production-parity --scenario my.json --output parity

Exit codes: 0 passed, 1 failed (the parity report is not ok, a record is damaged, or the strategy failed),
2 could not run, 3 the operator's kill stopped the run or blocks the start.";

/// A value of `--on-ambiguous-tail`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnAmbiguousTail {
    Refuse,
    Quarantine,
}

impl Arguments {
    /// Returns what to do about an ambiguous tail of the bus.
    pub(crate) fn ambiguous_tail(&self) -> AmbiguousTail {
        match self.on_ambiguous_tail {
            OnAmbiguousTail::Refuse => AmbiguousTail::Refuse,
            OnAmbiguousTail::Quarantine => AmbiguousTail::Quarantine,
        }
    }

    /// Returns the rule for reduce-only orders that would not reduce a position.
    pub(crate) fn reduce_only_rule(&self) -> ReduceOnlyRule {
        if self.trust_reduce_only { ReduceOnlyRule::Trust } else { ReduceOnlyRule::Enforce }
    }

    /// Returns where the records are kept.
    pub(crate) fn records(&self) -> RecordPaths {
        RecordPaths {
            journal: self.journal.clone(),
            cycle_journal: self.cycle_journal.clone(),
            runtime_bus: self.runtime_bus.clone(),
            rebuild_journal: self.rebuild_journal,
            on_ambiguous_tail: self.ambiguous_tail(),
            checkpoint: CheckpointOptions { full_check: self.full_check, ..CheckpointOptions::default() },
        }
    }

    /// Returns the number of cycles to run; `None` to run until stopped.
    pub(crate) fn cycles(&self) -> Option<u64> {
        if self.once { Some(1) } else { self.max_cycles }
    }
}

fn parse_cycles(text: &str) -> Result<u64, String> {
    let cycles = text.parse().ok().filter(|cycles| *cycles > 0);
    cycles.ok_or_else(|| "must be a whole number, at least 1".to_owned())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => Ok(seconds),
        _ => Err("not a finite number of seconds".to_owned()),
    }
}

fn parse_clock(text: &str) -> Result<CycleTime, String> {
    match text {
        "bar" => Ok(CycleTime::Bar),
        "wall" => Ok(CycleTime::Wall),
        _ => Err("must be `bar` or `wall`".to_owned()),
    }
}

fn parse_on_failure(text: &str) -> Result<OnFailure, String> {
    OnFailure::named(text).ok_or_else(|| "must be `stop` or `hold`".to_owned())
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_interval(text)? {
        Duration::ZERO => Err("must be above 0".to_owned()),
        timeout => Ok(timeout),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(parse_seconds(text)?).map_err(|_| "is negative or too large".to_owned())
}
