//! `zero-bus`: read a runtime bus, and write to it.

fn main() -> std::process::ExitCode {
    zero_cli::main(std::env::args_os()).into()
}
