//! One resource record as the loaders hand it over.

use crate::dns::{Name, RecordType};

/// Seconds a record may be cached: 0 to 2³¹ − 1 (RFC 2181 §8).
pub type Ttl = u32;

/// The largest TTL (RFC 2181 §8).
pub const MAX_TTL: Ttl = i32::MAX as u32;

/// One record, absolute and complete. Its class is IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Owner, case as written.
    pub owner: Name,
    /// Never a meta type.
    pub rtype: RecordType,
    /// Seconds.
    pub ttl: Ttl,
    /// Wire form, names inside it uncompressed and with their case as written; at most 65,535 octets.
    pub rdata: Vec<u8>,
    /// Where it was written.
    pub place: Place,
}

/// A line of one of the files that a zone is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// Index into the zone's list of files; included master files have their own entry.
    pub file: u16,
    /// One-based; 0 when derived (the SOA of a TOML zone).
    pub line: u32,
}
