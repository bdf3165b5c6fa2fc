//! Checks of a zone as a whole: what the records say together (RFC 1034, 2181, 4592, 6672). Pure; linear in the records.
//!
//! ```text
//!   records ─▶ Index (by owner, delegations and DNAMEs as barriers) ─▶ per owner ─▶ per RRset ─▶ per target
//! ```

mod chains;
mod fault;
mod index;
mod referral;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

pub use chains::{Aliases, Onward};
pub use fault::{Fault, Severity, ZoneFault};
use index::{Index, path_of};

use super::{Kinds, Owners, Path, Place, RecordRef, rdata};
use crate::dns::name::MAX_NAME_LEN;
use crate::dns::{Name, RecordType};

/// The most faults listed of each severity; nobody reads more.
pub const MAX_FAULTS: usize = 100;
/// The most octets of a message: the length field of DNS over TCP has 16 bits (RFC 1035 §4.2.2).
pub const MAX_RESPONSE_LEN: usize = 65_535;
/// The UDP payload that servers and resolvers agreed on in 2020 so as not to be fragmented.
pub const USUAL_UDP_LEN: usize = 1232;

/// Header, QTYPE and QCLASS, and an OPT record with a full IPv6 client subnet: what every response may carry beside names and records.
const RESPONSE_OVERHEAD: usize = 12 + 4 + 11 + 24;
/// Options of OPT that a response may carry beside that where there is no lack of room as over UDP: a cookie, keepalive, the longest server identifier.
const MORE_OPTIONS: usize = (4 + 24) + (4 + 2) + (4 + 64);
/// Of each record: its owner as a pointer to the question, type, class, TTL and length.
const RECORD_OVERHEAD: usize = 2 + 10;

/// Checks the static records of a zone. `steered` are names that exist with addresses although no record stands for them, `aliases` such with a CNAME. Errors and warnings
/// come in the order of their places.
pub fn check(apex: &Name, owners: &Owners, steered: &BTreeSet<Name>, aliases: &BTreeSet<Name>) -> Vec<ZoneFault> {
    let mut faults = Faults::default();
    let index = Index::new(apex, owners);
    index.outside().for_each(|record| faults.push(Severity::Error, record, Fault::OutOfZone));
    let [steered, aliases] = [steered, aliases].map(|names| names.iter().map(|name| name.to_lowercase().as_wire().to_vec()).collect());
    let mut checker = Checker { apex, index, steered, aliases, glue: HashSet::new(), faults };
    checker.glue = checker.glue_names();
    checker.apex();
    for node in 0..checker.index.len() {
        checker.owner(node);
    }
    checker.loops();
    checker.faults.finish(apex)
}

#[derive(Default)]
struct Faults {
    list: Vec<ZoneFault>,
    /// By severity.
    listed: [usize; 2],
    more: [usize; 2],
}

impl Faults {
    fn push(&mut self, severity: Severity, record: RecordRef<'_>, fault: Fault) {
        self.add(severity, record.place, record.owner, record.rtype, fault);
    }

    fn add(&mut self, severity: Severity, place: Place, owner: &[u8], rtype: RecordType, fault: Fault) {
        let slot = severity as usize;
        if self.listed[slot] == MAX_FAULTS {
            self.more[slot] += 1;
            return;
        }
        self.listed[slot] += 1;
        let owner = Name::from_wire(owner).unwrap_or_else(|_| Name::root());
        self.list.push(ZoneFault { severity, place, owner, rtype, fault });
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
    index: Index<'a>,
    /// Steered names, lower-case wire form.
    steered: HashSet<Vec<u8>>,
    aliases: HashSet<Vec<u8>>,
    /// All NS targets in the zone, lower-case wire form; only looked for where there is a delegation.
    glue: HashSet<Vec<u8>>,
    faults: Faults,
}

impl Checker<'_> {
    fn glue_names(&self) -> HashSet<Vec<u8>> {
        if !self.index.has_barriers {
            return HashSet::new();
        }
        let sets = (0..self.index.len()).filter(|node| self.index.has(*node, Kinds::NS)).flat_map(|node| self.index.rrsets(node));
        let servers = sets.filter(|(rtype, _)| *rtype == RecordType::NS).flat_map(|(_, range)| range).map(|position| self.index.record(position));
        servers
            .filter_map(target_of)
            .filter(|target| target.is_at_or_below(self.apex))
            .map(|target| target.to_lowercase().as_wire().to_vec())
            .collect()
    }

    fn apex(&mut self) {
        let path = path_of(self.apex.as_wire());
        let node = self.index.find(&path, path.labels());
        let types: Vec<RecordType> = node.map(|node| self.index.rrsets(node).map(|(rtype, _)| rtype).collect()).unwrap_or_default();
        for (rtype, fault) in [(RecordType::SOA, Fault::NoSoa), (RecordType::NS, Fault::NoApexNs)] {
            if !types.contains(&rtype) {
                self.faults.add(Severity::Error, Place::default(), self.apex.as_wire(), rtype, fault);
            }
        }
    }

    fn owner(&mut self, node: usize) {
        // Most owners of a large zone: one address of a family is no double, fits any reply and points nowhere.
        if !self.index.has_barriers && !self.index.has(node, Kinds::MORE) {
            return;
        }
        let is_apex = self.index.is_apex(node);
        let rrsets: Vec<(RecordType, Range<usize>)> = self.index.rrsets(node).collect();
        self.cname(node, &rrsets);
        self.barriers(node, is_apex, &rrsets);
        for (rtype, range) in rrsets {
            let first = self.index.record(range.start);
            match rtype {
                RecordType::SOA if !is_apex => self.faults.push(Severity::Error, first, Fault::SoaBelowApex),
                RecordType::NS if first.is_wildcard() => self.faults.push(Severity::Warning, first, Fault::WildcardNs),
                RecordType::DS if is_apex || !self.index.has(node, Kinds::NS) => {
                    self.faults.push(Severity::Warning, first, Fault::DsWithoutDelegation);
                }
                RecordType::ANAME => self.faults.push(Severity::Warning, first, Fault::AnameIsData),
                _ => {}
            }
            self.rrset(rtype, range.clone());
            if matches!(rtype, RecordType::SVCB | RecordType::HTTPS) {
                range.clone().map(|position| self.index.record(position)).filter(|record| rdata::is_alias_with_params(record.rdata)).for_each(
                    |record| {
                        self.faults.push(Severity::Warning, record, Fault::AliasWithParams);
                    },
                );
            }
            if rtype == RecordType::NS && !is_apex && self.index.barrier(node).is_none() {
                self.referral(range.clone());
            }
            if rtype == RecordType::CNAME && self.index.barrier(node).is_none() {
                self.alias_target(self.index.record(range.start));
            }
            if matches!(rtype, RecordType::NS | RecordType::MX | RecordType::SRV) && self.index.barrier(node).is_none() {
                for position in range {
                    self.target(self.index.record(position), is_apex);
                }
            }
        }
    }

    /// A CNAME stands alone but for what signs it (RFC 4034 §2, §3, §4; RFC 2535 §2.3.5).
    fn cname(&mut self, node: usize, rrsets: &[(RecordType, Range<usize>)]) {
        if !self.index.has(node, Kinds::CNAME) {
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
        let barrier = self.index.barrier(node);
        let is_cut = self.index.has(node, Kinds::NS) && !is_apex && barrier.is_none();
        if barrier.is_none() && !is_cut {
            return;
        }
        let top = barrier.map_or(node, |barrier| barrier.node);
        let top_owner = || Name::from_wire(self.index.name(top)).unwrap_or_else(|_| Name::root());
        let is_glue = self.index.has(node, Kinds::ADDRESS) && self.glue.contains(&self.index.name(node).to_ascii_lowercase());
        for (rtype, range) in rrsets {
            let first = self.index.record(range.start);
            let signs = matches!(*rtype, RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3);
            if barrier.is_some_and(|barrier| barrier.is_dname) {
                if !signs {
                    self.faults.push(Severity::Error, first, Fault::BelowDname { dname: top_owner() });
                }
                continue;
            }
            match *rtype {
                RecordType::A | RecordType::AAAA if is_glue => {}
                RecordType::NS | RecordType::DS if is_cut => {}
                _ if signs => {}
                RecordType::DNAME if is_cut => self.faults.push(Severity::Error, first, Fault::DnameAtDelegation),
                _ => self.faults.push(Severity::Warning, first, Fault::Occluded { delegation: top_owner() }),
            }
        }
    }

    /// Duplicates, TTLs, lonely types, size.
    fn rrset(&mut self, rtype: RecordType, range: Range<usize>) {
        let first = self.index.record(range.start);
        let mut distinct = 1;
        let mut rdata_len = response_len(first, self.apex);
        if range.len() > 1 {
            let mut sorted: Vec<(Vec<u8>, usize)> = range.clone().map(|at| (rdata::lower_names(rtype, self.index.record(at).rdata), at)).collect();
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
        let question = if first.is_wildcard() { MAX_NAME_LEN } else { first.owner.len() };
        let len = RESPONSE_OVERHEAD + question + rdata_len;
        if len + MORE_OPTIONS > MAX_RESPONSE_LEN {
            self.faults.push(Severity::Error, first, Fault::TooLarge { len: len + MORE_OPTIONS });
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
    fn target(&mut self, record: RecordRef<'_>, is_apex: bool) {
        let Some(target) = target_of(record).filter(|target| !target.is_root() && target.is_at_or_below(self.apex)) else { return };
        let path = path_of(target.as_wire());
        let node = self.index.find(&path, path.labels());
        let (has_address, has_cname) = node.map_or((false, false), |node| (self.index.has(node, Kinds::ADDRESS), self.index.has(node, Kinds::CNAME)));
        if has_address || self.steers(&path) {
            return;
        }
        if has_cname {
            return self.faults.push(Severity::Warning, record, Fault::TargetIsCname { target });
        }
        let is_ns = record.rtype == RecordType::NS;
        if let Some(barrier) = self.index.barrier_above(&path) {
            let own = is_ns && !is_apex && target.is_at_or_below(&record.owner_name());
            if own {
                self.faults.push(Severity::Error, record, Fault::MissingGlue { target });
            } else if barrier.is_dname {
                self.faults.push(Severity::Warning, record, Fault::TargetIsCname { target });
            }
            return;
        }
        let exists = self.index.exists(&path, path.labels());
        if !exists && self.wildcard_answers(&path) {
            return;
        }
        match (is_ns && is_apex, exists) {
            (true, _) => self.faults.push(Severity::Error, record, Fault::MissingGlue { target }),
            (false, true) => self.faults.push(Severity::Warning, record, Fault::TargetWithoutAddress { target }),
            (false, false) => self.faults.push(Severity::Warning, record, Fault::TargetAbsent { target }),
        }
    }

    /// Whether the target of a CNAME is there, as far as this zone knows. One that is not is most often an absolute name without its final dot.
    fn alias_target(&mut self, record: RecordRef<'_>) {
        let Some(target) = target_of(record).filter(|target| target.is_at_or_below(self.apex)) else { return };
        let path = path_of(target.as_wire());
        let is_there = self.index.exists(&path, path.labels()) || self.index.barrier_above(&path).is_some() || self.wildcard(&path).is_some();
        if !is_there && !self.steers(&path) && !is_among(&self.aliases, &path) {
            self.faults.push(Severity::Warning, record, Fault::TargetAbsent { target });
        }
    }

    fn steers(&self, path: &Path) -> bool {
        is_among(&self.steered, path)
    }

    /// Whether the wildcard at the closest encloser has addresses or an alias (RFC 4592 §3.3.1).
    fn wildcard_answers(&self, path: &Path) -> bool {
        self.wildcard(path).is_some_and(|node| self.index.has(node, Kinds::ADDRESS.and(Kinds::CNAME)))
    }

    /// The wildcard that a name which does not exist is made from.
    fn wildcard(&self, path: &Path) -> Option<usize> {
        let encloser = path.suffix(self.index.closest_encloser(path)).0;
        if encloser.len() + 2 > MAX_NAME_LEN {
            return None;
        }
        let wildcard = path_of(&[b"\x01*", encloser].concat());
        self.index.find(&wildcard, wildcard.labels())
    }
}

/// The only or first name in the data.
fn target_of(record: RecordRef<'_>) -> Option<Name> {
    let span = rdata::names(record.rtype, record.rdata).next()?;
    let from = usize::from(span.offset);
    Name::from_wire(record.rdata.get(from..from + usize::from(span.len))?).ok()
}

/// The octets of a record in a response: names that may be compressed end in a pointer to the zone's name in the question.
fn response_len(record: RecordRef<'_>, apex: &Name) -> usize {
    let apex_len = apex.as_wire().len();
    let saved = |span: rdata::NameSpan| {
        let from = usize::from(span.offset);
        let name = record.rdata.get(from..from + usize::from(span.len)).and_then(|wire| Name::from_wire(wire).ok());
        if name.is_some_and(|name| name.is_at_or_below(apex)) { apex_len.saturating_sub(2) } else { 0 }
    };
    let saved: usize = rdata::names(record.rtype, record.rdata).filter(|span| span.compressible).map(saved).sum();
    RECORD_OVERHEAD + record.rdata.len() - saved
}

/// One of these names, or below a wildcard among them.
fn is_among(names: &HashSet<Vec<u8>>, path: &Path) -> bool {
    let wildcard = |labels| [b"\x01*", path.suffix(labels).0].concat();
    !names.is_empty() && (names.contains(path.whole().0) || (0..path.labels()).any(|labels| names.contains(&wildcard(labels))))
}

#[cfg(test)]
mod tests;
