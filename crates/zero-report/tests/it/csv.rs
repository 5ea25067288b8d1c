//! The CSV files: private, whole, and never in place of another program's file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use zero_bus::{Bus, Reader};
use zero_paper::report::{Report, read};
use zero_report::csv::{CsvError, CsvFiles};

use crate::html::append;
use crate::market_bus::write_run;

fn write(bus: &Path, tables: &Path) -> Result<Report, CsvError> {
    let mut csv = CsvFiles::create(tables)?;
    let reading = read(&Reader::open(bus).unwrap(), &mut |row| csv.add(row), &mut |_| {})?;
    csv.finish()?;
    Ok(reading.report)
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_files_hold_every_row_and_are_private() {
    let (bus, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_run(bus.path(), 5, 100);
    let tables = place.path().join("new/tables");
    let report = write(bus.path(), &tables).unwrap();
    let rows = |name: &str| lines(&tables.join(name)).len() as u64 - 1;
    assert_eq!(rows("trades.csv"), report.trades.count);
    assert_eq!(rows("fills.csv"), report.fills);
    assert_eq!(rows("rejections.csv"), report.rejected());
    assert_eq!(rows("equity.csv"), 100);
    let last = lines(&tables.join("equity.csv")).pop().unwrap();
    let equity: f64 = last.split(',').nth(2).unwrap().parse().unwrap();
    assert_eq!(equity, report.equity_usd);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&tables), 0o700);
    let names: Vec<_> = fs::read_dir(&tables).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 4);
    assert!(names.iter().all(|path| mode(path) == 0o600));
}

#[test]
fn files_of_this_program_are_replaced_and_others_are_not() {
    let (bus, tables) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_run(bus.path(), 5, 10);
    write(bus.path(), tables.path()).unwrap();
    let first = lines(&tables.path().join("equity.csv"));
    write(bus.path(), tables.path()).unwrap();
    assert_eq!(lines(&tables.path().join("equity.csv")), first);
    let foreign = tables.path().join("rejections.csv");
    fs::write(&foreign, "time,who\n").unwrap();
    let error = write(bus.path(), tables.path()).unwrap_err();
    assert!(error.to_string().contains("rejections.csv: was not written by this program"), "{error}");
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "time,who\n");
    assert_eq!(fs::read_dir(tables.path()).unwrap().count(), 4);
}

#[test]
fn a_symbol_cannot_become_a_formula() {
    let (dir, tables) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bus = Bus::open(dir.path()).unwrap();
    let symbol = "=HYPERLINK(\"http://x\",\"y\")";
    append(
        &bus,
        "fill.record",
        1.0,
        &json!({"symbol": symbol, "side": "buy", "quantity": 2.0, "price": 0.0000001}),
    );
    append(&bus, "rejection.record", 1.0, &json!({"symbol": "@x", "reason": "-1\nnext", "price": -5.0}));
    drop(bus);
    write(dir.path(), tables.path()).unwrap();
    let fills = lines(&tables.path().join("fills.csv"));
    let expected =
        "1970-01-01T00:00:01Z,\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\",buy,2,0.0000001,,0.0000002,0,,,1";
    assert_eq!(fills[1], expected);
    let rejections = fs::read_to_string(tables.path().join("rejections.csv")).unwrap();
    assert!(rejections.ends_with("1970-01-01T00:00:01Z,'@x,,,-5,,\"'-1\nnext\",,,,,2\n"), "{rejections}");
}
