//! The program itself.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use zero_paper::candle::Candle;

use crate::server::{Answer, Server, market};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zero-feed-hyperliquid");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn it_prints_the_bars_after_a_time_and_ends_with_its_reader() {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let since = now_s / 60 * 60 - 600;
    let server = Server::start(move |asked, _| market(asked, 1000 * since));
    let mut child = Command::new(PROGRAM)
        .args(["BTC,ETH", "--url", &server.url, "--since", &since.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(16);
    let candles: Vec<_> = lines.map(|line| Candle::parse(&line.unwrap()).unwrap()).collect();
    for (index, candle) in candles.iter().enumerate() {
        assert_eq!(candle.symbol, ["BTC", "ETH"][index % 2]);
        assert_eq!(candle.ts, (since + 60 * (1 + index as u64 / 2)) as f64);
        assert_eq!(candle.close.fract(), 0.0, "the bar is not closed");
    }
    // Its output is closed now, which it notices although there is nothing to print.
    assert!(child.wait().unwrap().success());
}

#[test]
fn it_refuses_invalid_arguments() {
    for (arguments, expected) in [
        (&["BTC,btc"][..], "btc: is given twice"),
        (&["BTC,"], "`` is not a symbol"),
        (&["BTC", "--interval", "7m"], "the intervals are 1m, 3m"),
        (&["BTC", "--since=-1"], "not a number of seconds since the Unix epoch"),
        (&["BTC", "--url", "http://api.example.org"], "use https://"),
        (&["BTC", "--url", "https://me:secret@api.example.org"], "must not contain a name or password"),
        (&["BTC", "--url", "https://api.example.org/?a=b"], "is invalid; write https://"),
        (&["BTC", "--url", "ftp://127.0.0.1"], "is invalid; write https://"),
        (&[], "SYM,SYM"),
    ] {
        let output = run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn it_tells_why_the_exchange_refuses() {
    let server = Server::start(|_, _| Answer::error("400 Bad Request", "", "no \x1b[2J such coin"));
    let output = run(&["NONE", "--url", &server.url]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "zero-feed-hyperliquid: NONE: 400 Bad Request: no \\u{1b}[2J such coin\n");
}
