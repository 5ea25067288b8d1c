//! The mirror at a receiver across the network, which puts it into an SQLite file.

#![allow(clippy::unwrap_used)]

mod contract;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use contract::{Place, Server, Tampering};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use zero_bus::Checksum;
use zero_mirror::ingest::{Limits, Receiver, Settings};

/// What the receiving process is told.
const WORK: [&str; 2] = ["ZERO_TEST_RECEIVER_LISTEN", "ZERO_TEST_RECEIVER_STORE"];

/// A receiver for each destination, each a process of its own.
struct Receivers {
    directory: TempDir,
    started: Vec<Process>,
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
            .args(["the_receiving_process", "--exact", "--nocapture"])
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

impl Place for Receivers {
    const NAME: &'static str = "HTTP, SQLite behind it";

    fn start() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), started: Vec::new() }
    }

    fn destination(&mut self) -> String {
        let store = format!("{}/store-{}.db", self.directory.path().display(), self.started.len());
        self.started.push(Process::start(store, "127.0.0.1:0"));
        format!("http://{}", self.started.last().unwrap().address)
    }

    fn server(&mut self) -> Option<&mut dyn Server> {
        self.started.last_mut().map(|process| process as &mut dyn Server)
    }

    fn tamper(&mut self, url: &str, _: Checksum, tampering: &Tampering) -> bool {
        let process = self.started.iter().find(|process| url.ends_with(&process.address)).unwrap();
        let connection = Connection::open(&process.store).unwrap();
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
        true
    }
}

#[test]
fn it_holds_to_the_contract() {
    contract::holds::<Receivers>();
}

/// Not a test: what the contract starts and kills.
#[test]
fn the_mirroring_process() {
    contract::mirroring_process();
}

/// Not a test: the other end. Without being told, nothing.
#[test]
fn the_receiving_process() {
    let [Ok(listen), Ok(store)] = WORK.map(std::env::var) else { return };
    let settings = Settings {
        listen: listen.parse().unwrap(),
        tokens: None,
        tls: None,
        behind_proxy: false,
        limits: Limits::default(),
    };
    let open = Box::new(move || zero_mirror::open(&format!("sqlite:{store}")));
    let receiver = Receiver::bind(settings, open, Arc::new(|text| eprintln!("{text}"))).unwrap();
    println!("listening on {}", receiver.address());
    receiver.run().unwrap();
}
