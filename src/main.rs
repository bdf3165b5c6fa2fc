//! The `meridian` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    meridian::cli::main()
}
