//! Measures zero-bus against bare system calls, common tools and other stores. Both sides of a
//! ratio are measured in one run, in alternating order.

#![forbid(unsafe_code)]

mod appenders;
mod child;
mod contests;
mod event;
mod log;
mod machine;
mod plot;
mod report;
mod setup;
mod stats;
mod storage;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;

use crate::contests::CONTESTS;
use crate::log::Logs;
use crate::report::Report;
use crate::setup::Setup;

/// Measure zero-bus against system calls, tools and other stores
#[derive(Debug, Parser)]
#[command(after_help = "\
Examples:
  cargo run --release -- --list
  cargo run --release -- --only bare-1 verify
  cargo run --release -- --write")]
struct Arguments {
    /// List the contests
    #[arg(long)]
    list: bool,
    /// Run only these contests
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Measure each contest in N rounds and report the median
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Use small sizes and short times, to check that all of it works
    #[arg(long)]
    quick: bool,
    /// Create the temporary files in DIR [default: the build directory]
    ///
    /// DIR should be on the disk whose speed matters. The files are removed at the end.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Set the size of the long log, in MiB
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    size_mib: u64,
    /// Set the longest log of the contest `growth`, in events
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    growth_max: u64,
    /// Measure the peak memory at 10 GiB as well
    #[arg(long)]
    huge: bool,
    /// Use the release build of zero-bus in DIR [default: target/release of the checkout]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Write the results to PERFORMANCE.md instead of printing them
    ///
    /// The plots are written to the same directory.
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// Find PERFORMANCE.md in DIR [default: docs of the checkout]
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    #[command(subcommand)]
    child: Option<child::Work>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(work) = &arguments.child {
        return child::run(work);
    }
    if arguments.list {
        CONTESTS.iter().for_each(|contest| println!("{:12} {}", contest.name, contest.about));
        return Ok(());
    }
    if let Some(unknown) =
        arguments.only.iter().find(|name| CONTESTS.iter().all(|known| known.name != **name))
    {
        bail!("there is no contest {unknown}; --list shows all contests");
    }
    let checkout = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let parent = match arguments.dir {
        Some(dir) => dir,
        None => build_directory()?,
    };
    std::fs::create_dir_all(&parent)?;
    let dir = tempfile::Builder::new().prefix("peers-").tempdir_in(&parent)?;
    let quick = arguments.quick;
    let setup = Setup {
        dir: dir.path().to_owned(),
        rounds: usize::from(if quick { arguments.rounds.min(2) } else { arguments.rounds }),
        budget: Duration::from_millis(if quick { 100 } else { 1000 }),
        quick,
        log_bytes: (if quick { arguments.size_mib.min(16) } else { arguments.size_mib }) << 20,
        growth_max: if quick { arguments.growth_max.min(10_000) } else { arguments.growth_max },
        huge: arguments.huge,
        programs: arguments.bin_dir.unwrap_or_else(|| checkout.join("target/release")),
        scenario: checkout.join("examples/paper-trading/scenario.json"),
    };
    let mut report = Report::default();
    let mut logs = Logs::new(&setup);
    for contest in CONTESTS {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| name == contest.name) {
            continue;
        }
        eprintln!("{}: {}", contest.name, contest.about);
        let begin = Instant::now();
        if let Err(error) = (contest.run)(&setup, &mut logs, &mut report) {
            // A failed contest does not stop the others.
            report.note(format!("`{}` was skipped: {error:#}", contest.name));
        }
        eprintln!("  {:.0} s", begin.elapsed().as_secs_f64());
    }
    let method = setup.describe();
    if arguments.write {
        return report.write(&method, &setup.dir, &arguments.docs.unwrap_or_else(|| checkout.join("docs")));
    }
    print!("{}", report.markdown(&method, &setup.dir));
    Ok(())
}

/// The directory of this program. It is on a disk; the system's temporary directory may be in
/// memory.
fn build_directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().map_or_else(|| PathBuf::from("target"), PathBuf::from))
}
