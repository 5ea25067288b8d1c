//! The tables of the page.

use std::cmp::Reverse;

use zero_paper::report::{OpenPosition, Report, SymbolFigures, Trade};
use zero_paper::text::{format_money, format_number};

use crate::text::{self, html, percent, price, signed, time};

/// The page shows this many of the newest trades; the CSV files have all of them.
const MAX_TRADES: usize = 250;

/// Rows of the other tables.
const MAX_ROWS: usize = 200;

/// A cell: its class and its HTML.
type Cell = (&'static str, String);

fn words(text: &str) -> Cell {
    ("text", html(text))
}

fn number(text: String) -> Cell {
    ("", text.replace('-', "\u{2212}"))
}

fn money(usd: f64) -> Cell {
    number(text::money(usd))
}

fn profit(usd: f64) -> Cell {
    let (text, class) = signed(usd);
    (class, text)
}

/// A heading with a table. A column whose name begins with `<` is aligned to the left.
fn section(heading: &str, columns: &[&str], rows: Vec<Vec<Cell>>, total: Option<Vec<Cell>>) -> String {
    let row = |cells: Vec<Cell>| {
        let cells = cells.into_iter().map(|(class, cell)| match class {
            "" => format!("<td>{cell}</td>"),
            class => format!("<td class=\"{class}\">{cell}</td>"),
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let columns = columns.iter().map(|name| match name.strip_prefix('<') {
        Some(name) => format!("<th class=\"text\" scope=\"col\">{name}</th>"),
        None => format!("<th scope=\"col\">{name}</th>"),
    });
    let columns: String = columns.collect();
    let rows: String = rows.into_iter().map(row).collect();
    let total = total.map_or_else(String::new, |cells| format!("<tfoot>{}</tfoot>\n", row(cells)));
    format!(
        "<h2>{heading}</h2>\n<div class=\"scroll\"><table>\n<thead><tr>{columns}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n{total}</table></div>\n"
    )
}

fn nothing(heading: &str, note: &str) -> String {
    format!("<h2>{heading}</h2>\n<p class=\"note\">{note}</p>\n")
}

/// Says how many rows are left out; nothing if none are.
fn left_out(shown: usize, total: u64, what: &str) -> String {
    match total > shown as u64 {
        true => format!("<p class=\"note\">{shown} of {total} {what}. The CSV files have all of them.</p>\n"),
        false => String::new(),
    }
}

pub(crate) fn trades(report: &Report) -> String {
    let heading = "Round trips";
    if report.trades.count == 0 {
        return nothing(heading, "No position was closed.");
    }
    let shown = report.last_trades.len().min(MAX_TRADES);
    let row = |trade: &Trade| {
        vec![
            words(&trade.symbol),
            ("text", if trade.long { "long" } else { "short" }.to_owned()),
            ("text", time(Some(trade.opened_as_of))),
            ("text", time(Some(trade.closed_as_of))),
            number(format_number(trade.quantity)),
            number(price(trade.entry_price)),
            number(price(trade.exit_price)),
            profit(trade.realized_pnl_usd),
            money(trade.fees_usd),
            profit(trade.net_pnl_usd()),
            number(percent(trade.return_pct())),
        ]
    };
    let rows = report.last_trades.iter().skip(report.last_trades.len() - shown).map(row).collect();
    let columns = [
        "<Symbol", "<Side", "<Opened", "<Closed", "Quantity", "Entry", "Exit", "Profit", "Fees", "Net",
        "Return",
    ];
    section(heading, &columns, rows, None) + &left_out(shown, report.trades.count, "round trips, the newest")
}

pub(crate) fn costs(report: &Report) -> String {
    let turnover: f64 = report.by_symbol.values().map(|figures| figures.bought_usd + figures.sold_usd).sum();
    if turnover <= 0.0 {
        return nothing("Costs", "Nothing was traded.");
    }
    let row = |name: &str, usd: f64| {
        let basis_points = format!("{:.2}", usd / turnover * 10_000.0);
        vec![("text", name.to_owned()), money(usd), number(basis_points)]
    };
    let rows = vec![
        row("Fees", report.fees_usd),
        row("Spread and slippage, where the fills state their reference price", report.price_costs_usd),
    ];
    let total = row("All costs", report.fees_usd + report.price_costs_usd);
    let columns = ["<Cost", "USD", "Basis points of the turnover"];
    section("Costs", &columns, rows, Some(total))
        + &format!("<p class=\"note\">Turnover, purchases and sales: {}.</p>\n", format_money(turnover))
}

pub(crate) fn rejections(report: &Report) -> String {
    let heading = "Rejections by reason";
    let mut counts: Vec<(&String, &u64)> = report.rejections.iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(**count));
    let Some((_, most)) = counts.first().copied() else { return nothing(heading, "No order was rejected.") };
    let total = report.rejected();
    let row = |(reason, count): &(&String, &u64)| {
        let width = **count as f64 / *most as f64 * 100.0;
        let bar = format!(
            "<svg viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect width=\"{width:.1}\" height=\"8\"/></svg>"
        );
        let share = format!("{:.1} %", **count as f64 / total as f64 * 100.0);
        vec![words(reason), number(count.to_string()), number(share), ("bar", bar)]
    };
    let rows = counts.iter().take(MAX_ROWS).map(row).collect();
    let shown = counts.len().min(MAX_ROWS);
    section(heading, &["<Reason", "Orders", "Share", ""], rows, None)
        + &left_out(shown, counts.len() as u64, "reasons, the most frequent")
}

pub(crate) fn positions(report: &Report) -> String {
    let heading = "Open positions";
    if report.positions.is_empty() {
        return nothing(heading, "No position is open.");
    }
    let row = |position: &OpenPosition| {
        vec![
            words(&position.symbol),
            number(format_number(position.quantity)),
            number(price(position.avg_price)),
            number(price(position.mark_price)),
            money(position.quantity * position.mark_price),
            profit(position.unrealized_pnl_usd),
        ]
    };
    let rows = report.positions.iter().take(MAX_ROWS).map(row).collect();
    let shown = report.positions.len().min(MAX_ROWS);
    section(
        heading,
        &["<Symbol", "Quantity", "Average price", "Mark", "Value", "Unrealised profit"],
        rows,
        None,
    ) + &left_out(shown, report.positions.len() as u64, "positions")
}

pub(crate) fn symbols(report: &Report) -> String {
    let heading = "By symbol";
    if report.by_symbol.is_empty() {
        return nothing(heading, "No order was filled or rejected.");
    }
    let cells = |figures: &SymbolFigures| {
        vec![
            number(figures.fills.to_string()),
            number(figures.trades.to_string()),
            money(figures.bought_usd),
            money(figures.sold_usd),
            profit(figures.realized_pnl_usd),
            profit(figures.unrealized_pnl_usd),
            money(figures.fees_usd),
            profit(figures.realized_pnl_usd + figures.unrealized_pnl_usd - figures.fees_usd),
            number(figures.rejections.to_string()),
        ]
    };
    let mut total = SymbolFigures::default();
    for figures in report.by_symbol.values() {
        total.fills += figures.fills;
        total.trades += figures.trades;
        total.bought_usd += figures.bought_usd;
        total.sold_usd += figures.sold_usd;
        total.realized_pnl_usd += figures.realized_pnl_usd;
        total.unrealized_pnl_usd += figures.unrealized_pnl_usd;
        total.fees_usd += figures.fees_usd;
        total.rejections += figures.rejections;
    }
    let row = |name: Cell, figures: &SymbolFigures| [vec![name], cells(figures)].concat();
    let rows = report.by_symbol.iter().take(MAX_ROWS).map(|(symbol, figures)| row(words(symbol), figures));
    let rows = rows.collect();
    let columns = [
        "<Symbol",
        "Fills",
        "Round trips",
        "Bought",
        "Sold",
        "Realised",
        "Unrealised",
        "Fees",
        "Net",
        "Rejected",
    ];
    let shown = report.by_symbol.len().min(MAX_ROWS);
    section(heading, &columns, rows, Some(row(("text", "All".to_owned()), &total)))
        + &left_out(shown, report.by_symbol.len() as u64, "symbols")
}
