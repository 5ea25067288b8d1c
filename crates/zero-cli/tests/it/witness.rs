//! `zero-bus witness`: a witness that is queried, stopped and killed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::process::{Pid, Signal, kill_process};
use zero_proof::key::SignatureType;
use zero_proof::{SignedCheckpoint, SigningKey};
use zero_witness::witness::hash_origin;

use crate::support::proofs::{checkpoint, set_up};
use crate::support::{BUS, bus, temp_dir, wait_until};
use crate::test_log::{ORIGIN, TestLog, ed25519_signer, log_vkey, vkey};

const WITNESS: &str = "witness.example";

/// A witness process. It is killed when this is dropped.
struct WitnessProcess {
    dir: PathBuf,
    child: Child,
    url: String,
}

impl WitnessProcess {
    /// Starts a witness of [`ORIGIN`] in a directory. Returns once it listens.
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let log = log_vkey(ORIGIN).to_string();
        let stderr = fs::File::options().create(true).append(true).open(dir.join("witness.err")).unwrap();
        let child = Command::new(BUS)
            .args(["witness", "--listen", "127.0.0.1:0", "--key", "key", "--state", "state", "--log", &log])
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut witness = Self { dir: dir.to_owned(), child, url: String::new() };
        let mut line = String::new();
        BufReader::new(witness.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ");
        witness.url = url.unwrap_or_else(|| panic!("{line}{}", witness.stderr())).to_owned();
        witness
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.dir.join("witness.err")).unwrap()
    }

    fn address(&self) -> &str {
        self.url.split_once("//").unwrap().1
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    fn served(&self) -> Option<SignedCheckpoint> {
        let path = format!("/{}/checkpoint", hash_origin(ORIGIN));
        let (status, body) = exchange(self.address(), &format!("GET {path} HTTP/1.1\r\n"), "").unwrap();
        (status == 200).then(|| SignedCheckpoint::parse(body.as_bytes()).unwrap())
    }
}

impl Drop for WitnessProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status code and the body; `None` if the server has gone.
fn exchange(address: &str, request_line: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    let head = format!("{request_line}Host: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let (head, body) = response.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn submit(address: &str, log: &TestLog, old_size: u64, size: u64) -> Option<u16> {
    let request = log.request(old_size, size).encode();
    exchange(address, "POST /add-checkpoint HTTP/1.1\r\n", &request).map(|(status, _)| status)
}

fn write_key(path: &Path, key: &SigningKey) {
    fs::write(path, key.encode().as_bytes()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A directory with the key of a witness.
fn witness_dir() -> tempfile::TempDir {
    let temp = temp_dir();
    write_key(&temp.path().join("key"), &ed25519_signer(WITNESS));
    temp
}

#[test]
fn a_witness_cosigns_across_restarts_and_stops_on_sigterm() {
    let temp = witness_dir();
    let dir = temp.path();
    let log = TestLog::new(9);
    let witness = WitnessProcess::start(dir, &[]);
    assert_eq!(submit(witness.address(), &log, 0, 5), Some(200));
    let key = vkey(&ed25519_signer(WITNESS), SignatureType::CosignatureEd25519);
    let served = witness.served().unwrap();
    // The time is that of the system.
    assert!(served.verify([&key]).unwrap()[0].timestamp.unwrap() > 1_700_000_000);
    assert_eq!(witness.terminate(), Some(0));

    let witness = WitnessProcess::start(dir, &[]);
    assert_eq!(witness.served().unwrap(), served);
    assert_eq!(submit(witness.address(), &log.rewritten_from(2), 5, 9), Some(422));
    assert_eq!(submit(witness.address(), &log, 5, 9), Some(200));
    // Another witness cannot use the state.
    let log = log_vkey(ORIGIN).to_string();
    let second = ["witness", "--listen", "127.0.0.1:0", "--key", "key", "--state", "state", "--log", &log];
    assert!(bus(dir, &second).failure(2).contains("another witness uses this state"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.join("state")), 0o700);
    for entry in fs::read_dir(dir.join("state")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    let stderr = witness.stderr();
    assert!(stderr.contains("a checkpoint of 9 events of `example.com/bus` was refused"), "{stderr}");
    assert_eq!(witness.terminate(), Some(0));
}

/// SIGKILL while checkpoints are submitted. What was answered with 200 is in the state.
#[test]
fn a_killed_witness_remembers_what_it_answered() {
    let temp = witness_dir();
    let log = TestLog::new(10_000);
    let rounds = if std::env::var_os("ZERO_TEST_SOAK").is_some() { 100 } else { 8 };
    let mut size = 0;
    for round in 1..=rounds {
        let witness = WitnessProcess::start(temp.path(), &[]);
        let served = witness.served().map_or(0, |served| served.checkpoint().size);
        assert!(served >= size, "round {round}: {served} after {size} was answered");
        size = served;
        let answered = AtomicU64::new(size);
        std::thread::scope(|scope| {
            let (log, answered, address) = (&log, &answered, witness.address().to_owned());
            scope.spawn(move || {
                for next in size + 1.. {
                    match submit(&address, log, next - 1, next) {
                        Some(200) => answered.store(next, Relaxed),
                        Some(status) => panic!("{status}"),
                        None => break,
                    }
                }
            });
            wait_until(|| answered.load(Relaxed) >= size + 3 * (round % 8));
            witness.kill();
        });
        size = answered.load(Relaxed);
    }
    let witness = WitnessProcess::start(temp.path(), &[]);
    let served = witness.served().unwrap();
    let served = served.checkpoint();
    // The last request may have been persisted without an answer.
    assert!(
        (size..=size + 1).contains(&served.size) && size >= 3 * (1 + 7) * 7 / 2,
        "{}, {size}",
        served.size
    );
    assert_eq!(served.root, log.root(served.size));
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let temp = witness_dir();
    let dir = temp.path();
    let vkey_of_log = log_vkey(ORIGIN).to_string();
    let run = |listen: &str, key: &str, log: &str| {
        bus(dir, &["witness", "--listen", listen, "--key", key, "--state", "state", "--log", log]).failure(2)
    };
    let message = run("0.0.0.0:0", "key", &vkey_of_log);
    assert!(message.contains("without TLS the answers could be changed on the network"), "{message}");
    let message = run("127.0.0.1:0", "missing", &vkey_of_log);
    assert!(message.contains("missing: cannot read it"), "{message}");
    let message = run("127.0.0.1:0", "key", "example.com/bus+00000000+AAAA");
    assert!(message.contains("vkey, byte"), "{message}");
    let witness_vkey = vkey(&ed25519_signer(ORIGIN), SignatureType::CosignatureEd25519).to_string();
    let message = run("127.0.0.1:0", "key", &witness_vkey);
    assert!(message.contains("a key of type 0x04 is for witnesses"), "{message}");
    fs::set_permissions(dir.join("key"), fs::Permissions::from_mode(0o640)).unwrap();
    let message = run("127.0.0.1:0", "key", &vkey_of_log);
    assert!(message.contains("other users may access it; run: chmod 600"), "{message}");
}

/// Starts a witness that is refused, and returns the message.
fn refused_start(dir: &Path, state: &str) -> String {
    let log = log_vkey(ORIGIN).to_string();
    bus(dir, &["witness", "--listen", "127.0.0.1:0", "--key", "key", "--state", state, "--log", &log])
        .failure(2)
}

#[test]
fn a_witness_starts_with_the_state_of_its_key_only() {
    let temp = witness_dir();
    let dir = temp.path();
    let witness = WitnessProcess::start(dir, &[]);
    assert_eq!(submit(witness.address(), &TestLog::new(5), 0, 5), Some(200));
    assert_eq!(witness.terminate(), Some(0));
    // A mistyped path, an empty directory, and the state of another witness.
    let message = refused_start(dir, "stat");
    assert!(
        message.contains("stat: does not exist; the key key is used with the state that was in"),
        "{message}"
    );
    assert!(message.contains("Name that state with --state") && !dir.join("stat").exists(), "{message}");
    fs::create_dir(dir.join("empty")).unwrap();
    assert!(
        refused_start(dir, "empty").contains("empty: is not that state, or has lost its file witness.id")
    );
    let other = witness_dir();
    assert_eq!(WitnessProcess::start(other.path(), &[]).terminate(), Some(0));
    fs::rename(other.path().join("state"), dir.join("other")).unwrap();
    assert!(refused_start(dir, "other").contains("other: is another state"));
    // The directory may move. The newest place is recorded.
    fs::rename(dir.join("state"), dir.join("moved")).unwrap();
    assert!(refused_start(dir, "state").contains("state: does not exist"));
    fs::create_dir(dir.join("links")).unwrap();
    std::os::unix::fs::symlink("../moved", dir.join("links/state")).unwrap();
    std::os::unix::fs::symlink("../key", dir.join("links/key")).unwrap();
    let witness = WitnessProcess::start(&dir.join("links"), &[]);
    assert_eq!(witness.served().unwrap().checkpoint().size, 5);
    assert_eq!(witness.terminate(), Some(0));
    assert!(fs::read_to_string(dir.join("key.used-for")).unwrap().ends_with("/moved\n"));
}

#[test]
fn a_witness_that_was_killed_before_its_key_was_recorded_starts_again() {
    let temp = witness_dir();
    let dir = temp.path();
    assert_eq!(WitnessProcess::start(dir, &[]).terminate(), Some(0));
    let (record, identity) = (dir.join("key.used-for"), dir.join("state/witness.id"));
    let before = fs::read(&identity).unwrap();
    // The identity of the state is written first.
    fs::remove_file(&record).unwrap();
    assert_eq!(WitnessProcess::start(dir, &[]).terminate(), Some(0));
    assert_eq!(fs::read(&identity).unwrap(), before);
    assert!(refused_start(dir, "elsewhere").contains("elsewhere: does not exist"));
    // What is damaged is named.
    fs::write(&identity, "").unwrap();
    assert!(refused_start(dir, "state").contains("witness.id: is not the identity of a witness state"));
    fs::write(&record, "").unwrap();
    assert!(
        refused_start(dir, "state").contains("does not say with which state the key of a witness is used")
    );
}

#[test]
fn a_foreign_or_writable_state_directory_is_refused() {
    let temp = witness_dir();
    let dir = temp.path();
    bus(dir, &["append", "bus", "--type", "first", "{}"]).success();
    for state in ["bus", "bus/state"] {
        let message = refused_start(dir, state);
        assert!(message.contains("is inside the bus"), "{message}");
    }
    fs::create_dir(dir.join("foreign")).unwrap();
    fs::write(dir.join("foreign/letters"), "").unwrap();
    assert!(refused_start(dir, "foreign").contains("foreign: holds letters, which no witness writes"));
    let witness = WitnessProcess::start(dir, &[]);
    assert_eq!(submit(witness.address(), &TestLog::new(5), 0, 5), Some(200));
    assert_eq!(witness.terminate(), Some(0));
    for path in [dir.join("state"), dir.join(format!("state/{}.checkpoint", hash_origin(ORIGIN)))] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o020)).unwrap();
        let message = refused_start(dir, "state");
        assert!(message.contains("other users may change it; run: chmod go-w"), "{message}");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(WitnessProcess::start(dir, &[]).terminate(), Some(0));
}

#[test]
fn a_key_is_that_of_a_log_or_of_a_witness() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 1);
    checkpoint(dir);
    fs::rename(dir.join("log.key"), dir.join("key")).unwrap();
    fs::rename(dir.join("log.key.used-for"), dir.join("key.used-for")).unwrap();
    assert!(refused_start(dir, "state").contains("says that the key is that of a log"));
    fs::remove_file(dir.join("key.used-for")).unwrap();
    assert_eq!(WitnessProcess::start(dir, &[]).terminate(), Some(0));
    let message = bus(dir, &["checkpoint", "bus", "--key", "key", "--secret", "bus.secret"]).failure(2);
    assert!(message.contains("says that the key is that of a witness"), "{message}");
}

#[test]
fn a_log_with_the_key_of_the_witness_is_warned_about() {
    let temp = witness_dir();
    let own = vkey(&ed25519_signer(WITNESS), SignatureType::Ed25519).to_string();
    let witness = WitnessProcess::start(temp.path(), &["--log", &own]);
    let stderr = witness.stderr();
    assert!(stderr.contains("the log `witness.example` signs with the key of this witness"), "{stderr}");
    assert_eq!(witness.terminate(), Some(0));
}
