//! L4: files in, checked definitions and a complete list of problems out.
//!
//! ```text
//! files ─▶ source (TOML with lines) ─▶ read_* (types and ranges: raw) ─▶ resolve (names) ─▶ checks (the whole) ─▶ ZoneModel
//!                                        settings (meridian.toml)             masters (master files) ──▲
//! ```
//!
//! Loading never stops at a problem and goes to files only through [`Files`]. A zone without an error is taken whole;
//! one with any error is not, and neither touches the others.

mod admin;
mod checks;
mod chunks;
mod edit;
mod encrypted;
mod files;
mod hash;
mod health;
mod https;
mod known;
mod limits;
mod load;
mod loops;
mod masters;
mod named;
mod never;
mod parallel;
pub mod problem;
mod query_log;
mod raw;
mod reach;
mod read;
mod read_monitor;
mod read_pool;
mod read_query;
mod read_steer;
mod reader;
mod records;
mod resolve;
mod resolve_pool;
mod safety;
mod settings;
mod signals;
mod source;
mod suggest;
mod values;
mod votes;
mod zone;

pub use admin::{AdminOptions, AdminTls, REQUESTS_PER_SECOND};
pub use encrypted::{Encrypted, EncryptedLimits, EncryptedListener};
pub(crate) use files::io_words;
pub use files::{Files, Listed, MAX_FILE_LEN, MAX_TOML_LEN, MemoryFiles, Opened, OsFiles, Stamp};
pub use hash::TextHash;
pub use health::HealthOptions;
pub use known::Known;
pub use limits::TcpLimits;
pub use load::{Loaded, LoadedZone, ZoneSource, load, load_again, load_master_alone, load_settings_alone, load_under};
pub use named::load_named;
pub use problem::{Problem, Severity};
pub use reach::Reach;
pub use reader::Texts;
pub use settings::{EcsClip, Lines, MasterFile, Settings, Threads};
pub use suggest::{did_you_mean, nearest};
pub use values::{duration_words, parse_duration};
