//! A receiver in this process with a store in memory, and a client that sends exact bytes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use zero_bus::{Bus, Checksum, Draft, Event, Head};
use zero_mirror::ingest::{Limits, Receiver, ReceiverOptions, Shutdown};
use zero_mirror::{Error, Http, Mirror, Record, Result, Token};

/// How the store in memory behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Fine,
    Unavailable,
    Panics,
    /// Blocks every batch until the mood changes.
    Waits,
}

/// A mirror in memory. Its clones share one state.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<(Mutex<MemoryState>, Condvar)>);

#[derive(Default)]
pub(crate) struct MemoryState {
    pub(crate) buses: BTreeMap<[u8; 32], Vec<String>>,
    pub(crate) mood: Mood,
    /// Batches that wait for the mood to change.
    pub(crate) waiting: usize,
}

impl Memory {
    pub(crate) fn set(&self, mood: Mood) {
        self.0.0.lock().unwrap().mood = mood;
        self.0.1.notify_all();
    }

    pub(crate) fn lines_of(&self, bus: Checksum) -> Vec<String> {
        self.0.0.lock().unwrap().buses.get(bus.as_bytes()).cloned().unwrap_or_default()
    }

    /// Blocks until this many batches wait.
    pub(crate) fn wait_until_waiting(&self, batches: usize) {
        let (state, condvar) = &*self.0;
        let (_state, timeout) = condvar
            .wait_timeout_while(state.lock().unwrap(), Duration::from_secs(60), |state| {
                state.waiting < batches
            })
            .unwrap();
        assert!(!timeout.timed_out());
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, MemoryState>> {
        let state = self.0.0.lock().unwrap();
        match state.mood {
            Mood::Unavailable => Err(Error::Unavailable {
                destination: "memory".to_owned(),
                action: "answer",
                source: "host secret-store.internal is down".into(),
            }),
            Mood::Panics => {
                drop(state);
                panic!("the mood says so");
            }
            Mood::Fine | Mood::Waits => Ok(state),
        }
    }
}

impl Mirror for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        let first = |lines: &Vec<String>| Event::read(lines[0].as_bytes(), Head::default()).unwrap().checksum;
        Ok(self.lock()?.buses.values().map(first).collect())
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        let state = self.lock()?;
        let Some(lines) = state.buses.get(bus.as_bytes()) else { return Ok(Head::default()) };
        let last = lines.last().unwrap();
        Ok(Event::read_alone(last.as_bytes(), lines.len() as u64).unwrap().head())
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        let mut state = self.lock()?;
        state.waiting += 1;
        self.0.1.notify_all();
        state = self.0.1.wait_while(state, |state| state.mood == Mood::Waits).unwrap();
        state.waiting -= 1;
        let lines = state.buses.entry(*bus.as_bytes()).or_default();
        assert_eq!(lines.len() as u64, after.index, "the receiver compared the cursor");
        lines.extend(batch.iter().map(|record| record.line.clone()));
        Ok(())
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        let state = self.lock()?;
        let lines = state.buses.get(bus.as_bytes()).map(Vec::as_slice).unwrap_or_default();
        Ok((1..).zip(lines.iter().cloned()).skip(from as usize - 1).take(1000).collect())
    }
}

/// A running receiver. Dropping it stops the receiver.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) memory: Memory,
    /// The messages for the receiver's operator.
    pub(crate) logged: Arc<Mutex<Vec<String>>>,
    stop: Shutdown,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: ReceiverOptions) -> Self {
        let memory = Memory::default();
        let logged: Arc<Mutex<Vec<String>>> = Arc::default();
        let (store, log) = (memory.clone(), Arc::clone(&logged));
        let receiver = Receiver::bind(
            settings,
            Box::new(move || Ok(Box::new(store.clone()))),
            Arc::new(move |text| log.lock().unwrap().push(text.to_owned())),
        )
        .unwrap();
        let (address, url, stop) = (receiver.address(), receiver.url(), receiver.shutdown());
        let thread = Some(std::thread::spawn(move || receiver.run()));
        Self { address, url, memory, logged, stop, thread }
    }

    pub(crate) fn with_tokens(path: &Path) -> Self {
        Self::with(ReceiverOptions { tokens: Some(path.to_owned()), ..settings() })
    }

    pub(crate) fn begin_shutdown(&self) {
        self.stop.begin();
    }

    /// Stops the receiver and waits for its end.
    pub(crate) fn stop(mut self) {
        self.stop.begin();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    pub(crate) fn client(&self) -> Http {
        Http::with_token(&self.url, None).unwrap()
    }

    pub(crate) fn client_with(&self, token: &Token) -> Http {
        Http::with_token(&self.url, Some(token.clone())).unwrap()
    }

    /// Sends bytes and reads the response until the receiver closes the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The receiver may close the connection before it has read everything.
        let _ = stream.write_all(bytes);
        Answer::read(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // Only ends a test that hangs.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str, headers: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").as_bytes())
    }

    /// Posts a batch.
    pub(crate) fn post(&self, bus: Checksum, after: Head, headers: &str, body: &[u8]) -> Answer {
        self.raw(&posting(bus, after, headers, body))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.memory.set(Mood::Fine);
        self.stop.begin();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn settings() -> ReceiverOptions {
    ReceiverOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        tokens: None,
        tls: None,
        behind_proxy: false,
        limits: Limits::default(),
    }
}

pub(crate) fn posting(bus: Checksum, after: Head, headers: &str, body: &[u8]) -> Vec<u8> {
    let checksum = after.checksum.map(|checksum| format!("&checksum={checksum}")).unwrap_or_default();
    let (index, length) = (after.index, body.len());
    let mut bytes = format!(
        "POST /v1/buses/{bus}/events?index={index}{checksum} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {length}\r\n{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The response of a server.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 if there was no response.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else { return Self { status: 0, head: String::new(), body: bytes } };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// A member of a problem document.
    pub(crate) fn member(&self, name: &str) -> String {
        let value = zero_bus::Value::parse(&self.text()).unwrap();
        let member = value.get(name).unwrap_or_else(|| panic!("{name}: {}", self.text()));
        member.as_str().map(str::to_owned).or(member.as_u64().map(|n| n.to_string())).unwrap()
    }

    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{} {}", self.head, String::from_utf8_lossy(&self.body));
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        assert_eq!(self.member("type"), format!("urn:zero-bus:problem:{kind}"));
        assert_eq!(self.member("status"), status.to_string());
    }
}

/// A chain of events. Chains of different names share the first `common` events.
pub(crate) fn chain(name: &str, common: usize, events: usize) -> Vec<Record> {
    let temporary = tempfile::tempdir().unwrap();
    let bus = Bus::open(temporary.path()).unwrap();
    let drafts = (1..=events).map(|n| {
        let name = if n <= common { "same" } else { name };
        let payload =
            BTreeMap::from([("n", n.to_string()), ("of", name.to_owned()), ("text", "é\n\"".to_owned())]);
        Draft::new("a.kind", n as f64, &payload).unwrap()
    });
    bus.append_batch(drafts.collect()).unwrap().into_iter().map(record).collect()
}

pub(crate) fn record(event: Event) -> Record {
    let line = event.line();
    Record { event, line }
}

pub(crate) fn bus_of(chain: &[Record]) -> Checksum {
    chain[0].event.checksum
}

pub(crate) fn head_of(chain: &[Record]) -> Head {
    chain.last().map(|last| last.event.head()).unwrap_or_default()
}

pub(crate) fn body_of(chain: &[Record]) -> Vec<u8> {
    chain.iter().flat_map(|record| format!("{}\n", record.line).into_bytes()).collect()
}

pub(crate) fn texts_of(chain: &[Record]) -> Vec<String> {
    chain.iter().map(|record| record.line.clone()).collect()
}

/// Every line of a bus, page by page.
pub(crate) fn all_lines(mirror: &mut dyn Mirror, bus: Checksum) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let page = mirror.lines(bus, lines.len() as u64 + 1).unwrap();
        if page.is_empty() {
            return lines;
        }
        for (index, line) in page {
            assert_eq!(index, lines.len() as u64 + 1);
            lines.push(line);
        }
    }
}
