//! The contract for HTTP: receivers that store into an SQLite file or a PostgreSQL database.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::contract::logs::Log;
use crate::contract::{Server, Tampering, TestBed, holds_all, open, plan};
use crate::database::{Postgres, left_out, sql};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use zero_bus::Checksum;
use zero_mirror::ingest::{Limits, Receiver, ReceiverOptions};
use zero_mirror::{CancelHandle, CatchUpOptions, catch_up};

/// The environment variables that carry the receiving process's arguments.
const ARGUMENTS: [&str; 2] = ["ZERO_TEST_RECEIVER_LISTEN", "ZERO_TEST_RECEIVER_STORE"];

/// Creates the stores of receivers.
trait Store {
    const NAME: &'static str;

    fn start() -> Self;

    /// Returns the address of a new store.
    fn create(&mut self) -> String;

    fn tamper(url: &str, tampering: &Tampering);
}

struct Files {
    directory: TempDir,
    created: usize,
}

impl Store for Files {
    const NAME: &'static str = "HTTP to SQLite";

    fn start() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), created: 0 }
    }

    fn create(&mut self) -> String {
        self.created += 1;
        format!("sqlite:{}/store-{}.db", self.directory.path().display(), self.created)
    }

    fn tamper(url: &str, tampering: &Tampering) {
        let connection = Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap();
        let set = "UPDATE events SET event_index = ?2 WHERE event_index = ?1";
        let changed = match tampering {
            Tampering::Line(index, line) => connection
                .execute("UPDATE events SET line = ?2 WHERE event_index = ?1", params![*index as i64, line]),
            Tampering::Delete(index) => {
                connection.execute("DELETE FROM events WHERE event_index = ?1", [*index as i64])
            }
            Tampering::Swap(first, second) => {
                for (from, to) in [(*first as i64, -1), (*second as i64, *first as i64), (-1, *second as i64)]
                {
                    assert_eq!(connection.execute(set, [from, to]).unwrap(), 1);
                }
                Ok(1)
            }
        };
        assert_eq!(changed.unwrap(), 1);
    }
}

impl Store for Postgres {
    const NAME: &'static str = "HTTP to PostgreSQL";

    fn start() -> Self {
        // Every receiver keeps a connection open.
        Postgres::start_with(&["fsync=off", "max_connections=300"])
    }

    fn create(&mut self) -> String {
        self.database()
    }

    fn tamper(url: &str, tampering: &Tampering) {
        let swap = |from: i64, to: i64| {
            sql(url, &format!("UPDATE zero.events SET event_index = {to} WHERE event_index = {from}"));
        };
        match tampering {
            Tampering::Line(index, line) => {
                let line = line.replace('\'', "''");
                sql(url, &format!("UPDATE zero.events SET line = '{line}' WHERE event_index = {index}"));
            }
            Tampering::Delete(index) => {
                sql(url, &format!("DELETE FROM zero.events WHERE event_index = {index}"));
            }
            Tampering::Swap(first, second) => {
                swap(*first as i64, -1);
                swap(*second as i64, *first as i64);
                swap(-1, *second as i64);
            }
        }
    }
}

/// Starts a receiving process for each destination.
struct Receivers<S> {
    started: Vec<Process>,
    store: S,
}

struct Process {
    store: String,
    address: String,
    child: Child,
}

impl Process {
    /// Starts a process and waits until it listens.
    fn start(store: String, listen: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["http_contract::the_receiving_process", "--exact", "--nocapture"])
            .envs(ARGUMENTS.into_iter().zip([listen, &store]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // From here on, dropping the value kills the process.
        let mut process = Self { store, address: String::new(), child };
        let lines = BufReader::new(process.child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        let addresses =
            lines.map(|line| line.split_once("listening on ").map(|(_, address)| address.to_owned()));
        process.address = addresses.flatten().next().unwrap();
        process
    }
}

impl Server for Process {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start(&mut self) {
        *self = Self::start(self.store.clone(), &self.address);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<S: Store> TestBed for Receivers<S> {
    const NAME: &'static str = S::NAME;

    fn start() -> Self {
        Self { started: Vec::new(), store: S::start() }
    }

    fn destination(&mut self) -> String {
        self.started.push(Process::start(self.store.create(), "127.0.0.1:0"));
        format!("http://{}", self.started.last().unwrap().address)
    }

    fn server(&mut self) -> Option<&mut dyn Server> {
        self.started.last_mut().map(|process| process as &mut dyn Server)
    }

    fn tamper(&mut self, url: &str, _: Checksum, tampering: &Tampering) -> bool {
        let process = self.started.iter().find(|process| url.ends_with(&process.address)).unwrap();
        S::tamper(&process.store, tampering);
        true
    }
}

#[test]
fn http_to_sqlite_passes_the_contract() {
    crate::contract::run_all::<Receivers<Files>>();
}

/// The receiver with SQLite and PostgreSQL itself pass in every run, so this one is for a soak.
#[test]
#[ignore = "a soak: run .ci/soak"]
fn http_to_postgres_passes_the_contract() {
    if !left_out() {
        crate::contract::run_all::<Receivers<Postgres>>();
    }
}

/// The receiver keeps running and reports that its store is unavailable.
#[test]
fn a_receiver_survives_restarts_of_its_database() {
    if left_out() {
        return;
    }
    let mut postgres = Postgres::start();
    let receiver = Process::start(postgres.database(), "127.0.0.1:0");
    let (log, url) = (Log::of(10), format!("http://{}", receiver.address));
    let (reports, reported) = mpsc::channel();
    let stop = CancelHandle::default();
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let forever = CatchUpOptions { follow: true, wait_max: Duration::from_secs(1), ..plan(5) };
            catch_up(log.path(), &mut *open(&url), &forever, &stop, &mut |report| {
                reports.send(report.clone()).unwrap();
            })
        });
        reported.iter().find(|report| report.mirrored == Some(10)).unwrap();
        for events in [10, 30, 50] {
            postgres.kill();
            log.append(events + 1, events + 20, "while the database is down");
            let away = reported.iter().find_map(|report| report.away).unwrap();
            assert!(away.contains("the receiver's store is unavailable"), "{away}");
            postgres.run();
            reported.iter().find(|report| report.mirrored == Some(events + 20)).unwrap();
        }
        stop.cancel();
        follower.join().unwrap().unwrap();
    });
    holds_all(log.path(), &url);
}

/// Not a test: the receiving process. Does nothing without the environment variables.
#[test]
fn the_receiving_process() {
    let [Ok(listen), Ok(store)] = ARGUMENTS.map(std::env::var) else { return };
    let settings = ReceiverOptions {
        listen: listen.parse().unwrap(),
        tokens: None,
        tls: None,
        behind_proxy: false,
        limits: Limits::default(),
    };
    let open = Box::new(move || zero_mirror::open(&store));
    let receiver = Receiver::bind(settings, open, Arc::new(|text| eprintln!("{text}"))).unwrap();
    println!("listening on {}", receiver.address());
    receiver.run().unwrap();
}
