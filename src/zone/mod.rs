//! L1: static zone data: record data in presentation and wire form, master files, and the tree that answers are found in.

pub mod check;
pub mod master;
pub mod owners;
pub mod rdata;
pub mod record;
pub mod records;
mod token;
pub mod tree;

pub use owners::{Kinds, OwnerId, Owners, Path};
pub use record::{MAX_TTL, Place, Record, Ttl};
pub use records::{RecordId, RecordRef, Records};
