//! `zero-bus ingest`: a receiver that is queried, stopped and killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{
    BUS, Finished, append_events, bus, events, root, rounds, run, temp_dir, venv, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::{Bus, Draft, Head, Reader};
use zero_mirror::{Error, Http, Mirror, Record, Token};

/// A receiver process. It is killed when this is dropped.
struct Receiver {
    dir: PathBuf,
    child: Child,
    url: String,
}

impl Receiver {
    /// Starts a receiver in a directory. Returns once it listens.
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_at(dir, "127.0.0.1:0", arguments)
    }

    fn start_at(dir: &Path, listen: &str, arguments: &[&str]) -> Self {
        let stderr = fs::File::options().create(true).append(true).open(dir.join("receiver.err")).unwrap();
        let child = Command::new(BUS)
            .args(["ingest", "--listen", listen])
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut receiver = Self { dir: dir.to_owned(), child, url: String::new() };
        let mut line = String::new();
        BufReader::new(receiver.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ");
        receiver.url = url.unwrap_or_else(|| panic!("{line}{}", receiver.stderr())).to_owned();
        receiver
    }

    /// Starts a receiver with a token for any bus.
    fn start_with_token(dir: &Path) -> (Self, String) {
        let token = create_token(dir, &["--bus", "any"]);
        (Self::start(dir, &["--to", "sqlite:store.db", "--tokens", "tokens"]), token)
    }

    fn address(&self) -> &str {
        self.url.split_once("//").unwrap().1
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.dir.join("receiver.err")).unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Creates a token in the file `tokens`.
fn create_token(dir: &Path, arguments: &[&str]) -> String {
    let stdout = bus(dir, &[&["ingest", "token", "--tokens", "tokens"], arguments].concat()).success();
    stdout.trim_end().to_owned()
}

fn client(url: &str, token: &str) -> Http {
    Http::with_token(url, Token::parse(token)).unwrap()
}

/// Runs `zero-bus` with a token in its environment.
fn bus_with_token(dir: &Path, token: &str, arguments: &[&str]) -> Finished {
    let mut command = Command::new(BUS);
    command.args(arguments).current_dir(dir).env("ZERO_MIRROR_TOKEN", token);
    command.stdin(Stdio::null()).output().unwrap().into()
}

/// A chain of small events.
fn make_chain(events: usize) -> Vec<Record> {
    let temp = temp_dir();
    let bus = Bus::open(temp.path()).unwrap();
    let drafts = (0..events).map(|n| Draft::new("a.kind", n as f64, &BTreeMap::from([("n", n)])).unwrap());
    let record = |event: zero_bus::Event| Record { line: event.line(), event };
    bus.append_batch(drafts.collect()).unwrap().into_iter().map(record).collect()
}

fn head(chain: &[Record]) -> Head {
    chain.last().map(|last| last.event.head()).unwrap_or_default()
}

/// Asserts that a mirror holds a prefix of the chain. Returns its length.
fn assert_holds_prefix(mirror: &mut dyn Mirror, chain: &[Record]) -> usize {
    let bus = chain[0].event.checksum;
    let index = mirror.head(bus).unwrap().index as usize;
    let mut lines = Vec::new();
    loop {
        let page = mirror.lines(bus, lines.len() as u64 + 1).unwrap();
        if page.is_empty() {
            break;
        }
        lines.extend(page.into_iter().map(|(_, line)| line));
    }
    assert_eq!(lines.len(), index);
    assert!(chain[..index].iter().map(|record| &record.line).eq(&lines));
    index
}

#[test]
fn a_bus_is_sent_and_restored_byte_for_byte() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 3000);
    let (receiver, token) = Receiver::start_with_token(dir);
    let url = &receiver.url;
    bus_with_token(dir, &token, &["mirror", "bus", "--to", url]).success();
    bus_with_token(dir, &token, &["mirror-verify", url]).success();
    append_events(dir, 500);
    bus_with_token(dir, &token, &["mirror", "bus", "--to", url]).success();
    bus_with_token(dir, &token, &["restore", "again", "--from", url]).success();
    let log = |name: &str| fs::read(dir.join(name).join("events.jsonl")).unwrap();
    assert_eq!(log("bus"), log("again"));
    assert_eq!(bus(dir, &["mirror-verify", "sqlite:store.db"]).code, 0);

    // Another chain is distinguished from a bus that is lagging.
    bus_with_token(dir, &token, &["restore", "other", "--from", url]).success();
    let ours = fs::read_to_string(dir.join("bus/events.jsonl")).unwrap();
    let part: String = ours.lines().take(2000).map(|line| format!("{line}\n")).collect();
    fs::write(dir.join("other/events.jsonl"), part).unwrap();
    bus(dir, &["append", "other", "--type", "other", "{}"]).success();
    let output = bus_with_token(dir, &token, &["mirror", "other", "--to", url]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("event 2001 is the first that differs"), "{}", output.stderr);
    assert_eq!(receiver.terminate(), Some(0));
    assert_eq!(fs::metadata(dir.join("store.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// The store holds each acknowledged event once, whenever the receiver is killed.
#[test]
fn a_killed_receiver_keeps_every_acknowledged_event() {
    const KILLS: usize = 25;
    let temp = temp_dir();
    let dir = temp.path();
    let token = create_token(dir, &["--bus", "any"]);
    let chain = make_chain(40_000);
    let bus = chain[0].event.checksum;
    let arguments = ["--to", "sqlite:store.db", "--tokens", "tokens"];
    let mut receiver = Receiver::start(dir, &arguments);
    let listen = receiver.address().to_owned();
    let (mut sent, mut stored_unacknowledged) = (0, 0);
    for kill in 0..KILLS {
        let (batch_sender, batches) = std::sync::mpsc::channel();
        let acknowledged = std::thread::scope(|scope| {
            let (chain, url, token) = (&chain, receiver.url.clone(), &token);
            let sender = scope.spawn(move || {
                let mut client = client(&url, token);
                let mut sent = sent;
                let size = [1, 7, 100, 1000][kill % 4];
                while sent < chain.len() {
                    let end = chain.len().min(sent + size);
                    match client.append(bus, head(&chain[..sent]), &chain[sent..end]) {
                        Ok(()) => sent = end,
                        Err(Error::Unavailable { .. }) => break,
                        Err(error) => panic!("{error}"),
                    }
                    let _ = batch_sender.send(());
                }
                sent
            });
            // Kills it after some acknowledgements, during the next batch.
            batches.iter().take(1 + kill % 5).for_each(drop);
            receiver.kill();
            sender.join().unwrap()
        });
        receiver = Receiver::start_at(dir, &listen, &arguments);
        let stored = assert_holds_prefix(&mut client(&receiver.url, &token), &chain);
        assert!(acknowledged <= stored, "kill {kill}: {acknowledged} acknowledged, {stored} stored");
        stored_unacknowledged += usize::from(acknowledged < stored);
        sent = stored;
    }
    client(&receiver.url, &token).append(bus, head(&chain[..sent]), &chain[sent..]).unwrap();
    assert_eq!(assert_holds_prefix(&mut client(&receiver.url, &token), &chain), chain.len());
    println!("{KILLS} kills, {stored_unacknowledged} between the commit and the acknowledgement");
}

#[test]
fn a_following_mirror_survives_restarts_of_the_receiver() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 10);
    let (mut receiver, token) = Receiver::start_with_token(dir);
    let listen = receiver.address().to_owned();
    let following = Command::new(BUS)
        .args(["mirror", "bus", "--to", &receiver.url, "--follow"])
        .current_dir(dir)
        .env("ZERO_MIRROR_TOKEN", &token)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Wrapped so that it is killed if the test fails.
    let mut following = Receiver { dir: dir.to_owned(), child: following, url: String::new() };
    let wait_until_mirrored = |receiver: &Receiver| {
        let head = Reader::open(dir.join("bus")).unwrap().head().unwrap();
        let bus = events(dir)[0].checksum;
        let url = receiver.url.clone();
        wait_until(|| client(&url, &token).head(bus).is_ok_and(|mirrored| mirrored == head));
    };
    wait_until_mirrored(&receiver);
    for _ in 0..4 {
        append_events(dir, 50);
        receiver.kill();
        append_events(dir, 50);
        receiver = Receiver::start_at(dir, &listen, &["--to", "sqlite:store.db", "--tokens", "tokens"]);
        wait_until_mirrored(&receiver);
    }
    kill_process(Pid::from_child(&following.child), Signal::TERM).unwrap();
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
    bus_with_token(dir, &token, &["restore", "again", "--from", &receiver.url]).success();
    let log = |name: &str| fs::read(dir.join(name).join("events.jsonl")).unwrap();
    assert_eq!(log("bus"), log("again"));
}

#[test]
fn a_receiver_answers_the_requests_in_progress_before_it_stops() {
    let temp = temp_dir();
    let dir = temp.path();
    let chain = make_chain(20_000);
    let bus = chain[0].event.checksum;
    let (receiver, token) = Receiver::start_with_token(dir);
    let pid = Pid::from_child(&receiver.child);
    let (batch_sender, batches) = std::sync::mpsc::channel();
    let acknowledged = std::thread::scope(|scope| {
        let (chain, url, token) = (&chain, receiver.url.clone(), &token);
        let sender = scope.spawn(move || {
            let mut client = client(&url, token);
            let mut sent = 0;
            while sent < chain.len()
                && client.append(bus, head(&chain[..sent]), &chain[sent..sent + 50]).is_ok()
            {
                sent += 50;
                let _ = batch_sender.send(());
            }
            sent
        });
        batches.iter().take(5).for_each(drop);
        kill_process(pid, Signal::TERM).unwrap();
        sender.join().unwrap()
    });
    assert!((250..chain.len()).contains(&acknowledged), "{acknowledged}");
    // Every accepted request is answered, so the store holds no batch without an acknowledgement.
    let mut receiver = receiver;
    assert_eq!(receiver.child.wait().unwrap().code(), Some(0));
    assert_eq!(
        assert_holds_prefix(
            &mut *zero_mirror::open(&format!("sqlite:{}/store.db", dir.display())).unwrap(),
            &chain
        ),
        acknowledged
    );
    assert_eq!(receiver.stderr(), "");
}

#[test]
fn tokens_and_passwords_are_in_no_output_and_no_file() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 10);
    let (receiver, secret) = Receiver::start_with_token(dir);
    let reading = create_token(dir, &["--bus", "any", "--read-only", "--name", "reader"]);
    assert!(secret.len() > 64 && secret != reading);
    let url = &receiver.url;
    let both = |finished: Finished| format!("{}{}", finished.stdout, finished.stderr);
    // Each way in which a token can be wrong.
    let mut printed = String::new();
    printed += &both(bus_with_token(dir, &reading, &["mirror", "bus", "--to", url]));
    assert!(printed.contains("reading"), "{printed}");
    printed += &both(bus_with_token(dir, &format!("{secret}x"), &["mirror", "bus", "--to", url]));
    assert!(printed.contains("does not know the token"), "{printed}");
    printed += &both(bus_with_token(dir, &format!("{secret}\u{e9}"), &["mirror", "bus", "--to", url]));
    assert!(printed.contains("ZERO_MIRROR_TOKEN: holds no token"), "{printed}");
    printed += &both(bus(dir, &["mirror", "bus", "--to", url]));
    let with_password = url.replace("//", "//me:zero_mirror_pass@");
    let output = bus(dir, &["mirror", "bus", "--to", &with_password]);
    assert_eq!(output.code, 2);
    printed += &both(output);
    assert!(printed.contains("ZERO_MIRROR_TOKEN_FILE"), "{printed}");
    printed += &both(bus(dir, &["ingest", "--listen", "127.0.0.1:0", "--to", &with_password]));

    // The token in a file.
    fs::write(dir.join("secret"), format!("{secret}\n")).unwrap();
    let in_file = |mode| {
        fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(mode)).unwrap();
        let mut command = Command::new(BUS);
        command.args(["mirror", "bus", "--to", url]).current_dir(dir).env("ZERO_MIRROR_TOKEN_FILE", "secret");
        Finished::from(command.output().unwrap())
    };
    let message = in_file(0o640).failure(2);
    assert!(message.contains("chmod 600"), "{message}");
    printed += &message;
    printed += &in_file(0o600).success();

    printed += &receiver.stderr();
    printed += &fs::read_to_string(dir.join("tokens")).unwrap();
    printed += &String::from_utf8_lossy(&fs::read(format!("/proc/{}/cmdline", receiver.child.id())).unwrap());
    for secret in [&secret[..], &reading, &secret[12..], "zero_mirror_pass"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert_eq!(fs::metadata(dir.join("tokens")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn tls_accepts_only_the_configured_certificate() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 10);
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), certificate.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(dir.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let token = create_token(dir, &["--bus", "first"]);
    let arguments =
        ["--to", "sqlite:store.db", "--tokens", "tokens", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let receiver = Receiver::start(dir, &arguments);
    assert!(receiver.url.starts_with("https://127.0.0.1:"));
    let url = receiver.url.replace("127.0.0.1", "localhost");
    bus_with_token(dir, &token, &["mirror", "bus", "--to", &format!("{url}/?ca=cert.pem")]).success();
    let verify_with_ca = |certificate: &str| {
        let mut command = Command::new(BUS);
        command.args(["mirror-verify", &url]).current_dir(dir).env("ZERO_MIRROR_TOKEN", &token);
        Finished::from(command.env("SSL_CERT_FILE", certificate).output().unwrap())
    };
    verify_with_ca("cert.pem").success();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("other.pem"), other.cert.pem()).unwrap();
    let message = verify_with_ca("other.pem").failure(2);
    assert!(message.contains("?ca=PATH"), "{message}");
    assert_eq!(receiver.terminate(), Some(0));
}

#[test]
fn invalid_arguments_are_reported_in_one_line() {
    let temp = temp_dir();
    let dir = temp.path();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let used_address = listener.local_addr().unwrap().to_string();
    for (arguments, expected) in [
        (&[] as &[&str], "--listen"),
        (&["--listen", "127.0.0.1:0"], "--to"),
        (&["--listen", "localhost", "--to", "sqlite:x.db"], "--listen"),
        (&["--listen", "127.0.0.1:0", "--to", "http://127.0.0.1:1"], "sqlite:PATH"),
        (&["--listen", "127.0.0.1:0", "--to", "nats://x/y"], "sqlite:PATH"),
        (&["--listen", "0.0.0.0:0", "--to", "sqlite:x.db"], "tokens file"),
        (&["--listen", "[::]:0", "--to", "sqlite:x.db"], "tokens file"),
        (&["--listen", "127.0.0.1:0", "--to", "sqlite:x.db", "--tokens", "none"], "none"),
        (&["--listen", "127.0.0.1:0", "--to", "sqlite:x.db", "--tls-cert", "x"], "--tls-key"),
        (
            &["--listen", "127.0.0.1:0", "--to", "sqlite:x.db", "--tls-cert", "x", "--tls-key", "y"],
            "x: cannot",
        ),
        (&["--listen", "127.0.0.1:0", "--to", "sqlite:no/such/place.db"], "no/such/place.db"),
        (&["--listen", &used_address, "--to", "sqlite:x.db"], "cannot listen"),
        (&["token", "--bus", "any"], "--tokens"),
        (&["token", "--tokens", "t", "--bus", "sha256:12"], "`any`"),
        (&["token", "--tokens", "t", "--bus", "any", "--name", "a b"], "a token's name has"),
        (&["token", "--tokens", "no/t", "--bus", "any"], "no/t"),
    ] {
        let output = bus(dir, &[&["ingest"], arguments].concat());
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{arguments:?}: {}", output.stderr);
        let last = output.stderr.lines().last().unwrap();
        assert!(
            last.contains(expected) && !output.stderr.contains("panicked"),
            "{arguments:?}: {}",
            output.stderr
        );
    }
}

#[test]
fn the_api_conforms_to_its_openapi_document() {
    if std::env::var_os("ZERO_TEST_WITHOUT_SCHEMATHESIS").is_some_and(|value| value == "1") {
        println!("SKIPPED: docs/openapi.json, because ZERO_TEST_WITHOUT_SCHEMATHESIS is set");
        return;
    }
    let schemathesis = schemathesis();
    let temp = temp_dir();
    let dir = temp.path();
    let token = create_token(dir, &["--bus", "any"]);
    let receiver =
        Receiver::start(dir, &["--to", "sqlite:store.db", "--tokens", "tokens", "--rate", "1000000"]);
    // Events to read.
    append_events(dir, 10);
    bus_with_token(dir, &token, &["mirror", "bus", "--to", &receiver.url]).success();
    let settings = root().join("crates/zero-cli/tests/schemathesis").canonicalize().unwrap();
    let document = root().join("docs/openapi.json").canonicalize().unwrap();
    let output = Command::new(schemathesis)
        .arg("--config-file")
        .arg(settings.join("schemathesis.toml"))
        .arg("run")
        .arg(document)
        .args(["--url", &receiver.url, "--checks", "all", "--seed", "1"])
        .args(["--max-examples", &rounds(15, 200).to_string()])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--generation-database", "none", "--no-color", "--continue-on-failure"])
        .env("SCHEMATHESIS_HOOKS", settings.join("hooks.py"))
        .current_dir(dir)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}{}", receiver.stderr());
    assert!(stdout.contains("Tested: 7"), "{stdout}");
    println!("{}", stdout.lines().find(|line| line.contains(" generated, ")).unwrap().trim());
    assert_eq!(receiver.stderr(), "");
    assert_eq!(receiver.terminate(), Some(0));
}

/// Installs schemathesis from the package index once. Returns the path of the program.
fn schemathesis() -> PathBuf {
    const VERSION: &str = "4.32.5";
    venv::with_package("schemathesis", VERSION, "ZERO_TEST_WITHOUT_SCHEMATHESIS").join("schemathesis")
}

#[test]
fn ingest_and_its_token_command_are_in_the_help() {
    let temp = temp_dir();
    assert!(run(BUS, temp.path(), &["--help"]).success().contains("ingest"));
    assert!(bus(temp.path(), &["ingest", "token", "--help"]).success().contains("--read-only"));
}
