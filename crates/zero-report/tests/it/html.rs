//! The page: complete in itself, and safe whatever the events hold.

use std::path::Path;

use serde_json::{Value, json};
use zero_bus::{Bus, Draft, Json, Reader};
use zero_paper::report::{Report, read};
use zero_report::html::{Chain, page};

use crate::market_bus::write_run;

pub(crate) fn report(dir: &Path) -> Report {
    let mut ignore = |_: zero_paper::report::Row<'_>| Ok::<(), zero_bus::Error>(());
    read(&Reader::open(dir).unwrap(), &mut ignore, &mut |_| {}).unwrap().report
}

pub(crate) fn append(bus: &Bus, event_type: &str, as_of: f64, payload: &Value) {
    let payload = Json::of(payload).unwrap();
    bus.append(Draft { event_type: event_type.into(), as_of, payload, trace_id: None }).unwrap();
}

const SOUND: Chain<'_> = Chain { sound: true, verdict: "ok" };

/// The names of all elements that are open at the end of a text; an error names the first end tag
/// without a beginning.
fn open_elements(page: &str) -> Result<Vec<String>, String> {
    const EMPTY: [&str; 2] = ["meta", "!DOCTYPE"];
    let mut open: Vec<String> = Vec::new();
    for tag in page.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').ok_or(tag)?;
        let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
        if inside.starts_with('/') {
            if open.pop().as_ref() != Some(&name) {
                return Err(inside.to_owned());
            }
        } else if !inside.ends_with('/') && !EMPTY.contains(&name.as_str()) {
            open.push(name);
        }
    }
    Ok(open)
}

#[test]
fn a_page_needs_no_script_and_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 5, 120);
    let report = report(dir.path());
    let page = page(&report, SOUND).unwrap();
    assert_eq!(open_elements(&page), Ok(vec![]));
    assert!(page.contains("default-src 'none'; style-src 'sha256-"), "{}", &page[..600]);
    for forbidden in ["<script", "<link", "<img", "@import", "url(", "style=", "onload", "href"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let addresses: Vec<&str> = page.match_indices("http").map(|(at, _)| &page[at..at + 26]).collect();
    assert!(
        addresses
            .iter()
            .all(|address| *address == "http://www.w3.org/2000/svg" || address.starts_with("http-equiv")),
        "{addresses:?}"
    );
    assert!(page.contains(&report.head.checksum.unwrap().to_string()));
    assert_eq!(page.matches("<svg role=\"img\"").count(), 3);
}

#[test]
fn the_policy_of_a_page_allows_its_style() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 5, 3);
    let page = page(&report(dir.path()), SOUND).unwrap();
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = page.split_once("style-src 'sha256-").unwrap().1.split_once('\'').unwrap().0;
    // The bytes of the hash in hexadecimal, from base64.
    let digit = |c| "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".find(c);
    let bits: String = hash.chars().filter_map(digit).map(|digit| format!("{digit:06b}")).collect();
    let nibble = |at: usize| format!("{:x}", u8::from_str_radix(&bits[at..at + 4], 2).unwrap());
    let hex: String = (0..256).step_by(4).map(nibble).collect();
    assert_eq!(format!("sha256:{hex}"), zero_bus::Checksum::of(style.as_bytes()).to_string());
}

#[test]
fn text_of_events_cannot_leave_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    let hostile = "</td><script>alert(1)</script>\" onload='x' & \u{202e}";
    append(
        &bus,
        "runtime.cycle",
        1.0,
        &json!({
            "observe": {"scenario": hostile, "market_source": hostile, "cash_usd": 1000.0},
            "decide": {"strategy": {"name": hostile, "version": hostile, "sha256": hostile}},
        }),
    );
    for (side, as_of) in [("buy", 2.0), ("sell", 3.0), ("buy", 4.0)] {
        let fill = json!({"symbol": hostile, "side": side, "quantity": 1.0, "price": 10.0 * as_of});
        append(&bus, "fill.record", as_of, &fill);
        append(&bus, "position.snapshot", as_of, &json!({"positions": []}));
    }
    append(&bus, "rejection.record", 5.0, &json!({"reason": hostile, "symbol": hostile}));
    append(&bus, "fill.record", 5.0, &json!({"symbol": hostile}));
    drop(bus);
    let report = report(dir.path());
    assert_eq!((report.trades.count, report.positions.len()), (1, 1));
    let page = page(&report, Chain { sound: false, verdict: hostile }).unwrap();
    assert_eq!(open_elements(&page), Ok(vec![]));
    assert!(!page.contains("<script") && !page.contains('\u{202e}'));
    assert!(page.matches("&lt;script&gt;").count() >= 8);
}

#[test]
fn extreme_runs_have_a_page() {
    let empty = tempfile::tempdir().unwrap();
    drop(Bus::open(empty.path()).unwrap());
    let text = page(&report(empty.path()), SOUND).unwrap();
    assert!(text.contains("too few cycles for a chart") && text.contains("no event"));
    for (price, as_of) in [(1e-12, 0.0), (1e15, 1e300), (1.0, -1e9)] {
        let dir = tempfile::tempdir().unwrap();
        let bus = Bus::open(dir.path()).unwrap();
        for n in 0..4 {
            let side = if n % 2 == 0 { "buy" } else { "sell" };
            let fill =
                json!({"symbol": "A", "side": side, "quantity": 3.0, "price": price * f64::from(n + 1)});
            append(&bus, "fill.record", as_of, &fill);
        }
        drop(bus);
        let text = page(&report(dir.path()), SOUND).unwrap();
        assert_eq!(open_elements(&text), Ok(vec![]), "{price}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{price}");
    }
}
