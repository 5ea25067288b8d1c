//! `zero-bus secret`: create the disclosure secret of a bus.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Json, Reader};
use zero_program::message::print_warning;
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_proof::tile_store::TILES_HEAD;

use crate::commands::key::random;
use crate::key_use::{check_secret_use, forget_use};
use crate::private_file::{check_is_outside, create_private_file};
use crate::program::PROGRAM;
use crate::tiles::TILES;

/// Create the disclosure secret of a bus.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus secret new bus -o bus.secret

Exit codes: 0 passed, 2 could not run.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    New(NewArguments),
}

/// Create the disclosure secret of a bus.
///
/// The secret prevents that readers guess the fields of an event from its hash, and lets the owner
/// disclose single fields. Each bus needs a secret of its own; FILE.used-for records the bus, and
/// another one is refused. The file (mode 0600) must not exist
/// and must not be inside the bus. Keep a copy where only you can read it: if the secret is lost,
/// nothing of the bus can be disclosed, and no further checkpoint can be signed. The log itself
/// does not need it.
#[derive(Debug, clap::Args)]
struct NewArguments {
    /// The bus directory.
    dir: PathBuf,
    /// The file to create.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON object: {"output"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let Action::New(NewArguments { dir, output, json }) = &arguments.action;
    let reader = Reader::open(dir)?;
    check_is_outside(output, dir)?;
    create_private_file(output, &*random()?)?;
    forget_use(output)?;
    check_secret_use(output, &reader)?;
    if dir.join(TILES).join(TILES_HEAD).exists() {
        let text = "the bus has a tree already, made with another secret; checkpoints of that tree need the old secret";
        print_warning(PROGRAM, text);
    }
    if *json {
        let document = BTreeMap::from([("output", output.display().to_string())]);
        return print(Json::of(&document)?.as_str(), Outcome::Passed);
    }
    print(&format!("{}: created; keep a copy where only you can read it", output.display()), Outcome::Passed)
}
