//! What a run shows on standard error if that is a terminal: the start, each cycle and a summary.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use zero_paper::cycle::CycleRecord;
use zero_paper::engine::Engine;
use zero_paper::position::{Book, PositionRecord, to_cents};
use zero_paper::summary::summarize_decision;
use zero_paper::text::{counted, format_money, format_money_apart, format_number};
use zero_paper::{RecordPaths, Scenario};

use crate::terminal::Terminal;

/// The display of a run. Clones share it. It shows nothing if standard error is not a terminal.
#[derive(Clone)]
pub(crate) struct Display(Option<Arc<Mutex<RunDisplay>>>);

impl Display {
    pub(crate) fn on_standard_error() -> Self {
        Self(Terminal::on_standard_error().map(|terminal| Arc::new(Mutex::new(RunDisplay::new(terminal)))))
    }

    /// Shows the scenario, its limits, the files and the recovered state.
    pub(crate) fn show_start(
        &self,
        source: &str,
        scenario: &Scenario,
        records: &RecordPaths,
        engine: &Engine,
    ) {
        self.with(|display| display.show_start(source, scenario, records, engine));
    }

    /// Shows a finished cycle.
    pub(crate) fn show_cycle(&self, cycle: &CycleRecord) {
        self.with(|display| display.show_cycle(cycle));
    }

    /// Shows the counts of this run and the positions at its end.
    pub(crate) fn show_summary(&self, engine: &Engine) {
        self.with(|display| display.show_summary(engine));
    }

    fn with(&self, show: impl FnOnce(&mut RunDisplay)) {
        if let Some(display) = &self.0 {
            show(&mut display.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// A terminal, and the counts for the summary.
struct RunDisplay {
    terminal: Terminal,
    /// First and last cycle of this run.
    cycles: Option<(u64, u64)>,
    fills: u64,
    /// Number of rejections by reason.
    rejections: BTreeMap<String, u64>,
}

impl RunDisplay {
    fn new(terminal: Terminal) -> Self {
        Self { terminal, cycles: None, fills: 0, rejections: BTreeMap::new() }
    }

    fn show_start(&mut self, source: &str, scenario: &Scenario, records: &RecordPaths, engine: &Engine) {
        let limits = &scenario.limits;
        let orders = counted(scenario.orders.len() as u64, "order");
        self.terminal.show_row("scenario", &format!("{}, {orders} ({source})", scenario.name));
        self.terminal.show_row(
            "limits",
            &format!(
                "order {} USD, position {} USD, confidence at least {}",
                format_limit(limits.max_notional_usd),
                format_limit(limits.max_position_notional_usd),
                limits.min_confidence
            ),
        );
        self.terminal.show_files(&[
            ("journal", &records.journal),
            ("cycle journal", &records.cycle_journal),
            ("bus", &records.runtime_bus),
        ]);
        let counts = engine.counts();
        let recovered = match counts.decisions {
            0 => "nothing, this is a new run".to_owned(),
            decisions => format!(
                "{}, {}, {}, {}",
                counted(decisions, "decision"),
                counted(counts.fills, "fill"),
                counted(counts.rejections, "rejection"),
                open_positions(engine.book())
            ),
        };
        self.terminal.show_row("recovered", &recovered);
    }

    fn show_cycle(&mut self, cycle: &CycleRecord) {
        let decision = &cycle.act.decision;
        let first = self.cycles.map_or(cycle.cycle_id, |(first, _)| first);
        self.cycles = Some((first, cycle.cycle_id));
        if decision.allowed {
            self.fills += 1;
        } else {
            *self.rejections.entry(decision.reason.clone()).or_default() += 1;
        }
        self.terminal.show_line(cycle.cycle_id, cycle.as_of, &summarize_decision(decision));
    }

    fn show_summary(&mut self, engine: &Engine) {
        self.terminal.show_gap();
        let cycles = match self.cycles {
            Some((first, last)) if first == last => format!("1 (cycle {first})"),
            Some((first, last)) => format!("{} (cycles {first} to {last})", last - first + 1),
            None => "0".to_owned(),
        };
        self.terminal.show_row("cycles", &cycles);
        self.terminal.show_row("fills", &self.fills.to_string());
        self.terminal.show_row("rejections", &self.rejections.values().sum::<u64>().to_string());
        for row in count_rows(&self.rejections) {
            self.terminal.show_row("", &row);
        }
        let positions = position_rows(&engine.book().records());
        if positions.is_empty() {
            self.terminal.show_row("positions", "none");
        }
        for (row, label) in positions.iter().zip(std::iter::once("positions").chain(std::iter::repeat(""))) {
            self.terminal.show_row(label, row);
        }
    }
}

/// Formats a limit exactly: in cents if it is in cents.
fn format_limit(limit: f64) -> String {
    let cents = to_cents(limit);
    let [limit, _] = format_money_apart([limit, cents]);
    limit
}

/// One row per name, with the counts in a column.
fn count_rows(counts: &BTreeMap<String, u64>) -> Vec<String> {
    let name_width = width(counts.keys().map(String::as_str));
    let counts: Vec<(&String, String)> =
        counts.iter().map(|(name, count)| (name, count.to_string())).collect();
    let count_width = width(counts.iter().map(|(_, count)| count.as_str()));
    let row = |(name, count): &(&String, String)| format!("{name:name_width$}  {count:>count_width$}");
    counts.iter().map(row).collect()
}

/// `3 open positions, of which 1 is a rounding residue`
fn open_positions(book: &Book) -> String {
    let all = counted(book.open_positions(), "open position");
    match book.rounding_residues() {
        0 => all,
        1 => format!("{all}, of which 1 is a rounding residue"),
        residues => format!("{all}, of which {residues} are rounding residues"),
    }
}

/// One row per position, with columns for symbol, quantity, average price and notional.
fn position_rows(positions: &[PositionRecord]) -> Vec<String> {
    let cells: Vec<[String; 4]> = positions
        .iter()
        .map(|position| {
            [
                position.symbol.clone(),
                format_number(position.quantity),
                format_money(position.avg_price),
                format_money(position.notional_usd),
            ]
        })
        .collect();
    let [symbol, quantity, price, notional] =
        [0, 1, 2, 3].map(|column| width(cells.iter().map(|row| row[column].as_str())));
    let row = |([a, b, c, d], record): (&[String; 4], &PositionRecord)| {
        let note = record.position().residue_note();
        format!("{a:symbol$}  {b:>quantity$} @ {c:>price$} = {d:>notional$} USD{note}")
    };
    cells.iter().zip(positions).map(row).collect()
}

fn width<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}
