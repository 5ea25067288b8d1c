//! Appends events one by one with the Rust library, and prints how many are durable per second.
//! `benches/compare.py` runs it.

use std::collections::BTreeMap;
use std::time::Instant;

use zero_bus::{Bus, Draft, Json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const EVENTS: u32 = 1_000;
    let folder = std::env::args_os().nth(1).ok_or("name a folder for the bus")?;
    let bus = Bus::open(folder)?;
    let text =
        r#"{"symbol":"BTC","side":"buy","quantity":0.5,"price":64000.25,"reason":"breakout","attempt":3}"#;
    let payload = Json::parse(text)?;
    bus.append(Draft::new("bench.begin", 1.0, &BTreeMap::<String, u32>::new())?)?;
    let begin = Instant::now();
    for _ in 0..EVENTS {
        bus.append(Draft::new("bench.event", 1.0, &payload)?)?;
    }
    println!("{}", f64::from(EVENTS) / begin.elapsed().as_secs_f64());
    Ok(())
}
