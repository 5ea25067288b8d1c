//! What a run on market data shows on standard error if that is a terminal: the start, what
//! happened to orders, and a summary.

use std::collections::BTreeMap;

use zero_paper::RecordPaths;
use zero_paper::market::record::MarketCycle;
use zero_paper::market::runtime::MarketRuntime;
use zero_paper::order_record::{OrderDecision, OrderFill};
use zero_paper::summary::{Summary, Tone};
use zero_paper::text::{counted, escape, format_amount, format_money, format_number};

use crate::terminal::Terminal;

/// The display of a run. It shows nothing if standard error is not a terminal.
pub(crate) struct MarketDisplay(Option<RunDisplay>);

/// A terminal, and the counts for the summary.
struct RunDisplay {
    terminal: Terminal,
    cycles: u64,
    fills: u64,
    rejections: BTreeMap<String, u64>,
}

impl MarketDisplay {
    pub(crate) fn on_standard_error() -> Self {
        Self(Terminal::on_standard_error().map(|terminal| RunDisplay {
            terminal,
            cycles: 0,
            fills: 0,
            rejections: BTreeMap::new(),
        }))
    }

    /// Shows feed, strategy, run, files and the recovered state.
    pub(crate) fn show_start(
        &mut self,
        source: &str,
        strategy: &str,
        records: &RecordPaths,
        runtime: &MarketRuntime,
    ) {
        let Some(RunDisplay { terminal, .. }) = &mut self.0 else { return };
        let run = &runtime.rules().run;
        terminal.show_row("market", source);
        terminal.show_row("strategy", strategy);
        terminal.show_row("run", &format!("{}, {} USD", run.name, format_money(run.start_cash_usd)));
        let costs = run.costs;
        terminal.show_row(
            "costs",
            &format!(
                "fee {} bps, half spread {} bps, slippage {} bps",
                costs.fee_bps, costs.half_spread_bps, costs.slippage_bps
            ),
        );
        terminal.show_files(&[("journal", &records.journal), ("bus", &records.runtime_bus)]);
        let recovered = match runtime.state().last_cycle_id() {
            0 => "nothing, this is a new run".to_owned(),
            cycles => {
                let equity = format_money(runtime.state().account().equity_usd());
                format!("{}, equity {equity} USD", counted(cycles, "cycle"))
            }
        };
        terminal.show_row("recovered", &recovered);
    }

    /// Shows what a cycle did to orders. A cycle that only held is counted.
    pub(crate) fn show_cycle(&mut self, cycle: &MarketCycle) {
        let Some(display) = &mut self.0 else { return };
        display.cycles += 1;
        let act = &cycle.act;
        for fill in &act.fills {
            display.show_fill(cycle, fill);
        }
        for order in &act.expired {
            let limit =
                order.limit_price.map_or(String::new(), |price| format!(" @ {}", format_number(price)));
            let quantity = format_number(order.quantity);
            let text = format!("{} {} {quantity}{limit} {}", order.symbol, order.side, order.reason);
            display.show_line(cycle, "expired", text, Tone::Refused);
        }
        for decision in &act.decisions {
            if decision.allowed {
                if act.opened.iter().any(|order| order.order_id == decision.order_id) {
                    display.show_line(cycle, "order", describe(decision), Tone::Routine);
                }
            } else {
                *display.rejections.entry(decision.reason.clone()).or_default() += 1;
                let text = format!("{} {}", describe(decision), decision.reason);
                display.show_line(cycle, "rejection", text, Tone::Refused);
            }
        }
        for fill in &act.immediate_fills {
            display.show_fill(cycle, fill);
        }
        if let Some(failure) = &cycle.decide.failure {
            display.show_line(cycle, "failed", failure.reason.clone(), Tone::Refused);
        }
    }

    /// Shows the counts of this process and the account at its end.
    pub(crate) fn show_summary(&mut self, runtime: &MarketRuntime) {
        let Some(RunDisplay { terminal, cycles, fills, rejections }) = &mut self.0 else { return };
        terminal.show_gap();
        terminal.show_row("cycles", &cycles.to_string());
        terminal.show_row("fills", &fills.to_string());
        terminal.show_row("rejections", &rejections.values().sum::<u64>().to_string());
        for (reason, count) in rejections {
            terminal.show_row("", &format!("{count} {reason}"));
        }
        let account = runtime.state().account();
        let equity = account.equity_usd();
        let change = equity - runtime.rules().run.start_cash_usd;
        terminal.show_row(
            "equity",
            &format!("{} USD ({} since the start)", format_money(equity), format_money(change)),
        );
        terminal.show_row("realised", &format!("{} USD", format_money(account.realized_pnl_usd())));
        terminal.show_row("fees", &format!("{} USD", format_money(account.fees_usd())));
        let positions = account.positions();
        if positions.is_empty() {
            terminal.show_row("positions", "none");
        }
        for (index, position) in positions.iter().enumerate() {
            let text = format!(
                "{} {} @ {}, now {}",
                position.symbol,
                format_number(position.quantity),
                format_amount(position.avg_price),
                format_amount(position.mark_price)
            );
            terminal.show_row(if index == 0 { "positions" } else { "" }, &text);
        }
    }
}

/// `BTC buy 0.5`
fn describe(decision: &OrderDecision) -> String {
    let limit = decision.limit_price.map_or(String::new(), |price| format!(" @ {}", format_number(price)));
    format!("{} {} {}{limit}", decision.symbol, decision.side, format_number(decision.quantity))
}

impl RunDisplay {
    fn show_fill(&mut self, cycle: &MarketCycle, fill: &OrderFill) {
        self.fills += 1;
        let text = format!(
            "{} {} {} @ {} = {} USD",
            fill.symbol,
            fill.side,
            format_number(fill.quantity),
            format_number(fill.price),
            format_amount(fill.notional_usd)
        );
        self.show_line(cycle, "fill", text, Tone::Done);
    }

    fn show_line(&mut self, cycle: &MarketCycle, kind: &str, text: String, tone: Tone) {
        let summary = Summary { kind: kind.to_owned(), text: escape(&text).to_string(), tone };
        self.terminal.show_line(cycle.cycle_id, cycle.as_of, &summary);
    }
}
