//! Recorded feeds: JSON Lines, CSV, and directories of both.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use zero_paper::candle::Bar;
use zero_paper::feed::{self, Feed, FeedError, Next};

/// 2026-05-01T00:00:00Z
const START: f64 = 1_777_593_600.0;

struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let files_in = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            fs::write(files_in.path(name), text).unwrap();
        }
        files_in
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, name: &str) -> Result<Box<dyn Feed>, FeedError> {
        feed::open(self.path(name).to_str().unwrap(), None)
    }

    /// Every bar of a feed and its warnings, or its error. Folder names are cut from messages.
    fn read(&self, name: &str) -> Result<(Vec<Bar>, Vec<String>), String> {
        let cut = |text: String| text.replace(&format!("{}/", self.0.path().display()), "");
        let mut feed = self.open(name).map_err(|error| cut(error.to_string()))?;
        let mut bars = Vec::new();
        loop {
            match feed.next(Duration::ZERO).map_err(|error| cut(error.to_string()))? {
                Next::Bar(bar) => bars.push(bar),
                Next::Pending => panic!("a file does not wait"),
                Next::End => return Ok((bars, feed.warnings().into_iter().map(cut).collect())),
            }
        }
    }

    fn bars(&self, name: &str) -> Vec<Bar> {
        let (bars, warnings) = self.read(name).unwrap();
        assert_eq!(warnings, [""; 0]);
        bars
    }

    fn error(&self, name: &str) -> String {
        self.read(name).unwrap_err()
    }
}

fn candle(symbol: &str, minute: u32, close: f64) -> String {
    let ts = START + 60.0 * f64::from(minute);
    format!(
        "{{\"symbol\": \"{symbol}\", \"ts\": {ts}, \"open\": 100, \"high\": 200, \"low\": 50, \"close\": {close}}}\n"
    )
}

/// The symbols and closes of bars, with their minutes.
fn summary(bars: &[Bar]) -> Vec<(f64, String)> {
    let text = |bar: &Bar| {
        let candles = bar.candles.iter().map(|candle| format!("{}={}", candle.symbol, candle.close));
        candles.collect::<Vec<_>>().join(" ")
    };
    bars.iter().map(|bar| ((bar.ts - START) / 60.0, text(bar))).collect()
}

#[test]
fn candles_of_one_time_are_one_bar_in_the_order_of_symbols() {
    let text =
        [candle("eth", 0, 101.0), candle("BTC", 0, 102.0), "\n".to_owned(), candle("BTC", 1, 103.0)].concat();
    let bars = Files::new(&[("a.jsonl", &text)]).bars("a.jsonl");
    assert_eq!(summary(&bars), [(0.0, "BTC=102 ETH=101".to_owned()), (1.0, "BTC=103".to_owned())]);
    assert!(bars.iter().all(|bar| bar.interval_s == 60.0));
    assert_eq!(bars[1].close_ts(), START + 120.0);
}

#[test]
fn a_csv_file_has_its_columns_in_any_order_and_case() {
    let text = "Close,DATE,low,High,\"Open\",Volume\r\n101, 2026-05-01 ,50,200,100,\r\n\"102\",2026-05-02,50,200,100,7\r\n";
    let bars = Files::new(&[("btc-usd.csv", text)]).bars("btc-usd.csv");
    let candles: Vec<_> = bars.iter().map(|bar| &bar.candles[0]).collect();
    assert_eq!((candles[0].symbol.as_str(), candles[0].ts, candles[0].volume), ("BTC-USD", START, 0.0));
    assert_eq!((candles[1].close, candles[1].ts, candles[1].volume), (102.0, START + 86_400.0, 7.0));
    assert_eq!(bars[0].interval_s, 86_400.0);
}

#[test]
fn a_csv_file_may_have_a_symbol_column_and_a_byte_order_mark() {
    let text = "\u{feff}timestamp,symbol,open,high,low,close\n1777593600,btc,1,2,0.5,1.5\n\n1777593600.0,\"a,\"\"b\"\"\",1,2,0.5,1.5\n";
    let bars = Files::new(&[("x.csv", text)]).bars("x.csv");
    assert_eq!(summary(&bars), [(0.0, "A,\"B\"=1.5 BTC=1.5".to_owned())]);
    // The only bar shows no interval.
    assert_eq!(bars[0].interval_s, 60.0);
}

#[test]
fn times_have_an_offset_or_are_seconds() {
    let text = |time: &str| candle("A", 0, 100.0).replace("1777593600", time);
    for time in [
        "\"2026-05-01T02:00:00+02:00\"",
        "\"2026-05-01 00:00:00Z\"",
        "\"2026-05-01\"",
        "\"1777593600\"",
        "1.7775936e9",
    ] {
        assert_eq!(Files::new(&[("a.jsonl", &text(time))]).bars("a.jsonl")[0].ts, START, "{time}");
    }
    for (time, expected) in [
        ("\"2026-05-01T00:00:00\"", "a.jsonl: line 1: ts: its offset from UTC is missing"),
        ("\"yesterday\"", "a.jsonl: line 1: ts: it is not a time: `yesterday`; write 2026-05-01T09:00:00Z"),
        ("1777593600000", "a.jsonl: line 1: ts: is 1777593600000, after the year 9999; write seconds"),
        ("-1e300", "a.jsonl: line 1: ts: is -1"),
        ("\"NaN\"", "a.jsonl: line 1: ts: it is not a time: `NaN`"),
        ("null", "a.jsonl: line 1: ts: expected a number, found null"),
    ] {
        let error = Files::new(&[("a.jsonl", &text(time))]).error("a.jsonl");
        assert!(error.starts_with(expected), "{time}: {error}");
    }
}

#[test]
fn an_invalid_candle_is_rejected_with_file_line_and_field() {
    let valid = candle("A", 0, 100.0);
    for (from, to, expected) in [
        ("\"low\": 50", "\"low\": 150", "low: is 150, above open 100"),
        ("\"high\": 200", "\"high\": 99", "high: is 99, below open 100"),
        ("\"open\": 100", "\"open\": 0", "open: must be above 0, is 0"),
        ("\"open\": 100", "\"open\": -1", "open: must be above 0, is -1"),
        ("\"open\": 100", "\"open\": \"100\"", "open: expected a number, found a string"),
        ("\"open\": 100, ", "", "open: is missing"),
        ("\"open\": 100", "\"open\": 1e999", "open: "),
        ("\"open\": 100", "\"open\": NaN", "open: "),
        ("\"A\"", "\"\"", "symbol: must not be empty"),
        ("\"A\"", "\"a\\nb\"", "symbol: must not contain control characters"),
        ("\"close\": 100", "\"close\": 100, \"volume\": -1", "volume: must be 0 or more, is -1"),
        ("\"close\": 100}", "\"close\": 100", ""),
        ("{", "[", ""),
    ] {
        let text = format!("{}{}", candle("B", 0, 100.0), valid.replace(from, to));
        let error = Files::new(&[("a.jsonl", &text)]).error("a.jsonl");
        assert!(error.starts_with(&format!("a.jsonl: line 2: {expected}")), "{to}: {error}");
    }
}

#[test]
fn an_invalid_csv_line_is_rejected() {
    for (text, expected) in [
        ("ts,open,high,low,close\n1,1,2,0.5\n", "line 2: has 4 cells, but the header has 5"),
        ("ts,open,high,low,close\n1,1,2,x,1\n", "line 2: low: expected a number, found `x`"),
        ("ts,open,high,low,close\n1,1,2,,1\n", "line 2: low: is empty"),
        ("ts,open,high,low,close\n1,1,inf,1,1\n", "line 2: high: must be above 0, is inf"),
        ("ts,open,high,low,close\n1,1,NaN,1,1\n", "line 2: high: must be above 0, is NaN"),
        ("ts,open,high,low,close\n1,1,\"2,1,1\n", "line 2: has a quote that is not closed"),
        ("ts,open,high,low,close\n1,1,\"2\"x,1,1\n", "line 2: has text after the closing quote of a cell"),
        (
            "ts,open,high,low\n",
            "line 1: the header has no column close; it needs ts (or date, time, timestamp), open, high, low and close; \
             it can have volume, and symbol, which otherwise is the name of the file",
        ),
        (
            "ts;open;high;low;close\n",
            "line 1: the header has no column ts (or date, time, timestamp); separate the columns by a comma, not by ';'",
        ),
        (
            "date,time,open,high,low,close\n",
            "line 1: the columns `date` and `time` have the same meaning; remove one",
        ),
        (
            "ts,open,high,low,close,Close\n",
            "line 1: the columns `close` and `close` have the same meaning; remove one",
        ),
    ] {
        assert_eq!(Files::new(&[("a.csv", text)]).error("a.csv"), format!("a.csv: {expected}"));
    }
}

#[test]
fn a_bar_out_of_order_is_rejected() {
    let text = [candle("A", 5, 100.0), candle("B", 4, 100.0)].concat();
    assert_eq!(
        Files::new(&[("a.jsonl", &text)]).error("a.jsonl"),
        "a.jsonl: line 2: out of order: 2026-05-01T00:04:00Z is before 2026-05-01T00:05:00Z in line 1; sort the file \
         by time, or write one file per symbol into a directory"
    );
}

#[test]
fn a_duplicate_bar_is_rejected_even_across_files() {
    let text = [candle("A", 0, 100.0), candle("B", 0, 100.0), candle("a", 0, 100.0)].concat();
    assert_eq!(
        Files::new(&[("a.jsonl", &text)]).error("a.jsonl"),
        "a.jsonl: line 3: A: duplicate bar 2026-05-01T00:00:00Z; the first is a.jsonl: line 1"
    );
    let files = Files::new(&[("a.jsonl", &candle("A", 0, 100.0)), ("b.jsonl", &candle("A", 0, 100.0))]);
    assert_eq!(
        files.error(""),
        "b.jsonl: line 1: A: duplicate bar 2026-05-01T00:00:00Z; the first is a.jsonl: line 1"
    );
}

#[test]
fn a_directory_is_merged_by_time() {
    let files = Files::new(&[
        ("a.jsonl", &[candle("A", 0, 101.0), candle("A", 1, 102.0), candle("A", 2, 103.0)].concat()),
        ("b.csv", "ts,open,high,low,close\n1777593660,1,2,1,1.5\n1777593720,1,2,1,1.75\n"),
        ("notes.txt", "not a feed"),
    ]);
    fs::create_dir(files.path("c.csv")).unwrap();
    let expected = [(0.0, "A=101"), (1.0, "A=102 B=1.5"), (2.0, "A=103 B=1.75")];
    assert_eq!(summary(&files.bars("")), expected.map(|(minute, text)| (minute, text.to_owned())));
}

#[test]
fn gaps_jumps_and_unknown_fields_are_reported() {
    let text = [
        candle("A", 0, 100.0),
        candle("A", 1, 150.0),
        candle("A", 2, 150.0).replace('}', ", \"trades\": 3}"),
        candle("A", 3, 74.0).replace('}', ", \"trades\": 3}"),
        candle("A", 8, 80.0),
    ]
    .concat();
    let (bars, warnings) = Files::new(&[("a.jsonl", &text)]).read("a.jsonl").unwrap();
    assert_eq!(bars.len(), 5);
    assert_eq!(
        warnings,
        [
            "a.jsonl: line 3: trades: is not known and has no effect",
            "a.jsonl: line 4: A: the close jumps by -50.7 %, from 150 to 74",
            "a.jsonl: line 5: A: no candle for 300 s",
        ]
    );
}

#[test]
fn many_reports_of_one_kind_are_counted() {
    // The first step is the interval, one minute; the others are hours.
    let text: String = [0, 1, 60, 120, 180, 240, 300].map(|minute| candle("A", minute, 100.0)).concat();
    let (_, warnings) = Files::new(&[("a.jsonl", &text)]).read("a.jsonl").unwrap();
    assert_eq!(warnings.len(), 4);
    assert_eq!(warnings[2], "a.jsonl: line 5: A: no candle for 3600 s");
    assert_eq!(warnings[3], "a.jsonl: 2 gaps more, not shown");
}

#[test]
fn what_is_not_a_feed_is_refused() {
    let files = Files::new(&[
        ("a.txt", ""),
        ("empty.csv", "ts,open,high,low,close\n"),
        ("latin1.csv", "ts,open,high,low,close\n"),
    ]);
    fs::write(files.path("latin1.csv"), b"ts,open\xe9,high,low,close\n").unwrap();
    assert_eq!(
        files.error("a.txt"),
        "a.txt: is not a feed: name a file .jsonl or .csv, or a directory of them"
    );
    assert!(files.error("missing.csv").starts_with("missing.csv: cannot open it: "));
    assert_eq!(files.error("latin1.csv"), "latin1.csv: line 1: is not UTF-8: invalid byte at offset 7");
    assert_eq!(
        files.read("empty.csv").unwrap(),
        (Vec::new(), vec!["empty.csv: contains no candle".to_owned()])
    );
    let nothing = Files::new(&[]);
    assert!(nothing.error("").ends_with("contains no file *.jsonl or *.csv"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Feeds read bytes from anywhere.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[\"0-9,;:.\\-+eEinfaN \r\n{}]{0,120}".prop_map(String::into_bytes),
            "(ts,open,high,low,close\n)?([0-9]{1,3},[0-9]{1,2},[0-9]{1,2},[0-9]{1,2},[0-9]{1,2}\n){0,5}".prop_map(String::into_bytes),
        ],
        name in prop_oneof![Just("a.csv"), Just("a.jsonl")],
    ) {
        let files = Files::new(&[]);
        fs::write(files.path(name), bytes).unwrap();
        match files.read(name) {
            Ok((bars, _)) => {
                prop_assert!(bars.windows(2).all(|pair| pair[0].ts < pair[1].ts));
                for candle in bars.iter().flat_map(|bar| &bar.candles) {
                    prop_assert_eq!(candle.check(), Ok(()));
                }
            }
            Err(error) => prop_assert!(error.starts_with(&format!("{name}: line ")), "{}", error),
        }
    }

    /// Files are merged as one file in the order of time would be read.
    #[test]
    fn merged_files_deliver_what_one_file_does(minutes in prop::collection::btree_set((0_u32..40, 0_usize..3), 1..60)) {
        let symbols = ["A", "B", "C"];
        let lines = |only: Option<usize>| {
            let chosen = minutes.iter().filter(|(_, symbol)| only.is_none_or(|only| only == *symbol));
            chosen.map(|(minute, symbol)| candle(symbols[*symbol], *minute, 100.0)).collect::<String>()
        };
        let one = Files::new(&[("all.jsonl", &lines(None))]);
        let split = Files::new(&[("a.jsonl", &lines(Some(0))), ("b.jsonl", &lines(Some(1))), ("c.jsonl", &lines(Some(2)))]);
        prop_assert_eq!(one.read("all.jsonl").unwrap().0, split.read("").unwrap().0);
    }
}

#[test]
fn a_failed_feed_stays_failed() {
    let files = Files::new(&[(
        "a.jsonl",
        &[candle("A", 1, 100.0), candle("A", 0, 100.0), candle("A", 2, 100.0)].concat(),
    )]);
    let mut feed = files.open("a.jsonl").unwrap();
    let first = feed.next(Duration::ZERO).unwrap_err();
    assert_eq!(feed.next(Duration::ZERO).unwrap_err(), first);
}

#[test]
fn a_long_line_is_refused_before_it_is_read() {
    let files = Files::new(&[]);
    File::create(files.path("a.jsonl")).unwrap().set_len(100 << 20).unwrap();
    let before = peak_memory_kib();
    assert_eq!(files.error("a.jsonl"), "a.jsonl: line 1: is longer than 65536 bytes");
    // Other tests of this process run at the same time. They need less than that.
    assert!(peak_memory_kib() < before + (64 << 10));
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    let lines = write_large_csv(&path);
    assert!(fs::metadata(&path).unwrap().len() > 100_000_000);

    let before = peak_memory_kib();
    let mut feed = feed::open(path.to_str().unwrap(), None).unwrap();
    let mut bars = 0;
    while let Next::Bar(bar) = feed.next(Duration::ZERO).unwrap() {
        bars += bar.candles.len();
    }
    assert_eq!(bars, lines);
    assert!(peak_memory_kib() < before + (64 << 10), "{} -> {}", before, peak_memory_kib());
}

/// Writes a file of more than 100 MB. Returns the number of its candles.
fn write_large_csv(path: &Path) -> usize {
    let mut file = BufWriter::new(File::create(path).unwrap());
    writeln!(file, "ts,open,high,low,close,volume").unwrap();
    let padding = "0".repeat(200);
    let lines = 450_000;
    for line in 0..lines {
        writeln!(file, "{},100,101,99,100.5,1.{padding}", 60 * line).unwrap();
    }
    file.into_inner().unwrap();
    lines
}

/// The most memory that this process has used so far, in KiB.
fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
