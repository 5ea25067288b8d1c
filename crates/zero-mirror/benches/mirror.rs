//! Compares mirroring with bare inserts of the same rows, in one run and in alternating order:
//! `cargo bench -p zero-mirror --bench mirror`.
//!
//! The log has 200,000 decisions of about 650 bytes. The bare sides start with the encoded rows in
//! memory. The mirror reads the log, verifies every line and moves its cursor with each batch.

#![allow(clippy::unwrap_used)]

#[path = "../tests/it/database/mod.rs"]
mod database;

use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use rusqlite::{Connection, params};
use tokio_postgres::NoTls;
use zero_bus::{Bus, Draft, Event, Reader};
use zero_mirror::{CancelHandle, CatchUpOptions, catch_up, restore};

const EVENTS: u64 = 200_000;
const TURNS: usize = 5;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("bus");
    write_log(&log);
    let mut events = Reader::open(&log).unwrap().events(1).unwrap();
    let rows: Vec<(Event, String)> = std::iter::from_fn(|| events.next_with_line().unwrap()).collect();
    let bytes: usize = rows.iter().map(|(_, line)| line.len()).sum();
    println!("{EVENTS} events of {} bytes, {TURNS} turns, events per second\n", bytes as u64 / EVENTS);
    println!("| destination | ours | bare | ours / bare |\n|---|---|---|---|");
    let mut turn = 0;
    let mut file = || {
        turn += 1;
        directory.path().join(format!("{turn}.db"))
    };
    report(
        "SQLite",
        (0..TURNS)
            .map(|_| (mirror(&log, &format!("sqlite:{}", file().display())), bare_sqlite(&file(), &rows))),
    );
    if !database::left_out() {
        let mut server =
            database::Postgres::start_with(&["max_wal_size=8GB", "checkpoint_timeout=1h", "autovacuum=off"]);
        let copied = encoded(&rows);
        report(
            "PostgreSQL",
            (0..TURNS).map(|_| (mirror(&log, &server.database()), bare_copy(&server.database(), &copied))),
        );
    }
    measure_restore(&log, directory.path());
    measure_follow(directory.path());
}

fn write_log(log: &Path) {
    let bus = Bus::open(log).unwrap();
    for start in (0..EVENTS).step_by(10_000) {
        bus.append_batch((start..start + 10_000).map(decision).collect()).unwrap();
    }
}

fn decision(number: u64) -> Draft {
    let payload = format!(
        r#"{{"allowed":true,"as_of":1777593600.0,"confidence":0.82,"idempotency_key":"runtime-first-flight-{number}","notional_usd":640.0,"price":64000.0,"quantity":0.01,"reason":"allowed","reduce_only":false,"side":"buy","source":"runtime:first-flight","symbol":"BTC","trace_id":"runtime-cycle-{number}"}}"#
    );
    let payload = zero_bus::Json::parse(&payload).unwrap();
    let trace_id = Some(format!("runtime-cycle-{number}"));
    Draft { event_type: "decision.record".to_owned(), as_of: 1777593600.0 + number as f64, payload, trace_id }
}

fn rate(start: Instant) -> f64 {
    EVENTS as f64 / start.elapsed().as_secs_f64()
}

fn report(name: &str, turns: impl Iterator<Item = (f64, f64)>) {
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for (one, other) in turns {
        ours.push(one);
        bare.push(other);
        ratios.push(one / other);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("| {name} | {:.0} | {:.0} | {:.2} |", median(&mut ours), median(&mut bare), median(&mut ratios));
}

/// Mirrors the whole log as `zero-bus mirror` does, including the creation of the tables.
fn mirror(log: &Path, url: &str) -> f64 {
    let start = Instant::now();
    let mut mirror = zero_mirror::open(url).unwrap();
    let report =
        catch_up(log, &mut *mirror, &CatchUpOptions::default(), &CancelHandle::default(), &mut |_| {})
            .unwrap();
    assert_eq!(report.mirrored, Some(EVENTS));
    rate(start)
}

/// Repeats one prepared insert, in transactions of the same size and with the same durability.
fn bare_sqlite(file: &Path, rows: &[(Event, String)]) -> f64 {
    let start = Instant::now();
    let mut connection = Connection::open(file).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection.execute_batch(include_str!("../src/sqlite/schema.sql")).unwrap();
    connection.execute("INSERT INTO buses VALUES (1, 'x', 1, 'x')", []).unwrap();
    for batch in rows.chunks(CatchUpOptions::default().batch_events) {
        let transaction = connection.transaction().unwrap();
        let mut insert =
            transaction.prepare_cached("INSERT INTO events VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)").unwrap();
        for (event, line) in batch {
            insert
                .execute(params![
                    event.index as i64,
                    event.event_type,
                    event.trace_id,
                    event.as_of,
                    event.checksum.to_string(),
                    event.payload.as_str(),
                    line,
                ])
                .unwrap();
        }
        drop(insert);
        transaction.commit().unwrap();
    }
    rate(start)
}

/// Measures the time from the return of an append until the event is durable at an idle
/// destination.
fn measure_follow(directory: &Path) {
    const APPENDS: usize = 500;
    let log = directory.join("followed");
    let bus = Bus::open(&log).unwrap();
    let (reports, reported) = std::sync::mpsc::channel();
    let stop = CancelHandle::default();
    let mut delays: Vec<f64> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut mirror =
                zero_mirror::open(&format!("sqlite:{}", directory.join("followed.db").display())).unwrap();
            let plan = CatchUpOptions { follow: true, ..CatchUpOptions::default() };
            catch_up(&log, &mut *mirror, &plan, &stop, &mut |report| {
                reports.send((report.mirrored, Instant::now())).unwrap();
            })
            .unwrap();
        });
        let delays = (0..APPENDS).map(|number| {
            let index = bus.append(decision(number as u64)).unwrap().index;
            let appended = Instant::now();
            let (_, mirrored_at) = reported.iter().find(|(mirrored, _)| *mirrored >= Some(index)).unwrap();
            mirrored_at.saturating_duration_since(appended).as_secs_f64() * 1000.0
        });
        let delays = delays.collect();
        stop.cancel();
        delays
    });
    delays.sort_by(f64::total_cmp);
    println!(
        "followed into SQLite, {APPENDS} appends, milliseconds from durable in the log to durable in the mirror: \
         median {:.1}, p99 {:.1}, maximum {:.1}",
        delays[APPENDS / 2],
        delays[APPENDS * 99 / 100],
        delays[APPENDS - 1]
    );
}

/// The rows in the format of a binary COPY, in pieces.
fn encoded(rows: &[(Event, String)]) -> Vec<Bytes> {
    let mut pieces = vec![Bytes::from_static(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")];
    let mut piece = BytesMut::new();
    let put = |bytes: &[u8], piece: &mut BytesMut| {
        piece.put_i32(bytes.len() as i32);
        piece.put_slice(bytes);
    };
    for (event, line) in rows {
        piece.put_i16(8);
        put(&1_i32.to_be_bytes(), &mut piece);
        put(&event.index.to_be_bytes(), &mut piece);
        put(event.event_type.as_bytes(), &mut piece);
        put(event.trace_id.as_deref().unwrap().as_bytes(), &mut piece);
        put(&event.as_of.to_be_bytes(), &mut piece);
        put(event.checksum.to_string().as_bytes(), &mut piece);
        put(&[b"\x01", event.payload.as_str().as_bytes()].concat(), &mut piece);
        put(line.as_bytes(), &mut piece);
        if piece.len() > 128 << 10 {
            pieces.push(piece.split().freeze());
        }
    }
    piece.put_i16(-1);
    pieces.push(piece.freeze());
    pieces
}

/// Copies all rows with one COPY.
fn bare_copy(url: &str, pieces: &[Bytes]) -> f64 {
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("CREATE SCHEMA zero").await.unwrap();
        client.batch_execute(include_str!("../src/postgres/schema.sql")).await.unwrap();
        let copy = "COPY zero.events (bus, event_index, event_type, trace_id, as_of, checksum, payload, line) FROM STDIN \
                    (FORMAT binary)";
        let mut sink = std::pin::pin!(client.copy_in(copy).await.unwrap());
        for piece in pieces {
            sink.send(piece.clone()).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), EVENTS);
    });
    rate(start)
}

fn measure_restore(log: &Path, directory: &Path) {
    let url = format!("sqlite:{}", directory.join("restore.db").display());
    mirror(log, &url);
    let bus = Reader::open(log).unwrap().event(1).unwrap().unwrap().checksum;
    let start = Instant::now();
    restore(&mut *zero_mirror::open(&url).unwrap(), bus, &directory.join("restored"), &mut |_| {}).unwrap();
    println!("\nrestored from SQLite: {:.0} events per second", rate(start));
    let same = |one: &Path, other: &Path| fs::read(one).unwrap() == fs::read(other).unwrap();
    assert!(same(&log.join("events.jsonl"), &directory.join("restored/events.jsonl")));
}
