//! The command line: one file for each subcommand, and the table of them.

mod check;
mod demo;
mod hash;
mod report;
mod ring;
mod route;
mod serve;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};

/// A configuration is wrong (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;
/// The command line asks for something that makes no sense, as clap's own errors.
const EXIT_USAGE: u8 = 2;

/// One PostgreSQL endpoint over a sharded and replicated cluster.
#[derive(Parser)]
#[command(name = "pgdrover", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The table of subcommands: a row here and one in [`Command::run`] for each file beside this.
#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Ring(ring::Args),
    Route(route::Args),
    Hash(hash::Args),
    Demo(demo::Args),
}

impl Command {
    fn run(self) -> ExitCode {
        match self {
            Command::Serve(args) => serve::run(args),
            Command::Check(args) => check::run(args),
            Command::Ring(args) => ring::run(args),
            Command::Route(args) => route::run(args),
            Command::Hash(args) => hash::run(args),
            Command::Demo(args) => demo::run(args),
        }
    }
}

/// Runs the subcommand that the command line names; returns the program's exit status.
pub fn main() -> ExitCode {
    Cli::parse().command.run()
}

/// The configuration file, as an argument that subcommands share.
#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", required_unless_present = "file")]
    config: Option<PathBuf>,
    /// The configuration file.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// The file's name.
    fn path(&self) -> PathBuf {
        self.config
            .clone()
            .or_else(|| self.file.clone())
            .unwrap_or_default()
    }

    /// Reads it; tells all errors on the standard error output and gives the exit status.
    fn load(&self) -> Result<Config, ExitCode> {
        config::load(&self.path()).map_err(|errors| {
            complain(&errors);
            let count = errors.iter().len();
            let noun = if count == 1 { "error" } else { "errors" };
            complain(format_args!("{}: {count} {noun}", self.path().display()));
            ExitCode::from(EXIT_CONFIG)
        })
    }
}

/// Prints a line for the user. A closed pipe is no error: the reader has seen enough.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line on the standard error output.
fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
