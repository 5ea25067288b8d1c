//! `zero-engine-run`: the paper trading runtime and the production-parity report.

fn main() -> std::process::ExitCode {
    zero_engine_run::main(std::env::args_os()).into()
}
