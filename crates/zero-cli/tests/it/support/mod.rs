//! Runs the real binaries.

pub(crate) mod runs;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use zero_bus::{Event, Reader};

/// The binary of the package `zero-engine-run`, which Cargo puts beside this package's own.
pub(crate) static ENGINE: LazyLock<&'static str> = LazyLock::new(|| {
    let engine = Path::new(BUS).with_file_name("zero-engine-run");
    assert!(engine.exists(), "{} is missing; build it: cargo build -p zero-engine-run", engine.display());
    String::leak(engine.to_str().unwrap().to_owned())
});
pub(crate) const BUS: &str = env!("CARGO_BIN_EXE_zero-bus");

/// The time of the recorded sessions.
pub(crate) const CLOCK: &str = "1777593600.0";

/// A runtime's files, as the tests name them.
pub(crate) const RECORDS: [&str; 6] =
    ["--journal", "d.jsonl", "--cycle-journal", "c.jsonl", "--runtime-bus", "bus"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn conformance() -> PathBuf {
    root().join("conformance")
}

/// What a program left behind when it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn fine(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// What was done, and said on standard error.
    #[track_caller]
    pub(crate) fn fine_with(self, said: &str) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        assert!(self.err.contains(said), "{}", self.err);
        self.out
    }

    /// The same where a killed runtime may have left part of a line, whose setting aside is said, or a command unapplied.
    #[track_caller]
    pub(crate) fn fine_over_a_torn_line(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        let torn = |line: &str| {
            (line.contains("an unfinished last line of") && line.contains("was set aside"))
                || line.contains("is not obeyed yet")
        };
        assert!(self.err.lines().all(torn), "{}", self.err);
        self.out
    }

    /// The one line on standard error of something that could not be done.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.code, 2, "{}{}", self.out, self.err);
        assert_eq!(self.out, "");
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err.trim_end().to_owned()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", output.status));
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

pub(crate) fn run(program: &str, directory: &Path, arguments: &[&str]) -> Ended {
    Command::new(program).args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap().into()
}

pub(crate) fn bus(directory: &Path, arguments: &[&str]) -> Ended {
    run(BUS, directory, arguments)
}

pub(crate) fn engine(directory: &Path, arguments: &[&str]) -> Ended {
    run(*ENGINE, directory, arguments)
}

/// The same with something on standard input.
pub(crate) fn bus_with_input(directory: &Path, arguments: &[&str], input: &str) -> Ended {
    feed(Command::new(BUS).args(arguments).current_dir(directory), input).into()
}

/// What a program answers to something on its standard input.
pub(crate) fn feed(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program that ends early closes its end; that is for its own answer to tell.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// Waits for what a process is about to do, and not for ever if it does not.
pub(crate) fn wait_until(happened: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Child {
    Command::new(*ENGINE)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Every event on the bus `bus` in a directory.
pub(crate) fn events(directory: &Path) -> Vec<Event> {
    Reader::open(directory.join("bus")).unwrap().events(1).unwrap().map(Result::unwrap).collect()
}

/// The decisions on the bus `bus` in a directory, as a journal has them.
pub(crate) fn published(directory: &Path) -> String {
    let of_decisions = |event: &Event| event.event_type == "decision.record";
    events(directory)
        .iter()
        .filter(|event| of_decisions(event))
        .map(|event| format!("{}\n", event.payload))
        .collect()
}

/// Appends this many small events to the bus `bus` in a directory.
pub(crate) fn fill(directory: &Path, events: usize) {
    let lines: String = (1..=events)
        .map(|n| {
            let kind = ["a.one", "a.two", "b.one"][n % 3];
            format!("{{\"event_type\":\"{kind}\",\"payload\":{{\"n\":{n}}},\"as_of\":{n},\"trace_id\":\"t{}\"}}\n", n % 2)
        })
        .collect();
    let receipts = bus_with_input(directory, &["append", "bus", "--batch"], &lines).fine();
    assert_eq!(receipts.lines().count(), events);
}

/// Every file below a directory, with its content.
pub(crate) fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}
