//! Starts the binary on pipes or on a terminal.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The default scenario, relative to the working directory of a run.
pub(crate) const DEFAULT_SCENARIO: &str = "examples/paper-trading/scenario.json";

/// The path of the example scenario in the repository.
pub(crate) fn example_scenario() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(DEFAULT_SCENARIO)
}

pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zero-engine-run"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command
}

/// The result of a run.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }
}

/// Runs with standard output and standard error on pipes.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Finished {
    let output = command(directory, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A pseudo-terminal and the program on it.
pub(crate) struct OnTerminal {
    pub(crate) child: Child,
    output: std::thread::JoinHandle<String>,
}

impl OnTerminal {
    /// Starts the program with standard error on a new pseudo-terminal. Standard output goes there
    /// too, unless the caller has redirected it.
    pub(crate) fn start(mut command: Command, redirected_stdout: Option<File>) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let path = ptsname(&controller, Vec::new()).unwrap();
        let terminal = || OpenOptions::new().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        let child = command
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdout(redirected_stdout.unwrap_or_else(terminal))
            .stderr(terminal())
            .spawn()
            .unwrap();
        // The command holds the terminal open, which would keep the reader below from ending.
        drop(command);
        let output = std::thread::spawn(move || {
            let mut output = Vec::new();
            let mut buffer = [0; 4096];
            let mut controller = File::from(controller);
            // Reading fails once the program has closed the terminal.
            while let Ok(bytes @ 1..) = controller.read(&mut buffer) {
                output.extend_from_slice(&buffer[..bytes]);
            }
            String::from_utf8_lossy(&output).into_owned()
        });
        Self { child, output }
    }

    /// Waits for the end of the program and returns what the terminal received, with `\n` line
    /// ends.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.output.join().unwrap().replace("\r\n", "\n"))
    }
}

/// Removes the colours.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for (number, part) in text.split("\x1b[").enumerate() {
        let end = if number == 0 { 0 } else { part.find('m').map_or(0, |end| end + 1) };
        plain += &part[end..];
    }
    plain
}
