//! When the feed asks, and what it prints.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use zero_feed_hyperliquid::address::Address;
use zero_feed_hyperliquid::exchange::Exchange;
use zero_feed_hyperliquid::poller::{PollError, Poller};
use zero_feed_hyperliquid::time::Time;
use zero_paper::candle::Candle;

use crate::server::{Answer, Asked, Server, candle, market};

/// 2026-05-01T00:00:00Z
const BEGIN_MS: u64 = 1_777_593_600_000;

/// A clock that a pause moves on. The reader is gone after a number of milliseconds.
struct TestTime {
    now_ms: Rc<Cell<i64>>,
    end_ms: i64,
}

impl Time for TestTime {
    fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    fn pause(&mut self, duration: Duration) -> bool {
        self.now_ms.set(self.now_ms.get() + i64::try_from(duration.as_millis()).unwrap());
        self.now_ms.get() < self.end_ms
    }
}

struct Polled {
    /// Symbol, minute and close of each printed candle.
    candles: Vec<String>,
    reports: Vec<String>,
    result: Result<(), PollError>,
}

/// Polls from 30 seconds after the begin for some minutes. `since` is in minutes.
fn poll(server: &Server, coins: &[&str], since: Option<i64>, minutes: i64) -> Polled {
    let begin_ms = BEGIN_MS as i64;
    let time =
        TestTime { now_ms: Rc::new(Cell::new(begin_ms + 30_000)), end_ms: begin_ms + 60_000 * minutes };
    let reports = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&reports);
    let report = Box::new(move |text: &str| log.borrow_mut().push(text.to_owned()));
    let exchange = Exchange::new(&Address::parse(&server.url).unwrap()).unwrap();
    let coins: Vec<_> = coins.iter().map(|coin| (*coin).to_owned()).collect();
    let since_ms = since.map(|minute| begin_ms + 60_000 * minute);
    let mut poller = Poller::new(exchange, &coins, "1m", 60_000, since_ms, time, report);
    let mut out = Vec::new();
    let result = poller.run(&mut out);
    let text = String::from_utf8(out).unwrap();
    let candles = text.lines().map(|line| {
        assert!(line.contains("\"interval_s\":60.0"), "{line}");
        let candle = Candle::parse(line).unwrap();
        format!("{} {} {}", candle.symbol, (candle.ts * 1000.0 - begin_ms as f64) / 60_000.0, candle.close)
    });
    Polled { candles: candles.collect(), reports: reports.take(), result }
}

/// Polls without an error. Returns the candles and the reports.
fn poll_well(
    server: &Server,
    coins: &[&str],
    since: Option<i64>,
    minutes: i64,
) -> (Vec<String>, Vec<String>) {
    let polled = poll(server, coins, since, minutes);
    polled.result.unwrap();
    (polled.candles, polled.reports)
}

#[test]
fn closed_bars_are_printed_in_order_and_the_open_one_never() {
    let server = Server::start(|asked, _| market(asked, BEGIN_MS));
    let (candles, reports) = poll_well(&server, &["BTC", "kPEPE"], None, 4);
    let expected = [
        "BTC -1 100",
        "KPEPE -1 100",
        "BTC 0 100",
        "KPEPE 0 100",
        "BTC 1 101",
        "KPEPE 1 101",
        "BTC 2 102",
        "KPEPE 2 102",
    ];
    assert_eq!((candles, reports), (expected.map(str::to_owned).to_vec(), Vec::new()));
    // The exchange gets the spelling of the command line, and one request per coin and bar.
    let asked = server.asked();
    assert_eq!(asked[1].coin, "kPEPE");
    assert_eq!(asked.len(), 8);
}

#[test]
fn a_continued_feed_has_no_gap_and_repeats_nothing() {
    let server = Server::start(|asked, _| market(asked, BEGIN_MS));
    let (candles, reports) = poll_well(&server, &["BTC"], Some(-5), 2);
    assert_eq!(candles, ["BTC -4 100", "BTC -3 100", "BTC -2 100", "BTC -1 100", "BTC 0 100"]);
    assert_eq!(reports, [""; 0]);
    assert_eq!(server.asked()[0].start_ms, BEGIN_MS - 300_000);
}

#[test]
fn rate_limits_and_errors_are_waited_out_without_a_gap() {
    let server = Server::start(|asked, count| match count {
        1 => Answer::error("429 Too Many Requests", "retry-after: 150\r\n", "slow down"),
        2 => Answer::error("429 Too Many Requests", "", ""),
        3 => Answer::error("502 Bad Gateway", "", "<html>\r\nbad gateway"),
        4 => Answer::ok("null"),
        5 => Answer::ok("[{\"t\":1}]"),
        6 => Answer::ok(format!("[{}]", candle("BTC", BEGIN_MS, "0"))),
        7 => Answer::ok(format!("[{}]", candle("ETH", BEGIN_MS, "100"))),
        8 => Answer::ok(format!("[{0},{0}]", candle("BTC", BEGIN_MS, "100"))),
        _ => market(asked, BEGIN_MS),
    });
    let (candles, reports) = poll_well(&server, &["BTC"], None, 10);
    let minutes = -1..=8;
    let expected: Vec<_> = minutes.map(|minute| format!("BTC {minute} {}", 100 + minute.max(0))).collect();
    assert_eq!(candles, expected);
    let begins = [
        "BTC: 429 Too Many Requests: slow down; trying again in 150 s",
        "BTC: 429 Too Many Requests; trying again in 2 s",
        "BTC: 502 Bad Gateway: <html>\\r\\nbad gateway; trying again in 4 s",
        "BTC: the answer is not valid: expected an array of candles: null; trying again in 8 s",
        "BTC: the answer is not valid: [0].o: is missing: [{\"t\":1}]; trying again in 16 s",
        "BTC: the answer is not valid: [0].close: must be above 0, is 0: [{",
        "BTC: the answer is not valid: [0].s: is `ETH`, not `BTC`: [{",
        "BTC: the answer is not valid: [1].t: 1777593600000 is not after 1777593600000: [{",
        "BTC: the exchange answers again",
    ];
    assert_eq!(reports.len(), begins.len(), "{reports:#?}");
    for (report, begin) in reports.iter().zip(begins) {
        assert!(report.starts_with(begin), "{report}");
    }
    assert!(reports[7].ends_with("trying again in 60 s"), "{}", reports[7]);
}

#[test]
fn a_closed_connection_is_tried_again() {
    // Nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Server::without_answers(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let (candles, reports) = poll_well(&silent, &["BTC"], None, 1);
    assert_eq!(candles, [""; 0]);
    assert!(reports.len() > 2, "{reports:?}");
    assert!(reports.iter().all(|report| report.contains("; trying again in ")), "{reports:?}");
}

#[test]
fn a_refused_request_ends_the_feed() {
    let server = Server::start(|_, _| Answer::error("422 Unprocessable Entity", "", "Failed to deserialize"));
    let polled = poll(&server, &["BTC"], None, 4);
    let error = polled.result.unwrap_err().to_string();
    assert_eq!(error, "BTC: 422 Unprocessable Entity: Failed to deserialize");
    let server = Server::start(|_, _| Answer::error("302 Found", "location: http://127.0.0.1:1/\r\n", ""));
    assert_eq!(poll(&server, &["BTC"], None, 4).result.unwrap_err().to_string(), "BTC: 302 Found");
}

/// An answer that is some time old: the candle of a bar that has closed meanwhile may still change.
fn delayed(asked: &Asked, delay_ms: u64) -> Answer {
    market(&Asked { end_ms: asked.end_ms.saturating_sub(delay_ms), ..asked.clone() }, BEGIN_MS)
}

#[test]
fn a_bar_waits_for_a_coin_whose_candles_are_late() {
    let server = Server::start(|asked, _| match asked.coin.as_str() {
        "ETH" => delayed(asked, 8_000),
        _ => market(asked, BEGIN_MS),
    });
    let (candles, reports) = poll_well(&server, &["BTC", "ETH"], Some(-1), 3);
    assert_eq!(candles, ["BTC 0 100", "ETH 0 100", "BTC 1 101", "ETH 1 101"]);
    assert_eq!(reports, [""; 0]);
}

#[test]
fn a_coin_without_trades_after_a_bar_is_waited_for_only_briefly() {
    // Nothing is traded after minute 0, so its candle stays the last one.
    let server = Server::start(|asked, _| {
        let end_ms = asked.end_ms.min(BEGIN_MS + 59_999);
        market(&Asked { end_ms, ..asked.clone() }, BEGIN_MS - 60_000)
    });
    let (candles, reports) = poll_well(&server, &["BTC"], Some(-1), 3);
    assert_eq!((candles, reports), (vec!["BTC 0 101.9".to_owned()], Vec::new()));
}

#[test]
fn a_bar_goes_without_a_coin_that_is_too_late() {
    let server = Server::start(|asked, _| match asked.coin.as_str() {
        // The candle of minute 0 comes 35 s after its end, the others in time.
        "ETH" if asked.end_ms < BEGIN_MS + 95_000 => Answer::ok("[]"),
        _ => market(asked, BEGIN_MS),
    });
    let (candles, reports) = poll_well(&server, &["BTC", "ETH"], Some(-1), 4);
    assert_eq!(candles, ["BTC 0 100", "BTC 1 101", "ETH 1 101", "BTC 2 102", "ETH 2 102"]);
    assert_eq!(reports, ["ETH: 2026-05-01T00:00:00Z: has no candle; bars go without it"]);
}

#[test]
fn a_late_candle_and_a_changed_one_are_reported() {
    let server = Server::start(|asked, _| {
        let revised = asked.coin == "BTC" && asked.end_ms > BEGIN_MS + 200_000;
        match asked.coin.as_str() {
            // Missing between 1:00 and 2:55.
            "ETH" if (60_000..175_000).contains(&(asked.end_ms - BEGIN_MS)) => {
                let known = Asked { end_ms: BEGIN_MS - 1, ..asked.clone() };
                market(&known, BEGIN_MS)
            }
            _ if revised => market(asked, BEGIN_MS - 60_000),
            _ => market(asked, BEGIN_MS),
        }
    });
    let (candles, reports) = poll_well(&server, &["BTC", "ETH"], Some(-2), 5);
    assert_eq!(candles[..3], ["BTC -1 100", "ETH -1 100", "BTC 0 100"]);
    assert!(
        reports.contains(&"BTC: 2026-05-01T00:02:00Z: changed after it was printed".to_owned()),
        "{reports:?}"
    );
    assert!(
        reports.iter().any(|report| report.starts_with("ETH: ") && report.ends_with("is late and left out")),
        "{reports:?}"
    );
}

#[test]
fn an_endless_answer_is_refused() {
    let server = Server::start(|asked, count| match count {
        0 => Answer::ok(" ".repeat(9 << 20)),
        _ => market(asked, BEGIN_MS),
    });
    let (candles, reports) = poll_well(&server, &["BTC"], None, 1);
    assert_eq!(candles, ["BTC -1 100"]);
    assert_eq!(reports[0], "BTC: the answer is too long; trying again in 1 s");
}
