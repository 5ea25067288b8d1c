//! The mirror at a receiver across the network, which puts it into an SQLite file, and into a PostgreSQL database.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::contract::logs::Log;
use crate::contract::{Place, Server, Tampering, holds_all, open, plan};
use crate::database::{Postgres, left_out, sql};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use zero_bus::Checksum;
use zero_mirror::ingest::{Limits, Receiver, ReceiverOptions};
use zero_mirror::{CancelHandle, CatchUpOptions, catch_up};

/// What the receiving process is told.
const WORK: [&str; 2] = ["ZERO_TEST_RECEIVER_LISTEN", "ZERO_TEST_RECEIVER_STORE"];

/// What a receiver puts events into.
trait Store {
    const NAME: &'static str;

    fn start() -> Self;

    /// The address of a new one.
    fn make(&mut self) -> String;

    fn tamper(url: &str, tampering: &Tampering);
}

struct Files {
    directory: TempDir,
    made: usize,
}

impl Store for Files {
    const NAME: &'static str = "HTTP, SQLite behind it";

    fn start() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), made: 0 }
    }

    fn make(&mut self) -> String {
        self.made += 1;
        format!("sqlite:{}/store-{}.db", self.directory.path().display(), self.made)
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
            Tampering::Swap(one, other) => {
                for (from, to) in [(*one as i64, -1), (*other as i64, *one as i64), (-1, *other as i64)] {
                    assert_eq!(connection.execute(set, [from, to]).unwrap(), 1);
                }
                Ok(1)
            }
        };
        assert_eq!(changed.unwrap(), 1);
    }
}

impl Store for Postgres {
    const NAME: &'static str = "HTTP, PostgreSQL behind it";

    fn start() -> Self {
        // Every receiver keeps a connection.
        Postgres::start_with(&["fsync=off", "max_connections=300"])
    }

    fn make(&mut self) -> String {
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
            Tampering::Swap(one, other) => {
                swap(*one as i64, -1);
                swap(*other as i64, *one as i64);
                swap(-1, *other as i64);
            }
        }
    }
}

/// A receiver for each destination, each a process of its own.
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
    /// Starts one, and waits until it listens.
    fn start(store: String, listen: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["http_contract::the_receiving_process", "--exact", "--nocapture"])
            .envs(WORK.into_iter().zip([listen, &store]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // From here on dropping it kills it.
        let mut process = Self { store, address: String::new(), child };
        let lines = BufReader::new(process.child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        let said = lines.map(|line| line.split_once("listening on ").map(|(_, address)| address.to_owned()));
        process.address = said.flatten().next().unwrap();
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

impl<S: Store> Place for Receivers<S> {
    const NAME: &'static str = S::NAME;

    fn start() -> Self {
        Self { started: Vec::new(), store: S::start() }
    }

    fn destination(&mut self) -> String {
        self.started.push(Process::start(self.store.make(), "127.0.0.1:0"));
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
fn over_sqlite_it_holds_to_the_contract() {
    crate::contract::holds::<Receivers<Files>>();
}

#[test]
fn over_postgres_it_holds_to_the_contract() {
    if !left_out() {
        crate::contract::holds::<Receivers<Postgres>>();
    }
}

/// The receiver stays, and says that its store is away.
#[test]
fn the_database_behind_it_goes_away_and_comes_back() {
    if left_out() {
        return;
    }
    let mut postgres = Postgres::start();
    let receiver = Process::start(postgres.database(), "127.0.0.1:0");
    let (log, url) = (Log::of(10), format!("http://{}", receiver.address));
    let (reports, reported) = mpsc::channel();
    let stop = CancelHandle::default();
    std::thread::scope(|scope| {
        let following = scope.spawn(|| {
            let patient = CatchUpOptions { follow: true, wait_max: Duration::from_secs(1), ..plan(5) };
            catch_up(log.path(), &mut *open(&url), &patient, &stop, &mut |report| {
                reports.send(report.clone()).unwrap();
            })
        });
        reported.iter().find(|report| report.mirrored == 10).unwrap();
        for events in [10, 30, 50] {
            postgres.kill();
            log.append(events + 1, events + 20, "while it was away");
            let away = reported.iter().find_map(|report| report.away).unwrap();
            assert!(away.contains("the receiver's store is unavailable"), "{away}");
            postgres.run();
            reported.iter().find(|report| report.mirrored == events + 20).unwrap();
        }
        stop.cancel();
        following.join().unwrap().unwrap();
    });
    holds_all(log.path(), &url);
}

/// Not a test: the other end. Without being told, nothing.
#[test]
fn the_receiving_process() {
    let [Ok(listen), Ok(store)] = WORK.map(std::env::var) else { return };
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
