//! L1: static zone data: record data in presentation and wire form, master files, and the tree that answers are found in.

pub mod check;
pub mod master;
pub mod rdata;
pub mod record;
mod token;
pub mod tree;

pub use record::{MAX_TTL, Place, Record, Ttl};
