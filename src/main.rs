//! The `pgdrover` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgdrover::cli::main()
}
