//! `zero-bus report`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::market_bus::write_run;
use crate::support::runs::run_cycles;
use crate::support::{bus, temp_dir};

#[test]
fn a_report_is_a_table_or_one_json_document() {
    let temp = temp_dir();
    write_run(&temp.path().join("bus"), 5, 60);
    let table = bus(temp.path(), &["report", "bus"]).success();
    for line in ["run     drift on synthetic, strategy drift 1", "chain   ok, head 377:sha256:"] {
        assert!(table.contains(line), "{line}: {table}");
    }
    let json = bus(temp.path(), &["report", "bus", "--json"]).success();
    assert!(
        json.starts_with(r#"{"by_symbol":{"BTC":{"#) && json.ends_with("\"verdict\":\"ok\"}\n"),
        "{json}"
    );
    assert_eq!(json.lines().count(), 1);
}

#[test]
fn a_scenario_run_has_a_report_with_assumed_cash() {
    let temp = temp_dir();
    run_cycles(temp.path(), "6", &[]).success();
    let table = bus(temp.path(), &["report", "bus"]).success();
    assert!(
        table.contains("start cash         10,000.00 USD  assumed: the records state no cash"),
        "{table}"
    );
    assert!(table.contains("order notional exceeds limit"), "{table}");
}

#[test]
fn the_page_is_one_private_file_outside_the_bus() {
    let temp = temp_dir();
    write_run(&temp.path().join("bus"), 5, 20);
    let table = bus(temp.path(), &["report", "bus", "-o", "report.html"]).success();
    assert!(table.contains("round trip"), "{table}");
    let file = temp.path().join("report.html");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let page = fs::read_to_string(&file).unwrap();
    assert_eq!(bus(temp.path(), &["report", "bus", "-o", "-"]).success(), format!("{page}\n"));
    for place in ["bus/report.html", "bus/events.jsonl"] {
        let message = bus(temp.path(), &["report", "bus", "-o", place]).failure(2);
        assert!(message.contains("is inside the bus"), "{message}");
    }
    let message = bus(temp.path(), &["report", "bus", "--csv", "bus/new/tables"]).failure(2);
    assert!(message.contains("is inside the bus"), "{message}");
    assert!(!temp.path().join("bus/new").exists());
}

#[test]
fn csv_files_are_written_next_to_the_table() {
    let temp = temp_dir();
    write_run(&temp.path().join("bus"), 5, 20);
    bus(temp.path(), &["report", "bus", "--csv", "tables"]).success();
    for name in ["trades.csv", "fills.csv", "equity.csv", "rejections.csv"] {
        let text = fs::read_to_string(temp.path().join("tables").join(name)).unwrap();
        assert!(text.lines().count() > 1, "{name}");
    }
    fs::write(temp.path().join("tables/fills.csv"), "mine\n").unwrap();
    let message = bus(temp.path(), &["report", "bus", "--csv", "tables"]).failure(2);
    assert!(message.contains("fills.csv: was not written by this program"), "{message}");
}

#[test]
fn a_damaged_log_is_reported_up_to_the_damage() {
    let temp = temp_dir();
    write_run(&temp.path().join("bus"), 5, 20);
    let log = temp.path().join("bus/events.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let changed = lines[60].replace("\"as_of\":1", "\"as_of\":2");
    let damaged = [&lines[..60], &[changed.as_str()], &lines[61..]].concat();
    fs::write(&log, damaged.join("\n") + "\n").unwrap();
    let finished = bus(temp.path(), &["report", "bus", "--json", "-o", "report.html"]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    assert!(finished.stdout.contains(r#""index":60}"#), "{}", finished.stdout);
    assert!(finished.stdout.contains(r#""verdict":"checksum mismatch at event 61""#), "{}", finished.stdout);
    let page = fs::read_to_string(temp.path().join("report.html")).unwrap();
    assert!(page.contains("The log is damaged"), "{}", &page[..3000]);
}
