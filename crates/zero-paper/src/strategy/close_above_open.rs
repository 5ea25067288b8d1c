//! `close-above-open:FILE`: places the same order whenever a bar closes far enough above its open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use zero_bus::{Checksum, Json, Value};

use crate::candle::check_symbol;
use crate::field::{Field, Problem};
use crate::scenario::{MAX_NAME_CHARACTERS, Side};
use crate::strategy::flat_yaml;
use crate::strategy::interface::{
    Answer, Failure, Intent, Observation, Start, Strategy, StrategyError, StrategyIdentity,
};
use crate::text::format_number;

/// Larger files are refused.
const MAX_FILE_BYTES: u64 = 1 << 20;

const MEMBERS: [&str; 9] =
    ["name", "version", "description", "paper_only", "symbol", "side", "quantity", "confidence", "condition"];

/// The strategy.
#[derive(Debug)]
pub(super) struct CloseAboveOpen {
    identity: StrategyIdentity,
    symbol: String,
    side: Side,
    quantity: f64,
    confidence: f64,
    min_move_pct: f64,
}

impl CloseAboveOpen {
    /// Reads a file: JSON, or flat YAML.
    pub(super) fn open(path: &str) -> Result<Self, StrategyError> {
        let invalid = |place: &str, problem: String| StrategyError { place: place.to_owned(), problem };
        let mut bytes = Vec::new();
        let file =
            File::open(Path::new(path)).map_err(|error| invalid(path, format!("cannot open it: {error}")))?;
        let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| invalid(path, format!("cannot read it: {error}")))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(invalid(path, format!("is larger than {MAX_FILE_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            invalid(path, format!("is not UTF-8: invalid byte at offset {}", error.valid_up_to()))
        })?;
        let text = text.trim_start_matches('\u{feff}');
        let (value, lines) = if text.trim_start().starts_with('{') {
            let value = Value::parse(text).map_err(|error| invalid(path, error.to_string()))?;
            (value, BTreeMap::new())
        } else {
            flat_yaml::parse(text)
                .map_err(|(line, problem)| invalid(&format!("{path}: line {line}"), problem))?
        };
        Self::read(&Field::root(&value), Checksum::of(&bytes).to_string()).map_err(|problem| {
            let line = problem.split_once(": ").and_then(|(field, _)| lines.get(field));
            invalid(&line.map_or(path.to_owned(), |line| format!("{path}: line {line}")), problem)
        })
    }

    fn read(root: &Field<'_>, sha256: String) -> Result<Self, Problem> {
        refuse_unknown(root, &MEMBERS)?;
        let version = match root.optional("version") {
            None => String::new(),
            Some(version) => version.text_or_number()?,
        };
        if let Some(description) = root.optional("description") {
            description.text()?;
        }
        // Every run of this runtime is on paper.
        if let Some(paper_only) = root.optional("paper_only") {
            paper_only.bool()?;
        }
        let name = root.required("name")?;
        for (field, text) in [(&name, name.text()?), (&name, version.as_str())] {
            if text.chars().nth(MAX_NAME_CHARACTERS).is_some() {
                return Err(field.problem(&format!("has more than {MAX_NAME_CHARACTERS} characters")));
            }
        }
        let symbol = root.required("symbol")?;
        let symbol_text = symbol.text()?.to_uppercase();
        check_symbol(&symbol_text).map_err(|problem| symbol.problem(&problem))?;
        let side = root.required("side")?;
        let side_text = side.text()?;
        let confidence = root.required("confidence")?;
        if !(0.0..=1.0).contains(&confidence.number()?) {
            return Err(confidence.problem(&format!("must be between 0 and 1, is {}", confidence.number()?)));
        }
        Ok(Self {
            identity: StrategyIdentity { name: name.text()?.to_owned(), sha256, version },
            symbol: symbol_text,
            side: Side::parse(side_text)
                .ok_or_else(|| side.problem(&format!("must be `buy` or `sell`, is `{side_text}`")))?,
            quantity: root.required("quantity")?.positive()?,
            confidence: confidence.number()?,
            min_move_pct: read_condition(&root.required("condition")?)?,
        })
    }
}

/// Reads the condition. Returns `min_move_pct`.
fn read_condition(condition: &Field<'_>) -> Result<f64, Problem> {
    refuse_unknown(condition, &["type", "min_move_pct"])?;
    let kind = condition.required("type")?;
    if kind.text()? != "close_above_open" {
        return Err(kind.problem(&format!("must be `close_above_open`, is `{}`", kind.text()?)));
    }
    let Some(min_move_pct) = condition.optional("min_move_pct") else { return Ok(0.0) };
    match min_move_pct.number()? {
        pct if pct >= 0.0 => Ok(pct),
        pct => Err(min_move_pct.problem(&format!("must be 0 or more, is {pct}"))),
    }
}

/// An unknown field may be one that limits what the strategy does, so it is refused.
fn refuse_unknown(field: &Field<'_>, known: &[&str]) -> Result<(), Problem> {
    match field.object()?.find(|member| !member.is_one_of(known)) {
        Some(unknown) => Err(unknown.problem(&format!("is not known; the fields are {}", known.join(", ")))),
        None => Ok(()),
    }
}

impl Strategy for CloseAboveOpen {
    fn identity(&self) -> &StrategyIdentity {
        &self.identity
    }

    fn start(&mut self, _: &Start<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn memory(&self) -> Option<Json> {
        Some(Json::empty_object())
    }

    fn remember(&mut self, _: &Json) -> bool {
        true
    }

    fn observe(&mut self, _: &Observation<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn decide(&mut self, observation: &Observation<'_>) -> Result<Answer, Failure> {
        let hold = |reason: &str| {
            Ok(Answer { intents: Vec::new(), state: None, hold_reason: Some(reason.to_owned()) })
        };
        let Some(candle) = observation.bar.candle(&self.symbol) else {
            return hold("the bar has no candle of the symbol");
        };
        let move_pct = (candle.close - candle.open) / candle.open * 100.0;
        if !(candle.close > candle.open && move_pct >= self.min_move_pct) {
            return hold("the close is not far enough above the open");
        }
        let intent = Intent {
            symbol: self.symbol.clone(),
            side: self.side,
            quantity: self.quantity,
            confidence: self.confidence,
            reason: format!("the close is {} % above the open", format_number(move_pct)),
            reduce_only: false,
            limit_price: None,
            key: None,
        };
        Ok(Answer { intents: vec![intent], state: None, hold_reason: None })
    }

    fn stop(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}
