//! Measures appending and opening as a log grows: `cargo run --release --example growth -- DIR`.
//!
//! Fills a new bus in DIR. At 1,000 and at 1,000,000 events it times single synced appends, plain
//! writes with a sync to another file in DIR, and opening the bus. It alternates between them, so
//! that all of them see the same load on the disk.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use zero_bus::{Bus, Draft};

const ROUNDS: usize = 300;

fn draft(number: u64) -> Result<Draft, zero_bus::JsonError> {
    let payload = BTreeMap::from([("note", "x".repeat(280)), ("number", number.to_string())]);
    Ok(Draft::new("growth.event", 1777593600.0 + number as f64, &payload)?.traced("growth"))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn time_plain_write(file: &mut File, line: &[u8]) -> std::io::Result<Duration> {
    let start = Instant::now();
    file.write_all(line)?;
    file.sync_data()?;
    Ok(start.elapsed())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: growth DIR")?;
    let directory = Path::new(&directory);
    let bus = Bus::open(directory)?;
    if bus.head().index > 0 {
        return Err("the bus must be new".into());
    }
    let mut plain_file = OpenOptions::new().append(true).create_new(true).open(directory.join("plain"))?;
    println!("| events | append, synced | plain write and sync | open |");
    println!("|---:|---:|---:|---:|");
    for size in [1_000, 1_000_000] {
        while bus.head().index < size {
            let next = bus.head().index;
            let batch = (next + 1..=(next + 10_000).min(size)).map(draft).collect::<Result<_, _>>()?;
            bus.append_batch(batch)?;
        }
        let (mut appends, mut plain_writes, mut opens) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let next = draft(bus.head().index + 1)?;
            let start = Instant::now();
            let event = bus.append(next)?;
            appends.push(start.elapsed());
            plain_writes.push(time_plain_write(&mut plain_file, (event.line() + "\n").as_bytes())?);
            let start = Instant::now();
            let opened = Bus::open(directory)?;
            opens.push(start.elapsed());
            assert_eq!(opened.head(), bus.head());
        }
        println!("| {size} | {:?} | {:?} | {:?} |", median(appends), median(plain_writes), median(opens));
    }
    Ok(())
}
