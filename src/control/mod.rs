//! L4: the single writer. Events in, new world out.
//!
//! [`load`] reads and compiles files, [`writer::Writer`] owns everything mutable and publishes worlds, [`Handle`] is the way in.

mod accepted;
mod access;
mod ahead;
pub mod api;
pub mod audit;
mod before;
mod believing;
pub mod changes;
mod check;
mod checks;
pub mod clock;
pub mod compile;
pub mod explain;
mod families;
mod finish;
mod foresight;
pub mod geography;
pub mod handle;
mod holds;
mod keeper;
mod keeping;
mod last_good;
mod last_resort;
mod laying;
pub mod load;
mod loaded;
mod loads;
mod maps;
mod misled;
pub mod monitors;
pub mod offline;
mod overlay;
mod overlays;
mod pace;
mod panics;
mod promote;
pub mod protection;
mod reaper;
mod reload;
mod reload_safety;
pub mod reports;
mod requests;
pub mod resources;
pub mod restart;
mod rules;
mod safety;
mod server;
pub mod shares;
mod signals;
pub mod stalls;
mod standing;
mod state;
pub mod status;
mod takeover;
pub mod text;
pub mod things;
pub mod timeline;
pub mod tokens;
mod toml;
mod transitions;
mod unkept;
mod verdicts;
mod waiting;
pub mod who;
mod worker;
pub mod writer;

#[cfg(test)]
mod allocations;
#[cfg(test)]
pub(crate) mod driven;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod measured;
#[cfg(test)]
mod reasons;
#[cfg(test)]
mod told;
#[cfg(test)]
mod told_late;

pub use handle::Handle;
pub use promote::clean as clean_promoted;
pub use who::{Role, Who};
pub use writer::unix_now;
