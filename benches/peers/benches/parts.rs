//! Times the parts of an append, a verification and a look-up, all in memory, to show which part
//! became slower. `cargo bench --bench parts` in this folder compares each run with the run before.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::num::NonZeroUsize;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde::Serialize;
use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Checksum, Draft, Json, LOG};

/// Resembles a decision record; its line has about 650 bytes.
#[derive(Serialize)]
struct Payload {
    allowed: bool,
    confidence: f64,
    idempotency_key: String,
    notional_usd: f64,
    price: f64,
    quantity: f64,
    reason: String,
    side: &'static str,
    symbol: &'static str,
}

fn payload(number: u64) -> Payload {
    Payload {
        allowed: true,
        confidence: 0.82,
        idempotency_key: format!("runtime-scenario-{number:012}"),
        notional_usd: 640.25,
        price: 64_000.5,
        quantity: 0.01,
        reason: "x".repeat(120),
        side: "buy",
        symbol: "BTC",
    }
}

fn draft(number: u64) -> Draft {
    Draft::new("decision.record", 1777593600.0 + number as f64, &payload(number))
        .unwrap()
        .traced("runtime-cycle-1")
}

fn parts(criterion: &mut Criterion) {
    let payload = payload(1);
    let canonical = Json::of(&payload).unwrap().to_string();
    criterion.bench_function("canonical form", |bench| bench.iter(|| Json::of(black_box(&payload)).unwrap()));
    criterion.bench_function("canonical check", |bench| {
        bench.iter(|| zero_bus::canonical::is_canonical(black_box(&canonical)));
    });
    let line = "x".repeat(650);
    criterion
        .bench_function("SHA-256 of a line", |bench| bench.iter(|| Checksum::of(black_box(line.as_bytes()))));

    // The simulated disk copies the batch, which takes little time compared with linking it.
    criterion.bench_function("link a batch of 100", |bench| {
        let drafts = || (Bus::open_in(SimDisk::new().storage()).unwrap(), (1..=100).map(draft).collect());
        let append = |(bus, drafts): (Bus, Vec<Draft>)| bus.append_batch(drafts).unwrap();
        bench.iter_batched(drafts, append, BatchSize::SmallInput);
    });

    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    (0..20).for_each(|batch| {
        drop(bus.append_batch((1..=1000).map(|n| draft(batch * 1000 + n)).collect()).unwrap())
    });
    let reader = bus.reader();
    let mut group = criterion.benchmark_group("log of 20,000");
    group.throughput(Throughput::Bytes(disk.content(LOG).unwrap().len() as u64));
    group.bench_function("check every line, one thread", |bench| {
        bench.iter(|| reader.verify_on_threads(NonZeroUsize::MIN, &mut |_| {}).unwrap());
    });
    group.finish();
    criterion.bench_function("bisection to the middle of 20,000", |bench| {
        bench.iter(|| reader.event(black_box(10_000)).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = parts
}
criterion_main!(benches);
