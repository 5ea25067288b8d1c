//! zero-bus itself: each producer makes a draft of a typed payload and appends it.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Result;
use zero_bus::Bus;

use super::{Appender, produce};
use crate::event::Decision;

pub struct Ours {
    bus: Bus,
    producers: usize,
    numbers: AtomicU64,
}

impl Ours {
    pub fn open(dir: &Path, producers: usize) -> Result<Self> {
        Ok(Self { bus: Bus::open(dir.join("bus"))?, producers, numbers: AtomicU64::new(1) })
    }
}

impl Appender for Ours {
    fn name(&self) -> String {
        "zero-bus".to_owned()
    }

    fn waits_for(&self) -> &'static str {
        "`fdatasync` of the log, shared by who waits at the same time"
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let bus = &self.bus;
        produce(&mut vec![(); self.producers], &self.numbers, budget, |(), number| {
            bus.append(Decision::nth(number).draft(number)?)?;
            Ok(())
        })
    }
}
