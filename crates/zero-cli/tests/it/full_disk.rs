//! Full disks and file size limits: acknowledged events are kept, and both binaries resume once
//! there is space.
//!
//! A full disk needs the right to mount a file system in a namespace. Without it, set
//! `ZERO_TEST_WITHOUT_MOUNT=1` to skip that test. A file size limit needs no right.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::runs::run_cycles;
use crate::support::{
    BUS, CLOCK, ENGINE, EXAMPLE_SCENARIO, RECORDS, append_events, bus, published_decisions, run_with_input,
    temp_dir,
};
use zero_bus::{Reader, Value};

/// A limit on the space that a program can use.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// Free bytes on the disk.
    Disk(u64),
    /// Bytes of a file, by `setrlimit(2)`.
    FileSize(u64),
}

impl Limit {
    /// Runs a program under the limit, and then removes the limit.
    fn run(self, dir: &Path, program: &str, arguments: &[&str], input: &str) -> Output {
        let filler = dir.join("filler");
        let mut command = match self {
            Self::Disk(free_bytes) => {
                fill_disk(&filler, free_bytes);
                Command::new(program)
            }
            Self::FileSize(bytes) => {
                // The kernel shortens the write, refuses the next one, and sends SIGXFSZ.
                let mut limited = Command::new("prlimit");
                limited.args([&format!("--fsize={bytes}"), program]);
                limited
            }
        };
        let output = run_with_input(command.args(arguments).current_dir(dir), input);
        if matches!(self, Self::Disk(_)) {
            fs::remove_file(filler).unwrap();
        }
        output
    }

    fn is_reported(self, output: &Output) -> bool {
        let expected = match self {
            Self::Disk(_) => "No space left on device",
            Self::FileSize(_) => "File too large",
        };
        String::from_utf8_lossy(&output.stderr).contains(expected)
    }
}

/// Fills the disk with one file, up to a number of free bytes.
fn fill_disk(filler: &Path, free_bytes: u64) {
    let mut file = fs::File::create(filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let size = file.metadata().unwrap().len();
    file.set_len(size - free_bytes.min(size)).unwrap();
}

/// Appends until there is no space, and then with space.
fn test_append(dir: &Path, limit: Limit) {
    let lines: String = (0..2000)
        .map(|n| format!("{{\"event_type\":\"t\",\"payload\":{{\"n\":{n}}},\"as_of\":1}}\n"))
        .collect();
    let output = limit.run(dir, BUS, &["append", "bus", "--batch"], &lines);
    assert_eq!(output.status.code(), Some(2), "{limit:?}: {output:?}");
    assert!(limit.is_reported(&output), "{limit:?}: {}", String::from_utf8_lossy(&output.stderr));
    let receipts: Vec<u64> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|receipt| Value::parse(receipt).unwrap().get("event_index").and_then(Value::as_u64).unwrap())
        .collect();
    assert_eq!(receipts, (1..=receipts.len() as u64).collect::<Vec<_>>());
    let resumed = bus(dir, &["append", "bus", "--type", "t", "{}"]);
    assert_eq!(resumed.code, 0, "{limit:?}: {}", resumed.stderr);
    bus(dir, &["verify", "bus"]).success();
    let events = Reader::open(dir.join("bus")).unwrap().head().unwrap().index;
    assert_eq!(events, receipts.len() as u64 + 1, "{limit:?}");
}

/// Mirrors until there is no space, and then with space.
fn test_mirror(dir: &Path, limit: Limit) {
    append_events(dir, 300);
    let output = limit.run(dir, BUS, &["mirror", "bus", "--to", "sqlite:m.db"], "");
    assert_eq!(output.status.code(), Some(2), "{limit:?}: {output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = match limit {
        Limit::Disk(_) => "database or disk is full",
        Limit::FileSize(_) => "disk I/O error",
    };
    assert!(stderr.contains("sqlite:m.db: cannot ") && stderr.contains(expected), "{limit:?}: {stderr}");
    let resumed = bus(dir, &["mirror", "bus", "--to", "sqlite:m.db"]);
    assert_eq!(resumed.code, 0, "{limit:?}: {}", resumed.stderr);
    assert!(bus(dir, &["mirror-verify", "sqlite:m.db"]).success().contains("ok    300 events"));
}

/// Seals and retires, with a page of space more in each attempt until it succeeds. Returns how many
/// attempts of each failed.
fn test_seal_and_retire(dir: &Path) -> [u64; 2] {
    append_events(dir, 600);
    let attempt = |arguments: &[&str]| {
        let is_done = |pages: &u64| {
            let limit = Limit::Disk(4096 * pages);
            let output = limit.run(dir, BUS, arguments, "");
            bus(dir, &["verify", "bus", "--min-events", "600"]).success();
            if !output.status.success() {
                assert_eq!(output.status.code(), Some(2), "{limit:?}: {output:?}");
                assert!(limit.is_reported(&output), "{limit:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            output.status.success()
        };
        (0..128).find(is_done).unwrap()
    };
    let sealed = attempt(&["seal", "bus", "--keep-events", "300"]);
    let retired = attempt(&["retire", "bus", "--before", "last", "--without-copy", "--yes"]);
    assert_eq!(Reader::open(dir.join("bus")).unwrap().first_index().unwrap(), 301);
    [sealed, retired]
}

/// Runs cycles until there is no space, and then with space. Returns the number of decisions of the
/// first run.
fn test_runtime(dir: &Path, limit: Limit) -> u64 {
    let scenario = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0"];
    let arguments = [&scenario[..], &RECORDS[..], &["--fixed-clock", CLOCK, "--max-cycles", "2000"]].concat();
    let output = limit.run(dir, *ENGINE, &arguments, "");
    assert_eq!(output.status.code(), Some(2), "{limit:?}: {output:?}");
    assert!(limit.is_reported(&output), "{limit:?}: {}", String::from_utf8_lossy(&output.stderr));
    let resumed = run_cycles(dir, "1", &[]);
    assert_eq!(resumed.code, 0, "{limit:?}: {}", resumed.stderr);
    bus(dir, &["verify", "bus"]).success();
    let journal = fs::read_to_string(dir.join("d.jsonl")).unwrap();
    assert!(journal == published_decisions(dir), "{limit:?}: journal and bus differ");
    let cycles = fs::read_to_string(dir.join("c.jsonl")).unwrap().lines().count();
    assert_eq!(cycles, journal.lines().count(), "{limit:?}");
    cycles as u64 - 1
}

#[test]
fn acknowledged_events_survive_a_file_size_limit() {
    for bytes in [700, 20_000, 20_001] {
        let temp = temp_dir();
        test_append(temp.path(), Limit::FileSize(bytes));
    }
    test_mirror(temp_dir().path(), Limit::FileSize(50_000));
    let mut decisions = 0;
    for bytes in (4_000..40_000).step_by(3_001) {
        let temp = temp_dir();
        decisions += test_runtime(temp.path(), Limit::FileSize(bytes));
    }
    println!("{decisions} decisions before the limit");
}

#[test]
fn acknowledged_events_survive_a_full_disk() {
    let run_in_namespace = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "--"]).args(arguments).output().unwrap()
    };
    let mount = run_in_namespace(&["sh", "-c", "mount -t tmpfs none /mnt"]);
    if !mount.status.success() {
        let reason = String::from_utf8_lossy(&mount.stderr);
        let skipped = std::env::var("ZERO_TEST_WITHOUT_MOUNT").is_ok_and(|value| value == "1");
        assert!(skipped, "cannot mount a disk ({reason}); ZERO_TEST_WITHOUT_MOUNT=1 skips this test");
        println!("SKIPPED: a full disk, because ZERO_TEST_WITHOUT_MOUNT is set");
        return;
    }
    let test_binary = std::env::current_exe().unwrap();
    let output = run_in_namespace(&[
        test_binary.to_str().unwrap(),
        "--ignored",
        "--exact",
        "full_disk::on_a_small_disk",
        "--nocapture",
    ]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("1 passed"), "{stdout}");
    println!("{stdout}");
}

/// What [`acknowledged_events_survive_a_full_disk`] runs.
#[test]
#[ignore = "runs in a namespace that acknowledged_events_survive_a_full_disk creates"]
fn on_a_small_disk() {
    let temp = temp_dir();
    let dir = temp.path();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "none"]).arg(dir).status();
    assert!(mounted.unwrap().success());
    let remove_records = |dir: &Path| {
        for name in ["bus", "d.jsonl", "c.jsonl"] {
            let path = dir.join(name);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else if path.exists() {
                fs::remove_file(path).unwrap();
            }
        }
    };
    fs::create_dir(dir.join("mirrored")).unwrap();
    test_mirror(&dir.join("mirrored"), Limit::Disk(64 << 10));
    fs::remove_dir_all(dir.join("mirrored")).unwrap();
    let failed = test_seal_and_retire(dir);
    println!("{failed:?} seals and retirements failed on a full disk");
    assert!(failed[0] > 5 && failed[1] > 0, "{failed:?}");
    remove_records(dir);
    let (mut runs, mut decisions) = (0, 0);
    // In steps of a page, so that each of the files once finds no space.
    for pages in 4..=40 {
        if pages % 8 == 0 {
            test_append(dir, Limit::Disk(4096 * pages));
            remove_records(dir);
        }
        decisions += test_runtime(dir, Limit::Disk(4096 * pages));
        runs += 1;
        remove_records(dir);
    }
    println!("{runs} runs ended by a full disk after {decisions} decisions");
    // The temporary directory cannot be removed while it is a mount point.
    assert!(Command::new("umount").arg(dir).status().unwrap().success());
}
