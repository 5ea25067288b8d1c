//! Programs as feeds.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zero_paper::candle::Bar;
use zero_paper::feed::{self, Feed, FeedError, Next};

/// 2026-05-01T00:00:00Z
const START: f64 = 1_777_593_600.0;

/// A shell script as a feed, in a folder of its own.
struct Script(TempDir);

impl Script {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("feed.sh"), format!("cd {}\n{text}\n", dir.path().display())).unwrap();
        Self(dir)
    }

    /// A script that prints lines and then runs a command.
    fn printing(lines: &[String], then: &str) -> Self {
        let script = Self::new(&format!("cat lines\n{then}"));
        fs::write(script.path("lines"), lines.concat()).unwrap();
        script
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self) -> Box<dyn Feed> {
        feed::open(&self.source(), None).unwrap()
    }

    fn source(&self) -> String {
        format!("exec:sh {}", self.path("feed.sh").display())
    }

    /// Every bar of the feed and its warnings, or its error. Messages name the feed as FEED.
    fn read(&self) -> (Vec<Bar>, Result<Vec<String>, String>) {
        let short = |text: String| text.replace(&self.source(), "FEED");
        let mut feed = self.start();
        let mut bars = Vec::new();
        loop {
            match feed.next(Duration::from_secs(60)) {
                Ok(Next::Bar(bar)) => bars.push(bar),
                Ok(Next::Pending) => panic!("the program is too slow"),
                Ok(Next::End) => return (bars, Ok(feed.warnings().into_iter().map(short).collect())),
                Err(error) => return (bars, Err(short(error.to_string()))),
            }
        }
    }
}

fn candle(symbol: &str, minute: u32) -> String {
    let ts = START + 60.0 * f64::from(minute);
    format!("{{\"symbol\":\"{symbol}\",\"ts\":{ts},\"open\":100,\"high\":200,\"low\":50,\"close\":100}}\n")
}

fn named(symbol: &str, minute: u32) -> String {
    candle(symbol, minute).replace('}', ",\"interval_s\":60}")
}

/// The minutes and symbols of bars.
fn summary(bars: &[Bar]) -> Vec<String> {
    let text = |bar: &Bar| {
        let symbols: Vec<_> = bar.candles.iter().map(|candle| candle.symbol.as_str()).collect();
        format!("{} {} {}", (bar.ts - START) / 60.0, symbols.join("+"), bar.interval_s)
    };
    bars.iter().map(text).collect()
}

/// Asks until the feed has something else than nothing.
fn wait(feed: &mut dyn Feed) -> Result<Next, FeedError> {
    let begin = Instant::now();
    loop {
        match feed.next(Duration::from_millis(10)) {
            Ok(Next::Pending) => assert!(begin.elapsed() < Duration::from_secs(60), "nothing arrives"),
            next => return next,
        }
    }
}

#[test]
fn a_program_prints_candles_and_ends() {
    let lines = [candle("b", 0), candle("A", 0), candle("A", 1), candle("A", 3)];
    let (bars, warnings) = Script::printing(&lines, "").read();
    assert_eq!(summary(&bars), ["0 A+B 60", "1 A 60", "3 A 60"]);
    assert_eq!(warnings.unwrap(), ["FEED: line 4: A: no candle for 120 s"]);
    let (bars, warnings) = Script::printing(&[candle("A", 7)], "").read();
    assert_eq!((summary(&bars), warnings), (vec!["7 A 60".to_owned()], Ok(Vec::new())));
    assert_eq!(Script::new("exit 0").read(), (Vec::new(), Ok(Vec::new())));
    assert!(Script::new("").start().is_live());
}

#[test]
fn a_bar_with_a_named_interval_is_complete_once_the_program_is_quiet() {
    let script = Script::printing(&[named("A", 0), named("B", 0)], "sleep 1000");
    let mut feed = script.start();
    assert_eq!(feed.next(Duration::ZERO), Ok(Next::Pending));
    let Next::Bar(bar) = wait(&mut *feed).unwrap() else { panic!("the feed ended") };
    assert_eq!(summary(&[bar]), ["0 A+B 60"]);
    assert_eq!(feed.next(Duration::ZERO), Ok(Next::Pending));
}

#[test]
fn a_bar_is_complete_when_the_next_one_begins() {
    let script = Script::printing(&[candle("A", 0), candle("A", 5)], "sleep 1000");
    let mut feed = script.start();
    let mut next = || match wait(&mut *feed).unwrap() {
        Next::Bar(bar) => summary(&[bar]).remove(0),
        other => panic!("{other:?}"),
    };
    assert_eq!((next(), next()), ("0 A 300".to_owned(), "5 A 300".to_owned()));
}

#[test]
fn late_and_repeated_candles_are_dropped_and_reported() {
    let lines =
        [candle("A", 1), candle("A", 1), candle("B", 0), candle("A", 2), candle("A", 3), candle("B", 1)];
    let (bars, warnings) = Script::printing(&lines, "").read();
    assert_eq!(summary(&bars), ["1 A 60", "2 A 60", "3 A 60"]);
    assert_eq!(
        warnings.unwrap(),
        [
            "FEED: line 2: A: dropped a late or repeated candle for 2026-05-01T00:01:00Z",
            "FEED: line 3: B: dropped a late or repeated candle for 2026-05-01T00:00:00Z",
            "FEED: line 6: B: dropped a late or repeated candle for 2026-05-01T00:01:00Z",
        ]
    );
}

#[test]
fn a_failed_program_ends_the_feed_with_an_error() {
    let good = candle("A", 0);
    for (lines, then, expected) in [
        (vec![good.clone()], "exit 3", "FEED: the program exited with code 3"),
        (vec![good.clone()], "kill -9 $$", "FEED: the program was ended by signal 9"),
        (vec![good.clone(), "garbage\n".to_owned()], "", "FEED: line 2: expected a value (column 1)"),
        (vec![good.replace("50", "150")], "", "FEED: line 1: low: is 150, above open 100"),
        (
            vec![named("A", 0), named("A", 1).replace(":60}", ":300}")],
            "",
            "FEED: line 2: interval_s: is 300, but the feed's is 60",
        ),
        (vec![good.clone(), "{\"symbol\"".to_owned()], "", "FEED: line 2: "),
        (vec![], "printf '\\377\\n'", "FEED: line 1: is not UTF-8: invalid byte at offset 0"),
        (vec![], "head -c 100000000 /dev/zero | tr '\\0' a", "FEED: line 1: is longer than 65536 bytes"),
    ] {
        let (bars, result) = Script::printing(&lines, then).read();
        let error = result.unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        // The bar may have been incomplete.
        assert_eq!(bars, []);
    }
    let error = feed::open("exec:/nonexistent/feed", None).err().unwrap().to_string();
    assert_eq!(error, "exec:/nonexistent/feed: there is no program /nonexistent/feed");
    let error = feed::open("exec: ", None).err().unwrap().to_string();
    assert_eq!(error, "exec: : names no command; write exec:COMMAND");
}

#[test]
fn a_failed_feed_stays_failed() {
    let script = Script::printing(&[candle("A", 0)], "exit 3");
    let mut feed = script.start();
    let error = wait(&mut *feed).unwrap_err();
    assert_eq!(feed.next(Duration::ZERO).unwrap_err(), error);
}

#[test]
fn a_program_learns_the_time_of_the_last_recorded_bar() {
    let line = candle("A", 0).replace(&START.to_string(), "'${ZERO_FEED_SINCE-0}'");
    let script = Script::new(&format!("echo '{}'", line.trim_end()));
    for (since, expected) in [(Some(START + 60.5), START + 60.5), (None, 0.0)] {
        let mut feed = feed::open(&script.source(), since).unwrap();
        let Next::Bar(bar) = wait(&mut *feed).unwrap() else { panic!("the feed ended") };
        assert_eq!(bar.ts, expected);
    }
}

#[test]
fn a_dropped_feed_leaves_no_process() {
    let script = Script::new("sleep 1000 & echo $! > child; wait");
    let feed = script.start();
    let begin = Instant::now();
    let child = loop {
        match fs::read_to_string(script.path("child")) {
            Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
            _ => assert!(begin.elapsed() < Duration::from_secs(60), "the program does not start"),
        }
        thread::yield_now();
    };
    drop(feed);
    let is_gone = || match fs::read_to_string(format!("/proc/{child}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z')),
        Err(_) => true,
    };
    while !is_gone() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the child still runs");
        thread::yield_now();
    }
}

#[test]
fn the_exchange_is_named_with_symbols_and_an_interval() {
    for (source, expected) in [
        ("hyperliquid:", "name symbols: hyperliquid:BTC,ETH@1m"),
        ("hyperliquid:BTC,", "name symbols: hyperliquid:BTC,ETH@1m"),
        ("hyperliquid:BTC@7m", "`7m` is not an interval; the intervals are 1m, 3m, "),
        ("hyperliquid:BTC?key=1", "has an unknown option; the only option is ?url=URL"),
    ] {
        let error = feed::open(source, None).err().unwrap().to_string();
        assert!(error.starts_with(&format!("{source}: {expected}")), "{error}");
    }
}
