//! Runs the queries of `docs/QUERIES.md` on an SQLite and a PostgreSQL mirror.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use zero_bus::{Bus, Draft, Json};
use zero_mirror::{CancelHandle, CatchUpOptions, catch_up};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documented queries, each with its documented answer, one line for each row: those on the
/// recorded session, and those on a run on market data.
fn queries() -> [Vec<(String, Vec<String>)>; 2] {
    let document = fs::read_to_string(root().join("docs/QUERIES.md")).unwrap();
    let (session, market) = document.split_once("\n## Runs on market data\n").unwrap();
    let queries = [queries_in(session), queries_in(market)];
    assert_eq!([queries[0].len(), queries[1].len()], [10, 5]);
    queries
}

fn queries_in(document: &str) -> Vec<(String, Vec<String>)> {
    let mut queries = Vec::new();
    let mut parts = document.split("\n```sql\n");
    parts.next().unwrap();
    for part in parts {
        let (query, after_query) = part.split_once("\n```\n").unwrap();
        let answer = after_query.split_once("```\n").unwrap().1.split_once("```").unwrap().0;
        queries.push((query.to_owned(), answer.lines().map(str::to_owned).collect()));
    }
    queries
}

/// Normalizes numbers and booleans, which the databases write differently.
fn cell(text: Option<String>) -> String {
    match text {
        None => "null".to_owned(),
        Some(text) if text == "t" => "1".to_owned(),
        Some(text) if text == "f" => "0".to_owned(),
        Some(text) => text.parse::<f64>().map_or(text, |number| number.to_string()),
    }
}

fn mirror(url: &str) {
    assert_eq!(mirror_log(&root().join("conformance/sessions/first-steps/one-run/runtime-bus"), url), 45);
}

/// Mirrors a log and returns how many events the mirror holds.
fn mirror_log(log: &Path, url: &str) -> u64 {
    let mut mirror = zero_mirror::open(url).unwrap();
    let report =
        catch_up(log, &mut *mirror, &CatchUpOptions::default(), &CancelHandle::default(), &mut |_| {})
            .unwrap();
    report.mirrored.unwrap()
}

#[track_caller]
fn assert_answer(query: &str, answer: &[String], rows: Vec<Vec<Option<String>>>) {
    let rows: Vec<String> =
        rows.into_iter().map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join(" | ")).collect();
    assert_eq!(rows, answer, "{query}");
}

/// The rows that an SQLite file returns for a query, as text.
fn sqlite_rows(connection: &Connection, query: &str) -> Vec<Vec<Option<String>>> {
    let mut statement = connection.prepare(query).unwrap();
    let columns = statement.column_count();
    let text = |value: ValueRef<'_>| match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
    };
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get_ref(column).map(text)).collect();
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// Mirrors the run on market data of the document.
fn mirror_market_run(url: &str) {
    let log = tempfile::tempdir().unwrap();
    crate::market_bus::write_run(log.path(), 5, 60);
    assert!(mirror_log(log.path(), url) > 300);
}

#[test]
fn sqlite_returns_the_documented_answers() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("m.db");
    mirror(&format!("sqlite:{}", file.display()));
    let connection = Connection::open(file).unwrap();
    let [session, market] = queries();
    for (query, answer) in session {
        assert_answer(&query, &answer, sqlite_rows(&connection, &query));
    }
    let file = temporary.path().join("market.db");
    mirror_market_run(&format!("sqlite:{}", file.display()));
    let connection = Connection::open(file).unwrap();
    for (query, answer) in market {
        assert_answer(&query, &answer, sqlite_rows(&connection, &query));
    }
}

#[test]
fn postgres_returns_the_documented_answers() {
    if crate::database::left_out() {
        return;
    }
    let mut server = crate::database::Postgres::start();
    let url = server.database();
    mirror(&url);
    let market_url = server.database();
    mirror_market_run(&market_url);
    let [session, market] = queries();
    let session = session.into_iter().map(|query| (&url, query));
    for (url, (query, answer)) in session.chain(market.into_iter().map(|query| (&market_url, query))) {
        let rows = crate::database::sql(url, &format!("SET search_path = zero; {query}"));
        assert_answer(&query, &answer, rows);
    }
}

/// No query scans the whole table `events`.
#[test]
fn sqlite_answers_queries_on_events_from_an_index() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("m.db");
    mirror(&format!("sqlite:{}", file.display()));
    let connection = Connection::open(file).unwrap();
    for (query, _) in queries().concat() {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let steps: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        let scans: Vec<_> = steps.iter().filter(|step| step.starts_with("SCAN events")).collect();
        assert!(scans.is_empty(), "{query}: {steps:?}");
    }
}

/// A view, the type of its events, their payload with `V` for the value of every field, and the
/// type of each column.
type View = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const VIEWS: [View; 10] = [
    (
        "decisions",
        "decision.record",
        r#"{"symbol":V,"side":V,"quantity":V,"price":V,"notional_usd":V,"confidence":V,
            "reduce_only":V,"allowed":V,"reason":V,"source":V,"idempotency_key":V,"order_id":V,
            "strategy_reason":V,"limit_price":V,"limit":{"name":V,"bound":V,"value":V}}"#,
        &[
            ("symbol", "text"),
            ("side", "text"),
            ("quantity", "number"),
            ("price", "number"),
            ("notional_usd", "number"),
            ("confidence", "number"),
            ("reduce_only", "boolean"),
            ("allowed", "boolean"),
            ("reason", "text"),
            ("source", "text"),
            ("idempotency_key", "text"),
            ("order_id", "text"),
            ("strategy_reason", "text"),
            ("limit_price", "number"),
            ("limit_name", "text"),
            ("limit_bound", "number"),
            ("limit_value", "number"),
        ],
    ),
    (
        "rejections",
        "rejection.record",
        r#"{"symbol":V,"side":V,"quantity":V,"price":V,"notional_usd":V,"confidence":V,
            "reduce_only":V,"reason":V,"source":V,"idempotency_key":V,"order_id":V,
            "strategy_reason":V,"limit_price":V,"limit":{"name":V,"bound":V,"value":V}}"#,
        &[
            ("symbol", "text"),
            ("side", "text"),
            ("quantity", "number"),
            ("price", "number"),
            ("notional_usd", "number"),
            ("confidence", "number"),
            ("reduce_only", "boolean"),
            ("reason", "text"),
            ("source", "text"),
            ("idempotency_key", "text"),
            ("order_id", "text"),
            ("strategy_reason", "text"),
            ("limit_price", "number"),
            ("limit_name", "text"),
            ("limit_bound", "number"),
            ("limit_value", "number"),
        ],
    ),
    (
        "fills",
        "fill.record",
        r#"{"symbol":V,"side":V,"quantity":V,"price":V,"notional_usd":V,"fill_id":V,"order_id":V,
            "reference_price":V,"fee_usd":V,"realized_pnl_usd":V}"#,
        &[
            ("symbol", "text"),
            ("side", "text"),
            ("quantity", "number"),
            ("price", "number"),
            ("notional_usd", "number"),
            ("fill_id", "text"),
            ("order_id", "text"),
            ("reference_price", "number"),
            ("fee_usd", "number"),
            ("realized_pnl_usd", "number"),
        ],
    ),
    (
        "positions",
        "position.snapshot",
        r#"{"positions":[{"symbol":V,"quantity":V,"avg_price":V,"notional_usd":V,"mark_price":V,
            "unrealized_pnl_usd":V}]}"#,
        &[
            ("symbol", "text"),
            ("quantity", "number"),
            ("avg_price", "number"),
            ("notional_usd", "number"),
            ("mark_price", "number"),
            ("unrealized_pnl_usd", "number"),
        ],
    ),
    (
        "cycles",
        "runtime.cycle",
        r#"{"cycle_id":V,"mode":V,"observe":{"scenario":V,"market_source":V,"cash_usd":V,
            "equity_usd":V},"orient":{"risk_posture":V,"gross_exposure_usd":V,"drawdown_pct":V,
            "daily_loss_usd":V,"stale_data":V},"decide":{"intent":{"symbol":V},"strategy":{"name":V},
            "hold_reason":V},"act":{"accepted":V,"reason":V},"learn":{"decisions":V,"fills":V,
            "rejections":V,"open_positions":V,"open_orders":V,"failures":V}}"#,
        &[
            ("cycle_id", "number"),
            ("mode", "text"),
            ("scenario", "text"),
            ("risk_posture", "text"),
            ("symbol", "text"),
            ("accepted", "boolean"),
            ("reason", "text"),
            ("decisions", "number"),
            ("fills", "number"),
            ("rejections", "number"),
            ("open_positions", "number"),
            ("market_source", "text"),
            ("strategy", "text"),
            ("hold_reason", "text"),
            ("cash_usd", "number"),
            ("equity_usd", "number"),
            ("gross_exposure_usd", "number"),
            ("drawdown_pct", "number"),
            ("daily_loss_usd", "number"),
            ("stale_data", "boolean"),
            ("open_orders", "number"),
            ("failures", "number"),
        ],
    ),
    (
        "equity",
        "position.snapshot",
        r#"{"cash_usd":V,"equity_usd":V,"realized_pnl_usd":V,"unrealized_pnl_usd":V,"fees_usd":V,
            "peak_equity_usd":V,"drawdown_pct":V}"#,
        &[
            ("cash_usd", "number"),
            ("equity_usd", "number"),
            ("realized_pnl_usd", "number"),
            ("unrealized_pnl_usd", "number"),
            ("fees_usd", "number"),
            ("peak_equity_usd", "number"),
            ("drawdown_pct", "number"),
        ],
    ),
    (
        "candles",
        "market.observation",
        r#"{"candles":[{"symbol":V,"ts":V,"open":V,"high":V,"low":V,"close":V,"volume":V}]}"#,
        &[
            ("symbol", "text"),
            ("ts", "number"),
            ("open", "number"),
            ("high", "number"),
            ("low", "number"),
            ("close", "number"),
            ("volume", "number"),
        ],
    ),
    (
        "orders",
        "order.open",
        r#"{"order_id":V,"symbol":V,"side":V,"quantity":V,"limit_price":V,"reduce_only":V,
            "opened_as_of":V,"idempotency_key":V}"#,
        &[
            ("order_id", "text"),
            ("symbol", "text"),
            ("side", "text"),
            ("quantity", "number"),
            ("limit_price", "number"),
            ("reduce_only", "boolean"),
            ("opened_as_of", "number"),
            ("idempotency_key", "text"),
        ],
    ),
    (
        "expiries",
        "order.expired",
        r#"{"order_id":V,"symbol":V,"side":V,"quantity":V,"limit_price":V,"reduce_only":V,
            "opened_as_of":V,"reason":V,"idempotency_key":V}"#,
        &[
            ("order_id", "text"),
            ("symbol", "text"),
            ("side", "text"),
            ("quantity", "number"),
            ("limit_price", "number"),
            ("reduce_only", "boolean"),
            ("opened_as_of", "number"),
            ("reason", "text"),
            ("idempotency_key", "text"),
        ],
    ),
    (
        "strategy_failures",
        "strategy.failed",
        r#"{"cycle_id":V,"strategy":{"name":V},"kind":V,"reason":V,"on_failure":V}"#,
        &[
            ("cycle_id", "number"),
            ("strategy", "text"),
            ("kind", "text"),
            ("reason", "text"),
            ("on_failure", "text"),
        ],
    ),
];

/// Values of every type of JSON: the type, the value, and how a column of that type shows it.
const VALUES: [(&str, &str, &str); 7] = [
    ("text", r#""many""#, "many"),
    ("number", "7", "7"),
    ("number", "0.5", "0.5"),
    ("boolean", "true", "1"),
    ("null", "null", ""),
    ("array", r#"["many",7,true]"#, ""),
    ("object", r#"{"many":7}"#, ""),
];

/// A bus with an event for each view and value, in that order.
fn bus_of_all_values() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    for (_, kind, payload, _) in VIEWS {
        for (_, value, _) in VALUES {
            let payload = Json::parse(&payload.replace('V', value)).unwrap();
            bus.append(Draft { event_type: kind.into(), as_of: 1.0, payload, trace_id: None }).unwrap();
        }
    }
    directory
}

/// Compares every column of every view with the documented types. `query` returns rows as text.
fn assert_columns_have_their_types(query: impl Fn(&str) -> Vec<Vec<Option<String>>>) {
    let document = fs::read_to_string(root().join("docs/QUERIES.md")).unwrap();
    for (number, (view, _, _, columns)) in VIEWS.into_iter().enumerate() {
        // Two views may read events of one type; each is compared with its own events.
        let first = number * VALUES.len() + 1;
        let own = format!("event_index BETWEEN {first} AND {}", first + VALUES.len() - 1);
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        // Also fails if the view has a column that this test does not know.
        let all = query(&format!("SELECT * FROM {view} WHERE {own} ORDER BY event_index"));
        assert_eq!(all.len(), VALUES.len(), "{view}");
        assert!(all.iter().all(|row| row.len() == 4 + names.len()), "{view}");
        let rows =
            query(&format!("SELECT {} FROM {view} WHERE {own} ORDER BY event_index", names.join(", ")));
        for ((kind, value, shown), row) in VALUES.into_iter().zip(rows) {
            for ((column, documented), found) in columns.iter().zip(row) {
                let expected = if kind == *documented { shown } else { "null" };
                assert_eq!(cell(found), expected, "{view}.{column} of {value}");
            }
        }
        let described = document.lines().find(|line| line.starts_with(&format!("| `{view}` |"))).unwrap();
        for (column, kind) in columns {
            let words = match *kind {
                "text" => format!("`{column}`"),
                kind => format!("`{column}` ({kind})"),
            };
            assert!(described.contains(&words), "{view}: {words} is not documented");
        }
    }
}

#[test]
fn every_column_of_an_sqlite_view_is_null_for_a_value_of_another_type() {
    let (log, place) = (bus_of_all_values(), tempfile::tempdir().unwrap());
    let file = place.path().join("m.db");
    mirror_log(log.path(), &format!("sqlite:{}", file.display()));
    let connection = Connection::open(file).unwrap();
    assert_columns_have_their_types(|query| sqlite_rows(&connection, query));
}

#[test]
fn every_column_of_a_postgres_view_is_null_for_a_value_of_another_type() {
    if crate::database::left_out() {
        return;
    }
    let mut server = crate::database::Postgres::start();
    let url = server.database();
    mirror_log(bus_of_all_values().path(), &url);
    assert_columns_have_their_types(|query| {
        crate::database::sql(&url, &format!("SET search_path = zero; {query}"))
    });
}

/// Times within and beyond the range of the databases' own types.
fn bus_of_all_times() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    for as_of in [1777593600.0, -0.0, 1e300, -1e300, 9224318016000.0, f64::MAX] {
        let payload = Json::parse("{}").unwrap();
        bus.append(Draft { event_type: "t".into(), as_of, payload, trace_id: None }).unwrap();
    }
    directory
}

#[test]
fn the_documented_time_conversions_accept_every_as_of() {
    let document = fs::read_to_string(root().join("docs/QUERIES.md")).unwrap();
    assert!(document.contains("`datetime(as_of, 'unixepoch')`") && document.contains("`time_of(as_of)`"));
    let (log, place) = (bus_of_all_times(), tempfile::tempdir().unwrap());
    let file = place.path().join("m.db");
    mirror_log(log.path(), &format!("sqlite:{}", file.display()));
    let times = sqlite_rows(
        &Connection::open(file).unwrap(),
        "SELECT datetime(as_of, 'unixepoch') FROM events ORDER BY event_index",
    );
    let text = |text: &str| vec![Some(text.to_owned())];
    assert_eq!(times[..2], [text("2026-05-01 00:00:00"), text("1970-01-01 00:00:00")]);
    assert!(times[2..].iter().all(|row| row == &[None]), "{times:?}");
    if crate::database::left_out() {
        return;
    }
    let mut server = crate::database::Postgres::start();
    let url = server.database();
    mirror_log(log.path(), &url);
    let query = "SET search_path = zero; SET timezone = 'UTC'; \
                 SELECT time_of(as_of) FROM events ORDER BY event_index";
    let times = crate::database::sql(&url, query);
    assert_eq!(times[..2], [text("2026-05-01 00:00:00+00"), text("1970-01-01 00:00:00+00")]);
    assert!(times[2..].iter().all(|row| row == &[None]), "{times:?}");
}
