//! Writing the audit document of a long log to a file, compared with copying the log.

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

/// Several lines for every thread.
const LONGEST_LINES: u64 = 16;

pub fn run(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let log = logs.long()?;
    let temp_dir = setup.temp_dir()?;
    let (document, copy) = (temp_dir.path().join("audit.json"), temp_dir.path().join("copy.jsonl"));
    let reader = Reader::open(&log.bus)?;
    // Before each measurement, a file of the same size is written and removed: otherwise the first
    // contender would wait until the host provides the memory. Results are removed outside the
    // measured time, so that no contender waits for the pages of the other.
    let claim_memory = || {
        std::fs::copy(&log.file, &copy)?;
        std::fs::remove_file(&copy)
    };
    let audit = || {
        claim_memory()?;
        let elapsed = seconds(|| {
            let (verdict, _) = reader.audit(BufWriter::new(File::create(&document)?), &mut |_| {})?;
            ensure!(verdict.ok(), "the log is not valid");
            Ok(())
        })?;
        std::fs::remove_file(&document)?;
        Ok(elapsed)
    };
    let cp = || {
        claim_memory()?;
        let elapsed = seconds(|| {
            let status = Command::new("cp").arg(&log.file).arg(&copy).status()?;
            ensure!(status.success(), "cp failed: {status}");
            Ok(())
        })?;
        std::fs::remove_file(&copy)?;
        Ok(elapsed)
    };
    let (audit, cp) = duel(setup.rounds, Box::new(audit), Box::new(cp))?;
    let work = format!("audit {} to a file", setup.log_size());
    report.rows.push(Row::ratio(&work, "`cp` of the log", Unit::Seconds, (&audit, &cp))?.at_most(1.6, 1.2));

    let mut measure_peak = |subject: &str, bus: &Path| {
        let mut child = child::command("audit-memory")?;
        let output = child.arg(bus).arg(&document).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the child that audits failed");
        let peak: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        let work = format!("peak memory of a process that audits {subject}");
        let max_bytes = f64::from(64 << 20);
        report.rows.push(Row::figure(work, Unit::Bytes, Spread::of(&[peak])?).at_most(max_bytes, max_bytes));
        Ok(())
    };
    measure_peak(&setup.log_size(), &log.bus)?;
    let longest = of_longest_lines(&temp_dir.path().join("longest"), LONGEST_LINES)?;
    measure_peak(&format!("{LONGEST_LINES} lines of maximum length"), &longest)
}
