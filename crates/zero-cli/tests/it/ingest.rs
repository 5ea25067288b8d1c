//! The receiving end of HTTP, as a real process that is asked, stopped and killed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{BUS, Ended, bus, events, fill, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::{Bus, Draft, Head, Reader};
use zero_mirror::{Error, Http, Mirror, Record, Token};

/// A receiver that is killed when this is dropped.
struct Receiver {
    directory: PathBuf,
    child: Child,
    url: String,
}

impl Receiver {
    /// Starts one in a directory, and waits until it listens.
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_at(directory, "127.0.0.1:0", arguments)
    }

    fn start_at(directory: &Path, listen: &str, arguments: &[&str]) -> Self {
        let errors = File::options().create(true).append(true).open(directory.join("receiver.err")).unwrap();
        let child = Command::new(BUS)
            .args(["ingest", "--listen", listen])
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut receiver = Self { directory: directory.to_owned(), child, url: String::new() };
        let mut line = String::new();
        BufReader::new(receiver.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ");
        receiver.url = url.unwrap_or_else(|| panic!("{line}{}", receiver.said())).to_owned();
        receiver
    }

    /// Starts one with a tokens file that has a token for any bus.
    fn start_with_token(directory: &Path) -> (Self, String) {
        let token = token(directory, &["--bus", "any"]);
        (Self::start(directory, &["--to", "sqlite:store.db", "--tokens", "tokens"]), token)
    }

    fn address(&self) -> &str {
        self.url.split_once("//").unwrap().1
    }

    fn said(&self) -> String {
        fs::read_to_string(self.directory.join("receiver.err")).unwrap()
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

/// Makes a token in the file `tokens`.
fn token(directory: &Path, arguments: &[&str]) -> String {
    let printed = bus(directory, &[&["ingest", "token", "--tokens", "tokens"], arguments].concat()).fine();
    printed.trim_end().to_owned()
}

fn client(url: &str, token: &str) -> Http {
    Http::with_token(url, Token::parse(token)).unwrap()
}

/// Runs `zero-bus` with a token in its environment.
fn with_token(directory: &Path, token: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(BUS);
    command.args(arguments).current_dir(directory).env("ZERO_MIRROR_TOKEN", token);
    command.stdin(Stdio::null()).output().unwrap().into()
}

fn chain(events: usize) -> Vec<Record> {
    let place = tempfile::tempdir().unwrap();
    let bus = Bus::open(place.path()).unwrap();
    let drafts = (0..events).map(|n| Draft::new("a.kind", n as f64, &BTreeMap::from([("n", n)])).unwrap());
    let record = |event: zero_bus::Event| Record { line: event.line(), event };
    bus.append_batch(drafts.collect()).unwrap().into_iter().map(record).collect()
}

fn head_of(chain: &[Record]) -> Head {
    chain.last().map(|last| last.event.head()).unwrap_or_default()
}

/// That a store holds the first of these events, and how many.
fn held(mirror: &mut dyn Mirror, chain: &[Record]) -> usize {
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
fn a_bus_goes_there_and_comes_back() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    fill(here, 3000);
    let (receiver, token) = Receiver::start_with_token(here);
    let url = &receiver.url;
    with_token(here, &token, &["mirror", "bus", "--to", url]).fine();
    with_token(here, &token, &["mirror-verify", url]).fine();
    fill(here, 500);
    with_token(here, &token, &["mirror", "bus", "--to", url]).fine();
    with_token(here, &token, &["restore", "again", "--from", url]).fine();
    let log = |name: &str| fs::read(here.join(name).join("events.jsonl")).unwrap();
    assert_eq!(log("bus"), log("again"));
    assert_eq!(bus(here, &["mirror-verify", "sqlite:store.db"]).code, 0);

    // Another chain is told from a bus that is merely behind.
    with_token(here, &token, &["restore", "other", "--from", url]).fine();
    let ours = fs::read_to_string(here.join("bus/events.jsonl")).unwrap();
    let part: String = ours.lines().take(2000).map(|line| format!("{line}\n")).collect();
    fs::write(here.join("other/events.jsonl"), part).unwrap();
    bus(here, &["append", "other", "--type", "other", "{}"]).fine();
    let ended = with_token(here, &token, &["mirror", "other", "--to", url]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("event 2001 is the first that differs"), "{}", ended.err);
    assert_eq!(receiver.terminate(), Some(0));
    assert_eq!(fs::metadata(here.join("store.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Whenever it is killed, everything that it acknowledged is there, and nothing twice.
#[test]
fn a_killed_receiver_loses_nothing_that_it_acknowledged() {
    const KILLS: usize = 25;
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let token = token(here, &["--bus", "any"]);
    let chain = chain(40_000);
    let bus = chain[0].event.checksum;
    let arguments = ["--to", "sqlite:store.db", "--tokens", "tokens"];
    let mut receiver = Receiver::start(here, &arguments);
    let listen = receiver.address().to_owned();
    let (mut at, mut in_the_middle) = (0, 0);
    for kill in 0..KILLS {
        let (told, heard) = std::sync::mpsc::channel();
        let acknowledged = std::thread::scope(|scope| {
            let (chain, url, token) = (&chain, receiver.url.clone(), &token);
            let sending = scope.spawn(move || {
                let mut client = client(&url, token);
                let mut at = at;
                let size = [1, 7, 100, 1000][kill % 4];
                while at < chain.len() {
                    let to = chain.len().min(at + size);
                    match client.append(bus, head_of(&chain[..at]), &chain[at..to]) {
                        Ok(()) => at = to,
                        Err(Error::Unavailable { .. }) => break,
                        Err(error) => panic!("{error}"),
                    }
                    let _ = told.send(());
                }
                at
            });
            // After some were acknowledged, in the midst of the next.
            heard.iter().take(1 + kill % 5).for_each(drop);
            receiver.kill();
            sending.join().unwrap()
        });
        receiver = Receiver::start_at(here, &listen, &arguments);
        let there = held(&mut client(&receiver.url, &token), &chain);
        assert!(acknowledged <= there, "kill {kill}: {acknowledged} were acknowledged, {there} are there");
        in_the_middle += usize::from(acknowledged < there);
        at = there;
    }
    client(&receiver.url, &token).append(bus, head_of(&chain[..at]), &chain[at..]).unwrap();
    assert_eq!(held(&mut client(&receiver.url, &token), &chain), chain.len());
    println!("{KILLS} kills, {in_the_middle} between the store and the answer");
}

#[test]
fn a_mirror_that_follows_outlives_its_receiver() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    fill(here, 10);
    let (mut receiver, token) = Receiver::start_with_token(here);
    let listen = receiver.address().to_owned();
    let following = Command::new(BUS)
        .args(["mirror", "bus", "--to", &receiver.url, "--follow"])
        .current_dir(here)
        .env("ZERO_MIRROR_TOKEN", &token)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut following = Receiver { directory: here.to_owned(), child: following, url: String::new() };
    let is_there = |receiver: &Receiver| {
        let head = Reader::open(here.join("bus")).unwrap().head().unwrap();
        let bus = events(here)[0].checksum;
        let url = receiver.url.clone();
        wait_until(|| client(&url, &token).head(bus).is_ok_and(|there| there == head));
    };
    is_there(&receiver);
    for _ in 0..4 {
        fill(here, 50);
        receiver.kill();
        fill(here, 50);
        receiver = Receiver::start_at(here, &listen, &["--to", "sqlite:store.db", "--tokens", "tokens"]);
        is_there(&receiver);
    }
    kill_process(Pid::from_child(&following.child), Signal::TERM).unwrap();
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
    with_token(here, &token, &["restore", "again", "--from", &receiver.url]).fine();
    let log = |name: &str| fs::read(here.join(name).join("events.jsonl")).unwrap();
    assert_eq!(log("bus"), log("again"));
}

#[test]
fn what_is_under_way_is_finished_when_it_is_asked_to_end() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let chain = chain(20_000);
    let bus = chain[0].event.checksum;
    let (receiver, token) = Receiver::start_with_token(here);
    let pid = Pid::from_child(&receiver.child);
    let (told, heard) = std::sync::mpsc::channel();
    let acknowledged = std::thread::scope(|scope| {
        let (chain, url, token) = (&chain, receiver.url.clone(), &token);
        let sending = scope.spawn(move || {
            let mut client = client(&url, token);
            let mut at = 0;
            while at < chain.len() && client.append(bus, head_of(&chain[..at]), &chain[at..at + 50]).is_ok() {
                at += 50;
                let _ = told.send(());
            }
            at
        });
        heard.iter().take(5).for_each(drop);
        kill_process(pid, Signal::TERM).unwrap();
        sending.join().unwrap()
    });
    assert!((250..chain.len()).contains(&acknowledged), "{acknowledged}");
    // Nobody who was let in is turned away without an answer, so no batch is there that was not acknowledged.
    let mut receiver = receiver;
    assert_eq!(receiver.child.wait().unwrap().code(), Some(0));
    assert_eq!(
        held(&mut *zero_mirror::open(&format!("sqlite:{}/store.db", here.display())).unwrap(), &chain),
        acknowledged
    );
    assert_eq!(receiver.said(), "");
}

#[test]
fn secrets_stay_where_they_belong() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    fill(here, 10);
    let (receiver, secret) = Receiver::start_with_token(here);
    let reading = token(here, &["--bus", "any", "--read-only", "--name", "reader"]);
    assert!(secret.len() > 64 && secret != reading);
    let url = &receiver.url;
    let all = |ended: Ended| format!("{}{}", ended.out, ended.err);
    // Wrong in every way that there is.
    let mut said = String::new();
    said += &all(with_token(here, &reading, &["mirror", "bus", "--to", url]));
    assert!(said.contains("reading"), "{said}");
    said += &all(with_token(here, &format!("{secret}x"), &["mirror", "bus", "--to", url]));
    assert!(said.contains("does not know the token"), "{said}");
    said += &all(with_token(here, &format!("{secret}\u{e9}"), &["mirror", "bus", "--to", url]));
    assert!(said.contains("ZERO_MIRROR_TOKEN: holds no token"), "{said}");
    said += &all(bus(here, &["mirror", "bus", "--to", url]));
    let with_password = url.replace("//", "//me:zero_mirror_pass@");
    let ended = bus(here, &["mirror", "bus", "--to", &with_password]);
    assert_eq!(ended.code, 2);
    said += &all(ended);
    assert!(said.contains("ZERO_MIRROR_TOKEN_FILE"), "{said}");
    said += &all(bus(here, &["ingest", "--listen", "127.0.0.1:0", "--to", &with_password]));

    // In a file of its own.
    fs::write(here.join("secret"), format!("{secret}\n")).unwrap();
    let in_file = |mode| {
        fs::set_permissions(here.join("secret"), fs::Permissions::from_mode(mode)).unwrap();
        let mut command = Command::new(BUS);
        command
            .args(["mirror", "bus", "--to", url])
            .current_dir(here)
            .env("ZERO_MIRROR_TOKEN_FILE", "secret");
        Ended::from(command.output().unwrap())
    };
    let refused = in_file(0o640).refused();
    assert!(refused.contains("chmod 600"), "{refused}");
    said += &refused;
    said += &in_file(0o600).fine();

    said += &receiver.said();
    said += &fs::read_to_string(here.join("tokens")).unwrap();
    said += &String::from_utf8_lossy(&fs::read(format!("/proc/{}/cmdline", receiver.child.id())).unwrap());
    for secret in [&secret[..], &reading, &secret[12..], "zero_mirror_pass"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert_eq!(fs::metadata(here.join("tokens")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_way_is_private_by_tls() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    fill(here, 10);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(here.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(here.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(here.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let token = token(here, &["--bus", "first"]);
    let arguments =
        ["--to", "sqlite:store.db", "--tokens", "tokens", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let receiver = Receiver::start(here, &arguments);
    assert!(receiver.url.starts_with("https://127.0.0.1:"));
    let url = receiver.url.replace("127.0.0.1", "localhost");
    with_token(here, &token, &["mirror", "bus", "--to", &format!("{url}/?ca=cert.pem")]).fine();
    let by_variable = |certificate: &str| {
        let mut command = Command::new(BUS);
        command.args(["mirror-verify", &url]).current_dir(here).env("ZERO_MIRROR_TOKEN", &token);
        Ended::from(command.env("SSL_CERT_FILE", certificate).output().unwrap())
    };
    by_variable("cert.pem").fine();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(here.join("other.pem"), other.cert.pem()).unwrap();
    let refused = by_variable("other.pem").refused();
    assert!(refused.contains("?ca=PATH"), "{refused}");
    assert_eq!(receiver.terminate(), Some(0));
}

#[test]
fn what_it_cannot_do_is_said_in_a_line() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = held.local_addr().unwrap().to_string();
    for (arguments, named) in [
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
        (&["--listen", &held, "--to", "sqlite:x.db"], "cannot listen"),
        (&["token", "--bus", "any"], "--tokens"),
        (&["token", "--tokens", "t", "--bus", "sha256:12"], "`any`"),
        (&["token", "--tokens", "t", "--bus", "any", "--name", "a b"], "a name has"),
        (&["token", "--tokens", "no/t", "--bus", "any"], "no/t"),
    ] {
        let ended = bus(here, &[&["ingest"], arguments].concat());
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}: {}", ended.err);
        let last = ended.err.lines().last().unwrap();
        assert!(last.contains(named) && !ended.err.contains("panicked"), "{arguments:?}: {}", ended.err);
    }
}

/// The document that is served holds for what is answered, whatever is asked.
#[test]
fn the_document_holds_for_whatever_is_asked() {
    if std::env::var_os("ZERO_TEST_WITHOUT_SCHEMATHESIS").is_some_and(|value| value == "1") {
        println!("SKIPPED: docs/openapi.json by schemathesis, as ZERO_TEST_WITHOUT_SCHEMATHESIS says");
        return;
    }
    let schemathesis = schemathesis();
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let token = token(here, &["--bus", "any"]);
    let receiver =
        Receiver::start(here, &["--to", "sqlite:store.db", "--tokens", "tokens", "--rate", "1000000"]);
    // Some events, so that there is something to be read.
    fill(here, 10);
    with_token(here, &token, &["mirror", "bus", "--to", &receiver.url]).fine();
    let told = crate::support::root().join("crates/zero-cli/tests/schemathesis").canonicalize().unwrap();
    let document = crate::support::root().join("docs/openapi.json").canonicalize().unwrap();
    let output = Command::new(schemathesis)
        .arg("--config-file")
        .arg(told.join("schemathesis.toml"))
        .arg("run")
        .arg(document)
        .args(["--url", &receiver.url, "--checks", "all", "--max-examples", "60", "--seed", "1"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--generation-database", "none", "--no-color", "--continue-on-failure"])
        .env("SCHEMATHESIS_HOOKS", told.join("hooks.py"))
        .current_dir(here)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}{}", receiver.said());
    assert!(out.contains("Tested: 7"), "{out}");
    println!("{}", out.lines().find(|line| line.contains(" generated, ")).unwrap().trim());
    assert_eq!(receiver.said(), "");
    assert_eq!(receiver.terminate(), Some(0));
}

/// The program, from the package index into a place of its own, once.
fn schemathesis() -> PathBuf {
    const VERSION: &str = "4.32.5";
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schemathesis-{VERSION}"));
    let program = place.join("bin/schemathesis");
    let lock = File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !place.join("installed").exists() {
        let way_out = "install Python 3.10 or newer (Debian: python3-venv) and let pip reach its index, or set \
                       ZERO_TEST_WITHOUT_SCHEMATHESIS=1 to leave this out";
        let done = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            let output = output.unwrap_or_else(|error| panic!("{}: {error}; {way_out}", program.display()));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "schemathesis can't be installed; {way_out}: {said}");
        };
        done(Path::new("python3"), &["-m", "venv", "--clear", place.to_str().unwrap()]);
        let package = format!("schemathesis=={VERSION}");
        done(&place.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", &package]);
        File::create(place.join("installed")).unwrap();
    }
    program
}

#[test]
fn it_is_in_the_help() {
    let place = tempfile::tempdir().unwrap();
    assert!(run(BUS, place.path(), &["--help"]).fine().contains("ingest"));
    assert!(bus(place.path(), &["ingest", "token", "--help"]).fine().contains("--read-only"));
}
