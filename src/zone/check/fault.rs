//! What can be wrong with a zone as a whole.

use std::fmt;

use crate::dns::{Name, RecordType};
use crate::zone::{Place, Ttl};

/// Names of a loop that are shown.
const MAX_LOOP_NAMES: usize = 8;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The zone can be served, but probably not as meant.
    Warning,
    /// The zone must not be taken.
    Error,
}

/// A fault and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFault {
    /// How bad.
    pub severity: Severity,
    /// The record it is about; the default place when a record is missing.
    pub place: Place,
    /// The owner it is about.
    pub owner: Name,
    /// The type it is about.
    pub rtype: RecordType,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for ZoneFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::More { .. } => self.fault.fmt(f),
            _ => write!(f, "{} {}: {}", self.owner, self.rtype, self.fault),
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No SOA at the apex.
    NoSoa,
    /// A SOA that is not at the apex.
    SoaBelowApex,
    /// No NS at the apex.
    NoApexNs,
    /// More than one record of a type that stands alone: SOA, CNAME, DNAME.
    NotAlone {
        /// How many different ones.
        count: usize,
    },
    /// A CNAME beside other data (RFC 1034 §3.6.2).
    CnameAndOther {
        /// The first other type.
        other: RecordType,
    },
    /// A name below a DNAME (RFC 6672 §2.3).
    BelowDname {
        /// The owner of the DNAME.
        dname: Name,
    },
    /// A DNAME at a delegation (RFC 6672 §2.3).
    DnameAtDelegation,
    /// Data that a delegation hides (RFC 1034 §4.2.1).
    Occluded {
        /// The owner of the delegation.
        delegation: Name,
    },
    /// A DS where there is no delegation (RFC 4035 §2.4).
    DsWithoutDelegation,
    /// An NS whose target is in the zone and lacks the addresses that resolvers need.
    MissingGlue {
        /// The target.
        target: Name,
    },
    /// A target that is an alias (RFC 2181 §10.3).
    TargetIsCname {
        /// The target.
        target: Name,
    },
    /// A target in the zone that does not exist.
    TargetAbsent {
        /// The target.
        target: Name,
    },
    /// A target in the zone that has no address.
    TargetWithoutAddress {
        /// The target.
        target: Name,
    },
    /// TTLs that differ within an RRset (RFC 2181 §5.2).
    TtlsDiffer {
        /// The smallest, which is used.
        used: Ttl,
    },
    /// The same record again.
    Duplicate,
    /// An RRset that not everybody could be sent: it fits no DNS message with what may stand beside it.
    TooLarge {
        /// Octets of the largest response with it, all options included.
        len: usize,
    },
    /// An RRset that does not fit the UDP payload that resolvers usually ask for.
    Truncated {
        /// Octets of the largest response with it.
        len: usize,
    },
    /// CNAMEs or DNAMEs that lead back to where they started.
    Loop {
        /// Its names in order.
        through: Vec<Name>,
    },
    /// A DNAME that leads below itself.
    DnameBelowItself {
        /// The target.
        target: Name,
    },
    /// A referral whose servers and needed glue do not fit a UDP reply.
    LargeReferral {
        /// Octets for a question of the delegation's own name.
        len: usize,
        /// That many fit.
        limit: usize,
    },
    /// A delegation of a wildcard (RFC 4592 §4.2).
    WildcardNs,
    /// Parameters in alias mode (RFC 9460 §2.4.2).
    AliasWithParams,
    /// An owner that is not in the zone.
    OutOfZone,
    /// ANAME is handed out as data; nothing follows it.
    AnameIsData,
    /// Further faults of this severity are not listed.
    More {
        /// How many.
        count: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoSoa => f.write_str("found none at the apex, expected exactly one"),
            Fault::SoaBelowApex => f.write_str("found one below the apex, expected it only at the apex"),
            Fault::NoApexNs => f.write_str("found none at the apex, expected at least one"),
            Fault::NotAlone { count } => write!(f, "found {count} different ones, expected one"),
            Fault::CnameAndOther { other } => write!(f, "found {other} at the same owner, expected no other data beside a CNAME"),
            Fault::BelowDname { dname } => write!(f, "found below the DNAME of {dname}, expected nothing there"),
            Fault::DnameAtDelegation => f.write_str("found NS at the same owner, expected a delegation or a DNAME"),
            Fault::Occluded { delegation } => write!(f, "never answered: {delegation} is delegated, and this is no address of one of its servers"),
            Fault::DsWithoutDelegation => f.write_str("found no NS at the same owner, expected a delegation"),
            Fault::MissingGlue { target } => write!(f, "found no address for {target}, expected A or AAAA in this zone"),
            Fault::TargetIsCname { target } => write!(f, "{target} is a CNAME, expected a name with addresses"),
            Fault::TargetAbsent { target } => write!(f, "{target} does not exist in this zone"),
            Fault::TargetWithoutAddress { target } => write!(f, "{target} has no address in this zone"),
            Fault::TtlsDiffer { used } => write!(f, "found different TTLs in one set, expected one; {used} is used"),
            Fault::Duplicate => f.write_str("found the same record again; it is used once"),
            Fault::TooLarge { len } => {
                write!(f, "found a set that makes responses of up to {len} octets, expected at most {}", super::MAX_RESPONSE_LEN)
            }
            Fault::Truncated { len } => {
                write!(f, "answers over UDP will be truncated: responses have up to {len} octets, more than {}", super::USUAL_UDP_LEN)
            }
            Fault::Loop { through } => {
                let names: Vec<String> = through.iter().chain(through.first()).take(MAX_LOOP_NAMES).map(ToString::to_string).collect();
                let more = if through.len() >= MAX_LOOP_NAMES { " -> …" } else { "" };
                write!(f, "it leads back to itself: {}{more}; answers hold the loop once and nothing else", names.join(" -> "))
            }
            Fault::DnameBelowItself { target } => write!(f, "found {target}, which is below its own owner, expected another part of the tree"),
            Fault::LargeReferral { len, limit } => {
                let who = if *limit < super::USUAL_UDP_LEN { "to resolvers without EDNS " } else { "" };
                write!(f, "referrals {who}will be truncated: with their glue they have {len} octets or more, and {limit} fit")
            }
            Fault::WildcardNs => f.write_str("found NS at a wildcard, which resolvers treat in different ways"),
            Fault::AliasWithParams => f.write_str("found parameters with priority 0 (alias mode), where clients ignore them"),
            Fault::OutOfZone => f.write_str("found an owner outside the zone"),
            Fault::AnameIsData => f.write_str("the record is handed out as it is; its target is not looked up"),
            Fault::More { count } => write!(f, "{count} more of the kind are not listed"),
        }
    }
}
