//! Measures what proofs cost: `cargo bench --profile dist -p zero-proof --bench cost -- [EVENTS]`,
//! 1,000,000 by default. A log of 10 million events needs 4 GB in the directory for temporary
//! files.
//!
//! Files are read from the cache of the system, and each step opens what it needs as a command
//! does.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zero_bus::storage::Directory;
use zero_bus::{Bus, Draft, Json, Reader};
use zero_proof::checkpoint_state::CheckpointState;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::key::SignatureType;
use zero_proof::tile_store::TileStore;
use zero_proof::track_record::{self, TrackRecordBuilder};
use zero_proof::{Policy, Proof, SignedCheckpoint, SigningKey};

/// Events of the smaller log, whose checkpoint is compared with that of the larger one.
const SMALL: u64 = 10_000;
/// New events of a checkpoint.
const NEW: u64 = 1_000;
/// Events of the track record.
const RECORD: u64 = 100_000;
/// How often short steps are repeated; the middle one counts.
const ROUNDS: usize = 21;

fn main() {
    let events = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    println!("threads {}", std::thread::available_parallelism().unwrap());

    let small = Log::new(&dir.path().join("small"), SMALL);
    small.checkpoint();
    let small_cost = small.checkpoint_of_new();
    println!("checkpoint of {NEW} new events, after {SMALL}: {}", ms(small_cost));

    let large = Log::new(&dir.path().join("large"), events);
    let (fields, bytes) = large.sample();
    println!("log of {events} events, {bytes:.0} bytes and {fields:.1} fields each");
    let start = Instant::now();
    Reader::open(&large.bus).unwrap().verify().unwrap();
    println!(
        "verification of the chain alone: {:.0} events/s",
        events as f64 / start.elapsed().as_secs_f64()
    );
    let (start, cpu) = (Instant::now(), cpu_time_s());
    large.tiles().catch_up(&large.reader(), &secret()).unwrap();
    let (wall_s, cpu_s) = (start.elapsed().as_secs_f64(), cpu_time_s() - cpu);
    println!(
        "tiles from scratch: {:.0} events/s, {:.2} us of processor time per event",
        events as f64 / wall_s,
        1e6 * cpu_s / events as f64
    );
    let signed = large.checkpoint();
    let proof = median((0..ROUNDS as u64).map(|round| large.prove(events / (round + 2), &signed)));
    println!("proof of an event: {}", ms(proof));
    let large_cost = large.checkpoint_of_new();
    let ratio = large_cost.as_secs_f64() / small_cost.as_secs_f64();
    println!(
        "checkpoint of {NEW} new events, after {events}: {}, {ratio:.2} times that after {SMALL}",
        ms(large_cost)
    );
    large.track_record(RECORD.min(events));
}

fn secret() -> DisclosureSecret {
    DisclosureSecret::from_bytes([7; 32])
}

fn key() -> SigningKey {
    SigningKey::from_seeds("example.com/bench", &[1; 32], None).unwrap()
}

/// Every fifth event resembles a decision, the others the smaller events around it.
fn draft(number: u64) -> Draft {
    let (event_type, payload) = match number % 5 {
        0 => (
            "decision.record",
            format!(
                r#"{{"allowed":true,"confidence":0.82,"idempotency_key":"runtime-{number:09}","notional_usd":{},"price":64000.5,"quantity":0.01,"reason":"allowed","side":"buy","symbol":"BTC"}}"#,
                number % 1000
            ),
        ),
        _ => ("runtime.health", format!(r#"{{"cycle_id":{number},"ok":true,"symbol":"BTC"}}"#)),
    };
    Draft {
        event_type: event_type.to_owned(),
        as_of: 1_777_593_600.0 + number as f64,
        payload: Json::parse(&payload).unwrap(),
        trace_id: Some(format!("runtime-cycle-{}", number / 5)),
    }
}

/// A bus, its tiles and its state.
struct Log {
    bus: std::path::PathBuf,
    side: std::path::PathBuf,
}

impl Log {
    fn new(dir: &Path, events: u64) -> Self {
        let log = Self { bus: dir.join("bus"), side: dir.join("side") };
        log.append(events);
        log
    }

    fn append(&self, count: u64) {
        let bus = Bus::open(&self.bus).unwrap();
        let first = bus.head().index + 1;
        let numbers: Vec<u64> = (first..first + count).collect();
        for batch in numbers.chunks(1000) {
            bus.append_batch(batch.iter().map(|number| draft(*number)).collect()).unwrap();
        }
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.bus).unwrap()
    }

    fn tiles(&self) -> TileStore {
        TileStore::open(Arc::new(Directory::create(&self.side).unwrap())).unwrap()
    }

    fn checkpoint(&self) -> SignedCheckpoint {
        let state = Directory::create(&self.side).unwrap();
        let mut state = CheckpointState::open(Arc::new(state), "state").unwrap();
        state.sign_next(&self.reader(), &mut self.tiles(), &secret(), &key(), 1_777_593_700).unwrap()
    }

    /// Appends events and measures their checkpoint, several times.
    fn checkpoint_of_new(&self) -> Duration {
        median((0..ROUNDS).map(|_| {
            self.append(NEW);
            let start = Instant::now();
            self.checkpoint();
            start.elapsed()
        }))
    }

    fn prove(&self, index: u64, signed: &SignedCheckpoint) -> Duration {
        let start = Instant::now();
        let (reader, mut tiles) = (self.reader(), self.tiles());
        tiles.catch_up(&reader, &secret()).unwrap();
        let size = signed.checkpoint().size;
        assert_eq!(tiles.root(size).unwrap(), signed.checkpoint().root);
        let event = reader.event(index).unwrap().unwrap();
        let path = tiles.prove_inclusion(index - 1, size).unwrap();
        let proof = Proof::prove(&event, &secret(), &["/event_type"], path, signed.clone()).unwrap();
        assert!(!proof.encode().is_empty());
        start.elapsed()
    }

    fn track_record(&self, last: u64) {
        let signed = self.checkpoint();
        let start = Instant::now();
        let names = ["/event_type", "/payload/allowed", "/payload/notional_usd"];
        let mut builder = TrackRecordBuilder::new(1, &names).unwrap();
        for event in self.reader().events(1).unwrap().take(last as usize) {
            builder.push(&event.unwrap(), &secret()).unwrap();
        }
        let after = self.tiles().covering(last, signed.checkpoint().size).unwrap();
        let record = builder.finish(&[], &after, &signed).unwrap();
        let built = start.elapsed();
        let vkey = key().verifier_key(SignatureType::Ed25519).unwrap();
        let policy = Policy::parse(format!("log {vkey}\nquorum none\n").as_bytes()).unwrap();
        let start = Instant::now();
        let proven = track_record::check(record.as_bytes(), &policy).unwrap();
        assert_eq!(proven.aggregates.events, last);
        println!(
            "track record of {last} events, 3 fields: {:.1} MB, made in {}, checked in {}",
            record.len() as f64 / 1e6,
            ms(built),
            ms(start.elapsed())
        );
    }

    /// Fields and bytes per event, over the first thousand.
    fn sample(&self) -> (f64, f64) {
        let events: Vec<_> = self.reader().events(1).unwrap().take(1000).map(Result::unwrap).collect();
        let count = events.len() as f64;
        let fields: usize =
            events.iter().map(|event| zero_proof::entry::disclosures(event, &secret()).len()).sum();
        let bytes: usize = events.iter().map(|event| event.line().len() + 1).sum();
        (fields as f64 / count, bytes as f64 / count)
    }
}

/// Processor time of this process, which other programs on the machine do not change: `utime` and
/// `stime` of `proc_pid_stat(5)`, in hundredths of a second. 0 where there is no `/proc`.
fn cpu_time_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
