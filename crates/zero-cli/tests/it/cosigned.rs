//! `zero-bus checkpoint --policy`: real witnesses cosign, are away, come back, and refuse.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use zero_bus::Value;
use zero_proof::SignedCheckpoint;
use zero_proof::key::SignatureType;

use crate::support::proofs::{KEYS, read_key, rewrite_log, set_up};
use crate::support::{BUS, Finished, append_events, bus, temp_dir};

/// A witness of the log of [`set_up`], with its key and state in a directory of its own.
struct Witness {
    name: &'static str,
    port: u16,
    child: Option<Child>,
}

impl Witness {
    fn start(dir: &Path, name: &'static str) -> Self {
        Self::start_with(dir, name, &[])
    }

    fn start_with(dir: &Path, name: &'static str, options: &[&str]) -> Self {
        bus(dir, &["key", "new", "--name", name, "-o", &format!("{name}.key")]).success();
        let mut witness = Self { name, port: 0, child: None };
        witness.resume_with(dir, options);
        witness
    }

    /// Starts it on the same port as before.
    fn resume(&mut self, dir: &Path) {
        self.resume_with(dir, &[]);
    }

    fn resume_with(&mut self, dir: &Path, options: &[&str]) {
        let log = read_key(dir, "log.key").verifier_key(SignatureType::Ed25519).unwrap().to_string();
        let (listen, key) = (format!("127.0.0.1:{}", self.port), format!("{}.key", self.name));
        let mut child = Command::new(BUS)
            .args(["witness", "--listen", &listen, "--key", &key, "--state", self.name, "--log", &log])
            .args(options)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.port = line.trim_end().rsplit_once(':').unwrap().1.parse().unwrap();
        self.child = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes `both`: the log, and these witnesses, all of which must cosign.
fn write_policy(dir: &Path, witnesses: &[&Witness]) {
    let log = read_key(dir, "log.key").verifier_key(SignatureType::Ed25519).unwrap();
    let mut text = format!("log {log}\n");
    for Witness { name, port, .. } in witnesses {
        let key = read_key(dir, &format!("{name}.key"));
        let vkey = key.verifier_key(SignatureType::CosignatureEd25519).unwrap();
        text += &format!("witness {name} {vkey} http://127.0.0.1:{port}\n");
    }
    let names: Vec<&str> = witnesses.iter().map(|witness| witness.name).collect();
    text += &format!("group all all {}\nquorum all\n", names.join(" "));
    fs::write(dir.join("both"), text).unwrap();
}

fn checkpoint(dir: &Path, options: &[&str]) -> Finished {
    bus(dir, &[&["checkpoint", "bus", "--policy", "both"], &KEYS[..], options].concat())
}

fn cosigners(document: &str) -> Vec<(String, u64)> {
    let document = Value::parse(document.trim_end()).unwrap();
    let Some(Value::Array(items)) = document.get("cosigned_by") else { panic!("{document:?}") };
    let of = |item: &Value| {
        let name = item.get("witness").and_then(Value::as_str).unwrap().to_owned();
        (name, item.get("timestamp").and_then(Value::as_u64).unwrap())
    };
    items.iter().map(of).collect()
}

#[test]
fn witnesses_cosign_and_those_that_were_away_are_asked_again() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 5);
    let (w1, mut w2) = (Witness::start(dir, "w1"), Witness::start(dir, "w2"));
    write_policy(dir, &[&w1, &w2]);
    let signed = SignedCheckpoint::parse(checkpoint(dir, &[]).success().as_bytes()).unwrap();
    assert_eq!(signed.note().signatures().len(), 3);
    // Larger by any number of events; the witnesses get a consistency proof.
    append_events(dir, 300);
    checkpoint(dir, &[]).success();
    w2.stop();
    append_events(dir, 3);
    let away = checkpoint(dir, &["--json"]);
    assert_eq!(away.code, 1);
    assert!(away.stderr.contains("warning: w2: http://127.0.0.1:"), "{}", away.stderr);
    assert!(away.stderr.contains("does not meet the quorum `all`; cosigned by: w1"), "{}", away.stderr);
    let first = cosigners(&away.stdout);
    assert_eq!(first.len(), 1);
    assert!(away.stdout.contains("\"quorum\":false"), "{}", away.stdout);
    // The events that only one has cosigned are not anchored.
    let verify = ["verify", "bus", "--policy", "both", "--secret", "bus.secret"];
    let printed = bus(dir, &verify).success();
    assert!(printed.contains("anchored up to 305 of 308, cosigned by 2 witnesses at 20"), "{printed}");
    // It has missed nothing when it is back. The time of the other one stays.
    w2.resume(dir);
    let both = cosigners(&checkpoint(dir, &["--json"]).success());
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    assert!(bus(dir, &verify).success().contains("anchored up to 308 of 308, cosigned by 2 witnesses"));
    // Once both have cosigned, nobody is asked.
    w2.stop();
    assert_eq!(cosigners(&checkpoint(dir, &["--json"]).success()), both);
    // The proof shows who has cosigned.
    bus(dir, &["prove", "bus", "7", "--secret", "bus.secret", "--reveal", "*", "-o", "p"]).success();
    let shown = bus(dir, &["check", "p", "--policy", "both"]).success();
    assert!(
        shown.contains("cosigned by witness w1 at 20") && shown.contains("cosigned by witness w2 at 20"),
        "{shown}"
    );
    bus(dir, &["check", "p", "--policy", "policy"]).success();
}

/// Whoever deletes the operator's state does not get past the witnesses.
#[test]
fn witnesses_refuse_a_log_that_was_rewritten() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 6);
    let w1 = Witness::start(dir, "w1");
    write_policy(dir, &[&w1]);
    checkpoint(dir, &[]).success();
    rewrite_log(dir, 4);
    append_events(dir, 2);
    let message = checkpoint(dir, &[]).failure(1);
    assert!(message.contains("event 4 differs or is missing"), "{message}");
    fs::remove_dir_all(dir.join("bus.checkpoints")).unwrap();
    fs::remove_dir_all(dir.join("bus/tiles")).unwrap();
    let refused = checkpoint(dir, &["--json"]);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(refused.stderr.contains("warning: w1: "), "{}", refused.stderr);
    // No stored checkpoint shows that it ever cosigned this log.
    assert!(refused.stderr.contains("nothing here confirms it"), "{}", refused.stderr);
    assert_eq!(cosigners(&refused.stdout), []);
    let verified = bus(dir, &["verify", "bus", "--policy", "both", "--secret", "bus.secret"]);
    assert_eq!(verified.code, 1, "{}", verified.stdout);
}

#[test]
fn the_authorities_of_the_witnesses_can_be_named() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 2);
    for name in ["cert", "other"] {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.cert.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), certificate.signing_key.serialize_pem()).unwrap();
    }
    fs::set_permissions(dir.join("cert.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let w1 = Witness::start_with(dir, "w1", &["--tls-cert", "cert.pem", "--tls-key", "cert.key"]);
    write_policy(dir, &[&w1]);
    let policy = fs::read_to_string(dir.join("both")).unwrap();
    fs::write(dir.join("both"), policy.replace("http://127.0.0.1", "https://localhost")).unwrap();
    for options in [&[][..], &["--ca-file", "other.pem"]] {
        assert_eq!(checkpoint(dir, options).code, 1, "{options:?}");
    }
    checkpoint(dir, &["--ca-file", "cert.pem"]).success();
    let message = checkpoint(dir, &["--ca-file", "missing.pem"]).failure(2);
    assert!(message.contains("missing.pem"), "{message}");
    let arguments = [&["checkpoint", "bus", "--ca-file", "cert.pem"], &KEYS[..]].concat();
    assert!(bus(dir, &arguments).stderr.contains("--policy"));
}

#[test]
fn a_service_goes_on_without_a_witness_and_asks_it_again() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 2);
    let (w1, mut w2) = (Witness::start(dir, "w1"), Witness::start(dir, "w2"));
    write_policy(dir, &[&w1, &w2]);
    w2.stop();
    let mut child = Command::new(BUS)
        .args([&["checkpoint", "bus", "--policy", "both", "--every", "1s"], &KEYS[..]].concat())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.next().unwrap();
    assert!(line.ends_with("  2 events, cosigned by w1; no quorum yet"), "{line}");
    append_events(dir, 1);
    let line = lines.next().unwrap();
    assert!(line.ends_with("  3 events, cosigned by w1; no quorum yet"), "{line}");
    w2.resume(dir);
    let line = lines.next().unwrap();
    assert!(line.ends_with("  3 events, cosigned by w1, w2"), "{line}");
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let warnings: Vec<&str> = stderr.lines().collect();
    assert_eq!(warnings.len(), 2, "{stderr}");
    assert!(
        warnings[0].contains("w2: ") && warnings[0].ends_with("going on without its cosignature"),
        "{stderr}"
    );
    assert!(warnings[1].ends_with("w2: cosigns again"), "{stderr}");
}
