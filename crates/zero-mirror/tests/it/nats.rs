//! Real nats-servers on free loopback ports, in temporary directories: a single one or a cluster.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zero_bus::{Checksum, Value};

/// How long [`Nats::wait_for`] waits.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A replica that lacks messages and receives none for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// Servers that are killed when this value is dropped.
pub(crate) struct Nats {
    directory: TempDir,
    nodes: Vec<Node>,
    settings: String,
    /// Restarts of replicas that did not catch up by themselves.
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
    /// Starts this many servers; several form a cluster. Returns when JetStream answers.
    pub(crate) fn start(servers: usize) -> Self {
        Self::start_with(servers, "")
    }

    /// [`start`](Self::start) with more lines in the configuration.
    pub(crate) fn start_with(servers: usize, settings: &str) -> Self {
        install();
        let directory = tempfile::tempdir().unwrap();
        // All ports are bound before the first one is released, so they differ.
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

    /// The mirror address of a stream, with all servers.
    pub(crate) fn address(&self, stream: &str) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.client)).collect();
        format!("nats://{}/{stream}", hosts.join(","))
    }

    /// The addresses of all servers for an `async_nats` client.
    pub(crate) fn servers_of_client(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.client)).collect()
    }

    /// Sends SIGKILL to a server and waits until its process ended.
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

    /// Waits until a condition holds. Panics after [`TIMEOUT`], or when a server ends.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !condition(self) {
            for (number, node) in self.nodes.iter_mut().enumerate() {
                let ended = node.process.as_mut().and_then(|process| process.try_wait().unwrap());
                let log = self.directory.path().join(format!("n{number}/log"));
                assert!(ended.is_none(), "server {number} ended: {}", fs::read_to_string(log).unwrap());
            }
            assert!(
                Instant::now() < deadline,
                "timeout while waiting for {what}; {:?}\n{}",
                self.every_stream(),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What each running server reports about its streams.
    fn every_stream(&self) -> Vec<String> {
        let all = self.running().map(|node| self.query_monitor(node, "/jsz?streams=true"));
        all.map(|all| {
            all.and_then(|all| Some(format!("{:?}", all.get("account_details")?))).unwrap_or_default()
        })
        .collect()
    }

    /// The last lines of each server's log.
    pub(crate) fn logs(&self) -> String {
        let tail = |node| {
            let text =
                fs::read_to_string(self.directory.path().join(format!("n{node}/log"))).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        (0..self.nodes.len()).map(tail).collect::<Vec<_>>().join("\n\n")
    }

    /// Whether every running server knows the leader of the cluster and sees all servers in it.
    fn is_up(&self) -> bool {
        self.running().all(|node| {
            let Some(status) = self.query_monitor(node, "/jsz") else { return false };
            // The monitoring port opens before the client port.
            if TcpStream::connect(("127.0.0.1", self.nodes[node].client)).is_err() {
                return false;
            }
            let Some(cluster) = status.get("meta_cluster") else { return self.nodes.len() == 1 };
            cluster.get("leader").and_then(Value::as_str).is_some_and(|leader| !leader.is_empty())
                && cluster.get("cluster_size").and_then(Value::as_u64) == Some(self.nodes.len() as u64)
        })
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].process.is_some())
    }

    /// Reads a path from the monitoring port of a server.
    fn query_monitor(&self, node: usize, path: &str) -> Option<Value> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.nodes[node].monitor)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        Value::parse(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// The state of a server's copy of a stream.
    pub(crate) fn replica(&self, node: usize, stream: &str) -> Option<Replica> {
        let all = self.query_monitor(node, "/jsz?streams=true")?;
        let Some(Value::Array(accounts)) = all.get("account_details") else { return None };
        let details = accounts.iter().filter_map(|account| account.get("stream_detail"));
        let details = details.filter_map(|details| match details {
            Value::Array(details) => Some(details),
            _ => None,
        });
        let stream =
            details.flatten().find(|details| details.get("name").and_then(Value::as_str) == Some(stream))?;
        let state = stream.get("state")?;
        let number = |key| state.get(key).and_then(Value::as_u64);
        let of_cluster = |key| stream.get("cluster").and_then(|cluster| cluster.get(key));
        let leader = of_cluster("leader").and_then(Value::as_str).unwrap_or_default();
        Some(Replica {
            leader: leader.strip_prefix('n').and_then(|number| number.parse().ok()),
            messages: number("messages")?,
            first: number("first_seq")?,
            last: number("last_seq")?,
        })
    }

    /// The server that reports itself as the leader of a stream.
    pub(crate) fn leader(&self, stream: &str) -> Option<usize> {
        self.running()
            .find(|node| self.replica(*node, stream).and_then(|replica| replica.leader) == Some(*node))
    }

    /// Waits until a stream has a leader and every replica reports the same sequences as the
    /// leader. Returns the leader.
    ///
    /// A killed replica of nats-server 2.9.10 can restart with a Raft log that it does not allow to
    /// be repaired ("Wrong index, ae is ...", nats-server issue 3644). This function restarts such
    /// a replica, as an operator would, and counts it in `stuck`.
    #[track_caller]
    pub(crate) fn wait_until_complete(&mut self, stream: &str) -> usize {
        let mut leader = None;
        let mut last = Vec::new();
        let mut since = Instant::now();
        self.wait_for("all replicas to be complete", |nats| {
            leader = nats.leader(stream);
            let all: Vec<Option<Replica>> =
                (0..nats.servers()).map(|node| nats.replica(node, stream)).collect();
            let sequences = |replica: &Option<Replica>| replica.map(Replica::sequences);
            let Some(complete) = leader.and_then(|leader| sequences(&all[leader])) else { return false };
            if all.iter().all(|replica| sequences(replica) == Some(complete)) {
                return true;
            }
            if last != all {
                (last, since) = (all, Instant::now());
            } else if since.elapsed() > STUCK_AFTER {
                for (node, replica) in all.iter().enumerate() {
                    if sequences(replica) != Some(complete) {
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

/// The state of a server's copy of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) leader: Option<usize>,
    pub(crate) messages: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Replica {
    /// The number of messages, the first sequence and the last one.
    pub(crate) fn sequences(self) -> (u64, u64, u64) {
        (self.messages, self.first, self.last)
    }
}

/// The name of the stream of a bus.
pub(crate) fn stream_of(prefix: &str, bus: Checksum) -> String {
    format!("{prefix}-{}", bus.to_string().trim_start_matches("sha256:"))
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    folders.map(|folder| folder.join("nats-server")).find(|file| file.is_file()).unwrap_or_default()
}

/// Installs the server if it is missing. Panics with the name of the package if that fails.
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
            "install the package nats-server, or set ZERO_TEST_WITHOUT_SERVERS=1 to skip these tests: {installed:?}"
        );
    }
}

/// Whether to skip tests that need a server. Prints a notice if so.
#[allow(dead_code)]
pub(crate) fn left_out() -> bool {
    let left_out = std::env::var_os("ZERO_TEST_WITHOUT_SERVERS").is_some_and(|value| value == "1");
    if left_out {
        // Directly to stderr: the test harness would capture `eprintln!`.
        let _ = writeln!(
            std::io::stderr().lock(),
            "SKIPPED: needs nats-server, and ZERO_TEST_WITHOUT_SERVERS=1 is set"
        );
    }
    left_out
}
