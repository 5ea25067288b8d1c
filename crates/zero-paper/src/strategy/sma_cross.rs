//! `sma-cross:fast=N,slow=M,quantity=Q`: buys when the fast average of closes is above the slow
//! one, and sells when it is below.

use std::collections::{BTreeMap, HashMap, VecDeque};

use zero_bus::{Checksum, Json};

use crate::candle::Bar;
use crate::field::Field;
use crate::scenario::Side;
use crate::strategy::interface::{
    Answer, Failure, Intent, Observation, Start, Strategy, StrategyError, StrategyIdentity,
};
use crate::text::format_number;

/// Largest number of closes in an average. With it, sums of closes fit 128 bits.
const MAX_CLOSES: usize = 10_000;

/// The strategy.
pub(super) struct SmaCross {
    identity: StrategyIdentity,
    fast: usize,
    slow: usize,
    quantity: f64,
    by_symbol: HashMap<String, Closes>,
}

impl SmaCross {
    /// Reads the parameters of a SPEC, `fast=N,slow=M,quantity=Q` in any order.
    pub(super) fn open(spec: &str, parameters: &str) -> Result<Self, StrategyError> {
        let invalid = |problem: String| StrategyError { place: spec.to_owned(), problem };
        let (mut fast, mut slow, mut quantity) = (None, None, None);
        for parameter in parameters.split(',') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let closes = || {
                value.parse::<usize>().ok().filter(|closes| (1..=MAX_CLOSES).contains(closes)).ok_or_else(
                    || {
                        invalid(format!(
                            "{name}: must be a whole number from 1 to {MAX_CLOSES}, is `{value}`"
                        ))
                    },
                )
            };
            let is_repeated = match name {
                "fast" => fast.replace(closes()?).is_some(),
                "slow" => slow.replace(closes()?).is_some(),
                "quantity" => {
                    let parsed =
                        value.parse().ok().filter(|quantity: &f64| *quantity > 0.0 && quantity.is_finite());
                    let parsed =
                        parsed.ok_or_else(|| invalid(format!("quantity: must be above 0, is `{value}`")))?;
                    quantity.replace(parsed).is_some()
                }
                _ => {
                    return Err(invalid(format!(
                        "unknown parameter `{name}`; write fast=N,slow=M,quantity=Q"
                    )));
                }
            };
            if is_repeated {
                return Err(invalid(format!("{name}: is given twice")));
            }
        }
        let missing = |name: &str| invalid(format!("{name}: is missing; write fast=N,slow=M,quantity=Q"));
        let (fast, slow) = (fast.ok_or_else(|| missing("fast"))?, slow.ok_or_else(|| missing("slow"))?);
        if fast >= slow {
            return Err(invalid(format!("fast: must be below slow {slow}, is {fast}")));
        }
        let identity = StrategyIdentity {
            name: "sma-cross".to_owned(),
            sha256: Checksum::of(spec.as_bytes()).to_string(),
            version: "1".to_owned(),
        };
        let quantity = quantity.ok_or_else(|| missing("quantity"))?;
        Ok(Self { identity, fast, slow, quantity, by_symbol: HashMap::new() })
    }

    /// Adds the closes of a bar.
    fn add(&mut self, bar: &Bar) {
        for candle in &bar.candles {
            match self.by_symbol.get_mut(&candle.symbol) {
                Some(closes) => closes.add(candle.close, self.fast, self.slow),
                None => {
                    let mut closes = Closes::default();
                    closes.add(candle.close, self.fast, self.slow);
                    self.by_symbol.insert(candle.symbol.clone(), closes);
                }
            }
        }
    }

    fn intent(&self, symbol: &str, held: f64) -> Option<Intent> {
        let (fast, slow) = self.by_symbol.get(symbol)?.averages(self.fast, self.slow)?;
        let (side, relation) = if held == 0.0 && fast > slow {
            (Side::Buy, "above")
        } else if held > 0.0 && fast < slow {
            (Side::Sell, "below")
        } else {
            return None;
        };
        let (fast, slow) = (format_number(fast), format_number(slow));
        Some(Intent {
            symbol: symbol.to_owned(),
            side,
            quantity: self.quantity,
            confidence: 1.0,
            reason: format!("fast average {fast} is {relation} slow average {slow}"),
            reduce_only: side == Side::Sell,
            limit_price: None,
            key: None,
        })
    }
}

impl Strategy for SmaCross {
    fn identity(&self) -> &StrategyIdentity {
        &self.identity
    }

    fn start(&mut self, _: &Start<'_>) -> Result<(), Failure> {
        self.by_symbol.clear();
        Ok(())
    }

    fn memory(&self) -> Option<Json> {
        let closes = |closes: &Closes| closes.closes.iter().map(i128::to_string).collect::<Vec<_>>();
        let by_symbol: BTreeMap<_, _> =
            self.by_symbol.iter().map(|(symbol, known)| (symbol.as_str(), closes(known))).collect();
        Json::of(&by_symbol).ok()
    }

    fn remember(&mut self, memory: &Json) -> bool {
        let value = memory.value();
        let root = Field::root(&value);
        let read = || {
            let closes = root.object().ok()?.map(|symbol| {
                let closes = symbol.items().ok()?.map(|close| close.text().ok()?.parse().ok());
                Some((symbol.name().to_owned(), closes.collect::<Option<Vec<i128>>>()?))
            });
            closes.collect::<Option<Vec<_>>>()
        };
        let Some(by_symbol) = read() else { return false };
        for (symbol, closes) in by_symbol {
            let known = self.by_symbol.entry(symbol).or_default();
            closes.into_iter().for_each(|close| known.add_units(close, self.fast, self.slow));
        }
        true
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), Failure> {
        self.add(observation.bar);
        Ok(())
    }

    fn decide(&mut self, observation: &Observation<'_>) -> Result<Answer, Failure> {
        self.add(observation.bar);
        let held = |symbol: &str| {
            let position = observation.positions.iter().find(|position| position.symbol == symbol);
            position.map_or(0.0, |position| position.quantity)
        };
        let symbols = observation.bar.candles.iter().map(|candle| candle.symbol.as_str());
        let intents: Vec<Intent> = symbols.filter_map(|symbol| self.intent(symbol, held(symbol))).collect();
        let hold_reason = intents.is_empty().then(|| "no symbol to buy or sell".to_owned());
        Ok(Answer { intents, state: None, hold_reason })
    }

    fn stop(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The last closes of one symbol and their sums, in units of 2^-64 USD.
///
/// Whole numbers make the sums exact, however long the run is: equal closes have equal averages, so
/// a market that does not move causes no order. Sums of doubles would differ in their last digits.
#[derive(Default)]
struct Closes {
    /// At most as many as the slow average needs.
    closes: VecDeque<i128>,
    fast_sum: i128,
    slow_sum: i128,
}

const UNITS_PER_USD: f64 = (1_u128 << 64) as f64;
/// A close above this, 560 trillion USD, counts as this.
const MAX_CLOSE: f64 = (1_u64 << 49) as f64;

impl Closes {
    fn add(&mut self, close: f64, fast: usize, slow: usize) {
        // The product is exact. The cast drops what is below 2^-64 USD.
        self.add_units((close.min(MAX_CLOSE) * UNITS_PER_USD) as i128, fast, slow);
    }

    fn add_units(&mut self, close: i128, fast: usize, slow: usize) {
        self.closes.push_back(close);
        self.fast_sum += close;
        self.slow_sum += close;
        let len = self.closes.len();
        if len > fast {
            self.fast_sum -= self.closes[len - 1 - fast];
        }
        if len > slow {
            self.slow_sum -= self.closes.pop_front().unwrap_or_default();
        }
    }

    /// Returns the fast and the slow average, once there are enough closes.
    fn averages(&self, fast: usize, slow: usize) -> Option<(f64, f64)> {
        (self.closes.len() >= slow).then(|| (average(self.fast_sum, fast), average(self.slow_sum, slow)))
    }
}

/// The double nearest to an average.
fn average(sum: i128, count: usize) -> f64 {
    let count = count as i128;
    // The last bit shows the cast on which side of a tie the quotient is.
    let quotient = (sum / count) | i128::from(sum % count != 0);
    quotient as f64 / UNITS_PER_USD
}
