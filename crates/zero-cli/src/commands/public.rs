//! `zero-bus public`: print what an operator may show to everybody.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use zero_bus::Reader;
use zero_paper::public::{Aggregates, Request, intelligence, profile};
use zero_paper::{Clock, SystemClock, journal_check, rfc3339};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::json_option::AlwaysJson;
use crate::proof_input::{read_checkpoint, read_secret};
use crate::retired_error::with_advice;
use crate::tiles::tiles_of_checkpoint;
use crate::time_arg::parse_time;

/// Print a public export of a bus.
///
/// An export holds aggregates only: counts, rates, the total notional and a hash over them. No
/// symbol, reason, key, trace or source appears in it. Handle and display name appear as given.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus public profile bus --handle desk-1 --publish > profile.json
  zero-bus public intelligence bus --handle desk-1 --journal decisions.jsonl
  zero-bus public profile bus --handle desk-1 --secret bus.secret --checkpoint bus.checkpoints/signed.000000000042

Exit codes: 0 passed, 1 failed (the log is damaged, or the journal and the bus disagree), 2 could not run.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    export: Export,
}

#[derive(Debug, clap::Subcommand)]
enum Export {
    /// Print the profile: identity, figures, verification.
    Profile(ExportArguments),
    /// Print the intelligence snapshot: figures and signals.
    Intelligence(ExportArguments),
}

#[derive(Debug, clap::Args)]
struct ExportArguments {
    /// The bus directory.
    dir: PathBuf,
    /// The decision journal. It must agree with the bus; the figures are then the journal's.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// The public name: 3 to 32 characters from A-Z, a-z, 0-9, _ and -.
    #[arg(long, value_name = "NAME")]
    handle: String,
    /// The name to display, at most 80 characters. [default: the handle]
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// State in the profile that the operator agrees to its publication.
    #[arg(long)]
    publish: bool,
    /// The time of the export: RFC 3339, Unix seconds, or an age. [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    generated_at: Option<f64>,
    /// The delay that the publisher promises. It is stated in the intelligence snapshot.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    public_delay: u64,
    #[command(flatten)]
    _json: AlwaysJson,
    /// Compute the figures from the events of this signed checkpoint, and add it to the export:
    /// "checkpoint": {"events", "note"}.
    #[arg(long, value_name = "FILE", requires = "secret", conflicts_with = "journal")]
    checkpoint: Option<PathBuf>,
    /// The disclosure secret of the bus, from which its checkpoints follow.
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    secret: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let (Export::Profile(options) | Export::Intelligence(options)) = &arguments.export;
    let generated_at = rfc3339(options.generated_at.unwrap_or_else(|| SystemClock.now()))
        .context("--generated-at: is outside the years -9999 to 9999")?;
    let display_name = options.display_name.as_deref();
    let mut request =
        Request::new(&options.handle, display_name, options.publish, &generated_at, options.public_delay)
            .map_err(|problem| anyhow!("{problem}"))?;
    let reader = Reader::open(&options.dir)?;
    let aggregates = match (&options.journal, &options.checkpoint, &options.secret) {
        (Some(journal), ..) => {
            journal_check::compare(journal, &reader)?;
            Aggregates::of_journal(journal)?
        }
        (None, Some(checkpoint), Some(secret)) => {
            let signed = read_checkpoint(checkpoint)?;
            let events = signed.checkpoint().size;
            // Only for a checkpoint of this log.
            tiles_of_checkpoint(&options.dir, &reader, &read_secret(secret)?, signed.checkpoint())?;
            request = request.with_checkpoint(events, signed.encode());
            Aggregates::of_first_events(&reader, events)
                .map_err(|error| with_advice(error, "take the figures from that copy"))?
        }
        _ => Aggregates::of_bus(&reader).map_err(|error| {
            with_advice(error, "take the figures from the decision journal with --journal, or from that copy")
        })?,
    };
    let export = match &arguments.export {
        Export::Profile(_) => profile(&aggregates, &request),
        Export::Intelligence(_) => intelligence(&aggregates, &request),
    };
    print(export?.as_str(), Outcome::Passed)
}
