//! Checks of a zone as a whole: what the records say together (RFC 1034, 2181, 4592, 6672). Pure; n log n in the records.
//!
//! ```text
//!   records ─▶ Index (owners in canonical order, delegations and DNAMEs as barriers) ─▶ per owner ─▶ per RRset ─▶ per target
//! ```

mod chains;
mod fault;
mod index;
mod referral;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

pub use fault::{Fault, Severity, ZoneFault};
use index::{Index, key_of, parent_key};

use super::{Place, Record, rdata};
use crate::dns::{Name, RecordType};

/// The most faults listed of each severity; nobody reads more.
pub const MAX_FAULTS: usize = 100;
/// The most octets of a message: the length field of DNS over TCP has 16 bits (RFC 1035 §4.2.2).
pub const MAX_RESPONSE_LEN: usize = 65_535;
/// The UDP payload that servers and resolvers agreed on in 2020 so as not to be fragmented.
pub const USUAL_UDP_LEN: usize = 1232;

/// Header, QTYPE and QCLASS, and an OPT record with a full IPv6 client subnet: what every response may carry beside names and records.
const RESPONSE_OVERHEAD: usize = 12 + 4 + 11 + 24;
/// Of each record: its owner as a pointer to the question, type, class, TTL and length.
const RECORD_OVERHEAD: usize = 2 + 10;

/// Checks the static records of a zone. `steered` are names that exist with addresses although no record stands for them. Errors and warnings
/// come in the order of their places.
pub fn check(apex: &Name, records: &[Record], steered: &BTreeSet<Name>) -> Vec<ZoneFault> {
    let mut faults = Faults { list: Vec::new(), more: [0; 2], listed: [0; 2] };
    for record in records.iter().filter(|record| !record.owner.is_at_or_below(apex)) {
        faults.push(Severity::Error, record, Fault::OutOfZone);
    }
    let index = Index::new(apex, records);
    let steered = steered.iter().map(|name| key_of(name.as_wire())).collect();
    let mut checker = Checker { apex, apex_key: key_of(apex.as_wire()), index, steered, glue: Vec::new(), faults };
    checker.glue = checker.glue_names();
    checker.apex();
    for node in 0..checker.index.nodes.len() {
        checker.owner(node);
    }
    checker.loops();
    checker.faults.finish(apex)
}

struct Faults {
    list: Vec<ZoneFault>,
    /// By severity.
    listed: [usize; 2],
    more: [usize; 2],
}

impl Faults {
    fn push(&mut self, severity: Severity, record: &Record, fault: Fault) {
        self.add(severity, record.place, &record.owner, record.rtype, fault);
    }

    fn add(&mut self, severity: Severity, place: Place, owner: &Name, rtype: RecordType, fault: Fault) {
        let slot = severity as usize;
        if self.listed[slot] == MAX_FAULTS {
            self.more[slot] += 1;
            return;
        }
        self.listed[slot] += 1;
        self.list.push(ZoneFault { severity, place, owner: owner.clone(), rtype, fault });
    }

    fn finish(mut self, apex: &Name) -> Vec<ZoneFault> {
        self.list.sort_by_key(|fault| (fault.place.file, fault.place.line));
        for severity in [Severity::Error, Severity::Warning] {
            let count = self.more[severity as usize];
            if count > 0 {
                let (place, owner, rtype) = (Place::default(), apex.clone(), RecordType::SOA);
                self.list.push(ZoneFault { severity, place, owner, rtype, fault: Fault::More { count } });
            }
        }
        self.list
    }
}

struct Checker<'a> {
    apex: &'a Name,
    apex_key: Vec<u8>,
    index: Index<'a>,
    /// Keys of steered names.
    steered: HashSet<Vec<u8>>,
    /// Keys of all NS targets, sorted.
    glue: Vec<Vec<u8>>,
    faults: Faults,
}

impl Checker<'_> {
    fn glue_names(&self) -> Vec<Vec<u8>> {
        let servers = self.index.records.iter().filter(|record| record.rtype == RecordType::NS);
        let mut keys: Vec<_> = servers.filter_map(target_of).filter(|target| target.is_at_or_below(self.apex)).map(|t| key_of(t.as_wire())).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn apex(&mut self) {
        let node = self.index.find(&self.apex_key);
        let types: Vec<RecordType> = node.map(|node| self.index.rrsets(node).map(|(rtype, _)| rtype).collect()).unwrap_or_default();
        for (rtype, fault) in [(RecordType::SOA, Fault::NoSoa), (RecordType::NS, Fault::NoApexNs)] {
            if !types.contains(&rtype) {
                self.faults.add(Severity::Error, Place::default(), self.apex, rtype, fault);
            }
        }
    }

    fn owner(&mut self, node: usize) {
        let is_apex = self.index.key(node) == self.apex_key;
        let rrsets: Vec<(RecordType, Range<usize>)> = self.index.rrsets(node).collect();
        self.cname(node, &rrsets);
        self.barriers(node, is_apex, &rrsets);
        for (rtype, range) in rrsets {
            let first = self.index.record(range.start);
            match rtype {
                RecordType::SOA if !is_apex => self.faults.push(Severity::Error, first, Fault::SoaBelowApex),
                RecordType::NS if first.owner.is_wildcard() => self.faults.push(Severity::Warning, first, Fault::WildcardNs),
                RecordType::DS if is_apex || !self.index.nodes[node].has_ns => {
                    self.faults.push(Severity::Warning, first, Fault::DsWithoutDelegation);
                }
                RecordType::ANAME => self.faults.push(Severity::Warning, first, Fault::AnameIsData),
                _ => {}
            }
            self.rrset(rtype, range.clone());
            if rtype == RecordType::NS && !is_apex && self.index.nodes[node].barrier.is_none() {
                self.referral(range.clone());
            }
            if matches!(rtype, RecordType::NS | RecordType::MX | RecordType::SRV) && self.index.nodes[node].barrier.is_none() {
                for position in range {
                    self.target(self.index.record(position), is_apex);
                }
            }
        }
    }

    /// A CNAME stands alone but for what signs it (RFC 4034 §2, §3, §4; RFC 2535 §2.3.5).
    fn cname(&mut self, node: usize, rrsets: &[(RecordType, Range<usize>)]) {
        if !self.index.nodes[node].has_cname {
            return;
        }
        let beside = [RecordType::CNAME, RecordType::RRSIG, RecordType::NSEC, RecordType::SIG, RecordType::KEY];
        if let Some(&(other, _)) = rrsets.iter().find(|(rtype, _)| !beside.contains(rtype))
            && let Some((_, range)) = rrsets.iter().find(|(rtype, _)| *rtype == RecordType::CNAME)
        {
            self.faults.push(Severity::Error, self.index.record(range.start), Fault::CnameAndOther { other });
        }
    }

    /// What stands at or below a delegation or a DNAME.
    ///
    /// | where | what | verdict |
    /// |---|---|---|
    /// | below a DNAME | NSEC3 and its signature | fine |
    /// | below a DNAME | anything else | error |
    /// | at or below a delegation | addresses of an NS target | fine: glue |
    /// | at a delegation | NS, DS and what signs them | fine |
    /// | at a delegation | DNAME | error |
    /// | at or below a delegation | anything else | warning: occluded |
    fn barriers(&mut self, node: usize, is_apex: bool, rrsets: &[(RecordType, Range<usize>)]) {
        let at = &self.index.nodes[node];
        let (barrier, is_cut) = (at.barrier, at.has_ns && !is_apex && at.barrier.is_none());
        if barrier.is_none() && !is_cut {
            return;
        }
        let top = barrier.map_or(node, |barrier| barrier.node);
        let top_owner = &self.index.record(self.index.nodes[top].records.start).owner;
        let is_glue = at.has_address && self.glue.binary_search_by(|key| key.as_slice().cmp(self.index.key(node))).is_ok();
        for (rtype, range) in rrsets {
            let first = self.index.record(range.start);
            let signs = matches!(*rtype, RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3);
            if barrier.is_some_and(|barrier| barrier.is_dname) {
                if !signs {
                    self.faults.push(Severity::Error, first, Fault::BelowDname { dname: top_owner.clone() });
                }
                continue;
            }
            match *rtype {
                RecordType::A | RecordType::AAAA if is_glue => {}
                RecordType::NS | RecordType::DS if is_cut => {}
                _ if signs => {}
                RecordType::DNAME if is_cut => self.faults.push(Severity::Error, first, Fault::DnameAtDelegation),
                _ => self.faults.push(Severity::Warning, first, Fault::Occluded { delegation: top_owner.clone() }),
            }
        }
    }

    /// Duplicates, TTLs, lonely types, size.
    fn rrset(&mut self, rtype: RecordType, range: Range<usize>) {
        let first = self.index.record(range.start);
        let mut distinct = 1;
        let mut rdata_len = response_len(first, self.apex);
        if range.len() > 1 {
            let mut sorted: Vec<(Vec<u8>, usize)> = range.clone().map(|at| (rdata::lower_names(rtype, &self.index.record(at).rdata), at)).collect();
            sorted.sort();
            for pair in sorted.windows(2) {
                let record = self.index.record(pair[1].1);
                if pair[0].0 == pair[1].0 {
                    self.faults.push(Severity::Warning, record, Fault::Duplicate);
                } else {
                    distinct += 1;
                }
            }
            sorted.dedup_by(|a, b| a.0 == b.0);
            rdata_len = sorted.iter().map(|(_, at)| response_len(self.index.record(*at), self.apex)).sum();
            self.ttls(rtype, range);
        }
        if distinct > 1 && matches!(rtype, RecordType::SOA | RecordType::CNAME | RecordType::DNAME) {
            self.faults.push(Severity::Error, first, Fault::NotAlone { count: distinct });
        }
        // Any name can be asked for where a wildcard stands.
        let question = if first.owner.is_wildcard() { crate::dns::name::MAX_NAME_LEN } else { first.owner.as_wire().len() };
        let len = RESPONSE_OVERHEAD + question + rdata_len;
        if len > MAX_RESPONSE_LEN {
            self.faults.push(Severity::Error, first, Fault::TooLarge { len });
        } else if len > USUAL_UDP_LEN {
            self.faults.push(Severity::Warning, first, Fault::Truncated { len });
        }
    }

    fn ttls(&mut self, rtype: RecordType, range: Range<usize>) {
        // Signatures have the TTL of what they sign.
        if rtype == RecordType::RRSIG {
            return;
        }
        let first = self.index.record(range.start);
        let ttls = || range.clone().map(|at| self.index.record(at).ttl);
        if let Some(other) = range.clone().find(|at| self.index.record(*at).ttl != first.ttl) {
            let used = ttls().min().unwrap_or(first.ttl);
            self.faults.push(Severity::Warning, self.index.record(other), Fault::TtlsDiffer { used });
        }
    }

    /// Whether the target of an NS, MX or SRV can be reached, as far as this zone knows.
    ///
    /// | target | verdict |
    /// |---|---|
    /// | outside the zone, the root, steered, or with an address | fine |
    /// | a CNAME | warning |
    /// | below the delegation that names it | error: glue |
    /// | below another delegation | fine: that zone's |
    /// | covered by a wildcard with an address | fine |
    /// | named by an NS of the apex | error: glue |
    /// | there without an address, or not there | warning |
    fn target(&mut self, record: &Record, is_apex: bool) {
        let Some(target) = target_of(record).filter(|target| !target.is_root() && target.is_at_or_below(self.apex)) else { return };
        let key = key_of(target.as_wire());
        let node = self.index.find(&key);
        let (has_address, has_cname) = node.map_or((false, false), |node| (self.index.nodes[node].has_address, self.index.nodes[node].has_cname));
        if has_address || self.steers(&key) {
            return;
        }
        if has_cname {
            return self.faults.push(Severity::Warning, record, Fault::TargetIsCname { target });
        }
        let is_ns = record.rtype == RecordType::NS;
        if let Some(barrier) = self.index.barrier_above(&key) {
            let own = is_ns && !is_apex && target.is_at_or_below(&record.owner);
            if own {
                self.faults.push(Severity::Error, record, Fault::MissingGlue { target });
            } else if barrier.is_dname {
                self.faults.push(Severity::Warning, record, Fault::TargetIsCname { target });
            }
            return;
        }
        let exists = self.index.exists(&key);
        if !exists && self.wildcard_answers(&key) {
            return;
        }
        match (is_ns && is_apex, exists) {
            (true, _) => self.faults.push(Severity::Error, record, Fault::MissingGlue { target }),
            (false, true) => self.faults.push(Severity::Warning, record, Fault::TargetWithoutAddress { target }),
            (false, false) => self.faults.push(Severity::Warning, record, Fault::TargetAbsent { target }),
        }
    }

    /// Steered itself, or below a steered wildcard.
    fn steers(&self, key: &[u8]) -> bool {
        if self.steered.is_empty() {
            return false;
        }
        let wildcards = std::iter::successors(parent_key(key), |key| parent_key(key)).map(|above| [above, b"*\0"].concat());
        self.steered.contains(key) || wildcards.take(crate::dns::name::MAX_LABELS).any(|wildcard| self.steered.contains(&wildcard))
    }

    /// Whether the wildcard at the closest encloser has addresses or an alias (RFC 4592 §3.3.1).
    fn wildcard_answers(&self, key: &[u8]) -> bool {
        let encloser = std::iter::successors(parent_key(key), |key| parent_key(key)).find(|above| self.index.exists(above));
        let wildcard = encloser.and_then(|above| self.index.find(&[above, b"*\0"].concat()));
        wildcard.is_some_and(|node| self.index.nodes[node].has_address || self.index.nodes[node].has_cname)
    }
}

/// The only or first name in the data.
fn target_of(record: &Record) -> Option<Name> {
    let span = rdata::names(record.rtype, &record.rdata).next()?;
    let from = usize::from(span.offset);
    Name::from_wire(record.rdata.get(from..from + usize::from(span.len))?).ok()
}

/// The octets of a record in a response: names that may be compressed end in a pointer to the zone's name in the question.
fn response_len(record: &Record, apex: &Name) -> usize {
    let apex_len = apex.as_wire().len();
    let saved = |span: rdata::NameSpan| {
        let from = usize::from(span.offset);
        let name = record.rdata.get(from..from + usize::from(span.len)).and_then(|wire| Name::from_wire(wire).ok());
        if name.is_some_and(|name| name.is_at_or_below(apex)) { apex_len.saturating_sub(2) } else { 0 }
    };
    let saved: usize = rdata::names(record.rtype, &record.rdata).filter(|span| span.compressible).map(saved).sum();
    RECORD_OVERHEAD + record.rdata.len() - saved
}

#[cfg(test)]
mod tests;
