//! The `highwater` program: parses the command line and hands over.

fn main() -> std::process::ExitCode {
    highwater::cli::run(std::env::args_os())
}
