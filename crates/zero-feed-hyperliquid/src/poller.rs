//! Asks for candles when bars close, and prints the bars in order.
//!
//! A candle is closed if the exchange has a later one of its coin, or if its end is
//! [`SETTLE_TIME`] ago. A bar is printed once each coin has a closed candle for it or for a later
//! bar. A coin whose candle is missing [`LATE_TIME`] after the end of the bar is left out of it.
//!
//! After an error the same request is repeated until it succeeds, so errors leave no gap.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use zero_bus::Json;
use zero_paper::candle::Candle;
use zero_paper::rfc3339;

use crate::exchange::{Exchange, ExchangeCandle, RequestError};
use crate::time::Time;

/// How long after its end the last candle of an answer may still change: the answer may be a copy
/// that is some seconds old.
pub const SETTLE_TIME: Duration = Duration::from_secs(10);
/// How long after the end of a bar the first request for it is sent.
const ASK_DELAY: Duration = Duration::from_secs(1);
/// How long after the end of a bar its candles are waited for.
pub const LATE_TIME: Duration = Duration::from_secs(20);
/// How many bars before the present a new run looks for the last closed one.
const FIRST_BARS: i64 = 20;
/// The pause between two rounds of requests, for each coin. The exchange allows 1,200 units of
/// weight a minute, and a request costs 20 or more.
const PAUSE_PER_COIN: Duration = Duration::from_secs(1);
const MIN_PAUSE: Duration = Duration::from_secs(2);
/// The longest time without a request. The closed bars may have changed in the meantime.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Waits after errors double from the first to the second.
const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);

/// Why a poller ended.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The exchange refuses the requests.
    #[error("{coin}: {problem}")]
    Refused {
        /// The coin that was asked for.
        coin: String,
        /// What the exchange said.
        problem: String,
    },
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// Polls the candles of some coins.
pub struct Poller<T> {
    exchange: Exchange,
    interval: String,
    interval_ms: i64,
    coins: Vec<Coin>,
    /// Start of the last bar that was printed or that is not to be printed; `None` before the first
    /// round of a run without one.
    cursor_ms: Option<i64>,
    time: T,
    report: Box<dyn FnMut(&str)>,
}

struct Coin {
    name: String,
    /// Closed candles after the cursor.
    closed: VecDeque<ExchangeCandle>,
    /// The last candle that was printed.
    printed: Option<ExchangeCandle>,
    /// Start of the last late candle that was reported.
    late_ms: Option<i64>,
    /// Whether the last bar was printed without this coin.
    is_missing: bool,
}

/// A candle as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    candle: &'a Candle,
    interval_s: f64,
}

/// Whether the reader of the output is still there.
#[derive(PartialEq, Eq)]
enum Reader {
    Present,
    Gone,
}

impl<T: Time> Poller<T> {
    /// Prepares a poller. It prints the bars after `since_ms`, or from the last closed bar on.
    /// `report` gets what the operator should know.
    pub fn new(
        exchange: Exchange,
        coins: &[String],
        interval: &str,
        interval_ms: i64,
        since_ms: Option<i64>,
        time: T,
        report: Box<dyn FnMut(&str)>,
    ) -> Self {
        let coin = |name: &String| Coin {
            name: name.clone(),
            closed: VecDeque::new(),
            printed: None,
            late_ms: None,
            is_missing: false,
        };
        Self {
            exchange,
            interval: interval.to_owned(),
            interval_ms,
            coins: coins.iter().map(coin).collect(),
            cursor_ms: since_ms,
            time,
            report,
        }
    }

    /// Polls until the reader of the output is gone.
    ///
    /// # Errors
    /// The exchange refuses a request for good, or the output cannot be written.
    pub fn run(&mut self, out: &mut impl Write) -> Result<(), PollError> {
        loop {
            if self.read_round()? == Reader::Gone {
                return Ok(());
            }
            self.print_bars(out)?;
            let pause = self.pause();
            if !self.time.pause(pause) {
                return Ok(());
            }
        }
    }

    /// Asks for the candles of each coin.
    fn read_round(&mut self) -> Result<Reader, PollError> {
        for index in 0..self.coins.len() {
            let mut failures = 0;
            let (candles, now_ms) = loop {
                let now_ms = self.time.now_ms();
                // Begins with the last printed bar, to see whether it has changed.
                let start_ms = self.cursor_ms.unwrap_or(now_ms - FIRST_BARS * self.interval_ms);
                let name = &self.coins[index].name;
                match self.exchange.candles(name, &self.interval, start_ms, now_ms) {
                    Ok(candles) => break (candles, now_ms),
                    Err(RequestError::Refused(problem)) => {
                        return Err(PollError::Refused { coin: name.clone(), problem });
                    }
                    Err(RequestError::Retry { problem, retry_after }) => {
                        let doubled = MIN_RETRY.saturating_mul(1 << failures.min(10)).min(MAX_RETRY);
                        let wait = retry_after.map_or(doubled, |asked| asked.max(doubled));
                        failures += 1;
                        (self.report)(&format!("{name}: {problem}; trying again in {} s", wait.as_secs()));
                        if !self.time.pause(wait) {
                            return Ok(Reader::Gone);
                        }
                    }
                }
            };
            if failures > 0 {
                (self.report)(&format!("{}: the exchange answers again", self.coins[index].name));
            }
            self.add(index, candles, now_ms);
        }
        Ok(Reader::Present)
    }

    /// Keeps the closed candles of an answer.
    fn add(&mut self, index: usize, candles: Vec<ExchangeCandle>, now_ms: i64) {
        let settled_ms = now_ms - SETTLE_TIME.as_millis() as i64;
        let last_ms = candles.last().map(|last| last.start_ms);
        let coin = &mut self.coins[index];
        coin.closed.clear();
        for candle in candles {
            let start_ms = candle.start_ms;
            let is_closed = last_ms > Some(start_ms) || start_ms + self.interval_ms <= settled_ms;
            if !is_closed {
                continue;
            }
            if Some(start_ms) > self.cursor_ms {
                coin.closed.push_back(candle);
                continue;
            }
            // Before the first printed candle, all others were printed by an earlier process.
            let Some(printed) = &coin.printed else { continue };
            let time = format_ms(start_ms);
            if printed.start_ms == start_ms && *printed != candle {
                (self.report)(&format!("{}: {time}: changed after it was printed", coin.name));
                coin.printed = Some(candle);
            } else if printed.start_ms < start_ms && coin.late_ms < Some(start_ms) {
                (self.report)(&format!("{}: {time}: is late and left out", coin.name));
                coin.late_ms = Some(start_ms);
            }
        }
        if self.cursor_ms.is_none() {
            // A new run begins with the last closed bar.
            let begin = coin.closed.len().saturating_sub(1);
            coin.closed.drain(..begin);
        }
    }

    /// Prints the bars that are complete, or whose missing candles are late.
    fn print_bars(&mut self, out: &mut impl Write) -> Result<(), PollError> {
        loop {
            let firsts = self.coins.iter().filter_map(|coin| coin.closed.front());
            let Some(start_ms) = firsts.map(|first| first.start_ms).min() else { return Ok(()) };
            let is_late = start_ms + self.interval_ms + LATE_TIME.as_millis() as i64 <= self.time.now_ms();
            if self.coins.iter().any(|coin| coin.closed.is_empty()) && !is_late {
                return Ok(());
            }
            let mut lines = String::new();
            for coin in &mut self.coins {
                let Some(candle) = coin.closed.pop_front_if(|first| first.start_ms == start_ms) else {
                    if coin.closed.is_empty() && !std::mem::replace(&mut coin.is_missing, true) {
                        let time = format_ms(start_ms);
                        (self.report)(&format!("{}: {time}: has no candle; bars go without it", coin.name));
                    }
                    continue;
                };
                let line = Line { candle: &candle.candle, interval_s: self.interval_ms as f64 / 1000.0 };
                let line = Json::of(&line).map_err(|error| io::Error::other(error.to_string()))?;
                lines.push_str(line.as_str());
                lines.push('\n');
                coin.printed = Some(candle);
                coin.is_missing = false;
            }
            // One write for the whole bar, so that its reader sees it at once.
            out.write_all(lines.as_bytes())?;
            out.flush()?;
            self.cursor_ms = Some(start_ms);
        }
    }

    /// How long to wait for the next bar.
    fn pause(&self) -> Duration {
        let between_rounds = MIN_PAUSE.max(PAUSE_PER_COIN * self.coins.len() as u32);
        let Some(cursor_ms) = self.cursor_ms else { return between_rounds };
        let next_end_ms = cursor_ms + 2 * self.interval_ms + ASK_DELAY.as_millis() as i64;
        let until_end = Duration::from_millis((next_end_ms - self.time.now_ms()).try_into().unwrap_or(0));
        until_end.clamp(between_rounds, MAX_PAUSE.max(between_rounds))
    }
}

fn format_ms(ms: i64) -> String {
    rfc3339(ms as f64 / 1000.0).unwrap_or_else(|| ms.to_string())
}
