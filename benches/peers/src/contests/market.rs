//! Cycles on market data: with all records against the bare syncs of a cycle, and without records.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use zero_bus::storage::{Directory, Storage};
use zero_bus::{LOG, SNAPSHOT};
use zero_paper::candle::{Bar, Candle};
use zero_paper::feed::{Feed, FeedError, Next};
use zero_paper::market::cycle::Rules;
use zero_paper::market::record::OnFailure;
use zero_paper::market::run_file::RunFile;
use zero_paper::market::runtime::MarketRuntime;
use zero_paper::market::trading::{CycleTime, Trading};
use zero_paper::risk::ReduceOnlyRule;
use zero_paper::start_checkpoint::CHECKPOINT_CYCLES;
use zero_paper::{RecordPaths, SystemClock, strategy};

use crate::log::Logs;
use crate::report::{Report, Row, Unit};
use crate::setup::Setup;
use crate::stats::{Spread, seconds};

/// Cycles that a contender runs in one turn.
const BLOCK: u64 = 10;

const SMA_CROSS: &str = "sma-cross:fast=5,slow=20,quantity=0.1";

/// A program that reads each bar and holds.
const PROGRAM: &str = "exec:python3 -u -c \"import sys\nfor line in sys.stdin: '\\\"bar\\\"' in line and print('{\\\"orders\\\": []}')\"";

pub fn run(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    with_records(setup, report)?;
    let bars = setup.times(200_000, 5_000) as u64;
    without_records(setup, report, "bars, `sma-cross` on one symbol, no records", SMA_CROSS, bars, 50_000.0)?;
    let bars = setup.times(20_000, 1_000) as u64;
    without_records(setup, report, "bars, a program in Python that holds, no records", PROGRAM, bars, 5_000.0)
}

fn with_records(setup: &Setup, report: &mut Report) -> Result<()> {
    let temp_dir = setup.temp_dir()?;
    let dir = temp_dir.path().join("run");
    // A whole number of start-up checkpoints, which the measured run writes as well.
    let cycles = setup.times(2 * CHECKPOINT_CYCLES as usize, 20) as u64;
    let storage: Arc<dyn Storage> = Arc::new(Directory::create(&dir)?);
    let runtime = MarketRuntime::start_in(rules()?, &storage, true, Arc::new(SystemClock), &mut Vec::new())?;
    let mut trading = trading(runtime, SMA_CROSS)?;
    trading.run(Some(cycles), || false, &mut ())?;
    let mut bare = Bare::like(&dir, &temp_dir.path().join("bare"), cycles)?;
    let (mut rates, mut bare_rates) = (Vec::new(), Vec::new());
    for _ in 0..setup.rounds {
        let (mut bars, mut bare_s, mut failure) = (0, 0.0, None);
        // Syncs take most of the time. Turns are short, so that both contenders see the same disk.
        // The run is asked before every bar whether to stop: there, the bare syncs take their turn.
        // A run that ends and begins again would write a checkpoint each time.
        let both_s = seconds(|| {
            let turn = || {
                bars += 1;
                if (bars - 1) % BLOCK == 0 {
                    match seconds(|| (0..BLOCK).try_for_each(|_| bare.cycle())) {
                        Ok(turn_s) => bare_s += turn_s,
                        Err(error) => failure = Some(error),
                    }
                }
                failure.is_some()
            };
            Ok(trading.run(Some(cycles), turn, &mut ()).map(drop)?)
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let bare_cycles = cycles.div_ceil(BLOCK) * BLOCK;
        rates.push(cycles as f64 / (both_s - bare_s));
        bare_rates.push(bare_cycles as f64 / bare_s);
    }
    let work = "cycles on market data: bus, journal, `sma-cross` on one symbol";
    let row = Row::ratio(work, "the three bare syncs of a cycle", Unit::Rate, (&rates, &bare_rates))?;
    report.rows.push(row.at_least(0.85, 0.85));
    Ok(())
}

fn without_records(
    setup: &Setup,
    report: &mut Report,
    work: &str,
    spec: &str,
    bars: u64,
    reach: f64,
) -> Result<()> {
    let mut rates = Vec::new();
    for _ in 0..setup.rounds {
        let records = RecordPaths::default();
        let runtime = MarketRuntime::start(rules()?, &records, Arc::new(SystemClock), &mut Vec::new())?;
        let mut trading = trading(runtime, spec)?;
        // The program is started with the first bar.
        trading.run(Some(1), || false, &mut ())?;
        rates.push(bars as f64 / seconds(|| Ok(trading.run(Some(bars), || false, &mut ()).map(drop)?))?);
        trading.finish(&mut ())?;
    }
    let row = Row::figure(work, Unit::Rate, Spread::of(&rates)?);
    report.rows.push(row.at_least(reach, reach));
    Ok(())
}

fn rules() -> Result<Rules> {
    let costs = r#"{"costs":{"fee_bps":4.5,"half_spread_bps":1,"slippage_bps":2}}"#;
    let run = RunFile::parse(costs).map_err(anyhow::Error::msg)?;
    Ok(Rules { run, reduce_only_rule: ReduceOnlyRule::Enforce, on_failure: OnFailure::Stop })
}

fn trading(runtime: MarketRuntime, spec: &str) -> Result<Trading> {
    let strategy = strategy::open(spec, Duration::from_secs(10))?;
    Ok(Trading::on(runtime, Box::new(Wave(0)), strategy, CycleTime::Bar, &mut Vec::new())?)
}

/// An endless market in which the price of one symbol goes up and down.
struct Wave(u64);

impl Feed for Wave {
    fn source(&self) -> &str {
        "wave"
    }

    fn next(&mut self, _: Duration) -> Result<Next, FeedError> {
        let price = |n: u64| 100.0 + 10.0 * (n as f64 / 30.0).sin();
        let (n, interval_s) = (self.0, 60.0);
        self.0 += 1;
        let (open, close, ts) = (price(n), price(n + 1), interval_s * n as f64);
        let (high, low, symbol) = (open.max(close), open.min(close), "BTC".to_owned());
        let candles = vec![Candle { close, high, low, open, symbol, ts, volume: 1.0 }];
        Ok(Next::Bar(Bar { ts, interval_s, candles }))
    }

    fn is_live(&self) -> bool {
        false
    }

    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Makes the system calls that a cycle needs to be durable, with the same number of bytes.
struct Bare {
    journal: (File, Vec<u8>),
    log: (File, Vec<u8>),
    snapshot: Vec<u8>,
    temporary: PathBuf,
    current: PathBuf,
}

impl Bare {
    fn like(model: &Path, dir: &Path, cycles: u64) -> Result<Self> {
        fs::create_dir(dir)?;
        // A cycle writes the average number of bytes.
        let open = |name: &str| -> Result<(File, Vec<u8>)> {
            let bytes = model.join(name).metadata().with_context(|| format!("no {name}"))?.len() / cycles;
            let file = File::options().append(true).create(true).open(dir.join(name))?;
            Ok((file, vec![b'x'; bytes as usize]))
        };
        Ok(Self {
            journal: open("cycles.jsonl")?,
            log: open(LOG)?,
            snapshot: fs::read(model.join(SNAPSHOT))?,
            temporary: dir.join("snapshot.tmp"),
            current: dir.join(SNAPSHOT),
        })
    }

    fn cycle(&mut self) -> Result<()> {
        for (file, bytes) in [&mut self.journal, &mut self.log] {
            file.write_all(bytes)?;
            file.sync_data()?;
        }
        let mut temporary = File::create(&self.temporary)?;
        temporary.write_all(&self.snapshot)?;
        temporary.sync_data()?;
        fs::rename(&self.temporary, &self.current)?;
        Ok(())
    }
}
