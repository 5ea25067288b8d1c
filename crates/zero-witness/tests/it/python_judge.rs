//! The package `witness-log` from PyPI: its client against this witness, this client against its
//! witness.
//!
//! The package is another implementation in Rust with Python bindings. It has a client over HTTP,
//! and a witness without a listener, which `conformance/judges/tlog_witness.py` provides. The test
//! installs the package; `ZERO_TEST_WITHOUT_WITNESS_LOG=1` skips it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use zero_bus::sim::{Rng, SimDisk};
use zero_proof::key::SignatureType;
use zero_proof::{Policy, VerifierKey};
use zero_witness::{ClientOptions, StateDirectory, Submission, SubmitError, Witness, WitnessClient};

use crate::malformed::mutate;
use crate::support::{TestServer, post};
use crate::test_log::{TestLog, ed25519_signer, vkey};

const VERSION: &str = "0.6.1";
const ADVICE: &str = "install Python 3.9 or newer (Debian: python3-venv) and let pip reach its index, or set \
                      ZERO_TEST_WITHOUT_WITNESS_LOG=1 to skip this test";

/// The running script. It answers each line with a line.
struct Judge {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    _dir: tempfile::TempDir,
}

impl Judge {
    /// Starts the script and returns its first line. `None` if the test is left out.
    fn start(arguments: &[&str]) -> Option<(Self, String)> {
        if std::env::var_os("ZERO_TEST_WITHOUT_WITNESS_LOG").is_some_and(|value| value == "1") {
            println!("SKIPPED: the package witness-log, because ZERO_TEST_WITHOUT_WITNESS_LOG is set");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/judges/tlog_witness.py");
        let mut child = Command::new(python())
            .arg(script.canonicalize().unwrap())
            .args(arguments)
            .env("STATE", dir.path())
            .env("NO_PROXY", "127.0.0.1")
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut judge = Self { child, requests, answers, _dir: dir };
        let first = judge.read();
        Some((judge, first))
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.requests, "{line}").unwrap();
        self.read()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interpreter of an environment with the package, which is installed once.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("witness-log-{VERSION}"));
    let lock = File::create(venv.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !venv.join("installed").exists() {
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            let output = output.unwrap_or_else(|error| panic!("{}: {error}; {ADVICE}", program.display()));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "witness-log can't be installed; {ADVICE}: {stderr}");
        };
        run(Path::new("python3"), &["-m", "venv", "--clear", venv.to_str().unwrap()]);
        let package = format!("witness-log=={VERSION}");
        run(&venv.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", &package]);
        File::create(venv.join("installed")).unwrap();
    }
    venv.join("bin/python")
}

/// Its log grows and has each checkpoint cosigned here. It verifies the cosignatures itself, and
/// follows the size that a witness states.
#[test]
fn its_client_gets_cosignatures_from_this_witness() {
    let Some((mut judge, first)) = Judge::start(&["submit"]) else { return };
    let (_, log_vkey) = first.split_once(' ').unwrap();
    let log_key: VerifierKey = log_vkey.parse().unwrap();
    let start = |name: &str| {
        let state = StateDirectory::open(SimDisk::new().storage()).unwrap();
        let key = ed25519_signer(name);
        let public = vkey(&key, SignatureType::CosignatureEd25519).public_key();
        let server = TestServer::start(Witness::open(key, vec![log_key.clone()], state).unwrap());
        let hex: String = public.iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = format!("{name} {} {hex}", server.url);
        (server, entry)
    };
    let (_first, first_entry) = start("w1.example");
    let mut size = 0;
    for events in [1, 1, 0, 5, 1, 57] {
        size += events;
        let answer = judge.ask(&format!("{events} {first_entry}"));
        let expected = format!(
            r#"{{"size": {size}, "cosignatures": 1, "outcomes": [{{"name": "w1.example", "status": 200}}]}}"#
        );
        assert_eq!(answer, expected);
    }
    // A witness that joins later.
    let (_second, second_entry) = start("w2.example");
    let answer = judge.ask(&format!("4 {first_entry} {second_entry}"));
    assert!(answer.starts_with(r#"{"size": 69, "cosignatures": 2, "#), "{answer}");
    // A witness that has lost its state is asked again from the start.
    let (_third, third_entry) = start("w2.example");
    let answer = judge.ask(&format!("1 {third_entry}"));
    assert!(answer.starts_with(r#"{"size": 70, "cosignatures": 1, "#), "{answer}");
    // A witness that does not know the log.
    let other = TestServer::start(crate::support::new_witness());
    let (name, key) = (third_entry.split(' ').next().unwrap(), third_entry.split(' ').next_back().unwrap());
    let answer = judge.ask(&format!("1 {name} {} {key}", other.url));
    assert!(
        answer.contains(r#""cosignatures": 0, "outcomes": [{"name": "w2.example", "status": 404}]"#),
        "{answer}"
    );
}

#[test]
fn this_client_gets_cosignatures_from_its_witness() {
    let log = TestLog::new(80);
    let log_vkey = vkey(&log.key, SignatureType::Ed25519);
    let Some((_judge, first)) = Judge::start(&["serve", log.key.name(), &log_vkey.to_string(), "state"])
    else {
        return;
    };
    let (url, witness_vkey) = first.split_once(' ').unwrap();
    let policy = format!("log {log_vkey}\nwitness judge {witness_vkey} {url}\nquorum judge\n");
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let client = WitnessClient::new(&policy, ClientOptions::default()).unwrap();
    let submit = |log: &TestLog, previous_size: u64, size: u64| -> Submission {
        let prove = |old_size| Ok::<_, String>(log.prove(old_size, size));
        client.submit(&log.checkpoint(size), previous_size, prove)
    };
    let mut cosigned = 0;
    let sizes = [0, 1, 2, 3, 7, 8, 8, 9, 31, 33, 64, 70];
    for (previous, size) in [0].into_iter().chain(sizes).zip(sizes) {
        // With the right size, and with no idea.
        for previous_size in [previous, 0] {
            let submission = submit(&log, previous_size, size);
            assert!(submission.failures.is_empty(), "{size}: {submission:?}");
            let mut checkpoint = log.checkpoint(size);
            checkpoint.add_signatures(submission.signatures()).unwrap();
            assert_eq!(policy.check(&checkpoint).unwrap().cosigners.len(), 1);
            cosigned += 1;
        }
    }
    println!("witness-log {VERSION} cosigned {cosigned} checkpoints of this client");
    let failure =
        |log: &TestLog, previous_size, size| submit(log, previous_size, size).failures.pop().unwrap().error;
    // Rewritten, truncated, by another key.
    let error = failure(&log.rewritten_from(60), 70, 80);
    assert!(
        matches!(error, SubmitError::Inconsistent { .. }) && error.to_string().contains("rewritten"),
        "{error}"
    );
    let error = failure(&log.rewritten_from(60), 70, 70);
    assert!(matches!(error, SubmitError::Inconsistent { .. }), "{error}");
    let error = failure(&log, 70, 69);
    assert!(
        error.to_string().contains("it has cosigned 70 events of this log, but the checkpoint has 69"),
        "{error}"
    );
    let error = failure(&TestLog::with_origin("example.com/other", 80), 0, 80);
    assert!(matches!(error, SubmitError::Refused { .. }) && error.to_string().contains("404"), "{error}");
    assert!(submit(&log, 70, 80).failures.is_empty());
}

/// Both witnesses get the same requests, most of them with a random change. They accept the same
/// ones, and refuse those that have only one fault with the same status code.
#[test]
fn its_witness_and_this_one_give_the_same_status_codes() {
    let log = TestLog::new(3000);
    let log_vkey = vkey(&log.key, SignatureType::Ed25519);
    let Some((_judge, first)) = Judge::start(&["serve", log.key.name(), &log_vkey.to_string(), "state"])
    else {
        return;
    };
    let address = first.split_once(' ').unwrap().0.strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/prefix").unwrap().parse().unwrap();
    let server = TestServer::start(crate::support::new_witness());
    let mut rng = Rng::new(3);
    let mut counts = BTreeMap::new();
    let mut size = 0;
    for round in 0..1500 {
        let old_size = if rng.below(8) == 0 { rng.below(size + 2) } else { size };
        let next = old_size + rng.below(4);
        let honest = log.request(old_size as u64, next as u64).encode().into_bytes();
        let body = if round % 4 == 0 { honest } else { mutate(&honest, &mut rng) };
        let ours = server.post(&body);
        let theirs = post(address, "/prefix/add-checkpoint", &body);
        let text = String::from_utf8_lossy(&body);
        // A request may be refused for more than one reason: it is malformed, or neither the log
        // nor a signature is known.
        let refuses = |status: u16| (400..500).contains(&status);
        let agree = ours.status == theirs.status
            || (ours.status == 400 && refuses(theirs.status))
            || (ours.status == 404 && theirs.status == 403);
        assert!(agree, "{text}{ours:?}{theirs:?}");
        if ours.status == 409 {
            assert_eq!((ours.body, ours.content_type), (theirs.body, theirs.content_type));
        }
        if ours.status == 200 {
            size = next;
        }
        *counts.entry(ours.status).or_insert(0) += 1;
    }
    println!("status codes of both witnesses: {counts:?}");
    assert!([200, 400, 403, 404, 409, 422].iter().all(|status| counts.contains_key(status)), "{counts:?}");
}
