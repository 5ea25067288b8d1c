//! Candles and bars: what a feed delivers and a strategy sees.

use serde::Serialize;
use zero_bus::Value;

use crate::clock::parse_rfc3339;
use crate::field::{Field, Problem};
use crate::scenario::MAX_NAME_CHARACTERS;

/// The candle of one symbol over one bar.
///
/// Prices are above 0 and finite, `high` is the greatest and `low` the least of them, and `volume`
/// is 0 or more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candle {
    /// Price of the last trade, in USD.
    pub close: f64,
    /// Highest price, in USD.
    pub high: f64,
    /// Lowest price, in USD.
    pub low: f64,
    /// Price of the first trade, in USD.
    pub open: f64,
    /// Symbol of the instrument, in upper case.
    pub symbol: String,
    /// Start of the bar, in seconds since the Unix epoch.
    pub ts: f64,
    /// Traded quantity; 0 if it is not known.
    pub volume: f64,
}

/// All candles with one start time.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Start of the bar, in seconds since the Unix epoch.
    pub ts: f64,
    /// Length of the bar in seconds, positive and finite.
    pub interval_s: f64,
    /// At least one candle, ordered by symbol, one per symbol.
    pub candles: Vec<Candle>,
}

impl Bar {
    /// Returns the end of the bar, in seconds since the Unix epoch.
    pub fn close_ts(&self) -> f64 {
        self.ts + self.interval_s
    }

    /// Returns the candle of a symbol, if the bar has one.
    pub fn candle(&self, symbol: &str) -> Option<&Candle> {
        // Most bars have one candle, and a search in a few is as fast as in order.
        self.candles.iter().find(|candle| candle.symbol == symbol)
    }
}

/// The latest bar time, the end of the year 9999. A later one is in milliseconds, not seconds.
const MAX_TS: f64 = 253_402_300_799.0;
/// The earliest bar time, the begin of the year 1.
const MIN_TS: f64 = -62_135_596_800.0;

/// The members of a candle's JSON form.
const MEMBERS: [&str; 8] = ["symbol", "ts", "open", "high", "low", "close", "volume", "interval_s"];

/// A candle as a feed delivers it.
#[derive(Debug, PartialEq)]
pub(crate) struct FeedCandle {
    pub(crate) candle: Candle,
    /// The length of the bar in seconds, if the feed names it.
    pub(crate) interval_s: Option<f64>,
}

impl Candle {
    /// Parses a candle from JSON text: `symbol`, `ts` (RFC 3339 or Unix seconds), `open`, `high`,
    /// `low`, `close` and `volume` (0 if it is missing). The symbol is brought to upper case.
    ///
    /// # Errors
    /// The field at fault and the problem with it.
    ///
    /// ```
    /// use zero_paper::candle::Candle;
    ///
    /// let candle = r#"{"symbol": "btc", "ts": "2026-05-01T00:00:00Z", "open": 64000,
    ///     "high": 64100, "low": 63900, "close": 64050}"#;
    /// let parsed = Candle::parse(candle)?;
    /// assert_eq!((parsed.symbol.as_str(), parsed.ts, parsed.volume), ("BTC", 1777593600.0, 0.0));
    ///
    /// let problem = Candle::parse(&candle.replace("64100", "64010")).unwrap_err();
    /// assert_eq!(problem, "high: is 64010, below close 64050");
    /// # Ok::<(), String>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        parse_candle(text, |_| ()).map(|read| read.candle)
    }

    /// Checks the fields: the symbol is in upper case and has 1 to [`MAX_NAME_CHARACTERS`]
    /// characters, none of them a control character; the time is in the years 1 to 9999; prices
    /// are above 0 and finite; `high` is the greatest and `low` the least; `volume` is finite and 0
    /// or more.
    ///
    /// # Errors
    /// The invalid field and the problem with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        check_symbol(&self.symbol).map_err(|problem| ("symbol", problem))?;
        if self.ts > MAX_TS {
            let problem = format!("is {}, after the year 9999; write seconds, not milliseconds", self.ts);
            return Err(("ts", problem));
        }
        if self.ts < MIN_TS || self.ts.is_nan() {
            return Err(("ts", format!("is {}, before the year 1", self.ts)));
        }
        let prices = [("open", self.open), ("high", self.high), ("low", self.low), ("close", self.close)];
        for (field, price) in prices {
            if !(price > 0.0 && price.is_finite()) {
                return Err((field, format!("must be above 0, is {price}")));
            }
        }
        for (field, price) in prices {
            if price > self.high {
                return Err(("high", format!("is {}, below {field} {price}", self.high)));
            }
            if price < self.low {
                return Err(("low", format!("is {}, above {field} {price}", self.low)));
            }
        }
        if !(self.volume >= 0.0 && self.volume.is_finite()) {
            return Err(("volume", format!("must be 0 or more, is {}", self.volume)));
        }
        Ok(())
    }
}

/// Parses a candle. Passes the name of each unknown member to `unknown`.
pub(crate) fn parse_candle(text: &str, unknown: impl FnMut(&str)) -> Result<FeedCandle, Problem> {
    let value = Value::parse(text).map_err(|error| {
        let path = error.path();
        let separator = if path.is_empty() { "" } else { ": " };
        let column = error.offset().map(|offset| format!(" (column {})", offset + 1)).unwrap_or_default();
        format!("{path}{separator}{}{column}", error.problem())
    })?;
    if let Value::Object(members) = &value {
        members.keys().map(String::as_str).filter(|key| !MEMBERS.contains(key)).for_each(unknown);
    }
    read_candle(&Field::root(&value))
}

/// Reads a candle's members and checks them.
pub(crate) fn read_candle(field: &Field<'_>) -> Result<FeedCandle, Problem> {
    let number = |key| field.required(key)?.number();
    let time = field.required("ts")?;
    let candle = Candle {
        symbol: field.required("symbol")?.text()?.to_uppercase(),
        ts: match time.optional_text() {
            Some(text) => parse_bar_time(text).map_err(|problem| time.problem(&problem))?,
            None => time.number()?,
        },
        open: number("open")?,
        high: number("high")?,
        low: number("low")?,
        close: number("close")?,
        volume: field.optional("volume").map_or(Ok(0.0), |volume| volume.number())?,
    };
    candle.check().map_err(|(invalid, problem)| match field.required(invalid) {
        Ok(invalid) => invalid.problem(&problem),
        Err(_) => format!("{invalid}: {problem}"),
    })?;
    let interval_s = field.optional("interval_s").map(|interval| interval.positive()).transpose()?;
    Ok(FeedCandle { candle, interval_s })
}

/// Checks a symbol as [`Candle::check`] does.
pub(crate) fn check_symbol(symbol: &str) -> Result<(), String> {
    if symbol.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if symbol.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    if symbol.chars().nth(MAX_NAME_CHARACTERS).is_some() {
        return Err(format!("has more than {MAX_NAME_CHARACTERS} characters"));
    }
    if symbol != symbol.to_uppercase() {
        return Err("must be in upper case".to_owned());
    }
    Ok(())
}

/// Parses the time of a bar: RFC 3339 with an offset, a date alone (midnight UTC), or seconds since
/// the Unix epoch.
pub(crate) fn parse_bar_time(text: &str) -> Result<f64, String> {
    // Numbers first: digits are not a time of RFC 3339, and most files have one of the two.
    if let Some(seconds) = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite()) {
        return Ok(seconds);
    }
    let date = || {
        let date = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == "2026-05-01".len())?;
        Some(date.duration_since(jiff::civil::date(1970, 1, 1)).as_secs_f64())
    };
    parse_rfc3339(text).or_else(date).ok_or_else(|| {
        let no_offset = text.parse::<jiff::civil::DateTime>().is_ok();
        let advice = if no_offset { "its offset from UTC is missing" } else { "it is not a time" };
        format!("{advice}: `{text}`; write 2026-05-01T09:00:00Z, 2026-05-01, or seconds since 1970")
    })
}
