//! `zero-bus report`: profit and loss, costs, drawdown, trades and rejections.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use zero_bus::{Finding, Reader, Verdict, event_id};
use zero_paper::report::{self, OpenPosition, Report, Row, SettingsChange, SymbolFigures};
use zero_paper::rfc3339;
use zero_paper::text::{counted, escape, format_number};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_report::csv::CsvFiles;
use zero_report::html::{self, Chain};

use crate::event_or_time::EventOrTime;
use crate::output_file::{OutputFile, check_directory_is_outside};
use crate::program::PROGRAM;
use crate::progress::Bar;
use crate::retired_error::with_advice;
use crate::table::align;
use crate::terminal::report_torn_tail;

/// Report profit and loss, costs, drawdown and rejections.
///
/// The figures are sums over the fills on the bus; open positions are valued at the last price of
/// their symbol. Profit is at average cost. If the bus has several runs, the report is about the
/// last one.
///
/// With --from, the report is about a part of the run, as if the positions of its first position
/// snapshot were opened then at their average price. It also works if earlier events were retired.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus report bus
  zero-bus report bus --json
  zero-bus report bus -o report.html
  zero-bus report bus --csv tables
  zero-bus report bus --from 30d

Exit codes: 0 passed, 1 failed (the log is damaged; the report is about the events before the damage),
2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Also write the report as one HTML file with charts (mode 0600), which needs no other file.
    /// It is replaced as a whole. `-` prints it instead of the table.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write trades.csv, fills.csv, equity.csv and rejections.csv (mode 0600) into this
    /// directory, which is created if it does not exist.
    #[arg(long, value_name = "DIR")]
    csv: Option<PathBuf>,
    /// Report what came after the first position snapshot at or after this event (42,
    /// evt-000000000042, `last` or -1) or time (2026-05-01T09:00:00Z, Unix seconds, or an age such
    /// as 30d); or about the last run, if that begins later.
    #[arg(long, value_name = "EVENT|TIME", value_parser = EventOrTime::parse, allow_negative_numbers = true)]
    from: Option<EventOrTime>,
    /// Print one JSON object: {"by_symbol", "cash_usd", "equity_usd", "expired", "fees_usd",
    /// "fills", "from", "head", "max_drawdown_pct", "positions", "realized_pnl_usd", "rejections",
    /// "settings_changes", "to", "trades", "unrealized_pnl_usd", "verdict"}. With --from also
    /// "begins_after", the event of the position snapshot.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let dir = &arguments.dir;
    let reader = Reader::open(dir)?;
    // What cannot be written is found before the log is read.
    let page_to_stdout = arguments.output.as_deref() == Some(Path::new("-"));
    let page_file = arguments.output.as_deref().filter(|_| !page_to_stdout);
    let page_file = page_file.map(|path| OutputFile::resolve(path, dir)).transpose()?;
    let mut csv = arguments.csv.as_deref().map(|tables| create_csv(tables, dir)).transpose()?;

    let bar = Bar::new("reading");
    let verdict = reader.verify_with_progress(&mut |progress| bar.show(progress))?;
    let mut add_row = |row: Row<'_>| csv.as_mut().map_or(Ok(()), |csv| csv.add(row));
    let mut show = |progress| bar.show(progress);
    let reading = match arguments.from {
        Some(from) => report::read_from(&reader, first_index(from, &reader)?, &mut add_row, &mut show),
        None => report::read(&reader, &mut add_row, &mut show),
    };
    let advice = "report on that copy, or with --from about what is left";
    let reading = reading.map_err(|error| with_advice(error, advice))?;
    drop(bar);
    let report = &reading.report;
    if arguments.from.is_some() && report.from.is_none() && reading.damage.is_none() {
        bail!("--from: no position snapshot comes after this place, so there is nothing to begin with");
    }
    let verdict_text = describe_verdict(&verdict);
    let page = || html::page(report, Chain { sound: verdict.ok(), verdict: &verdict_text });
    if let Some(file) = page_file {
        file.write(page()?.as_bytes())?;
    }
    csv.map_or(Ok(()), CsvFiles::finish)?;
    let text = if page_to_stdout {
        page()?
    } else if arguments.json {
        report.to_json(&verdict_text)?.to_string()
    } else {
        render(report, &verdict_text)
    };
    print(&text, Outcome::Passed)?;
    report_torn_tail(reading.torn_bytes);
    print_warnings(report);
    match reading.damage {
        // Reported after the figures of the sound part.
        Some(error) => Err(error.into()),
        None => Ok(Outcome::of(is_sound(&verdict))),
    }
}

/// The index of the first event at or after a place.
fn first_index(from: EventOrTime, reader: &Reader) -> Result<u64> {
    match from {
        EventOrTime::Event(event) => event.first_index(reader),
        EventOrTime::Time(time) => {
            let first = reader.first_index()?;
            let mut events = reader.events(first)?;
            let found = events.find(|event| event.as_ref().map_or(true, |event| event.as_of >= time));
            Ok(found.transpose()?.map_or(u64::MAX, |event| event.index))
        }
    }
}

fn create_csv(tables: &Path, bus: &Path) -> Result<CsvFiles> {
    check_directory_is_outside(tables, bus)?;
    Ok(CsvFiles::create(tables)?)
}

/// `ok`, or what is wrong with the log or with its snapshot.
fn describe_verdict(verdict: &Verdict) -> String {
    let snapshot = &verdict.snapshot_integrity;
    match verdict.integrity.ok() && !snapshot.consistent {
        true => format!("snapshot: {}", snapshot.reason),
        false => verdict.integrity.reason(),
    }
}

/// Whether the figures cover every event that was ever acknowledged, as far as the log can show. A
/// torn tail was never acknowledged.
fn is_sound(verdict: &Verdict) -> bool {
    let is_readable = matches!(verdict.integrity.finding, Finding::Sound | Finding::Torn { .. });
    is_readable && verdict.snapshot_integrity.consistent
}

fn print_warnings(report: &Report) {
    if let Some((count, first)) = &report.ignored {
        let events = counted(*count, "event");
        print_message(PROGRAM, &format!("{events} cannot be counted; the first: {}", escape(first)));
    }
    if let Some(contradiction) = &report.contradiction {
        print_message(PROGRAM, &escape(contradiction));
    }
}

fn render(report: &Report, verdict: &str) -> String {
    let mut lines = render_origin(report, verdict);
    lines.push(String::new());
    lines.extend(render_figures(report));
    lines.extend(render_positions(&report.positions));
    lines.extend(render_symbols(report));
    lines.extend(render_rejections(report));
    lines.join("\n")
}

fn time(as_of: Option<f64>) -> String {
    as_of.map_or_else(|| "-".to_owned(), |as_of| rfc3339(as_of).unwrap_or_else(|| as_of.to_string()))
}

fn render_origin(report: &Report, verdict: &str) -> Vec<String> {
    let mut run = report.run_name.clone().unwrap_or_else(|| "-".to_owned());
    if let Some(source) = &report.market_source {
        run = format!("{run} on {source}");
    }
    if let Some(strategy) = &report.strategy {
        run = format!("{run}, strategy {} {}", strategy.name, strategy.version);
    }
    let mut lines = vec![
        format!("run     {}", escape(run.trim_end())),
        format!("period  {} to {}", time(report.from), time(report.to)),
        format!("chain   {}, head {}", escape(verdict), report.head),
    ];
    if let Some(index) = report.begins_after {
        lines
            .push(format!("        from {} on; its positions count at their average price", event_id(index)));
    }
    if report.earlier_runs > 0 {
        let runs = counted(report.earlier_runs, "earlier run");
        lines.push(format!("        {runs} on this bus, not part of this report"));
    }
    lines
}

/// Name, amount in USD and remark of each figure.
fn figures(report: &Report) -> Vec<(&'static str, f64, String)> {
    let assumed = match report.start_cash_recorded {
        true => String::new(),
        false => "assumed: the records state no cash".to_owned(),
    };
    let percent = report.return_pct().map_or_else(String::new, |pct| format!("{pct:+.2} %"));
    let included = match report.price_costs_usd {
        0.0 => String::new(),
        costs => format!("spread and slippage of {} are in the prices", money(costs)),
    };
    let start = if report.begins_after.is_some() { "start value" } else { "start cash" };
    let mut figures = vec![
        (start, report.start_cash_usd, assumed),
        ("realised profit", report.realized_pnl_usd, String::new()),
        ("unrealised profit", report.unrealized_pnl_usd, String::new()),
        ("fees", -report.fees_usd, included),
        ("equity", report.equity_usd, percent),
        ("cash", report.cash_usd, String::new()),
    ];
    if let Some(drawdown) = &report.max_drawdown {
        let period = match drawdown.usd {
            0.0 => String::new(),
            _ => {
                let since = drawdown.peak_as_of.map_or_else(|| "the start".to_owned(), |at| time(Some(at)));
                format!("{:.2} % from {since} to {}", drawdown.pct, time(Some(drawdown.lowest_as_of)))
            }
        };
        figures.push(("maximum drawdown", -drawdown.usd, period));
    }
    figures
}

fn render_figures(report: &Report) -> Vec<String> {
    let figures = figures(report);
    let amounts: Vec<String> = figures.iter().map(|(_, amount, _)| money(*amount)).collect();
    let width = amounts.iter().map(String::len).max().unwrap_or(0);
    let mut lines: Vec<String> = figures
        .iter()
        .zip(&amounts)
        .map(|((name, _, remark), amount)| {
            format!("{name:<18} {amount:>width$} USD  {remark}").trim_end().to_owned()
        })
        .collect();
    let trades = match report.trades.count {
        0 => "0 round trips".to_owned(),
        count => format!("{}, {} won", counted(count, "round trip"), report.trades.won),
    };
    lines.push(String::new());
    let expired = match report.expired {
        0 => String::new(),
        expired => format!("{}, ", counted(expired, "expired order")),
    };
    lines.push(format!(
        "{}, {}, {}, {expired}{trades}",
        counted(report.decisions, "decision"),
        counted(report.fills, "fill"),
        counted(report.rejected(), "rejection"),
    ));
    if report.strategy_failures > 0 {
        lines.push(format!("the strategy failed in {}", counted(report.strategy_failures, "cycle")));
    }
    lines.extend(report.settings_changes.iter().map(|SettingsChange { changes, event_index }| {
        format!("the settings changed in {}: {}", event_id(*event_index), escape(changes))
    }));
    if report.settings_changes_left_out > 0 {
        lines.push(format!("the settings changed {} more times", report.settings_changes_left_out));
    }
    lines
}

/// Rows of a table; the text then says how many more there are.
const MAX_ROWS: usize = 40;

/// Longest name in a table, in characters.
const MAX_NAME_CHARACTERS: usize = 60;

/// A heading and a table below it; nothing without rows.
fn section(heading: &str, header: &[&str], mut rows: Vec<Vec<String>>) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let more = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    let mut lines = vec![String::new(), heading.to_owned()];
    lines.extend(align(header, &rows));
    if more > 0 {
        lines.push(format!("and {more} more; --json has all of them"));
    }
    lines
}

fn name(text: &str) -> String {
    escape(&zero_paper::text::shorten(text, MAX_NAME_CHARACTERS))
}

/// An amount of money. What rounding left of 0 is shown as 0.
fn money(usd: f64) -> String {
    zero_paper::text::format_money(if usd.abs() < 1e-6 { 0.0 } else { usd })
}

fn render_positions(positions: &[OpenPosition]) -> Vec<String> {
    let row = |position: &OpenPosition| {
        vec![
            name(&position.symbol),
            format_number(position.quantity),
            format_number(position.avg_price),
            format_number(position.mark_price),
            money(position.quantity * position.mark_price),
            money(position.unrealized_pnl_usd),
        ]
    };
    let header = ["symbol", "quantity", "average", "mark", "value", "unrealised"];
    section("open positions, USD", &header, positions.iter().map(row).collect())
}

fn render_symbols(report: &Report) -> Vec<String> {
    let row = |(symbol, figures): (&String, &SymbolFigures)| {
        vec![
            name(symbol),
            figures.fills.to_string(),
            figures.trades.to_string(),
            money(figures.bought_usd),
            money(figures.sold_usd),
            money(figures.fees_usd),
            money(figures.realized_pnl_usd),
            money(figures.unrealized_pnl_usd),
            figures.rejections.to_string(),
        ]
    };
    let header =
        ["symbol", "fills", "trades", "bought", "sold", "fees", "realised", "unrealised", "rejections"];
    section("by symbol, USD", &header, report.by_symbol.iter().map(row).collect())
}

fn render_rejections(report: &Report) -> Vec<String> {
    let mut counts: Vec<(&String, &u64)> = report.rejections.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let rows = counts.into_iter().map(|(reason, count)| vec![name(reason), count.to_string()]).collect();
    section("rejections", &["reason", "orders"], rows)
}
