//! Disks that are really full, and files that may really not grow: what was acknowledged is there, and once there is room
//! both binaries go on where they were.
//!
//! A full disk takes the right to mount one in a name space of the test's own. Where that is refused, the variable
//! `ZERO_TEST_WITHOUT_MOUNT=1` leaves that half out; the other half, a limit on file sizes, needs no right.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{BUS, CLOCK, ENGINE, RECORDS, bus, feed, published, root};
use zero_bus::{Reader, Value};

/// What a program may not exceed.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// The disk has this many bytes left.
    Disk(u64),
    /// A file may have this many bytes, by `setrlimit(2)`.
    FileSize(u64),
}

impl Limit {
    /// Runs a program under the limit, and lifts it.
    fn run(self, here: &Path, program: &str, arguments: &[&str], input: &str) -> Output {
        let filler = here.join("filler");
        let mut command = match self {
            Self::Disk(left) => {
                fill_up(&filler, left);
                Command::new(program)
            }
            Self::FileSize(bytes) => {
                // The kernel cuts the write short, refuses the next one, and sends a signal.
                let mut limited = Command::new("prlimit");
                limited.args([&format!("--fsize={bytes}"), program]);
                limited
            }
        };
        let output = feed(command.args(arguments).current_dir(here), input);
        if matches!(self, Self::Disk(_)) {
            fs::remove_file(filler).unwrap();
        }
        output
    }

    fn says(self, output: &Output) -> bool {
        let expected = match self {
            Self::Disk(_) => "No space left on device",
            Self::FileSize(_) => "File too large",
        };
        String::from_utf8_lossy(&output.stderr).contains(expected)
    }
}

/// Leaves this many bytes of a disk.
fn fill_up(filler: &Path, left: u64) {
    let mut file = fs::File::create(filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let size = file.metadata().unwrap().len();
    file.set_len(size - left.min(size)).unwrap();
}

/// Appends until there is no room, then with room again.
fn appends(here: &Path, limit: Limit) {
    let lines: String = (0..2000)
        .map(|n| format!("{{\"event_type\":\"t\",\"payload\":{{\"n\":{n}}},\"as_of\":1}}\n"))
        .collect();
    let output = limit.run(here, BUS, &["append", "bus", "--batch"], &lines);
    assert_eq!(output.status.code(), Some(2), "{limit:?}: {output:?}");
    assert!(limit.says(&output), "{limit:?}: {}", String::from_utf8_lossy(&output.stderr));
    let receipts: Vec<u64> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|receipt| Value::parse(receipt).unwrap().get("event_index").and_then(Value::as_u64).unwrap())
        .collect();
    assert_eq!(receipts, (1..=receipts.len() as u64).collect::<Vec<_>>());
    let room = bus(here, &["append", "bus", "--type", "t", "{}"]);
    assert_eq!(room.code, 0, "{limit:?}: {}", room.err);
    bus(here, &["verify", "bus"]).fine();
    let events = Reader::open(here.join("bus")).unwrap().head().unwrap().index;
    assert_eq!(events, receipts.len() as u64 + 1, "{limit:?}");
}

/// Mirrors until there is no room, then with room again.
fn mirrors(here: &Path, limit: Limit) {
    crate::support::fill(here, 300);
    let output = limit.run(here, BUS, &["mirror", "bus", "--to", "sqlite:m.db"], "");
    assert_eq!(output.status.code(), Some(2), "{limit:?}: {output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = match limit {
        Limit::Disk(_) => "database or disk is full",
        Limit::FileSize(_) => "disk I/O error",
    };
    assert!(said.contains("sqlite:m.db: cannot ") && said.contains(expected), "{limit:?}: {said}");
    let room = bus(here, &["mirror", "bus", "--to", "sqlite:m.db"]);
    assert_eq!(room.code, 0, "{limit:?}: {}", room.err);
    assert!(bus(here, &["mirror-verify", "sqlite:m.db"]).fine().contains("ok    300 events"));
}

/// Runs cycles until there is no room, then with room again. Gives the decisions there were when it ended.
fn runs(here: &Path, limit: Limit) -> u64 {
    let scenario = root().join("examples/paper-trading/scenario.json");
    let arguments = |cycles| {
        let scenario = ["--scenario", scenario.to_str().unwrap(), "--interval", "0"];
        [&scenario[..], &RECORDS[..], &["--fixed-clock", CLOCK, "--max-cycles", cycles]].concat()
    };
    let output = limit.run(here, *ENGINE, &arguments("2000"), "");
    assert_eq!(output.status.code(), Some(2), "{limit:?}: {output:?}");
    assert!(limit.says(&output), "{limit:?}: {}", String::from_utf8_lossy(&output.stderr));
    let room = crate::support::engine(here, &arguments("1"));
    assert_eq!(room.code, 0, "{limit:?}: {}", room.err);
    bus(here, &["verify", "bus"]).fine();
    let journal = fs::read_to_string(here.join("d.jsonl")).unwrap();
    assert!(journal == published(here), "{limit:?}: journal and bus differ");
    let cycles = fs::read_to_string(here.join("c.jsonl")).unwrap().lines().count();
    assert_eq!(cycles, journal.lines().count(), "{limit:?}");
    cycles as u64 - 1
}

#[test]
fn files_that_may_not_grow() {
    for bytes in [700, 20_000, 20_001] {
        let place = tempfile::tempdir().unwrap();
        appends(place.path(), Limit::FileSize(bytes));
    }
    mirrors(tempfile::tempdir().unwrap().path(), Limit::FileSize(50_000));
    let mut decisions = 0;
    for bytes in (4_000..40_000).step_by(3_001) {
        let place = tempfile::tempdir().unwrap();
        decisions += runs(place.path(), Limit::FileSize(bytes));
    }
    println!("{decisions} decisions before the end of the room");
}

#[test]
fn a_full_disk() {
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "--"]).args(arguments).output().unwrap()
    };
    let mount = inside(&["sh", "-c", "mount -t tmpfs none /mnt"]);
    if !mount.status.success() {
        let reason = String::from_utf8_lossy(&mount.stderr);
        let skipped = std::env::var("ZERO_TEST_WITHOUT_MOUNT").is_ok_and(|value| value == "1");
        assert!(skipped, "cannot mount a disk to fill ({reason}); ZERO_TEST_WITHOUT_MOUNT=1 leaves this out");
        println!("SKIPPED: a full disk, as ZERO_TEST_WITHOUT_MOUNT says");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let output = inside(&[
        this.to_str().unwrap(),
        "--ignored",
        "--exact",
        "full_disk::on_a_disk_of_its_own",
        "--nocapture",
    ]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
    println!("{said}");
}

/// The inside of [`a_full_disk`].
#[test]
#[ignore = "runs in a name space, which a_full_disk makes"]
fn on_a_disk_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "none"]).arg(here).status();
    assert!(mounted.unwrap().success());
    let empty = |here: &Path| {
        for name in ["bus", "d.jsonl", "c.jsonl"] {
            let path = here.join(name);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else if path.exists() {
                fs::remove_file(path).unwrap();
            }
        }
    };
    fs::create_dir(here.join("mirrored")).unwrap();
    mirrors(&here.join("mirrored"), Limit::Disk(64 << 10));
    fs::remove_dir_all(here.join("mirrored")).unwrap();
    let (mut runs_ended, mut decisions) = (0, 0);
    // A page at a time, so that each of the files is the one that finds no room.
    for pages in 4..=40 {
        if pages % 8 == 0 {
            appends(here, Limit::Disk(4096 * pages));
            empty(here);
        }
        decisions += runs(here, Limit::Disk(4096 * pages));
        runs_ended += 1;
        empty(here);
    }
    println!("{runs_ended} runs ended by a full disk after {decisions} decisions in all");
    // Out of the way of the directory's removal.
    assert!(Command::new("umount").arg(here).status().unwrap().success());
}
