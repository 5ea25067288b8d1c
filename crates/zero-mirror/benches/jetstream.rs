//! Compares mirroring to JetStream with a bare publisher, in alternating order, and reports the
//! peak memory. The publisher sends the same messages with the same window to a stream with the
//! same settings. Run: `cargo bench -p zero-mirror --bench jetstream [-- SERVERS [EVENTS]]`

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

#[path = "../tests/it/nats.rs"]
mod nats;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream::context::traits::Publisher as _;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream::Config};
use nats::{Nats, stream_of};
use tokio::runtime::Builder;
use zero_bus::{Bus, Checksum, Draft, Head, LOG};
use zero_mirror::{CancelHandle, CatchUpOptions, JetStream, Mirror, Record, catch_up, restore};

const TURNS: usize = 5;

/// The window of the mirror.
const WINDOW_MESSAGES: usize = 512;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let servers = numbers.first().map_or(1, |servers| *servers as usize);
    let events = numbers.get(1).copied().unwrap_or(200_000);
    let log = tempfile::tempdir().unwrap();
    let bus = Bus::open(log.path()).unwrap();
    for first in (1..=events).step_by(10_000) {
        bus.append_batch((first..events.min(first + 9_999) + 1).map(decision).collect()).unwrap();
    }
    let id = bus.reader().event(1).unwrap().unwrap().checksum;
    println!(
        "{events} events, {} bytes each, {servers} servers",
        bus.reader().size_bytes().unwrap() / events
    );

    let start = Instant::now();
    catch_up(log.path(), &mut Discard, &CatchUpOptions::default(), &CancelHandle::default(), &mut |_| {})
        .unwrap();
    println!(
        "read and verified, without a destination: {:.0} events/s",
        events as f64 / start.elapsed().as_secs_f64()
    );

    let mut ratios = Vec::new();
    for turn in 1..=TURNS {
        // Each gets new servers, so none pays for the data of another.
        let without_header = publish(&Nats::start(servers), log.path(), servers, false);
        let bare = publish(&Nats::start(servers), log.path(), servers, true);
        let mut nats = Nats::start(servers);
        let mut mirror = JetStream::new(&nats.address("BENCH")).unwrap();
        let start = Instant::now();
        let report = catch_up(
            log.path(),
            &mut mirror,
            &CatchUpOptions::default(),
            &CancelHandle::default(),
            &mut |_| {},
        )
        .unwrap();
        let mirrored = start.elapsed();
        assert_eq!(report.mirrored, Some(events));
        nats.wait_until_complete(&stream_of("BENCH", id));
        let per_second = |time: Duration| events as f64 / time.as_secs_f64();
        let ratio = per_second(mirrored) / per_second(bare);
        ratios.push(ratio);
        println!(
            "turn {turn}: bare {:.0} events/s ({:.0} without the header), mirror {:.0} events/s, ratio {ratio:.2}, \
             peak memory {} MiB",
            per_second(bare),
            per_second(without_header),
            per_second(mirrored),
            peak_mib()
        );
        if turn == TURNS {
            let temporary = tempfile::tempdir().unwrap();
            let directory = temporary.path().join("restored");
            let start = Instant::now();
            restore(&mut mirror, id, &directory, &mut |_| {}).unwrap();
            let (time, peak) = (start.elapsed(), peak_mib());
            let same = fs::read(directory.join(LOG)).unwrap() == fs::read(log.path().join(LOG)).unwrap();
            assert!(same);
            println!("restored {:.0} events/s, byte for byte, peak memory {peak} MiB", per_second(time));
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ratios.len() / 2]);
}

/// A decision. Its line has about 650 bytes.
fn decision(number: u64) -> Draft {
    let payload = BTreeMap::from([
        ("idempotency_key", format!("runtime-scenario-{number:012}")),
        ("reason", "x".repeat(220)),
        ("side", "buy".to_owned()),
        ("symbol", "BTC".to_owned()),
    ]);
    Draft::new("decision.record", 1777593600.0 + number as f64, &payload).unwrap().traced("runtime-cycle-1")
}

/// A destination that discards every batch.
struct Discard;

impl Mirror for Discard {
    fn name(&self) -> String {
        "discard".to_owned()
    }

    fn buses(&mut self) -> zero_mirror::Result<Vec<Checksum>> {
        Ok(Vec::new())
    }

    fn head(&mut self, _: Checksum) -> zero_mirror::Result<Head> {
        Ok(Head::default())
    }

    fn append(&mut self, _: Checksum, _: Head, _: &[Record]) -> zero_mirror::Result<()> {
        Ok(())
    }

    fn lines(&mut self, _: Checksum, _: u64) -> zero_mirror::Result<Vec<(u64, String)>> {
        Ok(Vec::new())
    }
}

/// Publishes the lines of a log with a window of unacknowledged messages and nothing else. With
/// `expect_sequence`, each message carries the header with the expected last sequence.
fn publish(nats: &Nats, log: &Path, replicas: usize, expect_sequence: bool) -> Duration {
    let lines = BufReader::new(File::open(log.join(LOG)).unwrap()).lines();
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
        let client = async_nats::connect(nats.servers_of_client()).await.unwrap();
        let context = jetstream::new(client);
        let config = Config {
            name: "BARE".to_owned(),
            subjects: vec!["bare.>".to_owned()],
            num_replicas: replicas,
            discard: jetstream::stream::DiscardPolicy::New,
            deny_delete: true,
            deny_purge: true,
            ..Config::default()
        };
        let mut stream = context.create_stream(config).await.unwrap();
        let start = Instant::now();
        let mut in_flight = VecDeque::new();
        let mut published = 0;
        for line in lines {
            if in_flight.len() >= WINDOW_MESSAGES {
                let first: jetstream::context::PublishAckFuture = in_flight.pop_front().unwrap();
                first.await.unwrap();
            }
            let line = line.unwrap().into();
            let sent = if expect_sequence {
                let message = PublishMessage::build().payload(line).expected_last_sequence(published);
                context.publish_message(message.outbound_message("bare.decision.record")).await.unwrap()
            } else {
                context.publish("bare.decision.record", line).await.unwrap()
            };
            in_flight.push_back(sent);
            published += 1;
        }
        for sent in in_flight {
            sent.await.unwrap();
        }
        let time = start.elapsed();
        assert_eq!(stream.info().await.unwrap().state.messages, published);
        time
    })
}

/// The peak memory of this process.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
