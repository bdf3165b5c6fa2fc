//! L4: the single writer. Events in, new world out.
//!
//! [`load`] reads and compiles files, [`writer::Writer`] owns everything mutable and publishes worlds, [`Handle`] is the way in.

mod access;
pub mod api;
pub mod audit;
mod before;
mod changes;
mod checks;
pub mod compile;
pub mod explain;
mod finish;
pub mod geography;
pub mod handle;
mod holds;
mod keeper;
mod laying;
pub mod load;
mod loaded;
mod maps;
mod overlays;
mod pace;
mod promote;
mod reaper;
mod reload;
pub mod resources;
mod rules;
mod safety;
mod server;
mod state;
pub mod status;
pub mod tokens;
mod toml;
pub mod who;
pub mod writer;

#[cfg(test)]
mod allocations;
#[cfg(test)]
mod flips;

pub use handle::Handle;
pub use who::{Role, Who};
pub use writer::unix_now;
