//! Real nats-servers on free ports of loopback, in temporary directories: one alone, or a cluster.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zero_bus::{Checksum, Value};

/// How long what a server is about to do is waited for.
const DEADLINE: Duration = Duration::from_secs(120);

/// Where a replica that lacks something gets nothing for so long, it is stuck.
const STUCK: Duration = Duration::from_secs(15);

/// Servers that end with this value.
pub(crate) struct Nats {
    directory: TempDir,
    nodes: Vec<Node>,
    settings: String,
    /// How often a replica had to be restarted since it did not come back by itself.
    pub(crate) stuck: u32,
}

struct Node {
    client: u16,
    route: u16,
    monitor: u16,
    process: Option<Child>,
}

impl Drop for Nats {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node);
        }
    }
}

impl Nats {
    /// Starts this many servers, a cluster where it is more than one, and returns when JetStream answers.
    pub(crate) fn start(servers: usize) -> Self {
        Self::start_with(servers, "")
    }

    /// The same with more lines in the configuration.
    pub(crate) fn start_with(servers: usize, settings: &str) -> Self {
        install();
        let directory = tempfile::tempdir().unwrap();
        // All ports are taken before the first is given back, so that they differ.
        let listeners: Vec<_> = (0..3 * servers).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let node =
            |ports: &[u16]| Node { client: ports[0], route: ports[1], monitor: ports[2], process: None };
        let nodes = ports.chunks(3).map(node).collect();
        let mut nats = Self { directory, nodes, settings: settings.to_owned(), stuck: 0 };
        for node in 0..servers {
            nats.restart(node);
        }
        nats.wait_until_up();
        nats
    }

    /// Waits until JetStream answers.
    #[track_caller]
    pub(crate) fn wait_until_up(&mut self) {
        self.wait_for("JetStream to answer", |nats| nats.is_up());
    }

    pub(crate) fn servers(&self) -> usize {
        self.nodes.len()
    }

    /// An address of all servers.
    pub(crate) fn address(&self, stream: &str) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.client)).collect();
        format!("nats://{}/{stream}", hosts.join(","))
    }

    /// The same for a client of another kind.
    pub(crate) fn servers_of_client(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.client)).collect()
    }

    /// Sends SIGKILL, and returns when the process is gone.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut process) = self.nodes[node].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts a server that is down.
    pub(crate) fn restart(&mut self, node: usize) {
        let folder = self.directory.path().join(format!("n{node}"));
        fs::create_dir_all(&folder).unwrap();
        let configuration = folder.join("nats.conf");
        fs::write(&configuration, self.configuration(node, &folder)).unwrap();
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let process = Command::new(program())
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.nodes[node].process = Some(process);
    }

    fn configuration(&self, node: usize, folder: &Path) -> String {
        let Node { client, route, monitor, .. } = self.nodes[node];
        let store = folder.join("store");
        let mut text = format!(
            "server_name: n{node}\nlisten: \"127.0.0.1:{client}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             jetstream {{ store_dir: {store:?}, max_mem: 64MB, max_file: 20GB }}\n{}\n",
            self.settings
        );
        if self.nodes.len() > 1 {
            let routes: Vec<_> =
                self.nodes.iter().map(|node| format!("\"nats://127.0.0.1:{}\"", node.route)).collect();
            let routes = routes.join(", ");
            text += &format!("cluster {{ name: zero, listen: \"127.0.0.1:{route}\", routes: [{routes}] }}\n");
        }
        text
    }

    /// Waits for what the servers are about to do, and not for ever if they do not.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, mut happened: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !happened(self) {
            for (number, node) in self.nodes.iter_mut().enumerate() {
                let ended = node.process.as_mut().and_then(|process| process.try_wait().unwrap());
                let log = self.directory.path().join(format!("n{number}/log"));
                assert!(ended.is_none(), "server {number} ended: {}", fs::read_to_string(log).unwrap());
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}; {:?}\n{}",
                self.every_stream(),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What each server says of its streams.
    fn every_stream(&self) -> Vec<String> {
        let all = self.running().map(|node| self.ask(node, "/jsz?streams=true"));
        all.map(|all| {
            all.and_then(|all| Some(format!("{:?}", all.get("account_details")?))).unwrap_or_default()
        })
        .collect()
    }

    /// The last lines of every server's log.
    pub(crate) fn logs(&self) -> String {
        let tail = |node| {
            let text =
                fs::read_to_string(self.directory.path().join(format!("n{node}/log"))).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        (0..self.nodes.len()).map(tail).collect::<Vec<_>>().join("\n\n")
    }

    /// Whether every server that runs knows who leads the cluster, and all of them are in it.
    fn is_up(&self) -> bool {
        self.running().all(|node| {
            let Some(seen) = self.ask(node, "/jsz") else { return false };
            // The monitoring port is there before the one for clients.
            if TcpStream::connect(("127.0.0.1", self.nodes[node].client)).is_err() {
                return false;
            }
            let Some(cluster) = seen.get("meta_cluster") else { return self.nodes.len() == 1 };
            cluster.get("leader").and_then(Value::as_str).is_some_and(|leader| !leader.is_empty())
                && cluster.get("cluster_size").and_then(Value::as_u64) == Some(self.nodes.len() as u64)
        })
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].process.is_some())
    }

    /// What the monitoring port of a server says.
    fn ask(&self, node: usize, what: &str) -> Option<Value> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.nodes[node].monitor)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(connection, "GET {what} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        Value::parse(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// A stream as one server sees it.
    pub(crate) fn seen(&self, node: usize, stream: &str) -> Option<Seen> {
        let all = self.ask(node, "/jsz?streams=true")?;
        let Some(Value::Array(accounts)) = all.get("account_details") else { return None };
        let details = accounts.iter().filter_map(|account| account.get("stream_detail"));
        let details = details.filter_map(|details| match details {
            Value::Array(details) => Some(details),
            _ => None,
        });
        let stream =
            details.flatten().find(|found| found.get("name").and_then(Value::as_str) == Some(stream))?;
        let state = stream.get("state")?;
        let number = |key| state.get(key).and_then(Value::as_u64);
        let of_cluster = |key| stream.get("cluster").and_then(|cluster| cluster.get(key));
        let leader = of_cluster("leader").and_then(Value::as_str).unwrap_or_default();
        Some(Seen {
            leader: leader.strip_prefix('n').and_then(|number| number.parse().ok()),
            messages: number("messages")?,
            first: number("first_seq")?,
            last: number("last_seq")?,
        })
    }

    /// Who leads a stream, as its leader itself says.
    pub(crate) fn leader(&self, stream: &str) -> Option<usize> {
        self.running().find(|node| self.seen(*node, stream).and_then(|seen| seen.leader) == Some(*node))
    }

    /// Waits until a stream has a leader and all replicas have what it has, by their own word.
    ///
    /// A replica of nats-server 2.9.10 that was killed can come back with a Raft log that it then refuses to have mended ("Wrong
    /// index, ae is ..."), for good, as its issue 3644 tells. Such a one is restarted, as its operator would, and counted.
    #[track_caller]
    pub(crate) fn wait_until_whole(&mut self, stream: &str) -> usize {
        let mut leader = None;
        let mut last = Vec::new();
        let mut since = Instant::now();
        self.wait_for("all replicas to be whole", |nats| {
            leader = nats.leader(stream);
            let all: Vec<Option<Seen>> = (0..nats.servers()).map(|node| nats.seen(node, stream)).collect();
            let held = |seen: &Option<Seen>| seen.map(Seen::held);
            let Some(whole) = leader.and_then(|leader| held(&all[leader])) else { return false };
            if all.iter().all(|seen| held(seen) == Some(whole)) {
                return true;
            }
            if last != all {
                (last, since) = (all, Instant::now());
            } else if since.elapsed() > STUCK {
                for (node, seen) in all.iter().enumerate() {
                    if held(seen) != Some(whole) {
                        nats.kill(node);
                        nats.restart(node);
                        nats.stuck += 1;
                    }
                }
                since = Instant::now();
            }
            false
        });
        leader.unwrap()
    }
}

/// A stream as a server sees it: the state of its own copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) leader: Option<usize>,
    pub(crate) messages: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Seen {
    /// Its messages, the first sequence, and the last.
    pub(crate) fn held(self) -> (u64, u64, u64) {
        (self.messages, self.first, self.last)
    }
}

/// The stream of a bus under a prefix.
pub(crate) fn stream_of(prefix: &str, bus: Checksum) -> String {
    format!("{prefix}-{}", bus.to_string().trim_start_matches("sha256:"))
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    folders.map(|folder| folder.join("nats-server")).find(|file| file.is_file()).unwrap_or_default()
}

/// Installs the server where it is missing and this may be done; fails naming the package otherwise.
fn install() {
    if program().is_file() {
        return;
    }
    let lock = File::create(std::env::temp_dir().join("zero-tests-install.lock")).unwrap();
    lock.lock().unwrap();
    if !program().is_file() {
        let apt = |arguments: &[&str]| {
            Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output()
        };
        let _ = apt(&["update", "-q"]);
        let installed = apt(&["install", "-q", "-y", "--no-install-recommends", "nats-server"]);
        assert!(
            program().is_file(),
            "install the package nats-server, or leave these tests out with ZERO_TEST_WITHOUT_SERVERS=1: {installed:?}"
        );
    }
}

/// Whether tests that need a server were asked to be left out; says so.
#[allow(dead_code)]
pub(crate) fn left_out() -> bool {
    let left_out = std::env::var_os("ZERO_TEST_WITHOUT_SERVERS").is_some_and(|value| value == "1");
    if left_out {
        // Past the capture of the test harness, so that it is seen.
        let _ =
            writeln!(std::io::stderr().lock(), "left out, as ZERO_TEST_WITHOUT_SERVERS=1: needs nats-server");
    }
    left_out
}
