//! The audit document of a long log, written to a file, against a copy of the log.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use zero_bus::Reader;

use crate::child;
use crate::log::{Logs, of_longest_lines};
use crate::report::{Report, Row, Unit};
use crate::setup::Setup;
use crate::stats::{Spread, duel, seconds};

/// Enough for every thread to hold one, several times.
const LONGEST_LINES: u64 = 16;

pub fn run(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let log = logs.long()?;
    let place = setup.place()?;
    let (document, copy) = (place.path().join("audit.json"), place.path().join("copy.jsonl"));
    let reader = Reader::open(&log.bus)?;
    // What was written is removed outside of the time that is taken, so that none has to wait for the other's pages; and
    // before it as much is written and removed, so that neither waits for a host to find the machine memory.
    let memory = || {
        std::fs::copy(&log.file, &copy)?;
        std::fs::remove_file(&copy)
    };
    let audit = || {
        memory()?;
        let took = seconds(|| {
            let (verdict, _) = reader.audit(BufWriter::new(File::create(&document)?), &mut |_| {})?;
            ensure!(verdict.ok(), "the log is not sound");
            Ok(())
        })?;
        std::fs::remove_file(&document)?;
        Ok(took)
    };
    let cp = || {
        memory()?;
        let took = seconds(|| {
            let status = Command::new("cp").arg(&log.file).arg(&copy).status()?;
            ensure!(status.success(), "cp failed: {status}");
            Ok(())
        })?;
        std::fs::remove_file(&copy)?;
        Ok(took)
    };
    let (audit, cp) = duel(setup.rounds, Box::new(audit), Box::new(cp))?;
    let work = format!("audit {} to a file", setup.log_size());
    report.rows.push(Row::ratio(&work, "`cp` of the log", Unit::Seconds, (&audit, &cp))?.at_most(1.6, 1.2));

    let mut peak = |what: &str, bus: &Path| {
        let mut child = child::command("audit-memory")?;
        let output = child.arg(bus).arg(&document).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the child that audits failed");
        let peak: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        let work = format!("peak memory of a process that audits {what}");
        let most = f64::from(64 << 20);
        report.rows.push(Row::figure(work, Unit::Bytes, Spread::of(&[peak])?).at_most(most, most));
        Ok(())
    };
    peak(&setup.log_size(), &log.bus)?;
    let longest = of_longest_lines(&place.path().join("longest"), LONGEST_LINES)?;
    peak(&format!("{LONGEST_LINES} of the longest lines there can be"), &longest)
}
