//! Parses, calls, exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    moorline::cli::main()
}
