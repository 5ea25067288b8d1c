//! CPU time of an append without its sync, compared with the canonical form and SHA-256 alone.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use sha2::{Digest, Sha256};
use zero_bus::storage::Storage;
use zero_bus::{Bus, Json};

use crate::event::{self, Decision};
use crate::log::Logs;
use crate::report::{Report, Row, Unit};
use crate::setup::Setup;
use crate::stats::{Contender, Spread, rounds, seconds};
use crate::storage::{NoSync, Null};

/// The number of different events.
const EVENTS: u64 = 1024;

pub fn run(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    // In a memory file system, the disk does not count.
    let memory = Path::new("/dev/shm");
    let temp_dir = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { setup.temp_dir()? };
    let lines = event::lines(temp_dir.path(), EVENTS)?;
    let decisions: Vec<Decision> = (1..=EVENTS).map(Decision::nth).collect();
    let count = setup.times(50_000, 2_000);

    let without_files = appender(Arc::new(Null::default()), &decisions, count)?;
    let with_files = appender(Arc::new(NoSync::create(&temp_dir.path().join("bus"))?), &decisions, count)?;
    let bare = || {
        let elapsed = seconds(|| {
            for n in 0..count {
                let index = n % decisions.len();
                std::hint::black_box(Json::of(&decisions[index])?);
                std::hint::black_box(Sha256::digest(lines[index].as_bytes()));
            }
            Ok(())
        })?;
        Ok(elapsed / count as f64)
    };
    let hash = || {
        let elapsed = seconds(|| {
            for n in 0..count {
                std::hint::black_box(Sha256::digest(lines[n % lines.len()].as_bytes()));
            }
            Ok(())
        })?;
        Ok(elapsed / count as f64)
    };
    let mut contenders: Vec<Contender<'_>> = vec![without_files, with_files, Box::new(bare), Box::new(hash)];
    let figures = rounds(setup.rounds, &mut contenders)?;
    let [without_files, with_files, bare, hash] = &figures[..] else {
        anyhow::bail!("four contenders made {} rows", figures.len());
    };

    let compared_with = "canonical form of the payload and SHA-256 of the line";
    let work = "CPU time of an append in the library, without system calls";
    report
        .rows
        .push(Row::ratio(work, compared_with, Unit::Seconds, (without_files, bare))?.at_most(2.0, 1.5));
    let work = "CPU time of an append, with all system calls except the sync";
    report.rows.push(Row::ratio(work, compared_with, Unit::Seconds, (with_files, bare))?);
    let work = "CPU time of an append in the library, without system calls";
    report.rows.push(Row::ratio(work, "SHA-256 alone", Unit::Seconds, (without_files, hash))?);
    let shares: Vec<f64> =
        with_files.iter().zip(without_files).map(|(with, without)| 1.0 - without / with).collect();
    report.rows.push(Row::figure(
        "share of the system calls, except the sync, in the CPU time of an append",
        Unit::Ratio,
        Spread::of(&shares)?,
    ));
    Ok(())
}

/// A contender that appends typed payloads to a bus. Returns seconds per event.
fn appender(storage: Arc<dyn Storage>, decisions: &[Decision], count: usize) -> Result<Contender<'_>> {
    let bus = Bus::open_in(storage)?;
    Ok(Box::new(move || {
        let elapsed = seconds(|| {
            for n in 0..count {
                let index = n % decisions.len();
                bus.append(decisions[index].draft(index as u64 + 1)?)?;
            }
            Ok(())
        })?;
        Ok(elapsed / count as f64)
    }))
}
