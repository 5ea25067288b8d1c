//! Feedback on a run: how often orders were rejected, why, and a suggested action per reason.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::decision::Decision;
use crate::position::rounded;
use crate::risk::RiskDecision;

/// The `schema_version` of the feedback document.
pub const FEEDBACK_SCHEMA: &str = "zero.runtime.feedback.v1";

/// The feedback document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Feedback {
    /// Number of rejections by reason.
    pub by_rejection_reason: BTreeMap<String, u64>,
    /// Number of rejections by symbol.
    pub by_rejection_symbol: BTreeMap<String, u64>,
    cycles: u64,
    execution_quality: ExecutionQuality,
    fills: u64,
    /// Time of the report, RFC 3339. Not part of the parity hash, so that equal runs have equal
    /// hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<String>,
    /// One item per rejection reason, most frequent first.
    pub items: Vec<Item>,
    /// Rejections divided by decisions, rounded to four decimals; 0 without decisions.
    pub rejection_rate: f64,
    rejections: u64,
    sample_size: u64,
    schema_version: &'static str,
}

/// A rejection reason and the suggested action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    count: u64,
    reason: String,
    risk_direction: &'static str,
    suggested_action: &'static str,
}

/// The claims about execution quality that a paper run does and does not support.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ExecutionQuality {
    exchange_fill_quality_claimed: bool,
    live_slippage_claimed: bool,
    paper_fill_quality_available: bool,
    requires_operator_owned_live_evidence: bool,
}

impl Feedback {
    /// Computes the feedback on a run's decisions. Equally frequent reasons are in alphabetical
    /// order.
    pub fn of<'a>(decisions: impl IntoIterator<Item = &'a Decision>) -> Self {
        let mut by_rejection_reason: BTreeMap<String, u64> = BTreeMap::new();
        let mut by_rejection_symbol: BTreeMap<String, u64> = BTreeMap::new();
        let (mut cycles, mut rejections) = (0, 0);
        for decision in decisions {
            cycles += 1;
            if !decision.allowed {
                rejections += 1;
                *by_rejection_reason.entry(decision.reason.clone()).or_default() += 1;
                *by_rejection_symbol.entry(decision.symbol.clone()).or_default() += 1;
            }
        }
        let mut items: Vec<Item> =
            by_rejection_reason.iter().map(|(reason, count)| Item::of(reason, *count)).collect();
        // The sort is stable, so the alphabetical order of the map remains among equal counts.
        items.sort_by_key(|item| std::cmp::Reverse(item.count));
        let rate = if cycles == 0 { 0.0 } else { rejections as f64 / cycles as f64 };
        Self {
            by_rejection_reason,
            by_rejection_symbol,
            cycles,
            execution_quality: ExecutionQuality {
                exchange_fill_quality_claimed: false,
                live_slippage_claimed: false,
                paper_fill_quality_available: true,
                requires_operator_owned_live_evidence: true,
            },
            fills: cycles - rejections,
            generated_at: None,
            items,
            rejection_rate: rounded(rate, 4),
            rejections,
            sample_size: cycles,
            schema_version: FEEDBACK_SCHEMA,
        }
    }
}

impl Item {
    fn of(reason: &str, count: u64) -> Self {
        let suggested_action = if reason == RiskDecision::LowConfidence.reason() {
            "improve signal calibration before promoting the strategy"
        } else if reason == RiskDecision::OrderNotional.reason() {
            "lower candidate size or raise the explicit risk limit after review"
        } else if reason == RiskDecision::NotReducing.reason() {
            "send a reduce-only order only while it reduces an open position"
        } else if reason == RiskDecision::ProjectedPosition.reason() {
            "reduce the open position or raise the explicit position limit after review"
        } else {
            "review the rejected decisions before promoting the strategy"
        };
        Self { count, reason: reason.to_owned(), risk_direction: "down", suggested_action }
    }
}
