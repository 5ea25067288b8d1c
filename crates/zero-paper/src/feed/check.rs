//! What makes candles invalid together, and what is only reported.
//!
//! Rejected: a bar before the one before it, and a second candle of a symbol in one bar. Reported:
//! gaps, bars that overlap, and prices that jump.

use std::collections::HashMap;

use crate::candle::Candle;
use crate::clock::rfc3339;
use crate::text::{counted, format_number};

/// A close that differs from the close before by more than this is reported, in percent.
pub(super) const MAX_JUMP_PCT: f64 = 50.0;
/// A bar that begins later than this many intervals after the bar before is reported as a gap.
const MAX_STEP: f64 = 1.5;
/// A bar that begins earlier than this many intervals after the bar before is reported.
const MIN_STEP: f64 = 0.5;
/// A feed with more symbols is refused, since each needs memory.
pub(super) const MAX_SYMBOLS: usize = 100_000;
/// How many irregularities of each kind are reported one by one. The rest is counted.
const MAX_REPORTS: u64 = 3;

/// A file or command, and the line in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the source in the feed.
    pub(super) source: usize,
    pub(super) line: u64,
}

/// The kinds of irregularities that are reported.
#[derive(Clone, Copy)]
pub(super) enum Irregularity {
    Gap,
    Overlap,
    Jump,
    Late,
    UnknownField,
}

/// What the checks remember of a symbol.
struct Last {
    ts: f64,
    close: f64,
    place: Place,
}

/// The checks of the candles of one feed, in the order in which they are delivered.
#[derive(Default)]
pub(super) struct Checks {
    by_symbol: HashMap<String, Last>,
    reports: Reports,
}

/// A candle of a symbol that has one in this bar already, or in a later one.
pub(super) struct Repeated {
    pub(super) earlier: Place,
    pub(super) ts: f64,
}

impl Checks {
    /// Checks a candle against the one before. `name` is the place in messages.
    ///
    /// # Errors
    /// The symbol has a candle with this time or a later one.
    pub(super) fn check(
        &mut self,
        candle: &Candle,
        place: Place,
        interval_s: Option<f64>,
        name: impl Fn() -> String,
    ) -> Result<(), Repeated> {
        let Some(last) = self.by_symbol.get_mut(&candle.symbol) else {
            self.by_symbol.insert(candle.symbol.clone(), Last { ts: candle.ts, close: candle.close, place });
            return Ok(());
        };
        if candle.ts <= last.ts {
            return Err(Repeated { earlier: last.place.clone(), ts: last.ts });
        }
        let step_s = candle.ts - last.ts;
        if let Some(interval_s) = interval_s {
            if step_s > MAX_STEP * interval_s {
                self.reports.add(Irregularity::Gap, || {
                    format!("{}: {}: no candle for {}", name(), candle.symbol, seconds(step_s))
                });
            } else if step_s < MIN_STEP * interval_s {
                self.reports.add(Irregularity::Overlap, || {
                    let step = seconds(step_s);
                    let interval = seconds(interval_s);
                    format!(
                        "{}: {}: {step} after the bar before, whose length is {interval}",
                        name(),
                        candle.symbol
                    )
                });
            }
        }
        let change_pct = (candle.close / last.close - 1.0) * 100.0;
        if change_pct.abs() > MAX_JUMP_PCT {
            self.reports.add(Irregularity::Jump, || {
                let change = format_number((change_pct * 10.0).round() / 10.0);
                let closes = format!("from {} to {}", last.close, candle.close);
                format!("{}: {}: the close jumps by {change} %, {closes}", name(), candle.symbol)
            });
        }
        *last = Last { ts: candle.ts, close: candle.close, place };
        Ok(())
    }

    /// Number of symbols seen.
    pub(super) fn symbols(&self) -> usize {
        self.by_symbol.len()
    }

    pub(super) fn reports(&mut self) -> &mut Reports {
        &mut self.reports
    }
}

/// Reports of irregularities for the operator: the first ones of each kind, and how many more there
/// were.
#[derive(Default)]
pub(super) struct Reports {
    counts: [u64; 5],
    lines: Vec<String>,
}

impl Reports {
    pub(super) fn add(&mut self, kind: Irregularity, text: impl FnOnce() -> String) {
        let count = &mut self.counts[kind as usize];
        *count += 1;
        if *count <= MAX_REPORTS {
            self.lines.push(text());
        }
    }

    /// Adds a report that is never left out.
    pub(super) fn add_always(&mut self, text: String) {
        self.lines.push(text);
    }

    /// Adds how many irregularities were not reported one by one.
    pub(super) fn finish(&mut self, source: &str) {
        let nouns = ["gap", "overlap", "price jump", "late candle", "unknown field"];
        for (count, noun) in self.counts.iter_mut().zip(nouns) {
            if *count > MAX_REPORTS {
                self.lines.push(format!("{source}: {} more, not shown", counted(*count - MAX_REPORTS, noun)));
            }
            *count = 0;
        }
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}

/// Formats a bar time for messages.
pub(super) fn format_time(ts: f64) -> String {
    rfc3339(ts).filter(|_| ts.fract() == 0.0).unwrap_or_else(|| ts.to_string())
}

fn seconds(seconds: f64) -> String {
    format!("{} s", format_number(seconds))
}
