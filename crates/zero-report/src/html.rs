//! The report as one HTML file: no script, no request to any other file, all text escaped.

use std::fmt::Write as _;

use zero_bus::{Checksum, event_id};
use zero_paper::report::{Report, SettingsChange};
use zero_paper::text::{counted, format_money};

use crate::chart::{ChartError, Charts};
use crate::tables;
use crate::text::{html, money, percent, signed, time};

const STYLE: &str = include_str!("style.css");

/// What the verification of the log says.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// Whether the log is sound to its end.
    pub sound: bool,
    /// The verdict in words; `ok` for a sound log.
    pub verdict: &'a str,
}

/// Returns the page.
///
/// # Errors
/// A chart cannot be drawn.
pub fn page(report: &Report, chain: Chain<'_>) -> Result<String, ChartError> {
    let mut page = String::new();
    let title = html(report.run_name.as_deref().unwrap_or("run without a name"));
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>Report on {title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        base64(Checksum::of(STYLE.as_bytes()).as_bytes()),
    );
    page += &header(report, chain, &title);
    page += &warnings(report, chain);
    page += &figures(report);
    page += &charts(report)?;
    page += &tables::symbols(report);
    page += &tables::positions(report);
    page += &tables::costs(report);
    page += &tables::rejections(report);
    page += &tables::trades(report);
    page += FOOTER;
    page += "</body>\n</html>\n";
    Ok(page)
}

const FOOTER: &str = "<footer>All figures are in USD and are sums over the fills on the bus; nothing is taken from \
    elsewhere. Profit is at average cost. Realised profit is before fees; spread and slippage are part of the \
    prices. Open positions are valued at the last price of their symbol. Equity is cash plus positions. A drawdown \
    is measured from the highest equity before it. Times are in UTC.</footer>\n";

fn header(report: &Report, chain: Chain<'_>, title: &str) -> String {
    let mut origin = Vec::new();
    if let Some(strategy) = &report.strategy {
        origin.push(
            format!("Strategy {} {}", html(&strategy.name), html(&strategy.version)).trim_end().to_owned(),
        );
    }
    if let Some(source) = &report.market_source {
        origin.push(format!("market data: {}", html(source)));
    }
    origin.push(format!("{} to {} UTC", time(report.from), time(report.to)));
    let verdict = match chain.sound {
        true => format!(
            "<span class=\"verdict good\">{}</span>: every event is unmodified, in order and linked to the one before it",
            html(chain.verdict)
        ),
        false => format!("<span class=\"verdict bad\">{}</span>", html(chain.verdict)),
    };
    let head = match report.head.checksum {
        Some(checksum) => format!("event {}, <code>{checksum}</code>", report.head.index),
        None => "no event".to_owned(),
    };
    let mut rows = vec![
        ("Chain", verdict),
        ("Head", head),
        ("First event", format!("{} UTC", time(report.from))),
        ("Last event", format!("{} UTC", time(report.to))),
    ];
    if let Some(strategy) = report.strategy.as_ref().filter(|strategy| !strategy.sha256.is_empty()) {
        rows.push(("Program", format!("<code>{}</code>", html(&strategy.sha256))));
    }
    let rows: String =
        rows.into_iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>\n")).collect();
    format!(
        "<header>\n<p class=\"kind\">Report on a paper trading run</p>\n<h1>{title}</h1>\n\
         <p class=\"origin\">{}</p>\n<dl class=\"chain\">\n{rows}</dl>\n</header>\n",
        origin.join(" &middot; "),
    )
}

fn warnings(report: &Report, chain: Chain<'_>) -> String {
    let mut warnings = Vec::new();
    if !chain.sound {
        warnings.push("The log is damaged. The figures are about the events before the damage.".to_owned());
    }
    if let Some(contradiction) = &report.contradiction {
        warnings.push(format!("The records contradict each other: {}.", html(contradiction)));
    }
    if let Some((count, first)) = &report.ignored {
        let events = counted(*count, "event");
        warnings.push(format!("{events} cannot be counted. The first: {}.", html(first)));
    }
    if report.earlier_runs > 0 {
        let runs = counted(report.earlier_runs, "earlier run");
        warnings.push(format!("{runs} on this bus, not part of this report."));
    }
    if report.strategy_failures > 0 {
        let cycles = counted(report.strategy_failures, "cycle");
        warnings.push(format!("The strategy failed in {cycles}; it placed no order there."));
    }
    let changes = report.settings_changes.iter().map(|SettingsChange { changes, event_index }| {
        format!("The settings changed in {}: {}.", event_id(*event_index), html(changes))
    });
    warnings.extend(changes);
    if report.settings_changes_left_out > 0 {
        warnings.push(format!("The settings changed {} more times.", report.settings_changes_left_out));
    }
    warnings.into_iter().map(|warning| format!("<p class=\"warning\">{warning}</p>\n")).collect()
}

fn figures(report: &Report) -> String {
    let trades = &report.trades;
    let (net, net_class) = signed(report.net_pnl_usd());
    let (realized, realized_class) = signed(report.realized_pnl_usd);
    let (unrealized, unrealized_class) = signed(report.unrealized_pnl_usd);
    let start = match report.start_cash_recorded {
        _ if report.begins_after.is_some() => {
            format!("from {}, cash and positions at average cost", format_money(report.start_cash_usd))
        }
        true => format!("from {}", format_money(report.start_cash_usd)),
        false => format!("from {}, assumed: the records state no cash", format_money(report.start_cash_usd)),
    };
    let drawdown = report.max_drawdown.filter(|drawdown| drawdown.usd > 0.0);
    let (fall, fall_period) = match drawdown {
        Some(drawdown) => (
            format!("\u{2212}{:.2} %", drawdown.pct),
            format!("{} until {}", format_money(drawdown.usd), time(Some(drawdown.lowest_as_of))),
        ),
        None => ("0.00 %".to_owned(), "the equity never fell below its peak".to_owned()),
    };
    let won = match trades.count {
        0 => "none is closed".to_owned(),
        count => format!("{} won, {:.0} %", trades.won, trades.won as f64 / count as f64 * 100.0),
    };
    let (factor, factor_note) = match trades.gross_loss_usd {
        loss if loss > 0.0 => {
            (format!("{:.2}", trades.gross_profit_usd / loss), "profit of winners / loss of losers")
        }
        _ => ("\u{2013}".to_owned(), "no trade lost"),
    };
    let mut decisions = format!("{}, {} rejected", counted(report.decisions, "decision"), report.rejected());
    if report.expired > 0 {
        decisions += &format!(", {} expired", report.expired);
    }
    let costs = match report.price_costs_usd {
        0.0 => "no fill states spread or slippage".to_owned(),
        costs => format!("and {} spread and slippage", format_money(costs)),
    };
    let cells = [
        ("Equity", money(report.equity_usd), "", start),
        ("Profit after costs", net, net_class, report.return_pct().map_or_else(String::new, percent)),
        ("Maximum drawdown", fall, "", fall_period),
        ("Cash", money(report.cash_usd), "", counted(report.positions.len() as u64, "open position")),
        ("Realised profit", realized, realized_class, "at average cost, before fees".to_owned()),
        ("Unrealised profit", unrealized, unrealized_class, "open positions at their marks".to_owned()),
        ("Fees", money(report.fees_usd), "", costs),
        ("Fills", report.fills.to_string(), "", decisions),
        ("Round trips", trades.count.to_string(), "", won),
        ("Profit factor", factor, "", factor_note.to_owned()),
        ("Best round trip", signed(trades.best_usd).0, "", "after fees".to_owned()),
        ("Worst round trip", signed(trades.worst_usd).0, "", "after fees".to_owned()),
    ];
    let cells: String = cells
        .into_iter()
        .map(|(name, value, class, note)| {
            format!("<div><dt>{name}</dt><dd class=\"{class}\">{value}</dd><dd>{note}</dd></div>\n")
        })
        .collect();
    format!("<dl class=\"figures\">\n{cells}</dl>\n")
}

fn charts(report: &Report) -> Result<String, ChartError> {
    let Some(charts) = Charts::of(report)? else {
        return Ok(
            "<h2>Equity</h2>\n<p class=\"note\">There are too few cycles for a chart.</p>\n".to_owned()
        );
    };
    let named = |svg: &str, name: &str| {
        svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{name}\" "), 1)
    };
    Ok(format!(
        "<h2>Equity and drawdown</h2>\n<figure>\n\
         <figcaption><span class=\"key equity\"></span>Equity, USD\
         <span class=\"next\"></span><span class=\"key start\"></span>Start cash</figcaption>\n{}</figure>\n\
         <figure>\n<figcaption><span class=\"key drawdown\"></span>Drawdown from the highest equity before</figcaption>\n\
         {}</figure>\n<h2>Exposure</h2>\n<figure>\n\
         <figcaption><span class=\"key gross\"></span>Gross, USD: all positions without their sign\
         <span class=\"next\"></span><span class=\"key net\"></span>Net, USD: long minus short</figcaption>\n{}</figure>\n",
        named(&charts.equity, "Equity over time"),
        named(&charts.drawdown, "Drawdown over time"),
        named(&charts.exposure, "Exposure over time"),
    ))
}

/// Base64 with padding, as a source hash of a content security policy has it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_has_padding() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
