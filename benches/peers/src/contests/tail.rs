//! Listing the few events of one type in a long log: `zero-bus tail`, which verifies every event,
//! compared with `grep`.

use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::event::{RARE_EVERY, RARE_TYPE};
use crate::log::Logs;
use crate::report::{Report, Row, Unit};
use crate::setup::Setup;
use crate::stats::{duel, seconds};

pub fn run(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let log = logs.long()?;
    let program = setup.programs.join("zero-bus");
    ensure!(
        program.is_file(),
        "there is no release build of zero-bus: run `cargo build --release`, or name it with --bin-dir"
    );
    let expected = log.events / RARE_EVERY;
    let tail = || {
        seconds(|| {
            drain(Command::new(&program).arg("tail").arg(&log.bus).args(["--type", RARE_TYPE]), expected)
        })
    };
    let grep = || {
        seconds(|| {
            drain(Command::new("grep").args(["-F", RARE_TYPE]).arg(&log.file).env("LC_ALL", "C"), expected)
        })
    };
    let (tail, grep) = duel(setup.rounds, Box::new(tail), Box::new(grep))?;
    let work = format!("`zero-bus tail --type` for 1 event in {RARE_EVERY}, {}", setup.log_size());
    report.rows.push(Row::ratio(work, "`grep -F`", Unit::Seconds, (&tail, &grep))?.at_most(2.0, 1.0));
    Ok(())
}

/// Reads the output of a program through a pipe. With the null device as its output, `grep` would
/// stop at the first match.
fn drain(command: &mut Command, expected_lines: u64) -> Result<()> {
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut text = Vec::new();
    child.stdout.take().context("no output to read")?.read_to_end(&mut text)?;
    let status = child.wait()?;
    ensure!(status.success(), "{} failed: {status}", program.display());
    let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
    ensure!(lines == expected_lines, "{} printed {lines} of {expected_lines} lines", program.display());
    Ok(())
}
