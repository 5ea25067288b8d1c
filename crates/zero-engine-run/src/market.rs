//! Runs on market data: a feed and a strategy, or orders of another program.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use zero_bus::Json;
use zero_paper::market::cycle::Rules;
use zero_paper::market::orders::{LineAnswer, OrderDesk, OrderInput};
use zero_paper::market::record::MarketCycle;
use zero_paper::market::run_file::RunFile;
use zero_paper::market::runtime::MarketRuntime;
use zero_paper::market::trading::{RunEnd as TradingEnd, RunObserver, Trading};
use zero_paper::repeated_keys::describe_repeated;
use zero_paper::{Clock, Error, PauseEnd, feed, strategy};
use zero_program::message::{print_error, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::arguments::{Arguments, PROGRAM};
use crate::market_display::MarketDisplay;
use crate::pause::Pauser;
use crate::run_end::{RunEnd, report_checkpoint_problem, report_kill};

/// Runs a strategy on a feed.
pub(crate) fn run(arguments: &Arguments, source: &str, spec: &str, clock: Arc<dyn Clock>) -> Result<RunEnd> {
    let rules = rules(arguments)?;
    let strategy = strategy::open(spec, arguments.strategy_timeout)?;
    // A live feed continues after the last record, so it is only checked before anything is
    // created. Every other one is opened.
    feed::check(source)?;
    let is_live = source.starts_with("exec:") || source.starts_with("hyperliquid:");
    let feed = if is_live { None } else { Some(feed::open(source, None)?) };
    let mut stop = StopSignal::install()?;
    let runtime = start(arguments, rules, clock)?;
    let feed = match feed.map_or_else(|| feed::open(source, runtime.last_bar_ts()), Ok) {
        Ok(feed) => feed,
        Err(error) => {
            runtime.discard_if_unused();
            return Err(error.into());
        }
    };
    let mut display = MarketDisplay::on_standard_error();
    display.show_start(source, spec, &arguments.records(), &runtime);
    let mut warnings = Vec::new();
    let trading = Trading::on(runtime, feed, strategy, arguments.clock, &mut warnings);
    warnings.iter().for_each(|warning| print_warning(PROGRAM, warning));
    let mut trading = trading?;
    let result = trading.run(arguments.cycles(), || stop.was_given(), &mut display);
    report_checkpoint_problem(trading.runtime().checkpoint_problem());
    let finished = trading.finish(&mut display);
    let outcome = match result {
        Err(error @ Error::StrategyFailed { .. }) => {
            print_error(PROGRAM, &error.into());
            Outcome::Failed
        }
        Err(error) => {
            trading.discard_if_unused();
            return Err(error.into());
        }
        Ok(end) => {
            if end == TradingEnd::FeedEnded && trading.last_cycle().is_none() {
                warn_without_cycle(source, trading.runtime());
            }
            Outcome::Passed
        }
    };
    finished?;
    let killed_by = trading.killed_by();
    let printed = match trading.last_cycle() {
        Some(cycle) => print(&Json::of(cycle)?.pretty(), outcome)?,
        None => outcome,
    };
    // After the cycle record on standard output, which would push the summary off the screen.
    display.show_summary(trading.runtime());
    report_kill(killed_by);
    Ok(RunEnd::of(killed_by, printed))
}

/// Says why the run has no cycle: otherwise it would end in silence, and with exit code 0.
fn warn_without_cycle(source: &str, runtime: &MarketRuntime) {
    let reason = match runtime.state().last_cycle_id() {
        0 => "the feed has no candle".to_owned(),
        last => format!("the feed has no candle after those of cycle {last}, where the records end"),
    };
    print_warning(PROGRAM, &format!("{source}: {reason}; no cycle ran"));
}

/// Answers orders, one line each.
pub(crate) fn run_orders(arguments: &Arguments, input: &str, clock: Arc<dyn Clock>) -> Result<RunEnd> {
    let rules = rules(arguments)?;
    let input = OrderInput::open(input)?;
    let mut stop = StopSignal::install()?;
    let runtime = start(arguments, rules, clock)?;
    let mut display = MarketDisplay::on_standard_error();
    let mut desk = OrderDesk::new(runtime, input);
    desk.warnings().iter().for_each(|warning| print_warning(PROGRAM, warning));
    let mut out = std::io::stdout().lock();
    let result = desk.run(
        arguments.cycles(),
        || stop.was_given(),
        |answer, cycle| {
            cycle.inspect(|cycle| display.show_cycle(cycle));
            write_answer(&mut out, answer)
        },
    );
    match result {
        // Nobody reads the answers any more. What was answered is recorded.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {}
        result => drop(result?),
    }
    report_checkpoint_problem(desk.runtime().checkpoint_problem());
    display.show_summary(desk.runtime());
    report_kill(desk.killed_by());
    Ok(RunEnd::of(desk.killed_by(), Outcome::Passed))
}

fn write_answer(out: &mut impl Write, answer: &LineAnswer) -> zero_paper::Result<()> {
    let line = answer.to_line()?;
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|source| Error::Io { action: "write to", path: "standard output".into(), source })
}

/// Reads the run file.
fn rules(arguments: &Arguments) -> Result<Rules> {
    let run = match &arguments.scenario {
        None => RunFile::default(),
        Some(path) => {
            let run = RunFile::load(path).map_err(|error| match path.exists() {
                true => error.into(),
                false => anyhow!("{}: there is no such run file; name one with --scenario", path.display()),
            })?;
            for field in &run.ignored {
                let path = path.display();
                print_warning(PROGRAM, &format!("{path}: {field}: is not known and has no effect"));
            }
            for field in &run.repeated {
                print_warning(PROGRAM, &format!("{}: {}", path.display(), describe_repeated(field)));
            }
            run
        }
    };
    let (reduce_only_rule, on_failure) = (arguments.reduce_only_rule(), arguments.on_failure);
    Ok(Rules { run, reduce_only_rule, on_failure })
}

fn start(arguments: &Arguments, rules: Rules, clock: Arc<dyn Clock>) -> Result<MarketRuntime> {
    if !arguments.dry && arguments.journal.is_none() && arguments.runtime_bus.is_none() {
        let warning =
            "nothing of this run is kept; --journal and --runtime-bus keep it, --dry says that this is meant";
        print_warning(PROGRAM, warning);
    }
    let mut warnings = Vec::new();
    let started = MarketRuntime::start(rules, &arguments.records(), clock, &mut warnings);
    warnings.iter().for_each(|warning| print_warning(PROGRAM, warning));
    Ok(started?)
}

/// Whether a signal has asked for the end of the run.
struct StopSignal {
    pauser: Pauser,
    given: bool,
}

impl StopSignal {
    /// Installs the handlers. Before the records are opened, so that a signal cannot end the
    /// process while it changes them.
    fn install() -> Result<Self> {
        let (pauser, _) = Pauser::install()?;
        Ok(Self { pauser, given: false })
    }

    fn was_given(&mut self) -> bool {
        self.given |= self.pauser.pause(Duration::ZERO) == PauseEnd::Stop;
        self.given
    }
}

/// Shows cycles on a terminal, and prints warnings in any case.
impl RunObserver for MarketDisplay {
    fn cycle(&mut self, cycle: &MarketCycle) {
        self.show_cycle(cycle);
    }

    fn warning(&mut self, text: &str) {
        print_warning(PROGRAM, text);
    }
}
