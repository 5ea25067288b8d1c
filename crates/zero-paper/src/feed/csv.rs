//! Candles in a CSV file: a header, then one candle per line.

use std::borrow::Cow;

use crate::candle::{Candle, FeedCandle, parse_bar_time};

/// The names of the column with the time.
const TIME_NAMES: [&str; 4] = ["ts", "date", "time", "timestamp"];

/// The columns that a header can name, for messages.
const COLUMNS: &str = "it needs ts (or date, time, timestamp), open, high, low and close; it can have volume, and \
                       symbol, which otherwise is the name of the file";

/// The columns of a file.
#[derive(Debug)]
pub(super) struct Header {
    /// Number of columns.
    count: usize,
    time: usize,
    open: usize,
    high: usize,
    low: usize,
    close: usize,
    volume: Option<usize>,
    symbol: Symbol,
}

/// Where the symbol of a candle is.
#[derive(Debug)]
enum Symbol {
    Column(usize),
    /// The name of the file, in upper case.
    FileStem(String),
}

impl Header {
    /// Reads the header. Passes the name of each column without a meaning to `unknown`.
    ///
    /// # Errors
    /// A column is missing, or two columns have the same meaning.
    pub(super) fn parse(
        line: &str,
        file_stem: Option<&str>,
        mut unknown: impl FnMut(&str),
    ) -> Result<Self, String> {
        let names: Vec<String> = split(line)?.iter().map(|name| name.to_lowercase()).collect();
        let mut known = Vec::new();
        for (column, name) in names.iter().enumerate() {
            let meaning = if TIME_NAMES.contains(&name.as_str()) { "ts" } else { name.as_str() };
            if !["ts", "symbol", "open", "high", "low", "close", "volume"].contains(&meaning) {
                unknown(name);
                continue;
            }
            if let Some((_, other)) = known.iter().find(|(found, _)| *found == meaning) {
                let other: &String = &names[*other];
                return Err(format!("the columns `{other}` and `{name}` have the same meaning; remove one"));
            }
            known.push((meaning, column));
        }
        let find =
            |meaning: &str| known.iter().find(|(found, _)| *found == meaning).map(|(_, column)| *column);
        let require = |meaning: &str| {
            find(meaning).ok_or_else(|| {
                let meaning = if meaning == "ts" { "ts (or date, time, timestamp)" } else { meaning };
                let separator = [';', '\t'].into_iter().find(|c| names.len() == 1 && line.contains(*c));
                let advice = separator.map(|c| format!("separate the columns by a comma, not by {c:?}"));
                format!("the header has no column {meaning}; {}", advice.as_deref().unwrap_or(COLUMNS))
            })
        };
        let symbol = match (find("symbol"), file_stem) {
            (Some(column), _) => Symbol::Column(column),
            (None, Some(stem)) => Symbol::FileStem(stem.to_uppercase()),
            (None, None) => return Err(format!("the header has no column symbol; {COLUMNS}")),
        };
        Ok(Self {
            count: names.len(),
            time: require("ts")?,
            open: require("open")?,
            high: require("high")?,
            low: require("low")?,
            close: require("close")?,
            volume: find("volume"),
            symbol,
        })
    }

    /// Reads and checks a candle.
    ///
    /// # Errors
    /// The column at fault and the problem with it.
    pub(super) fn read(&self, line: &str) -> Result<FeedCandle, String> {
        let cells = split(line)?;
        if cells.len() != self.count {
            return Err(format!("has {} cells, but the header has {}", cells.len(), self.count));
        }
        let number = |name: &str, column: usize| {
            let cell = &cells[column];
            cell.parse::<f64>().map_err(|_| match cell.is_empty() {
                true => format!("{name}: is empty"),
                false => format!("{name}: expected a number, found `{cell}`"),
            })
        };
        let candle = Candle {
            symbol: match &self.symbol {
                Symbol::Column(column) => cells[*column].to_uppercase(),
                Symbol::FileStem(stem) => stem.clone(),
            },
            ts: parse_bar_time(&cells[self.time]).map_err(|problem| format!("ts: {problem}"))?,
            open: number("open", self.open)?,
            high: number("high", self.high)?,
            low: number("low", self.low)?,
            close: number("close", self.close)?,
            volume: match self.volume.filter(|column| !cells[*column].is_empty()) {
                Some(column) => number("volume", column)?,
                None => 0.0,
            },
        };
        candle.check().map_err(|(field, problem)| format!("{field}: {problem}"))?;
        Ok(FeedCandle { candle, interval_s: None })
    }
}

/// Splits a line into its cells, without the white space around them. A cell may be quoted; within
/// quotes, `""` is one quote. A cell cannot contain a line break.
fn split(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    if !line.contains('"') {
        return Ok(line.split(',').map(|cell| Cow::Borrowed(cell.trim())).collect());
    }
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let cell = rest.trim_start();
        let Some(quoted) = cell.strip_prefix('"') else {
            let (cell, after) = rest.split_once(',').map_or((rest, None), |(cell, rest)| (cell, Some(rest)));
            cells.push(Cow::Borrowed(cell.trim()));
            match after {
                Some(after) => rest = after,
                None => return Ok(cells),
            }
            continue;
        };
        let (text, after) = unquote(quoted)?;
        cells.push(Cow::Owned(text));
        match after.trim_start().strip_prefix(',') {
            Some(after) => rest = after,
            None if after.trim().is_empty() => return Ok(cells),
            None => return Err("has text after the closing quote of a cell".to_owned()),
        }
    }
}

/// Reads a quoted cell from behind its opening quote. Returns its text and what follows.
fn unquote(quoted: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut rest = quoted;
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err("has a quote that is not closed".to_owned());
        };
        text.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                text.push('"');
                rest = after;
            }
            None => return Ok((text, after)),
        }
    }
}
