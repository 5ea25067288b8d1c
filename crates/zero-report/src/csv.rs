//! The lists of a report as CSV files: `trades.csv`, `fills.csv`, `equity.csv`, `rejections.csv`.
//!
//! Numbers are written as plain decimals that read back as the same double. Each text was written
//! by another program; one that a spreadsheet would run as a formula gets an apostrophe in front.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zero_paper::report::{EquityPoint, FillRow, RejectionRow, Row, Trade};
use zero_paper::rfc3339;

const TRADES: &str = "symbol,side,opened,closed,quantity,entry_price,exit_price,realized_pnl_usd,fees_usd,\
                      net_pnl_usd,return_pct,fills";
const FILLS: &str =
    "time,symbol,side,quantity,price,reference_price,notional_usd,fee_usd,fill_id,order_id,event_index";
const EQUITY: &str = "time,cash_usd,equity_usd,drawdown_pct,gross_exposure_usd,net_exposure_usd,event_index";
const REJECTIONS: &str =
    "time,symbol,side,quantity,price,notional_usd,reason,limit,bound,value,source,event_index";

/// The CSV files cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// A file of the same name is there and does not begin as one of this program's.
    #[error("{}: was not written by this program; name another directory", .0.display())]
    ForeignFile(PathBuf),
    /// A system call failed.
    #[error("{}: cannot write it: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The bus cannot be read.
    #[error(transparent)]
    Bus(#[from] zero_bus::Error),
}

/// Writes the four files. None of them is in place before [`CsvFiles::finish`].
#[derive(Debug)]
pub struct CsvFiles {
    trades: CsvFile,
    fills: CsvFile,
    equity: CsvFile,
    rejections: CsvFile,
}

impl CsvFiles {
    /// Begins the files in a directory, which is created (mode 0700) if it does not exist.
    ///
    /// # Errors
    /// The directory cannot be created or written to; a file of another program has the name of one
    /// of the files.
    pub fn create(dir: &Path) -> Result<Self, CsvError> {
        let failed = |source| CsvError::Io { path: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        Ok(Self {
            trades: CsvFile::create(dir.join("trades.csv"), TRADES)?,
            fills: CsvFile::create(dir.join("fills.csv"), FILLS)?,
            equity: CsvFile::create(dir.join("equity.csv"), EQUITY)?,
            rejections: CsvFile::create(dir.join("rejections.csv"), REJECTIONS)?,
        })
    }

    /// Writes a row to its file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, row: Row<'_>) -> Result<(), CsvError> {
        match row {
            Row::Trade(trade) => self.trades.write(&trade_cells(trade)),
            Row::Fill(fill) => self.fills.write(&fill_cells(fill)),
            Row::Point(point) => self.equity.write(&point_cells(point)),
            Row::Rejection(rejection) => self.rejections.write(&rejection_cells(rejection)),
        }
    }

    /// Puts the files in place (mode 0600), each as a whole.
    ///
    /// # Errors
    /// A file cannot be written or renamed.
    pub fn finish(self) -> Result<(), CsvError> {
        for file in [self.trades, self.fills, self.equity, self.rejections] {
            file.finish()?;
        }
        Ok(())
    }
}

fn trade_cells(trade: &Trade) -> Vec<String> {
    vec![
        text(&trade.symbol),
        if trade.long { "long" } else { "short" }.to_owned(),
        time(trade.opened_as_of),
        time(trade.closed_as_of),
        number(trade.quantity),
        number(trade.entry_price),
        number(trade.exit_price),
        number(trade.realized_pnl_usd),
        number(trade.fees_usd),
        number(trade.net_pnl_usd()),
        number(trade.return_pct()),
        trade.fills.to_string(),
    ]
}

fn fill_cells(fill: &FillRow) -> Vec<String> {
    vec![
        time(fill.as_of),
        text(&fill.symbol),
        fill.side.to_string(),
        number(fill.quantity),
        number(fill.price),
        optional(fill.reference_price),
        number(fill.quantity * fill.price),
        number(fill.fee_usd),
        text(fill.fill_id.as_deref().unwrap_or_default()),
        text(fill.order_id.as_deref().unwrap_or_default()),
        fill.event_index.to_string(),
    ]
}

fn point_cells(point: &EquityPoint) -> Vec<String> {
    vec![
        time(point.as_of),
        number(point.cash_usd),
        number(point.equity_usd),
        number(point.drawdown_pct),
        number(point.gross_exposure_usd),
        number(point.net_exposure_usd),
        point.event_index.to_string(),
    ]
}

fn rejection_cells(rejection: &RejectionRow) -> Vec<String> {
    let optional_text = |value: &Option<String>| text(value.as_deref().unwrap_or_default());
    let (name, bound, value) = match &rejection.limit {
        Some((name, bound, value)) => (text(name), number(*bound), number(*value)),
        None => Default::default(),
    };
    vec![
        time(rejection.as_of),
        optional_text(&rejection.symbol),
        optional_text(&rejection.side),
        optional(rejection.quantity),
        optional(rejection.price),
        optional(rejection.notional_usd),
        text(&rejection.reason),
        name,
        bound,
        value,
        optional_text(&rejection.source),
        rejection.event_index.to_string(),
    ]
}

/// A plain decimal, without an exponent.
fn number(number: f64) -> String {
    (number + 0.0).to_string()
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(String::new, number)
}

/// RFC 3339; seconds for a time that has no date.
fn time(as_of: f64) -> String {
    rfc3339(as_of).unwrap_or_else(|| number(as_of))
}

/// A text as a cell. Spreadsheets take a cell for a formula by its first character, and some skip
/// white space before it.
fn text(text: &str) -> String {
    let first = text.trim_start().chars().next();
    let is_formula =
        matches!(first, Some('=' | '+' | '-' | '@' | '|' | '%')) || text.starts_with(['\t', '\r', '\n']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// A file that takes its name when it is complete.
#[derive(Debug)]
struct CsvFile {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl CsvFile {
    fn create(path: PathBuf, header: &str) -> Result<Self, CsvError> {
        let failed = |source| CsvError::Io { path: path.clone(), source };
        if !may_replace(&path, header).map_err(failed)? {
            return Err(CsvError::ForeignFile(path));
        }
        let dir = path.parent().unwrap_or(Path::new("."));
        // A temporary file has mode 0600.
        let mut out = BufWriter::new(NamedTempFile::new_in(dir).map_err(failed)?);
        writeln!(out, "{header}").map_err(failed)?;
        Ok(Self { path, out })
    }

    fn write(&mut self, cells: &[String]) -> Result<(), CsvError> {
        let written = writeln!(self.out, "{}", cells.join(","));
        written.map_err(|source| CsvError::Io { path: self.path.clone(), source })
    }

    fn finish(self) -> Result<(), CsvError> {
        let path = self.path;
        let failed = |source| CsvError::Io { path: path.clone(), source };
        let file = self.out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// Whether nothing has this path, or a file that begins with the same header.
fn may_replace(path: &Path, header: &str) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_file() => return Ok(false),
        Ok(_) => {}
    }
    let mut first_line = Vec::new();
    let longest = header.len() as u64 + 2;
    BufReader::new(File::open(path)?.take(longest)).read_until(b'\n', &mut first_line)?;
    Ok(first_line == format!("{header}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{number, text};

    #[test]
    fn a_text_cannot_become_a_formula_or_another_cell() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "|calc"] {
            assert!(text(formula).trim_start_matches('"').starts_with('\''), "{formula:?}");
        }
        assert_eq!(text("BTC"), "BTC");
        assert_eq!(text("a,b"), "\"a,b\"");
        assert_eq!(text("say \"hi\"\nthere"), "\"say \"\"hi\"\"\nthere\"");
    }

    #[test]
    fn a_number_is_a_plain_decimal() {
        assert_eq!(
            [number(1e-7), number(-2.5), number(1e21), number(-0.0)].join(" "),
            "0.0000001 -2.5 1000000000000000000000 0"
        );
    }
}
