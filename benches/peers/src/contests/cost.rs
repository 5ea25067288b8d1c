//! What one append costs beside its sync: ours against making the canonical form and hashing as many bytes, bare.

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

/// How many different events there are.
const EVENTS: u64 = 1024;

pub fn run(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    // Where a directory is memory, the disk is out of it.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { setup.place()? };
    let lines = event::lines(place.path(), EVENTS)?;
    let decisions: Vec<Decision> = (1..=EVENTS).map(Decision::nth).collect();
    let count = setup.times(50_000, 2_000);

    let without_files = appending(Arc::new(Null::default()), &decisions, count)?;
    let with_files = appending(Arc::new(NoSync::create(&place.path().join("bus"))?), &decisions, count)?;
    let bare = || {
        let took = seconds(|| {
            for n in 0..count {
                let which = n % decisions.len();
                std::hint::black_box(Json::of(&decisions[which])?);
                std::hint::black_box(Sha256::digest(lines[which].as_bytes()));
            }
            Ok(())
        })?;
        Ok(took / count as f64)
    };
    let hash = || {
        let took = seconds(|| {
            for n in 0..count {
                std::hint::black_box(Sha256::digest(lines[n % lines.len()].as_bytes()));
            }
            Ok(())
        })?;
        Ok(took / count as f64)
    };
    let mut contenders: Vec<Contender<'_>> = vec![without_files, with_files, Box::new(bare), Box::new(hash)];
    let figures = rounds(setup.rounds, &mut contenders)?;
    let [without_files, with_files, bare, hash] = &figures[..] else {
        anyhow::bail!("four contenders made {} rows", figures.len());
    };

    let against = "canonical form of the payload, SHA-256 of as many bytes as the line has";
    let work = "processor time of an append, in the library, without system calls";
    report.rows.push(Row::ratio(work, against, Unit::Seconds, (without_files, bare))?.at_most(2.0, 1.5));
    let work = "processor time of an append, with all system calls but the sync";
    report.rows.push(Row::ratio(work, against, Unit::Seconds, (with_files, bare))?);
    let work = "processor time of an append, in the library, without system calls";
    report.rows.push(Row::ratio(work, "SHA-256 alone", Unit::Seconds, (without_files, hash))?);
    let shares: Vec<f64> =
        with_files.iter().zip(without_files).map(|(with, without)| 1.0 - without / with).collect();
    report.rows.push(Row::figure(
        "share of the system calls but the sync in an append's processor time",
        Unit::Ratio,
        Spread::of(&shares)?,
    ));
    Ok(())
}

/// Appends typed payloads to a bus. Gives seconds an event.
fn appending(storage: Arc<dyn Storage>, decisions: &[Decision], count: usize) -> Result<Contender<'_>> {
    let bus = Bus::open_in(storage)?;
    Ok(Box::new(move || {
        let took = seconds(|| {
            for n in 0..count {
                let which = n % decisions.len();
                bus.append(decisions[which].draft(which as u64 + 1)?)?;
            }
            Ok(())
        })?;
        Ok(took / count as f64)
    }))
}
