//! What an append and an open cost as a log grows: `cargo run --release --example growth -- DIR`.
//!
//! Fills a new bus in DIR and stops at 1,000 and at 1,000,000 events to time single synced appends, the same
//! number of bare writes and syncs to a file beside it (in turn, so that both meet the same disk), and
//! opening.

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

fn bare(file: &mut File, line: &[u8]) -> std::io::Result<Duration> {
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
    let mut floor = OpenOptions::new().append(true).create_new(true).open(directory.join("bare"))?;
    println!("| events | append, synced | bare write and sync | open |");
    println!("|---:|---:|---:|---:|");
    for size in [1_000, 1_000_000] {
        while bus.head().index < size {
            let next = bus.head().index;
            let batch = (next + 1..=(next + 10_000).min(size)).map(draft).collect::<Result<_, _>>()?;
            bus.append_batch(batch)?;
        }
        let (mut appends, mut floors, mut opens) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let next = draft(bus.head().index + 1)?;
            let start = Instant::now();
            let event = bus.append(next)?;
            appends.push(start.elapsed());
            floors.push(bare(&mut floor, (event.line() + "\n").as_bytes())?);
            let start = Instant::now();
            let opened = Bus::open(directory)?;
            opens.push(start.elapsed());
            assert_eq!(opened.head(), bus.head());
        }
        println!("| {size} | {:?} | {:?} | {:?} |", median(appends), median(floors), median(opens));
    }
    Ok(())
}
