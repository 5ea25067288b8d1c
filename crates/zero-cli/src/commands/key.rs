//! `zero-bus key`: create and show signing keys.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use serde::Serialize;
use zero_bus::Json;
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_proof::SigningKey;
use zero_proof::key::SignatureType;
use zeroize::Zeroizing;

use crate::key_use::forget_use;
use crate::private_file::create_private_file;
use crate::proof_input::read_key;

/// Create a signing key, or print its public keys.
///
/// A public key is printed as a vkey, once for each use: `log` verifies the checkpoints of a log,
/// `witness` the cosignatures of a witness, and `ml-dsa` the ML-DSA-44 signatures of either.
/// Policies list vkeys.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus key new --name example.com/desk-1 -o desk-1.key
  zero-bus key show desk-1.key

Exit codes: 0 passed, 2 could not run.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    New(NewArguments),
    Show(ShowArguments),
}

/// Create a signing key, and print its public keys.
///
/// The file (mode 0600) must not exist and must not be inside a bus. Keep a copy where only you can
/// read it: without the key, the log needs a new name. `openssl pkey -in FILE` reads the Ed25519
/// key.
#[derive(Debug, clap::Args)]
struct NewArguments {
    /// The name that signatures bear: for a log its origin, such as example.com/desk-1. A name
    /// without a scheme that nobody else uses; no spaces and no `+`.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The file to create.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Add a key for ML-DSA-44 signatures, which quantum computers are not expected to forge.
    #[arg(long)]
    ml_dsa: bool,
    /// Print one JSON object, see `key show`.
    #[arg(long)]
    json: bool,
}

/// Print the public keys of a signing key.
#[derive(Debug, clap::Args)]
struct ShowArguments {
    /// The key file.
    file: PathBuf,
    /// Print one JSON object: {"log", "ml_dsa", "name", "witness"}; "ml_dsa" is null without such a
    /// key.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    match &arguments.action {
        Action::New(arguments) => {
            let ml_dsa = arguments.ml_dsa.then(random).transpose()?;
            let key = SigningKey::from_seeds(&arguments.name, &*random()?, ml_dsa.as_deref())?;
            create_private_file(&arguments.output, key.encode().as_bytes())?;
            forget_use(&arguments.output)?;
            print_public_keys(&key, arguments.json)
        }
        Action::Show(arguments) => print_public_keys(&read_key(&arguments.file)?, arguments.json),
    }
}

/// 32 bytes of the operating system's randomness.
pub(crate) fn random() -> Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| anyhow!("cannot get random bytes: {error}"))?;
    Ok(bytes)
}

fn print_public_keys(key: &SigningKey, json: bool) -> Result<Outcome> {
    #[derive(Serialize)]
    struct Document<'a> {
        log: Option<String>,
        ml_dsa: Option<String>,
        name: &'a str,
        witness: Option<String>,
    }
    let vkey = |signature_type| key.verifier_key(signature_type).map(|vkey| vkey.to_string());
    let document = Document {
        log: vkey(SignatureType::Ed25519),
        ml_dsa: vkey(SignatureType::CosignatureMlDsa44),
        name: key.name(),
        witness: vkey(SignatureType::CosignatureEd25519),
    };
    if json {
        return print(Json::of(&document)?.as_str(), Outcome::Passed);
    }
    let uses = [("log", &document.log), ("witness", &document.witness), ("ml-dsa", &document.ml_dsa)];
    let lines = uses.iter().filter_map(|(name, vkey)| Some(format!("{name:<7}  {}", vkey.as_deref()?)));
    print(&lines.collect::<Vec<_>>().join("\n"), Outcome::Passed)
}
