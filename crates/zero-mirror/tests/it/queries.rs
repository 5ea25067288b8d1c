//! The questions of `docs/QUERIES.md`, asked of a mirror of each kind.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use zero_mirror::{CancelHandle, CatchUpOptions, catch_up};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Each question, and its answer as the document has it, a row a line.
fn questions() -> Vec<(String, Vec<String>)> {
    let document = fs::read_to_string(root().join("docs/QUERIES.md")).unwrap();
    let mut questions = Vec::new();
    let mut parts = document.split("\n```sql\n");
    parts.next().unwrap();
    for part in parts {
        let (question, rest) = part.split_once("\n```\n").unwrap();
        let answer = rest.split_once("```\n").unwrap().1.split_once("```").unwrap().0;
        questions.push((question.to_owned(), answer.lines().map(str::to_owned).collect()));
    }
    assert_eq!(questions.len(), 10);
    questions
}

/// One way to write what two databases write differently: a number, a truth.
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
fn answers(question: &str, answer: &[String], rows: Vec<Vec<Option<String>>>) {
    let rows: Vec<String> =
        rows.into_iter().map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join(" | ")).collect();
    assert_eq!(rows, answer, "{question}");
}

#[test]
fn sqlite_answers_as_the_document_says() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("m.db");
    mirror(&format!("sqlite:{}", file.display()));
    let connection = Connection::open(file).unwrap();
    for (question, answer) in questions() {
        let mut statement = connection.prepare(&question).unwrap();
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
        answers(&question, &answer, rows.map(Result::unwrap).collect());
    }
}

#[test]
fn postgres_answers_as_the_document_says() {
    if crate::database::left_out() {
        return;
    }
    let mut server = crate::database::Postgres::start();
    let url = server.database();
    mirror(&url);
    for (question, answer) in questions() {
        answers(
            &question,
            &answer,
            crate::database::sql(&url, &format!("SET search_path = zero; {question}")),
        );
    }
}

/// The questions are asked of the indexes, where there are many events.
#[test]
fn sqlite_has_an_index_for_each_question_about_events() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("m.db");
    mirror(&format!("sqlite:{}", file.display()));
    let connection = Connection::open(file).unwrap();
    for (question, _) in questions() {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        let steps: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        let scans: Vec<_> = steps.iter().filter(|step| step.starts_with("SCAN events")).collect();
        assert!(scans.is_empty(), "{question}: {steps:?}");
    }
}
