//! Runs the real binaries, and checks what they print and how they exit.

pub(crate) mod proofs;
pub(crate) mod runs;
pub(crate) mod venv;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;
use zero_bus::{Event, Reader};

/// The binary of the package `zero-engine-run`. Cargo puts it next to this package's binary.
pub(crate) static ENGINE: LazyLock<&'static str> = LazyLock::new(|| {
    let engine = Path::new(BUS).with_file_name("zero-engine-run");
    assert!(engine.exists(), "{} is missing; build it: cargo build -p zero-engine-run", engine.display());
    String::leak(engine.to_str().unwrap().to_owned())
});
pub(crate) const BUS: &str = env!("CARGO_BIN_EXE_zero-bus");

/// The clock of the recorded sessions, for `--fixed-clock`.
pub(crate) const CLOCK: &str = "1777593600.0";

/// The options that name a runtime's record files.
pub(crate) const RECORDS: [&str; 6] =
    ["--journal", "d.jsonl", "--cycle-journal", "c.jsonl", "--runtime-bus", "bus"];

/// A number of rounds for every run, and one for the soak (`.ci/soak`).
pub(crate) fn rounds(normal: usize, soak: usize) -> usize {
    if std::env::var_os("ZERO_TEST_SOAK").is_some_and(|value| value == "1") { soak } else { normal }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The scenario of the README's first command.
pub(crate) static EXAMPLE_SCENARIO: LazyLock<&'static str> =
    LazyLock::new(|| String::leak(path_text(&root().join("examples/paper-trading/scenario.json"))));

/// 250 orders on real prices.
pub(crate) static REAL_MARKET_SCENARIO: LazyLock<&'static str> =
    LazyLock::new(|| String::leak(path_text(&root().join("examples/real-market/scenario.json"))));

fn path_text(path: &Path) -> String {
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

pub(crate) fn temp_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn conformance() -> PathBuf {
    root().join("conformance")
}

/// The result of a program that exited.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Asserts exit code 0 and an empty standard error. Returns standard output.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// Asserts exit code 0 and a warning on standard error. Returns standard output.
    #[track_caller]
    pub(crate) fn success_with_warning(self, warning: &str) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(warning), "{}", self.stderr);
        self.stdout
    }

    /// Asserts exit code 0, and on standard error nothing but the warnings that follow a killed
    /// runtime: a quarantined tail, a command that is not applied yet, and a bus without a runtime.
    /// Returns standard output.
    #[track_caller]
    pub(crate) fn success_after_a_kill(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        let is_expected = |line: &str| {
            line.contains(": quarantined an incomplete last line of ")
                || line.contains("is not applied yet")
                || line.contains("no runtime holds")
        };
        assert!(self.stderr.lines().all(is_expected), "{}", self.stderr);
        self.stdout
    }

    /// Asserts an exit code, an empty standard output and one line on standard error. Returns that
    /// line.
    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr.trim_end().to_owned()
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("output by a signal: {}", output.status));
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

pub(crate) fn run(program: &str, dir: &Path, arguments: &[&str]) -> Finished {
    Command::new(program).args(arguments).current_dir(dir).stdin(Stdio::null()).output().unwrap().into()
}

pub(crate) fn bus(dir: &Path, arguments: &[&str]) -> Finished {
    run(BUS, dir, arguments)
}

pub(crate) fn engine(dir: &Path, arguments: &[&str]) -> Finished {
    run(*ENGINE, dir, arguments)
}

pub(crate) fn bus_with_input(dir: &Path, arguments: &[&str], input: &str) -> Finished {
    run_with_input(Command::new(BUS).args(arguments).current_dir(dir), input).into()
}

pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // The write fails if the program exits early. That is not an error here: the caller checks the
    // program's result.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Waits until a condition holds. Panics after a minute.
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "the condition did not become true");
        std::thread::yield_now();
    }
}

/// Starts `zero-engine-run`.
pub(crate) fn start_engine(dir: &Path, arguments: &[&str]) -> Child {
    Command::new(*ENGINE)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// All events of the bus `bus` in a directory.
pub(crate) fn events(dir: &Path) -> Vec<Event> {
    Reader::open(dir.join("bus")).unwrap().events(1).unwrap().map(Result::unwrap).collect()
}

/// The decisions on the bus `bus` in a directory, in the form of a decision journal.
pub(crate) fn published_decisions(dir: &Path) -> String {
    events(dir)
        .iter()
        .filter(|event| event.event_type == "decision.record")
        .map(|event| format!("{}\n", event.payload))
        .collect()
}

/// Appends small events of three types and two traces to the bus `bus` in a directory.
pub(crate) fn append_events(dir: &Path, count: usize) {
    let lines: String = (1..=count)
        .map(|n| {
            let event_type = ["a.one", "a.two", "b.one"][n % 3];
            let trace = n % 2;
            format!(
                "{{\"event_type\":\"{event_type}\",\"payload\":{{\"n\":{n}}},\"as_of\":{n},\"trace_id\":\"t{trace}\"}}\n"
            )
        })
        .collect();
    let receipts = bus_with_input(dir, &["append", "bus", "--batch"], &lines).success();
    assert_eq!(receipts.lines().count(), count);
}

/// Every file below a directory, with its content.
pub(crate) fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push((path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}
