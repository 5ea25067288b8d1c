//! The settings that the cycle records of runs on market data state, and what changes in them.

use std::collections::BTreeMap;

use zero_bus::Value;

use crate::text::{escape, format_number, format_numbers_apart};

/// Limits, costs and rules of fills. A limit that is not set is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CycleSettings(BTreeMap<&'static str, Value>);

/// The settings, and the member of the record's orient phase that has each.
const SETTINGS: [(Option<&str>, &str); 14] = [
    (Some("limits"), "max_notional_usd"),
    (Some("limits"), "max_position_notional_usd"),
    (Some("limits"), "min_confidence"),
    (Some("limits"), "max_gross_exposure_usd"),
    (Some("limits"), "max_daily_loss_usd"),
    (Some("limits"), "max_drawdown_pct"),
    (Some("limits"), "max_orders_per_minute"),
    (Some("limits"), "max_data_age_s"),
    (Some("costs"), "fee_bps"),
    (Some("costs"), "half_spread_bps"),
    (Some("costs"), "slippage_bps"),
    (None, "fill"),
    (None, "limit_bars"),
    (None, "reduce_only_rule"),
];

impl CycleSettings {
    /// Reads the settings of an orient phase, or of another object with the same members. Members
    /// that are not known are left out.
    pub(crate) fn read(orient: &Value) -> Self {
        let find = |(group, name): (Option<&str>, &'static str)| {
            let parent = group.map_or(Some(orient), |group| orient.get(group))?;
            Some((name, parent.get(name).filter(|value| **value != Value::Null)?.clone()))
        };
        Self(SETTINGS.into_iter().filter_map(find).collect())
    }

    /// Describes what differs from earlier settings, as in `max_notional_usd from 500 to 1000
    /// (looser)`; `None` if nothing does.
    pub(crate) fn changes_since(&self, earlier: &Self) -> Option<String> {
        let change = |(_, name): (Option<&str>, &'static str)| {
            let (before, after) = (earlier.0.get(name), self.0.get(name));
            let effect = match direction(name, before, after)? {
                Some(effect) => format!(" ({effect})"),
                None => String::new(),
            };
            let [before, after] = match (number(before), number(after)) {
                (Some(before), Some(after)) => format_numbers_apart([before, after]),
                _ => [text(before), text(after)],
            };
            Some(format!("{name} from {before} to {after}{effect}"))
        };
        let changes: Vec<String> = SETTINGS.into_iter().filter_map(change).collect();
        (!changes.is_empty()).then(|| changes.join(", "))
    }
}

/// Whether a limit became looser or tighter; `Some(None)` for another setting, `None` if it is the
/// same.
fn direction(name: &str, before: Option<&Value>, after: Option<&Value>) -> Option<Option<&'static str>> {
    let is_same = match (number(before), number(after)) {
        (Some(before), Some(after)) => before == after,
        _ => before == after,
    };
    // A limit that is not set restricts nothing.
    let bound = |value: Option<&Value>| value.map_or(Some(f64::INFINITY), Value::as_f64);
    let effect = || match (name, bound(before)?, bound(after)?) {
        (name, before, after) if name.starts_with("max_") => {
            Some(if after > before { "looser" } else { "tighter" })
        }
        ("min_confidence", before, after) => Some(if after < before { "looser" } else { "tighter" }),
        _ => None,
    };
    (!is_same).then(effect)
}

fn number(value: Option<&Value>) -> Option<f64> {
    value.and_then(Value::as_f64)
}

fn text(value: Option<&Value>) -> String {
    match value {
        None => "unset".to_owned(),
        Some(Value::String(text)) => escape(text),
        Some(value) => value.as_f64().map_or_else(|| "-".to_owned(), format_number),
    }
}

#[cfg(test)]
mod tests {
    use zero_bus::Value;

    use super::CycleSettings;

    #[test]
    fn a_change_names_both_values_and_whether_a_limit_became_looser() {
        let read = |text: &str| CycleSettings::read(&Value::parse(text).unwrap());
        let earlier = read(
            r#"{"limits": {"max_notional_usd": 500, "max_drawdown_pct": 10.0, "min_confidence": 0.6},
            "costs": {"fee_bps": 4.5}, "fill": "next_open", "limit_bars": 1}"#,
        );
        assert_eq!(earlier.changes_since(&earlier), None);
        let later = read(
            r#"{"limits": {"max_notional_usd": 400.5, "max_daily_loss_usd": 5, "min_confidence": 0.5, "other": 1},
            "costs": {"fee_bps": 0}, "fill": "close", "limit_bars": 1.0}"#,
        );
        assert_eq!(
            later.changes_since(&earlier).unwrap(),
            "max_notional_usd from 500 to 400.5 (tighter), min_confidence from 0.6 to 0.5 (looser), \
             max_daily_loss_usd from unset to 5 (tighter), max_drawdown_pct from 10 to unset (looser), \
             fee_bps from 4.5 to 0, fill from next_open to close"
        );
    }
}
