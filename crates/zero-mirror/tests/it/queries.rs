//! Runs the queries of `docs/QUERIES.md` on an SQLite and a PostgreSQL mirror.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use zero_mirror::{CancelHandle, CatchUpOptions, catch_up};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documented queries, each with its documented answer, one line for each row.
fn queries() -> Vec<(String, Vec<String>)> {
    let document = fs::read_to_string(root().join("docs/QUERIES.md")).unwrap();
    let mut queries = Vec::new();
    let mut parts = document.split("\n```sql\n");
    parts.next().unwrap();
    for part in parts {
        let (query, after_query) = part.split_once("\n```\n").unwrap();
        let answer = after_query.split_once("```\n").unwrap().1.split_once("```").unwrap().0;
        queries.push((query.to_owned(), answer.lines().map(str::to_owned).collect()));
    }
    assert_eq!(queries.len(), 10);
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
    let log = root().join("conformance/sessions/first-steps/one-run/runtime-bus");
    let mut mirror = zero_mirror::open(url).unwrap();
    let report =
        catch_up(&log, &mut *mirror, &CatchUpOptions::default(), &CancelHandle::default(), &mut |_| {})
            .unwrap();
    assert_eq!(report.mirrored, 45);
}

#[track_caller]
fn assert_answer(query: &str, answer: &[String], rows: Vec<Vec<Option<String>>>) {
    let rows: Vec<String> =
        rows.into_iter().map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join(" | ")).collect();
    assert_eq!(rows, answer, "{query}");
}

#[test]
fn sqlite_returns_the_documented_answers() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("m.db");
    mirror(&format!("sqlite:{}", file.display()));
    let connection = Connection::open(file).unwrap();
    for (query, answer) in queries() {
        let mut statement = connection.prepare(&query).unwrap();
        let columns = statement.column_count();
        let text = |value: ValueRef<'_>| match value {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string()),
            ValueRef::Real(number) => Some(number.to_string()),
            ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        };
        let rows = statement
            .query_map([], |row| (0..columns).map(|column| row.get_ref(column).map(text)).collect())
            .unwrap();
        assert_answer(&query, &answer, rows.map(Result::unwrap).collect());
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
    for (query, answer) in queries() {
        assert_answer(
            &query,
            &answer,
            crate::database::sql(&url, &format!("SET search_path = zero; {query}")),
        );
    }
}

/// No query scans the whole table `events`.
#[test]
fn sqlite_answers_queries_on_events_from_an_index() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("m.db");
    mirror(&format!("sqlite:{}", file.display()));
    let connection = Connection::open(file).unwrap();
    for (query, _) in queries() {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let steps: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        let scans: Vec<_> = steps.iter().filter(|step| step.starts_with("SCAN events")).collect();
        assert!(scans.is_empty(), "{query}: {steps:?}");
    }
}
