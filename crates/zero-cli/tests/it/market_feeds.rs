//! Feeds of `zero-engine-run` that need a process of their own: standard input, and the program
//! `zero-feed-hyperliquid` against a local server. Nothing here uses another network.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use zero_bus::{Json, Value};

use crate::support::{BUS, ENGINE, Finished, engine, events, run_with_input, temp_dir};

const STRATEGY: [&str; 2] = ["--strategy", "sma-cross:fast=1,slow=2,quantity=1"];

/// The candles that a run has recorded, one text per cycle.
fn observed(dir: &Path) -> Vec<String> {
    let observations = events(dir).into_iter().filter(|event| event.event_type == "market.observation");
    observations
        .map(|event| {
            Json::try_from(event.payload.value().get("candles").unwrap()).unwrap().as_str().to_owned()
        })
        .collect()
}

fn arguments<'a>(source: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--market", source, "--runtime-bus", "bus"][..], &STRATEGY, more].concat()
}

#[test]
fn standard_input_is_read_as_the_file_is() {
    let csv =
        "symbol,ts,open,high,low,close\nBTC,0,1,2,1,2\nBTC,60,2,3,2,3\nETH,60,1,1,1,1\nBTC,120,3,3,2,2\n";
    let json: String = csv
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<_> = line.split(',').collect();
            let [symbol, ts, open, high, low, close] = cells[..] else { unreachable!() };
            format!("{{\"symbol\":\"{symbol}\",\"ts\":{ts},\"open\":{open},\"high\":{high},\"low\":{low},\"close\":{close}}}\n")
        })
        .collect();
    let file = temp_dir();
    fs::write(file.path().join("a.csv"), csv).unwrap();
    engine(file.path(), &arguments("a.csv", &[])).success();
    let expected = observed(file.path());
    assert_eq!(expected.len(), 3);
    for input in [csv, &json] {
        let dir = temp_dir();
        let output =
            run_with_input(Command::new(*ENGINE).args(arguments("-", &[])).current_dir(dir.path()), input);
        Finished::from(output).success();
        assert_eq!(observed(dir.path()), expected);
    }
}

#[test]
fn a_run_that_waits_for_standard_input_ends_on_a_signal() {
    let dir = temp_dir();
    let mut child = Command::new(*ENGINE)
        .args(arguments("-", &[]))
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = b"symbol,ts,open,high,low,close\nBTC,0,1,2,1,2\nBTC,60,2,3,2,3\nBTC,120,3,3,2,2\n";
    stdin.write_all(lines).unwrap();
    // The third bar may still get candles, so two cycles run.
    crate::support::wait_until(|| {
        dir.path().join("bus/events.jsonl").exists() && observed(dir.path()).len() == 2
    });
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    let output: Finished = child.wait_with_output().unwrap().into();
    assert_eq!(output.code, 0);
    drop(stdin);
}

/// A value that the server and the test share.
type Shared<T> = Arc<Mutex<T>>;

/// Starts a server with the candles of one minute each, up to a time that may change. Returns its
/// address, that time, and the start times that were asked for.
fn start_exchange(last_ms: u64) -> (String, Shared<u64>, Shared<Vec<u64>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (last, asked) = (Arc::new(Mutex::new(last_ms)), Arc::new(Mutex::new(Vec::new())));
    let (last_in_server, asked_in_server) = (Arc::clone(&last), Arc::clone(&asked));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let start_ms = read_start(&stream);
            asked_in_server.lock().unwrap().push(start_ms);
            let minutes = start_ms.div_ceil(60_000)..=*last_in_server.lock().unwrap() / 60_000;
            let candles: Vec<_> = minutes
                .map(|minute| {
                    let (start_ms, price) = (60_000 * minute, 100 + minute % 10);
                    format!(
                        "{{\"t\":{start_ms},\"T\":{},\"s\":\"BTC\",\"i\":\"1m\",\"o\":\"{price}.0\",\"c\":\"{price}.5\",\
                         \"h\":\"{price}.75\",\"l\":\"{price}.0\",\"v\":\"1.0\",\"n\":3}}",
                        start_ms + 59_999
                    )
                })
                .collect();
            let body = format!("[{}]", candles.join(","));
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            // The client may be gone.
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    (url, last, asked)
}

/// Reads a request for candles. Returns its start time in milliseconds.
fn read_start(stream: &TcpStream) -> u64 {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = Value::parse(std::str::from_utf8(&body).unwrap()).unwrap();
    request.get("req").and_then(|parameters| parameters.get("startTime")?.as_u64()).unwrap()
}

#[test]
fn a_source_that_cannot_be_opened_leaves_no_bus() {
    let dir = temp_dir();
    for (source, problem) in [
        ("hyperliquid:BTC@7m", "`7m` is not an interval"),
        ("hyperliquid:BTC?to=here", "has an unknown option"),
        ("none.csv", "none.csv"),
    ] {
        let message = engine(dir.path(), &arguments(source, &[])).failure(2);
        assert!(message.contains(problem), "{message}");
        assert!(!dir.path().join("bus").exists(), "{source}");
    }
}

#[test]
fn a_run_on_the_exchange_continues_without_a_gap() {
    let feed = Path::new(BUS).with_file_name("zero-feed-hyperliquid");
    assert!(feed.exists(), "{} is missing; build it: cargo build -p zero-feed-hyperliquid", feed.display());
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let minute_ms = now_ms / 60_000 * 60_000;
    // The exchange is behind: its last closed bar is 10 minutes old.
    let (url, last, asked) = start_exchange(minute_ms - 600_000);
    let source = format!("hyperliquid:BTC@1m?url={url}");
    let dir = temp_dir();
    engine(dir.path(), &arguments(&source, &["--max-cycles", "1"])).success();
    let times = || -> Vec<f64> {
        let candles = observed(dir.path());
        candles
            .iter()
            .map(|text| match Value::parse(text).unwrap() {
                Value::Array(candles) => candles[0].get("ts").and_then(Value::as_f64).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let first = (minute_ms - 600_000) as f64 / 1000.0;
    assert_eq!(times(), [first]);

    *last.lock().unwrap() = minute_ms;
    asked.lock().unwrap().clear();
    engine(dir.path(), &arguments(&source, &["--max-cycles", "5"])).success();
    assert_eq!(times(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|minute| first + 60.0 * minute));
    assert_eq!(asked.lock().unwrap()[0], minute_ms - 600_000);
}
