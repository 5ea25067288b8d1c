//! What several tests need: witnesses, and a server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use zero_bus::sim::SimDisk;
use zero_bus::storage::Storage;
use zero_witness::{Limits, StateDirectory, Witness, WitnessServer, WitnessServerOptions};

use crate::test_log::{ORIGIN, log_vkey, signer};

pub(crate) const WITNESS: &str = "witness.example/w1";
pub(crate) const COSIGNED_AT: u64 = 1_777_593_705;

pub(crate) fn open_witness(storage: Arc<dyn Storage>) -> zero_witness::Result<Witness> {
    Witness::open(signer(WITNESS), vec![log_vkey(ORIGIN)], StateDirectory::open(storage)?)
}

/// A witness of [`ORIGIN`] without any state.
pub(crate) fn new_witness() -> Witness {
    open_witness(SimDisk::new().storage()).unwrap()
}

/// A server on a thread of this process. It is shut down when this is dropped.
pub(crate) struct TestServer {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    /// The time that it states in cosignatures.
    pub(crate) time: Arc<AtomicU64>,
    messages: Arc<Mutex<Vec<String>>>,
    shutdown: zero_http::Shutdown,
    thread: Option<JoinHandle<zero_witness::Result<()>>>,
}

impl TestServer {
    pub(crate) fn start(witness: Witness) -> Self {
        Self::start_with(witness, Limits { requests_per_second: 100_000, ..Limits::default() })
    }

    pub(crate) fn start_with(witness: Witness, limits: Limits) -> Self {
        let options = WitnessServerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            behind_proxy: false,
            limits,
        };
        Self::start_options(witness, options)
    }

    pub(crate) fn start_options(witness: Witness, options: WitnessServerOptions) -> Self {
        let time = Arc::new(AtomicU64::new(COSIGNED_AT));
        let messages = Arc::new(Mutex::new(Vec::new()));
        let clock = Arc::clone(&time);
        let log = Arc::clone(&messages);
        let server = WitnessServer::bind(
            options,
            witness,
            Arc::new(move || clock.load(Relaxed)),
            Arc::new(move |message: &str| log.lock().unwrap().push(message.to_owned())),
        )
        .unwrap();
        let (url, address, shutdown) = (server.url(), server.address(), server.shutdown());
        let thread = Some(std::thread::spawn(move || server.run()));
        Self { url, address, time, messages, shutdown, thread }
    }

    /// What the operator was told.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap().clone()
    }

    pub(crate) fn post(&self, body: impl AsRef<[u8]>) -> HttpResponse {
        post(self.address, "/add-checkpoint", body.as_ref())
    }

    pub(crate) fn get(&self, path: &str) -> HttpResponse {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n"), b"")
    }

    /// Sends a request with this head, whose last empty line is added, and reads the response.
    pub(crate) fn send(&self, head: &str, body: &[u8]) -> HttpResponse {
        exchange(self.address, head, body)
    }
}

/// Posts a body to any server.
pub(crate) fn post(address: SocketAddr, path: &str, body: &[u8]) -> HttpResponse {
    let length = body.len();
    exchange(address, &format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n"), body)
}

fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> HttpResponse {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
    // A server may answer before it has read the whole body.
    let _ = stream.write_all(body);
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    HttpResponse::parse(&String::from_utf8(response).unwrap())
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.begin();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.unwrap().unwrap();
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl HttpResponse {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let is_type = |line: &&str| line.to_ascii_lowercase().starts_with("content-type: ");
        let content_type = lines.find(is_type).map_or("", |line| &line["content-type: ".len()..]);
        Self { status, content_type: content_type.to_owned(), body: body.to_owned() }
    }
}
