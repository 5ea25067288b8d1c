//! `zero-bus ingest`: receive events over HTTP, from `mirror --to https://...`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use zero_mirror::ingest::{Limits, Receiver, ReceiverOptions, Rights, Scope, add_token};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_program::signals::on_stop_signal;

use crate::program::PROGRAM;

/// Receive the events of buses over HTTP into a database.
///
/// Every chain is verified on arrival. A batch is acknowledged once the database has stored it
/// durably. Without --tokens only loopback addresses are allowed. GET /openapi.json describes the
/// API, /health says whether events are accepted, and /metrics is for Prometheus.
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

SIGINT, SIGTERM or SIGHUP stops it once the requests in progress are answered; a second signal stops it at once.

Exit codes: 0 passed (it was stopped), 2 could not run."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The IP address and port to listen on, as in 127.0.0.1:8700. With port 0 the system chooses a
    /// port.
    #[arg(long, value_name = "ADDR", required = true)]
    listen: Option<SocketAddr>,
    /// The database for the events: sqlite:PATH or postgres://...
    #[arg(long, value_name = "URL", required = true)]
    to: Option<String>,
    /// The tokens file, see `zero-bus ingest token`. A change takes effect with the next request.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// The TLS certificate and its chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the TLS certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A proxy in front terminates TLS: allow other addresses than loopback without TLS.
    #[arg(long)]
    behind_proxy: bool,
    /// Requests per second allowed for each token; bursts of twice as many.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Token(TokenArguments),
}

/// Create a token and print it.
///
/// The tokens file stores only the token's checksum. To revoke a token, delete its line from the
/// file.
#[derive(Debug, clap::Args)]
struct TokenArguments {
    /// The tokens file. Created if it does not exist.
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// The bus that the token is for: the checksum of its first event; `any`; or `first`, the first
    /// bus it is used for, which must be new to the receiver.
    #[arg(long, value_name = "ID", value_parser = parse_scope)]
    bus: Scope,
    /// Allow reading only.
    #[arg(long)]
    read_only: bool,
    /// The token's name in the file.
    #[arg(long, value_name = "NAME", default_value = "unnamed")]
    name: String,
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text)
        .ok_or_else(|| "expected `any`, `first`, or `sha256:` and 64 lower-case hex digits".to_owned())
}

pub(crate) fn run(arguments: Arguments) -> Result<Outcome> {
    if let Some(Command::Token(TokenArguments { tokens, bus, read_only, name })) = &arguments.command {
        let rights = if *read_only { Rights::Read } else { Rights::Write };
        return print(add_token(tokens, *bus, rights, name)?.reveal(), Outcome::Passed);
    }
    let (Some(listen), Some(to)) = (arguments.listen, arguments.to) else {
        bail!("needs --listen and --to; see {PROGRAM} ingest --help")
    };
    if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| to.starts_with(scheme)) {
        // The URL is not quoted: it may contain a password.
        bail!("--to: not a database; name sqlite:PATH or postgres://...");
    }
    if arguments.tokens.is_none() {
        print_message(PROGRAM, "without --tokens every user of this machine can write and read events");
    }
    let options = ReceiverOptions {
        listen,
        tokens: arguments.tokens,
        tls: arguments.tls_cert.zip(arguments.tls_key),
        behind_proxy: arguments.behind_proxy,
        limits: Limits { requests_per_second: arguments.rate, ..Limits::default() },
    };
    let log = Arc::new(|text: &str| print_message(PROGRAM, text));
    let receiver = Receiver::bind(options, Box::new(move || zero_mirror::open(&to)), log)?;
    let shutdown = receiver.shutdown();
    on_stop_signal(move |_| shutdown.begin())?;
    print(&format!("listening on {}", receiver.url()), Outcome::Passed)?;
    receiver.run()?;
    Ok(Outcome::Passed)
}
