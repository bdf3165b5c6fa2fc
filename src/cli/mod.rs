//! L6: the command line. Reads arguments, asks `app` or a running server, prints tables or JSON, and ends with a code that scripts can use.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done, warnings included |
//! | 1 | failed, or problems found |
//! | 2 | the command line is wrong |
//! | 3 | the server is unreachable, or the token is not its own |
//! | 4 | refused by a safety rule, or not confirmed |

mod access;
mod access_args;
mod args;
mod client;
mod commands;
mod confirm;
mod events;
pub mod geo;
mod health;
mod list;
mod list_args;
mod rule;
mod show;
mod table;
mod wait;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::app;
use crate::config::{OsFiles, load_settings_alone};
use args::{Cli, Command, ConfigArg};
use geo::{GeoCommand, GeoError};

/// Failed, or problems found.
pub const FAILED: u8 = 1;
/// The command line is wrong; clap ends with it too.
pub const USAGE: u8 = 2;
/// Unreachable or unauthorised.
pub const UNREACHABLE: u8 = 3;
/// Refused by a safety rule.
pub const REFUSED: u8 = 4;

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let Cli { config, command } = Cli::parse();
    match command {
        Command::Run { strict } => app::run(&app::RunOptions { config: config.path, strict }),
        Command::Check { zone, origin, json } => app::check(&app::CheckOptions { config: config.path, zone: zone.zip(origin), json }),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "meridian", &mut script);
            printed(&String::from_utf8_lossy(&script))
        }
        Command::Geo(command) => run_geo(&config, &command),
        Command::Client(command) => commands::run(&config, *command),
    }
}

/// `meridian geo`: works on files alone. Only `lookup` without `--database` asks the configuration.
fn run_geo(config: &ConfigArg, command: &GeoCommand) -> ExitCode {
    let configured = match command {
        GeoCommand::Lookup(args) if args.databases.is_empty() => load_settings_alone(&OsFiles, &config.path).0.geo_databases,
        _ => Vec::new(),
    };
    match geo::run(command, &configured, &mut io::stdout().lock(), &mut io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(GeoError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("geo: {error}"));
            FAILED.into()
        }
    }
}

/// Why a text did not get to stdout.
#[derive(Debug)]
enum Unwritten {
    /// Whoever read it has gone (`| head`): no error of ours, but nobody is there to go on for.
    ReaderGone,
    /// It cannot be written: a full disk for example.
    Failed(io::Error),
}

impl Unwritten {
    /// Says so where it is an error; the exit code that it ends with.
    fn end(self) -> ExitCode {
        match self {
            Unwritten::ReaderGone => ExitCode::SUCCESS,
            Unwritten::Failed(error) => {
                complain(&format!("standard output: {error}"));
                FAILED.into()
            }
        }
    }
}

/// Writes to stdout.
fn print(text: &str) -> Result<(), Unwritten> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Unwritten::ReaderGone,
        _ => Unwritten::Failed(error),
    })
}

/// The same as the whole of what a command does.
fn printed(text: &str) -> ExitCode {
    print(text).map_or_else(Unwritten::end, |()| ExitCode::SUCCESS)
}

/// Writes to stderr, if anybody is there to read it.
fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The same for a line of ours.
fn complain(text: &str) {
    tell(&format!("meridian: {text}\n"));
}

/// The man page and completions come from it; tests look at it.
pub fn definition() -> clap::Command {
    Cli::command()
}
