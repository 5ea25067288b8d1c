//! Verifying a long log, compared with tools that only hash it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use zero_bus::Reader;

use crate::child;
use crate::log::{Logs, of_size};
use crate::report::{Report, Row, Unit};
use crate::setup::{Setup, size};
use crate::stats::{Contender, Spread, rounds, seconds};

pub fn run(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let log = logs.long()?;
    let reader = Reader::open(&log.bus)?;
    let verify = |threads: Option<NonZeroUsize>| {
        let reader = &reader;
        move || {
            seconds(|| {
                let verdict = match threads {
                    None => reader.verify()?,
                    Some(threads) => reader.verify_on_threads(threads, &mut |_| {})?,
                };
                ensure!(verdict.ok(), "the log is not valid");
                Ok(())
            })
        }
    };
    let openssl =
        || seconds(|| run_silently(Command::new("openssl").args(["dgst", "-sha256"]).arg(&log.file)));
    let sha256sum = || seconds(|| run_silently(Command::new("sha256sum").arg(&log.file)));
    let mut contenders: Vec<Contender<'_>> = vec![
        Box::new(verify(None)),
        Box::new(openssl),
        Box::new(verify(Some(NonZeroUsize::MIN))),
        Box::new(sha256sum),
    ];
    let figures = rounds(setup.rounds, &mut contenders)?;
    let [all_threads, openssl, one_thread, sha256sum] = &figures[..] else {
        anyhow::bail!("four contenders made {} rows", figures.len());
    };
    let work = format!("verify {}", setup.log_size());
    let one_thread_work = format!("{work}, one thread");
    let hash = "`openssl dgst -sha256`";
    report.rows.push(Row::ratio(&work, hash, Unit::Seconds, (all_threads, openssl))?.at_most(0.9, 0.6));
    report
        .rows
        .push(Row::ratio(&one_thread_work, hash, Unit::Seconds, (one_thread, openssl))?.at_most(1.5, 1.0));
    report.rows.push(Row::ratio(&work, "`sha256sum`", Unit::Seconds, (all_threads, sha256sum))?);
    measure_memory(setup, report, setup.log_bytes, &log.bus)?;
    if setup.huge {
        let temp_dir = setup.temp_dir()?;
        let bytes = 10 << 30;
        measure_memory(setup, report, bytes, &of_size(&temp_dir.path().join("huge"), bytes)?.bus)?;
    }
    Ok(())
}

fn run_silently(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command.stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(status.success(), "{} failed: {status}", program.display());
    Ok(())
}

fn measure_memory(setup: &Setup, report: &mut Report, bytes: u64, bus: &Path) -> Result<()> {
    let peak = || -> Result<f64> {
        let output = child::command("verify-memory")?.arg(bus).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the child that verifies failed");
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    let peaks = (0..setup.rounds.min(3)).map(|_| peak()).collect::<Result<Vec<_>>>()?;
    let row = Row::figure(
        format!("peak memory of a process that verifies {}", size(bytes)),
        Unit::Bytes,
        Spread::of(&peaks)?,
    );
    let max_bytes = f64::from(64 << 20);
    report.rows.push(row.at_most(max_bytes, max_bytes));
    Ok(())
}
