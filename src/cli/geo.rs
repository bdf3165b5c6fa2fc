//! `meridian geo`: builds databases from text, and shows what databases say about an address. Reads and writes files; the work is done in
//! [`crate::geo`].

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::control::unix_now;
use crate::geo::build::{Built, Input, Report, build, database_type};
use crate::geo::writer::{About, TooLarge, write};
use crate::geo::{Table, TableError, space};

/// Largest file that is read, octets: ten times the largest database on the market, and a guard against a device or an endless pipe.
const MAX_FILE_LEN: u64 = 8 << 30;

/// What `meridian geo` does.
#[derive(Clone, Debug, Subcommand)]
pub enum GeoCommand {
    /// Build a MaxMind-format database from CSV ranges
    ///
    /// Columns are found by header (network, or start and end; country, continent, subdivision, latitude, longitude, asn). Files without one are
    /// taken as start,end,country (as tor-geoipdb, IP2Location and DB-IP write them) or network,country. Later files are laid over earlier ones
    /// field by field; within a file a later line counts where two overlap.
    #[command(after_help = "\
Examples:
  meridian geo build ranges.csv geodata/own.mmdb
  meridian geo build countries.csv overrides.csv geodata/own.mmdb --description \"our offices on top\"")]
    Build(BuildArgs),
    /// Show what is known about an address
    #[command(after_help = "\
Examples:
  meridian geo lookup 203.0.113.7
  meridian geo lookup 2001:db8::1 --database geodata/own.mmdb --json")]
    Lookup(LookupArgs),
}

/// Arguments of `geo build`.
#[derive(Clone, Debug, Args)]
pub struct BuildArgs {
    /// CSV files, then the database to write (ending in .mmdb)
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Database type in the metadata; by default Meridian-City, Meridian-Country or Meridian-ASN
    #[arg(long = "type", value_name = "TYPE")]
    pub database_type: Option<String>,
    /// Description in the metadata
    #[arg(long, default_value = "Built by meridian geo build", value_name = "TEXT")]
    pub description: String,
    /// Build time in the metadata, seconds since 1970, for repeatable builds; by default now
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    pub build_time: Option<u64>,
}

/// Arguments of `geo lookup`.
#[derive(Clone, Debug, Args)]
pub struct LookupArgs {
    /// IPv4 or IPv6 address
    pub address: IpAddr,
    /// Database to ask instead of the configured ones; repeat it for several, later ones are laid over earlier ones
    #[arg(long = "database", short = 'd', value_name = "FILE")]
    pub databases: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Why a command failed. Nothing was written.
#[derive(Debug)]
pub enum GeoError {
    /// A file cannot be read.
    Read(PathBuf, io::Error),
    /// A file is larger than we read.
    TooLong(PathBuf, u64),
    /// The output cannot be written.
    Write(PathBuf, io::Error),
    /// The last file is not a place to write a database to.
    Output(PathBuf),
    /// Lines of the inputs are bad.
    Lines(Report),
    /// The result does not fit the format.
    TooLarge(TooLarge),
    /// Databases cannot be used.
    Databases(Vec<TableError>),
    /// Neither an argument nor the configuration names one.
    NoDatabase,
    /// Standard output is gone.
    Print(io::Error),
}

impl fmt::Display for GeoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GeoError::Read(path, error) => write!(f, "{}: cannot be read: {error}", path.display()),
            GeoError::TooLong(path, len) => write!(f, "{}: found {len} octets, expected at most {MAX_FILE_LEN}", path.display()),
            GeoError::Write(path, error) => write!(f, "{}: cannot be written: {error}", path.display()),
            GeoError::Output(path) => {
                write!(f, "{}: expected the database to write as the last file, with a name that ends in .mmdb", path.display())
            }
            GeoError::Lines(report) => write!(f, "{report}\nnothing was written"),
            GeoError::TooLarge(error) => write!(f, "{error}; nothing was written"),
            GeoError::Databases(errors) => {
                let lines: Vec<String> = errors.iter().map(TableError::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            GeoError::NoDatabase => f.write_str("found no database, expected --database FILE, or databases under [geo] in the configuration"),
            GeoError::Print(error) => write!(f, "cannot print: {error}"),
        }
    }
}

impl std::error::Error for GeoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            GeoError::Read(_, error) | GeoError::Write(_, error) | GeoError::Print(error) => Some(error),
            _ => None,
        }
    }
}

/// Runs a command. `configured`: the databases of the configuration, for `lookup` without `--database`. Results go to `out`, warnings and the
/// progress bar to `notes` and standard error.
pub fn run(command: &GeoCommand, configured: &[PathBuf], out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), GeoError> {
    match command {
        GeoCommand::Build(args) => build_files(args, out, notes),
        GeoCommand::Lookup(args) => lookup(args, configured, out),
    }
}

/// `meridian geo build`.
pub fn build_files(args: &BuildArgs, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), GeoError> {
    let Some((output, inputs)) = args.files.split_last().filter(|(_, inputs)| !inputs.is_empty()) else {
        return Err(GeoError::Output(PathBuf::new()));
    };
    // Without this, a forgotten output would overwrite the last input.
    if output.extension().is_none_or(|extension| extension != "mmdb") {
        return Err(GeoError::Output(output.clone()));
    }
    let texts = inputs.iter().map(|path| read_file(path).map(|bytes| (path.display().to_string(), bytes))).collect::<Result<Vec<_>, GeoError>>()?;
    let inputs: Vec<Input<'_>> = texts.iter().map(|(name, bytes)| Input { name, bytes }).collect();

    let bar = progress_bar(texts.iter().map(|(_, bytes)| bytes.len() as u64).sum());
    let built = build(&inputs, &mut |done| bar.set_position(done));
    bar.finish_and_clear();
    let Built { table, rows, warnings } = built.map_err(GeoError::Lines)?;
    if !warnings.is_empty() {
        // Whoever does not read them has the file all the same.
        let _ = writeln!(notes, "{warnings}");
    }
    let about = About {
        database_type: args.database_type.clone().unwrap_or_else(|| database_type(&table).to_owned()),
        description: args.description.clone(),
        build_unix_s: args.build_time.unwrap_or_else(unix_now),
    };
    let bytes = write(&table, &about).map_err(GeoError::TooLarge)?;
    write_file(output, &bytes).map_err(|error| GeoError::Write(output.clone(), error))?;
    let (ranges, kinds) = (table.len(), table.facts_len() - 1);
    writeln!(out, "{}: {}, {rows} lines, {ranges} ranges, {kinds} distinct records, {} octets", output.display(), about.database_type, bytes.len())
        .map_err(GeoError::Print)
}

/// `meridian geo lookup`.
pub fn lookup(args: &LookupArgs, configured: &[PathBuf], out: &mut dyn Write) -> Result<(), GeoError> {
    let table = read_databases(if args.databases.is_empty() { configured } else { &args.databases })?;
    let text = if args.json { found_json(&table, args.address) } else { found_lines(&table, args.address) };
    writeln!(out, "{text}").map_err(GeoError::Print)
}

/// Reads databases, later ones laid over earlier ones.
pub fn read_databases(paths: &[PathBuf]) -> Result<Table, GeoError> {
    if paths.is_empty() {
        return Err(GeoError::NoDatabase);
    }
    let databases =
        paths.iter().map(|path| read_file(path).map(|bytes| (path.display().to_string(), bytes))).collect::<Result<Vec<_>, GeoError>>()?;
    Table::read(databases.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))).map_err(GeoError::Databases)
}

fn letters(code: [u8; 2]) -> String {
    String::from_utf8_lossy(&code).into_owned()
}

fn found_lines(table: &Table, address: IpAddr) -> String {
    let facts = table.facts_at(address);
    let network = table.network_at(address);
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let location = facts.location.map(|location| format!("{}, {}", location.lat, location.lon));
    let mut lines = vec![("address", address.to_string())];
    if space::unembed(address) != address {
        lines.push(("looked up as", space::unembed(address).to_string()));
    }
    lines.extend([
        ("network", format!("{}/{}", network.addr, network.len)),
        ("continent", known(facts.continent.map(letters))),
        ("country", known(facts.country.map(letters))),
        ("subdivision", known(facts.subdivision.clone())),
        ("location", known(location)),
        ("asn", known(facts.asn.map(|asn| format!("AS{asn}")))),
    ]);
    if space::is_private(address) {
        lines.push(("private", "yes: as a client subnet it counts for nothing, unless a net rule names it".to_owned()));
    }
    for database in table.databases() {
        lines.push(("database", format!("{} ({}, built {})", database.name, database.kind, date(database.build_unix_s))));
    }
    lines.iter().map(|(word, text)| format!("{word:<13}{text}")).collect::<Vec<String>>().join("\n")
}

/// The day in UTC, `2026-01-01` (Hinnant, "chrono-compatible low-level date algorithms": days from civil, inverted; years start in March).
pub(super) fn date(unix_s: u64) -> String {
    let days = unix_s / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn found_json(table: &Table, address: IpAddr) -> String {
    let facts = table.facts_at(address);
    let network = table.network_at(address);
    let databases = table.databases().iter().map(|database| json!({ "name": database.name, "type": database.kind, "built": database.build_unix_s }));
    let found = json!({
        "address": address,
        "looked_up_as": space::unembed(address),
        "network": format!("{}/{}", network.addr, network.len),
        "continent": facts.continent.map(letters),
        "country": facts.country.map(letters),
        "subdivision": facts.subdivision,
        "location": facts.location.map(|location| json!({ "lat": location.lat, "lon": location.lon })),
        "asn": facts.asn,
        "private": space::is_private(address),
        "databases": databases.collect::<Vec<_>>(),
    });
    format!("{found:#}")
}

/// On standard error, and only if that is a terminal.
fn progress_bar(len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len);
    match ProgressStyle::with_template("{bar:40} {percent:>3} % of {total_bytes}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, GeoError> {
    let failed = |error| GeoError::Read(path.to_owned(), error);
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    if metadata.len() > MAX_FILE_LEN {
        return Err(GeoError::TooLong(path.to_owned(), metadata.len()));
    }
    fs::read(path).map_err(failed)
}

/// Writes beside the file and renames: a reader sees the old one or the new one, whole.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        // The first error is the one to tell.
        drop(fs::remove_file(&temporary));
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (unix_s, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_767_225_600, "2026-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(unix_s), expected);
        }
    }
}
