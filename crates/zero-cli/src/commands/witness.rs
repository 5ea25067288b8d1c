//! `zero-bus witness`: cosign the checkpoints of other operators' logs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use zero_program::message::{print_message, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_program::signals::on_stop_signal;
use zero_proof::VerifierKey;
use zero_witness::{Limits, Witness, WitnessServer, WitnessServerOptions};

use crate::commands::key::random;
use crate::program::PROGRAM;
use crate::proof_input::read_key;
use crate::witness_state::open_witness_state;

/// Cosign the checkpoints of other operators' logs.
///
/// Serves C2SP tlog-witness: POST /add-checkpoint cosigns a checkpoint that extends the last one
/// cosigned for its log, and GET /HASH/checkpoint returns that one, where HASH is the SHA-256 of
/// the origin. The state is durable before a cosignature is sent. If the key file has an ML-DSA
/// key, there are two cosignatures. GET /metrics is for Prometheus.
///
/// Clients need no token, because the log's signature proves where a checkpoint comes from.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus witness --listen 127.0.0.1:8701 --key witness.key --state witness --log example.com/desk-1+0a1b2c3d+AY...
  zero-bus witness --listen 0.0.0.0:8701 --key witness.key --state witness --log VKEY --log VKEY \\
    --tls-cert cert.pem --tls-key key.pem

FILE.used-for, next to the key, records which state the key is used with. Another state, an empty or a missing one is refused.
Never restore the state from an older copy, and never run two witnesses with one key: either could cosign two trees.

SIGINT, SIGTERM or SIGHUP stops it once the requests in progress are answered; a second signal stops it at once.

Exit codes: 0 passed (it was stopped), 2 could not run.")]
pub(crate) struct Arguments {
    /// The IP address and port to listen on, as in 127.0.0.1:8701. With port 0 the system chooses a
    /// port.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The key file of the witness, see `zero-bus key new`. Do not use the key of a log.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The directory with the last cosigned checkpoint of each log. Created at the first start with
    /// this key.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The vkey of a log, whose name is the origin of the log. Repeat it for several logs, and for
    /// several keys of a log.
    #[arg(long, value_name = "VKEY", required = true)]
    log: Vec<VerifierKey>,
    /// The TLS certificate and its chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the TLS certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A proxy in front terminates TLS: allow other addresses than loopback without TLS.
    #[arg(long)]
    behind_proxy: bool,
    /// Requests per second allowed for all clients together; bursts of twice as many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

pub(crate) fn run(arguments: Arguments) -> Result<Outcome> {
    let key = read_key(&arguments.key)?;
    let state = open_witness_state(&arguments.state, &arguments.key, random)?;
    let witness = Witness::open(key, arguments.log, state)?;
    for origin in witness.logs_with_own_key() {
        let problem = format!(
            "the log `{}` signs with the key of this witness, so its cosignatures prove nothing; create another key",
            origin.escape_debug()
        );
        print_warning(PROGRAM, &problem);
    }
    let options = WitnessServerOptions {
        listen: arguments.listen,
        tls: arguments.tls_cert.zip(arguments.tls_key),
        behind_proxy: arguments.behind_proxy,
        limits: Limits { requests_per_second: arguments.rate, ..Limits::default() },
    };
    // A clock before 1970 makes cosigning fail.
    let clock = Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()));
    let log = Arc::new(|text: &str| print_message(PROGRAM, text));
    let server = WitnessServer::bind(options, witness, clock, log)?;
    let shutdown = server.shutdown();
    on_stop_signal(move |_| shutdown.begin())?;
    print(&format!("listening on {}", server.url()), Outcome::Passed)?;
    server.run()?;
    Ok(Outcome::Passed)
}
