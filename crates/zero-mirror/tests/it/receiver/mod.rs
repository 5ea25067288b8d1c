//! A receiver in this process, over a store in memory, and a client that says exactly what it is told to.

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

/// What is asked of a store in memory besides storing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Fine,
    Unavailable,
    Panics,
    /// Holds every batch until the mood changes.
    Waits,
}

/// A mirror in memory that many may share.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<(Mutex<Inside>, Condvar)>);

#[derive(Default)]
pub(crate) struct Inside {
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

    /// Waits until so many batches wait.
    pub(crate) fn until_waiting(&self, batches: usize) {
        let (inside, condvar) = &*self.0;
        let (_inside, time) = condvar
            .wait_timeout_while(inside.lock().unwrap(), Duration::from_secs(60), |inside| {
                inside.waiting < batches
            })
            .unwrap();
        assert!(!time.timed_out());
    }

    fn inside(&self) -> Result<std::sync::MutexGuard<'_, Inside>> {
        let inside = self.0.0.lock().unwrap();
        match inside.mood {
            Mood::Unavailable => Err(Error::Unavailable {
                destination: "memory".to_owned(),
                action: "think",
                source: "host secret-store.internal is down".into(),
            }),
            Mood::Panics => {
                drop(inside);
                panic!("as it was told to");
            }
            Mood::Fine | Mood::Waits => Ok(inside),
        }
    }
}

impl Mirror for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        let first = |lines: &Vec<String>| Event::read(lines[0].as_bytes(), Head::default()).unwrap().checksum;
        Ok(self.inside()?.buses.values().map(first).collect())
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        let inside = self.inside()?;
        let Some(lines) = inside.buses.get(bus.as_bytes()) else { return Ok(Head::default()) };
        let last = lines.last().unwrap();
        Ok(Event::read_alone(last.as_bytes(), lines.len() as u64).unwrap().head())
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        let mut inside = self.inside()?;
        inside.waiting += 1;
        self.0.1.notify_all();
        inside = self.0.1.wait_while(inside, |inside| inside.mood == Mood::Waits).unwrap();
        inside.waiting -= 1;
        let lines = inside.buses.entry(*bus.as_bytes()).or_default();
        assert_eq!(lines.len() as u64, after.index, "the receiver verified that");
        lines.extend(batch.iter().map(|record| record.line.clone()));
        Ok(())
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        let inside = self.inside()?;
        let lines = inside.buses.get(bus.as_bytes()).map(Vec::as_slice).unwrap_or_default();
        Ok((1..).zip(lines.iter().cloned()).skip(from as usize - 1).take(1000).collect())
    }
}

/// A receiver that runs until this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) memory: Memory,
    pub(crate) said: Arc<Mutex<Vec<String>>>,
    stop: Shutdown,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: ReceiverOptions) -> Self {
        let memory = Memory::default();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (store, log) = (memory.clone(), Arc::clone(&said));
        let receiver = Receiver::bind(
            settings,
            Box::new(move || Ok(Box::new(store.clone()))),
            Arc::new(move |text| log.lock().unwrap().push(text.to_owned())),
        )
        .unwrap();
        let (address, url, stop) = (receiver.address(), receiver.url(), receiver.shutdown());
        let thread = Some(std::thread::spawn(move || receiver.run()));
        Self { address, url, memory, said, stop, thread }
    }

    pub(crate) fn with_tokens(path: &Path) -> Self {
        Self::with(ReceiverOptions { tokens: Some(path.to_owned()), ..settings() })
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.begin();
    }

    /// Stops it, and waits until it has.
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

    /// Sends bytes, and reads what comes back until the other end closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // It may close before it has read all of it.
        let _ = stream.write_all(bytes);
        Answer::read(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // Not what is tested: an end for a test that hangs.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str, headers: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").as_bytes())
    }

    /// Posts a batch.
    pub(crate) fn post(&self, bus: Checksum, behind: Head, headers: &str, body: &[u8]) -> Answer {
        self.raw(&posting(bus, behind, headers, body))
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

pub(crate) fn posting(bus: Checksum, behind: Head, headers: &str, body: &[u8]) -> Vec<u8> {
    let checksum = behind.checksum.map(|checksum| format!("&checksum={checksum}")).unwrap_or_default();
    let (index, length) = (behind.index, body.len());
    let mut bytes = format!(
        "POST /v1/buses/{bus}/events?index={index}{checksum} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {length}\r\n{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 where there was none.
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
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else { return Self { status: 0, head: String::new(), body: bytes } };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// A member of a problem.
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

/// A chain of so many events; chains of different names part at the event behind `same`.
pub(crate) fn chain(name: &str, same: usize, events: usize) -> Vec<Record> {
    let place = tempfile::tempdir().unwrap();
    let bus = Bus::open(place.path()).unwrap();
    let drafts = (1..=events).map(|n| {
        let name = if n <= same { "same" } else { name };
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
