//! zero-bus: each producer creates a draft from a prepared typed payload and appends it. The lines
//! of the peers are prepared as well.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Result;
use zero_bus::Bus;

use super::{Appender, LINES, produce};
use crate::event::Decision;

pub struct Ours {
    bus: Bus,
    decisions: Vec<Decision>,
    producers: usize,
    numbers: AtomicU64,
}

impl Ours {
    pub fn open(dir: &Path, producers: usize) -> Result<Self> {
        let decisions = (1..=LINES).map(Decision::nth).collect();
        Ok(Self { bus: Bus::open(dir.join("bus"))?, decisions, producers, numbers: AtomicU64::new(1) })
    }
}

impl Appender for Ours {
    fn name(&self) -> String {
        "zero-bus".to_owned()
    }

    fn waits_for(&self) -> &'static str {
        "`fdatasync` of the log, shared by concurrent producers"
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let Self { bus, decisions, producers, numbers } = self;
        produce(&mut vec![(); *producers], numbers, budget, |(), number| {
            let decision = &decisions[number as usize % decisions.len()];
            bus.append(decision.draft(number)?)?;
            Ok(())
        })
    }
}
