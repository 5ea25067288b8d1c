//! The program `conformance/judges/tlog`, which tests ask. It needs Debian's packages golang-go and
//! golang-golang-x-mod-dev; `ZERO_TEST_WITHOUT_GO=1` skips its tests.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The running program. It answers each request with one line.
pub(crate) struct Judge {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Judge {
    /// `None` if the tests without Go are asked for.
    pub(crate) fn start() -> Option<Self> {
        if std::env::var_os("ZERO_TEST_WITHOUT_GO").is_some_and(|value| value == "1") {
            // Directly to stderr: the test harness would capture `eprintln!`.
            let _ =
                writeln!(std::io::stderr().lock(), "SKIPPED: needs Go, and ZERO_TEST_WITHOUT_GO=1 is set");
            return None;
        }
        let mut child = Command::new(program()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, requests, answers })
    }

    pub(crate) fn ask(&mut self, request: Value) -> Value {
        writeln!(self.requests, "{request}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn accepts(&mut self, request: Value) -> bool {
        self.ask(request).get("error").is_none()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, built once in a run.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/judges/tlog");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join("tlog-judge");
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg("main.go")
            .current_dir(source)
            .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")])
            .env("GOCACHE", folder.join("go-cache"))
            .output();
        assert!(
            output.as_ref().is_ok_and(|output| output.status.success()),
            "install the packages golang-go and golang-golang-x-mod-dev, or set ZERO_TEST_WITHOUT_GO=1 to skip these \
             tests: {output:?}"
        );
        program
    })
}
