//! Live candles that a program prints as NDJSON.
//!
//! The program prints each candle once its bar has closed, in the order of time. A bar is complete
//! when the program prints a candle with a later time, has printed nothing for
//! [`QUIET_TIME`], or has ended.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::candle::{Bar, Candle, FeedCandle, parse_candle};
use crate::child_process::{ChildProcess, Exit, command};
use crate::feed::candle_file::line_error;
use crate::feed::check::{Checks, Irregularity, MAX_SYMBOLS, Place, format_time};
use crate::feed::interface::{DEFAULT_INTERVAL_S, Feed, FeedError, MAX_LINE_BYTES, Next};
use crate::line_reader::NextLine;

/// A bar is complete once nothing was printed for this long after its last candle.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// A program that has closed its output must end within this time.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that one call waits. A longer one is asked for again.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// How many unknown fields are reported.
const MAX_UNKNOWN_FIELDS: usize = 20;

/// The variable that tells a program the time of the last recorded bar, in seconds.
const SINCE_VARIABLE: &str = "ZERO_FEED_SINCE";

/// A program as a feed.
pub(super) struct ProcessFeed {
    source: String,
    /// `None` once it has ended.
    process: Option<ChildProcess>,
    /// The candles of the bar that is being put together, all with one time.
    candles: Vec<Candle>,
    /// When the last of `candles` arrived.
    last_arrival: Instant,
    /// The first candle of the bar after that.
    later: Option<Candle>,
    /// Time of the last delivered bar.
    delivered_ts: Option<f64>,
    interval_s: Option<f64>,
    checks: Checks,
    unknown_fields: Vec<String>,
    /// Why the feed delivers nothing any more.
    failure: Option<FeedError>,
}

/// What [`ProcessFeed::read_candle`] did.
enum Read {
    Candle,
    Pending,
    End,
}

impl ProcessFeed {
    /// Starts a command line.
    pub(super) fn run(source: &str, command_line: &str, since: Option<f64>) -> Result<Self, FeedError> {
        if command_line.trim().is_empty() {
            return Err(FeedError::new(source, "names no command; write exec:COMMAND"));
        }
        let mut program = command(command_line);
        match since {
            Some(since) => program.env(SINCE_VARIABLE, since.to_string()),
            None => program.env_remove(SINCE_VARIABLE),
        };
        Self::start(source, program)
    }

    /// Starts a program.
    pub(super) fn start(source: &str, command: Command) -> Result<Self, FeedError> {
        let name = command.get_program().display().to_string();
        let process = ChildProcess::start(command, false, MAX_LINE_BYTES).map_err(|error| {
            let problem = match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("there is no program {name}")
                }
                _ => format!("cannot start {name}: {error}"),
            };
            FeedError::new(source, problem)
        })?;
        Ok(Self {
            source: source.to_owned(),
            process: Some(process),
            candles: Vec::new(),
            last_arrival: Instant::now(),
            later: None,
            delivered_ts: None,
            interval_s: None,
            checks: Checks::default(),
            unknown_fields: Vec::new(),
            failure: None,
        })
    }
}

impl ProcessFeed {
    fn advance(&mut self, deadline: Instant) -> Result<Next, FeedError> {
        loop {
            if let (Some(later), Some(first)) = (&self.later, self.candles.first()) {
                let interval_s = *self.interval_s.get_or_insert(later.ts - first.ts);
                return Ok(self.deliver(interval_s));
            }
            if self.process.is_none() {
                if self.candles.is_empty() {
                    return Ok(Next::End);
                }
                return Ok(self.deliver(self.interval_s.unwrap_or(DEFAULT_INTERVAL_S)));
            }
            // Without an interval, the close time of the first bar is known from the second one.
            let quiet_bar = self.interval_s.filter(|_| !self.candles.is_empty());
            let complete_at = quiet_bar.map(|_| self.last_arrival + QUIET_TIME);
            match self.read_candle(complete_at.map_or(deadline, |complete_at| complete_at.min(deadline)))? {
                Read::Candle => {}
                Read::End => self.process = None,
                Read::Pending => match quiet_bar {
                    Some(interval_s) if complete_at <= Some(Instant::now()) => {
                        return Ok(self.deliver(interval_s));
                    }
                    _ => return Ok(Next::Pending),
                },
            }
        }
    }

    /// Delivers the bar that was put together. It has at least one candle.
    fn deliver(&mut self, interval_s: f64) -> Next {
        let mut candles = std::mem::replace(&mut self.candles, self.later.take().into_iter().collect());
        candles.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        let ts = candles[0].ts;
        self.delivered_ts = Some(ts);
        Next::Bar(Bar { ts, interval_s, candles })
    }

    /// Reads a line. Waits for it until `deadline`.
    fn read_candle(&mut self, deadline: Instant) -> Result<Read, FeedError> {
        let Some(process) = &mut self.process else { return Ok(Read::End) };
        let line = match process.next_line(deadline) {
            Ok(NextLine::Line(line)) => line,
            Ok(NextLine::Pending) => return Ok(Read::Pending),
            Ok(NextLine::End) => return self.check_exit().map(|()| Read::End),
            Err(error) => return Err(line_error(&self.source, &error)),
        };
        let number = line.number;
        let place = || format!("{}: line {number}", self.source);
        let (unknown_fields, reports) = (&mut self.unknown_fields, self.checks.reports());
        let read = parse_candle(line.text, |field| {
            if unknown_fields.len() < MAX_UNKNOWN_FIELDS && !unknown_fields.iter().any(|known| known == field)
            {
                unknown_fields.push(field.to_owned());
                reports.add(Irregularity::UnknownField, || {
                    format!("{}: {field}: is not known and has no effect", place())
                });
            }
        });
        let read = read.map_err(|problem| FeedError::new(&place(), problem))?;
        self.add(read, number)?;
        Ok(Read::Candle)
    }

    /// Adds a candle to its bar, or drops it if that bar has it already or is over.
    fn add(&mut self, read: FeedCandle, line: u64) -> Result<(), FeedError> {
        let place = || format!("{}: line {line}", self.source);
        let candle = read.candle;
        if let Some(named) = read.interval_s {
            let interval_s = *self.interval_s.get_or_insert(named);
            if interval_s != named {
                let problem = format!("interval_s: is {named}, but the feed's is {interval_s}");
                return Err(FeedError::new(&place(), problem));
            }
        }
        let current_ts = self.candles.first().map(|first| first.ts);
        let is_late = self.delivered_ts >= Some(candle.ts) || current_ts > Some(candle.ts);
        let checked = match is_late {
            true => Err(()),
            false => {
                self.checks.check(&candle, Place { source: 0, line }, self.interval_s, place).map_err(|_| ())
            }
        };
        if checked.is_err() {
            self.checks.reports().add(Irregularity::Late, || {
                let (symbol, time) = (&candle.symbol, format_time(candle.ts));
                format!("{}: {symbol}: dropped a late or repeated candle for {time}", place())
            });
            return Ok(());
        }
        if self.checks.symbols() > MAX_SYMBOLS {
            return Err(FeedError::new(&place(), format!("more than {MAX_SYMBOLS} symbols")));
        }
        self.last_arrival = Instant::now();
        if current_ts.is_none_or(|ts| ts == candle.ts) {
            self.candles.push(candle);
        } else {
            self.later = Some(candle);
        }
        Ok(())
    }

    /// Checks how the program ended, once it has closed its output.
    fn check_exit(&mut self) -> Result<(), FeedError> {
        let exit = self.process.as_mut().and_then(|process| process.wait(Instant::now() + EXIT_TIMEOUT));
        let problem = match exit {
            Some(Exit::Code(0)) => {
                self.checks.reports().finish(&self.source);
                return Ok(());
            }
            Some(exit) => format!("the program {exit}"),
            None => "the program closed its output, but did not end".to_owned(),
        };
        Err(FeedError::new(&self.source, problem))
    }
}

impl Feed for ProcessFeed {
    fn source(&self) -> &str {
        &self.source
    }

    fn next(&mut self, wait: Duration) -> Result<Next, FeedError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let next = self.advance(Instant::now() + wait.min(MAX_WAIT));
        if let Err(failure) = &next {
            self.failure = Some(failure.clone());
            self.process = None;
        }
        next
    }

    fn is_live(&self) -> bool {
        true
    }

    fn warnings(&mut self) -> Vec<String> {
        self.checks.reports().take()
    }
}
