//! `zero-bus ingest`: the receiving end of `mirror --to https://...`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zero_mirror::ingest::{Limits, Receiver, ReceiverOptions, Rights, Scope, Shutdown, add_token};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::PROGRAM;

/// Receive the events of buses over HTTP, into an SQL database.
///
/// Every chain is checked as it comes in, and a batch is acknowledged when the database holds it durably. Without --tokens only
/// this machine is listened to. GET /openapi.json says what is answered, /health whether events can be taken, /metrics how it
/// goes.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  zero-bus ingest --listen 127.0.0.1:8700 --to sqlite:fleet.db
  zero-bus ingest token --tokens tokens --bus first --name desk-1
  zero-bus ingest --listen 0.0.0.0:8700 --to postgres://zero@db.example/fleet --tokens tokens \\
    --tls-cert cert.pem --tls-key key.pem

SIGTERM or SIGINT ends it when what is under way is done; a second one at once.

Exit codes: 0 it was stopped, 2 could not be done."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    job: Option<Job>,
    /// Where to listen: an IP address and a port, as in 127.0.0.1:8700. With port 0 the system chooses one.
    #[arg(long, value_name = "ADDR", required = true)]
    listen: Option<SocketAddr>,
    /// Where to put the events: sqlite:PATH or postgres://...
    #[arg(long, value_name = "URL", required = true)]
    to: Option<String>,
    /// Who may do what, see `zero-bus ingest token`. A change counts from the next request on.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// The certificate for TLS and those that lead to its authority, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A proxy in front ends TLS, so listen without it on other addresses than this machine's own too.
    #[arg(long)]
    behind_proxy: bool,
    /// Requests a second of each token; twice as many at once.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

#[derive(Debug, clap::Subcommand)]
enum Job {
    Token(TokenArguments),
}

/// Make a token and print it; the tokens file keeps its checksum alone.
///
/// To take a token back, take its line out of the file.
#[derive(Debug, clap::Args)]
struct TokenArguments {
    /// The tokens file, which is made where there is none.
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// The bus that it is for, by the checksum of its first event; `any`; or `first`: the first bus that it is used for,
    /// which must be a new one.
    #[arg(long, value_name = "ID", value_parser = scope)]
    bus: Scope,
    /// For reading alone.
    #[arg(long)]
    read_only: bool,
    /// What to call it in the file.
    #[arg(long, value_name = "NAME", default_value = "unnamed")]
    name: String,
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text)
        .ok_or_else(|| "should be `any`, `first` or `sha256:` and 64 lower-case hex digits".to_owned())
}

pub(crate) fn run(arguments: Arguments) -> Result<Outcome> {
    if let Some(Job::Token(TokenArguments { tokens, bus, read_only, name })) = &arguments.job {
        let rights = if *read_only { Rights::Read } else { Rights::Write };
        return print(add_token(tokens, *bus, rights, name)?.reveal(), Outcome::Passed);
    }
    let (Some(listen), Some(to)) = (arguments.listen, arguments.to) else {
        bail!("needs --listen and --to; see {PROGRAM} ingest --help")
    };
    if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| to.starts_with(scheme)) {
        // What is given may hold a password.
        bail!("--to: events are received into a database: sqlite:PATH or postgres://...");
    }
    if arguments.tokens.is_none() {
        print_message(PROGRAM, "without --tokens everybody on this machine may hand over and read events");
    }
    let settings = ReceiverOptions {
        listen,
        tokens: arguments.tokens,
        tls: arguments.tls_cert.zip(arguments.tls_key),
        behind_proxy: arguments.behind_proxy,
        limits: Limits { requests_per_second: arguments.rate, ..Limits::default() },
    };
    let log = Arc::new(|text: &str| print_message(PROGRAM, text));
    let receiver = Receiver::bind(settings, Box::new(move || zero_mirror::open(&to)), log)?;
    stop_with_a_signal(receiver.shutdown())?;
    print(&format!("listening on {}", receiver.url()), Outcome::Passed)?;
    receiver.run()?;
    Ok(Outcome::Passed)
}

/// A signal ends it when what is under way is done; a second one at once.
fn stop_with_a_signal(stop: Shutdown) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    let listening = move || {
        for (signal, before) in signals.forever().zip(0..) {
            if before > 0 {
                std::process::exit(128 + signal);
            }
            stop.begin();
        }
    };
    thread::Builder::new().spawn(listening).context("cannot begin a thread to wait for signals")?;
    Ok(())
}
