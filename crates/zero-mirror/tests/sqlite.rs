//! The mirror in an SQLite file.

#![allow(clippy::unwrap_used)]

mod contract;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use contract::{Place, Tampering};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use zero_bus::Checksum;

struct Files {
    directory: TempDir,
    made: usize,
}

fn file(url: &str) -> &str {
    url.strip_prefix("sqlite:").unwrap()
}

impl Place for Files {
    const NAME: &'static str = "SQLite";

    fn start() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), made: 0 }
    }

    fn destination(&mut self) -> String {
        self.made += 1;
        format!("sqlite:{}/mirror-{}.db", self.directory.path().display(), self.made)
    }

    fn tamper(&mut self, url: &str, _: Checksum, tampering: &Tampering) -> bool {
        let connection = Connection::open(file(url)).unwrap();
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
    contract::holds::<Files>();
}

/// Not a test: what the contract starts and kills.
#[test]
fn the_mirroring_process() {
    contract::mirroring_process();
}

#[test]
fn its_files_are_private() {
    let mut files = Files::start();
    let (log, url) = (contract::logs::Log::of(10), files.destination());
    let mut mirror = contract::open(&url);
    zero_mirror::catch_up(log.path(), &mut *mirror, &contract::plan(5), &Default::default(), &mut |_| {})
        .unwrap();
    let mut names = 0;
    for entry in fs::read_dir(files.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        names += 1;
    }
    assert_eq!(names, 3, "the file, its -wal and its -shm");
}
