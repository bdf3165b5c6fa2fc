//! L4: files in, checked definitions and a complete list of problems out.
//!
//! ```text
//! files ─▶ source (TOML with lines) ─▶ read_* (types and ranges: raw) ─▶ resolve (names) ─▶ checks (the whole) ─▶ ZoneModel
//!                                        settings (meridian.toml)             masters (master files) ──▲
//! ```
//!
//! Loading never stops at a problem and goes to files only through [`Files`]. A zone without an error is taken whole;
//! one with any error is not, and neither touches the others.

mod checks;
mod files;
mod hash;
mod https;
mod limits;
mod load;
mod masters;
pub mod problem;
mod raw;
mod read;
mod read_pool;
mod read_steer;
mod records;
mod resolve;
mod resolve_pool;
mod settings;
mod source;
mod suggest;
mod values;
mod zone;

pub use files::{Files, MAX_FILE_LEN, MAX_TOML_LEN, MemoryFiles, OsFiles};
pub use limits::TcpLimits;
pub use load::{Loaded, LoadedZone, load, load_master_alone, load_settings_alone};
pub use problem::{Problem, Severity};
pub use settings::{EcsClip, MasterFile, Settings, Threads};
pub use suggest::{did_you_mean, nearest};
pub use values::{duration_words, parse_duration};
