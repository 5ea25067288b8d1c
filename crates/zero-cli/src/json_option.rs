//! `--json` of the commands whose output is JSON in any case.

/// Accepts `--json`, as every command does that prints a result.
#[derive(Debug, clap::Args)]
pub(crate) struct AlwaysJson {
    /// Accepted as everywhere; the output is JSON in any case.
    #[arg(long = "json")]
    _json: bool,
}
